# SPDX-License-Identifier: Apache-2.0
# A stanza: its bytes and where its header lies in them. Attributes become `str` when asked for, the tree when first opened.
from libc.stdint cimport uint8_t, uint32_t

cimport cython

from _xmppcore.cxml cimport xc_context, xc_head, xc_span
from _xmppcore.element cimport Element

cdef enum:
    MOST = 1024  # depth, attributes and declarations: no parser allows more, which bounds the working memory of what builds trees


@cython.final
cdef class Stanza:
    cdef xc_head head            # offsets into raw
    cdef readonly bytes raw      # owned
    cdef xc_context *context     # shared: what the stream's root declares
    cdef Element _element        # owned; None until asked for
    cdef str _value(self, xc_span span, uint8_t bit)
    cdef str _namespace(self, xc_span span, uint8_t where, uint8_t bit)


cdef str XML_NS

cdef str decoded(const uint8_t *p, size_t n, bint value)
cdef Stanza stanza_new(const uint8_t *raw, const xc_head *head, xc_context *context)
cdef Element element_build(const uint8_t *raw, size_t size, const xc_context *context)
cdef dict start_tag_attributes(const uint8_t *raw, size_t size, const xc_context *context)
cdef set start_tag_prefixes(const uint8_t *raw, size_t size)
cdef str context_default_ns(const xc_context *context)

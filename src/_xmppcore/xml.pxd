# SPDX-License-Identifier: Apache-2.0
# The stream parser's Python face; c/xml.h is the parser.
from libc.stdint cimport uint8_t, uint64_t

cimport cython

from _xmppcore.builders cimport Builder
from _xmppcore.cxml cimport xc_head, xc_limits, xc_shared, xc_xml


@cython.final
cdef class StreamOpen:
    cdef readonly str name, ns, to, from_, id, version, lang, default_ns
    cdef readonly dict prefixes   # prefix -> namespace, as the root declares them; "" is the default namespace
    cdef readonly dict attrib     # as of an Element


@cython.final
cdef class StreamClose:
    pass


@cython.final
cdef class StreamParser:
    cdef xc_xml xml
    cdef xc_shared *shared       # owned
    cdef uint8_t *buf            # owned: unconsumed bytes, then XC_PAD zero bytes
    cdef size_t len, cap         # bytes; cap without the padding
    cdef Builder builder         # None: stanzas stay Stanza
    cdef int _feed(self, const uint8_t *p, size_t left, list events) except -1
    cdef int _append(self, const uint8_t *data, size_t n) except -1
    cdef int _parse(self, list events) except -1


cdef StreamOpen stream_open_new(const uint8_t *raw, const xc_head *head, const xc_xml *xml)
cdef object xml_error(const xc_xml *xml)
cdef int check_limits(xc_limits *limits, object max_stanza_bytes, object max_depth, object max_attributes,
                      object max_namespaces, object max_tag_bytes) except -1

# SPDX-License-Identifier: Apache-2.0
# What the Cython rooms use of c/scan.h and c/xml.h; the contracts are there.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "stdbool.h":
    ctypedef bint c_bool "bool"


cdef extern from "scan.h" nogil:
    enum: XC_PAD
    ctypedef struct xc_kernels:
        const char *name
        const uint8_t *(*text)(const uint8_t *p)
        const uint8_t *(*value)(const uint8_t *p, uint8_t quote)
        size_t (*utf8)(const uint8_t *p, size_t n, c_bool *bad)
    const xc_kernels *xc_kernels_default()
    const xc_kernels *xc_kernels_named(const char *name)


cdef extern from "xml.h" nogil:
    ctypedef struct xc_limits:
        uint32_t max_stanza_bytes
        uint32_t max_tag_bytes
        uint32_t max_depth
        uint32_t max_attributes
        uint32_t max_namespaces
        bint text_between
    ctypedef enum xc_error:
        XC_ERROR_NONE
    const char *xc_error_condition(xc_error e)
    ctypedef struct xc_span:
        uint32_t off
        uint32_t len
    enum: XC_IN_NONE, XC_IN_RAW, XC_IN_CONTEXT, XC_IN_XML
    ctypedef struct xc_bind "struct xc_bind":
        xc_span prefix
        xc_span uri
    ctypedef struct xc_context:
        uint32_t refs
        uint32_t nbinds
        xc_span lang
        xc_span name
        const uint8_t *bytes
        xc_bind *binds
    xc_context *xc_context_new(const char *default_ns)
    void xc_context_release(xc_context *c)
    xc_context *xc_context_keep(xc_context *c)
    enum: XC_TO, XC_FROM, XC_ID, XC_TYPE, XC_LANG, XC_VERSION, XC_NS, XC_PAYLOAD_NS
    ctypedef struct xc_head:
        uint32_t size
        xc_span name
        uint32_t name_end
        xc_span ns
        xc_span to
        xc_span from_ "from"
        xc_span id
        xc_span type
        xc_span lang
        xc_span version
        uint32_t from_start
        xc_span payload
        xc_span payload_ns
        uint8_t ns_in
        uint8_t payload_ns_in
        uint8_t decode
        bint prefixed
        bint outer_prefix
        bint inner_ns
        uint16_t children
    ctypedef enum xc_event:
        XC_NEED_DATA
        XC_OPEN
        XC_STANZA
        XC_CLOSE
        XC_ERROR
    ctypedef struct xc_shared:
        pass
    xc_shared *xc_shared_new(const xc_kernels *kernels, const xc_limits *limits)
    void xc_shared_free(xc_shared *s)
    ctypedef struct xc_xml:
        xc_context *context
        uint64_t base
        uint64_t error_at
        uint32_t pos
        uint8_t error
    void xc_xml_init(xc_xml *x)
    void xc_xml_free(xc_xml *x, xc_shared *s)
    void xc_xml_enter(xc_xml *x, xc_context *context)
    xc_event xc_xml_next(xc_xml *x, xc_shared *s, uint8_t *buf, size_t len, xc_head *head, size_t *at)
    size_t xc_xml_keep(const xc_xml *x)
    void xc_xml_shift(xc_xml *x, size_t n)
    size_t xc_decode_text(const uint8_t *src, size_t n, uint8_t *out)
    size_t xc_decode_value(const uint8_t *src, size_t n, uint8_t *out)
    size_t xc_decode_lines(const uint8_t *src, size_t n, uint8_t *out)
    size_t xc_characters(const uint8_t *src, size_t n, uint32_t *highest)
    void xc_widen(const uint8_t *src, size_t n, uint32_t highest, void *out)
    ctypedef struct xc_attr:
        const uint8_t *name
        const uint8_t *value
        uint32_t name_len
        uint32_t prefix_len
        uint32_t value_len
        bint decode
        bint ascii
    ctypedef enum xc_token:
        XC_T_END_OF_INPUT
        XC_T_START
        XC_T_EMPTY
        XC_T_END
        XC_T_TEXT
        XC_T_CDATA
    ctypedef struct xc_walk:
        const uint8_t *p
        const uint8_t *end
        const uint8_t *text
        size_t text_len
        uint32_t prefix_len
        bint decode
        bint ascii
        uint32_t nattrs
        xc_attr *attrs
    xc_token xc_walk_next(xc_walk *w)

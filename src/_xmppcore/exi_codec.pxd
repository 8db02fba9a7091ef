# SPDX-License-Identifier: Apache-2.0
"""The codec's C contract (c/exi.h), as far as Cython needs it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from _xmppcore.coding cimport xc_coding, xc_piece
from _xmppcore.cxml cimport c_bool, xc_kernels


cdef extern from "exi.h" nogil:
    const uint32_t XE_NONE
    enum:
        XE_PAD

    ctypedef struct xe_span:
        const uint8_t *p
        size_t n

    ctypedef struct xe_datatype:
        uint8_t kind
        uint8_t base
        uint16_t name
        uint16_t parent

    ctypedef struct xe_grammar:
        const xe_datatype *datatypes
        uint32_t *n
        uint32_t n_globals
        c_bool informed

    const xe_grammar xe_schemaless
    c_bool xe_grammar_open(xe_grammar *g, const uint8_t *bytes, size_t size)
    size_t xe_grammar_index_bytes(const xe_grammar *g)
    void xe_grammar_index(xe_grammar *g, void *memory)
    xe_span xe_name_text(const xe_grammar *g, uint32_t name)
    uint32_t xe_find_uri(const xe_grammar *g, xe_span text)
    uint32_t xe_find_name(const xe_grammar *g, uint32_t uri, xe_span text)

    enum:
        XE_S_URIS, XE_S_NAMES, XE_S_STATES, XE_S_DATATYPES
        XE_STRING, XE_BOOLEAN, XE_INTEGER, XE_DECIMAL, XE_FLOAT, XE_DATETIME, XE_DATE, XE_TIME, XE_GYEAR, XE_GYEARMONTH
        XE_GMONTHDAY, XE_GMONTH, XE_GDAY, XE_BASE64, XE_HEX, XE_ENUM, XE_LIST, XE_NBIT, XE_UNSIGNED
        XE_OK, XE_E_MEMORY, XE_E_LIMIT, XE_E_MORE, XE_E_BITS, XE_E_HEADER, XE_E_XML, XE_E_STRICT, XE_E_UNSUPPORTED, XE_E_STOPPED

    ctypedef struct xe_options:
        c_bool strict, fragment, comments, pis, dtd, prefixes, lexical, aligned, channels, compress, sorted, plain
        uint32_t block_size, value_max, value_capacity
        c_bool local_values
        uint32_t max_grammars, max_productions
        const uint8_t *remap

    ctypedef struct xe_limits:
        uint32_t depth, attributes
        size_t value_bytes, output_bytes
        uint32_t expansion
        size_t table_bytes
        uint32_t list_items, block_events

    ctypedef struct xe_out:
        uint8_t *p
        size_t len, cap
        size_t most
        uint8_t error

    void xe_put_bytes(xe_out *o, const uint8_t *p, size_t n)
    c_bool xe_out_room(xe_out *o, size_t n)
    void xe_out_free(xe_out *o)

    ctypedef struct xe_qname:
        xe_span uri, local, prefix
        uint32_t uri_id, name_id

    ctypedef struct xe_attribute:
        xe_qname name
        xe_span value
        xe_qname type

    ctypedef struct xe_binding:
        xe_span prefix, uri

    ctypedef struct xe_zip:
        c_bool (*deflate)(void *ctx, const uint8_t *p, size_t n, xe_out *out) noexcept
        c_bool (*inflate)(void *ctx, const uint8_t *p, size_t n, size_t *used, xe_out *out) noexcept
        void *ctx

    ctypedef struct xe_tables:
        size_t used

    xe_span xe_name_of(const xe_tables *t, uint32_t name)
    xe_span xe_uri_of(const xe_tables *t, uint32_t uri)
    uint32_t xe_uri_of_name(const xe_tables *t, uint32_t name)
    size_t xe_characters(xe_span text)

    ctypedef struct xe_coder:
        xe_tables t
        xe_zip zip
        uint8_t error
        const char *why

    ctypedef struct xe_encoder:
        xe_coder c
        xe_out out
        const xc_kernels *kernels

    ctypedef struct xe_seam:
        uint64_t at
        size_t xml

    ctypedef struct xe_decoder:
        xe_coder c
        xe_out text
        xe_seam seam

    ctypedef struct xe_sink:
        c_bool (*start)(void *ctx, const xe_qname *name) noexcept
        c_bool (*binding)(void *ctx, xe_span prefix, xe_span uri, c_bool own) noexcept
        c_bool (*attribute)(void *ctx, const xe_qname *name, xe_span value) noexcept
        c_bool (*type)(void *ctx, const xe_qname *name, const xe_qname *value) noexcept
        c_bool (*text)(void *ctx, xe_span text) noexcept
        c_bool (*end)(void *ctx) noexcept
        c_bool (*comment)(void *ctx, xe_span text) noexcept
        c_bool (*instruction)(void *ctx, xe_span target, xe_span data) noexcept
        c_bool (*attributes_end)(void *ctx) noexcept
        void *ctx

    ctypedef struct xe_writer:
        xe_out out, names

    c_bool xe_encoder_init(xe_encoder *e, const xe_grammar *g, const xe_options *o, const xe_limits *l, const uint64_t *seed)
    void xe_encoder_free(xe_encoder *e)
    void xe_encoder_begin(xe_encoder *e, const uint8_t *header, size_t bits, c_bool keep)
    c_bool xe_start(xe_encoder *e, const xe_qname *name, const xe_binding *bindings, uint32_t n_bindings,
                    xe_attribute *attributes, uint32_t n)
    c_bool xe_characters_event(xe_encoder *e, xe_span text)
    c_bool xe_end(xe_encoder *e)
    c_bool xe_comment(xe_encoder *e, xe_span text)
    c_bool xe_instruction(xe_encoder *e, xe_span target, xe_span data)
    c_bool xe_finish(xe_encoder *e, c_bool pad, const uint8_t **bytes, uint64_t *bits)
    c_bool xe_encode_xml(xe_encoder *e, const uint8_t *bytes, size_t n)
    c_bool xe_encode_start(xe_encoder *e, const uint8_t *bytes, size_t n)
    c_bool xe_move(xe_encoder *e, const xe_decoder *d, const uint8_t *body, uint64_t end)

    c_bool xe_decoder_init(xe_decoder *d, const xe_grammar *g, const xe_options *o, const xe_limits *l, const uint64_t *seed)
    void xe_decoder_free(xe_decoder *d)
    c_bool xe_decode(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, c_bool keep, const xe_sink *sink, uint64_t *end)
    ctypedef struct xe_head:
        uint32_t name
        xe_span to, id, type
        xe_span from_ "from"

    c_bool xe_peek(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, c_bool keep, xe_head *head)
    c_bool xe_decode_xml(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, c_bool keep, xe_writer *w, uint64_t *end)

    void xe_writer_init(xe_writer *w, size_t most)
    void xe_writer_free(xe_writer *w)


cdef class Grammar:
    """A schema set's tables."""
    cdef xe_grammar g
    cdef uint8_t *bytes  # owned, aligned
    cdef void *index  # owned
    cdef list roots  # for each name its namespace and itself, once it was the root of a body
    cdef size_t size


cdef class Mover:
    """Bodies to stanzas in a buffer, and on to other links as they came."""
    cdef object encoder, decoder
    cdef bint keep
    cdef const uint8_t *body  # decoded last; borrowed from whoever called `read`
    cdef uint64_t end
    cdef xc_coding coding
    cdef const uint8_t *xml  # of it: borrowed from the decoder
    cdef size_t size  # of it, without what is left out: `cut` bytes behind the name
    cdef size_t name, cut
    cdef int read(self, bytearray octets, uint64_t at, bint keep) except -1
    cdef void put(self, uint8_t *to) noexcept
    cdef bint says(self, bytes text, size_t within) noexcept
    cdef bint move(self, const xc_piece *tag, int count, const uint8_t **octets, size_t *n) noexcept

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Incremental parser for XML streams (RFC 6120): bytes in; stream header, stanzas and stream close out. No Python, no I/O.
 *
 * Theory of operation
 *
 * The caller owns the buffer: unconsumed bytes in front, new ones behind, XC_PAD zero bytes at the end. NUL is no XML character, so no
 * loop tests for the end: it stops at the zero bytes. State lives only between tokens. A token that is not whole yet (a tag, an
 * entity reference) is parsed again from its start once its end has come; the search for that end remembers how far it went,
 * so that feeding byte by byte stays linear. Nothing is copied: a stanza event is a header of offsets into the caller's bytes, which it
 * must keep from xc_xml_keep() on.
 *
 * Verdicts do not depend on how the input was split. Every error has the offset it is reported at and the offset of the last byte that
 * had to be seen to know it. Limits (stanza, tag) and invalid UTF-8 are cut-offs at a fixed offset: an error known
 * before the cut-off wins, otherwise the cut-off does. When a cut-off is reached while a token is unfinished, that token is parsed
 * once more up to the cut-off, so that an error inside it comes first.
 */
#ifndef XC_XML_H
#define XC_XML_H

#include "scan.h"

typedef struct xc_limits {
    uint32_t max_stanza_bytes; /* a stanza from '<' to '>'; RFC 6120 section 13.12 wants at least 10000 */
    uint32_t max_tag_bytes;    /* one tag, the XML declaration or an entity reference; at most max_stanza_bytes count */
    uint32_t max_depth;        /* open elements, the root included */
    uint32_t max_attributes;   /* of one element, namespace declarations included */
    uint32_t max_namespaces;   /* declarations in force inside one stanza */
    bool text_between;         /* text between stanzas is skipped (true) or ends the stream with bad-format (false) */
} xc_limits;

typedef enum xc_error {
    XC_ERROR_NONE,
    XC_ERROR_BAD_FORMAT,
    XC_ERROR_NOT_WELL_FORMED,
    XC_ERROR_POLICY_VIOLATION,
    XC_ERROR_RESTRICTED_XML,
    XC_ERROR_UNSUPPORTED_ENCODING,
    XC_ERROR_NO_MEMORY,
} xc_error;

/* The RFC 6120 section 4.9.3 name of an error. */
const char *xc_error_condition(xc_error e);

typedef struct xc_span {
    uint32_t off, len; /* bytes; off is never 0 for what is there */
} xc_span;

enum { XC_IN_NONE, XC_IN_RAW, XC_IN_CONTEXT, XC_IN_XML }; /* where a span's bytes are; XML: nowhere, it is the namespace of "xml:" */

/* What the root element declares, for all stanzas of the stream; shared, counted. */
typedef struct xc_context {
    uint32_t refs, size; /* size: of `bytes` */
    uint32_t nbinds;
    xc_span lang;         /* xml:lang of the root, decoded */
    xc_span name;         /* the root's name as written */
    const uint8_t *bytes; /* all spans here point into it; offset 0 is unused */
    struct xc_bind {
        xc_span prefix, uri; /* decoded; an empty prefix is the default namespace */
    } binds[];
} xc_context;

xc_context *xc_context_new(const char *default_ns); /* the context of a stream that declares only this */
void xc_context_release(xc_context *c);
static inline xc_context *xc_context_keep(xc_context *c) {
    c->refs++;
    return c;
}

enum { /* bits of xc_head.decode: the value holds references or white space to normalise */
       XC_TO = 1,
       XC_FROM = 2,
       XC_ID = 4,
       XC_TYPE = 8,
       XC_LANG = 16,
       XC_VERSION = 32,
       XC_NS = 64,
       XC_PAYLOAD_NS = 128,
};

/* A stanza's header (or the root's): offsets from its '<', in bytes as written. */
typedef struct xc_head {
    uint32_t size;     /* whole stanza, or the root's start tag */
    xc_span name;      /* local part */
    uint32_t name_end; /* behind the qualified name: where attributes may be put in */
    xc_span ns, to, from, id, type, lang, version;
    uint32_t from_start;         /* white space in front of the attribute `from`; from.off + from.len + 1 is its end */
    xc_span payload, payload_ns; /* first child element: local part, namespace */
    uint8_t ns_in, payload_ns_in;
    uint8_t decode;
    bool prefixed;     /* the stanza element's own name has a prefix */
    bool outer_prefix; /* uses a prefix that only the root declares: its bytes mean less elsewhere */
    bool inner_ns;     /* the stanza element declares a default namespace itself */
    bool stanza_id;    /* a child element is called stanza-id, in whatever namespace */
    uint16_t children; /* child elements, at most 65535 counted */
} xc_head;

typedef enum xc_event { XC_NEED_DATA, XC_OPEN, XC_STANZA, XC_CLOSE, XC_ERROR } xc_event;

typedef struct xc_shared xc_shared; /* kernels, limits and scratch memory for any number of parsers of one thread */
typedef struct xc_stack xc_stack;   /* open elements and declarations of an unfinished stanza */

xc_shared *xc_shared_new(const xc_kernels *kernels, const xc_limits *limits);
void xc_shared_free(xc_shared *s);

#ifdef XC_DEBUG
/* Checks that no limit turns off. xc_shared_new() takes a mask of those to leave out from the environment variable XC_DEFENCES_OFF, so
 * that tests can see of each that it is needed. */
enum xc_defence {
    XC_OFF_DTD = 1,
    XC_OFF_COMMENT = 2,
    XC_OFF_INSTRUCTION = 4,
    XC_OFF_ENTITY = 8,
    XC_OFF_ENCODING = 16,
    XC_OFF_UTF8 = 32,
    XC_OFF_CONTROL = 64,
    XC_OFF_OUTSIDE = 128,
    XC_OFF_COLONS = 256,
    XC_OFF_CLEAR_TEXT = 512,
};
bool xc_defence_off(const xc_shared *s, enum xc_defence defence);
#define XC_DEFENCE_OFF(s, defence) xc_defence_off(s, defence)
#else
#define XC_DEFENCE_OFF(s, defence) false
#endif

typedef struct xc_xml {
    xc_context *context; /* owned; NULL before the root */
    xc_stack *stack;     /* owned while a stanza is unfinished, else NULL */
    uint64_t base;       /* stream offset of the buffer's first byte */
    uint64_t error_at;   /* stream offset of the error */
    uint32_t pos;        /* next token, from the buffer's start */
    uint32_t start;      /* of the unfinished stanza */
    uint32_t checked;    /* bytes known to be UTF-8 */
    uint32_t seen;       /* bytes of the unfinished token already searched for its end */
    uint16_t depth;      /* open elements */
    uint8_t state, quote, error;
    bool cdata, bad_utf8, final;
} xc_xml;

void xc_xml_init(xc_xml *x);
void xc_xml_free(xc_xml *x, xc_shared *s);
/* Start in the body of a stream whose root gave `context` (kept): for fragments. */
void xc_xml_enter(xc_xml *x, xc_context *context);
/* Parse buf[0, len); call again until XC_NEED_DATA. On XC_OPEN and XC_STANZA *head is filled and *at is the offset of its '<'. */
xc_event xc_xml_next(xc_xml *x, xc_shared *s, uint8_t *buf, size_t len, xc_head *head, size_t *at);
/* First byte that must still be in front of the new ones at the next call. */
static inline size_t xc_xml_keep(const xc_xml *x) { return x->stack ? x->start : x->pos; }
/* The caller dropped n bytes (at most xc_xml_keep()) from the buffer's front. */
void xc_xml_shift(xc_xml *x, size_t n);

/* Decode references and normalise line ends (and, for attributes, white space): out has n bytes; returns the bytes written.
 * `lines` leaves references alone (CDATA sections). */
size_t xc_decode_lines(const uint8_t *in, size_t n, uint8_t *out);
size_t xc_decode_text(const uint8_t *in, size_t n, uint8_t *out);
size_t xc_decode_value(const uint8_t *in, size_t n, uint8_t *out);

/* Checked UTF-8 to code points. xc_characters gives their number and, in *highest, a bound of them that lies in the same range as the highest
 * one: 0x7F, 0xFF, 0xFFFF or 0x10FFFF; xc_widen writes them as so wide integers: 1, 1, 2 or 4 bytes each. */
size_t xc_characters(const uint8_t *in, size_t n, uint32_t *highest);
void xc_widen(const uint8_t *in, size_t n, uint32_t highest, void *out);

/* Walk the tokens of bytes that the parser has passed: no checks left to do. */
typedef struct xc_attr {
    const uint8_t *name, *value;
    uint32_t name_len, prefix_len; /* name_len is the whole name's; prefix_len is 0 without a prefix */
    uint32_t value_len;
    bool decode; /* the value holds references or white space to normalise */
    bool ascii;  /* as written */
} xc_attr;

typedef enum xc_token { XC_T_END_OF_INPUT, XC_T_START, XC_T_EMPTY, XC_T_END, XC_T_TEXT, XC_T_CDATA } xc_token;

typedef struct xc_walk {
    const uint8_t *p, *end;
    const uint8_t *text; /* of XC_T_TEXT, XC_T_CDATA; the qualified name of tags */
    size_t text_len;
    uint32_t prefix_len;
    bool decode; /* text holds references or CR; of CDATA: '&' or CR */
    bool ascii;  /* text, as written */
    uint32_t nattrs;
    xc_attr *attrs; /* the caller's, as many as max_attributes allowed */
} xc_walk;

xc_token xc_walk_next(xc_walk *w);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EXI 1.0, both ways (W3C recommendation, second edition): events or XML to bits, bits to events or XML. No tree, no Python, no I/O.
 *
 * Theory of operation. A coder is a stack of frames, one for each open element: the state of its grammar, from the tables (exi_grammar.h)
 * or learned (exi_tables.h). An event's code follows from the frame's state; productions that no schema declares are numbered by rule
 * (`xe_second`). With channels (pre-compression, compression) an encoder holds values and a decoder holds events until a
 * block is whole. A coder may be used for one document after another: xe_*_begin() forgets what was learned, unless it is to be kept.
 *
 * DTDs and self-contained elements are refused. DEFLATE is the caller's: it is handed in as two functions.
 */
#ifndef XC_EXI_H
#define XC_EXI_H

#include "exi_values.h"

typedef struct xe_qname {
    xe_span uri, local, prefix; /* prefix.p is NULL if it is not known */
    uint32_t uri_id, name_id;   /* their numbers; encoder: XE_NONE if they are not known (yet) */
} xe_qname;

typedef struct xe_attribute {
    xe_qname name;
    xe_span value;
    xe_qname type; /* of xsi:type: its value, resolved */
} xe_attribute;

typedef struct xe_binding { /* a namespace declaration */
    xe_span prefix, uri;
    uint32_t uri_id; /* encoder: XE_NONE if it is not known */
} xe_binding;

typedef struct xe_frame {
    uint32_t name;
    uint32_t grammar; /* learned grammar, XE_NONE: `state` counts */
    uint16_t state, type;
    uint8_t where; /* XE_FIRST, XE_START, XE_CONTENT */
    bool castable, nillable;
    uint32_t space, declared; /* decoder that writes XML: the default namespace within, prefixes declared before it */
} xe_frame;

/* DEFLATE streams: both return false if they fail. */
typedef struct xe_zip {
    bool (*deflate)(void *ctx, const uint8_t *p, size_t n, xe_out *out);
    /* Inflates one stream that begins at p: *used bytes of it, whole into `out` (reset before). */
    bool (*inflate)(void *ctx, const uint8_t *p, size_t n, size_t *used, xe_out *out);
    void *ctx;
} xe_zip;

typedef struct xe_coder { /* what both directions have */
    xe_tables t;
    xe_options o;
    xe_limits l;
    xe_zip zip;
    xe_frame *frames; /* frames[0] is the document */
    uint32_t depth, cap_frames;
    bool over; /* document: the root has ended */
    uint8_t error;
    const char *why; /* of the error, for people */
} xe_coder;

/* Second parts of event codes in a state of an element, in their order; -1: not there. */
typedef struct xe_second {
    int8_t ee, type, nil, any, untyped, ns, se, ch, other; /* other: comments and processing instructions */
    uint8_t n;
} xe_second;

bool xe_coder_init(xe_coder *c, const xe_grammar *g, const xe_options *o, const xe_limits *l, const uint64_t seed[2]);
void xe_coder_free(xe_coder *c);
void xe_coder_begin(xe_coder *c, bool keep);
bool xe_fail(xe_coder *c, unsigned error, const char *why); /* returns false */
void xe_cast(xe_coder *c, xe_frame *f, uint16_t type);
xe_second xe_second_of(const xe_coder *c, const xe_frame *f);
/* Are there two-part codes in that state? */
static inline bool xe_has_second(const xe_coder *c, const xe_frame *f) {
    return f->grammar != XE_NONE || !c->o.strict || (f->where == XE_FIRST && (f->castable || f->nillable));
}
static inline xe_frame *xe_top(xe_coder *c) { return c->frames + c->depth; }

bool xe_more_frames(xe_coder *c); /* as many as the limit allows */
bool xe_push_learned(xe_coder *c, uint32_t name);
/* Open an element: by its declaration, or without one. */
static inline bool xe_push(xe_coder *c, uint32_t name, uint16_t element) {
    const xe_grammar *g = c->t.g;
    if (XE_RARE(c->depth + 1 >= c->cap_frames) && !xe_more_frames(c)) return false;
    xe_frame *f = c->frames + ++c->depth;
    *f = (xe_frame){.name = name, .grammar = XE_NONE, .where = XE_FIRST};
    if (element != XE_NO16) {
        f->type = g->elements[element].type & 0x7FFFu;
        f->nillable = g->elements[element].type >> 15;
    } else if (name == XE_NONE) { /* declared differently in different places */
        f->type = g->relaxed;
        f->nillable = true;
    } else {
        return xe_push_learned(c, name);
    }
    f->castable = g->types[f->type].castable;
    f->state = g->types[f->type].start;
    return true;
}
static inline bool xe_third(const xe_coder *c) { return c->o.comments && c->o.pis; }
static inline bool xe_other(const xe_coder *c) { return c->o.comments || c->o.pis; }

/* -- encoder */

typedef struct xe_held { /* a value that waits for its block's end */
    uint32_t name, next;
    uint32_t off, len;
    uint16_t datatype;
} xe_held;

typedef struct xe_channel {
    uint32_t name, first, last, count;
} xe_channel;

typedef struct xe_encoder {
    xe_coder c;
    xe_out out;         /* the body; with channels the structure of the block */
    xe_out done;        /* with channels: what is written */
    xe_out text, piece; /* with channels: text of values held; what is being put together */
    xe_held *held;
    uint32_t n_held, cap_held;
    xe_channel *channels;
    uint32_t n_channels, cap_channels;
    uint32_t *channel_of, cap_channel_of; /* name -> channel + 1 */
    const struct xc_kernels *kernels;
} xe_encoder;

bool xe_encoder_init(xe_encoder *e, const xe_grammar *g, const xe_options *o, const xe_limits *l, const uint64_t seed[2]);
void xe_encoder_free(xe_encoder *e);
/* Begin a document behind `bits` bits that are written as they are: the header. `keep`: go on with what was learned. */
void xe_encoder_begin(xe_encoder *e, const uint8_t *header, size_t bits, bool keep);
/* All texts are followed by XE_PAD bytes that may be read. Numbers of names that are XE_NONE are looked up. Attributes may be put into another
 * order. */
bool xe_start(xe_encoder *e, const xe_qname *name, const xe_binding *bindings, uint32_t n_bindings, xe_attribute *attributes, uint32_t n);
bool xe_characters_event(xe_encoder *e, xe_span text);
bool xe_end(xe_encoder *e);
bool xe_comment(xe_encoder *e, xe_span text);
bool xe_instruction(xe_encoder *e, xe_span target, xe_span data);
/* End the document. `pad`: to whole bytes; *bits is the exact length. The bytes are the encoder's until it begins anew. */
bool xe_finish(xe_encoder *e, bool pad, const uint8_t **bytes, uint64_t *bits);

/* -- decoder */

/* What is told of a document. Each returns false to stop. Spans hold until it returns. */
typedef struct xe_sink {
    bool (*start)(void *ctx, const xe_qname *name);
    bool (*binding)(void *ctx, xe_span prefix, xe_span uri, bool own); /* own: it is the prefix of the element itself */
    bool (*attribute)(void *ctx, const xe_qname *name, xe_span value);
    bool (*type)(void *ctx, const xe_qname *name, const xe_qname *value); /* xsi:type */
    bool (*text)(void *ctx, xe_span text);
    bool (*end)(void *ctx);
    bool (*comment)(void *ctx, xe_span text);
    bool (*instruction)(void *ctx, xe_span target, xe_span data);
    bool (*attributes_end)(void *ctx); /* behind the last attribute of each element; may be NULL */
    void *ctx;
} xe_sink;

typedef struct xe_event { /* held until its block's values are there */
    uint8_t kind;
    bool own;
    uint16_t datatype;
    uint32_t name, prefix, other, next; /* other: the second name (of xsi:type), or offset of text */
    uint32_t off, len;
} xe_event;

typedef struct xe_decoder {
    xe_coder c;
    xe_in in;     /* the body; with compression the structure, inflated */
    xe_out plain; /* inflated */
    xe_out extra; /* inflated: values of one channel */
    xe_out text;  /* text of a value; with channels of all values of a block */
    xe_event *events;
    uint32_t n_events, cap_events, n_values;
    xe_channel *channels;
    uint32_t n_channels, cap_channels;
    uint32_t *channel_of, cap_channel_of;
    struct xe_scope { /* declarations in force, if prefixes are preserved */
        uint32_t depth, uri, prefix;
    } *scopes;
    uint32_t n_scopes, cap_scopes;
    const xe_sink *sink;
    struct xe_head *head;  /* only the root's attributes are read, into this; NULL: all */
    struct xe_writer *xml; /* written to at once in place of a sink; NULL: there is one */
    uint32_t *declared;    /* then: namespaces that have a prefix */
    uint32_t n_declared, cap_declared;
    const uint8_t *source; /* with compression: what is to be inflated */
    size_t source_len, source_at;
    size_t produced;     /* bytes told to the sink, about */
    uint32_t attributes; /* of the element whose tag is open */
    bool tag_open;
    struct xe_seam {     /* between the last attribute of the root and what comes then; if XML is written at once */
        uint64_t at;     /* bit */
        size_t xml;      /* bytes of the root's tag that were written: all but its end */
        uint32_t values; /* learned before it */
        bool learned;    /* names or grammars were, too */
        xe_frame root;
    } seam;
} xe_decoder;

bool xe_decoder_init(xe_decoder *d, const xe_grammar *g, const xe_options *o, const xe_limits *l, const uint64_t seed[2]);
void xe_decoder_free(xe_decoder *d);
/* Decode one document that begins at bit `at`; *end is the bit behind it. With `keep`, input that ends too early and a sink that stops leave
 * the tables as they were, so that the document may be decoded again from its start. */
bool xe_decode(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, bool keep, const xe_sink *sink, uint64_t *end);
/* What routing asks of a body: its root, and of its attributes those of no namespace called to, from, id and type; p is NULL where there is
 * none. Texts hold until the decoder or its tables change. */
typedef struct xe_head {
    uint32_t name;
    xe_span to, from, id, type;
    size_t off[4]; /* where they are in the decoder's text, while they are gathered */
} xe_head;
/* Read the head of the document that begins at bit `at`, and no more of it; with `keep` the tables are then as they were. */
bool xe_peek(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, bool keep, xe_head *head);
/* The same to XML. */
bool xe_decode_xml(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, bool keep, struct xe_writer *w, uint64_t *end);

/* -- XML */

/* Begin a document and write the start tag with which `bytes` begin, which is not empty: XC_PAD bytes behind it are zero. */
bool xe_encode_start(xe_encoder *e, const uint8_t *bytes, size_t n);
/* Encode a whole document (or with the option `fragment` a sequence of elements). `bytes` end with XC_PAD zero bytes. */
bool xe_encode_xml(xe_encoder *e, const uint8_t *bytes, size_t n);

/* Is it the local part of a name (Namespaces in XML)? */
bool xe_ncname(xe_span s);

typedef struct xe_spot {
    uint32_t off, len;
} xe_spot;

typedef struct xe_writer { /* a sink that writes XML */
    xe_out out;
    xe_out names; /* of open elements, and declarations in force */
    struct xe_declared {
        xe_spot prefix, uri;
    } *declared;
    struct xe_open {
        xe_spot name;
        uint32_t declared, names; /* how much there was before it */
    } *open;
    uint32_t n_declared, cap_declared, n_open, cap_open;
    xe_spot uri, local, prefix;  /* of the element whose start tag is not written yet */
    bool waits, has_prefix, tag; /* waits: for declarations; tag: '>' is not written yet */
    uint32_t waits_declared;
} xe_writer;

void xe_writer_init(xe_writer *w, size_t most);
void xe_writer_begin(xe_writer *w);
void xe_writer_free(xe_writer *w);
xe_sink xe_writer_sink(xe_writer *w);
/* Text with < > & and so on as references. */
void xe_write_escaped(xe_writer *w, xe_span s, bool attribute);

/* -- moving */

/* Write, behind the start tag that was encoded last, the content of the body that was decoded last, from `body` up to the bit `end`, as its
 * bits are. False if they would mean something else there, or might to other decoders; then nothing was written. Both coders have the same
 * grammar and options, and no tables are kept. exi_move.c says when that is. */
bool xe_move(xe_encoder *e, const xe_decoder *d, const uint8_t *body, uint64_t end);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Values between text and bits (W3C EXI 1.0, section 7). No strtod, no strftime: digits to digits. */
#ifndef XC_EXI_VALUES_H
#define XC_EXI_VALUES_H

#include "exi_tables.h"

/* How values of a datatype are represented under the options in force. */
typedef struct xe_rep {
    uint8_t kind;
    uint16_t set;         /* XE_STRING: restricted characters, XE_NO16: none */
    const xe_datatype *d; /* NULL: untyped */
} xe_rep;

typedef struct xe_options {
    bool strict, fragment, comments, pis, dtd, prefixes, lexical;
    bool aligned;                           /* byte-aligned, and the two below */
    bool channels;                          /* pre-compression or compression: values apart from structure */
    bool compress;                          /* DEFLATE */
    bool sorted;                            /* attributes by name also where no schema asks for it */
    bool plain;                             /* decoded numbers as people write them (23.4), not in EXI's canonical form (234E-1) */
    uint32_t block_size;                    /* values a block */
    uint32_t value_max, value_capacity;     /* XE_NONE: no limit */
    bool local_values;                      /* the profile's; true without it */
    uint32_t max_grammars, max_productions; /* the profile's, of undeclared elements; XE_NONE: no limit */
    const uint8_t *remap; /* borrowed: for each datatype the xe_kind that represents it, 0xFF: its own; NULL: all their own */
} xe_options;

/* Caps, checked before memory is taken. */
typedef struct xe_limits {
    uint32_t depth, attributes; /* open elements; attributes and namespace declarations of one */
    size_t value_bytes;         /* of one value */
    size_t output_bytes;        /* of what is made of one document */
    uint32_t expansion;         /* output bytes a byte of input, beyond 64 KiB; 0: any */
    size_t table_bytes;         /* string tables and learned grammars of a coder */
    uint32_t list_items;
    uint32_t block_events; /* events held until their values come */
} xe_limits;

typedef struct xe_val { /* a value of one item, taken apart */
    bool negative, has_zone;
    uint8_t bits;     /* it is `u` in so many bits; 0: it is not as simple as that */
    uint64_t u;       /* a number; the position in an enumeration */
    xe_span digits;   /* a number of more than 19 digits: use this in place of u */
    xe_span fraction; /* digits as written, without zeros at the end */
    int32_t exponent;
    int64_t year;
    uint32_t month_day, time;
    int32_t zone; /* hours * 64 + minutes, signed */
} xe_val;

static inline xe_rep xe_rep_of(const xe_grammar *g, const xe_options *o, uint16_t datatype) {
    if (datatype == XE_NO16) return (xe_rep){XE_STRING, XE_NO16, NULL};
    const xe_datatype *d = g->datatypes + datatype;
    if (XE_RARE(o->lexical)) return (xe_rep){XE_STRING, d->lexical, d};
    if (XE_RARE(o->remap != NULL) && o->remap[datatype] != 0xFF) return (xe_rep){o->remap[datatype], d->set, d};
    return (xe_rep){d->kind, d->set, d};
}
/* Can that representation carry that text? Fills *v, except for strings, binaries and lists. */
bool xe_parse(const xe_grammar *g, const xe_options *o, const xe_rep *r, xe_span text, xe_val *v);
void xe_put_value(xe_tables *t, const xe_options *o, xe_out *out, const xe_rep *r, uint32_t name, xe_span text, const xe_val *v);
void xe_put_string(xe_out *out, xe_span text, size_t characters, unsigned more); /* length + more, characters */
void xe_put_string_value(xe_tables *t, xe_out *out, uint32_t name, xe_span text, const xe_rep *r);
size_t xe_characters(xe_span text);

/* Appends the text of a value to `text`; errors stick to `in`, `text` or `t`. */
void xe_get_value(xe_tables *t, const xe_options *o, const xe_limits *l, xe_in *in, const xe_rep *r, uint32_t name, xe_out *text);
void xe_get_string(xe_in *in, xe_out *text, uint64_t characters, const xe_grammar *g, uint16_t set, size_t most);
/* Bytes behind whole bytes. */
static inline void xe_text(xe_out *o, const void *p, size_t n) {
    if (n > o->cap - o->len || o->error) {
        if (!xe_out_room(o, n)) return;
    }
    if (n) memcpy(o->p + o->len, p, n);
    o->len += n;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EXI grammar tables: what xiot/exi/compiler makes of XML Schemas, and this codec only reads (W3C EXI 1.0, section 8.5).
 *
 * One block of bytes, little-endian, without pointers: it may be linked in, mapped or read, and is shared by all coders. 32 bytes of
 * head (magic "XEG1", size, number of sections, number of global elements, number of the relaxed type), then for each section its count and
 * offset, then the sections, in the order of xe_section. Numbers refer to rows of sections; XE_NO16 is none.
 *
 * Names are sorted by namespace, so that the number of a name, less the first of its namespace, is its compact identifier. Global elements
 * come first among the elements, in the order of their event codes. A state's rows are its productions in the order of their event codes;
 * tails are shared between states. Undeclared productions are not in the tables, since they follow by rule from kind, rows and options.
 */
#ifndef XC_EXI_GRAMMAR_H
#define XC_EXI_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hash.h"

#define XE_RARE(x) __builtin_expect(!!(x), 0)
#define XE_PAD 16 /* bytes behind texts that may be read, and mean nothing: so they are copied 16 at a time */
#define XE_NO16 0xFFFFu
#define XE_NONE 0xFFFFFFFFu

typedef struct xe_span {
    const uint8_t *p;
    size_t n;
} xe_span;

enum xe_section {
    XE_S_URIS,
    XE_S_NAMES,
    XE_S_ELEMENTS,
    XE_S_TYPES,
    XE_S_STATES,
    XE_S_ROWS,
    XE_S_DATATYPES,
    XE_S_ENUMS,
    XE_S_SETS,
    XE_S_POINTS,
    XE_S_FRAGMENT,
    XE_S_URI_SLOTS,
    XE_S_NAME_SLOTS,
    XE_S_STRINGS,
    XE_SECTIONS,
};

typedef struct xe_uri {
    uint32_t text;
    uint16_t len, first, count, unused; /* its names */
} xe_uri;

typedef struct xe_name {
    uint32_t text_len;                      /* offset of the text << 8 | bytes */
    uint16_t uri, element, attribute, type; /* the global declarations of that name: element, datatype, type */
} xe_name;

typedef struct xe_element {
    uint16_t name, type; /* bit 15 of type: nillable */
} xe_element;

typedef struct xe_type {
    uint16_t start, empty; /* first states: of the type, and of an element with xsi:nil */
    uint16_t castable;     /* has named types derived from it, or is a union */
} xe_type;

enum { XE_FIRST, XE_START, XE_CONTENT }; /* kinds of states: at the start of a tag, within it, behind it */

typedef struct xe_state {
    uint16_t first, n; /* rows */
    uint16_t content;  /* the state of the content, undeclared attributes excluded */
    uint16_t flags;    /* attributes << 4 | ends << 3 | kind */
} xe_state;
#define XE_STATE_KIND(s) ((s)->flags & 7u)
#define XE_STATE_ENDS(s) ((s)->flags >> 3 & 1u)
#define XE_STATE_ATTRIBUTES(s) ((unsigned)(s)->flags >> 4)

/* Labels of rows: the name of an attribute or element, or one of these. Rows of attributes come first, as many as the state says. */
#define XE_L_NAMES 0xF000u /* labels below are names */
#define XE_L_AT_NS 0xF000u /* + uri: any attribute of a namespace */
#define XE_L_SE_NS 0xF800u /* + uri: any element of a namespace */
#define XE_L_AT_ANY 0xFFFCu
#define XE_L_SE_ANY 0xFFFDu
#define XE_L_EE 0xFFFEu
#define XE_L_CH 0xFFFFu

typedef struct xe_row {
    uint16_t label, arg, next; /* arg: datatype of an attribute or of characters (none: untyped), element; next state */
} xe_row;

typedef enum xe_kind {
    XE_STRING,
    XE_BOOLEAN,
    XE_BOOLEAN_PATTERN,
    XE_NBIT,
    XE_UNSIGNED,
    XE_INTEGER,
    XE_DECIMAL,
    XE_FLOAT,
    XE_DATETIME,
    XE_DATE,
    XE_TIME,
    XE_GYEAR,
    XE_GYEARMONTH,
    XE_GMONTHDAY,
    XE_GMONTH,
    XE_GDAY,
    XE_BASE64,
    XE_HEX,
    XE_ENUM,
    XE_LIST,
    XE_KINDS,
} xe_kind;

typedef struct xe_datatype {
    uint8_t kind, bits;    /* bits of XE_NBIT and XE_ENUM */
    uint8_t base;          /* the kind without regard to an enumeration */
    uint8_t collapse;      /* white space around the value means nothing */
    uint16_t name, parent; /* name of the type; the datatype it is derived from */
    uint16_t first, count; /* XE_ENUM: its values; XE_LIST: first is the datatype of the items */
    uint16_t set, lexical; /* restricted character sets: of a string; of any value whose lexical form is preserved */
    int64_t low;           /* XE_NBIT: what 0 stands for */
} xe_datatype;

typedef struct xe_enum {
    uint32_t text;
    uint16_t len, unused;
} xe_enum;

typedef struct xe_set {
    uint16_t first, count;
} xe_set;

typedef struct xe_fragment {
    uint16_t name, element; /* element is none if elements of that name are declared differently */
} xe_fragment;

typedef struct xe_quick { /* a slot of the index */
    uint64_t key;         /* xc_load() of the name */
    uint32_t uri_len;     /* namespace << 16 | bytes; XE_NONE: free */
    uint32_t name;
} xe_quick;

typedef struct xe_grammar {
    const xe_uri *uris;
    const xe_name *names;
    const xe_element *elements;
    const xe_type *types;
    const xe_state *states;
    const xe_row *rows;
    const xe_datatype *datatypes;
    const xe_enum *enums;
    const xe_set *sets;
    const uint16_t *points;
    const xe_fragment *fragment;
    const uint16_t *uri_slots, *name_slots;
    const uint8_t *strings;
    uint32_t n[XE_SECTIONS];
    uint32_t n_globals;
    const xe_quick *quick;      /* xe_grammar_index(): names by hash */
    const uint16_t *quick_uris; /* namespaces by hash */
    uint32_t quick_mask, quick_uris_mask;
    bool partial;     /* some are not there, since too many have the same hash */
    uint16_t relaxed; /* type of elements that are declared differently, for fragments */
    bool informed;    /* false: there is no schema */
} xe_grammar;

/* What EXI knows without a schema. */
extern const xe_grammar xe_schemaless;

/* Checks the tables wholly, since they may come from outside; they are borrowed. The bytes must be aligned to 8, with XE_PAD more behind them. */
bool xe_grammar_open(xe_grammar *g, const uint8_t *bytes, size_t size);

/* An index for encoders, who look names up by eight bytes at once: made in memory of the caller's, aligned to 8. */
size_t xe_grammar_index_bytes(const xe_grammar *g);
void xe_grammar_index(xe_grammar *g, void *memory);

uint32_t xe_find_uri(const xe_grammar *g, xe_span text);
uint32_t xe_find_name(const xe_grammar *g, uint32_t uri, xe_span text);

static const uint64_t xe_low_bytes[9] = {0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFF, UINT64_MAX};
/* The first n bytes, at most 8, as a number like xc_load()'s: of text followed by XE_PAD bytes. */
static inline uint64_t xe_load_padded(const uint8_t *p, size_t n) {
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v & xe_low_bytes[n < 8 ? n : 8];
}

static inline xe_span xe_name_text(const xe_grammar *g, uint32_t name) {
    uint32_t t = g->names[name].text_len;
    return (xe_span){g->strings + (t >> 8), t & 0xFF};
}
static inline xe_span xe_uri_text(const xe_grammar *g, uint32_t uri) { return (xe_span){g->strings + g->uris[uri].text, g->uris[uri].len}; }
static inline uint32_t xe_quick_hash(uint32_t uri, uint64_t key, const uint8_t *p, size_t n) {
    uint64_t last = 0;
    if (n > 8) memcpy(&last, p + n - 8, 8);
    return (uint32_t)(((key ^ last << 5 ^ (uint64_t)(uri + n * 64) << 40) * 0x9E3779B97F4A7C15u) >> 40);
}
enum { XE_QUICK_PROBES = 16 };
uint32_t xe_quick_search(const xe_grammar *g, uint32_t at, uint32_t uri, uint64_t key, xe_span text); /* at: the first slot */
static inline uint32_t xe_quick_name(const xe_grammar *g, uint32_t uri, uint64_t key, xe_span text) {
    if (XE_RARE(!g->quick)) return xe_find_name(g, uri, text);
    uint32_t at = xe_quick_hash(uri, key, text.p, text.n);
    const xe_quick *slot = g->quick + (at & g->quick_mask);
    if (slot->key == key && slot->uri_len == (uri << 16 | (uint32_t)text.n) && text.n <= 8) return slot->name;
    return xe_quick_search(g, at, uri, key, text);
}
static inline uint32_t xe_quick_uri(const xe_grammar *g, xe_span text) {
    if (!g->quick) return xe_find_uri(g, text);
    uint32_t at = xe_quick_hash(0, xc_load(text.p, text.n), text.p, text.n);
    for (uint32_t end = at + XE_QUICK_PROBES; at < end; at++) {
        uint32_t i = g->quick_uris[at & g->quick_uris_mask];
        if (i == XE_NO16) break;
        if (g->uris[i].len == text.n && !memcmp(g->strings + g->uris[i].text, text.p, text.n)) return i;
    }
    return g->partial ? xe_find_uri(g, text) : XE_NONE;
}

static inline bool xe_same(xe_span a, xe_span b) {
    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++)
        if (a.p[i] != b.p[i]) return false;
    return true;
}

enum { XE_URI_NONE, XE_URI_XML, XE_URI_XSI, XE_URI_XSD }; /* numbers of namespaces that are always there; the last with a schema only */
#define XE_NAME_NIL 4u /* of xsi, without and with a schema, if xml.xsd adds no names; see xe_grammar_open() */

#endif

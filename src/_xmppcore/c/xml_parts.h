/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parser's files have in common: its memory, one call's working set, names. For xml*.c only; xml.h is the contract.
 *
 * xml.c: tokens, the machine, limits.  xml_names.c: namespaces, headers, contexts.  xml_text.c: decoding, and walks over checked bytes.
 */
#ifndef XC_XML_PARTS_H
#define XC_XML_PARTS_H

#include <string.h>

#include "xml.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define INLINE static inline __attribute__((always_inline))

enum { START, PROLOG, BODY, CLOSING, EPILOG, DEAD }; /* xc_xml.state; CLOSING: the root was an empty element */

typedef struct frame {
    uint64_t key;            /* first 8 bytes of the name */
    uint32_t name, name_len; /* qualified name; offset from the stanza's start */
    uint32_t nbinds;         /* declarations in force outside of it */
} frame;

typedef struct bind {
    uint64_t key;
    uint32_t prefix, prefix_len, uri, uri_len; /* offsets from the stanza's start */
    uint32_t number;                           /* see namespace_number(); 0 until asked for */
    bool decode;
} bind;

typedef struct attr {
    const uint8_t *start; /* white space in front of it */
    const uint8_t *name, *value;
    uint64_t key; /* of the whole name */
    uint32_t name_len, prefix_len, value_len;
    int bound; /* find_prefix() of its prefix, and what that left in `outer` */
    uint32_t outer;
    bool decode;
} attr;

typedef struct run run;

struct xc_stack {
    xc_stack *next; /* in the pool */
    xc_head head;
    uint32_t nbinds;
    bind *binds;    /* max_namespaces */
    frame frames[]; /* max_depth */
};

struct xc_shared {
    const xc_kernels *k;
    int (*body)(run *r, size_t *at); /* made for these kernels */
    xc_limits limits;
    xc_stack *pool;   /* LIFO: the hottest one first */
    xc_context *last; /* owned: that of the last root, which the next ones share if it is theirs too, as with clients of one sort */
#ifdef XC_DEBUG
    unsigned defences_off;
#endif
    attr attrs[]; /* max_attributes: of the tag in hand */
};

typedef struct tag {
    const uint8_t *name, *end; /* qualified name; behind the '>' */
    uint32_t name_len, prefix_len, nattrs;
    bool empty;
    bool spaces; /* a prefix or a declaration stands in it */
} tag;

/* One call's working set. */
struct run {
    xc_xml *x;
    xc_shared *s;
    uint8_t *buf;
    const uint8_t *end; /* a zero byte stands there */
    xc_head *head;
    tag tag;
    xc_error error;       /* of the token in hand */
    const uint8_t *off;   /* where it is reported */
    const uint8_t *known; /* last byte that had to be seen */
};

typedef enum verdict { OK, MORE, FAIL } verdict;

static inline verdict fail(run *r, xc_error e, const uint8_t *off, const uint8_t *known) {
    r->error = e, r->off = off, r->known = known;
    return FAIL;
}

/* An unexpected byte at p: the input's end, or not well-formed. */
static inline verdict stray(run *r, const uint8_t *p) { return p == r->end ? MORE : fail(r, XC_ERROR_NOT_WELL_FORMED, p, p); }

enum { C_START = 1, C_NAME = 2, C_WHITE = 4, C_MULTI = 8, C_COLON = 16 };

#define S (C_START | C_NAME)
static const uint8_t classes[256] = {
    ['\t'] = C_WHITE,       ['\n'] = C_WHITE, ['\r'] = C_WHITE,  [' '] = C_WHITE, ['-'] = C_NAME,    ['.'] = C_NAME,
    ['0' ... '9'] = C_NAME, [':'] = C_COLON,  ['A' ... 'Z'] = S, ['_'] = S,       ['a' ... 'z'] = S, [0x80 ... 0xFF] = C_MULTI,
};
#undef S

static inline uint32_t decode_char(const uint8_t *p, unsigned *length) { /* valid UTF-8, two bytes or more */
    if (p[0] < 0xE0) return *length = 2, (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    if (p[0] < 0xF0) return *length = 3, (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    *length = 4;
    return (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

static inline bool white(uint8_t c) { return classes[c] & C_WHITE; }
static inline const uint8_t *skip_white(const uint8_t *p) {
    while (white(*p)) p++;
    return p;
}

/* The first 8 bytes of a name, 0 behind a shorter one. No name holds a NUL, so up to 7 bytes are the same if their keys are. */
static inline uint64_t name_key(const uint8_t *p, uint32_t len) {
    static const uint64_t masks[9] = {0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFF, UINT64_MAX};
    uint64_t key;
    memcpy(&key, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    key = __builtin_bswap64(key);
#endif
    return key & masks[len < 8 ? len : 8];
}

#define KEY1(a) ((uint64_t)(a))
#define KEY2(a, b) (KEY1(a) | (uint64_t)(b) << 8)
#define KEY4(a, b, c, d) (KEY2(a, b) | KEY2(c, d) << 16)
#define KEY5(a, b, c, d, e) (KEY4(a, b, c, d) | (uint64_t)(e) << 32)
#define KEY7(a, b, c, d, e, f, g) (KEY4(a, b, c, d) | (KEY2(e, f) | (uint64_t)(g) << 16) << 32)
#define KEY8(a, b, c, d, e, f, g, h) (KEY4(a, b, c, d) | KEY4(e, f, g, h) << 32)

static inline bool same_name(uint64_t key, const uint8_t *a, uint32_t a_len, uint64_t other, const uint8_t *b, uint32_t b_len) {
    return key == other && a_len == b_len && (a_len <= 8 || memcmp(a + 8, b + 8, a_len - 8) == 0);
}

/* xml_text.c */

/* The character that the checked reference at p ('&') stands for; *next is behind its ';'. Its UTF-8 is never longer than it. */
uint32_t xc_reference(const uint8_t *p, const uint8_t **next);

/* xml_names.c, all of the tag in hand, which is whole; base is the stanza's start */

/* Declarations, bound prefixes, and attributes that are the same only by namespace. */
verdict xc_tag_check_names(run *r);
/* The stanza's (or the root's) header. */
void xc_tag_read_head(run *r, const uint8_t *base);
/* What the header says of a stanza's children. */
void xc_tag_read_payload(run *r, const uint8_t *base);
/* The root's start tag becomes the stream's context; NULL: no memory. */
xc_context *xc_tag_read_context(run *r);

#endif

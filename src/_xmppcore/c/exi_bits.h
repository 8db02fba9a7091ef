/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits in and out, for EXI: n-bit numbers, unsigned integers, runs of ASCII (W3C EXI 1.0, sections 7.1.6, 7.1.9, 7.1.10).
 *
 * Errors stick: after the first one a writer drops what it is given and a reader returns zeros, so that callers need look only where they
 * loop or are done. A reader never reads outside of its bytes; running out of them is XE_E_MORE.
 */
#ifndef XC_EXI_BITS_H
#define XC_EXI_BITS_H

#include <stdlib.h>
#include <string.h>

#include "exi_grammar.h"

typedef enum xe_error {
    XE_OK,
    XE_E_MEMORY,
    XE_E_LIMIT,       /* a cap of xe_limits */
    XE_E_MORE,        /* the input ends too early */
    XE_E_BITS,        /* no EXI: a number out of range, an event that the grammar does not have */
    XE_E_HEADER,      /* no EXI header, or of another version */
    XE_E_XML,         /* the XML is not well-formed */
    XE_E_STRICT,      /* the grammar does not have it, and the options leave no other way */
    XE_E_UNSUPPORTED, /* DTD, self-contained elements, representations that are not built in */
    XE_E_STOPPED,     /* the sink wants no more */
} xe_error;

#define XE_COLD __attribute__((noinline, unused)) static /* out of the way of the rest */
#define XE_INLINE static inline __attribute__((always_inline))

static inline uint64_t xe_load_be64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}
static inline void xe_store_be64(uint8_t *p, uint64_t v) {
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}

/* memcpy() of what is mostly short, without a call: up to XE_PAD bytes behind the text are copied with it. */
static inline void xe_copy_padded(uint8_t *to, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i += XE_PAD) memcpy(to + i, p + i, XE_PAD);
}

/* Bits that numbers from 0 to m - 1 take. */
static inline unsigned xe_width(uint32_t m) { return m < 2 ? 0 : 32u - (unsigned)__builtin_clz(m - 1); }

typedef struct xe_out {
    uint8_t *p;
    size_t len, cap, most; /* bytes; most: the limit */
    uint64_t acc;          /* the last `n` bits, not yet in p */
    unsigned n;            /* less than 32 between calls */
    bool aligned;          /* all numbers take whole bytes */
    uint8_t error;
} xe_out;

static inline void xe_out_free(xe_out *o) { free(o->p); }
static inline void xe_out_reset(xe_out *o) {
    o->len = 0;
    o->n = 0;
    o->acc = 0;
    o->error = XE_OK;
}
XE_COLD bool xe_out_grow(xe_out *o, size_t n) {
    if (n > o->most || o->len > o->most - n) {
        o->error = XE_E_LIMIT;
        return false;
    }
    size_t cap = o->cap ? o->cap : 256;
    while (cap - o->len < n) cap *= 2;
    uint8_t *p = realloc(o->p, cap);
    if (!p) {
        o->error = XE_E_MEMORY;
        return false;
    }
    o->p = p;
    o->cap = cap;
    return true;
}
/* Room for n more bytes. */
static inline bool xe_out_room(xe_out *o, size_t n) {
    if (XE_RARE(o->error)) return false;
    return n <= o->cap - o->len || xe_out_grow(o, n);
}
/* Move whole bytes of the accumulator out; less than 8 bits stay. */
static inline void xe_out_drain(xe_out *o) {
    if (o->cap - o->len < 8 && !xe_out_room(o, 8)) {
        o->n &= 7;
        return;
    }
    if (o->n < 8) return;
    xe_store_be64(o->p + o->len, o->acc << (64 - o->n));
    o->len += o->n >> 3;
    o->n &= 7;
}
/* n bits, at most 32. */
static inline void xe_put(xe_out *o, uint32_t v, unsigned n) {
    if (XE_RARE(o->aligned)) {
        if (!xe_out_room(o, 4)) return;
        for (; n > 0; n = n > 8 ? n - 8 : 0, v >>= 8) o->p[o->len++] = (uint8_t)v;
        return;
    }
    o->acc = o->acc << n | v;
    o->n += n;
    if (o->n >= 32) xe_out_drain(o);
}
static inline void xe_put_byte(xe_out *o, uint8_t v) { xe_put(o, v, 8); }
static inline void xe_put_unsigned(xe_out *o, uint64_t v) {
    while (v >= 0x80) {
        xe_put_byte(o, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    xe_put_byte(o, (uint8_t)v);
}
/* Bytes as they are, which is also how ASCII characters are written: eight at a time. Behind them XE_PAD more may be read. */
static inline void xe_put_padded(xe_out *o, const uint8_t *p, size_t n) {
    unsigned shift = o->n & 7, left = 63 - shift;
    uint64_t before = o->acc;
    if (n == 0 || (o->cap - o->len < n + 16 && !xe_out_room(o, n + 16))) return;
    uint8_t *to = o->p + o->len;
    if (o->n >= 8) xe_store_be64(to, before << (64 - o->n));
    to += o->n >> 3;
    o->len += (o->n >> 3) + n;
    o->n = shift;
    o->acc = p[n - 1]; /* the last bits of which wait, as many as before */
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = xe_load_be64(p + i);
        xe_store_be64(to + i, before << left << 1 | v >> shift);
        before = v;
    }
}
static inline void xe_put_bytes(xe_out *o, const uint8_t *p, size_t n) {
    size_t most = n > XE_PAD ? n - XE_PAD : 0;
    xe_put_padded(o, p, most);
    for (; most < n; most++) xe_put_byte(o, p[most]);
    xe_out_drain(o);
}
/* Fill the last byte with zero bits. */
static inline void xe_out_align(xe_out *o) {
    if (o->n & 7) {
        unsigned pad = 8 - (o->n & 7);
        o->acc <<= pad;
        o->n += pad;
    }
    xe_out_drain(o);
}

typedef struct xe_in {
    const uint8_t *p;
    size_t len;  /* bytes */
    uint64_t at; /* bits */
    bool aligned;
    bool padded; /* an integer took more octets than it needs */
    uint8_t error;
} xe_in;

static inline uint64_t xe_in_left(const xe_in *in) { return (uint64_t)in->len * 8 - in->at; } /* bits */

/* The same at the end of the bytes. */
XE_COLD uint32_t xe_get_last_bits(xe_in *in, unsigned n) {
    size_t i = (size_t)(in->at >> 3);
    unsigned skip = (unsigned)in->at & 7;
    if (in->error || n > xe_in_left(in)) {
        if (!in->error) in->error = XE_E_MORE;
        return 0;
    }
    in->at += n;
    uint64_t w = 0;
    if (in->len >= 8)
        w = xe_load_be64(in->p + in->len - 8) << 8 * (i + 8 - in->len);
    else
        for (unsigned k = 0; k < 8; k++) w = w << 8 | (i + k < in->len ? in->p[i + k] : 0);
    return (uint32_t)(w << skip >> (64 - n));
}
static inline uint32_t xe_get_bits(xe_in *in, unsigned n) {
    size_t i = (size_t)(in->at >> 3);
    unsigned skip = (unsigned)in->at & 7;
    if (n == 0) return 0;
    if (!XE_RARE(in->error) && in->len >= i + 8) {
        in->at += n;
        return (uint32_t)(xe_load_be64(in->p + i) << skip >> (64 - n));
    }
    return xe_get_last_bits(in, n);
}
static inline uint32_t xe_get(xe_in *in, unsigned n) {
    if (!XE_RARE(in->aligned) || n == 0) return xe_get_bits(in, n);
    uint32_t v = 0;
    for (unsigned k = 0; k < n; k += 8) v |= xe_get_bits(in, 8) << k;
    if (n < 32 && v >> n) {
        if (!in->error) in->error = XE_E_BITS;
        return 0;
    }
    return v;
}
XE_COLD uint64_t xe_get_larger(xe_in *in, uint64_t v) { /* v: the first 8 bits */
    v &= 0x7F;
    for (unsigned shift = 7;; shift += 7) {
        uint32_t b = xe_get_bits(in, 8);
        if (shift == 63 ? b > 1 : shift > 63) {
            if (!in->error) in->error = XE_E_BITS;
            return 0;
        }
        v |= (uint64_t)(b & 0x7F) << shift;
        if (!b) in->padded = true;
        if (!(b & 0x80)) return v;
    }
}
/* At most 64 bits; a larger one is an error. */
static inline uint64_t xe_get_unsigned(xe_in *in) {
    uint64_t v = xe_get_bits(in, 8);
    if (v < 0x80) return v;
    return xe_get_larger(in, v);
}
static inline void xe_in_align(xe_in *in) { in->at = (in->at + 7) & ~(uint64_t)7; }

#endif

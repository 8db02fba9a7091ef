/* SPDX-License-Identifier: Apache-2.0 */
/* Checked bytes: references, line ends, code points, and a walk over their tokens. */
#include "xml_parts.h"

static unsigned put_char(uint32_t c, uint8_t *out) {
    if (c < 0x80) return out[0] = (uint8_t)c, 1;
    if (c < 0x800) return out[0] = (uint8_t)(0xC0 | c >> 6), out[1] = (uint8_t)(0x80 | (c & 0x3F)), 2;
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 | c >> 12), out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F)), out[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | c >> 18), out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F)), out[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

uint32_t xc_reference(const uint8_t *p, const uint8_t **next) {
    uint32_t c = 0;
    if (p[1] == '#') {
        bool hex = p[2] == 'x';
        for (p += hex ? 3 : 2; *p != ';'; p++)
            c = hex ? c * 16 + (*p <= '9' ? *p - '0' : (*p | 0x20) - 'a' + 10) : c * 10 + (uint32_t)(*p - '0');
    } else {
        c = p[1] == 'l' ? '<' : p[1] == 'g' ? '>' : p[1] == 'q' ? '"' : p[2] == 'm' ? '&' : '\'';
        while (*p != ';') p++;
    }
    *next = p + 1;
    return c;
}

static size_t decode_as(const uint8_t *p, size_t n, uint8_t *out, bool value, bool references) {
    const uint8_t *end = p + n;
    uint8_t *o = out;
    for (;;) {
        const uint8_t *plain = p;
        while (p < end && *p > '\r' && *p != '&') p++;
        memcpy(o, plain, (size_t)(p - plain));
        o += p - plain;
        if (p == end) break;
        uint8_t c = *p;
        if (c == '&' && references) {
            o += put_char(xc_reference(p, &p), o);
        } else if (c == '\r') {
            p += p + 1 < end && p[1] == '\n' ? 2 : 1; /* XML 1.0 section 2.11 */
            *o++ = value ? ' ' : '\n';
        } else {
            *o++ = value && (c == '\t' || c == '\n') ? ' ' : c; /* section 3.3.3 */
            p++;
        }
    }
    return (size_t)(o - out);
}

size_t xc_decode_lines(const uint8_t *in, size_t n, uint8_t *out) { return decode_as(in, n, out, false, false); }
size_t xc_decode_text(const uint8_t *in, size_t n, uint8_t *out) { return decode_as(in, n, out, false, true); }
size_t xc_decode_value(const uint8_t *in, size_t n, uint8_t *out) { return decode_as(in, n, out, true, true); }

size_t xc_characters(const uint8_t *in, size_t n, uint32_t *highest) {
    size_t count = 0;
    uint8_t lead = 0;
    for (const uint8_t *end = in + n; in < end; in++) {
        count += (*in & 0xC0) != 0x80;
        lead = *in > lead ? *in : lead;
    }
    *highest = lead < 0x80 ? 0x7F : lead < 0xC4 ? 0xFF : lead < 0xF0 ? 0xFFFF : 0x10FFFF;
    return count;
}

#define WIDEN(type)                                                                                                                        \
    for (type *o = out; in < end; in += length) *o++ = (type)(*in < 0x80 ? (length = 1, *in) : decode_char(in, &length))

void xc_widen(const uint8_t *in, size_t n, uint32_t highest, void *out) {
    const uint8_t *end = in + n;
    unsigned length;
    if (highest <= 0xFF)
        WIDEN(uint8_t);
    else if (highest <= 0xFFFF)
        WIDEN(uint16_t);
    else
        WIDEN(uint32_t);
}

/* ---- walking over checked bytes ---- */

/* Eight bytes at a time, since behind the bytes there may be nothing to read. In what these give, the lowest bit is that of the first
 * byte found, which is all that counts. */
#define EACH(byte) (0x0101010101010101u * (byte))

static inline uint64_t load8(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline uint64_t bytes_equal(uint64_t word, uint8_t byte) {
    word ^= EACH((uint64_t)byte);
    return (word - EACH(1)) & ~word & EACH(0x80);
}

static inline uint64_t bytes_below(uint64_t word, uint8_t byte) { return (word - EACH((uint64_t)byte)) & ~word & EACH(0x80); }

/* The value at p up to its quote. */
static inline const uint8_t *walk_value(const uint8_t *p, const uint8_t *end, uint8_t quote, xc_attr *a) {
    uint64_t care = 0, high = 0;
    a->value = p;
    for (; end - p >= 8; p += 8) {
        uint64_t word = load8(p), stop = bytes_equal(word, quote), before = (stop & -stop) - 1; /* all ones if there is none */
        care |= (bytes_equal(word, '&') | bytes_below(word, ' ')) & before;
        high |= word & before;
        if (stop) {
            p += __builtin_ctzll(stop) / 8;
            goto done;
        }
    }
    for (; *p != quote; p++) {
        care |= *p == '&' || *p < ' ';
        high |= *p;
    }
done:
    a->value_len = (uint32_t)(p - a->value);
    a->decode = care;
    a->ascii = !(high & EACH(0x80));
    return p;
}

static const uint8_t *walk_name(const uint8_t *p, uint32_t *prefix_len) {
    const uint8_t *q = p;
    *prefix_len = 0;
    for (;; q++) {
        while (classes[*q] & (C_NAME | C_MULTI)) q++;
        if (*q != ':') return q;
        *prefix_len = (uint32_t)(q - p);
    }
}

static xc_token walk_tag(xc_walk *w, const uint8_t *p) {
    const uint8_t *q;
    xc_attr *a = w->attrs;
    w->text = ++p;
    q = walk_name(p, &w->prefix_len);
    w->text_len = (size_t)(q - p);
    for (;; a++) {
        q = skip_white(q);
        if (*q == '>' || *q == '/') break;
        a->name = q;
        q = walk_name(q, &a->prefix_len);
        a->name_len = (uint32_t)(q - a->name);
        q = skip_white(skip_white(q) + 1); /* '=' */
        q = walk_value(q + 1, w->end, *q, a) + 1;
    }
    w->nattrs = (uint32_t)(a - w->attrs);
    if (*q == '>') return w->p = q + 1, XC_T_START;
    return w->p = q + 2, XC_T_EMPTY;
}

/* The text [p, p + n): what it is made of. */
static void walk_text(xc_walk *w, const uint8_t *p, size_t n) {
    uint64_t care = 0, high = 0;
    w->text = p;
    w->text_len = n;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word = load8(p);
        care |= bytes_equal(word, '&') | bytes_equal(word, '\r');
        high |= word;
    }
    for (; n; p++, n--) {
        care |= *p == '&' || *p == '\r';
        high |= *p;
    }
    w->decode = care;
    w->ascii = !(high & EACH(0x80));
}

xc_token xc_walk_next(xc_walk *w) {
    const uint8_t *p = w->p, *q;
    if (p == w->end) return XC_T_END_OF_INPUT;
    if (*p != '<') {
        q = memchr(p, '<', (size_t)(w->end - p));
        if (!q) q = w->end;
        walk_text(w, p, (size_t)(q - p));
        w->p = q;
        return XC_T_TEXT;
    }
    if (p[1] == '/') {
        q = memchr(p, '>', (size_t)(w->end - p));
        w->p = q + 1;
        return XC_T_END;
    }
    if (p[1] == '!') { /* "<![CDATA[" */
        for (q = p += 9; q[0] != ']' || q[1] != ']' || q[2] != '>'; q++) {
        }
        walk_text(w, p, (size_t)(q - p));
        w->p = q + 3;
        return XC_T_CDATA;
    }
    return walk_tag(w, p);
}

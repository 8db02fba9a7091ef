/* SPDX-License-Identifier: Apache-2.0 */
/* The scalar kernels: the reference for all others, and the fall-back where there is no SIMD. */
#ifndef XC_SCAN_SCALAR_H
#define XC_SCAN_SCALAR_H

#include <string.h>

#include "scan.h"

enum { XC_ENDS_TEXT = 1, XC_ENDS_SINGLE = 2, XC_ENDS_DOUBLE = 4, XC_ENDS_VALUE = XC_ENDS_SINGLE | XC_ENDS_DOUBLE };

static const uint8_t xc_scalar_stops[256] = {
    [0 ... 0x08] = XC_ENDS_TEXT | XC_ENDS_VALUE,
    [0x0B ... 0x0C] = XC_ENDS_TEXT | XC_ENDS_VALUE,
    [0x0E ... 0x1F] = XC_ENDS_TEXT | XC_ENDS_VALUE,
    ['\t'] = XC_ENDS_VALUE,
    ['\n'] = XC_ENDS_VALUE,
    ['\r'] = XC_ENDS_VALUE,
    ['<'] = XC_ENDS_TEXT | XC_ENDS_VALUE,
    ['&'] = XC_ENDS_TEXT | XC_ENDS_VALUE,
    [']'] = XC_ENDS_TEXT,
    ['\''] = XC_ENDS_SINGLE,
    ['"'] = XC_ENDS_DOUBLE,
};

static inline const uint8_t *xc_scalar_text(const uint8_t *p) {
    while (!(xc_scalar_stops[*p] & XC_ENDS_TEXT)) p++;
    return p;
}

static inline const uint8_t *xc_scalar_value(const uint8_t *p, uint8_t quote) {
    const uint8_t end = quote == '"' ? XC_ENDS_DOUBLE : XC_ENDS_SINGLE;
    while (!(xc_scalar_stops[*p] & end)) p++;
    return p;
}

/* One character of two or more bytes at p: its length, 0 if the bytes end before it does, -1 if it is invalid. */
static inline int xc_utf8_char(const uint8_t *p, size_t n) {
    uint8_t c = p[0];
    uint8_t low = 0x80, high = 0xBF; /* bounds of the second byte: RFC 3629 section 4 */
    int length;
    if (c < 0xC2) return -1;
    if (c < 0xE0) {
        length = 2;
    } else if (c < 0xF0) {
        length = 3;
        if (c == 0xE0) low = 0xA0;
        if (c == 0xED) high = 0x9F; /* surrogates */
    } else if (c < 0xF5) {
        length = 4;
        if (c == 0xF0) low = 0x90;
        if (c == 0xF4) high = 0x8F;
    } else {
        return -1;
    }
    if (n < 2) return 0;
    if (p[1] < low || p[1] > high) return -1;
    for (int i = 2; i < length; i++) {
        if ((size_t)i >= n) return 0;
        if ((p[i] & 0xC0) != 0x80) return -1;
    }
    if (c == 0xEF && p[1] == 0xBF && p[2] >= 0xBE) return -1; /* U+FFFE, U+FFFF */
    return length;
}

static inline size_t xc_scalar_utf8(const uint8_t *p, size_t n, bool *bad) {
    size_t i = 0;
    *bad = false;
    while (i < n) {
        uint64_t word;
        while (i + 8 <= n && (memcpy(&word, p + i, 8), !(word & 0x8080808080808080u))) i += 8;
        if (i == n) break;
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        int length = xc_utf8_char(p + i, n - i);
        if (length <= 0) {
            *bad = length < 0;
            break;
        }
        i += (size_t)length;
    }
    return i;
}

static const xc_kernels xc_kernels_scalar = {"scalar", xc_scalar_text, xc_scalar_value, xc_scalar_utf8};

#endif

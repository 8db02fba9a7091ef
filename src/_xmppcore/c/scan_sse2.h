/* SPDX-License-Identifier: Apache-2.0 */
/* SSE2 kernels: 16 bytes a step; every x86-64 has them. */
#ifndef XC_SCAN_SSE2_H
#define XC_SCAN_SSE2_H

#include <emmintrin.h>

#include "scan_scalar.h"

static inline const uint8_t *xc_sse2_text(const uint8_t *p) {
    const __m128i lt = _mm_set1_epi8('<'), amp = _mm_set1_epi8('&'), bracket = _mm_set1_epi8(']');
    const __m128i low = _mm_set1_epi8(0x1F), tab = _mm_set1_epi8('\t'), lf = _mm_set1_epi8('\n'), cr = _mm_set1_epi8('\r');
    for (;; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, low), v);
        __m128i space = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, tab), _mm_cmpeq_epi8(v, lf)), _mm_cmpeq_epi8(v, cr));
        __m128i stop = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, lt), _mm_cmpeq_epi8(v, amp)), _mm_cmpeq_epi8(v, bracket));
        stop = _mm_or_si128(stop, _mm_andnot_si128(space, control));
        unsigned mask = (unsigned)_mm_movemask_epi8(stop);
        if (mask) return p + __builtin_ctz(mask);
    }
}

static inline const uint8_t *xc_sse2_value(const uint8_t *p, uint8_t quote) {
    const __m128i lt = _mm_set1_epi8('<'), amp = _mm_set1_epi8('&'), end = _mm_set1_epi8((char)quote), low = _mm_set1_epi8(0x1F);
    for (;; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        __m128i stop = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, lt), _mm_cmpeq_epi8(v, amp)),
                                    _mm_or_si128(_mm_cmpeq_epi8(v, end), _mm_cmpeq_epi8(_mm_min_epu8(v, low), v)));
        unsigned mask = (unsigned)_mm_movemask_epi8(stop);
        if (mask) return p + __builtin_ctz(mask);
    }
}

static inline size_t xc_sse2_utf8(const uint8_t *p, size_t n, bool *bad) {
    size_t i = 0;
    *bad = false;
    for (;;) {
        /* ASCII runs by 32, the rest character by character until ASCII comes back. */
        while (i + 32 <= n) {
            __m128i v = _mm_or_si128(_mm_loadu_si128((const __m128i *)(p + i)), _mm_loadu_si128((const __m128i *)(p + i + 16)));
            if (_mm_movemask_epi8(v)) break;
            i += 32;
        }
        size_t stop = i + 32 < n ? i + 32 : n;
        while (i < stop) {
            if (p[i] < 0x80) {
                i++;
                continue;
            }
            int length = xc_utf8_char(p + i, n - i);
            if (length <= 0) {
                *bad = length < 0;
                return i;
            }
            i += (size_t)length;
        }
        if (i >= n) return i;
    }
}

static const xc_kernels xc_kernels_sse2 = {"sse2", xc_sse2_text, xc_sse2_value, xc_sse2_utf8};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* AVX2 kernels: 32 bytes a step. */
#ifndef XC_SCAN_AVX2_H
#define XC_SCAN_AVX2_H

#include <immintrin.h>

#include "scan_scalar.h"
#include "scan_utf8.h"

#define XC_AVX2 __attribute__((target("avx2,bmi")))

static inline bool xc_avx2_here(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi"); }

XC_AVX2 static inline __m256i xc_avx2_twice(const void *table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
}

/* Bytes that equal what `table` has at the place that their low half names: up to 16 bytes found at once. (0x80 and above find 0.) */
XC_AVX2 static inline __m256i xc_avx2_among(__m256i v, const char table[16]) {
    return _mm256_cmpeq_epi8(v, _mm256_shuffle_epi8(xc_avx2_twice(table), v));
}

XC_AVX2 static inline __m256i xc_avx2_low(__m256i v) { return _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1F)), v); }

/* Each table: a byte at the place of its low half; places not used hold one that belongs elsewhere. */
static const char xc_avx2_text_stops[16] = {0, 0, 0, 0, 0, 0, '&', 0, 0, 0, 0, 0, '<', ']', 0, 0};
static const char xc_avx2_text_spaces[16] = {1, 0, 0, 0, 0, 0, 0, 0, 0, '\t', '\n', 0, 0, '\r', 0, 0};
static const char xc_avx2_value_stops[2][16] = {
    {0, 0, 0, 0, 0, 0, '&', '\'', 0, 0, 0, 0, '<', 0, 0, 0},
    {0, 0, '"', 0, 0, 0, '&', 0, 0, 0, 0, 0, '<', 0, 0, 0},
};

XC_AVX2 static inline const uint8_t *xc_avx2_text(const uint8_t *p) {
    for (;; p += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)p);
        __m256i stop = _mm256_or_si256(xc_avx2_among(v, xc_avx2_text_stops),
                                       _mm256_andnot_si256(xc_avx2_among(v, xc_avx2_text_spaces), xc_avx2_low(v)));
        unsigned mask = (unsigned)_mm256_movemask_epi8(stop);
        if (mask) return p + __builtin_ctz(mask);
    }
}

XC_AVX2 static inline const uint8_t *xc_avx2_value(const uint8_t *p, uint8_t quote) {
    const char *stops = xc_avx2_value_stops[quote == '"'];
    for (;; p += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)p);
        unsigned mask = (unsigned)_mm256_movemask_epi8(_mm256_or_si256(xc_avx2_among(v, stops), xc_avx2_low(v)));
        if (mask) return p + __builtin_ctz(mask);
    }
}

/* Is there an error in v, the 32 bytes behind `before`? A character that goes on behind v is none yet. */
XC_AVX2 static inline bool xc_avx2_is_wrong(__m256i before, __m256i v) {
    const __m256i half = _mm256_set1_epi8(0x0F);
    __m256i across = _mm256_permute2x128_si256(before, v, 0x21);
    __m256i prev1 = _mm256_alignr_epi8(v, across, 15), prev2 = _mm256_alignr_epi8(v, across, 14), prev3 = _mm256_alignr_epi8(v, across, 13);
    __m256i pair = _mm256_and_si256(
        _mm256_and_si256(_mm256_shuffle_epi8(xc_avx2_twice(xc_utf8_first_high), _mm256_and_si256(_mm256_srli_epi16(prev1, 4), half)),
                         _mm256_shuffle_epi8(xc_avx2_twice(xc_utf8_first_low), _mm256_and_si256(prev1, half))),
        _mm256_shuffle_epi8(xc_avx2_twice(xc_utf8_second_high), _mm256_and_si256(_mm256_srli_epi16(v, 4), half)));
    __m256i third = _mm256_subs_epu8(prev2, _mm256_set1_epi8(0xE0 - 0x80)), fourth = _mm256_subs_epu8(prev3, _mm256_set1_epi8(0xF0 - 0x80));
    __m256i later = _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8((char)XC_CONTINUED));
    __m256i fffe = _mm256_and_si256(
        _mm256_and_si256(_mm256_cmpeq_epi8(prev2, _mm256_set1_epi8((char)0xEF)), _mm256_cmpeq_epi8(prev1, _mm256_set1_epi8((char)0xBF))),
        _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_set1_epi8((char)0xBE)), v));
    __m256i error = _mm256_or_si256(_mm256_xor_si256(later, pair), fffe);
    return !_mm256_testz_si256(error, error);
}

XC_AVX2 static inline size_t xc_avx2_utf8(const uint8_t *p, size_t n, bool *bad) {
    __m256i before = _mm256_setzero_si256();
    unsigned open = 0; /* 1: a character may go on behind `before` */
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(p + i));
        unsigned high = (unsigned)_mm256_movemask_epi8(v);
        if ((high | open) && xc_avx2_is_wrong(before, v)) break; /* the scalar kernel tells where */
        before = v;
        open = high >> 31;
    }
    i = xc_utf8_boundary(p, i);
    return i + xc_scalar_utf8(p + i, n - i, bad);
}

static const xc_kernels xc_kernels_avx2 = {"avx2", xc_avx2_text, xc_avx2_value, xc_avx2_utf8};

#endif

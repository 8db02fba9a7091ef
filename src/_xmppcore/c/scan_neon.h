/* SPDX-License-Identifier: Apache-2.0 */
/* NEON kernels: 16 bytes a step; every 64-bit ARM has them. */
#ifndef XC_SCAN_NEON_H
#define XC_SCAN_NEON_H

#include <arm_neon.h>

#include "scan_scalar.h"
#include "scan_utf8.h"

/* Four bits of the answer for each byte of v, which are all 0 or all 1. */
static inline uint64_t xc_neon_mask(uint8x16_t v) { return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(v), 4)), 0); }

static inline const uint8_t *xc_neon_text(const uint8_t *p) {
    for (;; p += 16) {
        uint8x16_t v = vld1q_u8(p);
        uint8x16_t space = vorrq_u8(vorrq_u8(vceqq_u8(v, vdupq_n_u8('\t')), vceqq_u8(v, vdupq_n_u8('\n'))), vceqq_u8(v, vdupq_n_u8('\r')));
        uint8x16_t stop = vorrq_u8(vorrq_u8(vceqq_u8(v, vdupq_n_u8('<')), vceqq_u8(v, vdupq_n_u8('&'))), vceqq_u8(v, vdupq_n_u8(']')));
        uint64_t mask = xc_neon_mask(vorrq_u8(stop, vbicq_u8(vcltq_u8(v, vdupq_n_u8(0x20)), space)));
        if (mask) return p + (__builtin_ctzll(mask) >> 2);
    }
}

static inline const uint8_t *xc_neon_value(const uint8_t *p, uint8_t quote) {
    for (;; p += 16) {
        uint8x16_t v = vld1q_u8(p);
        uint8x16_t markup = vorrq_u8(vceqq_u8(v, vdupq_n_u8('<')), vceqq_u8(v, vdupq_n_u8('&')));
        uint8x16_t other = vorrq_u8(vceqq_u8(v, vdupq_n_u8(quote)), vcltq_u8(v, vdupq_n_u8(0x20)));
        uint64_t mask = xc_neon_mask(vorrq_u8(markup, other));
        if (mask) return p + (__builtin_ctzll(mask) >> 2);
    }
}

/* Is there an error in v, the 16 bytes behind `before`? A character that goes on behind v is none yet. */
static inline bool xc_neon_is_wrong(uint8x16_t before, uint8x16_t v) {
    const uint8x16_t half = vdupq_n_u8(0x0F);
    uint8x16_t prev1 = vextq_u8(before, v, 15), prev2 = vextq_u8(before, v, 14), prev3 = vextq_u8(before, v, 13);
    uint8x16_t pair = vandq_u8(vandq_u8(vqtbl1q_u8(vld1q_u8(xc_utf8_first_high), vshrq_n_u8(prev1, 4)),
                                        vqtbl1q_u8(vld1q_u8(xc_utf8_first_low), vandq_u8(prev1, half))),
                               vqtbl1q_u8(vld1q_u8(xc_utf8_second_high), vshrq_n_u8(v, 4)));
    uint8x16_t later = vorrq_u8(vcgeq_u8(prev2, vdupq_n_u8(0xE0)), vcgeq_u8(prev3, vdupq_n_u8(0xF0)));
    uint8x16_t fffe =
        vandq_u8(vandq_u8(vceqq_u8(prev2, vdupq_n_u8(0xEF)), vceqq_u8(prev1, vdupq_n_u8(0xBF))), vcgeq_u8(v, vdupq_n_u8(0xBE)));
    return vmaxvq_u8(vorrq_u8(veorq_u8(vandq_u8(later, vdupq_n_u8(XC_CONTINUED)), pair), fffe)) != 0;
}

static inline size_t xc_neon_utf8(const uint8_t *p, size_t n, bool *bad) {
    uint8x16_t before = vdupq_n_u8(0);
    bool open = false; /* may a character go on behind `before`? */
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint8x16_t v = vld1q_u8(p + i);
        bool high = vmaxvq_u8(v) >= 0x80;
        if ((high || open) && xc_neon_is_wrong(before, v)) break; /* the scalar kernel tells where */
        before = v;
        open = high;
    }
    i = xc_utf8_boundary(p, i);
    return i + xc_scalar_utf8(p + i, n - i, bad);
}

static const xc_kernels xc_kernels_neon = {"neon", xc_neon_text, xc_neon_value, xc_neon_utf8};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A seeded hash of bytes for tables whose keys strangers choose: two 64-bit multiplications for keys up to 16 bytes, one more for
 * each further 16. Not cryptographic; the seed is secret and made at start, so that collisions cannot be prepared. */
#ifndef XC_HASH_H
#define XC_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Up to 8 bytes as a number, the first the lowest; without a call. */
static inline uint64_t xc_load(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    uint32_t a, b;
    if (n >= 8) {
        memcpy(&v, p, 8);
    } else if (n >= 4) {
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        v = a | (uint64_t)b << 8 * (n - 4);
    } else if (n) {
        v = p[0] | (uint64_t)p[n / 2] << 8 * (n / 2) | (uint64_t)p[n - 1] << 8 * (n - 1);
    }
    return v;
}

static inline uint64_t xc_hash_mix(uint64_t a, uint64_t b) {
#ifdef __SIZEOF_INT128__
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else /* 32-bit machines: the four partial products, folded */
    uint64_t low = (uint64_t)(uint32_t)a * (uint32_t)b, high = (a >> 32) * (b >> 32);
    uint64_t cross = (a >> 32) * (uint32_t)b ^ (uint64_t)(uint32_t)a * (b >> 32);
    return low ^ high ^ (cross << 32 | cross >> 32);
#endif
}

static inline uint64_t xc_hash(const uint8_t *p, size_t n, const uint64_t seed[2]) {
    uint64_t h = seed[0] ^ n;
    while (n > 16) {
        h = xc_hash_mix(xc_load(p, 8) ^ h, xc_load(p + 8, 8) ^ seed[1]);
        p += 16;
        n -= 16;
    }
    uint64_t high = n > 8 ? xc_load(p + 8, n - 8) : 0;
    h = xc_hash_mix(xc_load(p, n) ^ h, high ^ seed[1]);
    return xc_hash_mix(h ^ 0x9E3779B97F4A7C15u, seed[0] | 1);
}

#endif

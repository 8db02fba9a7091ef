/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scan kernels: find the next byte that a token loop has to look at.
 *
 * Contract.  `text` and `value` start at p and return the first stop byte. They need no length: the buffer ends with at least
 * XC_PAD zero bytes, and NUL, which XML forbids, always stops them; so they may read up to XC_PAD bytes behind the end. `utf8`
 * reads only [p, p + n).  Every kernel gives the same answers as the scalar one: a test compares them at each length and alignment.
 */
#ifndef XC_SCAN_H
#define XC_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XC_PAD 64 /* zero bytes behind every parse buffer: one cache line, two AVX2 registers */

typedef struct xc_kernels {
    const char *name;
    /* First '<', '&', ']', NUL or control character other than tab, LF, CR. */
    const uint8_t *(*text)(const uint8_t *p);
    /* First `quote`, '<', '&' or byte below 0x20. */
    const uint8_t *(*value)(const uint8_t *p, uint8_t quote);
    /* Length of the longest prefix that is whole, valid UTF-8 without U+FFFE and U+FFFF (no XML characters). The rest is an
     * unfinished character if *bad is false, an invalid one if it is true. */
    size_t (*utf8)(const uint8_t *p, size_t n, bool *bad);
} xc_kernels;

/* The best kernel of this machine, or the one named in XMPPCORE_KERNEL. */
const xc_kernels *xc_kernels_default(void);
/* The kernel called `name`, NULL if this build or this machine has none such. */
const xc_kernels *xc_kernels_named(const char *name);

#endif

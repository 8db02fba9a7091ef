/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the SIMD kernels know of UTF-8: three tables for one look-up each.
 *
 * By the high and the low half of a byte, and by the high half of the byte behind it, each table gives the set of errors that the pair may
 * be; what all three agree on is one (J. Keiser, D. Lemire, "Validating UTF-8 in less than one instruction per byte"). A kernel has to
 * add that a third and a fourth byte must be continuations, which a pair alone takes for one too many, and the two characters that are
 * valid UTF-8 but no XML.
 */
#ifndef XC_SCAN_UTF8_H
#define XC_SCAN_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum {                     /* errors a pair of bytes may be */
       XC_SHORT = 1,       /* a lead without its continuation */
       XC_LONG = 2,        /* a continuation behind ASCII */
       XC_LONG_FORM3 = 4,  /* E0 and less than A0 */
       XC_BEYOND = 8,      /* F4 and 90 or more, F5 and higher */
       XC_SURROGATE = 16,  /* ED and A0 or more */
       XC_LONG_FORM2 = 32, /* C0, C1 */
       XC_LONG_FORM4 = 64, /* F0 and less than 90; F5 and higher and the same */
       XC_CONTINUED = 128, /* two continuations: fine behind E0 and higher, and only there */
       XC_ANY_LOW = XC_SHORT | XC_LONG | XC_CONTINUED,
       XC_ANY_8 = XC_LONG | XC_LONG_FORM2 | XC_CONTINUED,
       XC_LEAD_F = XC_ANY_LOW | XC_BEYOND | XC_LONG_FORM4,
};

static const uint8_t xc_utf8_first_high[16] = {
    XC_LONG,
    XC_LONG,
    XC_LONG,
    XC_LONG,
    XC_LONG,
    XC_LONG,
    XC_LONG,
    XC_LONG,
    XC_CONTINUED,
    XC_CONTINUED,
    XC_CONTINUED,
    XC_CONTINUED,
    XC_SHORT | XC_LONG_FORM2,
    XC_SHORT,
    XC_SHORT | XC_LONG_FORM3 | XC_SURROGATE,
    XC_SHORT | XC_BEYOND | XC_LONG_FORM4,
};

static const uint8_t xc_utf8_first_low[16] = {
    XC_ANY_LOW | XC_LONG_FORM2 | XC_LONG_FORM3 | XC_LONG_FORM4,
    XC_ANY_LOW | XC_LONG_FORM2,
    XC_ANY_LOW,
    XC_ANY_LOW,
    XC_ANY_LOW | XC_BEYOND,
    XC_LEAD_F,
    XC_LEAD_F,
    XC_LEAD_F,
    XC_LEAD_F,
    XC_LEAD_F,
    XC_LEAD_F,
    XC_LEAD_F,
    XC_LEAD_F,
    XC_LEAD_F | XC_SURROGATE,
    XC_LEAD_F,
    XC_LEAD_F,
};

static const uint8_t xc_utf8_second_high[16] = {
    XC_SHORT,
    XC_SHORT,
    XC_SHORT,
    XC_SHORT,
    XC_SHORT,
    XC_SHORT,
    XC_SHORT,
    XC_SHORT,
    XC_ANY_8 | XC_LONG_FORM3 | XC_LONG_FORM4,
    XC_ANY_8 | XC_LONG_FORM3 | XC_BEYOND,
    XC_ANY_8 | XC_SURROGATE | XC_BEYOND,
    XC_ANY_8 | XC_SURROGATE | XC_BEYOND,
    XC_SHORT,
    XC_SHORT,
    XC_SHORT,
    XC_SHORT,
};

/* Where the character starts that p[0, i), valid as far as it goes, may end in the midst of: i or up to three bytes before. */
static inline size_t xc_utf8_boundary(const uint8_t *p, size_t i) {
    for (size_t back = 1; back <= 3 && back <= i; back++) {
        if (p[i - back] < 0x80) return i;
        if (p[i - back] >= 0xC0) return i - back;
    }
    return i;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each kernel of this machine against the scalar one, at every length and alignment, without Python: so that it also runs under an emulator
 * of another machine. What a kernel may read ends where a page ends that nobody may touch. Prints the kernels' names.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scan.h"

enum { MOST = 131, ROUNDS = 40 };

static uint32_t seed = 1;

static uint32_t below(uint32_t n) {
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

/* Characters, whole and at the borders of the ranges; and what is none. */
static const char *const PIECES[] = {
    "a",
    "b",
    "c",
    "'",
    "\"",
    "<",
    "&",
    "]",
    ">",
    "\t",
    "\n",
    "\x1f",
    "\x7f",
    "\x01",
    "\xc2\x80",
    "\xdf\xbf",
    "\xe0\xa0\x80",
    "\xed\x9f\xbf",
    "\xee\x80\x80",
    "\xef\xbf\xbd",
    "\xd0\xb0",
    "\xf0\x90\x80\x80",
    "\xf4\x8f\xbf\xbf",
    "\xe6\x97\xa5",
    "\xef\xbf\xbe",
    "\xef\xbf\xbf",
    "\x80",
    "\xc0\x80",
    "\xc1\xbf",
    "\xe0\x9f\xbf",
    "\xed\xa0\x80",
    "\xf0\x8f\xbf\xbf",
    "\xf4\x90\x80\x80",
    "\xf5\x80\x80\x80",
    "\xff",
    "\xe1\x80",
    "\xf1\x80\x80",
    "\xc3",
};
enum { VALID = 24, ALL = sizeof PIECES / sizeof PIECES[0], PLAIN = 3 };

/* n bytes: plain, valid, or with errors, at random. */
static void fill(uint8_t *p, size_t n) {
    uint32_t kind = below(4), from = kind == 1 ? 14 : 0, to = kind == 0 ? PLAIN : kind == 3 ? ALL : VALID;
    for (size_t i = 0; i < n;) {
        const char *piece = PIECES[kind == 3 && below(8) ? 14 + below(VALID - 14) : from + below(to - from)];
        for (; *piece && i < n; piece++) p[i++] = (uint8_t)*piece;
    }
    if (n && kind == 0) { /* one thing of another kind, or the beginning of one */
        const char *piece = PIECES[below(ALL)];
        size_t at = below((uint32_t)n);
        for (uint32_t most = 1 + below(4); most-- && *piece && at < n; piece++) p[at++] = (uint8_t)*piece;
    }
}

static int check(const xc_kernels *k, const xc_kernels *scalar, uint8_t *edge) {
    for (size_t n = 0; n < MOST; n++)
        for (int round = 0; round < ROUNDS; round++) {
            bool bad, bad_too;
            uint8_t *p = edge - n; /* each length has an alignment of its own here */
            fill(p, n);
            size_t valid = scalar->utf8(p, n, &bad);
            if (k->utf8(p, n, &bad_too) != valid || bad != bad_too) return printf("utf8, %zu bytes\n", n), 1;
            p = edge - XC_PAD - n - (size_t)round % 33;
            fill(p, n);
            memset(p + n, 0, (size_t)(edge - p) - n);
            if (k->text(p) != scalar->text(p)) return printf("text, %zu bytes\n", n), 1;
            if (k->value(p, '\'') != scalar->value(p, '\'')) return printf("value in ', %zu bytes\n", n), 1;
            if (k->value(p, '"') != scalar->value(p, '"')) return printf("value in \", %zu bytes\n", n), 1;
        }
    return 0;
}

int main(void) {
    static const char *const names[] = {"scalar", "sse2", "avx2", "neon"};
    const xc_kernels *scalar = xc_kernels_named("scalar");
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE)) return 2;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const xc_kernels *k = xc_kernels_named(names[i]);
        if (!k) continue;
        if (check(k, scalar, pages + page)) return 1;
        puts(names[i]);
    }
    return 0;
}

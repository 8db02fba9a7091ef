/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of kernels, made at run time. */
#include "scan.h"

#include <stdlib.h>
#include <string.h>

#include "scan_all.h"

/* Best first. */
static const xc_kernels *const all[] = {
#ifdef XC_HAS_AVX2
    &xc_kernels_avx2,
#endif
#ifdef XC_HAS_SSE2
    &xc_kernels_sse2,
#endif
#ifdef XC_HAS_NEON
    &xc_kernels_neon,
#endif
    &xc_kernels_scalar,
};

#define COUNT (sizeof all / sizeof all[0])

static bool here(const xc_kernels *k) {
#ifdef XC_HAS_AVX2
    if (k == &xc_kernels_avx2) return xc_avx2_here();
#endif
    return k != NULL;
}

const xc_kernels *xc_kernels_named(const char *name) {
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(all[i]->name, name) == 0 && here(all[i])) return all[i];
    return NULL;
}

const xc_kernels *xc_kernels_default(void) {
    const char *name = getenv("XMPPCORE_KERNEL");
    const xc_kernels *asked = name ? xc_kernels_named(name) : NULL;
    size_t i = 0;
    if (asked) return asked;
    while (!here(all[i])) i++;
    return all[i];
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of kernels, made at run time. */
#include "scan.h"

#include <stdlib.h>
#include <string.h>

#include "scan_scalar.h"
#if defined(__SSE2__)
#include "scan_sse2.h"
#endif

/* Best last. */
static const xc_kernels *const all[] = {
    &xc_kernels_scalar,
#if defined(__SSE2__)
    &xc_kernels_sse2,
#endif
};

#define COUNT (sizeof all / sizeof all[0])

const xc_kernels *xc_kernels_named(const char *name) {
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

const xc_kernels *xc_kernels_default(void) {
    const char *name = getenv("XMPPCORE_KERNEL");
    const xc_kernels *asked = name ? xc_kernels_named(name) : NULL;
    return asked ? asked : all[COUNT - 1];
}

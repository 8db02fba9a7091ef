/* SPDX-License-Identifier: Apache-2.0 */
#include "sm.h"

#include <stdlib.h>

enum { FIRST_LENGTHS = 16 };

xc_sm *xc_sm_new(void) { return calloc(1, sizeof(xc_sm)); }

void xc_sm_free(xc_pool *pool, xc_sm *sm) {
    if (!sm) return;
    xc_out_drop(pool, &sm->kept, sm->kept.bytes);
    free(sm->lengths);
    free(sm);
}

static bool room_for_length(xc_sm *sm) {
    uint32_t n = xc_sm_count(sm), cap = sm->lengths_cap;
    if (n < cap) return true;
    uint32_t *grown = malloc((cap ? 2 * (size_t)cap : FIRST_LENGTHS) * sizeof *grown);
    if (!grown) return false;
    for (uint32_t k = 0; k < n; k++) grown[k] = xc_sm_length(sm, k);
    free(sm->lengths);
    sm->lengths = grown;
    sm->lengths_cap = cap ? 2 * cap : FIRST_LENGTHS;
    sm->lengths_first = 0;
    return true;
}

bool xc_sm_keep(xc_pool *pool, xc_sm *sm, const uint8_t *p, size_t n) {
    if (!room_for_length(sm) || !xc_out_put(pool, &sm->kept, p, n)) return false;
    sm->lengths[(sm->lengths_first + xc_sm_count(sm)) & (sm->lengths_cap - 1)] = (uint32_t)n;
    sm->sent++;
    sm->unasked_bytes += n;
    return true;
}

bool xc_sm_ack(xc_pool *pool, xc_sm *sm, uint32_t h) {
    uint32_t n = h - sm->acked;
    if (n > xc_sm_count(sm)) return false;
    size_t bytes = 0;
    for (uint32_t k = 0; k < n; k++) bytes += xc_sm_length(sm, k);
    xc_out_drop(pool, &sm->kept, bytes);
    sm->lengths_first = (sm->lengths_first + n) & (sm->lengths_cap - 1);
    sm->acked = h;
    if (sm->asked - h > sm->sent - h) sm->asked = h;           /* it spoke up unasked */
    if (!xc_sm_count(sm) && sm->lengths_cap > FIRST_LENGTHS) { /* after a long wait */
        free(sm->lengths);
        sm->lengths = NULL;
        sm->lengths_cap = sm->lengths_first = 0;
    }
    return true;
}

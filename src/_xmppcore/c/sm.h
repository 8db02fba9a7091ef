/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream management of one link (XEP-0198): counters, and the stanzas that went out and were not acknowledged yet.
 *
 * Theory of operation. `handled` counts what came in and was dealt with: since nothing of a stream overtakes anything, an <r/> is only looked
 * at when all before it is done, so the count is a contiguous prefix by itself. What goes out is kept a second time, in `kept`, until the
 * peer acknowledges it; `lengths` holds one number for each of these stanzas. Counts are modulo 2^32 (section 4).
 *
 * We ask (<r/>) behind each XC_SM_EVERY-th stanza or XC_SM_EVERY_BYTES that were not asked for; xc_router_ask() asks for stragglers now and
 * then. So there is a bounded number of stanzas that nobody asked for, and no timer for each link. An answer costs us a receive of its own
 * where little else comes: to ask for each tenth stanza takes a quarter of the throughput.
 */
#ifndef XC_SM_H
#define XC_SM_H

#include "outbuf.h"

enum { XC_SM_EVERY = 128, XC_SM_EVERY_BYTES = 65536 };

typedef struct xc_sm {
    xc_out kept;                         /* the stanzas acked + 1 .. sent, one behind the other */
    uint32_t *lengths;                   /* owned, a ring: of each stanza kept, in bytes */
    uint32_t lengths_cap, lengths_first; /* the former a power of two, or 0 */
    uint32_t handled;                    /* stanzas received and dealt with */
    uint32_t sent, acked, asked;         /* stanzas sent; of these acknowledged; `sent` at the last <r/> */
    size_t unasked_bytes;                /* sent since then */
    bool detached;                       /* nothing goes to the wire: it is kept only */
    bool listed;                         /* in the router's list of those to be asked */
    struct xc_link *next;                /* there */
} xc_sm;

static inline uint32_t xc_sm_count(const xc_sm *sm) { return sm->sent - sm->acked; }

xc_sm *xc_sm_new(void);
void xc_sm_free(xc_pool *pool, xc_sm *sm);
/* Keep one stanza. False if memory is out; then nothing has changed. */
bool xc_sm_keep(xc_pool *pool, xc_sm *sm, const uint8_t *p, size_t n);
/* The peer says that it has dealt with h stanzas. False if it cannot have (section 4: handled-count-too-high); nothing changes then. */
bool xc_sm_ack(xc_pool *pool, xc_sm *sm, uint32_t h);
/* Length of the k-th stanza kept. */
static inline uint32_t xc_sm_length(const xc_sm *sm, uint32_t k) { return sm->lengths[(sm->lengths_first + k) & (sm->lengths_cap - 1)]; }

#endif

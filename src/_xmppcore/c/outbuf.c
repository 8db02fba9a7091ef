/* SPDX-License-Identifier: Apache-2.0 */
#include "outbuf.h"

#include <stdlib.h>
#include <string.h>

static xc_block *take(xc_pool *pool, bool large) {
    xc_block *b = pool->free[large];
    uint32_t size = large ? XC_BLOCK_LARGE : XC_BLOCK_SMALL;
    if (b) {
        pool->free[large] = b->next;
        pool->count[large]--;
    } else {
        b = malloc(size); /* the header is inside: blocks are whole pages */
        if (!b) return NULL;
        b->size = size - (uint32_t)sizeof *b;
    }
    b->next = NULL;
    b->start = b->end = 0;
    return b;
}

static void give(xc_pool *pool, xc_block *b) {
    bool large = b->size > XC_BLOCK_SMALL;
    if (pool->count[large] >= XC_POOL_KEEPS) {
        free(b);
        return;
    }
    b->next = pool->free[large];
    pool->free[large] = b;
    pool->count[large]++;
}

void xc_pool_free(xc_pool *pool) {
    for (int i = 0; i < 2; i++) {
        for (xc_block *b = pool->free[i], *next; b; b = next) {
            next = b->next;
            free(b);
        }
        pool->free[i] = NULL;
        pool->count[i] = 0;
    }
}

static void append(xc_out *out, xc_block *b) {
    if (out->tail)
        out->tail->next = b;
    else
        out->head = b;
    out->tail = b;
}

uint8_t *xc_out_room(xc_pool *pool, xc_out *out, size_t n) {
    xc_block *b = out->tail;
    if (!b || b->size - b->end < n) {
        bool large = b || n > XC_BLOCK_SMALL - sizeof *b;
        if (n > XC_BLOCK_LARGE - sizeof *b) return NULL;
        b = take(pool, large);
        if (!b) return NULL;
        append(out, b);
    }
    return b->data + b->end;
}

bool xc_out_put(xc_pool *pool, xc_out *out, const uint8_t *p, size_t n) {
    xc_block *last = out->tail, *more = NULL, **link = &more, *b;
    size_t room = last ? last->size - last->end : 0;
    if (last && n <= room) {
        if (n) memcpy(last->data + last->end, p, n);
        last->end += (uint32_t)n;
        out->bytes += n;
        return true;
    }
    /* All blocks first, so that failure leaves the queue as it was. */
    for (size_t got = room; got < n; got += b->size) {
        b = take(pool, last || more || n > XC_BLOCK_SMALL - sizeof *b);
        if (!b) {
            while ((b = more)) {
                more = b->next;
                give(pool, b);
            }
            return false;
        }
        *link = b;
        link = &b->next;
    }
    out->bytes += n;
    for (b = last; n;) {
        if (!b || b->end == b->size) {
            b = more;
            more = b->next;
            b->next = NULL;
            append(out, b);
        }
        size_t part = b->size - b->end < n ? b->size - b->end : n;
        memcpy(b->data + b->end, p, part);
        b->end += (uint32_t)part;
        p += part;
        n -= part;
    }
    return true;
}

void xc_out_drop(xc_pool *pool, xc_out *out, size_t n) {
    out->bytes -= n;
    while (out->head) {
        xc_block *b = out->head;
        size_t here = b->end - b->start;
        if (n < here) {
            b->start += (uint32_t)n;
            return;
        }
        n -= here;
        out->head = b->next;
        if (!out->head) out->tail = NULL;
        give(pool, b);
    }
}

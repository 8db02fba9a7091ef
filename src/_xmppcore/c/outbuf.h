/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output queues of bytes in pooled blocks.
 *
 * A queue is a chain of blocks: the first has 4 KiB, the next ones 16 KiB. Blocks come from one LIFO pool for all queues, so that the
 * block that was flushed last, and is still in the cache, is written next; an empty queue holds no block at all.
 */
#ifndef XC_OUTBUF_H
#define XC_OUTBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    XC_BLOCK_SMALL = 4096,
    XC_BLOCK_LARGE = 16384,
    XC_POOL_KEEPS = 1024, /* free blocks kept of each size; more go back to the allocator */
};

typedef struct xc_block {
    struct xc_block *next;
    uint32_t start, end, size; /* bytes not yet sent: data[start, end) */
    uint8_t data[];
} xc_block;

typedef struct xc_pool {
    xc_block *free[2]; /* small, large */
    uint32_t count[2];
} xc_pool;

typedef struct xc_out {
    xc_block *head, *tail; /* NULL if empty */
    size_t bytes;
} xc_out;

void xc_pool_free(xc_pool *pool);
/* Append n bytes; false if memory is out (then nothing was appended). */
bool xc_out_put(xc_pool *pool, xc_out *out, const uint8_t *p, size_t n);
/* Room for n contiguous bytes, to be filled and then claimed by xc_out_claim(); NULL if n exceeds a block or memory is out. */
uint8_t *xc_out_room(xc_pool *pool, xc_out *out, size_t n);
static inline void xc_out_claim(xc_out *out, size_t n) {
    out->tail->end += (uint32_t)n;
    out->bytes += n;
}
/* The first n bytes (at most out->bytes) have been sent. */
void xc_out_drop(xc_pool *pool, xc_out *out, size_t n);

#endif

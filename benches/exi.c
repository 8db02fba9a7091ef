/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The EXI codec without Python: a library that bench_exi.py loads, or a program for callgrind and perf (-DSTANDALONE).
 *
 * Documents come one behind the other with the offsets of their ends. What is made is thrown away, as a socket's buffer would be; the XML is
 * copied into a padded buffer first, since that is what the codec's callers have to do.
 */
#include <stdlib.h>
#include <string.h>

#include "exi.h"
#include "scan.h"

#define PUBLIC __attribute__((visibility("default")))

typedef struct bench {
    xe_grammar g;
    xe_encoder e;
    xe_decoder d;
    xe_writer w;
    bool keep; /* string tables from document to document */
    uint8_t *tables, *index, *xml;
    size_t cap;
} bench;

PUBLIC bench *exi_open(const uint8_t *tables, size_t n, uint32_t value_max, uint32_t value_capacity, bool keep) {
    static const uint64_t seed[2] = {0x9E3779B97F4A7C15u, 0xD1B54A32D192ED03u};
    static const xe_limits limits = {64, 64, 1 << 16, 1 << 20, 256, 1 << 18, 4096, 1 << 16};
    xe_options o = {.block_size = 1000000,
                    .value_max = value_max,
                    .value_capacity = value_capacity,
                    .local_values = true,
                    .max_grammars = XE_NONE,
                    .max_productions = XE_NONE};
    bench *b = calloc(1, sizeof *b);
    if (!b || !(b->tables = aligned_alloc(8, (n + XE_PAD + 7) & ~(size_t)7))) return NULL;
    memcpy(b->tables, tables, n);
    if (!xe_grammar_open(&b->g, b->tables, n) || !xe_encoder_init(&b->e, &b->g, &o, &limits, seed) ||
        !xe_decoder_init(&b->d, &b->g, &o, &limits, seed))
        return NULL;
    if (!(b->index = malloc(xe_grammar_index_bytes(&b->g)))) return NULL;
    xe_grammar_index(&b->g, b->index);
    xe_writer_init(&b->w, limits.output_bytes);
    b->e.kernels = xc_kernels_default();
    b->keep = keep;
    return b;
}

PUBLIC void exi_close(bench *b) {
    xe_encoder_free(&b->e);
    xe_decoder_free(&b->d);
    xe_writer_free(&b->w);
    free(b->tables);
    free(b->index);
    free(b->xml);
    free(b);
}

/* XML to bodies, as many bytes as *size says at `to` (nowhere if it is NULL), and their ends. How many documents; -1 on any error. */
PUBLIC long exi_encode(bench *b, const uint8_t *data, const uint32_t *ends, long n, uint8_t *to, uint32_t *to_ends) {
    uint32_t from = 0, made = 0;
    for (long i = 0; i < n; from = ends[i++]) {
        const uint8_t *bytes;
        uint64_t bits;
        size_t len = ends[i] - from;
        if (len + XC_PAD > b->cap) {
            b->cap = 2 * (len + XC_PAD);
            if (!(b->xml = realloc(b->xml, b->cap))) abort();
        }
        memcpy(b->xml, data + from, len);
        memset(b->xml + len, 0, XC_PAD);
        xe_encoder_begin(&b->e, NULL, 0, b->keep && i);
        if (!xe_encode_xml(&b->e, b->xml, len) || !xe_finish(&b->e, true, &bytes, &bits)) return -1;
        if (!to) continue;
        memcpy(to + made, bytes, (size_t)(bits / 8));
        to_ends[i] = made += (uint32_t)(bits / 8);
    }
    return n;
}

/* Bodies to XML; how many bytes in all, -1 on any error. */
PUBLIC long exi_decode(bench *b, const uint8_t *data, const uint32_t *ends, long n) {
    uint32_t from = 0;
    long made = 0;
    for (long i = 0; i < n; from = ends[i++]) {
        uint64_t end;
        if (!xe_decode_xml(&b->d, data + from, ends[i] - from, 0, b->keep && i, &b->w, &end)) return -1;
        made += (long)b->w.out.len;
    }
    return made;
}

/* Bodies to their heads, as routing wants them; how many have an address, -1 on any error. */
PUBLIC long exi_peek(bench *b, const uint8_t *data, const uint32_t *ends, long n) {
    uint32_t from = 0;
    long addressed = 0;
    for (long i = 0; i < n; from = ends[i++]) {
        xe_head head;
        if (!xe_peek(&b->d, data + from, ends[i] - from, 0, false, &head)) return -1;
        addressed += head.to.p != NULL;
    }
    return addressed;
}

#ifdef STANDALONE
#include <stdio.h>

static uint8_t *file_bytes(const char *path, size_t *n) {
    FILE *file = fopen(path, "rb");
    if (!file) exit(2);
    fseek(file, 0, SEEK_END);
    *n = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*n + 1);
    if (!data || fread(data, 1, *n, file) != *n) exit(2);
    fclose(file);
    return data;
}

/* exi TABLES FILE encode|decode|peek ROUNDS [keep]; FILE: XML documents, a NUL behind each. */
int main(int argc, char **argv) {
    size_t tables_len, len;
    if (argc < 5) return 2;
    uint8_t *tables = file_bytes(argv[1], &tables_len), *data = file_bytes(argv[2], &len), *bodies = malloc(len);
    uint32_t *ends = malloc(len * sizeof *ends), *body_ends = malloc(len * sizeof *ends), at = 0;
    long n = 0, rounds = atol(argv[4]), sum = 0;
    bench *b = exi_open(tables, tables_len, 64, 64, argc > 5);
    if (!b || !bodies || !ends || !body_ends) return 2;
    for (size_t i = 0; i < len; i++) {
        if (data[i])
            data[at++] = data[i];
        else
            ends[n++] = at;
    }
    if (exi_encode(b, data, ends, n, bodies, body_ends) != n) return 1;
    for (long i = 0; i < rounds; i++)
        sum += argv[3][0] == 'e'   ? exi_encode(b, data, ends, n, NULL, NULL)
               : argv[3][0] == 'd' ? exi_decode(b, bodies, body_ends, n)
                                   : exi_peek(b, bodies, body_ends, n);
    printf("%ld documents, %u bytes, bodies of %u bytes, sum %ld\n", n, at, body_ends[n - 1], sum);
    exi_close(b);
    return sum < 0;
}
#endif

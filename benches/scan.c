/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our parser and libexpat on the same stream, without Python: a library that bench_scan.py loads, and part of the program that counts.c makes.
 *
 * Ours is used as a StreamParser uses it: each piece is copied behind what is unfinished, and what was consumed is shifted out. Both
 * must see every stanza; expat has handlers for all that a consumer of stanzas needs, and they only count.
 */
#include <expat.h>
#include <stdlib.h>
#include <string.h>

#include "xml.h"

enum { SLICE = 65536 }; /* bytes given to ours at a time, at most */

#define PUBLIC __attribute__((visibility("default")))

/* Stanzas in data[0, n), given in pieces; -1 on any error. */
PUBLIC long scan_xiot(const uint8_t *data, size_t n, size_t piece, const char *kernel) {
    static const xc_limits limits = {1 << 18, 1 << 16, 64, 64, 256, true};
    const xc_kernels *k = kernel ? xc_kernels_named(kernel) : xc_kernels_default();
    xc_shared *shared = k ? xc_shared_new(k, &limits) : NULL;
    size_t cap = 0, len = 0, at;
    uint8_t *buf = NULL;
    long stanzas = 0;
    xc_head head;
    xc_xml x;
    if (!shared) return -1;
    xc_xml_init(&x);
    while (n && stanzas >= 0) {
        size_t part = n < piece ? n : piece;
        if (part > SLICE) part = SLICE;
        if (len + part > cap) {
            cap = 2 * (len + part);
            if (!(buf = realloc(buf, cap + XC_PAD))) abort();
        }
        memcpy(buf + len, data, part);
        len += part;
        memset(buf + len, 0, XC_PAD);
        data += part;
        n -= part;
        for (xc_event e; (e = xc_xml_next(&x, shared, buf, len, &head, &at)) != XC_NEED_DATA;) {
            if (e == XC_ERROR) {
                stanzas = -1;
                break;
            }
            stanzas += e == XC_STANZA;
        }
        size_t keep = xc_xml_keep(&x);
        if (keep) {
            len -= keep;
            memmove(buf, buf + keep, len);
            xc_xml_shift(&x, keep);
        }
    }
    xc_xml_free(&x, shared);
    xc_shared_free(shared);
    free(buf);
    return stanzas;
}

typedef struct counts {
    long depth, stanzas, bytes;
} counts;

static void on_start(void *user, const XML_Char *name, const XML_Char **attributes) {
    counts *c = user;
    (void)name, (void)attributes;
    c->depth++;
}

static void on_end(void *user, const XML_Char *name) {
    counts *c = user;
    (void)name;
    c->stanzas += --c->depth == 1;
}

static void on_text(void *user, const XML_Char *text, int n) {
    counts *c = user;
    (void)text;
    c->bytes += n;
}

PUBLIC long scan_expat(const uint8_t *data, size_t n, size_t piece) {
    XML_Parser parser = XML_ParserCreateNS(NULL, '}');
    counts c = {0, 0, 0};
    if (!parser) return -1;
    XML_SetUserData(parser, &c);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    for (; n && c.stanzas >= 0; data += piece, n -= piece < n ? piece : n)
        if (XML_Parse(parser, (const char *)data, (int)(n < piece ? n : piece), 0) != XML_STATUS_OK) c.stanzas = -1;
    XML_ParserFree(parser);
    return c.stanzas;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core's work without Python, as a program of which callgrind counts the instructions (counts.py):
 *
 *   counts parse|expat STREAM     stanzas of a stream, in pieces of 4 KiB
 *   counts route STREAM JIDS       a client's stream goes to those who have the full JIDs, one a line, and what is queued is dropped
 *   counts fan-out JIDS            presences go to all of them
 *   counts prepare JIDS            each of them is prepared
 *
 * Only what is called by measured() is to be counted: `valgrind --tool=callgrind --toggle-collect=measured`. Prints how much was done,
 * and the kernel.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jid.h"
#include "router.h"

enum { PIECE = 4096, HIGH = 1 << 24, MOST_JIDS = 4096, WORDS = 128, TIMES = 100 };

long scan_xiot(const uint8_t *data, size_t n, size_t piece, const char *kernel);
long scan_expat(const uint8_t *data, size_t n, size_t piece);

typedef struct text {
    uint8_t *p;
    size_t n;
} text;

static text stream, jids[MOST_JIDS];
static size_t njids;
static const uint8_t opening[] = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xml:lang='en'>";
static xc_router router;
static xc_link sender, receivers[MOST_JIDS];
static xc_reader readers[MOST_JIDS];
static uint8_t words[MOST_JIDS * WORDS];

static void *checked(void *p) {
    if (!p) abort();
    return p;
}

static text read_file(const char *path) {
    FILE *file = checked(fopen(path, "rb"));
    fseek(file, 0, SEEK_END);
    text t = {NULL, (size_t)ftell(file)};
    t.p = checked(malloc(t.n + 1));
    rewind(file);
    if (fread(t.p, 1, t.n, file) != t.n) abort();
    fclose(file);
    return t;
}

static void drop_output(void) {
    for (xc_link *l = xc_router_take_dirty(&router, true); l; l = l->dirty) xc_out_drop(&router.pool, &l->out, l->out.bytes);
}

/* Feed n bytes; what is queued at the receivers is dropped. Stanzas for the caller are an error. */
static void feed(xc_link *link, const uint8_t *p, size_t n) {
    xc_head head;
    const uint8_t *raw;
    xc_link *slow;
    xc_link_event event;
    memcpy(router.buffer + XC_HEADROOM, p, n);
    while ((event = xc_link_feed(&router, link, n, &head, &raw, &slow)) != XC_LINK_IDLE) {
        if (event != XC_LINK_OPEN) abort();
        n = 0;
    }
    drop_output();
}

static void read_jids(const char *path) {
    text all = read_file(path);
    for (uint8_t *p = all.p, *end; (end = memchr(p, '\n', (size_t)(all.p + all.n - p))); p = end + 1) {
        if (njids == MOST_JIDS) abort();
        jids[njids++] = (text){p, (size_t)(end - p)};
    }
}

static void go_online(xc_link *link, text jid) {
    char words[WORDS];
    int len = snprintf(words, sizeof words, " from='%.*s'", (int)jid.n, jid.p);
    if (len < 0 || len >= WORDS) abort();
    xc_stamp *stamp = checked(malloc(sizeof *stamp + jid.n + (size_t)len));
    stamp->jid_len = (uint32_t)jid.n;
    stamp->bare_len = (uint32_t)((uint8_t *)checked(memchr(jid.p, '/', jid.n)) - jid.p);
    stamp->len = (uint32_t)len;
    memcpy(stamp->bytes, jid.p, jid.n);
    memcpy(stamp->bytes + jid.n, words, (size_t)len);
    xc_link_init(&router, link);
    if (!xc_link_restart(&router, link, true)) abort();
    feed(link, opening, sizeof opening - 1);
    if (!xc_router_bind(&router, link, stamp)) abort();
}

static void open_router(void) {
    static const xc_limits limits = {1 << 18, 1 << 16, 64, 64, 256, false};
    static const uint64_t seed[2] = {1, 2};
    uint8_t *buffer = checked(calloc(1, XC_HEADROOM + XC_RECEIVE + XC_PAD));
    if (!xc_router_init(&router, xc_kernels_default(), &limits, &limits, HIGH, seed, buffer)) abort();
    for (uint32_t i = 0, at = 0; i < njids; i++) {
        go_online(&receivers[i], jids[i]);
        uint32_t len = (uint32_t)snprintf((char *)words + at, WORDS, " to='%.*s'", (int)jids[i].n, jids[i].p);
        readers[i] = (xc_reader){&receivers[i], at, len};
        at += len;
    }
    static uint8_t anna[] = "anna@plant.example/phone";
    go_online(&sender, (text){anna, sizeof anna - 1});
}

static long parse(void) { return scan_xiot(stream.p, stream.n, PIECE, NULL); }

static long expat(void) { return scan_expat(stream.p, stream.n, PIECE); }

static long route(void) {
    for (size_t at = 0; at < stream.n; at += PIECE) feed(&sender, stream.p + at, stream.n - at < PIECE ? stream.n - at : PIECE);
    return (long)router.routed;
}

static long fan_out(void) {
    static const char presence[] = "<presence from='anna@plant.example/phone'><show>away</show><status>at the pump</status></presence>";
    static uint32_t left[MOST_JIDS];
    long deliveries = 0;
    for (int i = 0; i < TIMES; i++) {
        size_t nleft;
        if (!xc_router_fan_out(&router, readers, njids, words, (const uint8_t *)presence, sizeof presence - 1, left, &nleft)) abort();
        deliveries += (long)(njids - nleft);
        drop_output();
    }
    return deliveries == TIMES * (long)njids ? deliveries : -1;
}

static long prepare(void) {
    uint8_t out[XC_JID_INPUT_MAX];
    xc_jid_parts parts;
    long plain = 0;
    for (size_t i = 0; i < njids; i++) plain += xc_jid_prepare(jids[i].p, jids[i].n, out, &parts) == XC_JID_OK;
    return plain == (long)njids ? plain : -1;
}

/* Not inlined, and with something behind the call: else there would be nothing to toggle at. */
__attribute__((noinline)) long measured(long (*work)(void));
long measured(long (*work)(void)) {
    long done = work();
    __asm__ volatile("" ::: "memory");
    return done;
}

int main(int argc, char **argv) {
    enum { STREAM = 1, JIDS = 2, LINKS = 4 };
    static const struct {
        const char *name;
        long (*work)(void);
        int needs;
    } works[] = {
        {"parse", parse, STREAM},           {"expat", expat, STREAM},   {"route", route, STREAM | JIDS | LINKS},
        {"fan-out", fan_out, JIDS | LINKS}, {"prepare", prepare, JIDS},
    };
    for (size_t i = 0; argc > 2 && i < sizeof works / sizeof *works; i++) {
        if (strcmp(argv[1], works[i].name) != 0) continue;
        int needs = works[i].needs;
        if (argc != 2 + !!(needs & STREAM) + !!(needs & JIDS)) break;
        if (needs & STREAM) stream = read_file(argv[2]);
        if (needs & JIDS) read_jids(argv[argc - 1]);
        if (needs & LINKS) open_router();
        long done = measured(works[i].work);
        printf("%ld %s\n", done, xc_kernels_default()->name);
        return done <= 0;
    }
    return 2;
}

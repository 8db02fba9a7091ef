/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target of the XML stream parser (src/_xmppcore/c/xml.h), for libFuzzer, or alone with -DSTANDALONE (arguments: files to run).
 *
 * An input is HEADER bytes that choose limits and split points, then a stream. The stream is parsed whole with the scalar kernels and
 * in pieces with the best ones: events and error must be the same. Each buffer is as large as the contract says and not a
 * byte larger, so that AddressSanitizer sees any read behind it. The bytes of each stanza are walked as the tree builder does it.
 */
#include "standalone.h"
#include "xml.h"

static const char TAIL[] = "<<";

enum { HEADER = 4, MAX_BY_BYTE = 2048, LOG_ENTRY = 16 + sizeof(xc_head) };

typedef struct result {
    uint8_t *log; /* per event: kind, stream offset, header */
    size_t size, cap;
    xc_event end; /* XC_NEED_DATA or XC_ERROR */
    uint8_t error;
    uint64_t error_at;
} result;

static void log_event(result *r, xc_event event, uint64_t offset, const xc_head *head) {
    if (r->size + LOG_ENTRY > r->cap) {
        r->cap = 2 * r->cap + 16 * LOG_ENTRY;
        CHECK(r->log = realloc(r->log, r->cap));
    }
    memset(r->log + r->size, 0, LOG_ENTRY);
    r->log[r->size] = (uint8_t)event;
    if (head) {
        memcpy(r->log + r->size + 8, &offset, sizeof offset);
        memcpy(r->log + r->size + 16, head, sizeof *head);
    }
    r->size += LOG_ENTRY;
}

static void decode_exactly(size_t (*decode)(const uint8_t *, size_t, uint8_t *), const uint8_t *p, size_t n) {
    uint8_t *out = malloc(n ? n : 1);
    CHECK(out);
    CHECK(decode(p, n, out) <= n);
    free(out);
}

/* Is the header's span the value of this attribute? */
static void check_span(const xc_walk *w, const xc_head *head, const uint8_t *raw, const char *name, xc_span span, unsigned bit) {
    const xc_attr *found = NULL;
    for (uint32_t i = 0; i < w->nattrs; i++)
        if (w->attrs[i].name_len == strlen(name) && memcmp(w->attrs[i].name, name, w->attrs[i].name_len) == 0) found = &w->attrs[i];
    CHECK(!found == !span.off);
    if (!found) return;
    CHECK(found->value == raw + span.off && found->value_len == span.len && found->decode == !!(head->decode & bit));
}

static void walk(const uint8_t *raw, const xc_head *head, const xc_limits *limits) {
    uint8_t *copy = malloc(head->size + 1u); /* as a bytes object: a NUL behind it */
    xc_attr *attrs = malloc(limits->max_attributes * sizeof *attrs);
    CHECK(copy && attrs);
    memcpy(copy, raw, head->size);
    copy[head->size] = 0;
    xc_walk w = {.p = copy, .end = copy + head->size, .attrs = attrs};
    unsigned depth = 0, children = 0;
    for (xc_token t; (t = xc_walk_next(&w)) != XC_T_END_OF_INPUT;) {
        if (t == XC_T_START || t == XC_T_EMPTY) {
            CHECK(w.nattrs <= limits->max_attributes);
            for (uint32_t i = 0; i < w.nattrs; i++) decode_exactly(xc_decode_value, attrs[i].value, attrs[i].value_len);
            const uint8_t *local = w.text + (w.prefix_len ? w.prefix_len + 1 : 0);
            size_t local_len = (size_t)(w.text + w.text_len - local);
            if (depth == 0) {
                CHECK(w.text == copy + 1 && local == copy + head->name.off && local_len == head->name.len);
                CHECK(head->name_end == w.text_len + 1);
                check_span(&w, head, copy, "to", head->to, XC_TO);
                check_span(&w, head, copy, "from", head->from, XC_FROM);
                check_span(&w, head, copy, "id", head->id, XC_ID);
                check_span(&w, head, copy, "type", head->type, XC_TYPE);
                check_span(&w, head, copy, "version", head->version, XC_VERSION);
                check_span(&w, head, copy, "xml:lang", head->lang, XC_LANG);
            }
            if (depth == 1 && children++ == 0) CHECK(local == copy + head->payload.off && local_len == head->payload.len);
            depth += t == XC_T_START;
        } else if (t == XC_T_END) {
            CHECK(depth > 0);
            depth--;
        } else {
            CHECK(depth > 0);
            decode_exactly(t == XC_T_TEXT ? xc_decode_text : xc_decode_lines, w.text, w.text_len);
        }
        CHECK(depth < limits->max_depth);
    }
    CHECK(depth == 0 && w.p == w.end);
    CHECK(children == head->children || head->children == UINT16_MAX);
    free(attrs);
    free(copy);
}

static size_t next_piece(const uint8_t *header, uint32_t *seed, size_t at, size_t n) {
    size_t left = n - at, split = ((size_t)header[1] | (size_t)header[2] << 8) % (n + 1);
    switch (header[3] & 3) {
    case 0: return n <= MAX_BY_BYTE || left < 16 ? 1 : left / 16;
    case 1: return at < split ? split - at : left;
    default: *seed = *seed * 1103515245u + 12345u; return 1 + (*seed >> 16) % (header[3] & 4 ? 8 : 64);
    }
}

static result parse(const uint8_t *header, const uint8_t *data, size_t n, const xc_limits *limits, const xc_kernels *kernels, bool split) {
    result r = {.end = XC_NEED_DATA};
    xc_shared *shared = xc_shared_new(kernels, limits);
    CHECK(shared);
    xc_xml x;
    xc_xml_init(&x);
    uint32_t seed = header[1] | (uint32_t)header[2] << 8;
    uint8_t *pending = NULL;
    size_t npending = 0;
    for (size_t at = 0; at < n && r.end == XC_NEED_DATA;) {
        size_t piece = split ? next_piece(header, &seed, at, n) : n;
        if (piece > n - at) piece = n - at;
        size_t len = npending + piece;
        uint8_t *buf = malloc(len + XC_PAD);
        CHECK(buf);
        if (npending) memcpy(buf, pending, npending);
        memcpy(buf + npending, data + at, piece);
        memset(buf + len, 0, XC_PAD);
        free(pending);
        at += piece;
        xc_head head;
        size_t start = 0;
        while ((r.end = xc_xml_next(&x, shared, buf, len, &head, &start)) != XC_NEED_DATA) {
            if (r.end == XC_ERROR) {
                CHECK(xc_xml_next(&x, shared, buf, len, &head, &start) == XC_ERROR); /* dead */
                CHECK(x.error_at <= at);
                r.error = x.error;
                r.error_at = x.error_at;
                break;
            }
            bool has_head = r.end == XC_STANZA || r.end == XC_OPEN;
            log_event(&r, r.end, has_head ? x.base + start : 0, has_head ? &head : NULL);
            if (r.end == XC_STANZA) {
                CHECK(start + head.size <= len && head.size <= limits->max_stanza_bytes);
                walk(buf + start, &head, limits);
            }
        }
        CHECK(memcmp(buf + len - piece, data + at - piece, piece) == 0); /* the caller's bytes are as they were */
        if (r.end != XC_NEED_DATA) {
            free(buf);
            pending = NULL;
            break;
        }
        size_t keep = xc_xml_keep(&x);
        CHECK(keep <= len);
        xc_xml_shift(&x, keep);
        npending = len - keep;
        CHECK(npending <= (size_t)limits->max_stanza_bytes + 3); /* 3: an unfinished character; a longer tag is refused, too */
        memmove(buf, buf + keep, npending);
        pending = buf;
    }
    free(pending);
    xc_xml_free(&x, shared);
    xc_shared_free(shared);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const uint32_t stanza[] = {64, 100, 1000, 1 << 20}, tag[] = {64, 70, 300, 1 << 20};
    if (n < HEADER) return 0;
    xc_limits limits = {
        .max_stanza_bytes = stanza[data[0] & 3],
        .max_tag_bytes = tag[data[0] >> 2 & 3],
        .max_depth = data[0] & 16 ? 4 : 64,
        .max_attributes = data[0] & 32 ? 3 : 64,
        .max_namespaces = data[0] & 64 ? 2 : 64,
        .text_between = !(data[0] & 128),
    };
    /* An error inside an unfinished tag may be found late; the tail ends any tag. */
    size_t size = n - HEADER + sizeof TAIL - 1;
    uint8_t *stream = malloc(size);
    CHECK(stream);
    memcpy(stream, data + HEADER, n - HEADER);
    memcpy(stream + n - HEADER, TAIL, sizeof TAIL - 1);
    result whole = parse(data, stream, size, &limits, xc_kernels_named("scalar"), false);
    result split = parse(data, stream, size, &limits, xc_kernels_default(), true);
    free(stream);
    if (whole.end != split.end || whole.error != split.error || whole.error_at != split.error_at)
        fprintf(stderr, "whole: %s at %llu; split: %s at %llu\n", whole.end == XC_ERROR ? xc_error_condition(whole.error) : "no error",
                (unsigned long long)whole.error_at, split.end == XC_ERROR ? xc_error_condition(split.error) : "no error",
                (unsigned long long)split.error_at);
    CHECK(whole.end == split.end && whole.error == split.error && whole.error_at == split.error_at);
    CHECK(whole.size == split.size && (whole.size == 0 || memcmp(whole.log, split.log, whole.size) == 0));
    free(whole.log);
    free(split.log);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target that compares the XML stream parser (src/_xmppcore/c/xml.h) with libexpat, for libFuzzer, or alone with -DSTANDALONE
 * (arguments: files to run). An input is a stream.
 *
 * Both read the same stanzas, names, attributes and text, and both accept or both refuse it. Justified differences: what RFC 6120
 * section 11.1 forbids (we refuse), encodings that are declared (expat is told to read UTF-8), the order of what an XML declaration
 * says (expat is lax), and names beyond ASCII (expat has those of XML 1.0 fourth edition).
 */
#include <expat.h>

#include "standalone.h"
#include "xml.h"

static const char TAIL[] = "<<?>'\"'\""; /* ends whatever is open, so that errors in it are found by both */
enum { START = 1, NAME, VALUE, END, TEXT, MOST_ATTRIBUTES = 4096 };

typedef struct reading {
    uint8_t *log; /* of whole stanzas: a mark, and what it is about */
    size_t size, cap, whole;
    unsigned depth, opened, closed;
    bool in_text, failed;
    size_t failed_at;
} reading;

static void put(reading *r, const void *p, size_t n) {
    if (r->size + n > r->cap) {
        r->cap = 2 * (r->size + n);
        CHECK(r->log = realloc(r->log, r->cap));
    }
    if (n) memcpy(r->log + r->size, p, n);
    r->size += n;
}

static void mark(reading *r, uint8_t what, const void *p, size_t n) {
    if (!r->in_text || what != TEXT) put(r, &what, 1);
    put(r, p, n);
    r->in_text = what == TEXT;
}

static void on_start(void *user, const XML_Char *name, const XML_Char **attributes) {
    reading *r = user;
    if (r->depth++ == 0) {
        r->opened = 1;
        return;
    }
    mark(r, START, name, strlen(name));
    for (; *attributes; attributes += 2) {
        mark(r, NAME, attributes[0], strlen(attributes[0]));
        mark(r, VALUE, attributes[1], strlen(attributes[1]));
    }
}

static void on_end(void *user, const XML_Char *name) {
    reading *r = user;
    (void)name;
    if (--r->depth == 0)
        r->closed = 1;
    else
        mark(r, END, NULL, 0);
    if (r->depth == 1) r->whole = r->size;
}

static void on_text(void *user, const XML_Char *text, int n) {
    reading *r = user;
    if (r->depth > 1 && n) mark(r, TEXT, text, (size_t)n);
}

static XML_Parser begin(const XML_Char *separator) {
    XML_Parser parser = separator ? XML_ParserCreateNS("UTF-8", *separator) : XML_ParserCreate("UTF-8");
    CHECK(parser);
#if XML_MAJOR_VERSION > 2 || XML_MINOR_VERSION >= 6
    XML_SetReparseDeferralEnabled(parser, XML_FALSE);
#endif
    return parser;
}

/* What expat reads: names as they are written, up to the first error, in namespaces or elsewhere. */
static reading theirs(const uint8_t *data, size_t n) {
    reading r = {0};
    XML_Parser strict = begin("!"), parser = begin(NULL);
    r.failed = XML_Parse(strict, (const char *)data, (int)n, 0) != XML_STATUS_OK;
    r.failed_at = r.failed ? (size_t)XML_GetCurrentByteIndex(strict) : n;
    XML_SetUserData(parser, &r);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    XML_Parse(parser, (const char *)data, (int)r.failed_at, 0);
    r.size = r.whole;
    XML_ParserFree(strict);
    XML_ParserFree(parser);
    return r;
}

static void put_decoded(reading *r, uint8_t what, size_t (*decode)(const uint8_t *, size_t, uint8_t *), const uint8_t *p, size_t n) {
    uint8_t *out = malloc(n ? n : 1);
    CHECK(out);
    size_t size = decode(p, n, out);
    if (size || what != TEXT) mark(r, what, out, size);
    free(out);
}

static void walk(reading *r, const uint8_t *raw, size_t n) {
    static xc_attr attrs[MOST_ATTRIBUTES];
    uint8_t *copy = malloc(n + 1);
    CHECK(copy);
    memcpy(copy, raw, n);
    copy[n] = 0;
    xc_walk w = {.p = copy, .end = copy + n, .attrs = attrs};
    for (xc_token t; (t = xc_walk_next(&w)) != XC_T_END_OF_INPUT;) {
        if (t == XC_T_TEXT || t == XC_T_CDATA) {
            put_decoded(r, TEXT, t == XC_T_TEXT ? xc_decode_text : xc_decode_lines, w.text, w.text_len);
            continue;
        }
        if (t != XC_T_END) {
            mark(r, START, w.text, w.text_len);
            for (uint32_t i = 0; i < w.nattrs; i++) {
                mark(r, NAME, attrs[i].name, attrs[i].name_len);
                put_decoded(r, VALUE, xc_decode_value, attrs[i].value, attrs[i].value_len);
            }
        }
        if (t != XC_T_START) mark(r, END, NULL, 0);
    }
    free(copy);
}

static reading ours(const uint8_t *data, size_t n, xc_error *error) {
    static const xc_limits limits = {1 << 22, 1 << 22, 4096, MOST_ATTRIBUTES, 4096, true};
    reading r = {0};
    xc_shared *shared = xc_shared_new(xc_kernels_default(), &limits);
    uint8_t *buf = malloc(n + XC_PAD);
    CHECK(shared && buf);
    memcpy(buf, data, n);
    memset(buf + n, 0, XC_PAD);
    xc_xml x;
    xc_xml_init(&x);
    xc_head head;
    size_t at;
    for (xc_event e; (e = xc_xml_next(&x, shared, buf, n, &head, &at)) != XC_NEED_DATA;) {
        if (e == XC_ERROR) {
            r.failed = true;
            r.failed_at = (size_t)x.error_at;
            *error = x.error;
            break;
        }
        if (e == XC_OPEN) r.opened = 1;
        if (e == XC_CLOSE) r.closed = 1;
        if (e == XC_STANZA) walk(&r, buf + at, head.size);
    }
    xc_xml_free(&x, shared);
    xc_shared_free(shared);
    free(buf);
    return r;
}

static bool begins(const uint8_t *data, size_t n, const char *text) { return n >= strlen(text) && memcmp(data, text, strlen(text)) == 0; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n > 1 << 14) return 0;
    if (n > 1 && (!data[0] || !data[1] || data[0] >= 0xFE)) return 0; /* expat takes it for UTF-16, whatever it is told */
    size_t size = n + sizeof TAIL - 1;
    uint8_t *stream = malloc(size);
    CHECK(stream);
    if (n) memcpy(stream, data, n);
    memcpy(stream + n, TAIL, sizeof TAIL - 1);
    size_t bom = begins(stream, size, "\xEF\xBB\xBF") ? 3 : 0;
    xc_error error = XC_ERROR_NONE;
    reading us = ours(stream, size, &error), them;
    if (error == XC_ERROR_RESTRICTED_XML || error == XC_ERROR_UNSUPPORTED_ENCODING || error == XC_ERROR_POLICY_VIOLATION) {
        them = theirs(stream, us.failed_at); /* the same before it */
        CHECK(!them.failed || them.failed_at < size);
        if (!them.failed) CHECK(us.size == them.size && (!us.size || memcmp(us.log, them.log, us.size) == 0));
    } else {
        them = theirs(stream, size);
        bool same = us.failed == them.failed && us.opened == them.opened && us.closed == them.closed && us.size == them.size &&
                    (!us.size || memcmp(us.log, them.log, us.size) == 0);
        bool declaration = us.failed && begins(stream + bom, size - bom, "<?xml");
        bool edition = them.failed && them.failed_at < size && stream[them.failed_at] >= 0x80;
        if (!same && !declaration && !edition) {
            fprintf(stderr, "ours: %s at %zu, %zu bytes of log; expat: %s at %zu, %zu\n",
                    us.failed ? xc_error_condition(error) : "no error", us.failed_at, us.size, them.failed ? "error" : "no error",
                    them.failed_at, them.size);
            CHECK(same);
        }
    }
    free(us.log);
    free(them.log);
    free(stream);
    return 0;
}

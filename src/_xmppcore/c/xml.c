/* SPDX-License-Identifier: Apache-2.0 */
#include "xml.h"

#include <stdlib.h>
#include <string.h>

#include "scan_all.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define INLINE static inline __attribute__((always_inline))

static const char XML_NS[] = "http://www.w3.org/XML/1998/namespace";
static const char XMLNS_NS[] = "http://www.w3.org/2000/xmlns/";

enum { START, PROLOG, BODY, CLOSING, EPILOG, DEAD }; /* xc_xml.state; CLOSING: the root was an empty element */

typedef struct frame {
    uint64_t key;            /* first 8 bytes of the name */
    uint32_t name, name_len; /* qualified name; offset from the stanza's start */
    uint32_t nbinds;         /* declarations in force outside of it */
} frame;

typedef struct bind {
    uint64_t key;
    uint32_t prefix, prefix_len, uri, uri_len; /* offsets from the stanza's start */
    uint32_t number;                           /* see namespace_number(); 0 until asked for */
    bool decode;
} bind;

typedef struct attr {
    const uint8_t *start; /* white space in front of it */
    const uint8_t *name, *value;
    uint64_t key; /* of the whole name */
    uint32_t name_len, prefix_len, value_len;
    int bound; /* find_prefix() of its prefix, and what that left in `outer` */
    uint32_t outer;
    bool decode;
} attr;

typedef struct run run;

struct xc_stack {
    xc_stack *next; /* in the pool */
    xc_head head;
    uint32_t nbinds;
    bind *binds;    /* max_namespaces */
    frame frames[]; /* max_depth */
};

static int (*body_of(const char *name))(run *, size_t *);

struct xc_shared {
    const xc_kernels *k;
    int (*body)(run *r, size_t *at); /* made for these kernels */
    xc_limits limits;
    xc_stack *pool; /* LIFO: the hottest one first */
#ifdef XC_DEBUG
    unsigned defences_off;
#endif
    attr attrs[]; /* max_attributes: of the tag in hand */
};

typedef struct tag {
    const uint8_t *name, *end; /* qualified name; behind the '>' */
    uint32_t name_len, prefix_len, nattrs;
    bool empty;
    bool spaces; /* a prefix or a declaration stands in it */
} tag;

/* ---- characters ---- */

enum { C_START = 1, C_NAME = 2, C_WHITE = 4, C_MULTI = 8, C_COLON = 16 };

#define S (C_START | C_NAME)
static const uint8_t classes[256] = {
    ['\t'] = C_WHITE,
    ['\n'] = C_WHITE,
    ['\r'] = C_WHITE,
    [' '] = C_WHITE,
    ['-'] = C_NAME,
    ['.'] = C_NAME,
    ['0'] = C_NAME,
    ['1'] = C_NAME,
    ['2'] = C_NAME,
    ['3'] = C_NAME,
    ['4'] = C_NAME,
    ['5'] = C_NAME,
    ['6'] = C_NAME,
    ['7'] = C_NAME,
    ['8'] = C_NAME,
    ['9'] = C_NAME,
    ['A'] = S,
    ['B'] = S,
    ['C'] = S,
    ['D'] = S,
    ['E'] = S,
    ['F'] = S,
    ['G'] = S,
    ['H'] = S,
    ['I'] = S,
    ['J'] = S,
    ['K'] = S,
    ['L'] = S,
    ['M'] = S,
    ['N'] = S,
    ['O'] = S,
    ['P'] = S,
    ['Q'] = S,
    ['R'] = S,
    ['S'] = S,
    ['T'] = S,
    ['U'] = S,
    ['V'] = S,
    ['W'] = S,
    ['X'] = S,
    ['Y'] = S,
    ['Z'] = S,
    [':'] = C_COLON,
    ['_'] = S,
    ['a'] = S,
    ['b'] = S,
    ['c'] = S,
    ['d'] = S,
    ['e'] = S,
    ['f'] = S,
    ['g'] = S,
    ['h'] = S,
    ['i'] = S,
    ['j'] = S,
    ['k'] = S,
    ['l'] = S,
    ['m'] = S,
    ['n'] = S,
    ['o'] = S,
    ['p'] = S,
    ['q'] = S,
    ['r'] = S,
    ['s'] = S,
    ['t'] = S,
    ['u'] = S,
    ['v'] = S,
    ['w'] = S,
    ['x'] = S,
    ['y'] = S,
    ['z'] = S,
    [0x80 ... 0xFF] = C_MULTI,
};
#undef S

static uint32_t decode_char(const uint8_t *p, unsigned *length) { /* valid UTF-8, two bytes or more */
    if (p[0] < 0xE0) return *length = 2, (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    if (p[0] < 0xF0) return *length = 3, (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    *length = 4;
    return (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

/* XML 1.0 fifth edition, productions 4 and 4a, above ASCII. */
static bool name_start(uint32_t c) {
    return (c >= 0xC0 && c <= 0x2FF && c != 0xD7 && c != 0xF7) || (c >= 0x370 && c <= 0x1FFF && c != 0x37E) || c == 0x200C || c == 0x200D ||
           (c >= 0x2070 && c <= 0x218F) || (c >= 0x2C00 && c <= 0x2FEF) || (c >= 0x3001 && c <= 0xD7FF) || (c >= 0xF900 && c <= 0xFDCF) ||
           (c >= 0xFDF0 && c <= 0xFFFD) || (c >= 0x10000 && c <= 0xEFFFF);
}

static bool name_char(uint32_t c) { return name_start(c) || c == 0xB7 || (c >= 0x300 && c <= 0x36F) || c == 0x203F || c == 0x2040; }

static inline bool white(uint8_t c) { return classes[c] & C_WHITE; }
static inline const uint8_t *skip_white(const uint8_t *p) {
    while (white(*p)) p++;
    return p;
}

/* End of the name without a colon at p; p itself if there is none. */
static inline const uint8_t *scan_name(const uint8_t *p) {
    const uint8_t *start = p;
    unsigned length;
    if (classes[*p] & C_START) p++;
    for (;;) {
        if (p != start)
            while (classes[*p] & C_NAME) p++;
        if (*p < 0x80) return p;
        uint32_t c = decode_char(p, &length);
        if (!(p == start ? name_start(c) : name_char(c))) return p;
        p += length;
    }
}

/* The first 8 bytes of a name, 0 behind a shorter one. No name holds a NUL, so up to 7 bytes are the same if their keys are. */
static inline uint64_t name_key(const uint8_t *p, uint32_t len) {
    static const uint64_t masks[9] = {0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFF, UINT64_MAX};
    uint64_t key;
    memcpy(&key, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    key = __builtin_bswap64(key);
#endif
    return key & masks[len < 8 ? len : 8];
}

#define KEY1(a) ((uint64_t)(a))
#define KEY2(a, b) (KEY1(a) | (uint64_t)(b) << 8)
#define KEY4(a, b, c, d) (KEY2(a, b) | KEY2(c, d) << 16)
#define KEY5(a, b, c, d, e) (KEY4(a, b, c, d) | (uint64_t)(e) << 32)
#define KEY7(a, b, c, d, e, f, g) (KEY4(a, b, c, d) | (KEY2(e, f) | (uint64_t)(g) << 16) << 32)
#define KEY8(a, b, c, d, e, f, g, h) (KEY4(a, b, c, d) | KEY4(e, f, g, h) << 32)

static inline bool same_name(uint64_t key, const uint8_t *a, uint32_t a_len, uint64_t other, const uint8_t *b, uint32_t b_len) {
    return key == other && a_len == b_len && (a_len <= 8 || memcmp(a + 8, b + 8, a_len - 8) == 0);
}

/* ---- decoding ---- */

static unsigned put_char(uint32_t c, uint8_t *out) {
    if (c < 0x80) return out[0] = (uint8_t)c, 1;
    if (c < 0x800) return out[0] = (uint8_t)(0xC0 | c >> 6), out[1] = (uint8_t)(0x80 | (c & 0x3F)), 2;
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 | c >> 12), out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F)), out[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | c >> 18), out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F)), out[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

/* The character that the checked reference at p ('&') stands for; *next is behind its ';'. Its UTF-8 is never longer than it. */
static uint32_t reference(const uint8_t *p, const uint8_t **next) {
    uint32_t c = 0;
    if (p[1] == '#') {
        bool hex = p[2] == 'x';
        for (p += hex ? 3 : 2; *p != ';'; p++)
            c = hex ? c * 16 + (*p <= '9' ? *p - '0' : (*p | 0x20) - 'a' + 10) : c * 10 + (uint32_t)(*p - '0');
    } else {
        c = p[1] == 'l' ? '<' : p[1] == 'g' ? '>' : p[1] == 'q' ? '"' : p[2] == 'm' ? '&' : '\'';
        while (*p != ';') p++;
    }
    *next = p + 1;
    return c;
}

static size_t decode_as(const uint8_t *p, size_t n, uint8_t *out, bool value, bool references) {
    const uint8_t *end = p + n;
    uint8_t *o = out;
    for (;;) {
        const uint8_t *plain = p;
        while (p < end && *p > '\r' && *p != '&') p++;
        memcpy(o, plain, (size_t)(p - plain));
        o += p - plain;
        if (p == end) break;
        uint8_t c = *p;
        if (c == '&' && references) {
            o += put_char(reference(p, &p), o);
        } else if (c == '\r') {
            p += p + 1 < end && p[1] == '\n' ? 2 : 1; /* XML 1.0 section 2.11 */
            *o++ = value ? ' ' : '\n';
        } else {
            *o++ = value && (c == '\t' || c == '\n') ? ' ' : c; /* section 3.3.3 */
            p++;
        }
    }
    return (size_t)(o - out);
}

static size_t decode(const uint8_t *p, size_t n, uint8_t *out) { return decode_as(p, n, out, true, true); }

size_t xc_decode_lines(const uint8_t *in, size_t n, uint8_t *out) { return decode_as(in, n, out, false, false); }
size_t xc_decode_text(const uint8_t *in, size_t n, uint8_t *out) { return decode_as(in, n, out, false, true); }
size_t xc_decode_value(const uint8_t *in, size_t n, uint8_t *out) { return decode_as(in, n, out, true, true); }

size_t xc_characters(const uint8_t *in, size_t n, uint32_t *highest) {
    size_t count = 0;
    uint8_t lead = 0;
    for (const uint8_t *end = in + n; in < end; in++) {
        count += (*in & 0xC0) != 0x80;
        lead = *in > lead ? *in : lead;
    }
    *highest = lead < 0x80 ? 0x7F : lead < 0xC4 ? 0xFF : lead < 0xF0 ? 0xFFFF : 0x10FFFF;
    return count;
}

#define WIDEN(type)                                                                                                                        \
    for (type *o = out; in < end; in += length) *o++ = (type)(*in < 0x80 ? (length = 1, *in) : decode_char(in, &length))

void xc_widen(const uint8_t *in, size_t n, uint32_t highest, void *out) {
    const uint8_t *end = in + n;
    unsigned length;
    if (highest <= 0xFF)
        WIDEN(uint8_t);
    else if (highest <= 0xFFFF)
        WIDEN(uint16_t);
    else
        WIDEN(uint32_t);
}

/* ---- contexts ---- */

static xc_context *context_alloc(uint32_t nbinds, uint32_t size) {
    xc_context *c = malloc(sizeof *c + nbinds * sizeof c->binds[0] + size);
    if (!c) return NULL;
    *c = (xc_context){.refs = 1, .size = 1, .nbinds = 0};
    c->bytes = (const uint8_t *)&c->binds[nbinds];
    return c;
}

static xc_span context_put(xc_context *c, const uint8_t *p, uint32_t n, bool coded) {
    uint8_t *to = (uint8_t *)c->bytes + c->size;
    xc_span span = {c->size, coded ? (uint32_t)decode(p, n, to) : n};
    if (!coded && n) memcpy(to, p, n);
    c->size += span.len;
    return span;
}

xc_context *xc_context_new(const char *default_ns) {
    uint32_t n = (uint32_t)strlen(default_ns);
    xc_context *c = context_alloc(1, n + 1);
    if (!c) return NULL;
    c->nbinds = 1;
    c->binds[0].prefix = (xc_span){1, 0};
    c->binds[0].uri = context_put(c, (const uint8_t *)default_ns, n, false);
    return c;
}

void xc_context_release(xc_context *c) {
    if (c && --c->refs == 0) free(c);
}

/* ---- shared memory ---- */

xc_shared *xc_shared_new(const xc_kernels *kernels, const xc_limits *limits) {
    xc_shared *s = malloc(sizeof *s + limits->max_attributes * sizeof(attr));
    if (!s) return NULL;
    s->k = kernels;
    s->body = body_of(kernels->name);
    s->limits = *limits;
    if (limits->max_tag_bytes > limits->max_stanza_bytes) s->limits.max_tag_bytes = limits->max_stanza_bytes;
    s->pool = NULL;
#ifdef XC_DEBUG
    const char *off = getenv("XC_DEFENCES_OFF");
    s->defences_off = off ? (unsigned)strtoul(off, NULL, 10) : 0;
#endif
    return s;
}

#ifdef XC_DEBUG
bool xc_defence_off(const xc_shared *s, enum xc_defence defence) { return s->defences_off & defence; }
#endif

void xc_shared_free(xc_shared *s) {
    if (!s) return;
    for (xc_stack *t = s->pool, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    free(s);
}

static xc_stack *stack_take(xc_shared *s) {
    xc_stack *t = s->pool;
    if (t) {
        s->pool = t->next;
        return t;
    }
    size_t frames = s->limits.max_depth * sizeof(frame);
    t = malloc(sizeof *t + frames + s->limits.max_namespaces * sizeof(bind));
    if (t) t->binds = (bind *)((char *)t->frames + frames);
    return t;
}

static void stack_give(xc_shared *s, xc_stack *t) {
    t->next = s->pool;
    s->pool = t;
}

/* ---- errors ---- */

const char *xc_error_condition(xc_error e) {
    switch (e) {
    case XC_ERROR_BAD_FORMAT: return "bad-format";
    case XC_ERROR_POLICY_VIOLATION: return "policy-violation";
    case XC_ERROR_RESTRICTED_XML: return "restricted-xml";
    case XC_ERROR_UNSUPPORTED_ENCODING: return "unsupported-encoding";
    case XC_ERROR_NO_MEMORY: return "resource-constraint";
    default: return "not-well-formed";
    }
}

/* One call's working set. */
struct run {
    xc_xml *x;
    xc_shared *s;
    uint8_t *buf;
    const uint8_t *end; /* a zero byte stands there */
    xc_head *head;
    tag tag;
    xc_error error;       /* of the token in hand */
    const uint8_t *off;   /* where it is reported */
    const uint8_t *known; /* last byte that had to be seen */
};

typedef enum verdict { OK, MORE, FAIL } verdict;

static verdict fail(run *r, xc_error e, const uint8_t *off, const uint8_t *known) {
    r->error = e, r->off = off, r->known = known;
    return FAIL;
}

/* An unexpected byte at p: the input's end, or not well-formed. */
static verdict stray(run *r, const uint8_t *p) { return p == r->end ? MORE : fail(r, XC_ERROR_NOT_WELL_FORMED, p, p); }

/* ---- tokens ---- */

/* Is the whole token [p, next) within the limit? */
static verdict check_length(run *r, const uint8_t *p, const uint8_t *next) {
    size_t most = r->s->limits.max_tag_bytes;
    return (size_t)(next - p) <= most ? OK : fail(r, XC_ERROR_POLICY_VIOLATION, p + most, p + most);
}

static bool xml_char(uint32_t c) {
    return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c <= 0xD7FF) || (c >= 0xE000 && c <= 0xFFFD) ||
           (c >= 0x10000 && c <= 0x10FFFF);
}

/* The reference at p ('&'); *next is behind it. RFC 6120 section 11.1: only the five predefined ones, and characters. */
static verdict check_reference(run *r, const uint8_t *p, const uint8_t **next) {
    const uint8_t *q = p + 1;
    if (*q == '#') {
        bool hex = *++q == 'x';
        uint32_t c = 0;
        if (hex) q++;
        const uint8_t *digits = q;
        for (;; q++) {
            uint32_t d = *q >= '0' && *q <= '9' ? *q - '0' : hex && (*q | 0x20) >= 'a' && (*q | 0x20) <= 'f' ? (*q | 0x20) - 'a' + 10 : 99;
            if (d == 99) break;
            if (c < 0x110000) c = c * (hex ? 16 : 10) + d;
        }
        if (q == digits || *q != ';') return stray(r, q);
        if (!xml_char(c)) return fail(r, XC_ERROR_NOT_WELL_FORMED, p, q);
        *next = q + 1;
        return OK;
    }
    const uint8_t *name = q;
    q = scan_name(q);
    if (q == name || *q != ';') return stray(r, q);
    size_t n = (size_t)(q - name);
    if (!((n == 2 && (memcmp(name, "lt", 2) == 0 || memcmp(name, "gt", 2) == 0)) || (n == 3 && memcmp(name, "amp", 3) == 0) ||
          (n == 4 && (memcmp(name, "quot", 4) == 0 || memcmp(name, "apos", 4) == 0))) &&
        !XC_DEFENCE_OFF(r->s, XC_OFF_ENTITY))
        return fail(r, XC_ERROR_RESTRICTED_XML, p, q);
    *next = q + 1;
    return OK;
}

static verdict qualified_name(run *r, const uint8_t *p, const uint8_t **end, uint32_t *prefix_len) {
    const uint8_t *q = scan_name(p);
    if (q == p) return stray(r, p);
    *prefix_len = 0;
    if (*q == ':') {
        *prefix_len = (uint32_t)(q - p);
        const uint8_t *local = q + 1;
        q = scan_name(local);
        while (*q == ':' && XC_DEFENCE_OFF(r->s, XC_OFF_COLONS)) q = scan_name(q + 1);
        if (q == local || *q == ':') return stray(r, q);
    }
    *end = q;
    return OK;
}

/* The name at p. The common shape, ASCII without a colon, is read here; the verdict on all others is qualified_name's. */
INLINE verdict read_name(run *r, const uint8_t *p, const uint8_t **end, uint32_t *prefix_len) {
    const uint8_t *q = p;
    if (LIKELY(classes[*q] & C_START)) {
        do q++;
        while (classes[*q] & C_NAME);
        if (LIKELY(!(classes[*q] & (C_COLON | C_MULTI)))) return *end = q, *prefix_len = 0, OK;
    }
    return qualified_name(r, p, end, prefix_len);
}

/* XML 1.0 section 3.1: no attribute twice. Is the name of `a` one of those before it? */
static bool is_double(const xc_shared *s, const attr *a) {
    for (const attr *b = s->attrs; b < a; b++)
        if (same_name(a->key, a->name, a->name_len, b->key, b->name, b->name_len)) return true;
    return false;
}

/* The start tag at p ('<'), syntax only: namespaces come when it is whole. */
INLINE verdict start_tag(run *r, const uint8_t *p, const xc_kernels *k) {
    xc_shared *s = r->s;
    tag *t = &r->tag;
    const uint8_t *q;
    uint64_t met = 0; /* a bit for each name so far; two names may share one */
    verdict v = read_name(r, p + 1, &q, &t->prefix_len);
    if (v != OK) return v;
    t->name = p + 1;
    t->name_len = (uint32_t)(q - t->name);
    t->spaces = t->prefix_len != 0;
    attr *a = s->attrs, *most = a + s->limits.max_attributes;
    for (;; a++) {
        const uint8_t *before = q;
        if (LIKELY(*q == ' ' && classes[q[1]] & C_START)) {
            q++;
        } else {
            q = skip_white(q);
            if (*q == '>' || *q == '/') {
                t->empty = *q == '/';
                if (t->empty && *++q != '>') return stray(r, q);
                t->end = q + 1;
                t->nattrs = (uint32_t)(a - s->attrs);
                return OK;
            }
            if (q == before) return stray(r, q);
        }
        const uint8_t *name = q;
        uint32_t prefix_len;
        v = read_name(r, q, &q, &prefix_len);
        if (v != OK) return v;
        if (a == most) return q == r->end ? MORE : fail(r, XC_ERROR_POLICY_VIOLATION, name, q);
        a->start = before;
        a->name = name;
        a->prefix_len = prefix_len;
        a->name_len = (uint32_t)(q - name);
        a->key = name_key(name, a->name_len);
        t->spaces |= prefix_len || a->key == KEY5('x', 'm', 'l', 'n', 's');
        if (*q != '=') {
            if (q == r->end) return MORE;
            q = skip_white(q);
            if (*q != '=') return stray(r, q);
        }
        uint8_t quote = *++q;
        if (quote != '"' && quote != '\'') {
            q = skip_white(q);
            quote = *q;
            if (quote != '"' && quote != '\'') return stray(r, q);
        }
        a->value = ++q;
        a->decode = false;
        for (;;) {
            q = k->value(q, quote);
            if (LIKELY(*q == quote)) break;
            if (*q == '&') {
                v = check_reference(r, q, &q);
                if (v != OK) return v;
            } else if (white(*q)) {
                q++;
            } else {
                return stray(r, q); /* '<', a control character, or the end */
            }
            a->decode = true;
        }
        a->value_len = (uint32_t)(q - a->value);
        q++;
        uint64_t bit = (uint64_t)1 << ((a->key + (a->key >> 8)) & 63);
        if (met & bit && is_double(s, a)) return fail(r, XC_ERROR_NOT_WELL_FORMED, a->name, q - 1);
        met |= bit;
    }
}

/* ---- namespaces ---- */

/* The character at *p of an attribute's value, as written (coded) or decoded already; moves *p behind it. */
static uint32_t value_char(const uint8_t **p, bool coded) {
    unsigned length = 1;
    uint32_t c = **p;
    if (coded && c == '&') return reference(*p, p);
    if (coded && white((uint8_t)c)) {
        length = c == '\r' && (*p)[1] == '\n' ? 2 : 1;
        c = ' ';
    } else if (c >= 0x80) {
        c = decode_char(*p, &length);
    }
    *p += length;
    return c;
}

static bool same_value(const uint8_t *p, uint32_t n, bool p_coded, const uint8_t *q, uint32_t m, bool q_coded) {
    if (!p_coded && !q_coded) return n == m && memcmp(p, q, n) == 0;
    const uint8_t *p_end = p + n, *q_end = q + m;
    while (p < p_end && q < q_end)
        if (value_char(&p, p_coded) != value_char(&q, q_coded)) return false;
    return p == p_end && q == q_end;
}

static inline bool value_is(const attr *a, const char *text, uint32_t n) {
    if (!a->decode) return a->value_len == n && memcmp(a->value, text, n) == 0;
    return same_value(a->value, a->value_len, true, (const uint8_t *)text, n, false);
}

enum { OUTSIDE = -1, XML_PREFIX = -2, UNBOUND = -3 }; /* else: index into stack->binds */

/* Which declaration binds this prefix. *outer is the root's binding when the answer is OUTSIDE. */
static int find_prefix(run *r, const uint8_t *prefix, uint32_t len, uint32_t *outer) {
    xc_stack *st = r->x->stack;
    const xc_context *c = r->x->context;
    if (st) {
        uint64_t key = name_key(prefix, len);
        const uint8_t *base = r->buf + r->x->start;
        for (uint32_t i = st->nbinds; i-- > 0;) {
            bind *b = &st->binds[i];
            if (same_name(key, prefix, len, b->key, base + b->prefix, b->prefix_len)) return (int)i;
        }
    }
    if (c)
        for (uint32_t i = c->nbinds; i-- > 0;) {
            xc_span declared = c->binds[i].prefix;
            if (declared.len == len && (len == 0 || memcmp(c->bytes + declared.off, prefix, len) == 0)) return *outer = i, OUTSIDE;
        }
    if (len == 3 && memcmp(prefix, "xml", 3) == 0) return XML_PREFIX;
    return len == 0 ? OUTSIDE : UNBOUND;
}

/* Is this attribute a namespace declaration? The prefix declared is then name + *skip. */
static inline bool declares(const attr *a, uint32_t *skip) {
    if (a->prefix_len == 0) return *skip = 5, a->key == KEY5('x', 'm', 'l', 'n', 's');
    return *skip = 6, a->prefix_len == 5 && (a->key & 0xFFFFFFFFFF) == KEY5('x', 'm', 'l', 'n', 's');
}

static verdict check_declaration(run *r, const attr *a, uint32_t skip) {
    uint32_t len = a->name_len - skip;
    const uint8_t *prefix = a->name + skip;
    bool xml = len == 3 && memcmp(prefix, "xml", 3) == 0;
    /* Namespaces in XML 1.0 section 3 and constraint "No Prefix Undeclaring". */
    if (xml != value_is(a, XML_NS, sizeof XML_NS - 1) || value_is(a, XMLNS_NS, sizeof XMLNS_NS - 1) ||
        (len == 5 && memcmp(prefix, "xmlns", 5) == 0) || (len && a->value_len == 0))
        return fail(r, XC_ERROR_NOT_WELL_FORMED, a->name, r->tag.end - 1);
    return OK;
}

/* A number for the namespace of an attribute with a bound prefix. It is found once for each declaration: long names that differ only at
 * their ends must not be compared again for each pair of attributes. */
static uint32_t namespace_number(run *r, const attr *a) {
    const xc_context *c = r->x->context;
    if (a->bound == XML_PREFIX) return 0;
    if (a->bound == OUTSIDE) return c->binds[a->outer].uri.off; /* there, the same namespace has the same place */
    bind *binds = r->x->stack->binds, *b = &binds[a->bound];
    if (b->number) return b->number;
    const uint8_t *base = r->buf + r->x->start;
    for (uint32_t i = 0; c && i < c->nbinds; i++)
        if (same_value(base + b->uri, b->uri_len, b->decode, c->bytes + c->binds[i].uri.off, c->binds[i].uri.len, false))
            return b->number = c->binds[i].uri.off;
    bind *first = binds;
    while (first < b && !same_value(base + b->uri, b->uri_len, b->decode, base + first->uri, first->uri_len, first->decode)) first++;
    return b->number = (c ? c->size : 1) + (uint32_t)(first - binds);
}

/* Declarations, bound prefixes, and attributes that are the same only by namespace, of the whole tag in hand. */
static verdict check_namespaces(run *r) {
    xc_shared *s = r->s;
    xc_stack *st = r->x->stack;
    tag *t = &r->tag;
    const uint8_t *base = r->buf + r->x->start;
    uint32_t prefixed = 0, skip;
    for (uint32_t i = 0; i < t->nattrs; i++) {
        attr *a = &s->attrs[i];
        if (declares(a, &skip)) {
            verdict v = check_declaration(r, a, skip);
            if (v != OK) return v;
            if (st->nbinds == s->limits.max_namespaces) return fail(r, XC_ERROR_POLICY_VIOLATION, a->name, t->end - 1);
            bind *b = &st->binds[st->nbinds++];
            b->prefix = (uint32_t)(a->name + skip - base);
            b->prefix_len = skip == 5 ? 0 : a->name_len - skip;
            b->key = name_key(a->name + skip, b->prefix_len);
            b->uri = (uint32_t)(a->value - base);
            b->uri_len = a->value_len;
            b->number = 0;
            b->decode = a->decode;
        } else {
            prefixed += a->prefix_len != 0;
        }
    }
    if (t->prefix_len) {
        uint32_t outer;
        int b = find_prefix(r, t->name, t->prefix_len, &outer);
        if (b == UNBOUND) return fail(r, XC_ERROR_NOT_WELL_FORMED, t->name, t->end - 1);
        if (b == OUTSIDE) st->head.outer_prefix = true;
    }
    if (!prefixed) return OK;
    for (uint32_t i = 0; i < t->nattrs; i++) {
        attr *a = &s->attrs[i];
        if (!a->prefix_len || declares(a, &skip)) continue;
        uint32_t local = a->prefix_len + 1;
        a->bound = find_prefix(r, a->name, a->prefix_len, &a->outer);
        if (a->bound == UNBOUND) return fail(r, XC_ERROR_NOT_WELL_FORMED, a->name, t->end - 1);
        if (a->bound == OUTSIDE) st->head.outer_prefix = true;
        for (uint32_t j = 0; prefixed > 1 && j < i; j++) {
            attr *b = &s->attrs[j];
            uint32_t other = b->prefix_len + 1;
            if (!b->prefix_len || a->name_len - local != b->name_len - other ||
                memcmp(a->name + local, b->name + other, a->name_len - local) != 0 || declares(b, &skip))
                continue;
            if (namespace_number(r, a) == namespace_number(r, b)) return fail(r, XC_ERROR_NOT_WELL_FORMED, a->name, t->end - 1);
        }
    }
    return OK;
}

/* ---- headers ---- */

static inline xc_span span_of(const uint8_t *base, const uint8_t *p, uint32_t n) { return (xc_span){(uint32_t)(p - base), n}; }

/* The namespace that `prefix` means here, as a span. */
static xc_span namespace_of(run *r, const uint8_t *prefix, uint32_t len, uint8_t *in, bool *coded) {
    uint32_t outer = UINT32_MAX;
    int b = find_prefix(r, prefix, len, &outer);
    *coded = false;
    if (b >= 0) {
        bind *d = &r->x->stack->binds[b];
        *coded = d->decode;
        *in = d->uri_len ? XC_IN_RAW : XC_IN_NONE;
        return (xc_span){d->uri, d->uri_len};
    }
    if (b == OUTSIDE && outer != UINT32_MAX && r->x->context->binds[outer].uri.len)
        return *in = XC_IN_CONTEXT, r->x->context->binds[outer].uri;
    *in = b == XML_PREFIX ? XC_IN_XML : XC_IN_NONE;
    return (xc_span){0, 0};
}

static void read_head(run *r, const uint8_t *base) {
    tag *t = &r->tag;
    xc_head *h = &r->x->stack->head;
    bool outer = h->outer_prefix;
    memset(h, 0, sizeof *h);
    h->outer_prefix = outer;
    uint32_t skip = t->prefix_len ? t->prefix_len + 1 : 0;
    bool coded;
    h->name = span_of(base, t->name + skip, t->name_len - skip);
    h->name_end = (uint32_t)(t->name + t->name_len - base);
    h->prefixed = t->prefix_len != 0;
    h->ns = namespace_of(r, t->name, t->prefix_len, &h->ns_in, &coded);
    if (coded) h->decode |= XC_NS;
    for (attr *a = r->s->attrs, *end = a + t->nattrs; a < end; a++) {
        xc_span value = span_of(base, a->value, a->value_len);
        switch (a->key) {
        case KEY2('t', 'o'):
            h->to = value;
            h->decode |= a->decode ? XC_TO : 0;
            break;
        case KEY2('i', 'd'):
            h->id = value;
            h->decode |= a->decode ? XC_ID : 0;
            break;
        case KEY4('f', 'r', 'o', 'm'):
            h->from = value;
            h->from_start = (uint32_t)(a->start - base);
            h->decode |= a->decode ? XC_FROM : 0;
            break;
        case KEY4('t', 'y', 'p', 'e'):
            h->type = value;
            h->decode |= a->decode ? XC_TYPE : 0;
            break;
        case KEY5('x', 'm', 'l', 'n', 's'): h->inner_ns = true; break;
        case KEY7('v', 'e', 'r', 's', 'i', 'o', 'n'):
            h->version = value;
            h->decode |= a->decode ? XC_VERSION : 0;
            break;
        case KEY8('x', 'm', 'l', ':', 'l', 'a', 'n', 'g'):
            if (a->name_len > 8) break;
            h->lang = value;
            h->decode |= a->decode ? XC_LANG : 0;
            break;
        }
    }
}

static void read_payload(run *r, const uint8_t *base) {
    tag *t = &r->tag;
    xc_head *h = &r->x->stack->head;
    if (h->children < UINT16_MAX) h->children++;
    uint32_t skip = t->prefix_len ? t->prefix_len + 1 : 0;
    if (t->name_len - skip == 9 && memcmp(t->name + skip, "stanza-id", 9) == 0) h->stanza_id = true;
    if (h->children > 1) return;
    bool coded;
    h->payload = span_of(base, t->name + skip, t->name_len - skip);
    h->payload_ns = namespace_of(r, t->name, t->prefix_len, &h->payload_ns_in, &coded);
    if (coded) h->decode |= XC_PAYLOAD_NS;
}

/* The root's start tag becomes the stream's context. */
static xc_context *read_context(run *r) {
    tag *t = &r->tag;
    xc_stack *st = r->x->stack;
    const uint8_t *base = r->buf + r->x->start;
    uint32_t size = 1 + t->name_len + st->head.lang.len;
    for (uint32_t i = 0; i < st->nbinds; i++) size += st->binds[i].prefix_len + st->binds[i].uri_len;
    xc_context *c = context_alloc(st->nbinds, size);
    if (!c) return NULL;
    c->nbinds = st->nbinds;
    c->name = context_put(c, t->name, t->name_len, false);
    c->lang = context_put(c, base + st->head.lang.off, st->head.lang.len, st->head.decode & XC_LANG);
    for (uint32_t i = 0; i < st->nbinds; i++) {
        bind *b = &st->binds[i];
        c->binds[i].prefix = context_put(c, base + b->prefix, b->prefix_len, false);
        xc_span uri = context_put(c, base + b->uri, b->uri_len, b->decode);
        for (uint32_t j = 0; j < i; j++) /* the same namespace, the same place */
            if (c->binds[j].uri.len == uri.len && memcmp(c->bytes + c->binds[j].uri.off, c->bytes + uri.off, uri.len) == 0)
                uri = c->binds[j].uri;
        c->binds[i].uri = uri;
    }
    return c;
}

/* ---- the search for a token's end ---- */

/* Has the end of the unfinished token at p come, or a byte that cannot be in it? Goes on where it stopped. */
static bool end_has_come(xc_xml *x, const xc_kernels *k, const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = p + (x->seen ? x->seen : 1);
    if (*p == '&') {
        for (; q < end; q++)
            if (!(classes[*q] & (C_NAME | C_MULTI)) && *q != '#') return true;
    } else if (p[1] == '?') { /* the XML declaration */
        for (; q < end; q++)
            if (*q == '>' || *q == '<') return true;
    } else {
        while (q < end) {
            if (x->quote) { /* values are most of a tag */
                while ((q = k->value(q, x->quote)) < end && *q != x->quote && *q != '<') q++;
                if (q == end) break;
                if (*q == '<') return true;
                x->quote = 0;
            } else if (*q == '>' || *q == '<') {
                return true;
            } else if (*q == '"' || *q == '\'') {
                x->quote = *q;
            }
            q++;
        }
    }
    x->seen = (uint32_t)(end - p);
    return false;
}

/* ---- the machine ---- */

/* Does `text` stand at p? OK, FAIL (no), or MORE (its beginning does, then the input ends). Moves *last on to the byte that decided. */
static verdict literal(run *r, const uint8_t *p, const char *text, const uint8_t **last) {
    for (; *text; p++, text++) {
        if (*last < p) *last = p;
        if (*p != (uint8_t)*text) return p == r->end ? MORE : FAIL;
    }
    return OK;
}

/* '<!' or '<?' at p, outside the XML declaration: CDATA (OK), or what RFC 6120 section 11.1 forbids. */
static verdict special(run *r, const uint8_t *p) {
    const uint8_t *last = p;
    if (p[1] == '!') {
        verdict cdata = literal(r, p + 2, "[CDATA[", &last);
        if (cdata != FAIL && r->x->depth) return cdata;
        verdict v = literal(r, p + 2, "--", &last);
        if (v == FAIL) v = literal(r, p + 2, "DOCTYPE", &last);
        if (v == FAIL) return fail(r, XC_ERROR_NOT_WELL_FORMED, p, last);
        if (v == OK) return fail(r, XC_ERROR_RESTRICTED_XML, p, last);
        return MORE;
    }
    const uint8_t *q = scan_name(p + 2);
    if (q == p + 2) return stray(r, q);
    if (q == r->end) return MORE;
    /* a name that is "xml" in any case is reserved: a declaration in the wrong place */
    bool xml = q == p + 5 && (p[2] | 0x20) == 'x' && (p[3] | 0x20) == 'm' && (p[4] | 0x20) == 'l';
    return fail(r, xml ? XC_ERROR_NOT_WELL_FORMED : XC_ERROR_RESTRICTED_XML, p, q);
}

#ifdef XC_DEBUG
/* Behind what `special` would refuse at p, if it is whole and that defence is off; else NULL. */
static const uint8_t *skip_special(run *r, const uint8_t *p) {
    static const struct {
        const char *start, *end;
        enum xc_defence defence;
    } kinds[] = {{"<!DOCTYPE", "]>", XC_OFF_DTD}, {"<!--", "-->", XC_OFF_COMMENT}, {"<?", "?>", XC_OFF_INSTRUCTION}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!XC_DEFENCE_OFF(r->s, kinds[i].defence) || strncmp((const char *)p, kinds[i].start, strlen(kinds[i].start)) != 0) continue;
        const char *end = strstr((const char *)p, kinds[i].end); /* a zero byte stands behind the input */
        if (end) return (const uint8_t *)end + strlen(kinds[i].end);
    }
    return NULL;
}
#endif

/* "'value'" behind white space, '=' and white space. */
static verdict pseudo_value(run *r, const uint8_t **p, const uint8_t **value, size_t *len) {
    const uint8_t *q = skip_white(*p);
    if (*q != '=') return stray(r, q);
    q = skip_white(q + 1);
    uint8_t quote = *q;
    if (quote != '"' && quote != '\'') return stray(r, q);
    *value = ++q;
    while (*q > ' ' && *q < 0x7F && *q != quote && *q != '<' && *q != '>') q++;
    if (*q != quote) return stray(r, q);
    *len = (size_t)(q - *value);
    *p = q + 1;
    return OK;
}

static bool equal_nocase(const uint8_t *p, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((p[i] | 0x20) != (uint8_t)text[i] && p[i] != (uint8_t)text[i]) return false;
    return true;
}

/* The XML declaration at p; *next is behind it. RFC 6120 section 11.6: UTF-8 only. */
static verdict declaration(run *r, const uint8_t *p, const uint8_t **next) {
    static const char *const names[] = {"version", "encoding", "standalone"};
    const uint8_t *q = p + 5, *value = q, *last = p;
    size_t len = 0;
    int done = 0;
    for (;;) {
        const uint8_t *before = q;
        q = skip_white(q);
        if (*q == '?') {
            if (done == 0) return fail(r, XC_ERROR_NOT_WELL_FORMED, q, q);
            if (q[1] != '>') return stray(r, q + 1);
            *next = q + 2;
            return OK;
        }
        if (q == before || done == 3) return stray(r, q);
        int which = done;
        verdict v = literal(r, q, names[which], &last);
        if (which == 1 && v == FAIL) v = literal(r, q, names[which = 2], &last);
        if (v == MORE) return MORE;
        if (v == FAIL) return fail(r, XC_ERROR_NOT_WELL_FORMED, q, last);
        q += strlen(names[which]);
        v = pseudo_value(r, &q, &value, &len);
        if (v != OK) return v;
        bool good = which == 0   ? len > 2 && memcmp(value, "1.", 2) == 0
                    : which == 1 ? len > 0
                                 : (len == 3 && memcmp(value, "yes", 3) == 0) || (len == 2 && memcmp(value, "no", 2) == 0);
        if (which == 0)
            for (size_t i = 2; i < len; i++) good = good && value[i] >= '0' && value[i] <= '9';
        if (!good) return fail(r, XC_ERROR_NOT_WELL_FORMED, value, q - 1);
        if (which == 1 && !(len == 5 && equal_nocase(value, "utf-8", 5)) && !XC_DEFENCE_OFF(r->s, XC_OFF_ENCODING))
            return fail(r, XC_ERROR_UNSUPPORTED_ENCODING, value, q - 1);
        done = which + 1;
    }
}

/* The start tag at p, whole or not. On OK the element is open (or, if empty, was open and closed: depth is unchanged). */
INLINE verdict open_element(run *r, const uint8_t *p, const xc_kernels *k) {
    xc_xml *x = r->x;
    const xc_limits *limits = &r->s->limits;
    verdict v = start_tag(r, p, k);
    if (v != OK) return v;
    tag *t = &r->tag;
    v = check_length(r, p, t->end);
    if (v != OK) return v;
    if (x->depth == limits->max_depth) return fail(r, XC_ERROR_POLICY_VIOLATION, p, t->end - 1);
    if (x->depth < 2) {
        if (!x->stack && !(x->stack = stack_take(r->s))) return fail(r, XC_ERROR_NO_MEMORY, p, p);
        x->start = (uint32_t)(p - r->buf);
        x->stack->nbinds = 0;
        x->stack->head.outer_prefix = false;
    }
    xc_stack *st = x->stack;
    const uint8_t *base = r->buf + x->start;
    uint32_t outside = st->nbinds;
    if (t->spaces) {
        v = check_namespaces(r);
        if (v != OK) return v;
    }
    if (x->depth < 2)
        read_head(r, base);
    else if (x->depth == 2)
        read_payload(r, base);
    if (t->empty) {
        if (x->depth) st->nbinds = outside;
        return OK;
    }
    st->frames[x->depth] = (frame){name_key(t->name, t->name_len), (uint32_t)(t->name - base), t->name_len, outside};
    x->depth++;
    return OK;
}

/* The end tag at p ('</'), of any shape; *next is behind it. */
static verdict end_tag(run *r, const uint8_t *p, const uint8_t *name, uint32_t len, const uint8_t **next) {
    const uint8_t *q = p + 2, *end;
    uint32_t prefix_len;
    verdict v = qualified_name(r, q, &end, &prefix_len);
    if (v != OK) return v;
    if (end == r->end) return MORE;
    if ((size_t)(end - q) != len || memcmp(q, name, len) != 0) return fail(r, XC_ERROR_NOT_WELL_FORMED, q, end);
    end = skip_white(end);
    if (*end != '>') return stray(r, end);
    *next = end + 1;
    return OK;
}

/* The end tag at p, which must close the innermost element. */
INLINE verdict close_element(run *r, const uint8_t *p, const uint8_t **next) {
    xc_xml *x = r->x;
    verdict v = OK;
    if (LIKELY(x->depth > 1)) {
        const frame *f = &x->stack->frames[x->depth - 1];
        const uint8_t *q = p + 2, *name = r->buf + x->start + f->name;
        uint32_t len = f->name_len;
        if (LIKELY((size_t)(r->end - q) > len && q[len] == '>' && same_name(name_key(q, len), q, len, f->key, name, len)))
            *next = q + len + 1; /* the common shape */
        else
            v = end_tag(r, p, name, len, next);
    } else {
        v = end_tag(r, p, x->context->bytes + x->context->name.off, x->context->name.len, next);
    }
    if (v == OK) v = check_length(r, p, *next);
    if (v != OK) return v;
    x->depth--;
    if (x->depth) x->stack->nbinds = x->stack->frames[x->depth].nbinds;
    return OK;
}

enum { GO_ON = XC_ERROR + 1 };

/* The CDATA section that p is in; *next is behind it, or where to go on when there is more. */
static verdict cdata(run *r, const uint8_t *p, const uint8_t **next) {
    for (;; p++) {
        while (*p >= 0x20 && *p != ']') p++;
        *next = p;
        if (*p == ']') {
            if (p[1] == ']' && p[2] == '>') break;
            if (p + 1 == r->end || (p[1] == ']' && p + 2 == r->end)) return MORE;
        } else if (!white(*p)) {
            return stray(r, p);
        }
    }
    *next = p + 3;
    r->x->cdata = false;
    return OK;
}

/* The stanza that ends in front of p. */
INLINE int stanza(run *r, const uint8_t *p, size_t *at) {
    xc_xml *x = r->x;
    size_t size = (size_t)(p - (r->buf + x->start)), most = r->s->limits.max_stanza_bytes;
    if (size > most) {
        const uint8_t *cut = r->buf + x->start + most;
        return fail(r, XC_ERROR_POLICY_VIOLATION, cut, cut), XC_ERROR;
    }
    *r->head = x->stack->head;
    r->head->size = (uint32_t)size;
    *at = x->start;
    stack_give(r->s, x->stack);
    x->stack = NULL;
    return XC_STANZA;
}

/* A start tag that completes an event: the root, or an empty stanza. */
INLINE int opened(run *r, size_t *at) {
    xc_xml *x = r->x;
    if (x->state != BODY) { /* the root */
        if (!(x->context = read_context(r))) return fail(r, XC_ERROR_NO_MEMORY, r->tag.end, r->tag.end), XC_ERROR;
        x->state = r->tag.empty ? CLOSING : BODY;
    } else if (!(r->tag.empty && x->depth == 1)) {
        return GO_ON;
    }
    return stanza(r, r->tag.end, at);
}

/* Up to the next event, with the kernels k, which the compiler puts in place. Leaves x->pos at the next (or unfinished) token. */
INLINE int body_with(run *r, size_t *at, const xc_kernels *k) {
    xc_xml *x = r->x;
    const xc_limits *limits = &r->s->limits;
    const uint8_t *p = r->buf + x->pos, *next;
    verdict v;
    int e;
    if (x->seen && !x->final) {
        if (!end_has_come(x, r->s->k, p, r->end)) return XC_NEED_DATA;
    }
    x->seen = 0;
    x->quote = 0;
    if (x->cdata) goto cdata;
    for (;;) {
        if (*p != '<') {
            if (x->depth < 2) {
                p = skip_white(p);
                if (*p != '<' && p != r->end && !(x->depth == 1 && limits->text_between) && !XC_DEFENCE_OFF(r->s, XC_OFF_OUTSIDE)) {
                    fail(r, x->depth == 1 && *p >= 0x20 ? XC_ERROR_BAD_FORMAT : XC_ERROR_NOT_WELL_FORMED, p, p);
                    goto failed;
                }
            }
            p = k->text(p);
        }
        switch (*p) {
        case '<':
            if (p[1] == '/' && x->depth) {
                v = close_element(r, p, &next);
                if (v != OK) goto token;
                p = next;
                if (x->depth < 2) {
                    if (x->depth == 1) {
                        e = stanza(r, p, at);
                        if (e == XC_ERROR) goto failed;
                    } else {
                        x->state = EPILOG;
                        e = XC_CLOSE;
                    }
                    x->pos = (uint32_t)(p - r->buf);
                    return e;
                }
                break;
            }
            if (p[1] == '!' || p[1] == '?') {
#ifdef XC_DEBUG
                if ((next = skip_special(r, p))) {
                    p = next;
                    break;
                }
#endif
                v = special(r, p);
                if (v != OK) goto token;
                if (x->depth == 1 && !limits->text_between) {
                    fail(r, XC_ERROR_BAD_FORMAT, p, p + 8);
                    goto failed;
                }
                x->cdata = true;
                p += 9;
            cdata:
                v = cdata(r, p, &p);
                if (v == FAIL) goto failed;
                if (v == MORE) goto need;
                break;
            }
            if (x->state == EPILOG) {
                v = stray(r, p + 1);
                goto token;
            }
            v = open_element(r, p, k);
            if (v != OK) goto token;
            e = opened(r, at);
            p = r->tag.end;
            if (e == XC_ERROR) goto failed;
            if (e == XC_STANZA) {
                x->pos = (uint32_t)(p - r->buf);
                return e;
            }
            break;
        case '&':
            v = check_reference(r, p, &next);
            if (v == OK) v = check_length(r, p, next);
            if (v != OK) goto token;
            p = next;
            break;
        case ']':
            if (p[1] == ']' && p[2] == '>') { /* XML 1.0 section 2.4 */
                fail(r, XC_ERROR_NOT_WELL_FORMED, p, p + 2);
                goto failed;
            }
            if (p + 1 == r->end || (p[1] == ']' && p + 2 == r->end)) goto need;
            p++;
            break;
        default:
            if (p == r->end) goto need;
            if (XC_DEFENCE_OFF(r->s, XC_OFF_CONTROL)) {
                p++;
                break;
            }
            fail(r, XC_ERROR_NOT_WELL_FORMED, p, p);
            goto failed;
        }
        continue;
    token:
        if (v == FAIL) goto failed;
        x->pos = (uint32_t)(p - r->buf);
        if (!x->final && (*p == '&' || (p + 1 < r->end && p[1] != '!'))) end_has_come(x, r->s->k, p, r->end);
        return XC_NEED_DATA;
    }
need:
    x->pos = (uint32_t)(p - r->buf);
    return XC_NEED_DATA;
failed:
    x->pos = (uint32_t)(p - r->buf);
    return XC_ERROR;
}

static int body_scalar(run *r, size_t *at) { return body_with(r, at, &xc_kernels_scalar); }
#ifdef XC_HAS_SSE2
static int body_sse2(run *r, size_t *at) { return body_with(r, at, &xc_kernels_sse2); }
#endif
#ifdef XC_HAS_AVX2
XC_AVX2 static int body_avx2(run *r, size_t *at) { return body_with(r, at, &xc_kernels_avx2); }
#endif
#ifdef XC_HAS_NEON
static int body_neon(run *r, size_t *at) { return body_with(r, at, &xc_kernels_neon); }
#endif

/* The machine made for the kernels of this name. */
static int (*body_of(const char *name))(run *, size_t *) {
#ifdef XC_HAS_SSE2
    if (strcmp(name, "sse2") == 0) return body_sse2;
#endif
#ifdef XC_HAS_AVX2
    if (strcmp(name, "avx2") == 0) return body_avx2;
#endif
#ifdef XC_HAS_NEON
    if (strcmp(name, "neon") == 0) return body_neon;
#endif
    return body_scalar;
}

/* The start of the stream: byte order mark, XML declaration. */
static int prolog(run *r) {
    xc_xml *x = r->x;
    const uint8_t *p = r->buf + x->pos, *last = p;
    if (*p == 0xEF) { /* whole, since UTF-8 was checked */
        if (x->base + x->pos == 0 && p[1] == 0xBB && p[2] == 0xBF) {
            x->pos += 3;
            p += 3;
        }
    }
    if (p == r->end) return XC_NEED_DATA;
    verdict v = literal(r, p, "<?xml", &last);
    if (v == OK) v = white(p[5]) ? OK : p + 5 == r->end ? MORE : FAIL;
    if (v == MORE) return XC_NEED_DATA;
    if (v == OK) {
        const uint8_t *next;
        if (x->seen && !x->final && !end_has_come(x, r->s->k, p, r->end)) return XC_NEED_DATA;
        x->seen = 0;
        v = declaration(r, p, &next);
        if (v == MORE) {
            if (!x->final) end_has_come(x, r->s->k, p, r->end);
            return XC_NEED_DATA;
        }
        if (v == OK) v = check_length(r, p, next);
        if (v == FAIL) return XC_ERROR;
        x->pos = (uint32_t)(next - r->buf);
    }
    x->state = PROLOG;
    return GO_ON;
}

static int step(run *r, size_t *at) {
    if (r->x->state == START) {
        int e = prolog(r);
        if (e != GO_ON) return e;
    }
    if (r->x->state == CLOSING) {
        r->x->state = EPILOG;
        return XC_CLOSE;
    }
    bool root = r->x->state == PROLOG;
    int e = r->s->body(r, at);
    return e == XC_STANZA && root ? XC_OPEN : e;
}

/* The limit that applies at the parser's position, if the input [0, len) goes beyond it: its offset, else SIZE_MAX. */
static size_t limit_passed(const xc_xml *x, const xc_limits *limits, const uint8_t *buf, size_t len) {
    size_t cut = SIZE_MAX;
    bool token = x->pos < len && (buf[x->pos] == '<' || buf[x->pos] == '&') && !x->cdata;
    if (token && len - x->pos > limits->max_tag_bytes) cut = (size_t)x->pos + limits->max_tag_bytes;
    if (x->stack && len - x->start > limits->max_stanza_bytes && x->start + (size_t)limits->max_stanza_bytes < cut)
        cut = x->start + (size_t)limits->max_stanza_bytes;
    return cut;
}

static xc_event die(xc_xml *x, xc_shared *s, xc_error e, size_t off) {
    x->state = DEAD;
    x->error = (uint8_t)e;
    x->error_at = x->base + off;
    if (x->stack) stack_give(s, x->stack);
    x->stack = NULL;
    x->pos = (uint32_t)off;
    return XC_ERROR;
}

xc_event xc_xml_next(xc_xml *x, xc_shared *s, uint8_t *buf, size_t len, xc_head *head, size_t *at) {
    if (x->state == DEAD) return XC_ERROR;
    size_t limit = x->checked;
    if (XC_DEFENCE_OFF(s, XC_OFF_UTF8)) limit = len;
    if (limit < len && !x->bad_utf8) limit += s->k->utf8(buf + limit, len - limit, &x->bad_utf8);
    x->checked = (uint32_t)limit;
    run r = {.x = x, .s = s, .buf = buf, .end = buf + limit, .head = head};
    uint8_t saved = buf[limit];
    buf[limit] = 0;
    int e = step(&r, at);
    buf[limit] = saved;
    if (e == XC_NEED_DATA) {
        xc_error cause = XC_ERROR_POLICY_VIOLATION;
        size_t cut = limit_passed(x, &s->limits, buf, limit);
        if (cut == SIZE_MAX && x->bad_utf8) cut = limit, cause = XC_ERROR_UNSUPPORTED_ENCODING;
        if (cut == SIZE_MAX) return XC_NEED_DATA;
        if (cut > x->pos) { /* an error before the cut-off comes first */
            size_t whole = cut;
            while (whole < limit && (buf[whole] & 0xC0) == 0x80) whole--; /* characters are not cut */
            r.end = buf + whole;
            saved = buf[whole];
            buf[whole] = 0;
            x->final = true;
            e = step(&r, at);
            buf[whole] = saved;
        }
        if (e != XC_ERROR) return die(x, s, cause, cut);
    }
    if (e == XC_ERROR) {
        size_t off = (size_t)(r.off - buf), known = (size_t)(r.known - buf);
        while (known + 1 < limit && (buf[known + 1] & 0xC0) == 0x80) known++; /* a character is seen when it is whole */
        size_t cut = limit_passed(x, &s->limits, buf, known + 1);
        return cut <= known ? die(x, s, XC_ERROR_POLICY_VIOLATION, cut) : die(x, s, r.error, off);
    }
    return (xc_event)e;
}

void xc_xml_init(xc_xml *x) { *x = (xc_xml){.state = START}; }

void xc_xml_enter(xc_xml *x, xc_context *context) { *x = (xc_xml){.state = BODY, .depth = 1, .context = xc_context_keep(context)}; }

void xc_xml_free(xc_xml *x, xc_shared *s) {
    if (x->stack) stack_give(s, x->stack);
    x->stack = NULL;
    xc_context_release(x->context);
    x->context = NULL;
}

void xc_xml_shift(xc_xml *x, size_t n) {
    x->base += n;
    x->pos -= (uint32_t)n;
    x->start -= x->stack ? (uint32_t)n : 0;
    x->checked -= (uint32_t)n;
}

/* ---- walking over checked bytes ---- */

/* Eight bytes at a time, since behind the bytes there may be nothing to read. In what these give, the lowest bit is that of the first
 * byte found, which is all that counts. */
#define EACH(byte) (0x0101010101010101u * (byte))

static inline uint64_t load8(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline uint64_t bytes_equal(uint64_t word, uint8_t byte) {
    word ^= EACH((uint64_t)byte);
    return (word - EACH(1)) & ~word & EACH(0x80);
}

static inline uint64_t bytes_below(uint64_t word, uint8_t byte) { return (word - EACH((uint64_t)byte)) & ~word & EACH(0x80); }

/* The value at p up to its quote. */
static inline const uint8_t *walk_value(const uint8_t *p, const uint8_t *end, uint8_t quote, xc_attr *a) {
    uint64_t care = 0, high = 0;
    a->value = p;
    for (; end - p >= 8; p += 8) {
        uint64_t word = load8(p), stop = bytes_equal(word, quote), before = (stop & -stop) - 1; /* all ones if there is none */
        care |= (bytes_equal(word, '&') | bytes_below(word, ' ')) & before;
        high |= word & before;
        if (stop) {
            p += __builtin_ctzll(stop) / 8;
            goto done;
        }
    }
    for (; *p != quote; p++) {
        care |= *p == '&' || *p < ' ';
        high |= *p;
    }
done:
    a->value_len = (uint32_t)(p - a->value);
    a->decode = care;
    a->ascii = !(high & EACH(0x80));
    return p;
}

static const uint8_t *walk_name(const uint8_t *p, uint32_t *prefix_len) {
    const uint8_t *q = p;
    *prefix_len = 0;
    for (;; q++) {
        while (classes[*q] & (C_NAME | C_MULTI)) q++;
        if (*q != ':') return q;
        *prefix_len = (uint32_t)(q - p);
    }
}

static xc_token walk_tag(xc_walk *w, const uint8_t *p) {
    const uint8_t *q;
    xc_attr *a = w->attrs;
    w->text = ++p;
    q = walk_name(p, &w->prefix_len);
    w->text_len = (size_t)(q - p);
    for (;; a++) {
        q = skip_white(q);
        if (*q == '>' || *q == '/') break;
        a->name = q;
        q = walk_name(q, &a->prefix_len);
        a->name_len = (uint32_t)(q - a->name);
        q = skip_white(skip_white(q) + 1); /* '=' */
        q = walk_value(q + 1, w->end, *q, a) + 1;
    }
    w->nattrs = (uint32_t)(a - w->attrs);
    if (*q == '>') return w->p = q + 1, XC_T_START;
    return w->p = q + 2, XC_T_EMPTY;
}

/* The text [p, p + n): what it is made of. */
static void walk_text(xc_walk *w, const uint8_t *p, size_t n) {
    uint64_t care = 0, high = 0;
    w->text = p;
    w->text_len = n;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word = load8(p);
        care |= bytes_equal(word, '&') | bytes_equal(word, '\r');
        high |= word;
    }
    for (; n; p++, n--) {
        care |= *p == '&' || *p == '\r';
        high |= *p;
    }
    w->decode = care;
    w->ascii = !(high & EACH(0x80));
}

xc_token xc_walk_next(xc_walk *w) {
    const uint8_t *p = w->p, *q;
    if (p == w->end) return XC_T_END_OF_INPUT;
    if (*p != '<') {
        q = memchr(p, '<', (size_t)(w->end - p));
        if (!q) q = w->end;
        walk_text(w, p, (size_t)(q - p));
        w->p = q;
        return XC_T_TEXT;
    }
    if (p[1] == '/') {
        q = memchr(p, '>', (size_t)(w->end - p));
        w->p = q + 1;
        return XC_T_END;
    }
    if (p[1] == '!') { /* "<![CDATA[" */
        for (q = p += 9; q[0] != ']' || q[1] != ']' || q[2] != '>'; q++) {
        }
        walk_text(w, p, (size_t)(q - p));
        w->p = q + 3;
        return XC_T_CDATA;
    }
    return walk_tag(w, p);
}

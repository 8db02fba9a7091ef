/* SPDX-License-Identifier: Apache-2.0 */
#include "xml_parts.h"

#include <stdlib.h>

#include "scan_all.h"

static int (*body_of(const char *name))(run *, size_t *);

/* ---- shared memory ---- */

xc_shared *xc_shared_new(const xc_kernels *kernels, const xc_limits *limits) {
    xc_shared *s = malloc(sizeof *s + limits->max_attributes * sizeof(attr));
    if (!s) return NULL;
    s->k = kernels;
    s->body = body_of(kernels->name);
    s->limits = *limits;
    if (limits->max_tag_bytes > limits->max_stanza_bytes) s->limits.max_tag_bytes = limits->max_stanza_bytes;
    s->pool = NULL;
    s->last = NULL;
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
    xc_context_release(s->last);
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

/* ---- names ---- */

/* XML 1.0 fifth edition, productions 4 and 4a, above ASCII. */
static bool name_start(uint32_t c) {
    return (c >= 0xC0 && c <= 0x2FF && c != 0xD7 && c != 0xF7) || (c >= 0x370 && c <= 0x1FFF && c != 0x37E) || c == 0x200C || c == 0x200D ||
           (c >= 0x2070 && c <= 0x218F) || (c >= 0x2C00 && c <= 0x2FEF) || (c >= 0x3001 && c <= 0xD7FF) || (c >= 0xF900 && c <= 0xFDCF) ||
           (c >= 0xFDF0 && c <= 0xFFFD) || (c >= 0x10000 && c <= 0xEFFFF);
}

static bool name_char(uint32_t c) { return name_start(c) || c == 0xB7 || (c >= 0x300 && c <= 0x36F) || c == 0x203F || c == 0x2040; }

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
        v = xc_tag_check_names(r);
        if (v != OK) return v;
    }
    if (x->depth < 2)
        xc_tag_read_head(r, base);
    else if (x->depth == 2)
        xc_tag_read_payload(r, base);
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
        if (!(x->context = xc_tag_read_context(r))) return fail(r, XC_ERROR_NO_MEMORY, r->tag.end, r->tag.end), XC_ERROR;
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

/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces of a tag in hand, the header it makes, and what a root declares for its stanzas. */
#include "xml_parts.h"

#include <stdlib.h>

static const char XML_NS[] = "http://www.w3.org/XML/1998/namespace";
static const char XMLNS_NS[] = "http://www.w3.org/2000/xmlns/";

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
    xc_span span = {c->size, coded ? (uint32_t)xc_decode_value(p, n, to) : n};
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

static bool same_context(const xc_context *a, const xc_context *b) {
    return b && a->size == b->size && a->nbinds == b->nbinds && memcmp(&a->lang, &b->lang, sizeof a->lang) == 0 &&
           memcmp(&a->name, &b->name, sizeof a->name) == 0 && memcmp(a->binds, b->binds, a->nbinds * sizeof a->binds[0]) == 0 &&
           memcmp(a->bytes + 1, b->bytes + 1, a->size - 1) == 0;
}

/* ---- namespaces ---- */

/* The character at *p of an attribute's value, as written (coded) or decoded already; moves *p behind it. */
static uint32_t value_char(const uint8_t **p, bool coded) {
    unsigned length = 1;
    uint32_t c = **p;
    if (coded && c == '&') return xc_reference(*p, p);
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
static int find_prefix(const run *r, const uint8_t *prefix, uint32_t len, uint32_t *outer) {
    const xc_stack *st = r->x->stack;
    const xc_context *c = r->x->context;
    uint64_t key = name_key(prefix, len);
    const uint8_t *base = r->buf + r->x->start;
    for (uint32_t i = st->nbinds; i-- > 0;) {
        const bind *b = &st->binds[i];
        if (same_name(key, prefix, len, b->key, base + b->prefix, b->prefix_len)) return (int)i;
    }
    for (uint32_t i = c ? c->nbinds : 0; i-- > 0;) {
        xc_span declared = c->binds[i].prefix;
        if (declared.len == len && memcmp(c->bytes + declared.off, prefix, len) == 0) return *outer = i, OUTSIDE;
    }
    if (len == 3 && memcmp(prefix, "xml", 3) == 0) return XML_PREFIX;
    return UNBOUND;
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

verdict xc_tag_check_names(run *r) {
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

/* find_prefix() of no prefix, the common one. */
static inline int find_default(const run *r, uint32_t *outer) {
    const xc_stack *st = r->x->stack;
    const xc_context *c = r->x->context;
    for (uint32_t i = st->nbinds; i-- > 0;)
        if (st->binds[i].prefix_len == 0) return (int)i;
    for (uint32_t i = c ? c->nbinds : 0; i-- > 0;)
        if (c->binds[i].prefix.len == 0) return *outer = i, OUTSIDE;
    return OUTSIDE;
}

/* The namespace that `prefix` means here, as a span. */
static xc_span namespace_of(run *r, const uint8_t *prefix, uint32_t len, uint8_t *in, bool *coded) {
    uint32_t outer = UINT32_MAX;
    int b = len ? find_prefix(r, prefix, len, &outer) : find_default(r, &outer);
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

void xc_tag_read_head(run *r, const uint8_t *base) {
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

void xc_tag_read_payload(run *r, const uint8_t *base) {
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

xc_context *xc_tag_read_context(run *r) {
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
    if (same_context(c, r->s->last)) {
        xc_context_release(c);
    } else {
        xc_context_release(r->s->last);
        r->s->last = c;
    }
    return xc_context_keep(r->s->last);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* XML on the other side of the codec: a checking scanner of whole documents, and a writer. The scanner of streams (xml.c) is another: that
 * one refuses what documents may have, and hands out headers, not events. */
#include "exi.h"

#include "scan_all.h"

static uint32_t character(const uint8_t *p, size_t n, unsigned *length) { /* of valid UTF-8 */
    uint32_t c = p[0];
    *length = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (*length > n) *length = (unsigned)n;
    if (c < 0x80) return c;
    c &= 0x7Fu >> *length;
    for (unsigned i = 1; i < *length; i++) c = c << 6 | (p[i] & 0x3Fu);
    return c;
}

static bool name_start(uint32_t c) { /* XML 1.0, fifth edition, section 2.3; no colon */
    if (c < 0x80) return (c | 0x20u) - 'a' < 26u || c == '_';
    return (c >= 0xC0 && c <= 0x2FF && c != 0xD7 && c != 0xF7) || (c >= 0x370 && c <= 0x1FFF && c != 0x37E) || c == 0x200C || c == 0x200D ||
           (c >= 0x2070 && c <= 0x218F) || (c >= 0x2C00 && c <= 0x2FEF) || (c >= 0x3001 && c <= 0xD7FF) || (c >= 0xF900 && c <= 0xFDCF) ||
           (c >= 0xFDF0 && c <= 0xFFFD) || (c >= 0x10000 && c <= 0xEFFFF);
}
static bool name_char(uint32_t c) {
    return name_start(c) || c - '0' < 10u || c == '-' || c == '.' || c == 0xB7 || (c >= 0x300 && c <= 0x36F) || c == 0x203F || c == 0x2040;
}

static const uint8_t ascii_name[256] = {
    /* 2: may start a name, 1: may stand in one */
    ['-'] = 1, ['.'] = 1, ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1, ['8'] = 1,
    ['9'] = 1, ['_'] = 2, ['A'] = 2, ['B'] = 2, ['C'] = 2, ['D'] = 2, ['E'] = 2, ['F'] = 2, ['G'] = 2, ['H'] = 2, ['I'] = 2,
    ['J'] = 2, ['K'] = 2, ['L'] = 2, ['M'] = 2, ['N'] = 2, ['O'] = 2, ['P'] = 2, ['Q'] = 2, ['R'] = 2, ['S'] = 2, ['T'] = 2,
    ['U'] = 2, ['V'] = 2, ['W'] = 2, ['X'] = 2, ['Y'] = 2, ['Z'] = 2, ['a'] = 2, ['b'] = 2, ['c'] = 2, ['d'] = 2, ['e'] = 2,
    ['f'] = 2, ['g'] = 2, ['h'] = 2, ['i'] = 2, ['j'] = 2, ['k'] = 2, ['l'] = 2, ['m'] = 2, ['n'] = 2, ['o'] = 2, ['p'] = 2,
    ['q'] = 2, ['r'] = 2, ['s'] = 2, ['t'] = 2, ['u'] = 2, ['v'] = 2, ['w'] = 2, ['x'] = 2, ['y'] = 2, ['z'] = 2,
};

/* Bytes at p that are an NCName. */
static size_t ncname(const uint8_t *p, size_t n) {
    size_t i = 0;
    unsigned length;
    while (i < n && ascii_name[p[i]] && (i || ascii_name[p[i]] == 2)) i++;
    while (i < n && (p[i] >= 0x80 || ascii_name[p[i]])) {
        uint32_t c = character(p + i, n - i, &length);
        if (!(i ? name_char(c) : name_start(c))) break;
        i += length;
    }
    return i;
}

bool xe_ncname(xe_span s) { return s.n && ncname(s.p, s.n) == s.n; }

static inline bool white(uint8_t c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* -- scanner */

typedef struct open_tag {
    xe_span name;
    uint32_t bindings, space; /* before it: how many, and which of them is the default namespace */
} open_tag;

enum { AT_HAND = 16 }; /* rows of arrays that need no allocation */

typedef struct scanner {
    xe_encoder *e;
    const uint8_t *p, *end;
    uint8_t *scratch; /* what had to be decoded; never more than the input, so it does not move */
    size_t scratch_len, size;
    open_tag *open;
    uint32_t n_open, cap_open;
    xe_binding *bindings;
    uint32_t n_bindings, cap_bindings;
    uint32_t space; /* the binding of the default namespace, XE_NONE: none */
    xe_attribute *attributes;
    uint32_t cap_attributes;
    xe_span text; /* collected */
    bool joined;  /* it lies in scratch, and may grow there */
    open_tag *open_at_hand;
    xe_binding *bindings_at_hand;
    xe_attribute *attributes_at_hand;
} scanner;

static bool broken(scanner *s, const char *why) { return xe_fail(&s->e->c, XE_E_XML, why); }

/* Room for row n of an array, which is at `hand` as long as that is enough. */
XE_COLD bool grow_more(scanner *s, void *array, const void *hand, uint32_t *cap, size_t row) {
    void **p = array, *q = realloc(*p == hand ? NULL : *p, (size_t)*cap * 2 * row);
    if (!q) return xe_fail(&s->e->c, XE_E_MEMORY, "out of memory");
    if (*p == hand) memcpy(q, hand, *cap * row);
    *p = q;
    *cap *= 2;
    return true;
}
static inline bool grow(scanner *s, void *array, const void *hand, uint32_t *cap, uint32_t n, size_t row) {
    return n < *cap || grow_more(s, array, hand, cap, row);
}

static bool need_scratch(scanner *s) {
    if (!s->scratch) s->scratch = malloc(s->size + 1 + XE_PAD);
    return s->scratch || xe_fail(&s->e->c, XE_E_MEMORY, "out of memory");
}

static void keep(scanner *s, const uint8_t *p, size_t n) {
    memcpy(s->scratch + s->scratch_len, p, n);
    s->scratch_len += n;
}

static bool xml_character(uint32_t c) {
    return c == 9 || c == 10 || c == 13 || (c >= 0x20 && c < 0xD800) || (c >= 0xE000 && c < 0xFFFE) || (c >= 0x10000 && c <= 0x10FFFF);
}

/* A reference at *p, decoded into scratch; its text is shorter than it. */
static bool reference(scanner *s, const uint8_t **p) {
    static const struct {
        const char *text;
        uint8_t c;
    } names[] = {{"lt;", '<'}, {"gt;", '>'}, {"amp;", '&'}, {"quot;", '"'}, {"apos;", '\''}};
    const uint8_t *q = *p + 1;
    uint32_t c = 0;
    if (*q == '#') {
        bool hex = *++q == 'x';
        const uint8_t *start = q += hex;
        for (; *q != ';'; q++) {
            uint32_t d = *q - (uint32_t)'0';
            if (d > 9) d = hex && (*q | 0x20u) - 'a' < 6u ? (*q | 0x20u) - 'a' + 10 : 99;
            if (d == 99 || c > 0x10FFFF) return broken(s, "a damaged character reference");
            c = c * (hex ? 16 : 10) + d;
        }
        if (q++ == start || !xml_character(c)) return broken(s, "a reference to no character");
    } else {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            size_t n = strlen(names[i].text);
            if ((size_t)(s->end - q) < n || memcmp(q, names[i].text, n)) continue;
            c = names[i].c;
            q += n;
            break;
        }
        if (!c) return broken(s, "an entity that is not declared");
    }
    uint8_t b[4];
    unsigned n = 0;
    if (c < 0x80) {
        b[n++] = (uint8_t)c;
    } else if (c < 0x800) {
        b[n++] = (uint8_t)(0xC0 | c >> 6);
        b[n++] = (uint8_t)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        b[n++] = (uint8_t)(0xE0 | c >> 12);
        b[n++] = (uint8_t)(0x80 | (c >> 6 & 63));
        b[n++] = (uint8_t)(0x80 | (c & 63));
    } else {
        b[n++] = (uint8_t)(0xF0 | c >> 18);
        b[n++] = (uint8_t)(0x80 | (c >> 12 & 63));
        b[n++] = (uint8_t)(0x80 | (c >> 6 & 63));
        b[n++] = (uint8_t)(0x80 | (c & 63));
    }
    keep(s, b, n);
    *p = q;
    return true;
}

/* Add raw text, its line ends normalised. */
static bool add_text(scanner *s, const uint8_t *p, size_t n) {
    bool lines = n && memchr(p, '\r', n);
    if (!n) return true;
    if (!s->text.n && !lines) {
        s->text = (xe_span){p, n};
        s->joined = false;
        return true;
    }
    if (!s->joined) {
        if (!need_scratch(s)) return false;
        const uint8_t *start = s->scratch + s->scratch_len;
        if (s->text.n) keep(s, s->text.p, s->text.n);
        s->text.p = start;
        s->joined = true;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        if (c == '\r') {
            if (i + 1 < n && p[i + 1] == '\n') continue;
            c = '\n';
        }
        s->scratch[s->scratch_len++] = c;
    }
    s->text.n = (size_t)(s->scratch + s->scratch_len - s->text.p);
    return true;
}

static bool flush_text(scanner *s) {
    xe_span text = s->text;
    s->text = (xe_span){NULL, 0};
    s->joined = false;
    return !text.n || xe_characters_event(s->e, text);
}

XE_INLINE bool plain_text(scanner *s, const xc_kernels *k) {
    const uint8_t *start = s->p, *q = s->p;
    for (;;) {
        q = k->text(q);
        if (*q == ']') {
            if (q[1] == ']' && q[2] == '>') return broken(s, "]]> in text");
            q++;
            continue;
        }
        if (*q == '<' || (*q == 0 && q >= s->end)) break;
        if (*q != '&') return broken(s, "a control character");
        if (!add_text(s, start, (size_t)(q - start)) || !need_scratch(s)) return false;
        if (!s->joined) {
            const uint8_t *at = s->scratch + s->scratch_len;
            if (s->text.n) keep(s, s->text.p, s->text.n);
            s->text.p = at;
            s->joined = true;
        }
        if (!reference(s, &q)) return false;
        s->text.n = (size_t)(s->scratch + s->scratch_len - s->text.p);
        start = q;
    }
    s->p = q;
    return add_text(s, start, (size_t)(q - start));
}

/* A value between quotes, its white space normalised; `stop` is the first byte of it that is not as simple as that. */
static bool attribute_value(scanner *s, const xc_kernels *k, const uint8_t *stop, xe_span *value) {
    uint8_t quote = *s->p;
    const uint8_t *start = ++s->p, *q = stop, *at;
    if (!need_scratch(s)) return false;
    at = s->scratch + s->scratch_len;
    for (;; q = k->value(q, quote)) {
        keep(s, start, (size_t)(q - start));
        if (*q == quote) break;
        if (*q == '&') {
            if (!reference(s, &q)) return false;
        } else if (*q == '\t' || *q == '\n' || *q == '\r') {
            if (*q == '\r' && q[1] == '\n') q++;
            q++;
            s->scratch[s->scratch_len++] = ' ';
        } else {
            return broken(s, *q == '<' ? "< in an attribute" : "a control character, or the end, in an attribute");
        }
        start = q;
    }
    *value = (xe_span){at, (size_t)(s->scratch + s->scratch_len - at)};
    s->p = q + 1;
    return true;
}

static bool qualified_name(scanner *s, xe_span *prefix, xe_span *local) {
    const uint8_t *p = s->p;
    *prefix = *local = (xe_span){p, 0};
    if (ascii_name[*p] == 2) /* what is at the end stops it */
        while (ascii_name[*p]) p++;
    if (XE_RARE(*p >= 0x80)) p = s->p + ncname(s->p, (size_t)(s->end - s->p));
    size_t n = (size_t)(p - s->p);
    local->n = n;
    if (n && *p == ':') {
        size_t m = ncname(p + 1, (size_t)(s->end - p - 1));
        prefix->n = n;
        *local = (xe_span){p + 1, m};
        if (!m) return broken(s, "a name that ends with a colon");
    }
    if (!n) return broken(s, "a name is missing");
    s->p = local->p + local->n;
    return true;
}

static inline bool skip_white(scanner *s) {
    const uint8_t *start = s->p;
    while (white(*s->p)) s->p++;
    return s->p > start;
}

static const uint8_t xml_uri[] = "http://www.w3.org/XML/1998/namespace";
static const uint8_t xmlns_uri[] = "http://www.w3.org/2000/xmlns/";

static inline bool is(xe_span s, const char *text) { return s.n == strlen(text) && !memcmp(s.p, text, s.n); }

static inline void take_uri(scanner *s, xe_qname *q, xe_binding *b) {
    if (b->uri_id == XE_NONE) b->uri_id = b->uri.n ? xe_lookup_uri(&s->e->c.t, b->uri) : XE_URI_NONE;
    q->uri = b->uri;
    q->uri_id = b->uri_id;
}

static bool resolve_prefix(scanner *s, xe_qname *q) {
    for (uint32_t i = s->n_bindings; i--;) {
        if (!xe_same(s->bindings[i].prefix, q->prefix)) continue;
        take_uri(s, q, s->bindings + i);
        return true;
    }
    q->uri = (xe_span){xml_uri, sizeof xml_uri - 1};
    q->uri_id = XE_URI_XML;
    return is(q->prefix, "xml");
}

static inline bool resolve(scanner *s, xe_qname *q) {
    if (XE_RARE(q->prefix.n)) return resolve_prefix(s, q);
    if (s->space != XE_NONE) {
        take_uri(s, q, s->bindings + s->space);
    } else {
        q->uri = (xe_span){xml_uri, 0};
        q->uri_id = XE_URI_NONE;
    }
    return true;
}

static bool declare(scanner *s, xe_span prefix, xe_span uri) {
    bool xml = uri.n == sizeof xml_uri - 1 && !memcmp(uri.p, xml_uri, uri.n);
    if (is(prefix, "xmlns") || (uri.n == sizeof xmlns_uri - 1 && !memcmp(uri.p, xmlns_uri, uri.n)) || xml != is(prefix, "xml"))
        return broken(s, "a declaration of a reserved namespace");
    if (prefix.n && !uri.n) return broken(s, "a prefix of no namespace");
    if (xml) return true;
    if (!grow(s, &s->bindings, s->bindings_at_hand, &s->cap_bindings, s->n_bindings, sizeof *s->bindings)) return false;
    if (!prefix.n) s->space = s->n_bindings;
    s->bindings[s->n_bindings++] = (xe_binding){prefix, uri, XE_NONE};
    return true;
}

/* A QName in a value: xsi:type. With an unknown prefix it is of no namespace, prefix and all (EXI section 8.5.4.4.1). */
static xe_qname value_name(scanner *s, xe_span value) {
    xe_qname q = {.name_id = XE_NONE};
    while (value.n && white(value.p[0])) value.p++, value.n--;
    while (value.n && white(value.p[value.n - 1])) value.n--;
    xe_span prefix = {value.p, 0}, local = value;
    const uint8_t *colon = value.n ? memchr(value.p, ':', value.n) : NULL;
    if (colon) {
        prefix.n = (size_t)(colon - value.p);
        local = (xe_span){colon + 1, value.n - prefix.n - 1};
    }
    q.local = local;
    q.prefix = prefix;
    if (!resolve(s, &q)) {
        q.uri = (xe_span){value.p, 0};
        q.uri_id = XE_URI_NONE;
        q.local = value;
        q.prefix.n = 0;
    }
    return q;
}

/* The number of a name in the document, which is padded. */
static inline uint32_t number_of(const xe_tables *t, const xe_qname *q) {
    if (q->uri_id == XE_NONE) return XE_NONE;
    return xe_lookup_name_by(t, q->uri_id, xe_load_padded(q->local.p, q->local.n), q->local);
}

static const uint64_t xmlns_key = 'x' | 'm' << 8 | 'l' << 16 | (uint64_t)'n' << 24 | (uint64_t)'s' << 32;

/* A declaration in the tag that began with `before` bindings. */
static bool binding(scanner *s, xe_span prefix, xe_span uri, uint32_t before) {
    for (uint32_t i = before; i < s->n_bindings; i++)
        if (xe_same(s->bindings[i].prefix, prefix)) return broken(s, "two declarations of a prefix");
    return declare(s, prefix, uri);
}

/* Give attributes that have a prefix their names, and look for two of one name. */
static bool name_attributes(scanner *s, uint32_t n) {
    const xe_tables *t = &s->e->c.t;
    for (uint32_t i = 0; i < n; i++) {
        xe_attribute *a = s->attributes + i;
        if (a->name.prefix.n) {
            if (!resolve(s, &a->name)) return broken(s, "a prefix that is not declared");
            a->name.name_id = number_of(t, &a->name);
            if (a->name.uri_id == XE_URI_XSI && a->name.name_id == t->g->uris[XE_URI_XSI].first + 1u) a->type = value_name(s, a->value);
        }
        for (uint32_t k = 0; k < i; k++) {
            const xe_qname *other = &s->attributes[k].name;
            if (other->name_id == a->name.name_id && xe_same(a->name.local, other->local) && xe_same(a->name.uri, other->uri))
                return broken(s, "two attributes of one name");
        }
    }
    return true;
}

/* Of eight bytes: 0x80 in each that is c, up to the first of them (and perhaps in others behind it). */
static inline uint64_t bytes_that_are(uint64_t word, uint8_t c) {
    word ^= 0x0101010101010101u * c;
    return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}

static inline uint64_t bytes_below(uint64_t word, uint8_t c) { /* c: at most 0x80 */
    return (word - 0x0101010101010101u * c) & ~word & 0x8080808080808080u;
}

/* A name of less than 8 bytes before the first byte marked by `stop`, as xe_load_padded() would read it. */
static inline uint64_t key_before(uint64_t word, uint64_t stop) { return word & (stop ^ (stop - 1)) >> 8; }

/* The name of an attribute of any shape; or where there is none, *done. Nobody knows yet whether it is a name of the grammar. */
static bool attribute_name(scanner *s, xe_qname *name, bool *done) {
    bool gap = skip_white(s);
    *done = *s->p == '>' || (*s->p == '/' && s->p[1] == '>');
    if (*done) return true;
    if (!gap) return broken(s, "a start tag that is damaged or does not end");
    if (!qualified_name(s, &name->prefix, &name->local)) return false;
    if (!name->prefix.n) name->name_id = number_of(&s->e->c.t, name);
    skip_white(s);
    return *s->p == '=' || broken(s, "an attribute without a value");
}

/* An attribute: first as one of no namespace that the grammar knows, behind a space; then as any. */
XE_INLINE bool attribute(scanner *s, const xc_kernels *k, xe_attribute *a, bool *done) {
    const xe_tables *t = &s->e->c.t;
    const uint8_t *name = s->p + 1;
    uint64_t word = xe_load_padded(name, 8), stop = bytes_that_are(word, '='), key = key_before(word, stop);
    a->name.prefix = a->name.uri = (xe_span){name, 0};
    a->name.uri_id = XE_URI_NONE;
    a->name.name_id = XE_NONE;
    bool known = false;
    if (*s->p == ' ') {
        if (stop) {
            a->name.local = (xe_span){name, (unsigned)__builtin_ctzll(stop) >> 3};
            known = key == xmlns_key;
            if (!known) a->name.name_id = xe_quick_name(t->g, XE_URI_NONE, key, a->name.local);
        } else {
            a->name.local = (xe_span){name, 8};
            while (ascii_name[name[a->name.local.n]]) a->name.local.n++;
            if (name[a->name.local.n] == '=') a->name.name_id = xe_quick_name(t->g, XE_URI_NONE, word, a->name.local);
        }
    }
    size_t n = a->name.local.n;
    if (!known && a->name.name_id == XE_NONE && *s->p == ' ' && n && name[n] == '=' && ncname(name, n) == n) {
        known = true;
        if (t->n_names) a->name.name_id = xe_lookup_learned_name(t, XE_URI_NONE, a->name.local);
    }
    if (known || a->name.name_id != XE_NONE) {
        s->p = name + n;
    } else {
        if (!attribute_name(s, &a->name, done)) return false;
        if (*done) return true;
    }
    s->p++;
    if (XE_RARE(*s->p != '\'' && *s->p != '"')) {
        skip_white(s);
        if (*s->p != '\'' && *s->p != '"') return broken(s, "an attribute without quotes");
    }
    const uint8_t *value = s->p + 1, *end = k->value(value, *s->p);
    if (XE_RARE(*end != *s->p)) return attribute_value(s, k, end, &a->value);
    a->value = (xe_span){value, (size_t)(end - value)};
    s->p = end + 1;
    return true;
}

/* The name of an element that is not a short one of the grammar, in the default namespace: again, and exactly. */
static bool element_name(scanner *s, xe_qname *q, xe_span whole) {
    const uint8_t *behind = s->p;
    s->p = whole.p;
    if (!qualified_name(s, &q->prefix, &q->local)) return false;
    if (s->p != whole.p + whole.n) return broken(s, "a start tag that is damaged or does not end");
    s->p = behind;
    if (!resolve(s, q)) return broken(s, "a prefix that is not declared");
    q->name_id = number_of(&s->e->c.t, q);
    return true;
}

XE_INLINE bool start_tag(scanner *s, const xc_kernels *k) {
    const uint8_t *name = ++s->p;
    uint32_t before = s->n_bindings, space = s->space, n = 0, left = s->e->c.l.attributes;
    uint64_t seen = 0; /* of numbers of names: which there were */
    bool unsure = false, done = false;
    uint64_t word = xe_load_padded(name, 8), stop = bytes_below(word, '!') | bytes_that_are(word, '>') | bytes_that_are(word, '/');
    xe_qname q = {.local = {name, stop ? (unsigned)__builtin_ctzll(stop) >> 3 : 0}, .prefix = {name, 0}};
    s->p += q.local.n;
    bool exact = !q.local.n;
    if (exact && !qualified_name(s, &q.prefix, &q.local)) return false;
    xe_span whole = {name, (size_t)(s->p - name)};
    for (; *s->p != '>'; left--) {
        if (!grow(s, &s->attributes, s->attributes_at_hand, &s->cap_attributes, n, sizeof *s->attributes)) return false;
        xe_attribute *a = s->attributes + n;
        if (!attribute(s, k, a, &done)) return false;
        if (done) break;
        if (!left) return xe_fail(&s->e->c, XE_E_LIMIT, "too many attributes");
        if (XE_RARE(a->name.name_id == XE_NONE)) {
            bool defaults = !a->name.prefix.n && is(a->name.local, "xmlns");
            if (defaults || is(a->name.prefix, "xmlns")) {
                if (!binding(s, defaults ? a->name.prefix : a->name.local, a->value, before)) return false;
                continue;
            }
        }
        uint64_t bit = (uint64_t)1 << (a->name.name_id & 63);
        unsure = unsure || a->name.prefix.n || (seen & bit);
        seen |= bit;
        n++;
    }
    bool empty = *s->p == '/';
    s->p += 1 + empty;
    if (!resolve(s, &q)) return broken(s, "a prefix that is not declared");
    q.name_id = number_of(&s->e->c.t, &q);
    if (XE_RARE(q.name_id == XE_NONE && !exact) && !element_name(s, &q, whole)) return false;
    if (XE_RARE(unsure) && !name_attributes(s, n)) return false;
    if (!xe_start(s->e, &q, s->bindings + before, s->n_bindings - before, s->attributes, n)) return false;
    if (empty) {
        s->n_bindings = before;
        s->space = space;
        return xe_end(s->e);
    }
    if (!grow(s, &s->open, s->open_at_hand, &s->cap_open, s->n_open, sizeof *s->open)) return false;
    s->open[s->n_open++] = (open_tag){whole, before, space};
    return true;
}

/* Does the document, which is padded, go on at p with that text of it? */
static inline bool goes_on(const uint8_t *p, const uint8_t *end, xe_span text) {
    if (text.n <= 8) return xe_load_padded(p, text.n) == xe_load_padded(text.p, text.n);
    return (size_t)(end - p) >= text.n && !memcmp(p, text.p, text.n);
}

static bool end_tag(scanner *s) {
    if (!s->n_open) return broken(s, "an end tag without a start tag");
    const open_tag *o = s->open + --s->n_open;
    s->p += 2;
    if (!goes_on(s->p, s->end, o->name)) return broken(s, "an end tag of another name");
    s->p += o->name.n;
    skip_white(s);
    if (*s->p++ != '>') return broken(s, "an end tag of another name");
    s->n_bindings = o->bindings;
    s->space = o->space;
    return xe_end(s->e);
}

/* The end of what begins at s->p, which ends with `last`; no control characters in between. */
static const uint8_t *find(scanner *s, const char *last) {
    size_t n = strlen(last);
    for (const uint8_t *p = s->p; (size_t)(s->end - p) >= n; p++) {
        if (!memcmp(p, last, n)) return p;
        if (*p < 0x20 && !white(*p)) break;
    }
    broken(s, "a comment, instruction or section that does not end");
    return NULL;
}

/* A copy of text with normalised line ends, if it needs one. */
static bool lines(scanner *s, xe_span *text) {
    if (!text->n || !memchr(text->p, '\r', text->n)) return true;
    xe_span saved = s->text;
    bool joined = s->joined;
    s->text = (xe_span){NULL, 0};
    s->joined = false;
    bool good = add_text(s, text->p, text->n);
    *text = s->text;
    s->text = saved;
    s->joined = joined;
    return good;
}

static bool comment(scanner *s) {
    s->p += 4;
    const uint8_t *last = find(s, "--");
    if (!last) return false;
    if (last[2] != '>') return broken(s, "-- in a comment");
    xe_span text = {s->p, (size_t)(last - s->p)};
    s->p = last + 3;
    if (!s->e->c.o.comments) return true;
    return flush_text(s) && lines(s, &text) && xe_comment(s->e, text);
}

static bool instruction(scanner *s) {
    s->p += 2;
    xe_span target = {s->p, ncname(s->p, (size_t)(s->end - s->p))};
    if (!target.n) return broken(s, "an instruction without a target");
    if (target.n == 3 && (target.p[0] | 0x20) == 'x' && (target.p[1] | 0x20) == 'm' && (target.p[2] | 0x20) == 'l')
        return broken(s, "an XML declaration that is not at the start");
    s->p += target.n;
    bool gap = skip_white(s);
    const uint8_t *last = find(s, "?>");
    if (!last) return false;
    if (!gap && last != s->p) return broken(s, "an instruction without a target");
    xe_span data = {s->p, (size_t)(last - s->p)};
    s->p = last + 2;
    if (!s->e->c.o.pis) return true;
    return flush_text(s) && lines(s, &data) && xe_instruction(s->e, target, data);
}

/* The XML declaration, if there is one: only UTF-8 and what is a part of it are read. */
static bool declaration(scanner *s) {
    if (s->end - s->p >= 3 && !memcmp(s->p, "\xEF\xBB\xBF", 3)) s->p += 3;
    if (s->end - s->p < 6 || memcmp(s->p, "<?xml", 5) || !white(s->p[5])) return true;
    const uint8_t *last = find(s, "?>");
    if (!last) return false;
    for (const uint8_t *p = s->p + 5; last - p > 8; p++) {
        if (memcmp(p, "encoding", 8)) continue;
        p += 8;
        while (p < last && (white(*p) || *p == '=' || *p == '"' || *p == '\'')) p++;
        xe_span name = {p, 0};
        while (p + name.n < last && (name_char(p[name.n]))) name.n++;
        char lower[10] = "";
        for (size_t i = 0; i < name.n && i < sizeof lower - 1; i++) lower[i] = (char)(name.p[i] | 0x20);
        if (name.n > 8 || (strcmp(lower, "utf-8") && strcmp(lower, "us-ascii")))
            return xe_fail(&s->e->c, XE_E_UNSUPPORTED, "an encoding other than UTF-8");
        break;
    }
    s->p = last + 2;
    return true;
}

XE_INLINE bool valid(scanner *s, const xc_kernels *k) {
    bool invalid;
    size_t n = (s->size + 31) & ~(size_t)31; /* with zeros of the pad, which are valid: so there is no rest */
    return k->utf8(s->p, n, &invalid) == n || broken(s, "bytes that are not UTF-8");
}

XE_INLINE bool document_with(scanner *s, const xc_kernels *k) {
    if (!valid(s, k) || !declaration(s)) return false;
    for (;;) {
        if (*s->p != '<') {
            if (s->p >= s->end) break;
            if (!plain_text(s, k)) return false;
            continue;
        }
        if (s->p[1] == '!') {
            if (s->end - s->p >= 4 && !memcmp(s->p, "<!--", 4)) {
                if (!comment(s)) return false;
            } else if (s->end - s->p >= 9 && !memcmp(s->p, "<![CDATA[", 9) && s->n_open) {
                s->p += 9;
                const uint8_t *last = find(s, "]]>");
                if (!last || !add_text(s, s->p, (size_t)(last - s->p))) return false;
                s->p = last + 3;
            } else if (s->end - s->p >= 9 && !memcmp(s->p, "<!DOCTYPE", 9)) {
                return xe_fail(&s->e->c, XE_E_UNSUPPORTED, "a document type declaration");
            } else {
                return broken(s, "<! without a meaning");
            }
            continue;
        }
        if (s->p[1] == '?') {
            if (!instruction(s)) return false;
            continue;
        }
        if (s->text.n && !flush_text(s)) return false;
        if (s->p[1] == '/' ? !end_tag(s) : !start_tag(s, k)) return false;
    }
    return s->n_open ? broken(s, "the document is not whole") : flush_text(s);
}

/* One for each kernel, so that it stands in the loop. */
static bool document_scalar(scanner *s) { return document_with(s, &xc_kernels_scalar); }
#ifdef XC_HAS_SSE2
static bool document_sse2(scanner *s) { return document_with(s, &xc_kernels_sse2); }
#endif
#ifdef XC_HAS_AVX2
XC_AVX2 static bool document_avx2(scanner *s) { return document_with(s, &xc_kernels_avx2); }
#endif
#ifdef XC_HAS_NEON
static bool document_neon(scanner *s) { return document_with(s, &xc_kernels_neon); }
#endif

static bool document(scanner *s, const xc_kernels *k) {
    const char *kernel = k->name;
    (void)kernel;
#ifdef XC_HAS_AVX2
    if (strcmp(kernel, "avx2") == 0) return document_avx2(s);
#endif
#ifdef XC_HAS_SSE2
    if (strcmp(kernel, "sse2") == 0) return document_sse2(s);
#endif
#ifdef XC_HAS_NEON
    if (strcmp(kernel, "neon") == 0) return document_neon(s);
#endif
    return document_scalar(s);
}

static bool first_tag(scanner *s, const xc_kernels *k) { return valid(s, k) && start_tag(s, k); }

static bool scan(xe_encoder *e, const uint8_t *bytes, size_t n, bool (*what)(scanner *s, const xc_kernels *k)) {
    open_tag open[AT_HAND];
    xe_binding bindings[AT_HAND];
    xe_attribute attributes[AT_HAND];
    scanner s = {.e = e,
                 .p = bytes,
                 .end = bytes + n,
                 .size = n,
                 .open = open,
                 .bindings = bindings,
                 .attributes = attributes,
                 .space = XE_NONE,
                 .cap_open = AT_HAND,
                 .cap_bindings = AT_HAND,
                 .cap_attributes = AT_HAND,
                 .open_at_hand = open,
                 .bindings_at_hand = bindings,
                 .attributes_at_hand = attributes};
    bool good = what(&s, e->kernels ? e->kernels : xc_kernels_default());
    if (XE_RARE(s.scratch != NULL)) free(s.scratch);
    if (XE_RARE(s.open != open)) free(s.open);
    if (XE_RARE(s.bindings != bindings)) free(s.bindings);
    if (XE_RARE(s.attributes != attributes)) free(s.attributes);
    return good;
}

bool xe_encode_xml(xe_encoder *e, const uint8_t *bytes, size_t n) { return scan(e, bytes, n, document); }
bool xe_encode_start(xe_encoder *e, const uint8_t *bytes, size_t n) { return scan(e, bytes, n, start_tag); }

/* -- writer */

void xe_writer_init(xe_writer *w, size_t most) {
    memset(w, 0, sizeof *w);
    w->out.most = w->names.most = most;
}
void xe_writer_free(xe_writer *w) {
    xe_out_free(&w->out);
    xe_out_free(&w->names);
    free(w->declared);
    free(w->open);
}
void xe_writer_begin(xe_writer *w) {
    xe_out_reset(&w->out);
    xe_out_reset(&w->names);
    w->n_declared = w->n_open = 0;
    w->waits = w->tag = false;
    xe_out_room(&w->out, 1); /* so that their bytes are somewhere */
    xe_out_room(&w->names, 1);
}

static void raw(xe_writer *w, const char *text) { xe_text(&w->out, text, strlen(text)); }
static xe_span at(const xe_writer *w, xe_spot s) { return (xe_span){w->names.p + s.off, s.len}; }
static xe_spot store(xe_writer *w, xe_span s) {
    xe_spot spot = {(uint32_t)w->names.len, (uint32_t)s.n};
    xe_text(&w->names, s.p, s.n);
    if (w->names.error) spot.len = 0;
    return spot;
}

void xe_write_escaped(xe_writer *w, xe_span s, bool attribute) {
    const uint8_t *start = s.p, *end = s.p + s.n;
    for (const uint8_t *p = s.p; p < end; p++) {
        const char *text = NULL;
        switch (*p) {
        case '<': text = "&lt;"; break;
        case '>': text = "&gt;"; break;
        case '&': text = "&amp;"; break;
        case '\r': text = "&#13;"; break;
        case '"': text = attribute ? "&quot;" : NULL; break;
        case '\n': text = attribute ? "&#10;" : NULL; break;
        case '\t': text = attribute ? "&#9;" : NULL; break;
        }
        if (!text) continue;
        xe_text(&w->out, start, (size_t)(p - start));
        raw(w, text);
        start = p + 1;
    }
    xe_text(&w->out, start, (size_t)(end - start));
}

static bool room(void *array, uint32_t *cap, uint32_t n, size_t row) {
    void **p = array;
    if (n < *cap) return true;
    uint32_t more = *cap ? *cap * 2 : 16;
    void *q = realloc(*p, more * row);
    if (!q) return false;
    *p = q;
    *cap = more;
    return true;
}

static bool add_declared(xe_writer *w, xe_span prefix, xe_span uri) {
    if (!room(&w->declared, &w->cap_declared, w->n_declared, sizeof *w->declared)) return false;
    w->declared[w->n_declared].prefix = store(w, prefix);
    w->declared[w->n_declared].uri = store(w, uri);
    w->n_declared++;
    return !w->names.error;
}

static void write_declaration(xe_writer *w, xe_span prefix, xe_span uri) {
    raw(w, prefix.n ? " xmlns:" : " xmlns");
    xe_text(&w->out, prefix.p, prefix.n);
    raw(w, "=\"");
    xe_write_escaped(w, uri, true);
    raw(w, "\"");
}

/* What a prefix stands for. */
static xe_span bound(const xe_writer *w, xe_span prefix) {
    for (uint32_t i = w->n_declared; i--;)
        if (xe_same(at(w, w->declared[i].prefix), prefix)) return at(w, w->declared[i].uri);
    return (xe_span){NULL, 0};
}

/* A prefix in force for a namespace; p is NULL if there is none. */
static xe_span prefix_for(const xe_writer *w, xe_span uri, bool attribute) {
    for (uint32_t i = w->n_declared; i--;) {
        xe_span prefix = at(w, w->declared[i].prefix);
        if ((attribute && !prefix.n) || !xe_same(at(w, w->declared[i].uri), uri)) continue;
        if (xe_same(bound(w, prefix), uri)) return prefix;
    }
    return (xe_span){NULL, 0};
}

static bool write_tag(xe_writer *w) { /* the start tag that waits */
    static const uint8_t none[] = "";
    if (!w->waits) return true;
    w->waits = false;
    xe_span uri = at(w, w->uri), prefix = w->has_prefix ? at(w, w->prefix) : (xe_span){none, 0};
    uint32_t given = w->n_declared;
    if (is(uri, (const char *)xml_uri)) {
        prefix = (xe_span){(const uint8_t *)"xml", 3};
    } else if (!xe_same(bound(w, prefix), uri)) {
        xe_span other = w->has_prefix && uri.n ? prefix_for(w, uri, false) : (xe_span){NULL, 0};
        if (other.p) {
            prefix = other;
        } else {
            for (uint32_t i = w->waits_declared; i < given; i++)
                if (xe_same(at(w, w->declared[i].prefix), prefix)) return false; /* what it needs is taken on the same element */
            if (!uri.n) prefix = (xe_span){none, 0};
            xe_spot p = {0}, u = w->uri; /* store() may move what the spans point to */
            uint8_t copy[64];
            if (prefix.n > sizeof copy) return false;
            if (prefix.n) memcpy(copy, prefix.p, prefix.n);
            p = store(w, (xe_span){copy, prefix.n});
            if (!room(&w->declared, &w->cap_declared, w->n_declared, sizeof *w->declared) || w->names.error) return false;
            w->declared[w->n_declared].prefix = p;
            w->declared[w->n_declared++].uri = u;
            prefix = at(w, p);
        }
    }
    size_t start = w->out.len;
    raw(w, "<");
    xe_text(&w->out, prefix.p, prefix.n);
    if (prefix.n) raw(w, ":");
    xe_span local = at(w, w->local);
    xe_text(&w->out, local.p, local.n);
    if (w->out.error) return false;
    w->open[w->n_open - 1].name = store(w, (xe_span){w->out.p + start + 1, w->out.len - start - 1});
    for (uint32_t i = w->waits_declared; i < w->n_declared; i++)
        write_declaration(w, at(w, w->declared[i].prefix), at(w, w->declared[i].uri));
    w->tag = true;
    return !w->names.error;
}

static bool close_tag(xe_writer *w) {
    if (!write_tag(w)) return false;
    if (w->tag) raw(w, ">");
    w->tag = false;
    return true;
}

static bool on_start(void *ctx, const xe_qname *q) {
    xe_writer *w = ctx;
    if (!close_tag(w) || !room(&w->open, &w->cap_open, w->n_open, sizeof *w->open)) return false;
    w->open[w->n_open++] = (struct xe_open){{0, 0}, w->n_declared, (uint32_t)w->names.len};
    if (w->n_declared == 0 && !add_declared(w, (xe_span){(const uint8_t *)"", 0}, (xe_span){(const uint8_t *)"", 0})) return false;
    w->uri = store(w, q->uri);
    w->local = store(w, q->local);
    w->has_prefix = q->prefix.p != NULL;
    w->prefix = store(w, q->prefix);
    w->waits = true;
    w->waits_declared = w->n_declared;
    return !w->names.error;
}

static bool on_binding(void *ctx, xe_span prefix, xe_span uri, bool own) {
    xe_writer *w = ctx;
    for (uint32_t i = w->waits_declared; i < w->n_declared; i++)
        if (xe_same(at(w, w->declared[i].prefix), prefix)) return false;
    if (is(prefix, "xml") || is(uri, (const char *)xml_uri) || is(prefix, "xmlns") || is(uri, (const char *)xmlns_uri) ||
        (prefix.n && !uri.n))
        return true;
    if (!w->waits || !add_declared(w, prefix, uri)) return false;
    if (own) {
        w->has_prefix = true;
        w->prefix = w->declared[w->n_declared - 1].prefix;
    }
    return true;
}

/* A prefix for an attribute or a QName in a value, declared now if there is none. `room` takes a new one. */
static bool choose_prefix(xe_writer *w, const xe_qname *q, bool attribute, xe_span *prefix, char made[16]) {
    *prefix = q->prefix;
    if (is(q->uri, (const char *)xml_uri)) {
        *prefix = (xe_span){(const uint8_t *)"xml", 3};
        return true;
    }
    if (q->prefix.p && (q->prefix.n || !attribute) && xe_same(bound(w, q->prefix), q->uri)) return true;
    *prefix = prefix_for(w, q->uri, attribute);
    if (prefix->p) return true;
    char *end = made + 15;
    uint32_t id = q->uri_id;
    *end = 0;
    do *--end = (char)('0' + id % 10), id /= 10;
    while (id);
    *--end = 's';
    *--end = 'n';
    *prefix = (xe_span){(const uint8_t *)end, strlen(end)};
    if (bound(w, *prefix).p && !xe_same(bound(w, *prefix), q->uri)) {
        for (uint32_t i = w->waits_declared; i < w->n_declared; i++)
            if (xe_same(at(w, w->declared[i].prefix), *prefix)) { /* taken on this very element */
                *--end = '_';
                *prefix = (xe_span){(const uint8_t *)end, strlen(end)};
                break;
            }
    }
    if (!add_declared(w, *prefix, q->uri)) return false;
    write_declaration(w, *prefix, q->uri);
    return true;
}

static bool on_attribute(void *ctx, const xe_qname *q, xe_span value) {
    xe_writer *w = ctx;
    xe_span prefix = {NULL, 0};
    char made[16];
    if (!write_tag(w) || !w->tag || (q->uri.n && !choose_prefix(w, q, true, &prefix, made))) return false;
    raw(w, " ");
    xe_text(&w->out, prefix.p, prefix.n);
    if (prefix.n) raw(w, ":");
    xe_text(&w->out, q->local.p, q->local.n);
    raw(w, "=\"");
    xe_write_escaped(w, value, true);
    raw(w, "\"");
    return !w->out.error;
}

static bool on_type(void *ctx, const xe_qname *q, const xe_qname *value) {
    xe_writer *w = ctx;
    xe_span prefix = {NULL, 0};
    char made[16];
    uint8_t text[512];
    if (!write_tag(w) || !w->tag) return false;
    if (value->uri.n && !choose_prefix(w, value, false, &prefix, made)) return false;
    if (prefix.n + value->local.n + 1 > sizeof text) return false;
    size_t n = prefix.n;
    if (n) {
        memcpy(text, prefix.p, n);
        text[n++] = ':';
    }
    memcpy(text + n, value->local.p, value->local.n);
    return on_attribute(w, q, (xe_span){text, n + value->local.n});
}

static bool on_text(void *ctx, xe_span text) {
    xe_writer *w = ctx;
    if (!close_tag(w)) return false;
    xe_write_escaped(w, text, false);
    return !w->out.error;
}

static bool on_end(void *ctx) {
    xe_writer *w = ctx;
    if (!write_tag(w) || !w->n_open) return false;
    const struct xe_open *o = w->open + --w->n_open;
    if (w->tag) {
        raw(w, "/>");
    } else {
        raw(w, "</");
        xe_text(&w->out, w->names.p + o->name.off, o->name.len);
        raw(w, ">");
    }
    w->tag = false;
    w->n_declared = o->declared;
    w->names.len = o->names;
    return !w->out.error;
}

static bool on_comment(void *ctx, xe_span text) {
    xe_writer *w = ctx;
    if (!close_tag(w)) return false;
    raw(w, "<!--");
    xe_text(&w->out, text.p, text.n);
    raw(w, "-->");
    return !w->out.error;
}

static bool on_instruction(void *ctx, xe_span target, xe_span data) {
    xe_writer *w = ctx;
    if (!close_tag(w)) return false;
    raw(w, "<?");
    xe_text(&w->out, target.p, target.n);
    if (data.n) raw(w, " ");
    xe_text(&w->out, data.p, data.n);
    raw(w, "?>");
    return !w->out.error;
}

xe_sink xe_writer_sink(xe_writer *w) {
    return (xe_sink){on_start, on_binding, on_attribute, on_type, on_text, on_end, on_comment, on_instruction, NULL, w};
}

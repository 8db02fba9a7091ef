/* SPDX-License-Identifier: Apache-2.0 */
#include "exi_grammar.h"

static const uint8_t base_strings[] =
    "http://www.w3.org/XML/1998/namespacehttp://www.w3.org/2001/XMLSchema-instancebaseidlangspaceniltype" /* and the pad: */ "             "
    "   ";
static const xe_uri base_uris[] = {{0, 0, 0, 0, 0}, {0, 36, 0, 4, 0}, {36, 41, 4, 2, 0}};
#define NAME(at, len, uri) {(at) << 8 | (len), uri, XE_NO16, XE_NO16, XE_NO16}
static const xe_name base_names[] = {NAME(77, 4, 1), NAME(81, 2, 1), NAME(83, 4, 1), NAME(87, 5, 1), NAME(92, 3, 2), NAME(95, 4, 2)};

const xe_grammar xe_schemaless = {
    .uris = base_uris,
    .names = base_names,
    .strings = base_strings,
    .n = {[XE_S_URIS] = 3, [XE_S_NAMES] = 6, [XE_S_STRINGS] = sizeof base_strings - 1 - XE_PAD},
    .relaxed = XE_NO16,
};

static uint32_t fnv(uint32_t seed, xe_span text) {
    uint32_t h = 2166136261u ^ seed * 0x9E3779B1u;
    for (size_t i = 0; i < text.n; i++) h = (h ^ text.p[i]) * 16777619u;
    return h ^ h >> 15;
}

uint32_t xe_find_uri(const xe_grammar *g, xe_span text) {
    uint32_t mask = g->n[XE_S_URI_SLOTS] - 1;
    if (mask == XE_NONE) {
        for (uint32_t i = 0; i < g->n[XE_S_URIS]; i++)
            if (xe_same(xe_uri_text(g, i), text)) return i;
        return XE_NONE;
    }
    for (uint32_t at = fnv(XE_NO16, text);; at++) {
        uint16_t i = g->uri_slots[at & mask];
        if (i == XE_NO16) return XE_NONE;
        if (xe_same(xe_uri_text(g, i), text)) return i;
    }
}

uint32_t xe_find_name(const xe_grammar *g, uint32_t uri, xe_span text) {
    uint32_t mask = g->n[XE_S_NAME_SLOTS] - 1;
    if (mask == XE_NONE) {
        for (uint32_t i = 0; i < g->n[XE_S_NAMES]; i++)
            if (g->names[i].uri == uri && xe_same(xe_name_text(g, i), text)) return i;
        return XE_NONE;
    }
    for (uint32_t at = fnv(uri, text);; at++) {
        uint16_t i = g->name_slots[at & mask];
        if (i == XE_NO16) return XE_NONE;
        if (g->names[i].uri == uri && xe_same(xe_name_text(g, i), text)) return i;
    }
}

static uint32_t quick_size(uint32_t n) { /* a power of two, at most half full */
    uint32_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

size_t xe_grammar_index_bytes(const xe_grammar *g) {
    return sizeof(xe_quick) * (size_t)quick_size(g->n[XE_S_NAMES]) + 2 * (size_t)quick_size(g->n[XE_S_URIS]);
}

void xe_grammar_index(xe_grammar *g, void *memory) {
    xe_quick *quick = memory;
    uint32_t names = quick_size(g->n[XE_S_NAMES]), uris = quick_size(g->n[XE_S_URIS]);
    uint16_t *quick_uris = (uint16_t *)(quick + names);
    g->partial = false;
    memset(quick, 0xFF, names * sizeof *quick);
    memset(quick_uris, 0xFF, uris * sizeof *quick_uris);
    for (uint32_t i = 0; i < g->n[XE_S_NAMES]; i++) {
        xe_span text = xe_name_text(g, i);
        uint64_t key = xc_load(text.p, text.n);
        uint32_t at = xe_quick_hash(g->names[i].uri, key, text.p, text.n), end = at + XE_QUICK_PROBES;
        while (at < end && quick[at & (names - 1)].uri_len != XE_NONE) at++;
        if (at < end && text.n)
            quick[at & (names - 1)] = (xe_quick){key, (uint32_t)g->names[i].uri << 16 | (uint32_t)text.n, i};
        else
            g->partial = true;
    }
    for (uint32_t i = 0; i < g->n[XE_S_URIS]; i++) {
        xe_span text = xe_uri_text(g, i);
        uint32_t at = xe_quick_hash(0, xc_load(text.p, text.n), text.p, text.n), end = at + XE_QUICK_PROBES;
        while (at < end && quick_uris[at & (uris - 1)] != XE_NO16) at++;
        if (at < end)
            quick_uris[at & (uris - 1)] = (uint16_t)i;
        else
            g->partial = true;
    }
    g->quick = quick;
    g->quick_uris = quick_uris;
    g->quick_mask = names - 1;
    g->quick_uris_mask = uris - 1;
}

uint32_t xe_quick_search(const xe_grammar *g, uint32_t at, uint32_t uri, uint64_t key, xe_span text) {
    for (uint32_t end = at + XE_QUICK_PROBES; at < end; at++) {
        const xe_quick *slot = g->quick + (at & g->quick_mask);
        if (slot->key == key && slot->uri_len == (uri << 16 | (uint32_t)text.n)) {
            if (text.n <= 8 || (text.n <= 0xFF && !memcmp(xe_name_text(g, slot->name).p + 8, text.p + 8, text.n - 8))) return slot->name;
        } else if (slot->uri_len == XE_NONE) {
            break;
        }
    }
    return XE_RARE(g->partial) ? xe_find_name(g, uri, text) : XE_NONE;
}

/* Is x a row of that section, or none? */
static bool ok(const xe_grammar *g, unsigned section, uint32_t x) { return x < g->n[section]; }
static bool ok_or_none(const xe_grammar *g, unsigned section, uint32_t x) { return x == XE_NO16 || x < g->n[section]; }

static bool slots_ok(const uint16_t *slots, uint32_t n, uint32_t rows) {
    uint32_t empty = 0;
    if (n == 0 || (n & (n - 1))) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (slots[i] == XE_NO16)
            empty++;
        else if (slots[i] >= rows)
            return false;
    }
    return empty > 0;
}

static bool state_ok(const xe_grammar *g, const xe_state *s) {
    const xe_row *row = g->rows + s->first;
    if ((uint32_t)s->first + s->n > g->n[XE_S_ROWS] || !ok(g, XE_S_STATES, s->content)) return false;
    if (XE_STATE_KIND(s) > XE_CONTENT || XE_STATE_KIND(g->states + s->content) != XE_CONTENT) return false;
    if (XE_STATE_ATTRIBUTES(s) > s->n || (XE_STATE_KIND(s) == XE_CONTENT && (XE_STATE_ATTRIBUTES(s) || s->content != (s - g->states))))
        return false;
    unsigned ends = 0;
    for (unsigned i = 0; i < s->n; i++, row++) {
        bool attribute = i < XE_STATE_ATTRIBUTES(s), tag = XE_STATE_KIND(s) != XE_CONTENT;
        if (row->label != XE_L_EE) {
            if (!ok(g, XE_S_STATES, row->next)) return false;
            bool stays = attribute || row->label == XE_L_AT_ANY || (row->label >= XE_L_AT_NS && row->label < XE_L_SE_NS);
            if (stays ? !tag || XE_STATE_KIND(g->states + row->next) == XE_CONTENT : XE_STATE_KIND(g->states + row->next) != XE_CONTENT)
                return false;
        }
        if (attribute) {
            if (!ok(g, XE_S_NAMES, row->label) || !ok(g, XE_S_DATATYPES, row->arg)) return false;
        } else if (row->label < XE_L_NAMES) {
            if (!ok(g, XE_S_NAMES, row->label)) return false;
            if (row->arg == XE_NO16 ? g->relaxed == XE_NO16 : !ok(g, XE_S_ELEMENTS, row->arg)) return false;
        } else if (row->label < XE_L_SE_NS) {
            if (!ok(g, XE_S_URIS, row->label - XE_L_AT_NS)) return false;
        } else if (row->label < XE_L_AT_ANY) {
            if (!ok(g, XE_S_URIS, row->label - XE_L_SE_NS)) return false;
        } else if (row->label == XE_L_CH) {
            if (!ok_or_none(g, XE_S_DATATYPES, row->arg)) return false;
        } else if (row->label == XE_L_EE) {
            ends++;
        }
    }
    return ends == XE_STATE_ENDS(s);
}

static bool datatype_ok(const xe_grammar *g, const xe_datatype *d) {
    uint32_t self = (uint32_t)(d - g->datatypes);
    if (d->kind >= XE_KINDS || d->base >= XE_KINDS || d->base == XE_ENUM || !ok_or_none(g, XE_S_NAMES, d->name)) return false;
    if (d->parent != XE_NO16 && d->parent >= self) return false; /* so that chains end */
    if (!ok_or_none(g, XE_S_SETS, d->set) || !ok_or_none(g, XE_S_SETS, d->lexical)) return false;
    if (d->kind == XE_NBIT && d->bits > 12) return false;
    if (d->kind == XE_ENUM && (d->bits > 16 || d->count == 0 || (uint32_t)d->first + d->count > g->n[XE_S_ENUMS] || d->base == XE_LIST))
        return false;
    return d->kind != XE_LIST || d->first < self; /* nor may a list hold itself */
}

bool xe_grammar_open(xe_grammar *g, const uint8_t *bytes, size_t size) {
    static const uint8_t row_bytes[XE_SECTIONS] = {sizeof(xe_uri),
                                                   sizeof(xe_name),
                                                   sizeof(xe_element),
                                                   sizeof(xe_type),
                                                   sizeof(xe_state),
                                                   sizeof(xe_row),
                                                   sizeof(xe_datatype),
                                                   sizeof(xe_enum),
                                                   sizeof(xe_set),
                                                   2,
                                                   sizeof(xe_fragment),
                                                   2,
                                                   2,
                                                   1};
    const void **to[XE_SECTIONS] = {(const void **)&g->uris,       (const void **)&g->names,    (const void **)&g->elements,
                                    (const void **)&g->types,      (const void **)&g->states,   (const void **)&g->rows,
                                    (const void **)&g->datatypes,  (const void **)&g->enums,    (const void **)&g->sets,
                                    (const void **)&g->points,     (const void **)&g->fragment, (const void **)&g->uri_slots,
                                    (const void **)&g->name_slots, (const void **)&g->strings};
    uint32_t head[4];
    _Static_assert(sizeof(xe_name) == 12 && sizeof(xe_datatype) == 24 && sizeof(xe_row) == 6, "the rows are what the compiler writes");
    if (size < 32 + 8 * XE_SECTIONS || size > UINT32_MAX || ((uintptr_t)bytes & 7) || memcmp(bytes, "XEG1", 4)) return false;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    return false;
#endif
    memcpy(head, bytes + 4, 12);
    if (head[0] != size || head[1] != XE_SECTIONS) return false;
    g->n_globals = (uint16_t)head[2];
    g->relaxed = (uint16_t)(head[2] >> 16);
    g->informed = true;
    g->quick = NULL;
    g->quick_uris = NULL;
    for (unsigned i = 0; i < XE_SECTIONS; i++) {
        uint32_t entry[2];
        memcpy(entry, bytes + 32 + 8 * i, 8);
        if ((entry[1] & 7) || entry[1] > size || entry[0] > (size - entry[1]) / row_bytes[i]) return false;
        g->n[i] = entry[0];
        *to[i] = bytes + entry[1];
    }
    for (unsigned i = 0; i < XE_S_STRINGS; i++)
        if (g->n[i] > XE_NO16 + 1u) return false;
    if (g->n[XE_S_URIS] < 4 || g->n[XE_S_URIS] > 0x7F0 || g->n[XE_S_NAMES] > XE_L_NAMES || g->n_globals > g->n[XE_S_ELEMENTS]) return false;
    if (!slots_ok(g->uri_slots, g->n[XE_S_URI_SLOTS], g->n[XE_S_URIS]) || !slots_ok(g->name_slots, g->n[XE_S_NAME_SLOTS], g->n[XE_S_NAMES]))
        return false;
    uint32_t strings = g->n[XE_S_STRINGS], first = 0;
    for (uint32_t i = 0; i < g->n[XE_S_URIS]; i++) {
        const xe_uri *u = g->uris + i;
        if (u->text > strings || u->len > strings - u->text || u->first != first) return false;
        for (uint32_t k = 0; k < u->count; k++)
            if (first + k >= g->n[XE_S_NAMES] || g->names[first + k].uri != i) return false;
        first += u->count;
    }
    if (first != g->n[XE_S_NAMES] || g->uris[XE_URI_XSI].count < 2) return false;
    for (uint32_t i = 0; i < g->n[XE_S_NAMES]; i++) {
        const xe_name *e = g->names + i;
        if ((e->text_len >> 8) + (e->text_len & 0xFF) > strings) return false;
        if (!ok_or_none(g, XE_S_ELEMENTS, e->element) || !ok_or_none(g, XE_S_DATATYPES, e->attribute) ||
            !ok_or_none(g, XE_S_TYPES, e->type))
            return false;
    }
    for (uint32_t i = 0; i < 2; i++) { /* xsi:nil and xsi:type are known by number */
        xe_span text = xe_name_text(&xe_schemaless, XE_NAME_NIL + i);
        if (!xe_same(xe_name_text(g, g->uris[XE_URI_XSI].first + i), text)) return false;
    }
    for (uint32_t i = 0; i < g->n[XE_S_ELEMENTS]; i++)
        if (!ok(g, XE_S_NAMES, g->elements[i].name) || !ok(g, XE_S_TYPES, g->elements[i].type & 0x7FFFu)) return false;
    for (uint32_t i = 0; i < g->n[XE_S_STATES]; i++)
        if (!state_ok(g, g->states + i)) return false;
    for (uint32_t i = 0; i < g->n[XE_S_TYPES]; i++) {
        const xe_type *t = g->types + i;
        if (!ok(g, XE_S_STATES, t->start) || !ok(g, XE_S_STATES, t->empty)) return false;
        if (XE_STATE_KIND(g->states + t->start) != XE_FIRST || XE_STATE_KIND(g->states + t->empty) != XE_FIRST) return false;
    }
    for (uint32_t i = 0; i < g->n[XE_S_DATATYPES]; i++)
        if (!datatype_ok(g, g->datatypes + i)) return false;
    for (uint32_t i = 0; i < g->n[XE_S_ENUMS]; i++)
        if (g->enums[i].text > strings || g->enums[i].len > strings - g->enums[i].text) return false;
    for (uint32_t i = 0; i < g->n[XE_S_SETS]; i++)
        if ((uint32_t)g->sets[i].first + g->sets[i].count > g->n[XE_S_POINTS] || g->sets[i].count > 255) return false;
    for (uint32_t i = 0; i < g->n[XE_S_FRAGMENT]; i++) {
        if (!ok(g, XE_S_NAMES, g->fragment[i].name) || !ok_or_none(g, XE_S_ELEMENTS, g->fragment[i].element)) return false;
        if (g->fragment[i].element == XE_NO16 && g->relaxed == XE_NO16) return false;
    }
    return g->relaxed == XE_NO16 || g->relaxed < g->n[XE_S_TYPES];
}

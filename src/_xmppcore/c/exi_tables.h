/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an EXI coder learns: string tables and grammars of undeclared elements (W3C EXI 1.0, sections 7.3 and 8.4). One set a direction.
 *
 * Theory of operation. All that is learned is rows of arrays, in the order in which it was learned, and indexes into them with open
 * addressing. A slot carries the epoch in which it was written: to forget everything is to begin a new epoch and to count from zero. Arrays are
 * kept, so that a stanza allocates nothing once its like has been seen. Values are a ring if their number is limited: the oldest is
 * overwritten, so their bytes are a ring too. Everything counts against `most` bytes.
 *
 * Names and namespaces have one numbering: those of the grammar first, those that were learned behind them.
 */
#ifndef XC_EXI_TABLES_H
#define XC_EXI_TABLES_H

#include "exi_bits.h"
#include "hash.h"

typedef struct xe_slot {
    uint32_t hash;
    uint32_t index_epoch; /* index << 8 | epoch; epoch 0 is never current */
} xe_slot;

typedef struct xe_map {
    xe_slot *slots;
    uint32_t mask, used;
    uint8_t epoch;
} xe_map;

/* Where learned productions belong: to the start tag or the content of a learned element grammar, or to the fragment. */
#define XE_OWNER(grammar, content) ((grammar) * 2 + (content))
#define XE_OWNER_FRAGMENT 0xFFFFFFFEu

#define XE_PARTITION_BIT(name) ((uint64_t)1 << ((name) & 63))

enum { XE_P_EE, XE_P_CH, XE_P_AT, XE_P_SE };

typedef struct xe_learned {
    uint32_t owner, name, ordinal;
    uint8_t kind;
} xe_learned;

typedef struct xe_element_grammar { /* of an undeclared element */
    uint32_t name;
    uint32_t n[2];      /* learned productions of start tag, content */
    uint32_t usable[2]; /* encoder: those before it may be used; XE_NONE: all */
} xe_element_grammar;

typedef struct xe_value {
    uint32_t off, len;    /* bytes */
    uint32_t name, local; /* partition and, once it is counted, compact identifier in it */
} xe_value;

typedef struct xe_string { /* a learned namespace, name or prefix */
    uint32_t off, len;
    uint32_t uri, local; /* its namespace, its compact identifier there */
} xe_string;

typedef struct xe_partition {
    uint32_t name, count;
} xe_partition;

typedef struct xe_overwritten { /* a value that another took the place of since the mark */
    xe_value value;
    uint32_t text; /* in xe_tables.saved */
} xe_overwritten;

typedef struct xe_mark { /* how much was learned when it was set */
    uint32_t uris, names, prefixes, text_len, grammars, learned, next_value;
} xe_mark;

typedef struct xe_tables {
    const xe_grammar *g;
    size_t most, used; /* bytes */
    uint8_t error;
    bool decodes; /* a decoder looks up by number, an encoder by text */
    uint64_t seed[2];

    uint8_t *text; /* of namespaces, names and prefixes */
    uint32_t text_len, text_cap;
    xe_string *uris, *names, *prefixes;
    uint32_t n_uris, cap_uris, n_names, cap_names, n_prefixes, cap_prefixes;
    uint32_t *locals; /* names of each namespace */
    uint32_t cap_locals;
    xe_map by_name, by_local; /* (namespace, text) and (namespace, identifier) -> learned name */

    uint32_t value_max, value_capacity; /* options; XE_NONE: no limit */
    bool local_values;
    xe_value *values;
    uint32_t n_values, cap_values, next_value; /* next_value: what the next one overwrites, if that is less than n_values */
    uint8_t *ring;
    uint32_t ring_cap, ring_head; /* head: where the next value's bytes go */
    uint32_t uncounted;           /* so many of the last values are in no partition yet: few are ever asked for by partition */
    xe_partition *partitions;
    uint32_t n_partitions, cap_partitions;
    xe_map by_value, by_local_value, by_partition;
    uint64_t hits;   /* decoder: partitions in which a value was found by its number, a bit for each, by XE_PARTITION_BIT() */
    bool global_hit; /* likewise, in that of all */

    bool marked;
    xe_mark mark;
    uint32_t added; /* values since the mark; the last `n_undo` of them took the place of others */
    xe_overwritten *undo;
    uint32_t n_undo, cap_undo;
    uint8_t *saved;
    uint32_t saved_len, cap_saved;

    xe_element_grammar *grammars;
    uint32_t n_grammars, cap_grammars;
    xe_learned *learned;
    uint32_t n_learned, cap_learned;
    uint32_t n_fragment; /* productions of the fragment */
    xe_map by_grammar, by_event, by_ordinal;
} xe_tables;

void xe_tables_init(xe_tables *t, const xe_grammar *g, size_t most, const uint64_t seed[2]);
void xe_tables_free(xe_tables *t);
void xe_tables_reset(xe_tables *t); /* forget what was learned */
/* xe_tables_back() forgets what was learned since xe_tables_mark(): for input that turns out not to be whole. A decoder's only. */
void xe_tables_mark(xe_tables *t);
void xe_tables_back(xe_tables *t);

static inline uint32_t xe_uris(const xe_tables *t) { return t->g->n[XE_S_URIS] + t->n_uris; }
static inline xe_span xe_string_text(const xe_tables *t, const xe_string *s) { return (xe_span){t->text + s->off, s->len}; }
/* These texts are followed by XE_PAD bytes. */
static inline xe_span xe_uri_of(const xe_tables *t, uint32_t uri) {
    uint32_t known = t->g->n[XE_S_URIS];
    return uri < known ? xe_uri_text(t->g, uri) : xe_string_text(t, t->uris + (uri - known));
}
static inline xe_span xe_name_of(const xe_tables *t, uint32_t name) {
    uint32_t known = t->g->n[XE_S_NAMES];
    return name < known ? xe_name_text(t->g, name) : xe_string_text(t, t->names + (name - known));
}
static inline uint32_t xe_uri_of_name(const xe_tables *t, uint32_t name) {
    uint32_t known = t->g->n[XE_S_NAMES];
    return name < known ? t->g->names[name].uri : t->names[name - known].uri;
}
static inline uint32_t xe_local_of_name(const xe_tables *t, uint32_t name) {
    uint32_t known = t->g->n[XE_S_NAMES];
    return name < known ? name - t->g->uris[t->g->names[name].uri].first : t->names[name - known].local;
}
static inline uint32_t xe_locals(const xe_tables *t, uint32_t uri) { /* names of a namespace */
    if (uri < t->cap_locals) return t->locals[uri];
    return uri < t->g->n[XE_S_URIS] ? t->g->uris[uri].count : 0;
}
/* Indexes of rows with that hash, one after the other; XE_NONE ends them. */
static inline uint32_t xe_next(const xe_map *m, uint32_t hash, uint32_t *at) {
    if (!m->used) return XE_NONE;
    for (;; ++*at) {
        const xe_slot *s = m->slots + (*at & m->mask);
        if ((s->index_epoch & 0xFF) != m->epoch) return XE_NONE;
        if (s->hash == hash) {
            ++*at;
            return s->index_epoch >> 8;
        }
    }
}
static inline uint32_t xe_hash_text(const xe_tables *t, uint32_t a, xe_span s) {
    return (uint32_t)xc_hash(s.p, s.n, t->seed) ^ a * 0x9E3779B1u;
}

uint32_t xe_lookup_learned_uri(const xe_tables *t, xe_span text);
uint32_t xe_lookup_learned_name(const xe_tables *t, uint32_t uri, xe_span text);
/* The number of a namespace, or of a name of one; XE_NONE if there is none such. */
static inline uint32_t xe_lookup_uri(const xe_tables *t, xe_span text) {
    uint32_t found = xe_quick_uri(t->g, text);
    return found != XE_NONE || !t->n_uris ? found : xe_lookup_learned_uri(t, text);
}
static inline uint32_t xe_lookup_name_by(const xe_tables *t, uint32_t uri, uint64_t key, xe_span text) { /* key: xc_load() of the text */
    uint32_t found = uri < t->g->n[XE_S_URIS] ? xe_quick_name(t->g, uri, key, text) : XE_NONE;
    return found != XE_NONE || !t->n_names ? found : xe_lookup_learned_name(t, uri, text);
}
static inline uint32_t xe_lookup_name(const xe_tables *t, uint32_t uri, xe_span text) {
    return xe_lookup_name_by(t, uri, xc_load(text.p, text.n), text);
}
uint32_t xe_name_at(const xe_tables *t, uint32_t uri, uint32_t local);
uint32_t xe_add_uri(xe_tables *t, xe_span text);
uint32_t xe_add_name(xe_tables *t, uint32_t uri, xe_span text);

uint32_t xe_prefixes_of(const xe_tables *t, uint32_t uri); /* how many */
uint32_t xe_lookup_prefix(const xe_tables *t, uint32_t uri, xe_span text);
xe_span xe_prefix_at(const xe_tables *t, uint32_t uri, uint32_t local);
void xe_add_prefix(xe_tables *t, uint32_t uri, xe_span text);

/* Index into values, or XE_NONE. */
uint32_t xe_local_value_at(const xe_tables *t, uint32_t name, uint32_t local);
uint32_t xe_partition_size(xe_tables *t, uint32_t name); /* counts what is uncounted, and so has to be asked first */
/* Values to be encoded, and those in the ring, are followed by XE_PAD bytes that mean nothing. *ascii: it has no byte of 0x80 or above. */
static inline uint32_t xe_hash_value(const xe_tables *t, xe_span text, bool *ascii) {
    uint64_t h = t->seed[0] ^ text.n, any = 0, a, b;
    for (; text.n > 16; text.p += 16, text.n -= 16) {
        a = xe_load_padded(text.p, 8);
        b = xe_load_padded(text.p + 8, 8);
        any |= a | b;
        h = xc_hash_mix(a ^ h, b ^ t->seed[1]);
    }
    a = xe_load_padded(text.p, text.n);
    b = xe_load_padded(text.p + 8, text.n > 8 ? text.n - 8 : 0);
    *ascii = !((any | a | b) & 0x8080808080808080u);
    return (uint32_t)xc_hash_mix(xc_hash_mix(a ^ h, b ^ t->seed[1]) ^ 0x9E3779B97F4A7C15u, t->seed[0] | 1);
}
static inline uint32_t xe_lookup_value(const xe_tables *t, xe_span text, uint32_t hash) {
    for (uint32_t at = hash, i; (i = xe_next(&t->by_value, hash, &at)) != XE_NONE;)
        if (t->values[i].len == text.n && !memcmp(t->ring + t->values[i].off, text.p, text.n)) return i;
    return XE_NONE;
}
static inline xe_span xe_value_text(const xe_tables *t, uint32_t i) { return (xe_span){t->ring + t->values[i].off, t->values[i].len}; }
bool xe_grow_map(xe_tables *t, xe_map *m);
static inline void xe_map_put(xe_tables *t, xe_map *m, uint32_t hash, uint32_t index) {
    uint32_t at = hash;
    if (t->error || (XE_RARE(m->used * 4 >= m->mask * 3) && !xe_grow_map(t, m))) return;
    while ((m->slots[at & m->mask].index_epoch & 0xFF) == m->epoch) at++;
    m->slots[at & m->mask] = (xe_slot){hash, index << 8 | m->epoch};
    m->used++;
}

bool xe_value_room(xe_tables *t, uint32_t i, size_t n, uint32_t *off);
static inline void xe_add_value(xe_tables *t, uint32_t name, xe_span text, size_t characters, uint32_t hash) {
    uint32_t i = t->next_value, off = t->ring_head;
    if (characters > t->value_max || t->error) return;
    if (i == t->n_values && i < t->cap_values && text.n <= t->ring_cap - off) { /* nothing was overwritten yet: they lie in a row */
        xe_copy_padded(t->ring + off, text.p, text.n);
        t->ring_head = off + (uint32_t)text.n;
        t->n_values++;
    } else {
        if (!xe_value_room(t, i, text.n, &off)) return;
        memcpy(t->ring + off, text.p, text.n);
        if (i == t->n_values) t->n_values++;
    }
    t->values[i] = (xe_value){off, (uint32_t)text.n, name, 0};
    if (!t->decodes) xe_map_put(t, &t->by_value, hash, i);
    t->added++;
    t->uncounted++;
    t->next_value = i + 1 == t->value_capacity ? 0 : i + 1;
}

uint32_t xe_grammar_of(const xe_tables *t, uint32_t name); /* XE_NONE: not learned */
uint32_t xe_add_grammar(xe_tables *t, uint32_t name);
/* The learned production for an event: its ordinal; the n-th to be learned is n. XE_NONE: not learned. */
uint32_t xe_lookup_learned(const xe_tables *t, uint32_t owner, uint8_t kind, uint32_t name);
const xe_learned *xe_learned_at(const xe_tables *t, uint32_t owner, uint32_t ordinal);
void xe_learn(xe_tables *t, uint32_t owner, uint8_t kind, uint32_t name);
static inline uint32_t xe_learned_count(const xe_tables *t, uint32_t owner) {
    return owner == XE_OWNER_FRAGMENT ? t->n_fragment : t->grammars[owner >> 1].n[owner & 1];
}

#endif

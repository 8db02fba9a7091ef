/* SPDX-License-Identifier: Apache-2.0 */
#include "exi_tables.h"

static bool charge(xe_tables *t, size_t more) {
    if (t->error) return false;
    if (more > t->most - t->used) {
        t->error = XE_E_LIMIT;
        return false;
    }
    t->used += more;
    return true;
}

/* Room for row n of an array. */
XE_COLD bool grow_more(xe_tables *t, void *array, uint32_t *cap, uint32_t n, size_t row) {
    void **p = array;
    uint32_t more = *cap ? *cap : 8;
    if (n >= (1u << 24) - 1) {
        t->error = XE_E_LIMIT;
        return false;
    }
    if (!charge(t, more * row)) return false;
    void *q = realloc(*p, ((size_t)*cap + more) * row);
    if (!q) {
        t->error = XE_E_MEMORY;
        return false;
    }
    *p = q;
    *cap += more;
    return true;
}
static inline bool grow(xe_tables *t, void *array, uint32_t *cap, uint32_t n, size_t row) {
    if (n < *cap) return !t->error;
    return grow_more(t, array, cap, n, row);
}

static uint32_t hash2(const xe_tables *t, uint32_t a, uint32_t b) {
    return (uint32_t)xc_hash_mix(((uint64_t)a << 32 | b) ^ t->seed[0], t->seed[1] | 1);
}
bool xe_grow_map(xe_tables *t, xe_map *m) {
    uint32_t size = m->slots ? (m->mask + 1) * 2 : 16;
    if (!charge(t, (size_t)(m->slots ? size / 2 : size) * sizeof(xe_slot))) return false;
    xe_slot *slots = calloc(size, sizeof *slots);
    if (!slots) {
        t->error = XE_E_MEMORY;
        return false;
    }
    for (uint32_t i = 0; m->slots && i <= m->mask; i++) {
        xe_slot s = m->slots[i];
        if ((s.index_epoch & 0xFF) != m->epoch) continue;
        uint32_t at = s.hash;
        while (slots[at & (size - 1)].index_epoch) at++;
        slots[at & (size - 1)] = (xe_slot){s.hash, (s.index_epoch & ~0xFFu) | 1};
    }
    free(m->slots);
    m->slots = slots;
    m->mask = size - 1;
    m->epoch = 1;
    return true;
}
/* Take the slot (hash, index) out, and move those behind it up. */
static void take(xe_map *m, uint32_t hash, uint32_t index) {
    uint32_t at = hash;
    if (!m->slots) return;
    for (;; at++) {
        const xe_slot *s = m->slots + (at & m->mask);
        if ((s->index_epoch & 0xFF) != m->epoch) return;
        if (s->hash == hash && s->index_epoch >> 8 == index) break;
    }
    m->used--;
    for (uint32_t hole = at;;) {
        at++;
        xe_slot *s = m->slots + (at & m->mask);
        if ((s->index_epoch & 0xFF) != m->epoch) {
            m->slots[hole & m->mask].index_epoch = 0;
            return;
        }
        if (((at - s->hash) & m->mask) >= ((at - hole) & m->mask)) {
            m->slots[hole & m->mask] = *s;
            hole = at;
        }
    }
}

static void clear(xe_map *m) {
    if (!m->used) return;
    m->used = 0;
    if (++m->epoch == 0) {
        memset(m->slots, 0, ((size_t)m->mask + 1) * sizeof *m->slots);
        m->epoch = 1;
    }
}

void xe_tables_init(xe_tables *t, const xe_grammar *g, size_t most, const uint64_t seed[2]) {
    memset(t, 0, sizeof *t);
    t->g = g;
    t->most = most;
    t->seed[0] = seed[0];
    t->seed[1] = seed[1];
    t->value_max = t->value_capacity = XE_NONE;
    t->local_values = true;
}

void xe_tables_free(xe_tables *t) {
    void *all[] = {t->text,
                   t->uris,
                   t->names,
                   t->prefixes,
                   t->locals,
                   t->by_name.slots,
                   t->by_local.slots,
                   t->values,
                   t->ring,
                   t->grammars,
                   t->learned,
                   t->by_value.slots,
                   t->by_local_value.slots,
                   t->by_partition.slots,
                   t->partitions,
                   t->by_grammar.slots,
                   t->by_event.slots,
                   t->by_ordinal.slots,
                   t->undo,
                   t->saved};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

void xe_tables_reset(xe_tables *t) {
    xe_map *maps[] = {&t->by_name,      &t->by_local,   &t->by_value, &t->by_local_value,
                      &t->by_partition, &t->by_grammar, &t->by_event, &t->by_ordinal};
    for (uint32_t i = 0; i < t->n_names; i++) { /* the counts of the grammar's own namespaces */
        uint32_t uri = t->names[i].uri;
        if (uri < t->g->n[XE_S_URIS]) t->locals[uri] = t->g->uris[uri].count;
    }
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) clear(maps[i]);
    t->text_len = t->n_uris = t->n_names = t->n_prefixes = t->n_values = t->next_value = t->ring_head = t->uncounted = 0;
    t->n_partitions = t->n_grammars = t->n_learned = t->n_fragment = 0;
    t->marked = false;
    t->error = XE_OK;
}

static bool keep_text(xe_tables *t, xe_span s, uint32_t *off) {
    if (s.n > UINT32_MAX / 4 || t->text_len + s.n > UINT32_MAX / 2) t->error = XE_E_LIMIT;
    if (t->error) return false;
    if (!t->text || t->text_cap - t->text_len < s.n + XE_PAD) {
        uint32_t more = t->text_cap > s.n + XE_PAD ? t->text_cap : (uint32_t)s.n + 64;
        if (!charge(t, more)) return false;
        uint8_t *p = realloc(t->text, (size_t)t->text_cap + more);
        if (!p) {
            t->error = XE_E_MEMORY;
            return false;
        }
        t->text = p;
        t->text_cap += more;
    }
    if (s.n) memcpy(t->text + t->text_len, s.p, s.n);
    *off = t->text_len;
    t->text_len += (uint32_t)s.n;
    return true;
}

/* -- namespaces and names */

uint32_t xe_lookup_learned_uri(const xe_tables *t, xe_span text) {
    uint32_t hash = xe_hash_text(t, XE_NONE, text);
    for (uint32_t at = hash, i; (i = xe_next(&t->by_name, hash, &at)) != XE_NONE;)
        if (i & 0x800000u && xe_same(xe_string_text(t, t->uris + (i & 0x7FFFFF)), text)) return t->g->n[XE_S_URIS] + (i & 0x7FFFFF);
    return XE_NONE;
}

uint32_t xe_lookup_learned_name(const xe_tables *t, uint32_t uri, xe_span text) {
    uint32_t hash = xe_hash_text(t, uri, text);
    for (uint32_t at = hash, i; (i = xe_next(&t->by_name, hash, &at)) != XE_NONE;)
        if (!(i & 0x800000u) && t->names[i].uri == uri && xe_same(xe_string_text(t, t->names + i), text)) return t->g->n[XE_S_NAMES] + i;
    return XE_NONE;
}

uint32_t xe_name_at(const xe_tables *t, uint32_t uri, uint32_t local) {
    if (uri < t->g->n[XE_S_URIS] && local < t->g->uris[uri].count) return t->g->uris[uri].first + local;
    uint32_t hash = hash2(t, uri, local);
    for (uint32_t at = hash, i; (i = xe_next(&t->by_local, hash, &at)) != XE_NONE;)
        if (t->names[i].uri == uri && t->names[i].local == local) return t->g->n[XE_S_NAMES] + i;
    return XE_NONE;
}

/* The counts of names of all namespaces up to `uri`. */
static bool count_locals(xe_tables *t, uint32_t uri) {
    uint32_t had = t->cap_locals;
    while (t->cap_locals <= uri)
        if (!grow(t, &t->locals, &t->cap_locals, t->cap_locals, sizeof *t->locals)) return false;
    for (; had < t->cap_locals; had++) t->locals[had] = had < t->g->n[XE_S_URIS] ? t->g->uris[had].count : 0;
    return true;
}

uint32_t xe_add_uri(xe_tables *t, xe_span text) {
    uint32_t i = t->n_uris, uri = t->g->n[XE_S_URIS] + i, off;
    if (i >= 0x7FFFFF) t->error = XE_E_LIMIT;
    if (!grow(t, &t->uris, &t->cap_uris, i, sizeof *t->uris) || !count_locals(t, uri) || !keep_text(t, text, &off)) return 0;
    t->uris[i] = (xe_string){off, (uint32_t)text.n, 0, 0};
    t->locals[uri] = 0;
    xe_map_put(t, &t->by_name, xe_hash_text(t, XE_NONE, text), i | 0x800000u);
    t->n_uris++;
    return uri;
}

uint32_t xe_add_name(xe_tables *t, uint32_t uri, xe_span text) {
    uint32_t i = t->n_names, off;
    if (i >= 0x7FFFFF) t->error = XE_E_LIMIT;
    if (!grow(t, &t->names, &t->cap_names, i, sizeof *t->names) || !count_locals(t, uri) || !keep_text(t, text, &off)) return 0;
    t->names[i] = (xe_string){off, (uint32_t)text.n, uri, t->locals[uri]};
    xe_map_put(t, &t->by_name, xe_hash_text(t, uri, text), i);
    if (t->decodes) xe_map_put(t, &t->by_local, hash2(t, uri, t->locals[uri]), i);
    t->locals[uri]++;
    t->n_names++;
    return t->g->n[XE_S_NAMES] + i;
}

/* -- prefixes: few, so they are searched one by one */

static xe_span known_prefix(uint32_t uri) {
    static const uint8_t text[] = "xmlxsi";
    return uri == XE_URI_XML ? (xe_span){text, 3} : uri == XE_URI_XSI ? (xe_span){text + 3, 3} : (xe_span){text, 0};
}

uint32_t xe_prefixes_of(const xe_tables *t, uint32_t uri) {
    uint32_t n = uri <= XE_URI_XSI;
    for (uint32_t i = 0; i < t->n_prefixes; i++) n += t->prefixes[i].uri == uri;
    return n;
}
uint32_t xe_lookup_prefix(const xe_tables *t, uint32_t uri, xe_span text) {
    if (uri <= XE_URI_XSI && xe_same(text, known_prefix(uri))) return 0;
    for (uint32_t i = 0; i < t->n_prefixes; i++)
        if (t->prefixes[i].uri == uri && xe_same(text, xe_string_text(t, t->prefixes + i))) return t->prefixes[i].local;
    return XE_NONE;
}
xe_span xe_prefix_at(const xe_tables *t, uint32_t uri, uint32_t local) {
    if (uri <= XE_URI_XSI && local == 0) return known_prefix(uri);
    for (uint32_t i = 0; i < t->n_prefixes; i++)
        if (t->prefixes[i].uri == uri && t->prefixes[i].local == local) return xe_string_text(t, t->prefixes + i);
    return (xe_span){NULL, 0};
}
void xe_add_prefix(xe_tables *t, uint32_t uri, xe_span text) {
    uint32_t local = xe_prefixes_of(t, uri), off;
    if (t->n_prefixes >= 1024) t->error = XE_E_LIMIT; /* they are searched one by one */
    if (!grow(t, &t->prefixes, &t->cap_prefixes, t->n_prefixes, sizeof *t->prefixes) || !keep_text(t, text, &off)) return;
    t->prefixes[t->n_prefixes++] = (xe_string){off, (uint32_t)text.n, uri, local};
}

/* -- values */

uint32_t xe_local_value_at(const xe_tables *t, uint32_t name, uint32_t local) {
    uint32_t hash = hash2(t, name, local);
    for (uint32_t at = hash, i; (i = xe_next(&t->by_local_value, hash, &at)) != XE_NONE;)
        if (t->values[i].name == name && t->values[i].local == local) return i;
    return XE_NONE;
}
static uint32_t partition_of(const xe_tables *t, uint32_t name) {
    uint32_t hash = hash2(t, name, 0);
    for (uint32_t at = hash, i; (i = xe_next(&t->by_partition, hash, &at)) != XE_NONE;)
        if (t->partitions[i].name == name) return i;
    return XE_NONE;
}

/* Put the last values into their partitions. */
static bool count_values(xe_tables *t) {
    for (; t->uncounted && !t->error; t->uncounted--) {
        uint32_t i = t->next_value >= t->uncounted ? t->next_value - t->uncounted : t->next_value + t->value_capacity - t->uncounted;
        xe_value *v = t->values + i;
        uint32_t p = partition_of(t, v->name);
        if (p == XE_NONE) {
            p = t->n_partitions;
            if (!grow(t, &t->partitions, &t->cap_partitions, p, sizeof *t->partitions)) return false;
            t->partitions[p] = (xe_partition){v->name, 0};
            xe_map_put(t, &t->by_partition, hash2(t, v->name, 0), p);
            if (t->error) return false;
            t->n_partitions++;
        }
        v->local = t->partitions[p].count;
        if (t->decodes) xe_map_put(t, &t->by_local_value, hash2(t, v->name, v->local), i);
        if (t->error) return false;
        t->partitions[p].count++;
    }
    return !t->error;
}

uint32_t xe_partition_size(xe_tables *t, uint32_t name) {
    if (!count_values(t)) return 0;
    uint32_t i = partition_of(t, name);
    return i == XE_NONE ? 0 : t->partitions[i].count;
}

/* Bytes for a value. The ring holds the values from the oldest on, with a gap where it wraps. */
static bool ring_room(xe_tables *t, uint32_t n, uint32_t live, uint32_t *off) {
    uint32_t tail =
        live ? t->values[live == t->n_values ? (t->next_value < t->n_values ? t->next_value : 0) : (t->next_value + 1) % t->n_values].off
             : t->ring_head;
    uint32_t head = t->ring_head;
    if (!live) head = tail = 0;
    if (live && head <= tail) {         /* wrapped: free is [head, tail) */
        if (tail - head > n) goto fits; /* more than n: a full ring must not look empty */
    } else {                            /* free is [head, cap) and [0, tail) */
        if (t->ring_cap - head >= n && t->ring_cap) goto fits;
        if (live && tail > n) {
            head = 0;
            goto fits;
        }
    }
    {
        size_t live_bytes = 0;
        for (uint32_t i = 0; i < t->n_values; i++) live_bytes += t->values[i].len;
        size_t cap = t->ring_cap ? t->ring_cap : 128;
        if (cap < live_bytes + n + cap / 8) cap += cap / 2; /* else it is only broken up: put the pieces together */
        while (cap < live_bytes + n + 1) cap += cap / 2;
        if (cap > UINT32_MAX / 2) t->error = XE_E_LIMIT;
        if (!charge(t, cap - t->ring_cap)) return false;
        uint8_t *p = malloc(cap + XE_PAD);
        if (!p) {
            t->error = XE_E_MEMORY;
            return false;
        }
        head = 0;
        for (uint32_t k = 0; k < t->n_values; k++) { /* oldest first */
            uint32_t i = t->next_value < t->n_values ? (t->next_value + k) % t->n_values : k;
            if (live < t->n_values && i == t->next_value) continue; /* it is being overwritten */
            memcpy(p + head, t->ring + t->values[i].off, t->values[i].len);
            t->values[i].off = head;
            head += t->values[i].len;
        }
        free(t->ring);
        t->ring = p;
        t->ring_cap = (uint32_t)cap;
    }
fits:
    *off = head;
    t->ring_head = head + n;
    return true;
}

/* Note for xe_tables_back() what is at place i. */
static bool keep_old(xe_tables *t, uint32_t i) {
    xe_overwritten old = {t->values[i], t->saved_len};
    if (!grow(t, &t->undo, &t->cap_undo, t->n_undo, sizeof *t->undo)) return false;
    for (uint32_t need = t->saved_len + old.value.len; need > t->cap_saved;)
        if (!grow(t, &t->saved, &t->cap_saved, t->cap_saved, 1)) return false;
    if (old.value.len) memcpy(t->saved + t->saved_len, t->ring + old.value.off, old.value.len);
    t->saved_len += old.value.len;
    t->undo[t->n_undo++] = old;
    return true;
}

/* A value takes the place of the oldest, i. */
static bool overwrite(xe_tables *t, uint32_t i) {
    bool ascii;
    if (!count_values(t) || (t->marked && !keep_old(t, i))) return false;
    if (t->decodes)
        take(&t->by_local_value, hash2(t, t->values[i].name, t->values[i].local), i);
    else
        take(&t->by_value, xe_hash_value(t, xe_value_text(t, i), &ascii), i);
    return true;
}

/* A place in the ring for value i, which may be there already. */
bool xe_value_room(xe_tables *t, uint32_t i, size_t n, uint32_t *off) {
    uint32_t live = t->n_values;
    if (n >= UINT32_MAX / 4) t->error = XE_E_LIMIT;
    if (i < live) {
        live--;
        if (!overwrite(t, i)) return false;
    } else if (!grow(t, &t->values, &t->cap_values, i, sizeof *t->values)) {
        return false;
    }
    return ring_room(t, (uint32_t)n, live, off);
}

/* -- grammars of undeclared elements */

uint32_t xe_grammar_of(const xe_tables *t, uint32_t name) {
    uint32_t hash = hash2(t, name, 1);
    for (uint32_t at = hash, i; (i = xe_next(&t->by_grammar, hash, &at)) != XE_NONE;)
        if (t->grammars[i].name == name) return i;
    return XE_NONE;
}
uint32_t xe_add_grammar(xe_tables *t, uint32_t name) {
    uint32_t i = t->n_grammars;
    if (!grow(t, &t->grammars, &t->cap_grammars, i, sizeof *t->grammars)) return XE_NONE;
    t->grammars[i] = (xe_element_grammar){name, {0, 0}, {XE_NONE, XE_NONE}};
    xe_map_put(t, &t->by_grammar, hash2(t, name, 1), i);
    if (t->error) return XE_NONE;
    t->n_grammars++;
    return i;
}

uint32_t xe_lookup_learned(const xe_tables *t, uint32_t owner, uint8_t kind, uint32_t name) {
    uint32_t hash = hash2(t, owner * 4 + kind, name);
    for (uint32_t at = hash, i; (i = xe_next(&t->by_event, hash, &at)) != XE_NONE;) {
        const xe_learned *l = t->learned + i;
        if (l->owner == owner && l->kind == kind && l->name == name) return l->ordinal;
    }
    return XE_NONE;
}
const xe_learned *xe_learned_at(const xe_tables *t, uint32_t owner, uint32_t ordinal) {
    uint32_t hash = hash2(t, owner, ordinal);
    for (uint32_t at = hash, i; (i = xe_next(&t->by_ordinal, hash, &at)) != XE_NONE;)
        if (t->learned[i].owner == owner && t->learned[i].ordinal == ordinal) return t->learned + i;
    return NULL;
}
void xe_learn(xe_tables *t, uint32_t owner, uint8_t kind, uint32_t name) {
    uint32_t i = t->n_learned;
    uint32_t *n = owner == XE_OWNER_FRAGMENT ? &t->n_fragment : &t->grammars[owner >> 1].n[owner & 1];
    if (!grow(t, &t->learned, &t->cap_learned, i, sizeof *t->learned)) return;
    t->learned[i] = (xe_learned){owner, name, *n, kind};
    xe_map_put(t, &t->by_event, hash2(t, owner * 4 + kind, name), i);
    if (t->decodes) xe_map_put(t, &t->by_ordinal, hash2(t, owner, *n), i);
    if (t->error) return;
    ++*n;
    t->n_learned++;
}

/* -- undoing */

void xe_tables_mark(xe_tables *t) {
    t->marked = true;
    t->n_undo = t->saved_len = t->added = 0;
    t->mark = (xe_mark){t->n_uris, t->n_names, t->n_prefixes, t->text_len, t->n_grammars, t->n_learned, t->next_value};
}

/* Values: the last first. If some of them took the place of others, the ring is laid out anew, with the bytes of those that come back. */
static void values_back(xe_tables *t) {
    uint8_t *p = t->n_undo ? malloc(t->ring_cap + XE_PAD) : NULL;
    uint32_t *saved = t->n_undo ? calloc(t->n_values, sizeof *saved) : NULL; /* of each value where its bytes were saved, + 1 */
    if (t->n_undo && (!p || !saved)) {
        free(p);
        free(saved);
        t->error = XE_E_MEMORY;
        return;
    }
    for (; t->added; t->added--) {
        uint32_t i = t->next_value ? t->next_value - 1 : t->n_values - 1;
        const xe_value *v = t->values + i;
        if (t->uncounted) {
            t->uncounted--;
        } else {
            take(&t->by_local_value, hash2(t, v->name, v->local), i);
            t->partitions[partition_of(t, v->name)].count--;
        }
        t->next_value = i;
        if (t->n_undo) {
            t->values[i] = t->undo[--t->n_undo].value;
            saved[i] = t->n_undo + 1;
            xe_map_put(t, &t->by_local_value, hash2(t, t->values[i].name, t->values[i].local), i);
        } else {
            t->n_values--;
            t->ring_head = v->off;
        }
    }
    if (!p) return;
    uint32_t head = 0;
    for (uint32_t k = 0; k < t->n_values; k++) {
        uint32_t i = t->next_value < t->n_values ? (t->next_value + k) % t->n_values : k;
        xe_value *v = t->values + i;
        memcpy(p + head, saved[i] ? t->saved + t->undo[saved[i] - 1].text : t->ring + v->off, v->len);
        v->off = head;
        head += v->len;
    }
    free(saved);
    free(t->ring);
    t->ring = p;
    t->ring_head = head;
}

void xe_tables_back(xe_tables *t) {
    t->error = XE_OK;
    t->marked = false;
    values_back(t);
    while (t->n_learned > t->mark.learned) {
        const xe_learned *l = t->learned + --t->n_learned;
        take(&t->by_event, hash2(t, l->owner * 4 + l->kind, l->name), t->n_learned);
        take(&t->by_ordinal, hash2(t, l->owner, l->ordinal), t->n_learned);
        if (l->owner == XE_OWNER_FRAGMENT)
            t->n_fragment--;
        else
            t->grammars[l->owner >> 1].n[l->owner & 1]--;
    }
    while (t->n_grammars > t->mark.grammars) {
        t->n_grammars--;
        take(&t->by_grammar, hash2(t, t->grammars[t->n_grammars].name, 1), t->n_grammars);
    }
    while (t->n_names > t->mark.names) {
        const xe_string *s = t->names + --t->n_names;
        take(&t->by_name, xe_hash_text(t, s->uri, xe_string_text(t, s)), t->n_names);
        take(&t->by_local, hash2(t, s->uri, s->local), t->n_names);
        t->locals[s->uri]--;
    }
    while (t->n_uris > t->mark.uris) {
        const xe_string *s = t->uris + --t->n_uris;
        take(&t->by_name, xe_hash_text(t, XE_NONE, xe_string_text(t, s)), t->n_uris | 0x800000u);
    }
    t->n_prefixes = t->mark.prefixes;
    t->text_len = t->mark.text_len;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "exi.h"

static const char too_large[] = "the result is larger than allowed";

static bool grow(xe_coder *c, void *array, uint32_t *cap, uint32_t n, size_t row) {
    void **p = array;
    if (n < *cap) return true;
    uint32_t more = *cap ? *cap * 2 : 16;
    void *q = realloc(*p, more * row);
    if (!q) return xe_fail(c, XE_E_MEMORY, "out of memory");
    *p = q;
    *cap = more;
    return true;
}

bool xe_encoder_init(xe_encoder *e, const xe_grammar *g, const xe_options *o, const xe_limits *l, const uint64_t seed[2]) {
    memset(e, 0, sizeof *e);
    e->out.most = e->done.most = e->text.most = e->piece.most = l->output_bytes;
    return xe_coder_init(&e->c, g, o, l, seed);
}

void xe_encoder_free(xe_encoder *e) {
    xe_out_free(&e->out);
    xe_out_free(&e->done);
    xe_out_free(&e->text);
    xe_out_free(&e->piece);
    free(e->held);
    free(e->channels);
    free(e->channel_of);
    xe_coder_free(&e->c);
}

void xe_encoder_begin(xe_encoder *e, const uint8_t *header, size_t bits, bool keep) {
    xe_coder_begin(&e->c, keep);
    xe_out_reset(&e->out);
    xe_out_reset(&e->done);
    xe_out_reset(&e->text);
    xe_out_reset(&e->piece);
    for (uint32_t i = 0; i < e->n_channels; i++) e->channel_of[e->channels[i].name] = 0; /* of a block that failed */
    e->n_held = e->n_channels = 0;
    xe_out_room(&e->out, 1); /* so that its bytes are somewhere */
    if (e->c.o.channels) {
        xe_out_room(&e->text, 1);
        xe_out_room(&e->piece, 1);
    }
    xe_out *to = e->c.o.channels ? &e->done : &e->out;
    to->aligned = false;
    xe_put_bytes(to, header, bits / 8);
    if (bits % 8) xe_put(to, header[bits / 8] >> (8 - bits % 8), bits % 8);
    if (e->c.o.aligned) xe_out_align(to);
    e->out.aligned = e->c.o.aligned;
    e->piece.aligned = true;
}

/* -- names */

static void put_known_prefix(xe_encoder *e, uint32_t uri, xe_span prefix) {
    uint32_t n = xe_prefixes_of(&e->c.t, uri);
    if (n < 2) return;
    uint32_t id = prefix.p ? xe_lookup_prefix(&e->c.t, uri, prefix) : 0;
    xe_put(&e->out, id == XE_NONE ? 0 : id, xe_width(n));
}
static inline void put_prefix(xe_encoder *e, uint32_t uri, xe_span prefix) {
    if (XE_RARE(e->c.o.prefixes)) put_known_prefix(e, uri, prefix);
}

/* The numbers of a name, if the tables have them; what was learned since they were looked up counts. */
static inline uint32_t find_uri(const xe_encoder *e, const xe_qname *q) {
    if (q->uri_id != XE_NONE) return q->uri_id;
    return q->uri.n ? xe_lookup_uri(&e->c.t, q->uri) : XE_URI_NONE;
}
static inline uint32_t find_name(const xe_encoder *e, const xe_qname *q) {
    if (q->name_id != XE_NONE) return q->name_id;
    uint32_t uri = find_uri(e, q);
    return uri == XE_NONE ? XE_NONE : xe_lookup_name(&e->c.t, uri, q->local);
}

/* A namespace: its number, if it is known, or its text. */
static uint32_t put_uri(xe_encoder *e, uint32_t id, xe_span text) {
    xe_tables *t = &e->c.t;
    unsigned width = xe_width(xe_uris(t) + 1);
    if (id != XE_NONE) {
        xe_put(&e->out, id + 1, width);
        return id;
    }
    xe_put(&e->out, 0, width);
    xe_put_string(&e->out, text, xe_characters(text), 0);
    return xe_add_uri(t, text);
}

static uint32_t put_local(xe_encoder *e, uint32_t uri, const xe_qname *q) {
    xe_tables *t = &e->c.t;
    uint32_t id = q->name_id != XE_NONE ? q->name_id : xe_lookup_name(t, uri, q->local);
    if (id != XE_NONE) {
        xe_put_unsigned(&e->out, 0);
        xe_put(&e->out, xe_local_of_name(t, id), xe_width(xe_locals(t, uri)));
        return id;
    }
    xe_put_string(&e->out, q->local, xe_characters(q->local), 1);
    return xe_add_name(t, uri, q->local);
}

static uint32_t put_name(xe_encoder *e, const xe_qname *q) {
    uint32_t uri = put_uri(e, find_uri(e, q), q->uri), name = put_local(e, uri, q);
    put_prefix(e, uri, q->prefix);
    return name;
}

static uint16_t element_of(const xe_encoder *e, uint32_t name) {
    return name < e->c.t.g->n[XE_S_NAMES] ? e->c.t.g->names[name].element : XE_NO16;
}

/* -- event codes */

/* First part `code` of n one-part codes; `more`: there are two-part codes. */
static inline void put_first(xe_encoder *e, uint32_t code, uint32_t n, bool more) { xe_put(&e->out, code, xe_width(n + more)); }

static uint32_t one_part_codes(const xe_encoder *e, const xe_frame *f) {
    if (f->grammar == XE_NONE) return e->c.t.g->states[f->state].n;
    return xe_learned_count(&e->c.t, XE_OWNER(f->grammar, f->where == XE_CONTENT)) + (f->where == XE_CONTENT);
}

static void put_second(xe_encoder *e, const xe_frame *f, const xe_second *s, int code) {
    uint32_t n = one_part_codes(e, f);
    put_first(e, n, n, true);
    xe_put(&e->out, (uint32_t)code, xe_width(s->n));
}

static inline void put_row_of(xe_encoder *e, const xe_frame *f, const xe_state *s, uint32_t row) {
    put_first(e, row, s->n, xe_has_second(&e->c, f));
}
static inline void put_row(xe_encoder *e, const xe_frame *f, uint32_t row) { put_row_of(e, f, e->c.t.g->states + f->state, row); }

static inline void go(xe_encoder *e, xe_frame *f, uint16_t state) {
    f->state = state;
    f->where = XE_STATE_KIND(e->c.t.g->states + state);
}

static void go_content(xe_encoder *e, xe_frame *f) {
    if (f->grammar == XE_NONE) go(e, f, e->c.t.g->states[f->state].content);
    f->where = XE_CONTENT;
}

/* The row of a state with that label, behind its attributes; XE_NONE if there is none. */
static inline uint32_t row_of(const xe_encoder *e, const xe_frame *f, uint32_t label) {
    const xe_state *s = e->c.t.g->states + f->state;
    const xe_row *rows = e->c.t.g->rows + s->first;
    for (uint32_t i = XE_STATE_ATTRIBUTES(s); i < s->n; i++)
        if (rows[i].label == label) return i;
    return XE_NONE;
}
static inline uint32_t row_of_end(const xe_encoder *e, const xe_frame *f) { /* it is the last, or the one before */
    const xe_state *s = e->c.t.g->states + f->state;
    uint32_t i = s->n;
    if (!XE_STATE_ENDS(s)) return XE_NONE;
    while (e->c.t.g->rows[s->first + --i].label != XE_L_EE) continue;
    return i;
}

static inline const xe_row *row_at(const xe_encoder *e, const xe_frame *f, uint32_t i) {
    return e->c.t.g->rows + e->c.t.g->states[f->state].first + i;
}

/* The production learned for an event, which may be used: those learned after the profile's limit are there in name only. */
static uint32_t lookup(const xe_encoder *e, uint32_t owner, uint8_t kind, uint32_t name) {
    uint32_t ordinal = name == XE_NONE ? XE_NONE : xe_lookup_learned(&e->c.t, owner, kind, name);
    bool ghost = ordinal != XE_NONE && owner != XE_OWNER_FRAGMENT && ordinal >= e->c.t.grammars[owner >> 1].usable[owner & 1];
    return ghost ? XE_NONE : ordinal;
}

static bool limit_learning(xe_encoder *e, xe_frame *f);

XE_COLD bool failed(xe_encoder *e) {
    xe_coder *c = &e->c;
    if (c->t.error) return xe_fail(c, c->t.error, "too many names and values");
    if (e->out.error || e->done.error || e->text.error) return xe_fail(c, XE_E_LIMIT, too_large);
    return false;
}
static inline bool check(xe_encoder *e) {
    if (XE_RARE(e->c.t.error | e->out.error | e->done.error | e->text.error | e->c.error)) return failed(e);
    return true;
}

/* -- values */

static bool flush_block(xe_encoder *e);

static bool hold(xe_encoder *e, uint32_t name, uint16_t datatype, xe_span text);

static inline bool put_typed(xe_encoder *e, uint32_t name, uint16_t datatype, const xe_rep *r, xe_span text, const xe_val *v) {
    if (XE_RARE(e->c.o.channels)) return hold(e, name, datatype, text);
    if (r->kind == XE_STRING)
        xe_put_string_value(&e->c.t, &e->out, name, text, r);
    else if (v->bits)
        xe_put(&e->out, (uint32_t)v->u, v->bits);
    else
        xe_put_value(&e->c.t, &e->c.o, &e->out, r, name, text, v);
    return true;
}

/* Keep a value until its block ends. */
static bool hold(xe_encoder *e, uint32_t name, uint16_t datatype, xe_span text) {
    uint32_t i = e->n_held;
    if (!grow(&e->c, &e->held, &e->cap_held, i, sizeof *e->held)) return false;
    while (name >= e->cap_channel_of) {
        uint32_t had = e->cap_channel_of;
        if (!grow(&e->c, &e->channel_of, &e->cap_channel_of, had, sizeof *e->channel_of)) return false;
        memset(e->channel_of + had, 0, (e->cap_channel_of - had) * sizeof *e->channel_of);
    }
    if (!e->channel_of[name]) {
        if (!grow(&e->c, &e->channels, &e->cap_channels, e->n_channels, sizeof *e->channels)) return false;
        e->channels[e->n_channels++] = (xe_channel){name, i, XE_NONE, 0};
        e->channel_of[name] = e->n_channels;
    }
    xe_channel *channel = e->channels + e->channel_of[name] - 1;
    if (channel->last != XE_NONE) e->held[channel->last].next = i;
    channel->last = i;
    channel->count++;
    e->held[i] = (xe_held){name, XE_NONE, (uint32_t)e->text.len, (uint32_t)text.n, datatype};
    xe_text(&e->text, text.p, text.n);
    xe_out_room(&e->text, XE_PAD);
    e->n_held++;
    return e->n_held < e->c.o.block_size || flush_block(e);
}

static bool put_untyped(xe_encoder *e, uint32_t name, xe_span text) {
    xe_rep r = xe_rep_of(e->c.t.g, &e->c.o, XE_NO16);
    return put_typed(e, name, XE_NO16, &r, text, NULL);
}

static bool put_stream(xe_encoder *e) { /* what is in `piece` */
    if (e->piece.error) return xe_fail(&e->c, XE_E_LIMIT, too_large);
    if (!e->c.o.compress) {
        xe_put_bytes(&e->done, e->piece.p, e->piece.len);
    } else if (!e->c.zip.deflate || !e->c.zip.deflate(e->c.zip.ctx, e->piece.p, e->piece.len, &e->done)) {
        return xe_fail(&e->c, XE_E_MEMORY, "compression failed");
    }
    xe_out_reset(&e->piece);
    return check(e);
}

static void put_channel(xe_encoder *e, const xe_channel *channel) {
    for (uint32_t i = channel->first; i != XE_NONE; i = e->held[i].next) {
        const xe_held *h = e->held + i;
        xe_rep r = xe_rep_of(e->c.t.g, &e->c.o, h->datatype);
        xe_span text = {e->text.p + h->off, h->len};
        xe_val v = {0};
        xe_parse(e->c.t.g, &e->c.o, &r, text, &v);
        xe_put_value(&e->c.t, &e->c.o, &e->piece, &r, h->name, text, &v);
    }
}

/* A block: structure and values in one stream if there are at most 100 values, else in several (EXI section 9.3). */
static bool flush_block(xe_encoder *e) {
    bool one = e->n_held <= 100;
    xe_put_bytes(&e->piece, e->out.p, e->out.len);
    if (!one && !put_stream(e)) return false;
    bool some = false;
    for (uint32_t i = 0; i < e->n_channels; i++) {
        if (!one && e->channels[i].count > 100) continue;
        put_channel(e, e->channels + i);
        some = true;
    }
    if ((one || some) && !put_stream(e)) return false;
    for (uint32_t i = 0; i < e->n_channels; i++) {
        e->channel_of[e->channels[i].name] = 0;
        if (one || e->channels[i].count <= 100) continue;
        put_channel(e, e->channels + i);
        if (!put_stream(e)) return false;
    }
    xe_out_reset(&e->out);
    xe_out_reset(&e->text);
    e->n_held = e->n_channels = 0;
    return check(e);
}

/* -- elements */

static bool cannot(xe_encoder *e, const char *why) { return xe_fail(&e->c, XE_E_STRICT, why); }

static bool start_in_document(xe_encoder *e, const xe_qname *q, uint32_t *name, uint16_t *element, bool *relaxed) {
    const xe_grammar *g = e->c.t.g;
    bool more = xe_other(&e->c) || (e->c.o.dtd && !e->c.o.fragment);
    uint32_t id = find_name(e, q);
    *relaxed = false;
    if (!e->c.o.fragment) {
        if (e->c.over) return xe_fail(&e->c, XE_E_XML, "a second root element");
        *element = id == XE_NONE ? XE_NO16 : element_of(e, id);
        *name = id;
        if (*element != XE_NO16) {
            put_first(e, *element, g->n_globals + 1, more);
            put_prefix(e, xe_uri_of_name(&e->c.t, id), q->prefix);
        } else {
            put_first(e, g->n_globals, g->n_globals + 1, more);
            *name = put_name(e, q);
        }
        return true;
    }
    uint32_t n = g->informed ? g->n[XE_S_FRAGMENT] : e->c.t.n_fragment;
    if (id != XE_NONE && g->informed) {
        for (uint32_t i = 0; i < n; i++) {
            if (g->fragment[i].name != id) continue;
            put_first(e, i, n + 2, more);
            put_prefix(e, xe_uri_of_name(&e->c.t, id), q->prefix);
            *name = id;
            *element = g->fragment[i].element;
            *relaxed = *element == XE_NO16;
            return true;
        }
    } else if (id != XE_NONE) {
        uint32_t ordinal = lookup(e, XE_OWNER_FRAGMENT, XE_P_SE, id);
        if (ordinal != XE_NONE) {
            put_first(e, n - 1 - ordinal, n + 2, more);
            put_prefix(e, xe_uri_of_name(&e->c.t, id), q->prefix);
            *name = id;
            *element = XE_NO16;
            return true;
        }
    }
    put_first(e, n, n + 2, more);
    *name = put_name(e, q);
    *element = element_of(e, *name);
    if (!g->informed) xe_learn(&e->c.t, XE_OWNER_FRAGMENT, XE_P_SE, *name);
    return true;
}

static bool start_in_element(xe_encoder *e, const xe_qname *q, uint32_t *name, uint16_t *element, bool *relaxed) {
    xe_frame *f = xe_top(&e->c);
    uint32_t id = find_name(e, q);
    *relaxed = false;
    *name = id;
    if (f->grammar != XE_NONE) {
        uint32_t owner = XE_OWNER(f->grammar, f->where == XE_CONTENT), n = one_part_codes(e, f);
        uint32_t ordinal = lookup(e, owner, XE_P_SE, id);
        if (ordinal != XE_NONE) {
            put_first(e, xe_learned_count(&e->c.t, owner) - 1 - ordinal, n, true);
            put_prefix(e, xe_uri_of_name(&e->c.t, id), q->prefix);
        } else if (limit_learning(e, f)) {
            return start_in_element(e, q, name, element, relaxed);
        } else {
            xe_second s = xe_second_of(&e->c, f);
            put_second(e, f, &s, s.se);
            *name = put_name(e, q);
            xe_learn(&e->c.t, owner, XE_P_SE, *name);
        }
        f->where = XE_CONTENT;
        *element = element_of(e, *name);
        return true;
    }
    uint32_t row = id < e->c.t.g->n[XE_S_NAMES] ? row_of(e, f, id) : XE_NONE;
    if (row != XE_NONE) {
        const xe_row *r = row_at(e, f, row);
        put_row(e, f, row);
        put_prefix(e, xe_uri_of_name(&e->c.t, id), q->prefix);
        *element = r->arg;
        *relaxed = r->arg == XE_NO16;
        go(e, f, r->next);
        return true;
    }
    uint32_t uri = find_uri(e, q);
    if (uri < e->c.t.g->n[XE_S_URIS] && (row = row_of(e, f, XE_L_SE_NS + uri)) != XE_NONE) {
        put_row(e, f, row);
        *name = put_local(e, uri, q);
        put_prefix(e, uri, q->prefix);
        go(e, f, row_at(e, f, row)->next);
    } else if ((row = row_of(e, f, XE_L_SE_ANY)) != XE_NONE) {
        put_row(e, f, row);
        *name = put_name(e, q);
        go(e, f, row_at(e, f, row)->next);
    } else {
        xe_second s = xe_second_of(&e->c, f);
        if (s.se < 0) return cannot(e, "an element that the schema does not have here");
        put_second(e, f, &s, s.se);
        *name = put_name(e, q);
        go_content(e, f);
    }
    *element = element_of(e, *name);
    return true;
}

static bool put_bindings(xe_encoder *e, const xe_qname *q, const xe_binding *bindings, uint32_t n) {
    xe_frame *f = xe_top(&e->c);
    for (uint32_t i = 0; i < n; i++) {
        const xe_binding *b = bindings + i;
        xe_second s = xe_second_of(&e->c, f);
        put_second(e, f, &s, s.ns);
        uint32_t uri = put_uri(e, b->uri.n ? xe_lookup_uri(&e->c.t, b->uri) : XE_URI_NONE, b->uri), m = xe_prefixes_of(&e->c.t, uri);
        uint32_t id = xe_lookup_prefix(&e->c.t, uri, b->prefix);
        if (id != XE_NONE) {
            xe_put(&e->out, id + 1, xe_width(m + 1));
        } else {
            xe_put(&e->out, 0, xe_width(m + 1));
            xe_put_string(&e->out, b->prefix, xe_characters(b->prefix), 0);
            xe_add_prefix(&e->c.t, uri, b->prefix);
        }
        xe_put(&e->out, q->prefix.p ? xe_same(q->prefix, b->prefix) : xe_same(q->uri, b->uri), 1);
        if (!check(e)) return false;
    }
    return true;
}

static uint32_t xsi_name(const xe_encoder *e, unsigned which) { return e->c.t.g->uris[XE_URI_XSI].first + which; } /* 0: nil, 1: type */

/* The value of xsi:type, and its effect. */
static bool put_type(xe_encoder *e, const xe_attribute *a) {
    xe_frame *f = xe_top(&e->c);
    const xe_grammar *g = e->c.t.g;
    uint32_t name;
    if (e->c.o.lexical) {
        xe_rep r = xe_rep_of(g, &e->c.o, XE_NO16);
        xe_put_string_value(&e->c.t, &e->out, xsi_name(e, 1), a->value, &r);
        name = find_name(e, &a->type);
    } else {
        name = put_name(e, &a->type);
    }
    if (g->informed && name < g->n[XE_S_NAMES] && g->names[name].type != XE_NO16) xe_cast(&e->c, f, g->names[name].type);
    return true;
}

/* A production has to be learned: may it be (EXI Profile, schema-informed only)? If not, the element is made one of xsd:anyType, whose
 * grammar learns nothing, by an xsi:type that nobody wrote: true. Where it is too late for that, the production is learned and never used. */
static bool limit_learning(xe_encoder *e, xe_frame *f) {
    xe_tables *t = &e->c.t;
    const xe_grammar *g = t->g;
    xe_element_grammar *grammar = t->grammars + f->grammar;
    bool tag = f->where != XE_CONTENT, cast = false;
    if (!g->informed || (e->c.o.max_grammars == XE_NONE && e->c.o.max_productions == XE_NONE)) return false;
    uint32_t owner = XE_OWNER(f->grammar, 0), any_type = xe_find_name(g, XE_URI_XSD, (xe_span){(const uint8_t *)"anyType", 7});
    bool typed = xe_lookup_learned(t, owner, XE_P_AT, xsi_name(e, 1)) != XE_NONE;
    if (any_type == XE_NONE || g->names[any_type].type == XE_NO16) return false;
    if (tag && t->n_grammars > e->c.o.max_grammars) cast = grammar->n[0] == 0 || (grammar->n[0] == 1 && typed);
    if (!cast && t->n_learned >= e->c.o.max_productions) {
        cast = f->where == XE_FIRST;
        if (!cast && grammar->usable[!tag] == XE_NONE) grammar->usable[!tag] = grammar->n[!tag];
    }
    if (!cast) return false;
    xe_second s = xe_second_of(&e->c, f);
    put_second(e, f, &s, s.any);
    xe_put(&e->out, XE_URI_XSI + 1, xe_width(xe_uris(t) + 1));
    xe_put_unsigned(&e->out, 0);
    xe_put(&e->out, 1, xe_width(xe_locals(t, XE_URI_XSI)));
    put_prefix(e, XE_URI_XSI, (xe_span){NULL, 0});
    if (!typed) xe_learn(t, owner, XE_P_AT, xsi_name(e, 1));
    if (e->c.o.lexical) return false; /* a prefix would have to be made up for the value */
    xe_put(&e->out, XE_URI_XSD + 1, xe_width(xe_uris(t) + 1));
    xe_put_unsigned(&e->out, 0);
    xe_put(&e->out, any_type - g->uris[XE_URI_XSD].first, xe_width(xe_locals(t, XE_URI_XSD)));
    put_prefix(e, XE_URI_XSD, (xe_span){NULL, 0});
    xe_cast(&e->c, f, g->names[any_type].type);
    return true;
}

/* The third part of an attribute with an untyped value: `code` of the state's attributes, or behind them for any other. */
static void put_untyped_code(xe_encoder *e, const xe_frame *f, const xe_second *s, uint32_t code) {
    put_second(e, f, s, s->untyped);
    xe_put(&e->out, code, xe_width(XE_STATE_ATTRIBUTES(e->c.t.g->states + f->state) + 1));
}

static bool put_nil(xe_encoder *e, const xe_attribute *a) {
    xe_frame *f = xe_top(&e->c);
    xe_second s = xe_second_of(&e->c, f);
    xe_rep boolean = {XE_BOOLEAN, XE_NO16, NULL};
    xe_val v = {0};
    bool good = xe_parse(e->c.t.g, &e->c.o, &boolean, a->value, &v);
    if (s.nil < 0) return (good && !v.u) || cannot(e, "xsi:nil on an element that is not nillable");
    if (!good) {
        if (s.untyped < 0) return cannot(e, "xsi:nil that is no boolean");
        put_untyped_code(e, f, &s, XE_STATE_ATTRIBUTES(e->c.t.g->states + f->state));
        uint32_t name = put_name(e, &a->name);
        return put_untyped(e, name, a->value);
    }
    put_second(e, f, &s, s.nil);
    put_prefix(e, XE_URI_XSI, a->name.prefix);
    if (e->c.o.lexical) {
        for (uint32_t i = 0; i < e->c.t.g->n[XE_S_DATATYPES]; i++)
            if (e->c.t.g->datatypes[i].kind == XE_BOOLEAN) {
                boolean = xe_rep_of(e->c.t.g, &e->c.o, (uint16_t)i);
                break;
            }
        xe_put_string_value(&e->c.t, &e->out, xsi_name(e, 0), a->value, &boolean);
    } else {
        xe_put(&e->out, (uint32_t)v.u, 1);
    }
    if (v.u) {
        f->state = e->c.t.g->types[f->type].empty;
        f->where = XE_FIRST;
        f->castable = f->nillable = false;
    }
    return true;
}

/* An attribute that the state does not name. */
static bool put_other_attribute(xe_encoder *e, const xe_frame *f, const xe_attribute *a) {
    const xe_grammar *g = e->c.t.g;
    const xe_state *state = g->states + f->state;
    uint32_t n = XE_STATE_ATTRIBUTES(state), name = find_name(e, &a->name);
    uint16_t datatype = name < g->n[XE_S_NAMES] ? g->names[name].attribute : XE_NO16;
    xe_rep r = xe_rep_of(g, &e->c.o, datatype);
    xe_val v = {0};
    bool good = xe_parse(g, &e->c.o, &r, a->value, &v);
    uint32_t uri = find_uri(e, &a->name);
    xe_second s = xe_second_of(&e->c, f);
    if (!good) {
        if (s.untyped < 0) return cannot(e, "an attribute whose value is not of its type");
        put_untyped_code(e, f, &s, n);
        name = put_name(e, &a->name);
        return put_untyped(e, name, a->value);
    }
    for (uint32_t i = n; i < state->n; i++) {
        const xe_row *row = g->rows + state->first + i;
        if (row->label == XE_L_AT_ANY || (uri != XE_NONE && row->label == XE_L_AT_NS + uri && uri < g->n[XE_S_URIS])) {
            put_row(e, f, i);
            if (row->label == XE_L_AT_ANY) {
                name = put_name(e, &a->name);
            } else {
                name = put_local(e, uri, &a->name);
                put_prefix(e, uri, a->name.prefix);
            }
            return put_typed(e, name, datatype, &r, a->value, &v);
        }
    }
    if (s.any < 0) return cannot(e, "an attribute that the schema does not have here");
    put_second(e, f, &s, s.any);
    name = put_name(e, &a->name);
    return put_typed(e, name, datatype, &r, a->value, &v);
}

/* An attribute that the state names, with a value that is not of its type. */
static bool put_mistyped_attribute(xe_encoder *e, xe_frame *f, const xe_attribute *a, const xe_row *row) {
    xe_second s = xe_second_of(&e->c, f);
    if (s.untyped < 0) return cannot(e, "an attribute whose value is not of its type");
    put_untyped_code(e, f, &s, (uint32_t)(row - row_at(e, f, 0)));
    put_prefix(e, e->c.t.g->names[row->label].uri, a->name.prefix);
    go(e, f, row->next);
    return put_untyped(e, row->label, a->value);
}

XE_INLINE bool put_declared_attribute(xe_encoder *e, xe_frame *f, const xe_attribute *a) {
    const xe_grammar *g = e->c.t.g;
    const xe_state *state = g->states + f->state;
    const xe_row *first = g->rows + state->first, *row = first, *end = first + XE_STATE_ATTRIBUTES(state);
    uint32_t name = find_name(e, &a->name);
    while (row < end && row->label != name) row++;
    if (XE_RARE(row == end)) return put_other_attribute(e, f, a);
    xe_rep r = xe_rep_of(g, &e->c.o, row->arg);
    xe_val v;
    if (r.kind != XE_STRING) {
        memset(&v, 0, sizeof v);
        if (XE_RARE(!xe_parse(g, &e->c.o, &r, a->value, &v))) return put_mistyped_attribute(e, f, a, row);
    }
    put_row_of(e, f, state, (uint32_t)(row - first));
    if (XE_RARE(e->c.o.prefixes)) put_known_prefix(e, g->names[name].uri, a->name.prefix);
    go(e, f, row->next);
    return put_typed(e, name, row->arg, &r, a->value, &v);
}

static bool put_learned_attribute(xe_encoder *e, const xe_attribute *a, bool type) {
    xe_frame *f = xe_top(&e->c);
    uint32_t owner = XE_OWNER(f->grammar, 0), n = one_part_codes(e, f), name = find_name(e, &a->name);
    uint32_t ordinal = lookup(e, owner, XE_P_AT, name);
    if (ordinal != XE_NONE) {
        put_first(e, n - 1 - ordinal, n, true);
        put_prefix(e, xe_uri_of_name(&e->c.t, name), a->name.prefix);
    } else if (!type && limit_learning(e, f)) {
        return put_declared_attribute(e, f, a);
    } else {
        xe_second s = xe_second_of(&e->c, f);
        put_second(e, f, &s, s.any);
        name = put_name(e, &a->name);
        xe_learn(&e->c.t, owner, XE_P_AT, name);
    }
    f->where = XE_START;
    return type ? put_type(e, a) : put_untyped(e, name, a->value);
}

static int order(xe_span a, xe_span b) {
    int x = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return x ? x : (a.n > b.n) - (a.n < b.n);
}
static int by_name(const void *x, const void *y) {
    const xe_attribute *a = x, *b = y;
    int c = order(a->name.local, b->name.local);
    return c ? c : order(a->name.uri, b->name.uri);
}

enum { FEW = 16 };
static void sort_few(const xe_attribute *attributes, uint32_t n, uint64_t places[FEW]) {
    for (uint32_t i = 0, k; i < n; i++) {
        for (k = i; k && by_name(attributes + places[k - 1], attributes + i) > 0; k--) places[k] = places[k - 1];
        places[k] = i;
    }
}
static uint32_t to_front(xe_attribute *attributes, uint32_t n, uint32_t name, uint32_t place) {
    for (uint32_t i = place; i < n; i++) {
        if (attributes[i].name.name_id != name) continue;
        xe_attribute a = attributes[i];
        memmove(attributes + place + 1, attributes + place, (i - place) * sizeof a);
        attributes[place] = a;
        return place + 1;
    }
    return place;
}

/* Attributes of all sorts. */
static bool put_attributes(xe_encoder *e, xe_frame *f, xe_attribute *attributes, uint32_t n) {
    uint64_t places[FEW];
    uint32_t types = 0, nils = 0;
    bool by_names = e->c.t.g->informed || e->c.o.sorted, few = by_names && n <= FEW;
    for (uint32_t i = 0; i < n; i++) {
        xe_qname *a = &attributes[i].name;
        a->uri_id = find_uri(e, a);
        a->name_id = find_name(e, a);
        few = few && a->uri_id != XE_URI_XSI;
    }
    if (few) {
        sort_few(attributes, n, places);
    } else {
        if (by_names) qsort(attributes, n, sizeof *attributes, by_name);
        types = to_front(attributes, n, xsi_name(e, 1), 0);
        nils = to_front(attributes, n, xsi_name(e, 0), types);
    }
    for (uint32_t i = 0; i < n; i++) {
        const xe_attribute *a = attributes + (few ? places[i] : i);
        bool good;
        if (f->grammar != XE_NONE) {
            good = put_learned_attribute(e, a, i < types);
        } else if (i < types) {
            xe_second s = xe_second_of(&e->c, f);
            if (s.type < 0) return cannot(e, "xsi:type on an element whose type has no others derived from it");
            put_second(e, f, &s, s.type);
            put_prefix(e, XE_URI_XSI, a->name.prefix);
            good = put_type(e, a);
        } else {
            good = i < nils ? put_nil(e, a) : put_declared_attribute(e, f, a);
        }
        if (!good) return false;
    }
    return check(e);
}

bool xe_start(xe_encoder *e, const xe_qname *q, const xe_binding *bindings, uint32_t n_bindings, xe_attribute *attributes, uint32_t n) {
    uint32_t name;
    uint16_t element;
    bool relaxed;
    xe_coder *c = &e->c;
    if (n + n_bindings > c->l.attributes) return xe_fail(c, XE_E_LIMIT, "too many attributes");
    if (c->depth ? !start_in_element(e, q, &name, &element, &relaxed) : !start_in_document(e, q, &name, &element, &relaxed)) return false;
    if (!xe_push(c, relaxed ? XE_NONE : name, element)) return false;
    xe_frame *f = xe_top(c);
    f->name = name;
    if (XE_RARE(c->o.prefixes) && !put_bindings(e, q, bindings, n_bindings)) return false;
    if (n > FEW || f->grammar != XE_NONE) return put_attributes(e, f, attributes, n);
    uint64_t places[FEW]; /* number of the name << 32 | place in `attributes` */
    uint32_t known = c->t.g->n[XE_S_NAMES];
    for (uint32_t i = 0, k; i < n; i++) { /* numbers of the grammar's names of no namespace are in the order of the names */
        const xe_qname *a = &attributes[i].name;
        if (XE_RARE(a->name_id >= known || a->uri_id != XE_URI_NONE)) return put_attributes(e, f, attributes, n);
        uint64_t place = (uint64_t)a->name_id << 32 | i;
        for (k = i; k && places[k - 1] > place; k--) places[k] = places[k - 1];
        places[k] = place;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!put_declared_attribute(e, f, attributes + (uint32_t)places[i])) return false;
    return check(e);
}

static bool blank(xe_span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ' && s.p[i] != '\t' && s.p[i] != '\n' && s.p[i] != '\r') return false;
    return true;
}

bool xe_characters_event(xe_encoder *e, xe_span text) {
    xe_frame *f = xe_top(&e->c);
    if (!e->c.depth) return blank(text) || xe_fail(&e->c, XE_E_XML, "text outside of the root element");
    if (!text.n) return true;
    if (f->grammar != XE_NONE) {
        uint32_t owner = XE_OWNER(f->grammar, f->where == XE_CONTENT), n = one_part_codes(e, f);
        uint32_t ordinal = lookup(e, owner, XE_P_CH, 0);
        if (ordinal != XE_NONE) {
            put_first(e, xe_learned_count(&e->c.t, owner) - 1 - ordinal, n, true);
        } else if (limit_learning(e, f)) {
            return xe_characters_event(e, text);
        } else {
            xe_second s = xe_second_of(&e->c, f);
            put_second(e, f, &s, s.ch);
            if (xe_lookup_learned(&e->c.t, owner, XE_P_CH, 0) == XE_NONE) xe_learn(&e->c.t, owner, XE_P_CH, 0);
        }
        f->where = XE_CONTENT;
        return put_untyped(e, f->name, text) && check(e);
    }
    uint32_t row = row_of(e, f, XE_L_CH);
    if (row == XE_NONE && blank(text)) return true; /* between elements, where the schema has no text */
    if (row != XE_NONE) {
        const xe_row *r = row_at(e, f, row);
        xe_rep rep = xe_rep_of(e->c.t.g, &e->c.o, r->arg);
        xe_val v;
        if (rep.kind == XE_STRING || (memset(&v, 0, sizeof v), xe_parse(e->c.t.g, &e->c.o, &rep, text, &v))) {
            put_row(e, f, row);
            go(e, f, r->next);
            return put_typed(e, f->name, r->arg, &rep, text, &v) && check(e);
        }
    }
    xe_second s = xe_second_of(&e->c, f);
    if (s.ch < 0) return cannot(e, row == XE_NONE ? "text where the schema has none" : "text that is not of the element's type");
    put_second(e, f, &s, s.ch);
    go_content(e, f);
    return put_untyped(e, f->name, text) && check(e);
}

bool xe_end(xe_encoder *e) {
    xe_coder *c = &e->c;
    xe_frame *f = xe_top(c);
    if (!c->depth) return xe_fail(c, XE_E_XML, "an end without a start");
    if (f->grammar != XE_NONE) {
        uint32_t n = one_part_codes(e, f);
        if (f->where == XE_CONTENT) {
            put_first(e, n - 1, n, true);
        } else {
            uint32_t owner = XE_OWNER(f->grammar, 0), ordinal = lookup(e, owner, XE_P_EE, 0);
            if (ordinal != XE_NONE) {
                put_first(e, n - 1 - ordinal, n, true);
            } else if (limit_learning(e, f)) {
                return xe_end(e);
            } else {
                xe_second s = xe_second_of(c, f);
                put_second(e, f, &s, s.ee);
                if (xe_lookup_learned(&c->t, owner, XE_P_EE, 0) == XE_NONE) xe_learn(&c->t, owner, XE_P_EE, 0);
            }
        }
    } else {
        uint32_t row = row_of_end(e, f);
        if (row == XE_NONE && c->o.strict && (row = row_of(e, f, XE_L_CH)) != XE_NONE) { /* no text is text, too */
            const xe_row *r = row_at(e, f, row);
            xe_rep rep = xe_rep_of(c->t.g, &c->o, r->arg);
            xe_span nothing = {(const uint8_t *)"", 0};
            xe_val v = {0};
            if (xe_parse(c->t.g, &c->o, &rep, nothing, &v)) {
                put_row(e, f, row);
                go(e, f, r->next);
                if (!put_typed(e, f->name, r->arg, &rep, nothing, &v)) return false;
            }
            row = row_of_end(e, f);
        }
        if (row != XE_NONE) {
            put_row(e, f, row);
        } else {
            xe_second s = xe_second_of(c, f);
            if (s.ee < 0) return cannot(e, "an element that ends too early for the schema");
            put_second(e, f, &s, s.ee);
        }
    }
    c->depth--;
    if (!c->depth && !c->o.fragment) c->over = true;
    return check(e);
}

/* The code of a comment (0) or a processing instruction (1). */
static void put_other(xe_encoder *e, unsigned which) {
    xe_coder *c = &e->c;
    if (c->depth) {
        xe_frame *f = xe_top(c);
        xe_second s = xe_second_of(c, f);
        put_second(e, f, &s, s.other);
        go_content(e, f);
    } else if (c->o.fragment) {
        uint32_t n = (c->t.g->informed ? c->t.g->n[XE_S_FRAGMENT] : c->t.n_fragment) + 2;
        put_first(e, n, n, true);
    } else if (c->over) {
        put_first(e, 1, 1, true);
    } else {
        put_first(e, c->t.g->n_globals + 1, c->t.g->n_globals + 1, true);
        xe_put(&e->out, c->o.dtd, xe_width(1u + c->o.dtd));
    }
    xe_put(&e->out, which, xe_third(c));
}

bool xe_comment(xe_encoder *e, xe_span text) {
    if (!check(e)) return false;
    if (!e->c.o.comments) return true;
    put_other(e, 0);
    xe_put_string(&e->out, text, xe_characters(text), 0);
    return check(e);
}

bool xe_instruction(xe_encoder *e, xe_span target, xe_span data) {
    if (!check(e)) return false;
    if (!e->c.o.pis) return true;
    put_other(e, e->c.o.comments);
    xe_put_string(&e->out, target, xe_characters(target), 0);
    xe_put_string(&e->out, data, xe_characters(data), 0);
    return check(e);
}

bool xe_finish(xe_encoder *e, bool pad, const uint8_t **bytes, uint64_t *bits) {
    xe_coder *c = &e->c;
    xe_out *out = c->o.channels ? &e->done : &e->out;
    if (!check(e)) return false;
    if (c->depth || (!c->o.fragment && !c->over)) return xe_fail(c, XE_E_XML, "the document is not whole");
    if (c->o.fragment) {
        uint32_t n = (c->t.g->informed ? c->t.g->n[XE_S_FRAGMENT] : c->t.n_fragment);
        put_first(e, n + 1, n + 2, xe_other(c));
    } else {
        put_first(e, 0, 1, xe_other(c));
    }
    if (c->o.channels && !flush_block(e)) return false;
    xe_out_drain(out);
    *bits = (uint64_t)out->len * 8 + out->n;
    if (pad || out->n) {
        xe_out_align(out); /* the last bits need a byte in any case */
        if (pad) *bits = (uint64_t)out->len * 8;
    }
    *bytes = out->p;
    return check(e);
}

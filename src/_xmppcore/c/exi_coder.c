/* SPDX-License-Identifier: Apache-2.0 */
/* What encoder and decoder share: frames and the numbers of undeclared productions. */
#include "exi.h"

bool xe_fail(xe_coder *c, unsigned error, const char *why) {
    if (!c->error) {
        c->error = (uint8_t)error;
        c->why = why;
    }
    return false;
}

bool xe_coder_init(xe_coder *c, const xe_grammar *g, const xe_options *o, const xe_limits *l, const uint64_t seed[2]) {
    memset(c, 0, sizeof *c);
    c->o = *o;
    c->l = *l;
    xe_tables_init(&c->t, g, l->table_bytes, seed);
    c->t.value_max = o->value_capacity ? o->value_max : 0;
    c->t.value_capacity = o->value_capacity;
    c->t.local_values = o->local_values;
    c->cap_frames = l->depth < 7 ? l->depth + 1 : 8;
    c->frames = malloc(c->cap_frames * sizeof *c->frames);
    return c->frames != NULL;
}

void xe_coder_free(xe_coder *c) {
    xe_tables_free(&c->t);
    free(c->frames);
}

void xe_coder_begin(xe_coder *c, bool keep) {
    if (!keep) xe_tables_reset(&c->t);
    c->depth = 0;
    c->over = false;
    c->error = XE_OK;
    c->why = "";
    c->frames[0] = (xe_frame){.grammar = XE_NONE};
}

bool xe_more_frames(xe_coder *c) {
    if (c->depth >= c->l.depth) return xe_fail(c, XE_E_LIMIT, "elements are nested too deep");
    uint32_t more = c->cap_frames > c->l.depth / 2 ? c->l.depth + 1 : 2 * c->cap_frames;
    xe_frame *frames = realloc(c->frames, more * sizeof *frames);
    if (!frames) return xe_fail(c, XE_E_MEMORY, "out of memory");
    c->frames = frames;
    c->cap_frames = more;
    return true;
}

bool xe_push_learned(xe_coder *c, uint32_t name) {
    xe_frame *f = xe_top(c);
    f->grammar = xe_grammar_of(&c->t, name);
    if (f->grammar == XE_NONE) f->grammar = xe_add_grammar(&c->t, name);
    return !c->t.error || xe_fail(c, c->t.error, "too many names and values");
}

/* Go on with another type. */
void xe_cast(xe_coder *c, xe_frame *f, uint16_t type) {
    f->grammar = XE_NONE;
    f->type = type;
    f->state = c->t.g->types[type].start;
    f->where = XE_FIRST;
    f->castable = f->nillable = false;
}

xe_second xe_second_of(const xe_coder *c, const xe_frame *f) {
    xe_second s = {-1, -1, -1, -1, -1, -1, -1, -1, -1, 0};
    bool tag = f->where != XE_CONTENT;
    if (f->grammar != XE_NONE) {
        if (tag) {
            s.ee = (int8_t)s.n++;
            s.any = (int8_t)s.n++;
            if (c->o.prefixes) s.ns = (int8_t)s.n++;
        }
    } else {
        const xe_state *state = c->t.g->states + f->state;
        if (c->o.strict) {
            if (f->where == XE_FIRST && f->castable) s.type = (int8_t)s.n++;
            if (f->where == XE_FIRST && f->nillable) s.nil = (int8_t)s.n++;
            return s;
        }
        if (!XE_STATE_ENDS(state)) s.ee = (int8_t)s.n++;
        if (f->where == XE_FIRST) {
            s.type = (int8_t)s.n++;
            s.nil = (int8_t)s.n++;
        }
        if (tag) {
            s.any = (int8_t)s.n++;
            s.untyped = (int8_t)s.n++;
        }
        if (f->where == XE_FIRST && c->o.prefixes) s.ns = (int8_t)s.n++;
    }
    s.se = (int8_t)s.n++;
    s.ch = (int8_t)s.n++;
    if (c->o.dtd) s.n++; /* entity references, which we refuse */
    if (xe_other(c)) s.other = (int8_t)s.n++;
    return s;
}

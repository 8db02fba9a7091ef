/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A body whose root gets another start tag, without coding its content again.
 *
 * Theory of operation. Codes of events depend on the state of the grammar, so the root has to be in the same one behind both tags. Values that are
 * written out mean the same anywhere; a number of one in a partition does not, if the tags have put different values there, and
 * in the partition of all they nearly always do. So content is moved if it finds values by number only in partitions that the tags did not touch.
 * Nothing else that a body learns comes from the tag of a root that has a schema, unless its attributes are unknown: then it is not moved.
 *
 * Encoders have a choice, decoders may be careless with what nobody chooses: integers with octets that they do not need are not moved, and the
 * start tag is always as our encoder writes it.
 */
#include "exi.h"

static uint64_t partitions(const xe_tables *t, uint32_t n) {
    uint64_t bits = 0;
    for (uint32_t i = 0; i < n; i++) bits |= XE_PARTITION_BIT(t->values[i].name);
    return bits;
}

static bool same_state(const xe_frame *a, const xe_frame *b) {
    return a->name == b->name && a->grammar == XE_NONE && b->grammar == XE_NONE && a->state == b->state && a->type == b->type &&
           a->where == b->where && a->castable == b->castable && a->nillable == b->nillable;
}

bool xe_move(xe_encoder *e, const xe_decoder *d, const uint8_t *body, uint64_t end) {
    const xe_tables *t = &d->c.t, *u = &e->c.t;
    const struct xe_seam *s = &d->seam;
    xe_out *o = &e->out;
    if (e->c.error || xe_other(&e->c) || !s->at || s->learned || u->n_uris || u->n_names || u->n_grammars || e->c.depth != 1) return false;
    if (!same_state(&s->root, e->c.frames + 1)) return false;
    if (t->global_hit || d->in.padded) return false;
    if (t->hits && t->hits & (partitions(t, s->values) | partitions(u, u->n_values))) return false;
    /* Neither may have overwritten a value: then there are none that a decoder has lost or still has. */
    uint32_t most = t->value_capacity, tag = s->values > u->n_values ? s->values : u->n_values;
    if (most != XE_NONE && most && t->n_values - s->values + tag >= most) return false;
    xe_in in = {.p = body, .len = (size_t)((end + 7) >> 3), .at = s->at};
    unsigned first = (unsigned)(-s->at & 7);
    if (first > end - s->at) first = (unsigned)(end - s->at);
    xe_put(o, xe_get_bits(&in, first), first);
    size_t whole = (size_t)((end - in.at) >> 3);
    xe_put_bytes(o, body + (in.at >> 3), whole);
    in.at += whole * 8;
    unsigned last = (unsigned)(end - in.at);
    xe_put(o, xe_get_bits(&in, last), last);
    e->c.depth = 0;
    e->c.over = true;
    return !in.error && !o->error;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "exi.h"

enum { E_START, E_BINDING, E_ATTRIBUTE, E_TYPE, E_TEXT, E_END, E_COMMENT, E_INSTRUCTION };

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

bool xe_decoder_init(xe_decoder *d, const xe_grammar *g, const xe_options *o, const xe_limits *l, const uint64_t seed[2]) {
    memset(d, 0, sizeof *d);
    d->plain.most = d->extra.most = d->text.most = l->output_bytes;
    if (!xe_coder_init(&d->c, g, o, l, seed)) return false;
    d->c.t.decodes = true;
    return true;
}

void xe_decoder_free(xe_decoder *d) {
    xe_out_free(&d->plain);
    xe_out_free(&d->extra);
    xe_out_free(&d->text);
    free(d->events);
    free(d->channels);
    free(d->channel_of);
    free(d->scopes);
    free(d->declared);
    xe_coder_free(&d->c);
}

XE_COLD bool failed(xe_decoder *d) {
    xe_coder *c = &d->c;
    if (d->in.error == XE_E_MORE) return xe_fail(c, XE_E_MORE, "the input ends too early");
    if (d->in.error == XE_E_LIMIT) return xe_fail(c, XE_E_LIMIT, "a value is larger than allowed");
    if (d->in.error) return xe_fail(c, d->in.error, "a number is out of range");
    if (c->t.error) return xe_fail(c, c->t.error, "too many names and values");
    if (d->text.error) return xe_fail(c, d->text.error, "the result is larger than allowed");
    if (d->xml && d->xml->out.error) return xe_fail(c, d->xml->out.error, "the result is larger than allowed");
    return false;
}
static inline bool check(xe_decoder *d) {
    if (XE_RARE(d->in.error | d->c.t.error | d->text.error | d->c.error)) return failed(d);
    return true;
}

static bool invalid(xe_decoder *d) { return check(d) && xe_fail(&d->c, XE_E_BITS, "an event that the grammar does not have"); }

/* -- telling the sink */

static xe_qname name_of(const xe_decoder *d, uint32_t name, uint32_t prefix) {
    const xe_tables *t = &d->c.t;
    xe_qname q = {.name_id = name, .uri_id = xe_uri_of_name(t, name)};
    q.uri = xe_uri_of(t, q.uri_id);
    q.local = xe_name_of(t, name);
    if (prefix != XE_NONE) q.prefix = xe_prefix_at(t, q.uri_id, prefix);
    return q;
}

static bool produce(xe_decoder *d, size_t n) {
    d->produced += n + 8;
    size_t most = d->c.l.output_bytes, read = d->c.o.compress ? d->source_at : (size_t)(d->in.at >> 3);
    if (d->c.l.expansion && read < most / d->c.l.expansion && 65536 + read * d->c.l.expansion < most)
        most = 65536 + read * d->c.l.expansion;
    return d->produced <= most || xe_fail(&d->c, XE_E_LIMIT, "the result is larger than allowed");
}

static bool told(xe_decoder *d, bool more) { return more || xe_fail(&d->c, XE_E_STOPPED, "stopped"); }

static bool close_tag(xe_decoder *d) {
    if (!d->tag_open) return true;
    d->tag_open = false;
    return !d->sink->attributes_end || told(d, d->sink->attributes_end(d->sink->ctx));
}

/* Is this xsi:type one that stands there only because of the bounds of the Profile (its section 3.2), and nobody wants to see? */
static bool is_bound(const xe_decoder *d, uint32_t name) {
    static const xe_span any_type = {(const uint8_t *)"anyType", 7};
    const xe_options *o = &d->c.o;
    const xe_tables *t = &d->c.t;
    return o->plain && (o->max_grammars != XE_NONE || o->max_productions != XE_NONE) && name != XE_NONE &&
           xe_uri_of_name(t, name) == XE_URI_XSD && xe_same(xe_name_of(t, name), any_type);
}

/* Tell of an event; text is that of its value. */
static bool tell(xe_decoder *d, const xe_event *v, xe_span text) {
    const xe_sink *s = d->sink;
    if (v->kind == E_START || v->kind > E_TYPE) {
        if (!close_tag(d)) return false;
    }
    switch (v->kind) {
    case E_START: {
        xe_qname q = name_of(d, v->name, v->prefix);
        d->tag_open = true;
        return produce(d, q.local.n + 4) && told(d, s->start(s->ctx, &q));
    }
    case E_BINDING: {
        xe_span uri = xe_uri_of(&d->c.t, v->name), prefix = xe_prefix_at(&d->c.t, v->name, v->prefix);
        return produce(d, uri.n + prefix.n) && told(d, s->binding(s->ctx, prefix, uri, v->own));
    }
    case E_ATTRIBUTE: {
        xe_qname q = name_of(d, v->name, v->prefix);
        return produce(d, q.local.n + text.n) && told(d, s->attribute(s->ctx, &q, text));
    }
    case E_TYPE: {
        xe_qname q = name_of(d, d->c.t.g->uris[XE_URI_XSI].first + 1, v->prefix), value = name_of(d, v->name, v->other);
        return produce(d, value.local.n + value.uri.n) && told(d, s->type(s->ctx, &q, &value));
    }
    case E_TEXT: return produce(d, text.n) && (!text.n || told(d, s->text(s->ctx, text)));
    case E_END: return produce(d, 4) && told(d, s->end(s->ctx));
    case E_COMMENT: return produce(d, text.n) && told(d, s->comment(s->ctx, text));
    default: {
        xe_span target = {text.p, v->other}, data = {text.p + v->other, text.n - v->other};
        return produce(d, text.n) && told(d, s->instruction(s->ctx, target, data));
    }
    }
}

/* -- XML at once: what the writer's sink would write, from numbers of names. Without prefixes, and not in blocks. */

/* Has it bytes that XML writes as references, at least in attributes? 16 bytes behind it may be overwritten. */
static inline bool plain(uint8_t *p, size_t n) {
    typedef uint8_t vector __attribute__((vector_size(16)));
    typedef uint64_t halves __attribute__((vector_size(16)));
    vector found = {0}, v;
    memset(p + n, 'a', 16);
    for (size_t i = 0; i < n; i += 16) {
        memcpy(&v, p + i, 16);
        found |= (vector)(v < 0x20) | (vector)(v == '"') | (vector)(v == '&') | (vector)(v == '<') | (vector)(v == '>');
    }
    halves h = (halves)found;
    return !(h[0] | h[1]);
}

/* Text that is followed by 16 bytes, to where there is room for 16 more. */
static inline uint8_t *copied(uint8_t *to, xe_span s) {
    memcpy(to, s.p, 16);
    if (XE_RARE(s.n > 16)) memcpy(to + 16, s.p + 16, s.n - 16);
    return to + s.n;
}

/* Room for n bytes, and for what is put around them. */
static bool room(xe_decoder *d, size_t n) {
    xe_out *o = &d->xml->out;
    if (XE_RARE(o->len > 65536) && d->c.l.expansion && o->len - 65536 > (d->in.at >> 3) * d->c.l.expansion) o->error = XE_E_LIMIT;
    return xe_out_room(o, n + 64) || failed(d);
}

/* What was written from `start` on: with references, if it needs them. Then there is room for a quote. */
XE_COLD bool with_references(xe_decoder *d, size_t start, bool attribute) {
    xe_out *o = &d->xml->out;
    d->text.len = 0;
    xe_text(&d->text, o->p + start, o->len - start);
    o->len = start;
    xe_write_escaped(d->xml, (xe_span){d->text.p, d->text.len}, attribute);
    d->text.len = 0;
    return (!(o->error | d->text.error) && xe_out_room(o, 16)) || failed(d);
}
static inline bool escape(xe_decoder *d, size_t start, bool attribute) {
    xe_out *o = &d->xml->out;
    if (!xe_out_room(o, 16)) return failed(d);
    return plain(o->p + start, o->len - start) || with_references(d, start, attribute);
}

static uint8_t *close_start(xe_decoder *d, uint8_t *to) {
    if (d->tag_open) *to++ = '>';
    d->tag_open = false;
    return to;
}

static bool write_start(xe_decoder *d, uint32_t name) {
    xe_frame *f = xe_top(&d->c);
    uint32_t uri = xe_uri_of_name(&d->c.t, name), space = f[-1].space;
    xe_span local = xe_name_of(&d->c.t, name), text = xe_uri_of(&d->c.t, uri);
    if (!room(d, local.n + text.n)) return false;
    xe_out *o = &d->xml->out;
    uint8_t *to = close_start(d, o->p + o->len);
    *to++ = '<';
    if (XE_RARE(uri == XE_URI_XML)) {
        memcpy(to, "xml:", 4);
        to += 4;
        uri = space;
    }
    to = copied(to, local);
    f->space = uri;
    f->declared = d->n_declared;
    d->tag_open = true;
    if (uri != space) {
        memcpy(to, " xmlns=\"", 8);
        to += 8;
        o->len = (size_t)(copied(to, text) - o->p);
        if (!escape(d, (size_t)(to - o->p), true) || !room(d, 0)) return false;
        to = o->p + o->len;
        *to++ = '"';
    }
    o->len = (size_t)(to - o->p);
    return true;
}

static bool write_end(xe_decoder *d) {
    const xe_frame *f = xe_top(&d->c);
    xe_span local = xe_name_of(&d->c.t, f->name);
    if (!room(d, local.n)) return false;
    xe_out *o = &d->xml->out;
    uint8_t *to = o->p + o->len;
    if (d->tag_open) {
        memcpy(to, "/>", 2);
        to += 2;
    } else {
        memcpy(to, "</", 2);
        to += 2;
        if (XE_RARE(xe_uri_of_name(&d->c.t, f->name) == XE_URI_XML)) {
            memcpy(to, "xml:", 4);
            to += 4;
        }
        to = copied(to, local);
        *to++ = '>';
    }
    d->tag_open = false;
    d->n_declared = f->declared;
    o->len = (size_t)(to - o->p);
    return true;
}

/* The prefix of a namespace, other than the default one: declared now, if it is not. Returns its end. */
static uint8_t *prefix_of(uint32_t uri, uint8_t prefix[16]) {
    uint8_t *end = prefix + 15, *p = end;
    do *--p = (uint8_t)('0' + uri % 10), uri /= 10;
    while (uri);
    *--p = 's';
    *--p = 'n';
    memmove(prefix, p, (size_t)(end - p));
    return prefix + (end - p);
}
static bool declare(xe_decoder *d, uint32_t uri, xe_span *prefix, uint8_t made[16]) {
    if (uri == XE_URI_XML) {
        *prefix = (xe_span){(const uint8_t *)"xml", 3};
        return true;
    }
    *prefix = (xe_span){made, (size_t)(prefix_of(uri, made) - made)};
    for (uint32_t i = d->n_declared; i--;)
        if (d->declared[i] == uri) return true;
    if (!grow(&d->c, &d->declared, &d->cap_declared, d->n_declared, sizeof *d->declared)) return false;
    d->declared[d->n_declared++] = uri;
    xe_span text = xe_uri_of(&d->c.t, uri);
    xe_out *o = &d->xml->out;
    xe_text(o, " xmlns:", 7);
    xe_text(o, prefix->p, prefix->n);
    xe_text(o, "=\"", 2);
    xe_write_escaped(d->xml, text, true);
    xe_text(o, "\"", 1);
    return true;
}

/* The name of an attribute, up to the quote in front of its value. */
static bool write_name(xe_decoder *d, uint32_t name) {
    uint32_t uri = xe_uri_of_name(&d->c.t, name);
    xe_span local = xe_name_of(&d->c.t, name), prefix = {NULL, 0};
    uint8_t made[16];
    if (XE_RARE(uri != XE_URI_NONE) && !declare(d, uri, &prefix, made)) return false;
    if (!room(d, local.n)) return false;
    xe_out *o = &d->xml->out;
    uint8_t *to = o->p + o->len;
    *to++ = ' ';
    if (XE_RARE(prefix.n)) {
        memcpy(to, prefix.p, prefix.n);
        to += prefix.n;
        *to++ = ':';
    }
    to = copied(to, local);
    memcpy(to, "=\"", 2);
    o->len = (size_t)(to + 2 - o->p);
    return true;
}

static bool quote(xe_decoder *d) {
    xe_text(&d->xml->out, "\"", 1);
    return !d->xml->out.error || failed(d);
}

/* The value of xsi:type. */
static bool write_type(xe_decoder *d, uint32_t type) {
    uint32_t uri = xe_uri_of_name(&d->c.t, type), xsi_type = d->c.t.g->uris[XE_URI_XSI].first + 1;
    xe_span local = xe_name_of(&d->c.t, type), prefix = {NULL, 0};
    uint8_t made[16];
    xe_out *o = &d->xml->out;
    if (uri != XE_URI_NONE && uri != xe_top(&d->c)->space && !declare(d, uri, &prefix, made)) return false;
    if (!write_name(d, xsi_type)) return false;
    size_t start = o->len;
    xe_text(o, prefix.p, prefix.n);
    if (prefix.n) xe_text(o, ":", 1);
    xe_text(o, local.p, local.n);
    return !o->error && escape(d, start, true) ? quote(d) : failed(d);
}

/* A value: of an attribute, or between tags. */
static bool write_value(xe_decoder *d, bool attribute, uint32_t name, uint16_t datatype) {
    xe_out *o = &d->xml->out;
    if (attribute ? !write_name(d, name) : !room(d, 0)) return false;
    if (!attribute && d->tag_open) o->p[o->len++] = '>';
    size_t start = o->len;
    xe_rep r = xe_rep_of(d->c.t.g, &d->c.o, datatype);
    xe_get_value(&d->c.t, &d->c.o, &d->c.l, &d->in, &r, name, o);
    if (XE_RARE(d->in.error | d->c.t.error | o->error)) return failed(d);
    if (!attribute) {
        if (XE_RARE(o->len == start)) { /* no text: nothing has happened */
            o->len -= d->tag_open;
            return true;
        }
        d->tag_open = false;
    }
    if (r.kind != XE_STRING && r.kind != XE_ENUM && r.kind != XE_LIST) return !attribute || quote(d);
    if (!escape(d, start, attribute)) return false;
    if (attribute) o->p[o->len++] = '"';
    return true;
}

/* -- heads */

static bool stop(xe_decoder *d) { return xe_fail(&d->c, XE_E_STOPPED, "stopped"); }

/* Where the value of an attribute belongs; NULL: nowhere. */
static xe_span *place(const xe_tables *t, xe_head *h, uint32_t name) {
    if (xe_uri_of_name(t, name) != XE_URI_NONE) return NULL;
    xe_span local = xe_name_of(t, name);
    switch (local.n) {
    case 2: return !memcmp(local.p, "to", 2) ? &h->to : !memcmp(local.p, "id", 2) ? &h->id : NULL;
    case 4: return !memcmp(local.p, "from", 4) ? &h->from : !memcmp(local.p, "type", 4) ? &h->type : NULL;
    default: return NULL;
    }
}

static bool head_value(xe_decoder *d, bool attribute, uint32_t name, uint16_t datatype) {
    xe_span *to = &d->head->to;
    if (!attribute) return stop(d);
    size_t start = d->text.len;
    xe_rep r = xe_rep_of(d->c.t.g, &d->c.o, datatype);
    xe_get_value(&d->c.t, &d->c.o, &d->c.l, &d->in, &r, name, &d->text);
    if (!check(d)) return false;
    if ((to = place(&d->c.t, d->head, name))) {
        d->head->off[to - &d->head->to] = start;
        *to = (xe_span){d->text.p, d->text.len - start};
    } else {
        d->text.len = start;
    }
    return true;
}

static bool head_start(xe_decoder *d, uint32_t name) {
    if (d->c.depth > 1) return stop(d);
    d->head->name = name;
    return true;
}

/* Any other event. */
static bool write_event(xe_decoder *d, const xe_event *v, xe_span text) {
    xe_out *o = &d->xml->out;
    if (v->kind == E_TYPE) return write_type(d, v->name);
    if (!room(d, 0)) return false;
    if (v->kind == E_ATTRIBUTE) {
        if (!write_name(d, v->name)) return false;
        xe_write_escaped(d->xml, text, true);
        return quote(d);
    }
    o->len = (size_t)(close_start(d, o->p + o->len) - o->p);
    xe_span data = {text.p, text.n};
    if (v->kind == E_INSTRUCTION) {
        data = (xe_span){text.p + v->other, text.n - v->other};
        xe_text(o, "<?", 2);
        xe_text(o, text.p, v->other);
        if (data.n) xe_text(o, " ", 1);
    } else {
        xe_text(o, "<!--", 4);
    }
    xe_text(o, data.p, data.n);
    if (v->kind == E_INSTRUCTION)
        xe_text(o, "?>", 2);
    else
        xe_text(o, "-->", 3);
    return !o->error || failed(d);
}

/* An event whose text, if it has one, was appended to d->text at `off`. */
static bool emit(xe_decoder *d, xe_event v, size_t off) {
    if (!check(d)) return false;
    if (d->head) { /* of what is not a name or a value only declarations and xsi:type, xsi:nil belong to the tag */
        bool tag = v.kind == E_BINDING || v.kind == E_TYPE || v.kind == E_ATTRIBUTE || !d->c.depth;
        d->text.len = off;
        return tag || stop(d);
    }
    if (!d->c.o.channels) {
        xe_span text = {d->text.p + off, d->text.len - off};
        bool good = d->xml ? write_event(d, &v, text) : tell(d, &v, text);
        d->text.len = 0;
        return good;
    }
    if (d->n_events >= d->c.l.block_events) return xe_fail(&d->c, XE_E_LIMIT, "a block of too many events");
    if (!grow(&d->c, &d->events, &d->cap_events, d->n_events, sizeof *d->events)) return false;
    v.off = (uint32_t)off;
    v.len = (uint32_t)(d->text.len - off);
    v.next = XE_NONE;
    d->events[d->n_events++] = v;
    return true;
}

static bool end_block(xe_decoder *d, bool last);

/* A value: at once, or when its block is whole. */
static bool hold(xe_decoder *d, uint8_t kind, uint32_t name, uint32_t prefix, uint16_t datatype);
static inline bool emit_value(xe_decoder *d, uint8_t kind, uint32_t name, uint32_t prefix, uint16_t datatype) {
    if (d->xml) return write_value(d, kind == E_ATTRIBUTE, name, datatype);
    if (d->head) return head_value(d, kind == E_ATTRIBUTE, name, datatype);
    return hold(d, kind, name, prefix, datatype);
}
static bool hold(xe_decoder *d, uint8_t kind, uint32_t partition, uint32_t prefix, uint16_t datatype) {
    xe_event v = {.kind = kind, .name = partition, .prefix = prefix};
    if (!check(d)) return false;
    size_t off = d->text.len;
    if (!d->c.o.channels) {
        xe_rep r = xe_rep_of(d->c.t.g, &d->c.o, datatype);
        xe_get_value(&d->c.t, &d->c.o, &d->c.l, &d->in, &r, partition, &d->text);
        return emit(d, v, off);
    }
    uint32_t i = d->n_events;
    v.datatype = datatype;
    if (!emit(d, v, off)) return false;
    while (partition >= d->cap_channel_of) {
        uint32_t had = d->cap_channel_of;
        if (!grow(&d->c, &d->channel_of, &d->cap_channel_of, had, sizeof *d->channel_of)) return false;
        memset(d->channel_of + had, 0, (d->cap_channel_of - had) * sizeof *d->channel_of);
    }
    if (!d->channel_of[partition]) {
        if (!grow(&d->c, &d->channels, &d->cap_channels, d->n_channels, sizeof *d->channels)) return false;
        d->channels[d->n_channels++] = (xe_channel){partition, i, XE_NONE, 0};
        d->channel_of[partition] = d->n_channels;
    }
    xe_channel *channel = d->channels + d->channel_of[partition] - 1;
    if (channel->last != XE_NONE) d->events[channel->last].next = i;
    channel->last = i;
    channel->count++;
    return ++d->n_values < d->c.o.block_size || end_block(d, false);
}

/* -- blocks */

/* Inflate the next stream and read it. */
static bool next_stream(xe_decoder *d, xe_out *to) {
    size_t used = 0;
    xe_out_reset(to);
    if (!d->c.zip.inflate || !d->c.zip.inflate(d->c.zip.ctx, d->source + d->source_at, d->source_len - d->source_at, &used, to)) {
        if (to->error) return xe_fail(&d->c, to->error, "the result is larger than allowed");
        return xe_fail(&d->c, XE_E_BITS, "a compressed stream is damaged");
    }
    d->source_at += used;
    d->in = (xe_in){.p = to->p, .len = to->len, .aligned = true};
    return true;
}

static bool get_channel(xe_decoder *d, const xe_channel *channel) {
    for (uint32_t i = channel->first; i != XE_NONE; i = d->events[i].next) {
        xe_event *v = d->events + i;
        xe_rep r = xe_rep_of(d->c.t.g, &d->c.o, v->datatype);
        size_t off = d->text.len;
        xe_get_value(&d->c.t, &d->c.o, &d->c.l, &d->in, &r, channel->name, &d->text);
        if (!check(d)) return false;
        v->off = (uint32_t)off;
        v->len = (uint32_t)(d->text.len - off);
    }
    return true;
}

static bool end_block(xe_decoder *d, bool last) {
    bool one = d->n_values <= 100, many = !one && d->c.o.compress, small = false;
    for (uint32_t i = 0; i < d->n_channels; i++) small = small || d->channels[i].count <= 100;
    if (many && small && !next_stream(d, &d->extra)) return false;
    for (uint32_t i = 0; i < d->n_channels; i++)
        if ((one || d->channels[i].count <= 100) && !get_channel(d, d->channels + i)) return false;
    for (uint32_t i = 0; i < d->n_channels; i++) {
        d->channel_of[d->channels[i].name] = 0;
        if (one || d->channels[i].count <= 100) continue;
        if (many && !next_stream(d, &d->extra)) return false;
        if (!get_channel(d, d->channels + i)) return false;
    }
    for (uint32_t i = 0; i < d->n_events; i++) {
        const xe_event *v = d->events + i;
        if (!tell(d, v, (xe_span){d->text.p + v->off, v->len})) return false;
    }
    d->n_events = d->n_channels = d->n_values = 0;
    d->text.len = 0;
    return last || !d->c.o.compress || next_stream(d, &d->plain);
}

/* -- names */

static uint32_t get_text(xe_decoder *d, uint64_t characters) { /* appended to d->text; returns where */
    size_t off = d->text.len;
    xe_get_string(&d->in, &d->text, characters, NULL, XE_NO16, d->c.l.value_bytes);
    return (uint32_t)off;
}

static xe_span text_from(const xe_decoder *d, size_t off) { return (xe_span){d->text.p + off, d->text.len - off}; }

static uint32_t get_uri(xe_decoder *d) {
    xe_tables *t = &d->c.t;
    uint32_t m = xe_uris(t), id = xe_get(&d->in, xe_width(m + 1));
    if (id > m && !d->in.error) d->in.error = XE_E_BITS;
    if (d->in.error) return 0;
    if (id) return id - 1;
    size_t off = get_text(d, xe_get_unsigned(&d->in));
    if (!check(d)) return 0;
    id = xe_lookup_uri(t, text_from(d, off)); /* a peer that writes a known one again */
    id = id != XE_NONE ? id : xe_add_uri(t, text_from(d, off));
    d->text.len = off;
    return id;
}

static uint32_t get_local(xe_decoder *d, uint32_t uri, bool any) {
    xe_tables *t = &d->c.t;
    uint64_t n = xe_get_unsigned(&d->in);
    if (d->in.error) return 0;
    if (n == 0) {
        uint32_t m = xe_locals(t, uri), id = xe_get(&d->in, xe_width(m));
        uint32_t name = m && id < m ? xe_name_at(t, uri, id) : XE_NONE;
        if (name == XE_NONE) {
            if (!d->in.error) d->in.error = XE_E_BITS;
            return 0;
        }
        return name;
    }
    size_t off = get_text(d, n - 1);
    if (!check(d)) return 0;
    if (!any && !xe_ncname(text_from(d, off))) d->in.error = XE_E_BITS;
    uint32_t name = d->in.error ? 0 : xe_add_name(t, uri, text_from(d, off));
    d->text.len = off;
    return name;
}

static uint32_t get_prefix(xe_decoder *d, uint32_t uri) {
    if (!d->c.o.prefixes) return XE_NONE;
    uint32_t m = xe_prefixes_of(&d->c.t, uri);
    if (m < 2) return m ? 0 : XE_NONE;
    uint32_t id = xe_get(&d->in, xe_width(m));
    if (id >= m && !d->in.error) d->in.error = XE_E_BITS;
    return id;
}

static uint32_t get_name(xe_decoder *d, uint32_t *prefix, bool any) {
    uint32_t uri = get_uri(d), name = get_local(d, uri, any);
    *prefix = d->in.error ? XE_NONE : get_prefix(d, uri);
    return name;
}

static uint16_t element_of(const xe_decoder *d, uint32_t name) {
    return name < d->c.t.g->n[XE_S_NAMES] ? d->c.t.g->names[name].element : XE_NO16;
}

/* -- events */

static uint32_t get_first(xe_decoder *d, uint32_t n, bool more) {
    uint32_t code = xe_get(&d->in, xe_width(n + more));
    if (code >= n + more && !d->in.error) d->in.error = XE_E_BITS;
    return code;
}

static void learn(xe_decoder *d, uint32_t owner, uint8_t kind, uint32_t name) {
    if (!d->in.error) xe_learn(&d->c.t, owner, kind, name);
}

static void go(xe_decoder *d, xe_frame *f, uint16_t state) {
    f->state = state;
    f->where = XE_STATE_KIND(d->c.t.g->states + state);
}

static void go_content(xe_decoder *d, xe_frame *f) {
    if (f->grammar == XE_NONE) go(d, f, d->c.t.g->states[f->state].content);
    f->where = XE_CONTENT;
}

static bool open_element(xe_decoder *d, uint32_t name, uint32_t prefix, uint16_t element, bool relaxed) {
    if (XE_RARE(d->in.error | d->c.t.error) || !xe_push(&d->c, relaxed ? XE_NONE : name, element)) return failed(d);
    xe_top(&d->c)->name = name;
    d->attributes = 0;
    if (d->head) return head_start(d, name);
    if (d->xml) return write_start(d, name);
    return emit(d, (xe_event){.kind = E_START, .name = name, .prefix = prefix}, d->text.len);
}

static bool count_attribute(xe_decoder *d) {
    return ++d->attributes <= d->c.l.attributes || xe_fail(&d->c, XE_E_LIMIT, "too many attributes");
}

static bool get_other(xe_decoder *d) { /* comments and processing instructions: the third part, and what they hold */
    bool instruction = xe_third(&d->c) ? xe_get(&d->in, 1) : d->c.o.pis;
    size_t off = d->text.len;
    uint32_t target = 0;
    get_text(d, xe_get_unsigned(&d->in));
    if (instruction) {
        target = (uint32_t)(d->text.len - off);
        if (!d->in.error && !xe_ncname(text_from(d, off))) d->in.error = XE_E_BITS;
        get_text(d, xe_get_unsigned(&d->in));
    }
    xe_span text = text_from(d, off);
    for (size_t i = target; check(d) && i + 1 < text.n; i++) { /* what would end it */
        if (instruction ? text.p[i] == '?' && text.p[i + 1] == '>' : text.p[i] == '-' && (text.p[i + 1] == '-')) d->in.error = XE_E_BITS;
    }
    if (!instruction && text.n && text.p[text.n - 1] == '-' && !d->in.error) d->in.error = XE_E_BITS;
    return emit(d, (xe_event){.kind = instruction ? E_INSTRUCTION : E_COMMENT, .other = target}, off);
}

static bool in_document(xe_decoder *d, bool *done) {
    xe_coder *c = &d->c;
    const xe_grammar *g = c->t.g;
    bool other = xe_other(c);
    uint32_t name, prefix;
    *done = false;
    if (c->o.fragment) {
        uint32_t n = g->informed ? g->n[XE_S_FRAGMENT] : c->t.n_fragment, code = get_first(d, n + 2, other);
        if (!check(d)) return false;
        if (code < n && g->informed) {
            const xe_fragment *f = g->fragment + code;
            return open_element(d, f->name, get_prefix(d, g->names[f->name].uri), f->element, f->element == XE_NO16);
        }
        if (code < n) {
            const xe_learned *l = xe_learned_at(&c->t, XE_OWNER_FRAGMENT, n - 1 - code);
            return l ? open_element(d, l->name, get_prefix(d, xe_uri_of_name(&c->t, l->name)), XE_NO16, false) : invalid(d);
        }
        if (code == n) {
            name = get_name(d, &prefix, false);
            if (!check(d)) return false;
            if (!g->informed) learn(d, XE_OWNER_FRAGMENT, XE_P_SE, name);
            return open_element(d, name, prefix, element_of(d, name), false);
        }
        *done = code == n + 1;
        return *done || get_other(d);
    }
    if (c->over) {
        *done = get_first(d, 1, other) == 0;
        return check(d) && (*done || get_other(d));
    }
    uint32_t code = get_first(d, g->n_globals + 1, other || c->o.dtd);
    if (!check(d)) return false;
    if (code < g->n_globals) {
        name = g->elements[code].name;
        return open_element(d, name, get_prefix(d, g->names[name].uri), (uint16_t)code, false);
    }
    if (code == g->n_globals) {
        name = get_name(d, &prefix, false);
        return check(d) && open_element(d, name, prefix, element_of(d, name), false);
    }
    if (c->o.dtd && xe_get(&d->in, xe_width(1u + other)) == 0)
        return check(d) && xe_fail(c, XE_E_UNSUPPORTED, "a document type declaration");
    return get_other(d);
}

static bool end_element(xe_decoder *d) {
    xe_coder *c = &d->c;
    while (d->n_scopes && d->scopes[d->n_scopes - 1].depth == c->depth) d->n_scopes--;
    if (d->head) return stop(d);
    if (d->xml && !write_end(d)) return false;
    c->depth--;
    if (!c->depth && !c->o.fragment) c->over = true;
    return d->xml || emit(d, (xe_event){.kind = E_END}, d->text.len);
}

static bool get_binding(xe_decoder *d) {
    xe_tables *t = &d->c.t;
    uint32_t uri = get_uri(d), m = xe_prefixes_of(t, uri), id = xe_get(&d->in, xe_width(m + 1));
    if (id > m && !d->in.error) d->in.error = XE_E_BITS;
    if (!check(d)) return false;
    if (id) {
        id--;
    } else {
        size_t off = get_text(d, xe_get_unsigned(&d->in));
        if (!check(d)) return false;
        xe_span text = text_from(d, off);
        if (text.n && !xe_ncname(text)) return invalid(d);
        id = m;
        xe_add_prefix(t, uri, text);
        d->text.len = off;
    }
    bool own = xe_get(&d->in, 1);
    if (!check(d) || !count_attribute(d) || !grow(&d->c, &d->scopes, &d->cap_scopes, d->n_scopes, sizeof *d->scopes)) return false;
    d->scopes[d->n_scopes++] = (struct xe_scope){d->c.depth, uri, id};
    return emit(d, (xe_event){.kind = E_BINDING, .name = uri, .prefix = id, .own = own}, d->text.len);
}

/* xsi:type: its value, and its effect. */
static bool get_type(xe_decoder *d, uint32_t prefix) {
    xe_coder *c = &d->c;
    const xe_grammar *g = c->t.g;
    xe_frame *f = xe_top(c);
    uint32_t name = XE_NONE, value_prefix = XE_NONE, xsi_type = g->uris[XE_URI_XSI].first + 1;
    if (!count_attribute(d)) return false;
    size_t off = d->text.len;
    if (c->o.lexical) {
        xe_rep r = xe_rep_of(g, &c->o, XE_NO16);
        xe_get_value(&c->t, &c->o, &c->l, &d->in, &r, xsi_type, &d->text);
        if (!check(d)) return false;
        xe_span value = text_from(d, off), before = {value.p, 0};
        for (size_t i = 0; i < value.n; i++) {
            if (value.p[i] != ':') continue;
            before.n = i;
            value.p += i + 1;
            value.n -= i + 1;
            break;
        }
        uint32_t uri = before.n ? XE_NONE : XE_URI_NONE;
        for (uint32_t i = d->n_scopes; i--;) {
            if (!xe_same(xe_prefix_at(&c->t, d->scopes[i].uri, d->scopes[i].prefix), before)) continue;
            uri = d->scopes[i].uri;
            break;
        }
        if (uri != XE_NONE) name = xe_lookup_name(&c->t, uri, value);
    } else {
        name = get_name(d, &value_prefix, true);
        if (!check(d)) return false;
    }
    if (g->informed && name < g->n[XE_S_NAMES] && g->names[name].type != XE_NO16) xe_cast(c, f, g->names[name].type);
    if (c->o.lexical) return emit(d, (xe_event){.kind = E_ATTRIBUTE, .name = xsi_type, .prefix = prefix}, off);
    if (is_bound(d, name)) return check(d);
    return emit(d, (xe_event){.kind = E_TYPE, .name = name, .prefix = prefix, .other = value_prefix}, off);
}

static bool get_nil(xe_decoder *d) {
    xe_coder *c = &d->c;
    xe_frame *f = xe_top(c);
    uint32_t name = c->t.g->uris[XE_URI_XSI].first, prefix = get_prefix(d, XE_URI_XSI);
    xe_rep boolean = {XE_BOOLEAN, XE_NO16, NULL};
    size_t off = d->text.len;
    xe_val v = {0};
    if (c->o.lexical) {
        for (uint32_t i = 0; i < c->t.g->n[XE_S_DATATYPES]; i++)
            if (c->t.g->datatypes[i].kind == XE_BOOLEAN) {
                boolean = xe_rep_of(c->t.g, &c->o, (uint16_t)i);
                break;
            }
    }
    xe_get_value(&c->t, &c->o, &c->l, &d->in, &boolean, name, &d->text);
    if (!check(d) || !count_attribute(d)) return false;
    boolean.kind = XE_BOOLEAN;
    if (!xe_parse(c->t.g, &c->o, &boolean, text_from(d, off), &v)) return invalid(d);
    if (v.u) {
        f->state = c->t.g->types[f->type].empty;
        f->where = XE_FIRST;
        f->castable = f->nillable = false;
    }
    return emit(d, (xe_event){.kind = E_ATTRIBUTE, .name = name, .prefix = prefix}, off);
}

/* An attribute that was matched by a wildcard. */
static bool get_any_attribute(xe_decoder *d, uint32_t uri, bool untyped) {
    uint32_t name, prefix;
    if (uri == XE_NONE) {
        name = get_name(d, &prefix, false);
    } else {
        name = get_local(d, uri, false);
        prefix = d->in.error ? XE_NONE : get_prefix(d, uri);
    }
    if (!check(d) || !count_attribute(d)) return false;
    uint16_t datatype = !untyped && name < d->c.t.g->n[XE_S_NAMES] ? d->c.t.g->names[name].attribute : XE_NO16;
    return emit_value(d, E_ATTRIBUTE, name, prefix, datatype);
}

static bool get_characters(xe_decoder *d, uint16_t datatype) { return emit_value(d, E_TEXT, xe_top(&d->c)->name, XE_NONE, datatype); }

static bool in_learned(xe_decoder *d) {
    xe_coder *c = &d->c;
    xe_frame *f = xe_top(c);
    bool content = f->where == XE_CONTENT;
    uint32_t owner = XE_OWNER(f->grammar, content), n = xe_learned_count(&c->t, owner), prefix;
    uint32_t code = get_first(d, n + content, true), xsi_type = c->t.g->uris[XE_URI_XSI].first + 1;
    if (!check(d)) return false;
    if (code < n) {
        const xe_learned *l = xe_learned_at(&c->t, owner, n - 1 - code);
        if (!l) return invalid(d);
        uint32_t name = l->name;
        switch (l->kind) {
        case XE_P_EE: return end_element(d);
        case XE_P_CH: f->where = XE_CONTENT; return get_characters(d, XE_NO16);
        case XE_P_SE:
            f->where = XE_CONTENT;
            prefix = get_prefix(d, xe_uri_of_name(&c->t, name));
            return check(d) && open_element(d, name, prefix, element_of(d, name), false);
        default:
            f->where = XE_START;
            prefix = get_prefix(d, xe_uri_of_name(&c->t, name));
            if (name == xsi_type) return get_type(d, prefix);
            return count_attribute(d) && emit_value(d, E_ATTRIBUTE, name, prefix, XE_NO16);
        }
    }
    if (content && code == n) return end_element(d);
    xe_second s = xe_second_of(c, f);
    int second = (int)xe_get(&d->in, xe_width(s.n));
    if (!check(d)) return false;
    if (second == s.ee) {
        if (xe_lookup_learned(&c->t, owner, XE_P_EE, 0) == XE_NONE) learn(d, owner, XE_P_EE, 0);
        return end_element(d);
    }
    if (second == s.any) {
        f->where = XE_START;
        uint32_t name = get_name(d, &prefix, false);
        if (!check(d)) return false;
        if (name != xsi_type || xe_lookup_learned(&c->t, owner, XE_P_AT, name) == XE_NONE) learn(d, owner, XE_P_AT, name);
        if (name == xsi_type) return get_type(d, prefix);
        return count_attribute(d) && emit_value(d, E_ATTRIBUTE, name, prefix, XE_NO16);
    }
    if (second == s.ns) return get_binding(d);
    if (second == s.se) {
        uint32_t name = get_name(d, &prefix, false);
        if (!check(d)) return false;
        learn(d, owner, XE_P_SE, name);
        f->where = XE_CONTENT;
        return open_element(d, name, prefix, element_of(d, name), false);
    }
    if (second == s.ch) {
        if (xe_lookup_learned(&c->t, owner, XE_P_CH, 0) == XE_NONE) learn(d, owner, XE_P_CH, 0);
        f->where = XE_CONTENT;
        return get_characters(d, XE_NO16);
    }
    if (second == s.other) {
        f->where = XE_CONTENT;
        return get_other(d);
    }
    if (c->o.dtd && second == s.ch + 1) return xe_fail(c, XE_E_UNSUPPORTED, "an entity reference");
    return invalid(d);
}

static bool in_state(xe_decoder *d) {
    xe_coder *c = &d->c;
    const xe_grammar *g = c->t.g;
    xe_frame *f = xe_top(c);
    const xe_state *state = g->states + f->state;
    uint32_t code = get_first(d, state->n, xe_has_second(c, f)), prefix, name;
    if (XE_RARE(d->in.error)) return failed(d);
    if (code < state->n) {
        const xe_row *row = g->rows + state->first + code;
        uint16_t label = row->label;
        if (label == XE_L_EE) return end_element(d);
        go(d, f, row->next);
        if (code < XE_STATE_ATTRIBUTES(state)) {
            prefix = get_prefix(d, g->names[label].uri);
            return count_attribute(d) && emit_value(d, E_ATTRIBUTE, label, prefix, row->arg);
        }
        if (label < XE_L_NAMES) {
            prefix = get_prefix(d, g->names[label].uri);
            return open_element(d, label, prefix, row->arg, row->arg == XE_NO16);
        }
        if (label == XE_L_CH) return get_characters(d, row->arg);
        if (label == XE_L_AT_ANY) return get_any_attribute(d, XE_NONE, false);
        if (label < XE_L_SE_NS) return get_any_attribute(d, label - XE_L_AT_NS, false);
        if (label == XE_L_SE_ANY) {
            name = get_name(d, &prefix, false);
        } else {
            name = get_local(d, label - XE_L_SE_NS, false);
            prefix = d->in.error ? XE_NONE : get_prefix(d, label - XE_L_SE_NS);
        }
        return check(d) && open_element(d, name, prefix, element_of(d, name), false);
    }
    xe_second s = xe_second_of(c, f);
    int second = (int)xe_get(&d->in, xe_width(s.n));
    if (!check(d)) return false;
    if (second == s.ee) return end_element(d);
    if (second == s.type) return get_type(d, get_prefix(d, XE_URI_XSI));
    if (second == s.nil) return get_nil(d);
    if (second == s.any) return get_any_attribute(d, XE_NONE, false);
    if (second == s.untyped) {
        uint32_t n = XE_STATE_ATTRIBUTES(state), third = xe_get(&d->in, xe_width(n + 1));
        if (third > n) return invalid(d);
        if (third == n) return get_any_attribute(d, XE_NONE, true);
        const xe_row *row = g->rows + state->first + third;
        prefix = get_prefix(d, g->names[row->label].uri);
        go(d, f, row->next);
        return count_attribute(d) && emit_value(d, E_ATTRIBUTE, row->label, prefix, XE_NO16);
    }
    if (second == s.ns) return get_binding(d);
    if (second == s.se) {
        name = get_name(d, &prefix, false);
        if (!check(d)) return false;
        go_content(d, f);
        return open_element(d, name, prefix, element_of(d, name), false);
    }
    if (second == s.ch) {
        go_content(d, f);
        return get_characters(d, XE_NO16);
    }
    if (second == s.other) {
        go_content(d, f);
        return get_other(d);
    }
    if (c->o.dtd && second == s.ch + 1) return xe_fail(c, XE_E_UNSUPPORTED, "an entity reference");
    return invalid(d);
}

/* Here it is, unless an attribute follows. */
static void note_seam(xe_decoder *d) {
    if (!d->xml) return;
    xe_tables *t = &d->c.t;
    d->seam = (struct xe_seam){d->in.at, d->xml->out.len, t->n_values, t->n_uris || t->n_names || t->n_grammars, *xe_top(&d->c)};
    t->hits = 0;
    t->global_hit = d->in.padded = false;
}

static bool run(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, bool keep, uint64_t *end) {
    xe_coder *c = &d->c;
    bool done = false;
    xe_coder_begin(c, keep);
    if (keep) xe_tables_mark(&c->t);
    xe_out_reset(&d->text);
    xe_out_room(&d->text, 1);                                                            /* so that its bytes are somewhere */
    for (uint32_t i = 0; i < d->n_channels; i++) d->channel_of[d->channels[i].name] = 0; /* of a block that failed */
    d->n_events = d->n_channels = d->n_values = d->n_scopes = 0;
    d->produced = 0;
    d->n_declared = 0;
    d->tag_open = false;
    d->seam.at = 0;
    d->in = (xe_in){.p = bytes, .len = n, .at = at};
    if (c->o.aligned) {
        xe_in_align(&d->in);
        d->in.aligned = true;
    }
    if (c->o.compress) {
        d->source = bytes;
        d->source_len = n;
        d->source_at = (size_t)(d->in.at >> 3);
        if (d->source_at > n) return xe_fail(c, XE_E_MORE, "the input ends too early");
        if (!next_stream(d, &d->plain)) return false;
    }
    while (!done) {
        if (XE_RARE(d->tag_open && c->depth == 1)) note_seam(d);
        bool good = c->depth == 0 ? in_document(d, &done) : xe_top(c)->grammar != XE_NONE ? in_learned(d) : in_state(d);
        if (XE_RARE(!good)) return c->error ? false : xe_fail(c, XE_E_BITS, "damaged");
    }
    if (c->o.channels && !end_block(d, true)) return false;
    *end = c->o.compress ? (uint64_t)d->source_at * 8 : d->in.at;
    return check(d);
}

static bool run_or_undo(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, bool keep, uint64_t *end) {
    if (run(d, bytes, n, at, keep, end)) return true;
    if (keep && (d->c.error == XE_E_MORE || d->c.error == XE_E_STOPPED)) xe_tables_back(&d->c.t);
    return false;
}

bool xe_decode(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, bool keep, const xe_sink *sink, uint64_t *end) {
    d->sink = sink;
    d->xml = NULL;
    d->head = NULL;
    return run_or_undo(d, bytes, n, at, keep, end);
}

bool xe_decode_xml(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, bool keep, xe_writer *w, uint64_t *end) {
    xe_sink sink = xe_writer_sink(w);
    xe_writer_begin(w);
    d->sink = &sink;
    d->head = NULL;
    d->xml = d->c.o.prefixes || d->c.o.channels ? NULL : w;
    return run_or_undo(d, bytes, n, at, keep, end) && (!w->out.error || xe_fail(&d->c, w->out.error, "the result is larger than allowed"));
}

/* With channels the structure comes before the values: all has to be read. */
static bool peek_start(void *ctx, const xe_qname *name) {
    ((xe_head *)ctx)->name = name->name_id;
    return true;
}
static bool peek_binding(void *ctx, xe_span prefix, xe_span uri, bool own) { return (void)ctx, (void)prefix, (void)uri, (void)own, true; }
static bool peek_attribute(void *ctx, const xe_qname *name, xe_span value) {
    xe_head *h = ctx;
    const char *local = (const char *)name->local.p;
    if (name->uri_id != XE_URI_NONE) return true;
    if (name->local.n == 2 && !memcmp(local, "to", 2)) h->to = value;
    if (name->local.n == 2 && !memcmp(local, "id", 2)) h->id = value;
    if (name->local.n == 4 && !memcmp(local, "from", 4)) h->from = value;
    if (name->local.n == 4 && !memcmp(local, "type", 4)) h->type = value;
    return true;
}
static bool peek_type(void *ctx, const xe_qname *name, const xe_qname *value) { return (void)ctx, (void)name, (void)value, true; }
static bool peek_other(void *ctx, xe_span text) { return (void)ctx, (void)text, true; }
static bool peek_instruction(void *ctx, xe_span target, xe_span data) { return (void)ctx, (void)target, (void)data, true; }
static bool peek_no_more(void *ctx) { return (void)ctx, false; }

bool xe_peek(xe_decoder *d, const uint8_t *bytes, size_t n, uint64_t at, bool keep, xe_head *head) {
    xe_sink sink = {peek_start,   peek_binding, peek_attribute,   peek_type,    peek_other,
                    peek_no_more, peek_other,   peek_instruction, peek_no_more, head};
    uint64_t end;
    *head = (xe_head){.name = XE_NONE};
    d->sink = &sink;
    d->xml = NULL;
    d->head = d->c.o.channels ? NULL : head;
    bool direct = d->head != NULL;
    run_or_undo(d, bytes, n, at, keep, &end);
    d->head = NULL;
    if (d->c.error != XE_E_STOPPED) return false;
    d->c.error = XE_OK;
    for (unsigned i = 0; direct && i < 4; i++) {
        xe_span *s = &head->to + i;
        if (s->p) s->p = d->text.p + head->off[i];
    }
    return true;
}

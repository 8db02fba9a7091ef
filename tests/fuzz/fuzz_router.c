/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target of the router (src/_xmppcore/c/router.h), for libFuzzer, or alone with -DSTANDALONE (arguments: files to run).
 *
 * An input is HEADER bytes that choose limits, then commands of two bytes: what to do, with which of LINKS links, and an argument.
 * Commands put bytes (of the input, or of a table of likely ones) on a link's wire, feed a piece of the wire, park, restart, bind, send
 * and so on.
 *
 * Each link has a model: a parser of its own with a private buffer, fed with the same bytes, and the bytes that must be queued. Whatever
 * the router says is compared with what the model's parser finds next; a routed stanza is stamped by the model by walking its start
 * tag. After each command queues, unread bytes, the table and the dirty list are compared.
 */
#include "jid.h"
#include "router.h"
#include "standalone.h"

enum { HEADER = 2, LINKS = 4, MAX_ATTRIBUTES = 16, HIGH = 3000, MAX_KEPT = 1 << 12 };

static const struct {
    const char *full, *stamp;
    uint32_t bare_len;
} jids[] = {
    {"a@b/0", " from='a@b/0'", 3},
    {"a@b/it's", " from='a@b/it&apos;s'", 3},
    {"c@b/<&>", " from='c@b/&lt;&amp;>'", 3},
    {"b/e", " from='b/e'", 1},
};
enum { JIDS = sizeof jids / sizeof jids[0] };

static const char *const likely[] = {
    "<?xml version='1.0'?>",
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xml:lang='en'>",
    "<stream:stream xmlns='jabber:client' xmlns:stream='s' xmlns:p='u' xml:lang='d&apos;e'>",
    "<s xmlns='jabber:client'>",
    "<s xmlns='jabber:server' xml:lang='de'>",
    "<stream:stream xmlns:stream='s' xmlns='jabber:client' xml:lang='de'>",
    "</stream:stream>",
    "<message to='a@b/0'><body>hi</body></message>",
    "<message to=\"a@b/it's\" from='a@b' xml:lang='fr'/>",
    "<message\n to='c@b/&lt;&amp;>'/>",
    "<message from = 'a@b/0'\tto='B/e' >",
    "<message to='b/e' id='",
    "<message to='A@b/0' id='1' from=\"b/e\"  type='chat'>",
    "</message>",
    "<iq type='get' id='1' to='a@b/0'><q xmlns='u'/></iq>",
    "<iq type='result' id='1' to='b/e'/>",
    "<iq to='b/e' type='set'><q/></iq>",
    "<presence to='a@b/0'/>",
    "<p:x/>",
    "<message to='b/e'><p:x xmlns:p='u'/></message>",
    "<message xmlns='jabber:client' to='b/e'/>",
    "<r xmlns='urn:xmpp:sm:3'/>",
    "<a xmlns='urn:xmpp:sm:3' h='1'/>",
    "<a h='2' xmlns='urn:xmpp:sm:3'></a>",
    "<a xmlns='urn:xmpp:sm:3' h='3'/>",
    "<body>",
    "</body>",
    "\n ",
    "'>",
    "&amp;",
    "]]>",
};
enum { LIKELY = sizeof likely / sizeof likely[0] };

typedef struct bytes {
    uint8_t *p;
    size_t n, cap;
} bytes;

static void put(bytes *b, const void *p, size_t n) {
    if (b->n + n + XC_PAD > b->cap) {
        b->cap = 2 * (b->n + n + XC_PAD);
        CHECK(b->p = realloc(b->p, b->cap));
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    memset(b->p + b->n, 0, XC_PAD);
}

static void drop(bytes *b, size_t n) {
    if (n) memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
    put(b, NULL, 0);
}

typedef struct model {
    xc_xml xml;
    xc_shared *limits;
    bytes wire; /* sent by the peer and not received yet */
    bytes in;   /* received and not parsed */
    bytes out;  /* queued */
    bytes kept; /* by stream management: sent and not acknowledged */
    uint32_t lengths[MAX_KEPT], handled, sent, acked, asked;
    size_t unasked_bytes;
    int jid; /* -1: unbound */
    bool restarted, dirty, late, dead, managed, detached, listed, awaited, pending;
} model;

typedef struct world {
    xc_router router;
    xc_link links[LINKS];
    model models[LINKS];
    xc_shared *limits[2]; /* the models': before and after login */
    size_t largest;       /* stanza */
} world;

static bool white(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static void skip_white(model *m) {
    size_t n = 0;
    while (n < m->in.n && white(m->in.p[n])) n++;
    drop(&m->in, n);
    m->restarted = m->in.n == 0;
}

static xc_event next_event(model *m, xc_head *head, size_t *at) {
    put(&m->in, NULL, 0);
    return xc_xml_next(&m->xml, m->limits, m->in.p, m->in.n, head, at);
}

static void mark(model *m) {
    m->dirty = true;
    m->late = false;
}

static void say(model *m, const char *text) {
    put(&m->out, text, strlen(text));
    mark(m);
}

/* A stanza of n bytes, the last ones of `out` or of `kept`, was sent to m. */
static void sent(model *m, size_t n) {
    if (!m->managed) return;
    if (!m->detached) put(&m->kept, m->out.p + m->out.n - n, n);
    CHECK(m->sent - m->acked < MAX_KEPT);
    m->lengths[m->sent++ % MAX_KEPT] = (uint32_t)n;
    m->unasked_bytes += n;
    if (m->detached) return;
    if (m->sent - m->asked >= XC_SM_EVERY || m->unasked_bytes >= XC_SM_EVERY_BYTES) {
        m->asked = m->sent;
        m->unasked_bytes = 0;
        say(m, "<r xmlns='urn:xmpp:sm:3'/>");
    } else {
        m->listed = true;
    }
}

static bool acknowledge(model *m, uint32_t h) {
    if (h - m->acked > m->sent - m->acked) return false;
    for (; m->acked != h; m->acked++) drop(&m->kept, m->lengths[m->acked % MAX_KEPT]);
    if (m->asked - h > m->sent - h) m->asked = h;
    return true;
}

/* Is the model's next stanza one that stream management deals with in the link? Then the model does, too. */
static bool manage(model *m, const uint8_t *raw, const xc_head *head) {
    char text[64];
    xc_attr attrs[MAX_ATTRIBUTES];
    xc_walk walk = {.p = raw, .end = raw + head->size, .attrs = attrs};
    if (!m->managed || head->name.len != 1 || head->ns_in != XC_IN_RAW || (head->decode & XC_NS) || head->ns.len != 13 ||
        memcmp(raw + head->ns.off, "urn:xmpp:sm:3", 13) != 0)
        return false;
    if (raw[head->name.off] == 'r') {
        if (m->pending) return false;
        snprintf(text, sizeof text, "<a xmlns='urn:xmpp:sm:3' h='%u'/>", m->handled);
        const bool late = !m->dirty || m->late;
        say(m, text);
        m->late = late;
        return true;
    }
    if (raw[head->name.off] != 'a' || head->size > 128 || xc_walk_next(&walk) != XC_T_EMPTY) return false;
    for (uint32_t k = 0; k < walk.nattrs; k++) {
        if (attrs[k].name_len != 1 || attrs[k].name[0] != 'h' || attrs[k].decode || attrs[k].value_len > 10) continue;
        memcpy(text, attrs[k].value, attrs[k].value_len);
        text[attrs[k].value_len] = 0;
        if (!text[0] || strspn(text, "0123456789") != attrs[k].value_len || strtoull(text, NULL, 10) > UINT32_MAX) return false;
        return acknowledge(m, (uint32_t)strtoull(text, NULL, 10));
    }
    return false;
}

/* The model's stanza was routed: find where, stamp it, and queue it there. */
static void route(world *w, int from, xc_head head, size_t at) {
    model *m = &w->models[from];
    xc_link *l = &w->links[from];
    CHECK(m->jid >= 0 && !l->hooks && !(l->flags & XC_LINK_PENDING));
    CHECK(!head.outer_prefix && !head.inner_ns && !head.prefixed && !head.stanza_id);
    const uint8_t *raw = m->in.p + at;
    xc_attr attrs[MAX_ATTRIBUTES], *to = NULL, *own = NULL, *lang = NULL;
    xc_walk walk = {.p = raw, .end = raw + head.size, .attrs = attrs};
    xc_token token = xc_walk_next(&walk);
    CHECK(token == XC_T_START || token == XC_T_EMPTY);
    for (uint32_t i = 0; i < walk.nattrs; i++) {
        xc_attr *a = &attrs[i];
        if (a->name_len == 2 && memcmp(a->name, "to", 2) == 0) to = a;
        if (a->name_len == 4 && memcmp(a->name, "from", 4) == 0) own = a;
        if (a->name_len == 8 && memcmp(a->name, "xml:lang", 8) == 0) lang = a;
    }
    CHECK(to && !to->decode);
    uint8_t prepared[XC_JID_INPUT_MAX];
    xc_jid_parts parts;
    CHECK(xc_jid_prepare(to->value, to->value_len, prepared, &parts) == XC_JID_OK);
    int there = 0;
    while (there < LINKS && !(w->models[there].jid >= 0 && strlen(jids[w->models[there].jid].full) == xc_jid_len(&parts) &&
                              memcmp(jids[w->models[there].jid].full, prepared, xc_jid_len(&parts)) == 0))
        there++;
    CHECK(there < LINKS);
    model *d = &w->models[there];
    CHECK(!w->links[there].hooks && !(w->links[there].flags & XC_LINK_STALLED) && d->out.n <= 4 * HIGH &&
          d->kept.n <= (d->detached ? 1 : 4) * HIGH);
    bytes *out = d->detached ? &d->kept : &d->out;
    size_t before = out->n;
    const char *stamp = jids[m->jid].stamp;
    if (own) {
        size_t full = strlen(jids[m->jid].full);
        CHECK(own->value_len == full || own->value_len == jids[m->jid].bare_len);
        CHECK(memcmp(own->value, jids[m->jid].full, own->value_len) == 0);
    }
    const uint8_t *name_end = walk.text + walk.text_len;
    put(out, raw, (size_t)(name_end - raw));
    put(out, stamp, strlen(stamp));
    const xc_context *mine = m->xml.context, *theirs = d->xml.context;
    if (!lang && mine->lang.len &&
        (mine->lang.len != theirs->lang.len ||
         memcmp(mine->bytes + mine->lang.off, theirs->bytes + theirs->lang.off, mine->lang.len) != 0)) {
        put(out, " xml:lang='", 11);
        put(out, mine->bytes + mine->lang.off, mine->lang.len);
        put(out, "'", 1);
    }
    if (own) {
        const uint8_t *start = own->name;
        while (white(start[-1])) start--;
        put(out, name_end, (size_t)(start - name_end));
        name_end = own->value + own->value_len + 1;
    }
    put(out, name_end, (size_t)(raw + head.size - name_end));
    if (!d->detached) mark(d);
    sent(d, out->n - before);
    if (m->managed) m->handled++;
    if (head.size > w->largest) w->largest = head.size;
}

/* Feed until the link is idle or dead, or has given more than `most` events: then it stays the router's current one. */
static void feed(world *w, int i, size_t received, unsigned most) {
    model *m = &w->models[i];
    xc_link *l = &w->links[i];
    for (;;) {
        xc_head head, expected;
        const uint8_t *raw = NULL;
        xc_link *slow = NULL;
        size_t at;
        uint64_t before = w->router.routed, first = before;
        xc_link_event event = xc_link_feed(&w->router, l, received, &head, &raw, &slow);
        received = 0;
        if (m->restarted) skip_white(m);
        CHECK(event != XC_LINK_NO_MEMORY);
        xc_event real = XC_NEED_DATA;
        while (before < w->router.routed || event != XC_LINK_SLOW) {
            real = next_event(m, &expected, &at);
            if (real == XC_STANZA && manage(m, m->in.p + at, &expected)) continue;
            if (before == w->router.routed) break;
            CHECK(real == XC_STANZA);
            route(w, i, expected, at);
            before++;
        }
        if (event == XC_LINK_SLOW) {
            if (slow == l && m->awaited && xc_link_load(l) <= HIGH / 4) {
                do CHECK(next_event(m, &expected, &at) == XC_STANZA && manage(m, m->in.p + at, &expected));
                while ((m->kept.n > m->out.n ? m->kept.n : m->out.n) > HIGH / 4);
                m->awaited = false;
            } else {
                CHECK(xc_link_load(slow) > HIGH);
                if (first == w->router.routed) { /* its own requests, whose answers it does not take */
                    CHECK(slow == l);
                    do CHECK(next_event(m, &expected, &at) == XC_STANZA && manage(m, m->in.p + at, &expected));
                    while (m->out.n <= HIGH);
                    CHECK(m->out.n == l->out.bytes);
                }
            }
        } else {
            switch (event) {
            case XC_LINK_IDLE: CHECK(real == XC_NEED_DATA); break;
            case XC_LINK_OPEN: CHECK(real == XC_OPEN); break;
            case XC_LINK_STANZA: CHECK(real == XC_STANZA); break;
            case XC_LINK_CLOSE: CHECK(real == XC_CLOSE); break;
            default: CHECK(real == XC_ERROR && l->xml.error == m->xml.error && l->xml.error_at == m->xml.error_at);
            }
            if (event == XC_LINK_STANZA || event == XC_LINK_OPEN)
                CHECK(head.size == expected.size && memcmp(raw, m->in.p + at, head.size) == 0 &&
                      memcmp(&head, &expected, sizeof head) == 0);
        }
        if (event == XC_LINK_IDLE || event == XC_LINK_ERROR) {
            CHECK(w->router.current != l);
            m->dead = event == XC_LINK_ERROR;
            break;
        }
        if (most-- == 0) break;
    }
    if (m->dead) {
        drop(&m->in, m->in.n);
    } else {
        size_t keep = xc_xml_keep(&m->xml);
        xc_xml_shift(&m->xml, keep);
        drop(&m->in, keep);
    }
}

static void bind(world *w, int i, int jid) {
    for (int k = 0; k < LINKS; k++)
        if (k == i || w->models[k].jid == jid) {
            xc_router_unbind(&w->router, &w->links[k]);
            w->models[k].jid = -1;
        }
    size_t len = strlen(jids[jid].stamp), full = strlen(jids[jid].full);
    xc_stamp *stamp = malloc(sizeof *stamp + len + full);
    CHECK(stamp);
    stamp->len = (uint32_t)len;
    stamp->jid_len = (uint32_t)full;
    stamp->bare_len = jids[jid].bare_len;
    memcpy(stamp->bytes, jids[jid].full, full);
    memcpy(stamp->bytes + full, jids[jid].stamp, len);
    CHECK(xc_router_bind(&w->router, &w->links[i], stamp));
    w->models[i].jid = jid;
}

static void begin(world *w, int i) {
    w->models[i] = (model){.jid = -1, .limits = w->limits[0]};
    xc_xml_init(&w->models[i].xml);
    xc_link_init(&w->router, &w->links[i]);
}

static void finish(world *w, int i) {
    model *m = &w->models[i];
    xc_link_free(&w->router, &w->links[i]);
    xc_xml_free(&m->xml, m->limits);
    free(m->wire.p);
    free(m->in.p);
    free(m->out.p);
    free(m->kept.p);
}

static void same(const xc_out *out, const bytes *expected) {
    size_t at = 0;
    xc_block *last = NULL;
    for (xc_block *b = out->head; b; last = b, b = b->next) {
        CHECK(b->start < b->end && b->end <= b->size && at + b->end - b->start <= expected->n);
        CHECK(memcmp(b->data + b->start, expected->p + at, b->end - b->start) == 0);
        at += b->end - b->start;
    }
    CHECK(at == expected->n && out->bytes == at && last == out->tail);
}

static void compare(world *w) {
    size_t bound = 0, dirty = 0, listed = 0, unasked = 0;
    for (int i = 0; i < LINKS; i++) {
        model *m = &w->models[i];
        xc_link *l = &w->links[i];
        CHECK(l->out.bytes == m->out.n && m->out.n <= 4 * HIGH + w->largest + 4096);
        same(&l->out, &m->out);
        CHECK(!l->sm == !m->managed);
        if (l->sm) {
            same(&l->sm->kept, &m->kept);
            CHECK(l->sm->handled == m->handled && l->sm->sent == m->sent && l->sm->acked == m->acked && l->sm->asked == m->asked);
            CHECK(l->sm->detached == m->detached && l->sm->listed == m->listed && m->kept.n <= 4 * HIGH + w->largest + 4096);
            for (uint32_t k = 0; k < m->sent - m->acked; k++) CHECK(xc_sm_length(l->sm, k) == m->lengths[(m->acked + k) % MAX_KEPT]);
        }
        unasked += m->managed && m->listed;
        CHECK(!!(l->flags & XC_LINK_BOUND) == (m->jid >= 0) && !l->stamp == (m->jid < 0));
        CHECK(!!(l->flags & XC_LINK_DIRTY) == m->dirty && !!(l->flags & XC_LINK_LATE) == m->late);
        CHECK(l->tail_len <= l->tail_cap && !l->tail == !l->tail_cap);
        size_t unread = m->in.n, skip = 0;
        while (skip < unread && white(m->in.p[skip])) skip++;
        CHECK(xc_link_unread(&w->router, l) == unread - skip);
        bound += m->jid >= 0;
        dirty += m->dirty;
    }
    for (int jid = 0; jid < JIDS; jid++) {
        xc_link *holder = NULL;
        for (int i = 0; i < LINKS; i++)
            if (w->models[i].jid == jid) holder = &w->links[i];
        CHECK(xc_router_find(&w->router, (const uint8_t *)jids[jid].full, strlen(jids[jid].full)) == holder);
    }
    CHECK(w->router.used == bound);
    for (xc_link *l = w->router.dirty; l; l = l->dirty) {
        CHECK((l->flags & XC_LINK_DIRTY) && listed++ < LINKS);
        if (!l->dirty) CHECK(w->router.dirty_last == l);
    }
    CHECK(listed == dirty);
    for (xc_link *l = w->router.unasked; l; l = l->sm->next) CHECK(l->sm->listed && unasked-- > 0);
    CHECK(unasked == 0);
}

/* The server says something to everybody, link i first, and to link i once more. */
static void fan_out(world *w, int i, unsigned arg) {
    static const char words[] = " to='a' to='bb' to='ccc' to='dddd'";
    static const uint32_t start[LINKS + 1] = {0, 7, 15, 24, 34};
    xc_reader readers[LINKS + 1];
    uint32_t left[LINKS + 1], expected[LINKS + 1];
    size_t nleft = 0, nexpected = 0;
    char stanza[300], *name_end = stanza + 9;
    int size = snprintf(stanza, sizeof stanza,
                        arg & 1 ? "<presence from='x'>%*d</presence>"
                        : arg   ? "<presence>%*d</presence>"
                                : "<presence/>",
                        (int)arg, 0);
    for (int k = 0; k <= LINKS; k++) {
        int j = (i + k) % LINKS;
        readers[k] = (xc_reader){&w->links[j], start[j], start[j + 1] - start[j]};
    }
    CHECK(xc_router_fan_out(&w->router, readers, LINKS + 1, (const uint8_t *)words, (const uint8_t *)stanza, (size_t)size, left, &nleft));
    for (int k = 0; k <= LINKS; k++) {
        model *m = &w->models[(i + k) % LINKS];
        xc_link *l = readers[k].link;
        if (m->jid < 0 || l->hooks || (l->flags & XC_LINK_STALLED) || m->out.n > 4 * HIGH || m->kept.n > (m->detached ? 1 : 4) * HIGH) {
            expected[nexpected++] = (uint32_t)k;
            continue;
        }
        bytes *out = m->detached ? &m->kept : &m->out;
        size_t before = out->n;
        put(out, stanza, 9);
        put(out, words + readers[k].start, readers[k].len);
        put(out, name_end, (size_t)(stanza + size - name_end));
        if (!m->detached) mark(m);
        sent(m, out->n - before);
    }
    CHECK(nleft == nexpected && memcmp(left, expected, nleft * sizeof *left) == 0);
}

static void command(world *w, unsigned what, unsigned arg, const uint8_t **data, const uint8_t *end) {
    static uint8_t filler[256];
    int i = (int)(what % LINKS);
    xc_link *l = &w->links[i];
    model *m = &w->models[i];
    switch (what / LINKS % 21) {
    case 0: { /* bytes of the input */
        size_t n = arg < (size_t)(end - *data) ? arg : (size_t)(end - *data);
        put(&m->wire, *data, n);
        *data += n;
        break;
    }
    case 1:
    case 2:
    case 3: put(&m->wire, likely[arg % LIKELY], strlen(likely[arg % LIKELY])); break;
    case 4: /* up to 16 KB of text */
        memset(filler, 'x', sizeof filler);
        for (unsigned k = 0; k < arg / 4; k++) put(&m->wire, filler, sizeof filler);
        break;
    case 5:
    case 6:
    case 7: { /* feed a piece of the wire, all of it for 0 */
        if (m->detached) break;
        size_t n = arg % 64 && arg % 64 < m->wire.n ? arg % 64 : m->wire.n;
        if (n > XC_RECEIVE) n = XC_RECEIVE;
        if (n && w->router.current) CHECK(xc_link_park(&w->router, w->router.current));
        if (n) memcpy(w->router.buffer + XC_HEADROOM, m->wire.p, n);
        if (!m->dead) put(&m->in, m->wire.p, n);
        drop(&m->wire, n);
        feed(w, i, n, arg / 64 ? arg / 64 - 1 : 1000);
        break;
    }
    case 8: { /* the peer takes some of its output, all of it for 255 */
        size_t n = arg == 255 || arg * 64 > m->out.n ? m->out.n : arg * 64;
        xc_out_drop(&w->router.pool, &l->out, n);
        drop(&m->out, n);
        break;
    }
    case 9: bind(w, i, (int)(arg % JIDS)); break;
    case 10:
        xc_router_unbind(&w->router, l);
        m->jid = -1;
        break;
    case 11: /* a new stream */
        if (m->dead) break;
        CHECK(xc_link_restart(&w->router, l, arg & 1));
        xc_xml_free(&m->xml, m->limits);
        xc_xml_init(&m->xml);
        m->limits = w->limits[arg & 1];
        m->restarted = true;
        break;
    case 12: /* the link dies, and another takes its place */
        if (m->dirty && arg & 1) {
            for (int k = 0; k < LINKS; k++) w->models[k].dirty = w->models[k].late = false;
            CHECK(xc_router_take_dirty(&w->router, true));
        }
        finish(w, i);
        begin(w, i);
        break;
    case 13: {
        l->hooks = arg & 1;
        m->awaited = arg & 8;
        m->pending = arg & 4;
        l->flags = (uint8_t)((l->flags & ~(XC_LINK_STALLED | XC_LINK_PENDING | XC_LINK_AWAITED)) | (arg & 2 ? XC_LINK_STALLED : 0) |
                             (arg & 4 ? XC_LINK_PENDING : 0) | (arg & 8 ? XC_LINK_AWAITED : 0));
        break;
    }
    case 14: /* the server says something */
        if (m->out.n > 4 * HIGH || m->detached) break;
        memset(filler, 's', sizeof filler);
        CHECK(xc_link_write(&w->router, l, filler, arg));
        put(&m->out, filler, arg);
        mark(m);
        break;
    case 15:
        CHECK(xc_link_enable_sm(l));
        m->managed = true;
        break;
    case 16:
        if (!m->managed) break;
        xc_link_detach(&w->router, l);
        drop(&m->out, m->out.n);
        m->detached = true;
        m->listed = m->awaited = false;
        break;
    case 17: { /* the stream of another link goes on here */
        int k = (int)(arg % LINKS);
        model *o = &w->models[k];
        if (k == i || m->detached || !o->managed || (m->out.n && m->out.n + o->kept.n > 4 * HIGH)) break; /* it has said little yet */
        CHECK(xc_link_resume(&w->router, l, &w->links[k]));
        free(m->kept.p);
        m->kept = o->kept;
        o->kept = (bytes){NULL, 0, 0};
        memcpy(m->lengths, o->lengths, sizeof m->lengths);
        m->handled = o->handled;
        m->sent = m->asked = o->sent;
        m->unasked_bytes = 0;
        m->acked = o->acked;
        m->managed = true;
        m->listed = o->managed = o->detached = o->listed = false;
        o->handled = o->sent = o->acked = o->asked = 0;
        o->unasked_bytes = 0;
        if (m->kept.n) {
            put(&m->out, m->kept.p, m->kept.n);
            say(m, "<r xmlns='urn:xmpp:sm:3'/>");
        }
        break;
    }
    case 18: /* the server asks, or sends a stanza */
        if (arg & 1) {
            if (m->out.n > 4 * HIGH || m->kept.n > 4 * HIGH) break;
            memset(filler, 't', sizeof filler);
            CHECK(xc_link_send(&w->router, l, filler, arg));
            put(m->detached ? &m->kept : &m->out, filler, arg);
            if (!m->detached) mark(m);
            sent(m, arg);
            break;
        }
        CHECK(xc_router_ask(&w->router));
        for (int k = 0; k < LINKS; k++) {
            model *o = &w->models[k];
            if (o->managed && o->listed && o->asked != o->sent && o->sent != o->acked) {
                o->asked = o->sent;
                o->unasked_bytes = 0;
                say(o, "<r xmlns='urn:xmpp:sm:3'/>");
            }
            o->listed = false;
        }
        break;
    case 19: fan_out(w, i, arg); break;
    default: {
        unsigned n = 0;
        for (xc_link *d = xc_router_take_dirty(&w->router, arg & 1); d; d = d->dirty) {
            model *o = &w->models[d - w->links];
            CHECK(o->dirty && (arg & 1 || !o->late) && n++ < LINKS);
            o->dirty = o->late = false;
        }
        for (int k = 0; k < LINKS; k++) CHECK(!w->models[k].dirty || (w->models[k].late && !(arg & 1)));
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const uint32_t stanza[] = {300, 5000, 20000, 1 << 20};
    if (n < HEADER) return 0;
    const uint64_t seed[2] = {data[0], data[1]};
    xc_limits after = {.max_stanza_bytes = stanza[data[0] & 3],
                       .max_tag_bytes = stanza[data[0] >> 2 & 3],
                       .max_depth = 8,
                       .max_attributes = MAX_ATTRIBUTES,
                       .max_namespaces = 8};
    xc_limits before = after;
    before.max_stanza_bytes = before.max_tag_bytes = stanza[data[0] >> 4 & 3];
    uint8_t *buffer = malloc(XC_HEADROOM + XC_RECEIVE + XC_PAD);
    world *w = calloc(1, sizeof *w);
    CHECK(buffer && w);
    memset(buffer, data[1], XC_HEADROOM + XC_RECEIVE + XC_PAD);
    CHECK(xc_router_init(&w->router, xc_kernels_default(), &after, &before, HIGH, seed, buffer));
    CHECK(w->limits[0] = xc_shared_new(xc_kernels_named("scalar"), &before));
    CHECK(w->limits[1] = xc_shared_new(xc_kernels_named("scalar"), &after));
    for (int i = 0; i < LINKS; i++) {
        begin(w, i);
        if (data[0] & 64) { /* a quick start: everybody is online */
            bind(w, i, i);
            put(&w->models[i].wire, likely[3 - (data[1] >> i & 1) * 2], strlen(likely[3 - (data[1] >> i & 1) * 2]));
        }
    }
    const uint8_t *end = data + n;
    for (data += HEADER; data + 2 <= end;) {
        unsigned what = data[0], arg = data[1];
        data += 2;
        command(w, what, arg, &data, end);
        compare(w);
    }
    for (int i = 0; i < LINKS; i++) finish(w, i);
    CHECK(!w->router.used && !w->router.dirty && !w->router.current);
    xc_shared_free(w->limits[0]);
    xc_shared_free(w->limits[1]);
    xc_router_free(&w->router);
    free(buffer);
    free(w);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "router.h"

#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "hash.h"
#include "jid.h"

enum { FIRST_SLOTS = 64, LONGEST_JID = 3 * 1023 + 2, LONGEST_LANG = 35 /* RFC 5646 section 4.4.1 */ };

bool xc_router_init(xc_router *r, const xc_kernels *k, const xc_limits *limits, const xc_limits *early, size_t high, const uint64_t seed[2],
                    uint8_t *buffer) {
    *r = (xc_router){.mask = FIRST_SLOTS - 1, .seed = {seed[0], seed[1]}, .high = high, .full = 4 * high};
    r->shared = xc_shared_new(k, limits);
    r->early = xc_shared_new(k, early);
    r->buffer = buffer;
    r->table = calloc(FIRST_SLOTS, sizeof *r->table);
    return r->shared && r->early && r->table;
}

void xc_router_free(xc_router *r) {
    xc_shared_free(r->shared);
    xc_shared_free(r->early);
    xc_pool_free(&r->pool);
    free(r->table);
    *r = (xc_router){.mask = 0};
}

/* ---- the table ---- */

static size_t slot_of(const xc_router *r, uint64_t hash, const uint8_t *jid, size_t n) {
    size_t i = hash & r->mask;
    for (; r->table[i].stamp; i = (i + 1) & r->mask) {
        if (r->table[i].hash != hash) continue;
        const xc_stamp *s = r->table[i].stamp;
        if (s->jid_len == n && memcmp(s->bytes, jid, n) == 0) break;
    }
    return i;
}

xc_link *xc_router_find(const xc_router *r, const uint8_t *jid, size_t n) {
    const xc_stamp *stamp = r->table[slot_of(r, xc_hash(jid, n, r->seed), jid, n)].stamp;
    return stamp ? stamp->link : NULL;
}

/* Look-ups touch the table anywhere: in pages of 2 MiB most of their addresses are translated without another miss. */
static void ask_for_large_pages(void *table, size_t octets) {
#ifdef MADV_HUGEPAGE
    const size_t page = (size_t)1 << 21;
    uintptr_t start = ((uintptr_t)table + page - 1) & ~(uintptr_t)(page - 1), end = ((uintptr_t)table + octets) & ~(uintptr_t)(page - 1);
    if (start < end) (void)madvise((void *)start, end - start, MADV_HUGEPAGE); /* a refusal costs speed only */
#else
    (void)table, (void)octets;
#endif
}

static bool grow(xc_router *r) {
    size_t slots = (r->mask + 1) * 2;
    struct xc_slot *old = r->table, *table = calloc(slots, sizeof *table);
    if (!table) return false;
    ask_for_large_pages(table, slots * sizeof *table);
    for (size_t i = 0; i <= r->mask; i++) {
        if (!old[i].stamp) continue;
        size_t j = old[i].hash & (slots - 1);
        while (table[j].stamp) j = (j + 1) & (slots - 1);
        table[j] = old[i];
    }
    r->table = table;
    r->mask = slots - 1;
    free(old);
    return true;
}

bool xc_router_bind(xc_router *r, xc_link *l, xc_stamp *stamp) {
    if ((r->used + 1) * 2 > r->mask + 1 && !grow(r)) return false; /* at most half full: short probes */
    l->stamp = stamp;
    stamp->link = l;
    l->flags |= XC_LINK_BOUND;
    uint64_t hash = xc_hash(stamp->bytes, stamp->jid_len, r->seed);
    r->table[slot_of(r, hash, stamp->bytes, stamp->jid_len)] = (struct xc_slot){hash, stamp};
    r->used++;
    return true;
}

void xc_router_unbind(xc_router *r, xc_link *l) {
    if (!(l->flags & XC_LINK_BOUND)) return;
    const xc_stamp *s = l->stamp;
    size_t i = slot_of(r, xc_hash(s->bytes, s->jid_len, r->seed), s->bytes, s->jid_len);
    /* Close the gap: move back whoever stands behind it because of it. */
    for (size_t j = (i + 1) & r->mask; r->table[j].stamp; j = (j + 1) & r->mask) {
        size_t home = r->table[j].hash & r->mask;
        if (((j - home) & r->mask) >= ((j - i) & r->mask)) {
            r->table[i] = r->table[j];
            i = j;
        }
    }
    r->table[i].stamp = NULL;
    r->used--;
    l->flags &= (uint8_t)~XC_LINK_BOUND;
    free(l->stamp);
    l->stamp = NULL;
}

/* ---- links ---- */

void xc_link_init(xc_router *r, xc_link *l) {
    *l = (xc_link){.shared = r->early};
    xc_xml_init(&l->xml);
}

/* Take l out of the list of those to be asked. */
static void unlist(xc_router *r, xc_link *l) {
    if (!l->sm || !l->sm->listed) return;
    xc_link **p = &r->unasked;
    while (*p != l) p = &(*p)->sm->next;
    *p = l->sm->next;
    l->sm->listed = false;
}

void xc_link_free(xc_router *r, xc_link *l) {
    xc_router_unbind(r, l);
    if (r->current == l) r->current = NULL;
    if (l->flags & XC_LINK_DIRTY) {
        xc_link **p = &r->dirty, *before = NULL;
        while (*p != l) before = *p, p = &(*p)->dirty;
        *p = l->dirty;
        if (r->dirty_last == l) r->dirty_last = before;
    }
    unlist(r, l);
    xc_sm_free(&r->pool, l->sm);
    xc_out_drop(&r->pool, &l->out, l->out.bytes);
    xc_xml_free(&l->xml, l->shared);
    free(l->tail);
    l->tail = NULL;
}

void xc_link_mark(xc_router *r, xc_link *l) {
    const uint8_t before = l->flags;
    l->flags = (before | XC_LINK_DIRTY) & (uint8_t)~XC_LINK_LATE;
    if (before & XC_LINK_DIRTY) return;
    l->dirty = NULL;
    if (r->dirty)
        r->dirty_last->dirty = l;
    else
        r->dirty = l;
    r->dirty_last = l;
}

/* The dirty list without the late ones, which stay in it. */
static xc_link *take_urgent(xc_router *r) {
    xc_link *first = NULL, **taken = &first, **left = &r->dirty, *next;
    r->dirty_last = NULL;
    for (xc_link *l = r->dirty; l; l = next) {
        next = l->dirty;
        if (l->flags & XC_LINK_LATE) {
            *left = r->dirty_last = l;
            left = &l->dirty;
        } else {
            l->flags &= (uint8_t)~XC_LINK_DIRTY;
            *taken = l;
            taken = &l->dirty;
        }
    }
    *left = *taken = NULL;
    return first;
}

xc_link *xc_router_take_dirty(xc_router *r, bool late) {
    if (!late) return take_urgent(r);
    xc_link *first = r->dirty;
    for (xc_link *l = first; l; l = l->dirty) l->flags &= (uint8_t)~(XC_LINK_DIRTY | XC_LINK_LATE);
    r->dirty = r->dirty_last = NULL;
    return first;
}

xc_link *xc_router_next_dirty(xc_router *r) {
    xc_link *first = r->dirty;
    if (!first) return NULL;
    first->flags &= (uint8_t)~(XC_LINK_DIRTY | XC_LINK_LATE);
    r->dirty = first->dirty;
    if (!r->dirty) r->dirty_last = NULL;
    return first;
}

bool xc_link_write(xc_router *r, xc_link *l, const uint8_t *p, size_t n) {
    if (!xc_out_put(&r->pool, &l->out, p, n)) return false;
    xc_link_mark(r, l);
    return true;
}

/* ---- stream management ---- */

static bool ask(xc_router *r, xc_link *l) {
    static const char text[] = "<r xmlns='urn:xmpp:sm:3'/>";
    l->sm->asked = l->sm->sent;
    l->sm->unasked_bytes = 0;
    return xc_link_write(r, l, (const uint8_t *)text, sizeof text - 1);
}

/* A stanza was queued, or only kept. False if memory is out. */
static bool count_sent(xc_router *r, xc_link *l) {
    xc_sm *sm = l->sm;
    if (sm->detached) return true;
    if (sm->sent - sm->asked >= XC_SM_EVERY || sm->unasked_bytes >= XC_SM_EVERY_BYTES) return ask(r, l);
    if (!sm->listed) {
        sm->next = r->unasked;
        r->unasked = l;
        sm->listed = true;
    }
    return true;
}

bool xc_router_ask(xc_router *r) {
    xc_link *l;
    while ((l = r->unasked)) {
        r->unasked = l->sm->next;
        l->sm->listed = false;
        if (l->sm->asked != l->sm->sent && xc_sm_count(l->sm) && !ask(r, l)) return false;
    }
    return true;
}

bool xc_link_send(xc_router *r, xc_link *l, const uint8_t *p, size_t n) {
    if (l->sm && !xc_sm_keep(&r->pool, l->sm, p, n)) return false;
    if (!(l->sm && l->sm->detached) && !xc_link_write(r, l, p, n)) return false;
    return !l->sm || count_sent(r, l);
}

bool xc_link_enable_sm(xc_link *l) { return l->sm || (l->sm = xc_sm_new()); }

void xc_link_detach(xc_router *r, xc_link *l) {
    unlist(r, l);
    l->sm->detached = true;
    l->flags &= (uint8_t)~(XC_LINK_STALLED | XC_LINK_AWAITED);
    l->coding = NULL;
    xc_out_drop(&r->pool, &l->out, l->out.bytes);
}

bool xc_link_resume(xc_router *r, xc_link *l, xc_link *from) {
    unlist(r, l);
    unlist(r, from);
    xc_sm_free(&r->pool, l->sm);
    xc_sm *sm = l->sm = from->sm;
    from->sm = NULL;
    sm->detached = false;
    for (xc_block *b = sm->kept.head; b; b = b->next)
        if (!xc_link_write(r, l, b->data + b->start, b->end - b->start)) return false;
    sm->asked = sm->sent;
    sm->unasked_bytes = 0;
    return !xc_sm_count(sm) || ask(r, l);
}

/* ---- routing ---- */

static inline bool is(const uint8_t *raw, xc_span s, const char *text, size_t n) { return s.len == n && memcmp(raw + s.off, text, n) == 0; }
#define IS(span, text) is(raw, span, text, sizeof text - 1)

/* RFC 6120 section 8.2.3: id, a known type, one child for get and set, none or one for result. */
static bool good_iq(const xc_head *h, const uint8_t *raw) {
    if (!h->id.off || !h->type.off) return false;
    if (IS(h->type, "get") || IS(h->type, "set")) return h->children == 1;
    if (IS(h->type, "result")) return h->children <= 1;
    return IS(h->type, "error") && h->children >= 1;
}

static bool same_lang(const xc_context *a, const xc_context *b) {
    return a == b || (a->lang.len == b->lang.len && memcmp(a->bytes + a->lang.off, b->bytes + b->lang.off, a->lang.len) == 0);
}

/* Can these bytes of xml:lang stand in single quotes as they are? None that are no language tag: each stanza would grow by them. */
static bool plain(const uint8_t *p, size_t n) {
    if (n > LONGEST_LANG) return false;
    for (size_t i = 0; i < n; i++)
        if (p[i] == '\'' || p[i] == '&' || p[i] == '<' || p[i] < ' ') return false;
    return true;
}

/* Where this stanza goes without the caller's help; NULL if it needs it. *lang: the sender's language has to be written in. */
static xc_link *destination(xc_router *r, xc_link *l, const xc_head *h, const uint8_t *raw, bool *lang) {
    if ((l->flags & (XC_LINK_BOUND | XC_LINK_CLIENT | XC_LINK_PENDING)) != (XC_LINK_BOUND | XC_LINK_CLIENT) || l->hooks) return NULL;
    if (!h->to.off || (h->decode & (XC_TO | XC_FROM | XC_ID | XC_TYPE)) || h->outer_prefix || h->prefixed || h->ns_in != XC_IN_CONTEXT)
        return NULL;
    if (!IS(h->name, "message") && !(IS(h->name, "iq") && good_iq(h, raw))) return NULL;
    if (h->stanza_id) return NULL; /* XEP-0359 section 3: one in the name of the recipient is forged, and has to go */
    const xc_stamp *s = l->stamp;
    if (h->from.off) { /* RFC 6120 section 8.1.2.1: nobody else's address */
        if (!(h->from.len == s->jid_len || h->from.len == s->bare_len)) return NULL;
        if (memcmp(raw + h->from.off, s->bytes, h->from.len) != 0) return NULL;
    }
    xc_link *to = xc_router_find(r, raw + h->to.off, h->to.len); /* most write an address as it is when prepared */
    if (!to) {
        if (h->to.len > LONGEST_JID) return NULL;
        uint8_t jid[LONGEST_JID];
        xc_jid_parts parts;
        if (xc_jid_prepare(raw + h->to.off, h->to.len, jid, &parts) != XC_JID_OK || !parts.resource_len) return NULL;
        to = xc_router_find(r, jid, xc_jid_len(&parts));
    }
    if (!to || !(to->flags & XC_LINK_CLIENT) || to->hooks || xc_link_full(r, to)) return NULL;
    /* RFC 6120 section 8.1.5: a stanza without xml:lang is in its stream's language, also at the other end. */
    const xc_context *mine = l->xml.context;
    *lang = !h->lang.off && mine->lang.len && !same_lang(mine, to->xml.context);
    if (*lang && !plain(mine->bytes + mine->lang.off, mine->lang.len)) return NULL;
    return to;
}

/* Queue octets that stand for a stanza which is kept, if it has to be. False if memory is out. */
static bool queue_moved(xc_router *r, xc_link *to, xc_piece octets) {
    uint8_t head[XC_MOVED] = {0};
    for (unsigned i = 0; i < 4; i++) head[1 + i] = (uint8_t)(octets.n >> 8 * i);
    if (!xc_out_put(&r->pool, &to->out, head, sizeof head) || !xc_out_put(&r->pool, &to->out, octets.p, octets.n)) return false;
    xc_link_mark(r, to);
    return !to->sm || count_sent(r, to);
}

/* Queue a stanza in pieces for a link; `moved`, if it has bytes, is what goes onto the wire. False if memory is out. */
static bool queue(xc_router *r, xc_link *to, const xc_piece *pieces, int count, xc_piece moved) {
    size_t total = 0;
    if (moved.n && !to->sm) return queue_moved(r, to, moved);
    for (int i = 0; i < count; i++) total += pieces[i].n;
    bool kept_only = to->sm && to->sm->detached;
    uint8_t *all = kept_only ? NULL : xc_out_room(&r->pool, &to->out, total), *o = all, *own = NULL;
    if (!all && !(all = o = own = malloc(total))) return false; /* for the link's queue it is longer than a block: one copy more */
    for (int i = 0; i < count; i++) {
        memcpy(o, pieces[i].p, pieces[i].n);
        o += pieces[i].n;
    }
    bool done = !to->sm || xc_sm_keep(&r->pool, to->sm, all, total);
    if (done && moved.n) {
        free(own);
        return queue_moved(r, to, moved);
    }
    if (done && !own)
        xc_out_claim(&to->out, total);
    else if (done && !kept_only)
        done = xc_out_put(&r->pool, &to->out, all, total);
    free(own);
    if (!done) return false;
    if (!kept_only) xc_link_mark(r, to);
    return !to->sm || count_sent(r, to);
}

static bool deliver(xc_router *r, xc_link *l, xc_link *to, const xc_head *h, const uint8_t *raw, bool lang) {
    static const char lang_start[] = " xml:lang='";
    const xc_context *c = l->xml.context;
    xc_piece pieces[7] = {{raw, h->name_end}, {l->stamp->bytes + l->stamp->jid_len, l->stamp->len}};
    int count = 2;
    if (lang) {
        pieces[count++] = (xc_piece){(const uint8_t *)lang_start, sizeof lang_start - 1};
        pieces[count++] = (xc_piece){c->bytes + c->lang.off, c->lang.len};
        pieces[count++] = (xc_piece){(const uint8_t *)"'", 1};
    }
    size_t rest = h->name_end;
    if (h->from.off) { /* ours stands in its place */
        pieces[count++] = (xc_piece){raw + rest, h->from_start - rest};
        rest = h->from.off + h->from.len + 1;
    }
    xc_coding *coding = l->coding;
    xc_piece moved = {NULL, 0};
    if (coding && coding == to->coding && coding->raw == raw && coding->size == h->size && !lang) {
        pieces[count] = (xc_piece){raw + rest, coding->tag - rest};
        if (!coding->move(coding, pieces, count + 1, &moved.p, &moved.n)) moved.n = 0;
    }
    pieces[count++] = (xc_piece){raw + rest, h->size - rest};
    if (!queue(r, to, pieces, count, moved)) return false;
    if (l->sm) l->sm->handled++;
    l->stanzas++;
    r->routed++;
    return true;
}

bool xc_router_fan_out(xc_router *r, const xc_reader *readers, size_t n, const uint8_t *words, const uint8_t *p, size_t size,
                       uint32_t *left, size_t *nleft) {
    size_t name = 1;
    while (name < size && p[name] != ' ' && p[name] != '/' && p[name] != '>') name++;
    *nleft = 0;
    for (size_t i = 0; i < n; i++) {
        xc_link *to = readers[i].link;
        if (!(to->flags & XC_LINK_BOUND) || to->hooks || xc_link_full(r, to)) {
            left[(*nleft)++] = (uint32_t)i;
            continue;
        }
        const xc_piece pieces[] = {{p, name}, {words + readers[i].start, readers[i].len}, {p + name, size - name}};
        if (!queue(r, to, pieces, sizeof pieces / sizeof *pieces, (xc_piece){NULL, 0})) return false;
    }
    return true;
}

/* The number in the attribute `h` of <a/>. */
static bool read_h(const uint8_t *raw, const xc_head *h, uint32_t *value) {
    enum { LONGEST = 128 }; /* bytes of <a/>: so it has fewer than 32 attributes */
    xc_attr attrs[LONGEST / 4];
    xc_walk walk = {.p = raw, .end = raw + h->size, .attrs = attrs};
    if (h->size > LONGEST || xc_walk_next(&walk) != XC_T_EMPTY) return false;
    for (uint32_t i = 0; i < walk.nattrs; i++) {
        const xc_attr *a = &attrs[i];
        if (a->name_len != 1 || a->name[0] != 'h' || a->decode || !a->value_len || a->value_len > 10) continue;
        uint64_t n = 0;
        for (uint32_t k = 0; k < a->value_len; k++) {
            if (a->value[k] < '0' || a->value[k] > '9') return false;
            n = n * 10 + (a->value[k] - '0');
        }
        *value = (uint32_t)n;
        return n <= UINT32_MAX;
    }
    return false;
}

static bool answer(xc_router *r, xc_link *l) {
    enum { DIGITS = 10 };
    char text[] = "<a xmlns='urn:xmpp:sm:3' h='0123456789'/>", *first = text + sizeof text - 1 - 3 - DIGITS, *p = first + DIGITS;
    uint32_t h = l->sm->handled;
    do *--p = (char)('0' + h % 10);
    while (h /= 10);
    size_t n = (size_t)(first + DIGITS + 3 - p);
    memmove(first, p, n);
    const bool late = !(l->flags & XC_LINK_DIRTY) || l->flags & XC_LINK_LATE;
    if (!xc_link_write(r, l, (const uint8_t *)text, (size_t)(first - text) + n)) return false;
    if (late) l->flags |= XC_LINK_LATE;
    return true;
}

/* <r/> and <a/> of XEP-0198, section 4. Returns 1 if that was one, and it is done; 0 if it is for the caller; -1 if memory is out. */
static int manage(xc_router *r, xc_link *l, const xc_head *h, const uint8_t *raw) {
    uint32_t acked;
    if (h->name.len != 1 || h->ns_in != XC_IN_RAW || (h->decode & XC_NS) || !IS(h->ns, "urn:xmpp:sm:3")) return 0;
    if (IS(h->name, "r")) {
        if (l->flags & XC_LINK_PENDING) return 0; /* what is not dealt with yet would be missing in the answer */
        return answer(r, l) ? 1 : -1;
    }
    return IS(h->name, "a") && read_h(raw, h, &acked) && xc_sm_ack(&r->pool, l->sm, acked);
}

/* ---- feeding ---- */

/* Put the link's tail in front of `received` new bytes. False if memory is out. */
static bool open_window(xc_router *r, xc_link *l, size_t received) {
    uint8_t *fresh = r->buffer + XC_HEADROOM;
    r->current = l;
    if (!l->tail || l->tail_len <= XC_HEADROOM) {
        r->window = fresh - l->tail_len;
        r->window_len = l->tail_len + received;
        if (l->tail_len) memcpy(r->window, l->tail, l->tail_len);
    } else {
        size_t need = (size_t)l->tail_len + received + XC_PAD;
        if (need > l->tail_cap) {
            size_t cap = need * 2;
            uint8_t *grown = realloc(l->tail, cap);
            if (!grown) return false;
            l->tail = grown;
            l->tail_cap = (uint32_t)cap;
        }
        memcpy(l->tail + l->tail_len, fresh, received);
        r->window = l->tail;
        r->window_len = l->tail_len + received;
    }
    memset(r->window + r->window_len, 0, XC_PAD);
    return true;
}

bool xc_link_park(xc_router *r, xc_link *l) {
    if (r->current != l) return true;
    r->current = NULL;
    size_t keep = xc_xml_keep(&l->xml), n = r->window_len - keep;
    const uint8_t *from = r->window + keep;
    xc_xml_shift(&l->xml, keep);
    if (n == 0 || (l->tail && l->tail_cap > 2 * XC_HEADROOM && n <= XC_HEADROOM)) { /* the large stanza is over */
        uint8_t *small = n ? malloc(XC_HEADROOM + XC_PAD) : NULL;
        if (small) memcpy(small, from, n);
        free(l->tail);
        l->tail = small;
        l->tail_len = small ? (uint32_t)n : 0;
        l->tail_cap = small ? XC_HEADROOM + XC_PAD : 0;
        return n == 0 || small;
    }
    if (from >= l->tail && l->tail && from < l->tail + l->tail_cap) {
        if (from != l->tail) memmove(l->tail, from, n);
    } else {
        if (n + XC_PAD > l->tail_cap) {
            size_t cap = n + XC_PAD < XC_HEADROOM ? 256 : 2 * n + XC_PAD;
            while (cap < n + XC_PAD) cap *= 2;
            uint8_t *grown = realloc(l->tail, cap);
            if (!grown) return false;
            l->tail = grown;
            l->tail_cap = (uint32_t)cap;
        }
        memcpy(l->tail, from, n);
    }
    l->tail_len = (uint32_t)n;
    return true;
}

static size_t skip_white(const uint8_t *p, size_t from, size_t n) {
    while (from < n && (p[from] == ' ' || p[from] == '\n' || p[from] == '\r' || p[from] == '\t')) from++;
    return from;
}

size_t xc_link_unread(const xc_router *r, const xc_link *l) {
    if (XC_DEFENCE_OFF(r->shared, XC_OFF_CLEAR_TEXT)) return 0;
    if (r->current == l) return r->window_len - skip_white(r->window, xc_xml_keep(&l->xml), r->window_len);
    return l->tail_len - skip_white(l->tail, 0, l->tail_len);
}

bool xc_link_restart(xc_router *r, xc_link *l, bool logged_in) {
    if (!xc_link_park(r, l)) return false;
    xc_xml_free(&l->xml, l->shared);
    xc_xml_init(&l->xml);
    l->shared = logged_in ? r->shared : r->early;
    l->flags = (uint8_t)((l->flags & ~XC_LINK_CLIENT) | XC_LINK_RESTARTED);
    return true;
}

bool xc_link_log_in(xc_router *r, xc_link *l) {
    if (l->xml.stack) return false; /* it is of the pool of the other limits */
    l->shared = r->shared;
    return true;
}

xc_link_event xc_link_feed(xc_router *r, xc_link *l, size_t received, xc_head *head, const uint8_t **raw, xc_link **slow) {
    if (r->current != l || received) {
        if (r->current && !xc_link_park(r, r->current)) return XC_LINK_NO_MEMORY;
        if (!open_window(r, l, received)) return XC_LINK_NO_MEMORY;
        if (l->flags & XC_LINK_RESTARTED) {
            size_t white = skip_white(r->window, 0, r->window_len);
            r->window += white;
            r->window_len -= white;
            if (r->window_len) l->flags &= (uint8_t)~XC_LINK_RESTARTED;
        }
    }
    for (;;) {
        size_t at;
        switch (xc_xml_next(&l->xml, l->shared, r->window, r->window_len, head, &at)) {
        case XC_STANZA: {
            bool lang;
            *raw = r->window + at;
            int managed = l->sm ? manage(r, l, head, *raw) : 0;
            if (managed < 0) return XC_LINK_NO_MEMORY;
            if (managed && (l->flags & XC_LINK_AWAITED) && xc_link_load(l) <= r->high / 4) {
                l->flags &= (uint8_t)~XC_LINK_AWAITED;
                return *slow = l, XC_LINK_SLOW;
            }
            if (managed) { /* whoever asks without end and does not read the answers is not read either */
                if (l->out.bytes > r->high) return *slow = l, XC_LINK_SLOW;
                break;
            }
            xc_link *to = destination(r, l, head, *raw, &lang);
            if (!to) return XC_LINK_STANZA;
            if (!deliver(r, l, to, head, *raw, lang)) return XC_LINK_NO_MEMORY;
            if (xc_link_load(to) > r->high && !(to->sm && to->sm->detached)) return *slow = to, XC_LINK_SLOW;
            break;
        }
        case XC_OPEN: {
            const xc_context *c = l->xml.context;
            for (uint32_t i = 0; i < c->nbinds; i++)
                if (c->binds[i].prefix.len == 0 && c->binds[i].uri.len == 13 &&
                    memcmp(c->bytes + c->binds[i].uri.off, "jabber:client", 13) == 0)
                    l->flags |= XC_LINK_CLIENT;
            *raw = r->window + at;
            return XC_LINK_OPEN;
        }
        case XC_CLOSE: return XC_LINK_CLOSE;
        case XC_ERROR: /* nothing is parsed any more: the rest is dropped, and so is all that comes */
            l->xml.pos = (uint32_t)r->window_len;
            xc_link_park(r, l);
            return XC_LINK_ERROR;
        case XC_NEED_DATA: return xc_link_park(r, l) ? XC_LINK_IDLE : XC_LINK_NO_MEMORY;
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links and the router between them: the hot path of a server. No sockets, no clock, no Python.
 *
 * Theory of operation
 *
 * A link is one peer's stream: parser, output queue, and once bound the full JID it is known by. All links receive into one shared
 * buffer: headroom, then the bytes just received, then XC_PAD zero bytes. What a link could not use yet (its tail) is kept apart and put
 * in front of the next bytes, inside the headroom, so that parsing happens in place; a tail that outgrows the headroom lives in a
 * buffer of the link's own until its stanza is over.
 *
 * xc_link_feed() parses until something needs the caller: a stream header, a stanza that cannot be routed here, the stream's end, an
 * error, or a destination that does not keep up. It is called again, with no new bytes, until XC_LINK_IDLE. So nothing overtakes: the
 * next stanza of a link is not looked at before the caller is done with this one (RFC 6120 section 10.1).
 *
 * Routed here: message and iq stanzas of a bound link to a full JID that is online, with no hook set on either side, whose bytes mean
 * the same at the other end. Their header is stamped with the sender's full JID (section 8.1.2.1), the rest is copied as it is.
 *
 * Answered here: <r/> (but of a pending link) and <a/> of a link with stream management (sm.h). A link that is detached has lost its connection and waits for its
 * peer to resume: it is bound, and what is routed to it is kept.
 */
#ifndef XC_ROUTER_H
#define XC_ROUTER_H

#include "outbuf.h"
#include "sm.h"
#include "xml.h"

enum {
    XC_HEADROOM = 4096,
    XC_RECEIVE = 65536, /* bytes of one receive: a turn's share of a link */
};

/* xc_link.flags */
enum {
    XC_LINK_BOUND = 1,    /* registered under its full JID */
    XC_LINK_DIRTY = 2,    /* has output since xc_router_take_dirty() */
    XC_LINK_STALLED = 4,  /* does not drain: nothing is routed to it here */
    XC_LINK_PENDING = 8,  /* the caller is busy with a stanza of it: all later ones go to the caller */
    XC_LINK_CLIENT = 16,  /* its stream's default namespace is jabber:client */
    XC_LINK_AWAITED = 64, /* somebody waits until its load is low: XC_LINK_SLOW names the link itself when it is */
    XC_LINK_LATE = 128,   /* dirty with nothing but answers to <r/>, which may wait for what else comes (XEP-0198 section 4: a time-out) */
    XC_LINK_RESTARTED = 32, /* white space that comes next belongs to the stream before: none may stand before an XML declaration */
};

typedef struct xc_stamp {       /* the key of the table is at its front: a lookup reads one slot and this, and nothing else */
    struct xc_link *link;       /* borrowed: whose it is while it is bound */
    uint32_t jid_len, bare_len; /* of the full JID, at bytes; its bare part */
    uint32_t len;               /* of " from='full@jid/resource'", behind it */
    uint8_t bytes[];
} xc_stamp;

typedef struct xc_piece {
    const uint8_t *p;
    size_t n;
} xc_piece;

/* How octets on the wire are coded, where that is not the stream's XML, by what stands between the links and the wire. What comes from a link
 * of a coding and goes to another of the same need not be coded again. */
typedef struct xc_coding {
    const uint8_t *raw; /* borrowed: the stanza that a link is being fed with, where it lies in the buffer; NULL: it did not come in one */
    uint32_t size, tag; /* its bytes; those of its start tag, but for the end of that */
    /* The octets of that stanza with another start tag, which is given but for its end; false if it has to be coded again. They are to be copied
     * at once. */
    bool (*move)(struct xc_coding *c, const xc_piece *tag, int count, const uint8_t **octets, size_t *n);
    void *owner;
} xc_coding;

enum {
    XC_MOVED = 5
}; /* bytes in front of octets that stand in a link's queue as they are: zero, which XML has not, and how many, little end first */

typedef struct xc_link { /* what a stanza to it needs is together, down to xml.context */
    xc_out out;
    xc_sm *sm;             /* owned; NULL without stream management */
    struct xc_link *dirty; /* next in the dirty list */
    uint32_t hooks;        /* any bit: all its stanzas, and all to it, go to the caller */
    uint8_t flags;
    xc_coding *coding; /* borrowed; NULL: what is queued is XML */
    xc_xml xml;
    xc_shared *shared; /* borrowed: limits before or after login */
    xc_stamp *stamp;   /* owned; NULL unless bound */
    uint8_t *tail;     /* owned: bytes of an unfinished stanza; NULL if none */
    uint32_t tail_len, tail_cap;
    uint64_t stanzas; /* received and routed here */
} xc_link;

typedef struct xc_router {
    xc_pool pool;
    xc_shared *shared; /* limits of a stream that has logged in */
    xc_shared *early;  /* and before */
    uint8_t *buffer;   /* borrowed: XC_HEADROOM + XC_RECEIVE + XC_PAD bytes */
    struct xc_slot {
        uint64_t hash;   /* of the full JID */
        xc_stamp *stamp; /* borrowed from its link; NULL: free */
    } *table;
    size_t mask, used; /* slots - 1; slots in use */
    uint64_t seed[2];
    xc_link *dirty, *dirty_last;
    xc_link *unasked;  /* links that have sent stanzas since they last sent <r/>, by sm->next */
    size_t high, full; /* bytes queued for a link: above the first it is reported as slow, above the second nothing is added here */
    xc_link *current;  /* being fed: its window is */
    uint8_t *window;
    size_t window_len;
    uint64_t routed; /* stanzas */
} xc_router;

typedef enum xc_link_event {
    XC_LINK_IDLE, /* all bytes used */
    XC_LINK_OPEN,
    XC_LINK_STANZA, /* *head and *raw are the stanza, for the caller */
    XC_LINK_CLOSE,
    XC_LINK_ERROR, /* link->xml.error; all bytes are dropped, and feeding more says the same */
    XC_LINK_SLOW,  /* *slow, which may be this link, has a load of more than `high` bytes: read on when it is low; or see XC_LINK_AWAITED */
    XC_LINK_NO_MEMORY,
} xc_link_event;

bool xc_router_init(xc_router *r, const xc_kernels *k, const xc_limits *limits, const xc_limits *early, size_t high, const uint64_t seed[2],
                    uint8_t *buffer);
void xc_router_free(xc_router *r);
void xc_link_init(xc_router *r, xc_link *l);
void xc_link_free(xc_router *r, xc_link *l);

/* `received` new bytes are at r->buffer + XC_HEADROOM; before they were put there, the link fed last has come to XC_LINK_IDLE,
 * XC_LINK_ERROR, or been parked. */
xc_link_event xc_link_feed(xc_router *r, xc_link *l, size_t received, xc_head *head, const uint8_t **raw, xc_link **slow);
/* Keep the rest of the current window for later. */
bool xc_link_park(xc_router *r, xc_link *l);
/* Bytes received and not yet used, leading white space not counted. */
size_t xc_link_unread(const xc_router *r, const xc_link *l);
/* Expect a new stream header; unused bytes are in front of it. White space before it is dropped, also what is yet to come. */
/* The limits of after login hold from now on; false within a stanza. */
bool xc_link_log_in(xc_router *r, xc_link *l);
bool xc_link_restart(xc_router *r, xc_link *l, bool logged_in);

/* Queue bytes that are no stanza. */
bool xc_link_write(xc_router *r, xc_link *l, const uint8_t *p, size_t n);
/* Queue one stanza; with stream management it is counted and kept. */
bool xc_link_send(xc_router *r, xc_link *l, const uint8_t *p, size_t n);
/* Bytes that the peer has not taken or, with stream management, not acknowledged. */
static inline size_t xc_link_load(const xc_link *l) { return l->sm && l->sm->kept.bytes > l->out.bytes ? l->sm->kept.bytes : l->out.bytes; }
/* True if nothing more should be queued. */
static inline bool xc_link_full(const xc_router *r, const xc_link *l) {
    return (l->flags & XC_LINK_STALLED) || xc_link_load(l) > (l->sm && l->sm->detached ? r->high : r->full);
}
/* One of those that get the same stanzas: where in a text its own words for the start tag are, such as " to='...'". */
typedef struct xc_reader {
    xc_link *link; /* borrowed */
    uint32_t start, len;
} xc_reader;
/* Queue the stanza p for each reader, with its words behind the element's name. The positions of those who are left to the caller (hooked,
 * unbound, or full) go to left, which has room for n. False if memory is out. */
bool xc_router_fan_out(xc_router *r, const xc_reader *readers, size_t n, const uint8_t *words, const uint8_t *p, size_t size,
                       uint32_t *left, size_t *nleft);
/* Begin stream management. */
bool xc_link_enable_sm(xc_link *l);
/* The connection is gone: from now on keep what is sent. */
void xc_link_detach(xc_router *r, xc_link *l);
/* Take over the stream management of `from`, and queue what it kept: for the new connection of a resumed stream. */
bool xc_link_resume(xc_router *r, xc_link *l, xc_link *from);
/* Ask for acknowledgements of all that was sent without asking. */
bool xc_router_ask(xc_router *r);
void xc_link_mark(xc_router *r, xc_link *l);
/* The dirty list, first marked first; the router forgets it. Unless `late`, links with XC_LINK_LATE stay in it. */
xc_link *xc_router_take_dirty(xc_router *r, bool late);
/* The first of the dirty list, and no longer in it; NULL if there is none. */
xc_link *xc_router_next_dirty(xc_router *r);

/* Register l under its stamp's full JID. Returns false if memory is out. The caller has removed any former holder. */
bool xc_router_bind(xc_router *r, xc_link *l, xc_stamp *stamp);
void xc_router_unbind(xc_router *r, xc_link *l);
xc_link *xc_router_find(const xc_router *r, const uint8_t *jid, size_t n);

#endif

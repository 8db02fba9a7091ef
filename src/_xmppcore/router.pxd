# SPDX-License-Identifier: Apache-2.0
# Links and the router between them; c/router.h is the machine.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cimport cython

from _xmppcore.coding cimport xc_coding
from _xmppcore.cxml cimport xc_head, xc_kernels, xc_limits, xc_shared, xc_xml


cdef extern from "outbuf.h" nogil:
    ctypedef struct xc_block:
        xc_block *next
        uint32_t start
        uint32_t end
        uint8_t *data
    ctypedef struct xc_pool:
        pass
    ctypedef struct xc_out:
        xc_block *head
        xc_block *tail
        size_t bytes
    void xc_pool_free(xc_pool *pool)
    bint xc_out_put(xc_pool *pool, xc_out *out, const uint8_t *p, size_t n)
    void xc_out_drop(xc_pool *pool, xc_out *out, size_t n)


cdef extern from "sm.h" nogil:
    ctypedef struct xc_sm:
        xc_out kept
        uint32_t handled
        uint32_t sent
        uint32_t acked
        uint32_t asked
        bint detached
    uint32_t xc_sm_count(const xc_sm *sm)
    uint32_t xc_sm_length(const xc_sm *sm, uint32_t k)
    bint xc_sm_ack(xc_pool *pool, xc_sm *sm, uint32_t h)


cdef extern from "router.h" nogil:
    enum: XC_HEADROOM, XC_RECEIVE, XC_PAD
    enum: XC_LINK_BOUND, XC_LINK_DIRTY, XC_LINK_STALLED, XC_LINK_PENDING, XC_LINK_CLIENT, XC_LINK_AWAITED
    ctypedef struct xc_stamp:
        uint32_t len
        uint32_t jid_len
        uint32_t bare_len
        uint8_t *bytes
    ctypedef struct xc_link:
        xc_xml xml
        xc_out out
        xc_sm *sm
        xc_link *dirty
        uint64_t stanzas
        uint32_t hooks
        uint8_t flags
        xc_coding *coding
    ctypedef struct xc_router:
        xc_pool pool
        uint8_t *buffer
        xc_link *current
        size_t used
        xc_link *dirty
        uint64_t routed
        size_t high
    ctypedef struct xc_reader:
        xc_link *link
        uint32_t start
        uint32_t len
    ctypedef enum xc_link_event:
        XC_LINK_IDLE
        XC_LINK_OPEN
        XC_LINK_STANZA
        XC_LINK_CLOSE
        XC_LINK_ERROR
        XC_LINK_SLOW
        XC_LINK_NO_MEMORY
    bint xc_router_init(xc_router *r, const xc_kernels *k, const xc_limits *limits, const xc_limits *early, size_t high,
                        const uint64_t *seed, uint8_t *buffer)
    void xc_router_free(xc_router *r)
    void xc_link_init(xc_router *r, xc_link *l)
    void xc_link_free(xc_router *r, xc_link *l)
    xc_link_event xc_link_feed(xc_router *r, xc_link *l, size_t received, xc_head *head, const uint8_t **raw, xc_link **slow)
    bint xc_link_park(xc_router *r, xc_link *l)
    size_t xc_link_unread(const xc_router *r, const xc_link *l)
    bint xc_link_log_in(xc_router *r, xc_link *l)
    bint xc_link_restart(xc_router *r, xc_link *l, bint logged_in)
    bint xc_link_write(xc_router *r, xc_link *l, const uint8_t *p, size_t n)
    bint xc_link_send(xc_router *r, xc_link *l, const uint8_t *p, size_t n)
    size_t xc_link_load(const xc_link *l)
    bint xc_link_full(const xc_router *r, const xc_link *l)
    bint xc_router_fan_out(xc_router *r, const xc_reader *readers, size_t n, const uint8_t *words, const uint8_t *p, size_t size,
                           uint32_t *left, size_t *nleft)
    bint xc_link_enable_sm(xc_link *l)
    void xc_link_detach(xc_router *r, xc_link *l)
    bint xc_link_resume(xc_router *r, xc_link *l, xc_link *from_)
    bint xc_router_ask(xc_router *r)
    void xc_link_mark(xc_router *r, xc_link *l)
    xc_link *xc_router_take_dirty(xc_router *r, bint late)
    xc_link *xc_router_next_dirty(xc_router *r)
    bint xc_router_bind(xc_router *r, xc_link *l, xc_stamp *stamp)
    void xc_router_unbind(xc_router *r, xc_link *l)
    xc_link *xc_router_find(const xc_router *r, const uint8_t *jid, size_t n)


@cython.final
cdef class OutBuf:
    cdef xc_pool *pool      # the router's, while the link lives; else own_pool
    cdef xc_out *out        # the link's, while it lives; else own_out
    cdef xc_pool own_pool
    cdef xc_out own_out
    cdef list views         # handed out by buffers() and valid until the queue changes; None if none were
    cpdef sent(self, size_t n)
    cdef int _release(self) except -1


@cython.final
cdef class Link:
    cdef xc_link link
    cdef readonly Router router
    cdef public object owner     # whatever the caller ties to the link; borrowed by nobody else
    cdef readonly object jid     # JID it is bound to, None before
    cdef OutBuf face             # of link.out, made when first asked for: what a Drain serves needs none
    cdef int fd                  # of the socket that a Drain serves it on; -1: none does
    cdef readonly uint64_t received_bytes
    cdef readonly uint64_t sent_bytes
    cpdef feed(self, size_t received=*)
    cdef int drop(self, size_t n) except -1
    cdef void mark(self) noexcept
    cdef int put_face_away(self) except -1
    cdef xc_sm *_sm(self) except NULL


@cython.final
cdef class Router:
    cdef xc_router router
    cdef readonly object buffer  # memoryview to receive into
    cpdef list take_dirty(self, bint late=*)


@cython.final
cdef class Audience:
    cdef Router router
    cdef list links         # keeps those of the readers alive
    cdef bytes words        # one behind the other
    cdef xc_reader *readers
    cdef uint32_t *left     # room for as many

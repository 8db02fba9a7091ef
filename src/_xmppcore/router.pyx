# SPDX-License-Identifier: Apache-2.0
"""Router, Link, OutBuf: the hot path of a server, sans-IO. c/router.h opens with the theory of operation."""

import os

cimport cython
from cpython.buffer cimport PyBUF_READ, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from _xmppcore.cxml cimport xc_head, xc_kernels_default, xc_limits
from _xmppcore.stanza cimport stanza_new
from _xmppcore.xml cimport StreamClose, check_limits, stream_open_new, xml_error


cdef inline Link link_of(xc_link *l):
    # The struct is a member of its Python object: the object's address is a fixed distance in front.
    cdef Link probe = None
    return <Link><void *>(<char *>l - (<char *>&probe.link - <char *><void *>probe))


cdef const uint8_t *data_of(object data, Py_buffer *view) except NULL:
    PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    return <const uint8_t *>view.buf if view.len else <const uint8_t *>b""


cdef bytes joined(const xc_out *out):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>out.bytes)
    cdef char *at = PyBytes_AS_STRING(data)
    cdef const xc_block *b = out.head
    while b is not NULL:
        memcpy(at, b.data + b.start, b.end - b.start)
        at += b.end - b.start
        b = b.next
    return data


cdef bytes escaped(bytes text):
    # As it may stand in single quotes.
    return text.replace(b"&", b"&amp;").replace(b"'", b"&apos;").replace(b"<", b"&lt;")


@cython.final
@cython.no_gc_clear  # the views are needed to the end: they must not outlive the bytes
cdef class OutBuf:
    """A queue of bytes to send, in pooled blocks: alone, or as `Link.out`."""

    def __cinit__(self):
        self.pool = &self.own_pool
        self.out = &self.own_out

    def __dealloc__(self):
        self._release()
        xc_out_drop(&self.own_pool, &self.own_out, self.own_out.bytes)
        xc_pool_free(&self.own_pool)

    def __len__(self):
        """Bytes queued."""
        return self.out.bytes

    def write(self, data):
        """Append `data` (bytes-like). Of a link's queue use `Link.write`, which also marks the link dirty."""
        cdef Py_buffer view
        cdef const uint8_t *p = data_of(data, &view)
        try:
            if not xc_out_put(self.pool, self.out, p, view.len):
                raise MemoryError
        finally:
            PyBuffer_Release(&view)

    def buffers(self, Py_ssize_t limit=64):
        """Up to `limit` memoryviews of the queued bytes in order, for send or sendmsg; valid until the next call of a method."""
        cdef xc_block *b = self.out.head
        cdef list views = []
        self._release()
        while b is not NULL and len(views) < limit:
            if b.end > b.start:
                views.append(PyMemoryView_FromMemory(<char *>b.data + b.start, b.end - b.start, PyBUF_READ))
            b = b.next
        if views:
            self.views = views
        return views

    cpdef sent(self, size_t n):
        """Drop the first `n` bytes. ValueError if there are fewer."""
        if n > self.out.bytes:
            raise ValueError(f"{n} bytes sent of {self.out.bytes} queued")
        self._release()
        xc_out_drop(self.pool, self.out, n)

    cdef int _release(self) except -1:
        if self.views is not None:
            for view in self.views:
                view.release()
            self.views = None
        return 0


@cython.final
@cython.no_gc_clear  # the router is needed to the end: it must forget the link
cdef class Link:
    """One peer's stream, with the limits of before login, expecting a stream header. `owner` is the caller's."""

    def __cinit__(self, Router router not None, owner=None):
        self.fd = -1
        xc_link_init(&router.router, &self.link)
        self.router = router
        self.owner = owner

    def __dealloc__(self):
        if self.router is not None:
            if self.face is not None:
                self.face._release()
            xc_link_free(&self.router.router, &self.link)
            if self.face is not None:
                self.face.pool = &self.face.own_pool  # whoever still holds it has an empty queue of his own
                self.face.out = &self.face.own_out

    @property
    def out(self):
        """What is queued to be sent."""
        if self.face is None:
            self.face = OutBuf.__new__(OutBuf)
            self.face.pool = &self.router.router.pool
            self.face.out = &self.link.out
        return self.face

    cdef int put_face_away(self) except -1:
        """Somebody sends what is queued without `out`: it is made again when asked for, unless somebody holds it."""
        if self.face is not None and (<PyObject *><void *>self.face).ob_refcnt == 1:
            self.face = None
        return 0

    cdef int drop(self, size_t n) except -1:
        """The first `n` bytes that were queued have been sent."""
        if self.face is not None:
            self.face._release()
        xc_out_drop(&self.router.router.pool, &self.link.out, n)
        return 0

    cdef void mark(self) noexcept:
        """There is something to send that is not in the queue."""
        xc_link_mark(&self.router.router, &self.link)

    cpdef feed(self, size_t received=0):
        """Parse `received` bytes of `Router.buffer` behind what is left of earlier ones, and route what needs nobody.

        Returns the next thing that needs the caller: a `StreamOpen`, a `Stanza`, a `StreamClose`, an `XmlError`, or a `Link`, whose `load`
        is more than `high_bytes` after a stanza of ours: do not read from us until it is low. If it is this link itself, its own
        load has become low, and `awaited` is over, or it does not take what is queued for it. None
        when all bytes are used. Call it again, without bytes, until None (or `park`): the next stanza is not looked at before.
        RuntimeError if bytes are given while a link has not come to None (or an `XmlError`, or `park`).
        """
        cdef xc_head head
        cdef const uint8_t *raw
        cdef xc_link *slow
        cdef xc_router *r = &self.router.router
        if received and r.current is not NULL:
            raise RuntimeError("a link has not been fed until None")
        if received > XC_RECEIVE:
            raise ValueError("more bytes than the buffer holds")
        cdef xc_link_event event = xc_link_feed(r, &self.link, received, &head, &raw, &slow)
        if event == XC_LINK_IDLE:
            return None
        if event == XC_LINK_STANZA:
            return stanza_new(raw, &head, self.link.xml.context)
        if event == XC_LINK_SLOW:
            return link_of(slow)
        if event == XC_LINK_OPEN:
            return stream_open_new(raw, &head, &self.link.xml)
        if event == XC_LINK_CLOSE:
            return StreamClose.__new__(StreamClose)
        if event == XC_LINK_ERROR:
            return xml_error(&self.link.xml)
        raise MemoryError

    def park(self):
        """Keep what is left of the bytes received for the next `feed`: for a caller that stops before None."""
        if not xc_link_park(&self.router.router, &self.link):
            raise MemoryError

    @property
    def unread_bytes(self):
        """Bytes received and not used yet, but for white space in front.

        Behind `<starttls/>` it must be 0 (RFC 6120 section 5.4.3.3).
        """
        return xc_link_unread(&self.router.router, &self.link)

    def log_in(self):
        """From now on the limits of after login hold, and the stream goes on (XEP-0388). RuntimeError within a stanza."""
        if not xc_link_log_in(&self.router.router, &self.link):
            raise RuntimeError("a stanza is being read")

    def restart(self, *, bint logged_in):
        """Expect a new stream header; from now on the limits of before (False) or after (True) login hold."""
        if not xc_link_restart(&self.router.router, &self.link, logged_in):
            raise MemoryError

    def write(self, data):
        """Queue `data` (bytes-like), which is no stanza, and mark the link dirty."""
        cdef Py_buffer view
        cdef const uint8_t *p = data_of(data, &view)
        try:
            if not xc_link_write(&self.router.router, &self.link, p, view.len):
                raise MemoryError
        finally:
            PyBuffer_Release(&view)

    def send(self, data):
        """Queue one stanza, `data` (bytes-like), and mark the link dirty; with stream management it is counted and kept."""
        cdef Py_buffer view
        cdef const uint8_t *p = data_of(data, &view)
        try:
            if not xc_link_send(&self.router.router, &self.link, p, view.len):
                raise MemoryError
        finally:
            PyBuffer_Release(&view)

    @property
    def queued_bytes(self):
        """Bytes written and not yet sent."""
        return self.link.out.bytes

    @property
    def stanzas(self):
        """Stanzas of this link that were routed without the caller."""
        return self.link.stanzas

    @property
    def hooks(self):
        """Bits of whoever wants to see this link's stanzas, in and out; 0: nobody, they are routed here."""
        return self.link.hooks

    @hooks.setter
    def hooks(self, uint32_t bits):
        self.link.hooks = bits

    @property
    def pending(self):
        """True while the caller is busy with a stanza of this link: `feed` routes nothing, so that order holds."""
        return bool(self.link.flags & XC_LINK_PENDING)

    @pending.setter
    def pending(self, bint on):
        self.link.flags = (self.link.flags & ~XC_LINK_PENDING) | (XC_LINK_PENDING if on else 0)

    @property
    def stalled(self):
        """True if the peer does not read: nothing more is routed to it; the sender's `feed` returns the stanza instead."""
        return bool(self.link.flags & XC_LINK_STALLED)

    @stalled.setter
    def stalled(self, bint on):
        self.link.flags = (self.link.flags & ~XC_LINK_STALLED) | (XC_LINK_STALLED if on else 0)

    @property
    def load(self):
        """Bytes that the peer has not taken or, with stream management, not acknowledged."""
        return xc_link_load(&self.link)

    @property
    def awaited(self):
        """True while somebody waits until the load is low: then `feed` returns this link itself when an ``<a/>`` has made it so."""
        return bool(self.link.flags & XC_LINK_AWAITED)

    @awaited.setter
    def awaited(self, bint on):
        self.link.flags = (self.link.flags & ~XC_LINK_AWAITED) | (XC_LINK_AWAITED if on else 0)

    @property
    def full(self):
        """True if nothing more should be queued: the peer does not read, or four times the router's high mark is passed."""
        return xc_link_full(&self.router.router, &self.link)

    # ---- stream management (XEP-0198); c/sm.h ----

    def enable_sm(self, uint32_t handled=0, uint32_t sent=0):
        """Begin stream management: from now on stanzas are counted, and those sent are kept until acknowledged.

        ``<r/>`` and ``<a/>`` are dealt with here; an ``<a/>`` that cannot be true is handed to the caller as a stanza, and so is the
        ``<r/>`` of a link that is `pending`. `handled`, `sent`: where the counts of a session go on, which another process began.
        """
        if not xc_link_enable_sm(&self.link):
            raise MemoryError
        self.link.sm.handled = handled
        self.link.sm.sent = self.link.sm.acked = self.link.sm.asked = sent

    cdef xc_sm *_sm(self) except NULL:
        if self.link.sm is NULL:
            raise ValueError("no stream management on this link")
        return self.link.sm

    @property
    def managed(self):
        """True from `enable_sm` on."""
        return self.link.sm is not NULL

    def count_handled(self):
        """Count a stanza that `feed` returned; nothing happens without stream management."""
        if self.link.sm is not NULL:
            self.link.sm.handled += 1

    @property
    def handled(self):
        """Stanzas received and dealt with since stream management began, modulo 2**32."""
        return self._sm().handled

    @property
    def sent(self):
        """Stanzas sent since stream management began, modulo 2**32."""
        return self._sm().sent

    @property
    def acknowledged(self):
        """Of these, how many the peer has acknowledged."""
        return self._sm().acked

    def acknowledge(self, uint32_t h):
        """Forget what the peer has dealt with, the first `h` stanzas. ValueError if fewer were sent; nothing is forgotten then."""
        if not xc_sm_ack(&self.router.router.pool, self._sm(), h):
            raise ValueError(f"{h} stanzas acknowledged of {self.link.sm.sent} sent")

    def unacknowledged(self):
        """The stanzas sent and not acknowledged, as bytes, in order."""
        cdef xc_sm *sm = self._sm()
        cdef bytearray kept = bytearray()
        cdef xc_block *b = sm.kept.head
        while b is not NULL:
            kept += PyMemoryView_FromMemory(<char *>b.data + b.start, b.end - b.start, PyBUF_READ)
            b = b.next
        cdef list stanzas = []
        cdef size_t at = 0, n
        for k in range(xc_sm_count(sm)):
            n = xc_sm_length(sm, k)
            stanzas.append(bytes(kept[at:at + n]))
            at += n
        return stanzas

    def detach(self):
        """The connection is gone, and may be resumed: drop what is queued for it, and keep, also of what is sent from now on."""
        self._sm()
        if self.face is not None:
            self.face._release()
        xc_link_detach(&self.router.router, &self.link)

    @property
    def detached(self):
        """True from `detach` on, until another link has resumed."""
        return self.link.sm is not NULL and self.link.sm.detached

    def resume(self, Link other not None):
        """Take over the stream management of `other` and queue what its peer has not acknowledged; hooks and JID are the caller's."""
        other._sm()
        if other.router is not self.router or other is self:
            raise ValueError("not another link of this router")
        if not xc_link_resume(&self.router.router, &self.link, &other.link):
            raise MemoryError

    def bind(self, jid):
        """Be known by the full JID `jid`: stanzas are stamped with it and routed to it.

        Returns the link that had it, now unbound, or None.
        """
        if jid.resource is None:
            raise ValueError("a link is bound to a full JID")
        cdef bytes full = str(jid).encode(), bare = str(jid.bare).encode()
        cdef bytes stamp_text = b" from='" + escaped(full) + b"'"
        self.unbind()
        cdef Link former = self.router.find(jid)
        if former is not None:
            former.unbind()
        cdef xc_stamp *stamp = <xc_stamp *>malloc(sizeof(xc_stamp) + len(stamp_text) + len(full))
        if stamp is NULL:
            raise MemoryError
        stamp.len = len(stamp_text)
        stamp.jid_len = len(full)
        stamp.bare_len = len(bare)
        memcpy(stamp.bytes, PyBytes_AS_STRING(full), stamp.jid_len)
        memcpy(stamp.bytes + stamp.jid_len, PyBytes_AS_STRING(stamp_text), stamp.len)
        if not xc_router_bind(&self.router.router, &self.link, stamp):
            free(stamp)
            raise MemoryError
        self.jid = jid
        return former

    def unbind(self):
        """Be known by no JID any more."""
        xc_router_unbind(&self.router.router, &self.link)
        self.jid = None

    def __repr__(self):
        return f"<Link {self.jid or 'unbound'}, {self.link.out.bytes} bytes queued>"


@cython.final
cdef class Router:
    """All links of one thread: full JIDs, pooled output blocks, the shared receive buffer, and who has output.

    high_bytes: bytes queued for a link above which its senders are told to wait; at four times that nothing more is routed to it.
    early_stanza_bytes: limit of a stanza before login (RFC 6120 section 13.12: never below 10000). The others: see `StreamParser`.
    """

    def __cinit__(self, *, max_stanza_bytes=262144, early_stanza_bytes=10000, max_depth=64, max_attributes=64, max_namespaces=256,
                  max_tag_bytes=65536, size_t high_bytes=262144):
        cdef xc_limits limits, early
        cdef bytes seed = os.urandom(16)
        cdef bytearray memory = bytearray(XC_HEADROOM + XC_RECEIVE + XC_PAD)  # kept alive, and from moving, by the view
        check_limits(&limits, max_stanza_bytes, max_depth, max_attributes, max_namespaces, max_tag_bytes)
        check_limits(&early, early_stanza_bytes, max_depth, max_attributes, max_namespaces, min(max_tag_bytes, early_stanza_bytes))
        limits.text_between = early.text_between = False
        if not xc_router_init(&self.router, xc_kernels_default(), &limits, &early, high_bytes,
                              <const uint64_t *>PyBytes_AS_STRING(seed), <uint8_t *>PyByteArray_AS_STRING(memory)):
            raise MemoryError
        self.buffer = memoryview(memory)[XC_HEADROOM:XC_HEADROOM + XC_RECEIVE]

    def __dealloc__(self):
        xc_router_free(&self.router)

    def __len__(self):
        """Links bound to a full JID."""
        return self.router.used

    @property
    def high_bytes(self):
        """Bytes queued for a link above which its senders are told to wait."""
        return self.router.high

    @property
    def routed(self):
        """Stanzas routed here, without the caller."""
        return self.router.routed

    def link(self, owner=None):
        """A new `Link` of this router."""
        return Link.__new__(Link, self, owner)

    def find(self, jid):
        """The link bound to the full JID `jid`; None if there is none."""
        cdef bytes full = str(jid).encode()
        cdef xc_link *l = xc_router_find(&self.router, <const uint8_t *>PyBytes_AS_STRING(full), len(full))
        return None if l is NULL else link_of(l)

    def ask(self):
        """Ask for acknowledgements (``<r/>``) wherever stanzas were sent without asking; otherwise each 128th is followed by one."""
        if not xc_router_ask(&self.router):
            raise MemoryError

    cpdef list take_dirty(self, bint late=True):
        """The links that were written to since the last call, in the order of the first write.

        late: those, too, that have nothing to send but answers to ``<r/>``. Who comes again within milliseconds need not send these alone.
        """
        cdef list links = []  # first: making it may run the garbage collector, and that may free links of the list
        cdef xc_link *l = xc_router_take_dirty(&self.router, late)
        while l is not NULL:
            links.append(link_of(l))
            l = l.dirty
        return links

    def take_output(self):
        """What is queued for each link that was written to since the last call, [(link, bytes), ...]; their queues are empty then.

        For callers whose transport takes bytes, as asyncio's does. With sockets, `take_dirty` and `OutBuf.buffers` save the copy.
        """
        cdef list output = []
        cdef xc_link *l
        cdef Link link
        while (l := xc_router_next_dirty(&self.router)) is not NULL:  # one by one: the garbage collector may free others
            if l.out.bytes:
                link = link_of(l)
                data = joined(&l.out)
                link.drop(l.out.bytes)
                output.append((link, data))
        return output


@cython.final
@cython.no_gc_clear  # the readers point into the links
cdef class Audience:
    """Links that get the same stanzas, each with a ``to`` of its own: `readers` are pairs of a `Link` and that address.

    Who is in it is the caller's: it makes another one when that changes.
    """

    def __cinit__(self, Router router not None, readers):
        cdef Link link
        cdef bytes word
        cdef list words = []
        cdef size_t k = 0, at = 0
        self.router = router
        self.links = []
        for link, to in readers:
            if link.router is not router:
                raise ValueError("a link of another router")
            self.links.append(link)
            words.append(b" to='" + escaped(str(to).encode()) + b"'")
        self.words = b"".join(words)
        if len(self.words) > <uint32_t>-1:
            raise ValueError("too many readers")
        self.readers = <xc_reader *>malloc((len(self.links) + 1) * sizeof(xc_reader))
        self.left = <uint32_t *>malloc((len(self.links) + 1) * sizeof(uint32_t))
        if self.readers is NULL or self.left is NULL:
            raise MemoryError
        for k in range(len(words)):
            word = words[k]
            self.readers[k].link = &(<Link>self.links[k]).link
            self.readers[k].start = at
            self.readers[k].len = len(word)
            at += len(word)

    def __dealloc__(self):
        free(self.readers)
        free(self.left)

    def __len__(self):
        """How many links."""
        return len(self.links)

    def send(self, bytes stanza not None):
        """Queue `stanza`, which has no ``to``, for all; return the positions of those that the caller has to look at.

        These are the links that are hooked, full (`Link.full`), or bound to no JID: nothing was queued for them.
        """
        cdef size_t n, k
        if not xc_router_fan_out(&self.router.router, self.readers, len(self.links), <const uint8_t *>PyBytes_AS_STRING(self.words),
                                 <const uint8_t *>PyBytes_AS_STRING(stanza), len(stanza), self.left, &n):
            raise MemoryError
        return [self.left[k] for k in range(n)]


def _bench_find(Router router not None, list keys not None, int rounds):
    """Look each of the full JIDs (UTF-8) up `rounds` times without leaving C; how many were found. For benchmarks."""
    cdef bytes key
    cdef size_t found = 0
    for _ in range(rounds):
        for key in keys:
            found += xc_router_find(&router.router, <const uint8_t *>PyBytes_AS_STRING(key), len(key)) is not NULL
    return found

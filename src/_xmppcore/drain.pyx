# SPDX-License-Identifier: Apache-2.0
"""Drain: receive, feed and flush without Python, for links on non-blocking sockets; under TLS the ssl module is called, and nothing else.

The one room of the core that touches file descriptors: they are given to it, and never opened or closed here. Linux only (epoll). The GIL
is held: a call lasts as long as what is ready now, and the garbage collector of another thread must not free a link meanwhile. Only OpenSSL
lets go of it: no pointer to a link or block that nobody owns is kept across a call of it.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memset

from _xmppcore.router cimport XC_HEADROOM, XC_RECEIVE, Link, Router, xc_block
from _xmppcore.layer cimport Layer
from _xmppcore.tls cimport Tls


cdef object os_error(int number):
    return OSError(number, os.strerror(number))


@cython.final
cdef class Drain:
    """Moves bytes between sockets and the links of `router`; `epoll_fd` is the epoll descriptor that the sockets are registered with.

    `turn` while it says so, each time followed by `flush`, the last time with `late`. Meanwhile what is nothing but answers to ``<r/>``
    waits for what else there is to send (XEP-0198 section 4 allows for that): each would cost a system call, and the peer another.
    """

    def __cinit__(self, Router router not None, int epoll_fd):
        self.router = router
        self.epoll = epoll_fd
        self.links = []
        self.layers = []
        self.left = []

    def add(self, Link link not None, int fd, Layer layer=None):
        """From now on receive and send for `link` on the non-blocking socket `fd`, through `layer` if given.

        ValueError if `fd` is another link's, or a handshake of TLS is not done.
        """
        if link.router is not self.router:
            raise ValueError("a link of another router")
        if fd < 0:
            raise ValueError("not a descriptor")
        if isinstance(layer, Tls) and not (<Tls>layer).secured:
            raise ValueError("the handshake is not done")
        if link.fd == fd:
            return
        if link.fd >= 0 or (fd < len(self.links) and self.links[fd] is not None):
            raise ValueError("the link has another descriptor, or the descriptor another link")
        if fd >= len(self.links):
            self.layers.extend([None] * (fd + 64 - len(self.links)))
            self.links.extend([None] * (fd + 64 - len(self.links)))
        self.links[fd] = link
        self.layers[fd] = layer
        link.fd = fd
        link.put_face_away()

    def remove(self, Link link not None):
        """Leave `link` and its socket to the caller. Nothing happens if they are with the caller already."""
        if link.fd >= 0 and link.router is self.router:
            self.links[link.fd] = self.layers[link.fd] = None
            link.fd = -1

    def turn(self, ready not None, bint linger=False):
        """Look which descriptors are ready, receive from each and feed, send what that made for others; and look again.

        `ready(fd, what)` is called for what is not done here. `what` is what `Link.feed` returned of bytes received for `fd` (then `ready`
        feeds that link on until None, or parks it; then its layer); None, if the peer has closed its side; the OSError of the receive, or
        of TLS; or the epoll mask, if no link of ours has this descriptor or the mask is not just EPOLLIN.

        `linger`: wait a millisecond for what comes next, twice at most: the caller's event loop costs more than a message does. Other
        threads run meanwhile.

        Returns True if there may be more to do: `flush`, and call it again, unless others have waited long enough. OSError of epoll, and
        what `ready` raises.
        """
        cdef int looks = 0, found, lingers = LINGERS if linger else 0
        cdef size_t served = 0
        self.bytes = 0
        while True:
            if lingers and self.router.router.dirty is NULL:
                with nogil:
                    found = epoll_wait(self.epoll, self.ready, READY, LINGER_MS)
            else:
                found = epoll_wait(self.epoll, self.ready, READY, 0)
            if found < 0:
                if errno == EINTR:
                    return True
                raise os_error(errno)
            if found == 0:
                if not lingers and served >= BUSY and looks < LOOKS_MORE:
                    looks += 1
                    continue
                if self.router.router.dirty is NULL:
                    return False
                self._flush(True)  # nobody waits for more than these any longer
                if self.left:
                    return True
                continue
            looks = 0
            served += found
            if self._serve(found, ready):
                return True
            self._flush(False)
            if self.left or served >= READY or self.bytes >= TURN_BYTES:
                return True
            if lingers:
                lingers -= 1
                if not lingers:
                    return True

    def flush(self, bint late=True):
        """Send what was written since the last flush; `late`: also where it is nothing but answers to ``<r/>``.

        Returns the links that the caller has to send for: not ours, or not done.
        """
        self._flush(late)
        cdef list left = self.left
        self.left = []
        return left

    cdef bint _serve(self, int found, object ready) except -1:
        # Whether the caller was needed.
        cdef Link link
        cdef Layer layer
        cdef ssize_t n
        cdef int i, fd
        cdef bint called = False
        for i in range(found):
            fd = self.ready[i].data.fd
            link = self.links[fd] if fd < len(self.links) else None
            if link is None or self.ready[i].events != EPOLLIN:
                what = self.ready[i].events
            else:
                n = recv(fd, self.router.router.buffer + XC_HEADROOM, XC_RECEIVE, MSG_DONTWAIT)
                if n > 0:
                    link.received_bytes += n
                    self.bytes += n
                    layer = self.layers[fd]
                    if layer is None:
                        what = link.feed(n)
                    else:
                        try:
                            layer.receive(link, n)
                            what = layer.feed(link)
                        except OSError as error:  # ssl.SSLError is one
                            what = error
                    if what is None:
                        continue
                elif n == 0:
                    what = None
                elif errno == EAGAIN or errno == EINTR:
                    continue
                else:
                    what = os_error(errno)
            ready(fd, what)
            called = True
        return called

    cdef int _flush(self, bint late) except -1:
        cdef Link link
        cdef Layer layer
        for link in self.router.take_dirty(late):
            if link.fd < 0:
                self.left.append(link)
                continue
            layer = self.layers[link.fd]
            if not (self._send(link) if layer is None else self._send_through(link, layer)):
                self.left.append(link)
        return 0

    cdef bint _send_through(self, Link link, Layer layer) except -1:
        # As _send.
        cdef bytes data
        cdef ssize_t n
        while True:
            try:
                data = layer.output(link, False)
            except OSError:
                return False
            if not data:
                return True
            n = send(link.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)
            if n < 0:
                return False
            link.sent_bytes += n
            layer.sent(n)
            if layer.unsent:
                return False
            if not link.link.out.bytes:
                return True

    cdef bint _send(self, Link link):
        # True: all is sent. An error comes again when the caller sends.
        cdef iovec blocks[BLOCKS]
        cdef msghdr message
        cdef xc_block *b
        cdef ssize_t n
        cdef size_t k, size
        while link.link.out.bytes:
            b = link.link.out.head
            k = size = 0
            while b is not NULL and k < BLOCKS:
                blocks[k].iov_base = <char *>b.data + b.start
                blocks[k].iov_len = b.end - b.start
                size += b.end - b.start
                k += 1
                b = b.next
            if k == 1:
                n = send(link.fd, blocks[0].iov_base, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            else:
                memset(&message, 0, sizeof(message))
                message.msg_iov = blocks
                message.msg_iovlen = k
                n = sendmsg(link.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
            if n < 0:
                return False
            link.sent_bytes += n
            link.drop(n)
            if <size_t>n < size:
                return False
        return True

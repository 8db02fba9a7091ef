# SPDX-License-Identifier: Apache-2.0
# Receives and sends for links; Linux.
from libc.stdint cimport uint32_t, uint64_t

cimport cython

from _xmppcore.router cimport Link, Router
from _xmppcore.layer cimport Layer


cdef extern from "<sys/epoll.h>" nogil:
    enum: EPOLLIN
    ctypedef union epoll_data "epoll_data_t":
        int fd
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data data
    int epoll_wait(int epoll, epoll_event *events, int size, int timeout_ms)


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "<sys/socket.h>" nogil:
    enum: MSG_DONTWAIT, MSG_NOSIGNAL
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t recv(int fd, void *p, size_t n, int flags)
    ssize_t send(int fd, const void *p, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)


cdef enum:
    READY = 256             # descriptors of one look, and about that many of a turn: fairness between them and new ones
    TURN_BYTES = 262144     # about that many received in a turn
    BUSY = 32               # descriptors served in a turn: then more is on its way, and looking again is cheaper than waiting anew
    LOOKS_MORE = 4          # how often
    LINGER_MS = 1           # how long a look waits if it may
    LINGERS = 2             # how often in a turn
    BLOCKS = 64             # of one send


@cython.final
cdef class Drain:
    cdef readonly Router router
    cdef int epoll
    cdef list links                 # by descriptor; None: not ours
    cdef list layers                # of each: None: plain
    cdef list left                  # Links that the caller has to send for
    cdef size_t bytes               # received in this turn
    cdef epoll_event ready[READY]
    cdef bint _serve(self, int found, object ready) except -1
    cdef int _flush(self, bint late) except -1
    cdef bint _send(self, Link link)
    cdef bint _send_through(self, Link link, Layer layer) except -1

# SPDX-License-Identifier: Apache-2.0
"""Layer: what stands between a link and its connection where the octets of the wire are not those of the stream; sans-IO."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy

from _xmppcore.router cimport Link, xc_block


cdef bytes head(Link link, size_t limit):
    # A copy of the first bytes that are queued.
    cdef size_t size = min(link.link.out.bytes, limit), at = 0, n
    cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
    cdef xc_block *b = link.link.out.head
    while at < size:
        n = min(<size_t>(b.end - b.start), size - at)
        memcpy(PyBytes_AS_STRING(data) + at, b.data + b.start, n)
        at += n
        b = b.next
    return data


cdef class Layer:
    """`receive`, `feed` and `output` instead of the link's own."""

    def __cinit__(self, *arguments, **options):
        self.unsent = b""

    cpdef receive(self, Link link, Py_ssize_t n):
        """Take over `n` octets from the buffer of the link's router: they came from the peer."""
        raise NotImplementedError

    cpdef feed(self, Link link):
        """Feed the link with what was received; call it again until None.

        Returns what `Link.feed` returns; then the caller feeds the link on until None, or parks it, before the next call.
        """
        raise NotImplementedError

    cpdef bytes output(self, Link link, bint last):
        """The next octets for the peer, until `sent` says that they are; empty if there are none. `last`: no more will be queued."""
        raise NotImplementedError

    cpdef sent(self, Py_ssize_t n):
        """The first `n` octets of `output` are with the peer."""
        self.unsent = self.unsent[n:]

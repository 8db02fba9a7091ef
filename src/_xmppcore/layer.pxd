# SPDX-License-Identifier: Apache-2.0
# What a connection carries in place of the bytes of its link.
from _xmppcore.router cimport Link


cdef enum:
    RECORD = 16384          # bytes of stanzas that are taken at a time: those of one record of TLS (RFC 8446 section 5.1)


cdef class Layer:
    cdef readonly bytes unsent      # what is for the peer, and not sent
    cpdef receive(self, Link link, Py_ssize_t n)
    cpdef feed(self, Link link)
    cpdef bytes output(self, Link link, bint last)
    cpdef sent(self, Py_ssize_t n)


cdef bytes head(Link link, size_t limit)

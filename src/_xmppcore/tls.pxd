# SPDX-License-Identifier: Apache-2.0
# What a link's connection carries under TLS.
cimport cython

from _xmppcore.router cimport Link


cdef enum:
    RECORD = 16384          # bytes of stanzas in one record at most (RFC 8446 section 5.1)


@cython.final
cdef class Tls:
    cdef readonly object session    # ssl.SSLObject
    cdef object inner               # what it calls on, with the same methods: without a Python frame for each record
    cdef object incoming            # ssl.MemoryBIO: what has come and is not decrypted
    cdef object outgoing            # ssl.MemoryBIO: what is encrypted
    cdef readonly bytes unsent      # taken from there, and not sent
    cdef readonly bint secured      # the handshake is done
    cpdef receive(self, Link link, Py_ssize_t n)
    cpdef feed(self, Link link)
    cpdef bytes output(self, Link link, bint last=*)
    cpdef sent(self, Py_ssize_t n)

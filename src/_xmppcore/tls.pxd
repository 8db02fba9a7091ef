# SPDX-License-Identifier: Apache-2.0
# What a link's connection carries under TLS.
cimport cython

from _xmppcore.layer cimport Layer


@cython.final
cdef class Tls(Layer):
    cdef readonly object session    # ssl.SSLObject
    cdef object inner               # what it calls on, with the same methods: without a Python frame for each record
    cdef object incoming            # ssl.MemoryBIO: what has come and is not decrypted
    cdef object outgoing            # ssl.MemoryBIO: what is encrypted
    cdef readonly bint secured      # the handshake is done
    cdef public Layer above         # between this and the link; None: nothing

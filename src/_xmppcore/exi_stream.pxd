# SPDX-License-Identifier: Apache-2.0
# A stream of XMPP as EXI bodies; exi_stream.pyx opens with the theory of operation.
from libc.stdint cimport uint8_t, uint64_t

cimport cython

from _xmppcore.coding cimport xc_coding
from _xmppcore.cxml cimport xc_xml
from _xmppcore.exi_codec cimport Mover
from _xmppcore.layer cimport Layer
from _xmppcore.router cimport Link


@cython.final
cdef class ExiStream:
    cdef readonly object setup      # Setup in force; None until the peer has shown which
    cdef readonly bint xml          # the peer speaks XML: nothing is transcoded
    cdef readonly bint refused      # it asked for a setup that there is not
    cdef object choose              # callable: the Setup that a header asks for, None if there is none; None: headers are not looked for
    cdef object proposed            # Setup that the next streamStart may use
    cdef object encoder, decoder
    cdef Mover mover                # of these two
    cdef bint encoded, decoded      # a body was: tables may be kept from now on
    cdef bint starting              # the next body is a streamStart
    cdef bint closed                # streamEnd was sent
    cdef bint per_body              # each body has the octet 0x80 in front
    cdef bint offered               # our header has gone out, and the answer has one
    cdef bytes front                # header in front of our next body
    cdef int front_bits
    cdef bint reopened              # the last piece begins a stream within one, in another setup
    cdef bytearray buffer           # received, not decoded
    cdef bytes held                 # what `next` returns without decoding
    cdef size_t tried               # octets that were decoded in vain: their body was not there to its end
    cdef xc_xml out                 # cuts what is sent into elements
    cdef bytes tail                 # of it: the part of an element
    cdef public size_t max_bytes    # of one body
    cdef readonly uint64_t octets_in, octets_out, xml_in, xml_out
    cpdef receive(self, octets)
    cpdef bytes next(self)
    cpdef bytes send(self, bytes data)
    cpdef restart(self)
    cdef _reset(self)
    cdef bint _more(self, error) except -1
    cdef Py_ssize_t _next_into(self, uint8_t *to, size_t room) except -2
    cdef int _done(self) except -1
    cdef bytes _read(self)
    cdef size_t _moved_at(self, const uint8_t *p, size_t start, size_t end) noexcept
    cdef bint _detect(self) except -1
    cdef xc_coding *_coding(self) noexcept
    cdef bytes _body(self)
    cdef bytes _start(self)
    cdef _adopt(self, setup)
    cdef bytes _encode(self, bytes xml)


@cython.final
cdef class Exi(Layer):
    cdef readonly ExiStream stream
    cdef bytes rest                 # XML that the link has not been fed with
    cdef Py_ssize_t at              # from here
    cdef bint failed
    cdef object failure             # what our own output failed with
    cdef _pull(self, Link link, size_t enough)

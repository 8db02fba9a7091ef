# SPDX-License-Identifier: Apache-2.0
"""Tls: what stands between a link and its connection if that is under TLS; sans-IO.

OpenSSL is Python's own, by the ssl module: whoever updates Python updates it. What costs is how often it is asked, and how. So it is not
asked to read where nothing has come (the exception that says so costs more than a record), and what is queued for a link goes into as few
records as can be.
"""

import ssl

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from _xmppcore.layer cimport RECORD, Layer, head
from _xmppcore.router cimport XC_HEADROOM, XC_RECEIVE, Link

cdef object SSLError = ssl.SSLError
cdef object SSLWantReadError = ssl.SSLWantReadError


@cython.final
cdef class Tls(Layer):
    """The server's end of TLS under a link: `handshake` until it is done, then `feed` and `output` instead of the link's own.

    context: an ssl.SSLContext. `above`: a layer that takes what is decrypted and gives what is to be encrypted, in place of the link.
    """

    def __cinit__(self, context):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.inner = getattr(self.session, "_sslobj", self.session)

    cpdef receive(self, Link link, Py_ssize_t n):
        """Take over `n` octets from the buffer of the link's router: they came from the peer."""
        if not 0 <= n <= XC_RECEIVE:
            raise ValueError("more bytes than the buffer holds")
        self.incoming.write(PyBytes_FromStringAndSize(<char *>link.router.router.buffer + XC_HEADROOM, n))

    def handshake(self):
        """Go on with the handshake; what it has to say is `output`. Returns whether it is done. Raises ssl.SSLError."""
        try:
            self.session.do_handshake()
        except SSLWantReadError:
            return False
        self.secured = True
        return True

    cpdef feed(self, Link link):
        """Decrypt what was received and feed the link with it; call it again until None.

        Returns what `Link.feed` returns; then the caller feeds the link on until None, or parks it, before the next call.
        Raises ssl.SSLError, of which ssl.SSLZeroReturnError says that the peer has said good-bye (close_notify).
        """
        cdef Py_ssize_t n
        cdef object event = None
        # The buffer is larger than a record: nothing that is decrypted stays behind, and nobody need ask for it.
        while self.secured:
            if self.above is not None:
                event = self.above.feed(link)
            if event is not None or not self.incoming.pending:
                break
            try:
                n = self.inner.read(XC_RECEIVE, link.router.buffer)
            except SSLWantReadError:  # part of a record
                break
            if n == 0:
                raise ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "the peer has closed TLS")
            if self.above is None:
                event = link.feed(n)
            else:
                self.above.receive(link, n)
        n = self.outgoing.pending
        if n:  # the answer to a KeyUpdate
            if n > XC_RECEIVE:
                raise SSLError("the peer asks for new keys and does not take the answers")
            link.mark()
        return event

    cpdef bytes output(self, Link link, bint last):
        """The next octets for the peer, until `sent` says that they are; empty if there are none. Raises ssl.SSLError.

        last: nothing more is going to be queued; good-bye (close_notify) is behind what is.
        """
        cdef bytes data
        if not self.unsent:
            if self.secured:
                if self.above is not None:
                    data = self.above.output(link, last)
                    if data:
                        self.inner.write(data)
                        self.above.sent(PyBytes_GET_SIZE(data))
                elif link.link.out.bytes:
                    data = head(link, RECORD)
                    self.inner.write(data)
                    link.drop(PyBytes_GET_SIZE(data))
                if last and not link.link.out.bytes:
                    try:
                        self.session.unwrap()
                    except SSLError:  # for the peer's we do not wait
                        pass
            self.unsent = self.outgoing.read()
        return self.unsent

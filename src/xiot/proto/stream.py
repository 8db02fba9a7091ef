# SPDX-License-Identifier: Apache-2.0
"""XML streams without I/O: what both ends do alike, from the first header to the last tag (RFC 6120 section 4).

Theory of operation. The shell parses what it reads and gives each event of the parser, or the `XmlError` that it
raised, to `receive`, one after the other; it sends what `data_to_send` returns, and does what the returned events ask
for. A stream comes through these phases::

    OPENING -> NEGOTIATING -+-> TLS ---> OPENING                    StartTls .. tls_started()
                            +-> OPENING -> BINDING -> READY         Authenticated, NeedBind .. bound()
    any of them -> CLOSING -> CLOSED

TLS: what follows is a handshake; a single octet in the clear ends the stream. CLOSING: our closing tag is out, the peer
may still send (section 4.4). CLOSED: nothing more is sent or looked at.

`receiving` and `initiating` hold the two ends: their methods ``_on_...`` decide what may come when. How it is written
is in `framing`, `features`, `sasl` and `bind`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

from xiot.core import JID, Element, Stanza, StreamClose, StreamOpen, XmlError
from xiot.errors import STREAM_ERRORS, LinkError, StreamError, XiotError
from xiot.exi import ExiError
from xiot.proto import exi, framing
from xiot.proto.events import Closed, Event, RestartStream, StanzaReceived
from xiot.stanzas import NS_CLIENT, NS_SERVER

_NO_BINDINGS: Mapping[str, bytes] = MappingProxyType({})  # shared: there are as many streams as clients
STANZAS = frozenset(("message", "presence", "iq"))


class Phase(enum.Enum):
    """How far a stream has come."""

    OPENING = enum.auto()
    NEGOTIATING = enum.auto()
    TLS = enum.auto()
    BINDING = enum.auto()
    READY = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


# By these names: Python 3.11 takes five times as long for a member by way of its class.
OPENING, NEGOTIATING, TLS, BINDING, READY, CLOSING, CLOSED = Phase


class Stream(ABC):
    """One end of a stream."""

    __slots__ = ("_bindings", "_opened", "_was_ready", "jid", "out", "phase", "secure")

    content_ns = NS_CLIENT

    def __init__(self, *, secure: bool, bindings: Mapping[str, bytes] | None) -> None:
        self.phase = OPENING
        self.secure = secure
        """Whether TLS is on."""
        self.jid: JID | None = None
        """The client: bare from login on, full from binding on. None before."""
        self._bindings = bindings or _NO_BINDINGS
        self.out = b""  # little at a time
        self._opened = False  # our header is out, in this (re)start of the stream
        self._was_ready = False

    def data_to_send(self) -> bytes:
        """Return what has been queued since the last call."""
        data, self.out = self.out, b""
        return data

    def receive(self, event: StreamOpen | Stanza | StreamClose | XmlError | ExiError) -> list[Event]:
        """Take the next event of the parser, or what it raised. Raises RuntimeError while a question is unanswered."""
        if self.phase is CLOSED:
            return []
        if self._asking:
            raise RuntimeError("the last question has no answer yet")
        try:
            if isinstance(event, Stanza):
                return self._on_element(event)
            if isinstance(event, StreamOpen):
                return self._on_open(event)
            if isinstance(event, StreamClose):
                return self._on_close()
            if isinstance(event, ExiError):
                raise exi.failure(event)
            raise StreamError(event.condition if event.condition in STREAM_ERRORS else "not-well-formed")
        except StreamError as error:
            return self.close(error)

    def send(self, element: Element) -> None:
        """Queue a stanza or nonza. Raises LinkError if the stream is closing or closed."""
        if self.phase in (CLOSING, CLOSED):
            raise LinkError("the stream is closed")
        self.out += element.tobytes(self.content_ns)

    def close(self, error: StreamError | None = None) -> list[Event]:
        """Close our side: at once if there is an `error`, else `Closed` comes after the peer's closing tag."""
        if self.phase is CLOSED:
            return []
        if self.phase is TLS:
            self.out = b""
            return self._end(error or LinkError("closed where TLS begins"), b"")
        if self.phase is CLOSING:  # our closing tag was the last word
            return [] if error is None else self._end(error, b"")
        if not self._opened:  # section 4.9.1.2: an error needs a header too
            self._open()
        if error is not None:
            return self._end(error, framing.render_error(error) + framing.CLOSE)
        self._was_ready = self.phase is READY
        self.phase = CLOSING
        self.out += framing.CLOSE
        return []

    def tls_started(self, bindings: Mapping[str, bytes] | None = None) -> list[Event]:
        """Tell that TLS is on; `bindings` maps the types of channel binding that work on it to their data, best first.

        Raises RuntimeError if `StartTls` was not the last event.
        """
        if self.phase is not TLS:
            raise RuntimeError("TLS was not asked for")
        self.secure = True
        self._bindings = bindings or _NO_BINDINGS
        return self._restart()

    def _end(self, error: XiotError | None, tail: bytes = framing.CLOSE) -> list[Event]:
        self.phase = CLOSED
        self.out += tail
        return [Closed(error)]

    def _restart(self) -> list[Event]:
        self.phase = OPENING
        self._opened = False
        return [RestartStream()]

    def _on_close(self) -> list[Event]:
        if self.phase is TLS:
            return self.close()
        if self.phase is CLOSING:
            return self._end(None, b"")
        return self._end(None if self.phase is READY else LinkError("the peer closed the stream before login"))

    def _on_element(self, stanza: Stanza) -> list[Event]:
        if self.phase is TLS:
            raise StreamError("policy-violation", "octets in the clear where TLS begins")
        if self.phase is OPENING:
            raise StreamError("bad-format", "the stream has no header")
        if (stanza.ns, stanza.name) == (framing.NS, "error"):
            tail = b"" if self.phase is CLOSING else framing.CLOSE
            return self._end(framing.parse_error(stanza.element), tail)
        if stanza.name in STANZAS and stanza.ns in (NS_CLIENT, NS_SERVER) and stanza.ns != self.content_ns:
            raise StreamError("invalid-namespace")
        if self.phase is CLOSING:  # section 4.4: what was under way is still processed
            return [StanzaReceived(stanza)] if self._was_ready and self._is_stanza(stanza) else []
        return self._on_nonza_or_stanza(stanza)

    def _is_stanza(self, stanza: Stanza) -> bool:
        return stanza.ns == self.content_ns and stanza.name in STANZAS

    def _check_header(self, header: StreamOpen) -> None:
        if self.phase is not OPENING:
            raise StreamError("bad-format", "a header within the stream")
        if header.ns != framing.NS:
            raise StreamError("invalid-namespace")
        if header.name != "stream":
            raise StreamError("bad-format")
        if header.default_ns != self.content_ns:
            raise StreamError("invalid-namespace", f"the content namespace is {self.content_ns}")

    @property
    @abstractmethod
    def _asking(self) -> bool:
        """Whether a question to the shell waits for its answer."""

    @abstractmethod
    def _open(self) -> None:
        """Queue our header."""

    @abstractmethod
    def _on_open(self, header: StreamOpen) -> list[Event]:
        """Take the peer's header."""

    @abstractmethod
    def _on_nonza_or_stanza(self, stanza: Stanza) -> list[Event]:
        """Take a first-level element in the phases from NEGOTIATING to READY."""

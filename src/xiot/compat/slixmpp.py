# SPDX-License-Identifier: Apache-2.0
"""slixmpp with our parser.

    from xiot.compat import slixmpp
    slixmpp.install()

What changes: a stanza comes with its last byte, whatever expat is there (2.6 and newer hold back what comes in small pieces); comments,
processing instructions and document types are refused (RFC 6120 section 11.1), and so is what is larger than the limits. Stanzas stay
elements of `xml.etree.ElementTree`, so nothing else changes. Whatever the parser, there are at most 1.3 times as many stanzas for a CPU
second: slixmpp itself takes the rest (`benches/README.md`).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterator
from functools import wraps
from typing import TYPE_CHECKING, Literal
from xml.parsers.expat.errors import XML_ERROR_INVALID_TOKEN, codes

from _xmppcore.errors import XmlError
from _xmppcore.xml import StreamClose, StreamOpen, StreamParser

if TYPE_CHECKING:
    from slixmpp.xmlstream import XMLStream

__all__ = ["Parser", "install"]

INVALID_TOKEN = codes[XML_ERROR_INVALID_TOKEN]
Event = tuple[Literal["start", "end"], "ET.Element"]

# The server is one that the user has chosen, so the limits are wide; but nothing is without end. slixmpp's serialiser is recursive.
MAX_STANZA_BYTES = 4 << 20
MAX_DEPTH = 256


class Parser:
    """One stream's, in the place of `xml.etree.ElementTree.XMLPullParser(("start", "end"))`.

    Of elements it gives what slixmpp looks at: start and end of the root, which has no children here, and start and end of each stanza, both
    when it is there as a whole.
    """

    def __init__(self, *, max_stanza_bytes: int = MAX_STANZA_BYTES) -> None:
        self._parser = StreamParser(
            builder=ET.Element, max_stanza_bytes=max_stanza_bytes, max_depth=MAX_DEPTH, max_attributes=256
        )
        self._events: deque[Event | ET.ParseError] = deque()
        self._root: ET.Element | None = None
        self._over = self._closed = False

    def feed(self, data: bytes | str) -> None:
        """Parse `data`. What is wrong with it is raised by `read_events`, behind the events that came before."""
        if self._closed:
            raise ValueError("feed() called after end of stream")
        try:
            found = self._parser.feed(data.encode() if isinstance(data, str) else data)
            while found:
                for event in found:
                    self._take(event)
                found = self._parser.feed(b"")  # raises if an error came behind these
        except XmlError as error:
            self._events.append(parse_error(error.condition, error.offset))

    def _take(self, event: StreamOpen | ET.Element | StreamClose) -> None:
        if isinstance(event, ET.Element):
            self._events += (("start", event), ("end", event))
        elif isinstance(event, StreamOpen):
            self._root = ET.Element(f"{{{event.ns}}}{event.name}" if event.ns else event.name, event.attrib)
            self._events.append(("start", self._root))
        else:
            assert self._root is not None
            self._over = True
            self._events.append(("end", self._root))

    def read_events(self) -> Iterator[Event]:
        """The events since the last call; of those that nobody takes from the iterator, none is lost. Raises xml.etree's ParseError."""
        events = self._events
        while events:
            event = events.popleft()
            if isinstance(event, ET.ParseError):
                raise event
            yield event

    def flush(self) -> None:
        """Nothing: no event is ever held back."""

    def close(self) -> None:
        """End the input. Raises xml.etree's ParseError if the stream is not over."""
        self._closed = True
        if not self._over:
            raise parse_error("no end of the stream", 0)


def parse_error(text: str, offset: int) -> ET.ParseError:
    """As xml.etree has it; the position is that of the byte in the stream, since lines mean nothing there."""
    error = ET.ParseError(f"{text}: byte {offset}")
    error.code = INVALID_TOKEN
    error.position = 1, offset
    return error


def install(*, max_stanza_bytes: int = MAX_STANZA_BYTES) -> None:
    """Have all streams of slixmpp that begin from now on use `Parser`: connections, and what follows STARTTLS and SASL."""
    from slixmpp.xmlstream import XMLStream

    theirs = getattr(XMLStream.init_parser, "__wrapped__", XMLStream.init_parser)

    @wraps(theirs)
    def init_parser(self: XMLStream) -> None:
        theirs(self)
        self.parser = Parser(max_stanza_bytes=max_stanza_bytes)  # type: ignore[assignment]

    XMLStream.init_parser = init_parser  # type: ignore[method-assign]

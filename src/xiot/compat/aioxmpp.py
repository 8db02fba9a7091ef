# SPDX-License-Identifier: Apache-2.0
"""aioxmpp with our parser, and with a short way for JIDs that are plain.

    from xiot.compat import aioxmpp
    aioxmpp.install()

aioxmpp takes most of its time to prepare JIDs, character by character; what is ASCII needs no tables of Unicode for that. The results are
those of RFC 6122 as aioxmpp has them: what is not ASCII, and what is not allowed, is left to aioxmpp. With the parser a stanza comes with its
last byte, whatever expat is there, and what is larger than the limits is refused. `benches/README.md` has figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any
from xml.parsers import expat
from xml.sax import SAXNotRecognizedException, SAXNotSupportedException, SAXParseException
from xml.sax.handler import ContentHandler, feature_namespaces, property_lexical_handler
from xml.sax.xmlreader import IncrementalParser, Locator

from _xmppcore.element import Element
from _xmppcore.errors import XmlError
from _xmppcore.xml import StreamClose, StreamOpen, StreamParser

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Parser", "install"]

# The server is one that the user has chosen, so the limits are wide; but nothing is without end.
MAX_STANZA_BYTES = 4 << 20
MAX_DEPTH = 256

RECENT = 8  # bytes to look back: how what is forbidden begins
INVALID_TOKEN = expat.errors.codes[expat.errors.XML_ERROR_INVALID_TOKEN]

Prepare = Callable[..., str]


class Parser(IncrementalParser):
    """One stream's, in the place of the SAX parser of `aioxmpp.xml.make_parser`.

    The content handler gets the events of a stanza, none of prefixes, when the stanza is there as a whole; attributes are a dict. It and
    the lexical handler are told of what XMPP forbids, so that they can refuse it. `theirs` makes the parser whose place this takes: that is
    asked what is wrong with something that is no stream from the start.
    """

    def __init__(self, theirs: Callable[[], Any], *, max_stanza_bytes: int = MAX_STANZA_BYTES) -> None:
        super().__init__()
        self._theirs = theirs
        self._max_stanza_bytes = max_stanza_bytes
        self._lexical_handler: Any = None
        self.reset()

    def reset(self) -> None:
        """Expect another document."""
        self._parser: StreamParser[Element] | None = None
        self._root: Any = None
        self._over = False
        self._head = b""  # what came before the root
        self._recent = b""  # the end of what came before
        self._fed = 0  # bytes

    def feed(self, data: Buffer | str) -> None:
        """Parse `data` and call the handlers. Raises what these raise; SAXParseException; aioxmpp's StreamError for what is too large."""
        handler: Any = self.getContentHandler()
        if self._parser is None:
            self._parser = StreamParser(
                builder=Element,
                max_stanza_bytes=self._max_stanza_bytes,
                max_depth=MAX_DEPTH,
                max_attributes=256,
            )
            handler.startDocument()
        parser = self._parser
        data = data.encode() if isinstance(data, str) else bytes(data)
        if self._root is None:
            self._head += data
        try:
            found = parser.feed(data)
            while found:
                for event in found:
                    if isinstance(event, Element):
                        send(event, handler)
                    elif isinstance(event, StreamOpen):
                        self._root = event.ns or None, event.name
                        self._head = b""
                        handler.startElementNS(self._root, None, names(event.attrib))
                    else:
                        assert isinstance(event, StreamClose)
                        self._over = True
                        handler.endElementNS(self._root, None)
                found = parser.feed(b"")  # raises if an error came behind these
        except XmlError as error:
            self._refuse(error, self._recent + data)
        self._fed += len(data)
        self._recent = (self._recent + data[-RECENT:])[-RECENT:]

    def _refuse(self, error: XmlError, window: bytes) -> None:
        """Raise what says that the input is wrong; `window` is its end."""
        if error.condition == "policy-violation":
            errors: Any = import_module("aioxmpp.errors")
            raise errors.StreamError(errors.StreamErrorCondition.POLICY_VIOLATION, str(error)) from error
        if self._root is None:
            theirs = self._theirs()
            theirs.setContentHandler(ContentHandler())
            theirs.feed(self._head)
        elif error.condition == "restricted-xml":
            handler: Any = self.getContentHandler()
            at = error.offset - self._fed + len(self._recent)
            if at < 0 or window[at : at + 1] == b"&":  # only names of entities are long
                self._lexical_handler.startEntity("")
            elif window[at : at + 2] == b"<?":
                handler.processingInstruction("", "")
            elif window[at : at + 3] == b"<!-":
                self._lexical_handler.comment("")
            else:
                self._lexical_handler.startDTD("", None, None)
        raise parse_error(error) from error

    def close(self) -> None:
        """End the document. Raises SAXParseException if it is not whole."""
        over = self._over
        self.reset()
        if not over:
            raise parse_error(XmlError("not-well-formed", 0))
        handler: Any = self.getContentHandler()
        handler.endDocument()

    def getFeature(self, name: str) -> bool:
        """Namespaces are resolved, and nothing else is done."""
        return name == feature_namespaces

    def setFeature(self, name: str, state: object) -> None:
        """Raises SAXNotSupportedException unless it is so anyway."""
        if bool(state) != self.getFeature(name):
            raise SAXNotSupportedException(name)

    def getProperty(self, name: str) -> Any:
        """The lexical handler. Raises SAXNotRecognizedException."""
        if name != property_lexical_handler:
            raise SAXNotRecognizedException(name)
        return self._lexical_handler

    def setProperty(self, name: str, value: Any) -> None:
        """Set the lexical handler. Raises SAXNotRecognizedException."""
        if name != property_lexical_handler:
            raise SAXNotRecognizedException(name)
        self._lexical_handler = value


def split(name: str) -> tuple[str | None, str]:
    """``"{namespace}local"`` in two; None if there is no namespace."""
    if name[0] != "{":
        return None, name
    ns, _, local = name[1:].rpartition("}")
    return ns, local


def names(attrib: dict[str, str]) -> dict[tuple[str | None, str], str]:
    return {split(name): value for name, value in attrib.items()}


def send(element: Element, handler: Any) -> None:
    """The events of the element. Recursive: the parser does not let it be deep."""
    name = split(element.tag)
    handler.startElementNS(name, None, names(element.attrib))
    if element.text:
        handler.characters(element.text)
    for child in element:
        send(child, handler)
        if child.tail:
            handler.characters(child.tail)
    handler.endElementNS(name, None)


class Position(Locator):
    """That of a byte in the stream, as column; lines mean nothing there."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def getLineNumber(self) -> int:
        return 1

    def getColumnNumber(self) -> int:
        return self.offset


def parse_error(error: XmlError) -> SAXParseException:
    return SAXParseException(expat.ErrorString(INVALID_TOKEN), error, Position(error.offset))


# All of ASCII but white space, controls, and what RFC 6122 appendix A.5 excludes.
PLAIN_NODE = re.compile(r"[!#$%(-.0-9;=?A-~]*")


def short_way(plain: Callable[[str], object], prepare: Callable[[str], str], theirs: Prepare) -> Prepare:
    """`prepare` for what is `plain`, for all else what there was."""

    @wraps(theirs)
    def prepared(string: str, allow_unassigned: bool = False) -> str:
        return prepare(string) if plain(string) else theirs(string, allow_unassigned)

    return prepared


def is_printable_ascii(string: str) -> bool:
    return string.isascii() and string.isprintable()


def install(*, max_stanza_bytes: int = MAX_STANZA_BYTES) -> None:
    """Have all streams of aioxmpp that begin from now on use `Parser`, and all JIDs the short way."""
    xml: Any = import_module("aioxmpp.xml")
    structs: Any = import_module("aioxmpp.structs")
    theirs = getattr(xml.make_parser, "__wrapped__", xml.make_parser)

    @wraps(theirs)
    def make_parser() -> Parser:
        parser = Parser(theirs, max_stanza_bytes=max_stanza_bytes)
        parser.setProperty(property_lexical_handler, xml.XMPPLexicalHandler)
        return parser

    xml.make_parser = make_parser
    if not hasattr(structs.nodeprep, "__wrapped__"):
        structs.nodeprep = short_way(PLAIN_NODE.fullmatch, str.lower, structs.nodeprep)
        structs.nameprep = short_way(str.isascii, str.lower, structs.nameprep)
        structs.resourceprep = short_way(is_printable_ascii, str, structs.resourceprep)

# SPDX-License-Identifier: Apache-2.0
"""xiot.compat.aioxmpp: the events of expat's SAX parser, the JIDs of aioxmpp, and aioxmpp itself with both."""

from __future__ import annotations

import os
import re
import subprocess
import xml.sax
import xml.sax.handler
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_builders import octets
from tests.core.test_xml import TAIL
from tests.interop.peers import CORE, TEXT, aioxmpp, aioxmpp_python, romeo
from tests.server.serving import next_of, serving
from tests.shared import ROOT
from tests.streams import CLOSE, OPEN, URIS, Generator
from xiot.compat.aioxmpp import Parser

ROMEO = romeo("aioxmpp")
SPACED = re.compile(rb"""xmlns[^=]*=\s*('[^']*\s[^']*'|"[^"]*\s[^"]*")""")
HANDLERS = xml.sax.handler


class Refused(Exception):
    """A handler does not take what XMPP forbids."""


class Noting(HANDLERS.ContentHandler):
    """Notes events. Text is one event however it came, and text outside of stanzas none."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.depth = 0

    def startDocument(self) -> None:
        self.found.append("document")

    def endDocument(self) -> None:
        self.found.append("end of document")

    def startElementNS(self, name: Any, qname: Any, attrs: Any) -> None:
        self.depth += 1
        self.found.append(("start", name, qname, dict(attrs.items())))

    def endElementNS(self, name: Any, qname: Any) -> None:
        self.depth -= 1
        self.found.append(("end", name, qname))

    def characters(self, content: str) -> None:
        if self.depth < 2:
            return
        if isinstance(self.found[-1], str):
            content = self.found.pop() + content
        self.found.append(content)

    def processingInstruction(self, target: str, data: str) -> None:
        raise Refused("instruction")


class Lexical:
    """Refuses what aioxmpp's lexical handler refuses."""

    def comment(self, text: str) -> None:
        raise Refused("comment")

    def startDTD(self, *about: Any) -> None:
        raise Refused("document type")

    def endDTD(self) -> None: ...

    def startEntity(self, name: str) -> None:
        raise Refused("entity")

    def startCDATA(self) -> None: ...

    def endCDATA(self) -> None: ...


def theirs() -> Any:
    parser: Any = xml.sax.make_parser()
    parser.setFeature(HANDLERS.feature_namespaces, True)
    parser.setFeature(HANDLERS.feature_external_ges, False)
    parser.setProperty(HANDLERS.property_lexical_handler, Lexical())
    return parser


def mine() -> Parser:
    parser = Parser(theirs)
    parser.setProperty(HANDLERS.property_lexical_handler, Lexical())
    return parser


def read(parser: Any, pieces: list[bytes]) -> tuple[list[Any], str | None]:
    """Events up to the last whole stanza, and the error."""
    handler = Noting()
    parser.setContentHandler(handler)
    error = None
    try:
        for piece in pieces:
            parser.feed(piece)
    except (xml.sax.SAXParseException, LookupError):  # the latter for an encoding that expat does not know
        error = "parse"
    except Refused as refused:
        error = str(refused)
    while handler.depth > 1:  # a stanza that is there in part only: ours gives nothing of it
        event = handler.found.pop()
        handler.depth += {"start": -1, "end": 1}.get(event[0], 0) if isinstance(event, tuple) else 0
    return handler.found, error


def test_the_same_events_in_every_split() -> None:
    for seed in range(10):
        data = Generator(seed, URIS).stream(2).removeprefix(b"\xef\xbb\xbf")
        found = read(theirs(), [data])
        assert found[1] is None
        assert read(mine(), octets(data)) == found
        for cut in range(0, len(data), 3):
            assert read(mine(), [data[:cut], data[cut:]]) == found, (data, cut)


def test_the_same_is_refused() -> None:
    seen: dict[str | None, int] = {}
    for seed in range(1500):
        generator = Generator(seed, URIS)
        data = generator.mutant(generator.stream(2)) + TAIL
        if b"\xef\xbb\xbf" in data[1:]:
            continue  # a letter since the fifth edition of XML 1.0, which expat does not know
        if SPACED.search(data):
            continue  # expatreader has expat put a space behind namespaces, so they may not have any
        found, wanted = read(mine(), [data]), read(theirs(), [data])
        if found != wanted and b"encoding=" not in data:
            # Inside of a tag or a stanza that has another error, what is forbidden may be found by one only.
            assert found[0] == wanted[0][: len(found[0])], data
            assert wanted[1] == "parse" or found[1] == "parse", (data, found, wanted)
            assert any(mark in data for mark in (b"<!", b"<?", b"&")), data
        seen[found[1]] = seen.get(found[1], 0) + 1
    assert seen["parse"] > 500
    assert len(seen) > 2


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(b"<!-- x -->", "comment"), (b"<?x?>", "instruction"), (b"<!DOCTYPE s>", "document type"), (b"&" + b"f" * 99 + b";", "entity")],
)  # fmt: skip
@pytest.mark.security(row=13)
def test_handlers_are_told_what_is_forbidden(bad: bytes, kind: str) -> None:
    data = OPEN + b"<a/>" + bad
    for pieces in ([data], octets(data), [data[: len(OPEN) + 6], data[len(OPEN) + 6 :]]):
        found, error = read(mine(), pieces)
        assert error == kind
        assert len(found) == 4


def test_what_is_no_stream_is_told_as_by_expat() -> None:
    for bad in (b"HTTP/1.1 400 Bad Request\r\nServer: x", b"<a b='1'c='2'>", b"<s>\n<a></b>"):
        errors = []
        for parser in (mine(), theirs()):
            parser.setContentHandler(Noting())
            with pytest.raises(xml.sax.SAXParseException) as error:
                parser.feed(bad)
            errors.append(error.value)
        ours, wanted = errors
        assert isinstance(ours.getException().args[0], str)
        if bad.startswith(b"<s>"):
            assert str(ours) == "<unknown>:1:9: not well-formed (invalid token)"
        else:
            assert str(ours) == str(wanted)


def test_a_document_ends_and_another_begins() -> None:
    parser = mine()
    for _ in range(2):
        handler = Noting()
        parser.setContentHandler(handler)
        parser.feed((OPEN + CLOSE).decode())
        parser.close()
        assert handler.found[0] == "document"
        assert handler.found[-1] == "end of document"
    parser.feed(OPEN)
    with pytest.raises(xml.sax.SAXParseException):
        parser.close()


def test_features_are_those_of_a_parser_that_resolves_namespaces() -> None:
    parser = mine()
    assert parser.getFeature(HANDLERS.feature_namespaces)
    for feature in (HANDLERS.feature_validation, HANDLERS.feature_external_ges, HANDLERS.feature_external_pes):
        assert not parser.getFeature(feature)
        parser.setFeature(feature, False)
        with pytest.raises(xml.sax.SAXNotSupportedException):
            parser.setFeature(feature, True)
    with pytest.raises(xml.sax.SAXNotRecognizedException):
        parser.setProperty(HANDLERS.property_dom_node, None)
    with pytest.raises(xml.sax.SAXNotRecognizedException):
        parser.getProperty(HANDLERS.property_dom_node)


@pytest.mark.peers
def test_aioxmpp_with_it_prepares_the_same_jids_and_refuses_the_same() -> None:
    command = [aioxmpp_python(), str(ROOT / "tests/compat/aioxmpp_checks.py")]
    report = subprocess.run(command, env=os.environ | CORE, capture_output=True, text=True, check=False)
    assert (report.returncode, report.stdout, report.stderr) == (0, "", "")


@pytest.mark.peers
async def test_aioxmpp_with_it_logs_in_and_talks(tmp_path: Path) -> None:
    """STARTTLS and SASL begin streams anew; then presence, and messages of all sizes."""
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("juliet@localhost/Balcony \u2665") as juliet,
            aioxmpp(running, "romeo/aioxmpp", ca_file=running.ca_file, adapter=True) as peer,
        ):
            assert (await peer.next("session"))["jid"] == str(ROMEO)
            for body in (TEXT, "x" * 100_000, "\U0001f600" * 5000):
                await juliet.send_message(ROMEO, body)
                got = await peer.next("message")
                assert (got["sender"], got["body"]) == (str(juliet.jid), body)
            await peer.do("message", jid=str(juliet.jid), body=TEXT)
            assert (await next_of(juliet.messages())).body == TEXT

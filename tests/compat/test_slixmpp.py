# SPDX-License-Identifier: Apache-2.0
"""xiot.compat.slixmpp: slixmpp does the same with our parser, and a stanza comes with its last byte."""

from __future__ import annotations

import asyncio
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.core.test_builders import octets, ours
from tests.core.test_xml import TAIL
from tests.interop.peers import TEXT, presence_of, romeo, slixmpp
from tests.server.serving import next_of, serving
from tests.shared import package
from tests.streams import CLOSE, OPEN, URIS, Generator
from xiot.compat.slixmpp import Parser, install

ROMEO = romeo("slixmpp")


@pytest.fixture(autouse=True)
def _installed() -> None:
    package("slixmpp")


@pytest.fixture
def stream() -> Iterator[Any]:
    """A stream that notes what slixmpp's own reading loop finds."""
    from slixmpp.xmlstream import XMLStream

    class Noting(XMLStream):
        found: list[Any]

        def start_stream_handler(self, xml: ET.Element) -> None:
            self.found.append(("root", xml.tag, dict(xml.attrib)))

        def _spawn_event(self, xml: ET.Element) -> None:
            stanza = ours(xml)
            stanza.tail = None  # there only if the next stanza was read already
            self.found.append(stanza)

        def abort(self) -> None:
            self.found.append("end")

        def send(self, data: Any, use_filters: bool = True) -> None:
            self.found.append(("error", data["condition"]))

        def disconnect(self, *args: Any, **options: Any) -> Any: ...

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield Noting()
    asyncio.set_event_loop(None)
    loop.close()


def theirs() -> ET.XMLPullParser:
    return ET.XMLPullParser(("start", "end"))


def read(stream: Any, parser: Any, pieces: Iterable[bytes | str]) -> list[Any]:
    stream.init_parser()
    stream.parser, stream.found = parser, []
    for piece in pieces:
        try:
            stream.data_received(piece)
        except LookupError:  # xml.etree, for an encoding that it does not know
            stream.found.append(("error", "not-well-formed"))
        if stream.found and stream.found[-1] in ("end", ("error", "not-well-formed")):
            break
    found: list[Any] = stream.found
    return found


def test_slixmpp_finds_the_same_in_every_split(stream: Any) -> None:
    stanzas = 0
    for seed in range(12):
        data = Generator(seed, URIS).stream(2).removeprefix(b"\xef\xbb\xbf")
        found = read(stream, theirs(), [data])
        assert read(stream, Parser(), octets(data)) == found
        for cut in range(len(data)):
            assert read(stream, Parser(), [data[:cut], data[cut:]]) == found, (data, cut)
        stanzas += len(found) - 2
    assert stanzas > 20


def test_slixmpp_refuses_the_same_and_restricted_xml(stream: Any) -> None:
    refused = restricted = 0
    for seed in range(1500):
        generator = Generator(seed, URIS)
        data = generator.mutant(generator.stream(2)) + TAIL
        if b"\xef\xbb\xbf" in data[1:]:
            continue  # a letter since the fifth edition of XML 1.0, which expat does not know
        found, wanted = read(stream, Parser(), [data]), read(stream, theirs(), [data])
        if found != wanted:
            assert found[-1] == ("error", "not-well-formed"), data
            assert found[:-1] == wanted[: len(found) - 1]
            assert any(mark in data for mark in (b"<!--", b"<?", b"<!DOCTYPE", b"encoding=")), data
            restricted += 1
        refused += found[-1] != "end"
    assert refused > 300
    assert 0 < restricted < 60


def test_text_is_fed_as_bytes_are(stream: Any) -> None:
    data = (OPEN + "<m>Grüße \U0001f600</m>".encode() + CLOSE).decode()
    assert read(stream, Parser(), [data]) == read(stream, theirs(), [data])


def events(parser: Parser) -> list[tuple[str, str]]:
    return [(event, element.tag) for event, element in parser.read_events()]


def test_two_events_a_stanza_with_its_last_byte() -> None:
    """expat 2.6 and newer would hold the second one back until more comes."""
    parser = Parser()
    parser.feed(OPEN)
    root = "{http://etherx.jabber.org/streams}stream"
    assert events(parser) == [("start", root)]
    for number in range(3):
        tag = f"{{jabber:client}}m{number}"
        stanza = b"<m%d><body>text</body><x/></m%d>" % (number, number)
        for byte in octets(stanza[:-1]):
            parser.feed(byte)
            assert events(parser) == []
        parser.feed(stanza[-1:])
        assert events(parser) == [("start", tag), ("end", tag)]
        parser.flush()
        assert events(parser) == []
    parser.feed(CLOSE)
    assert events(parser) == [("end", root)]
    parser.close()


def test_elements_are_those_of_xml_etree() -> None:
    parser = Parser()
    parser.feed(OPEN + b"<m a='1'>t<n/></m>")
    found = [element for _, element in parser.read_events()]
    assert [type(element) for element in found] == [ET.Element] * 3
    assert found[0].attrib == {"version": "1.0", "{http://www.w3.org/XML/1998/namespace}lang": "en"}
    assert found[1] is found[2]
    assert ET.tostring(found[1]) == b'<ns0:m xmlns:ns0="jabber:client" a="1">t<ns0:n /></ns0:m>'


@pytest.mark.parametrize("bad", [b"<!-- x -->", b"<?x?>", b"<!DOCTYPE s>", b"<a></b>", b"&x;", b"<a>\xff</a>", b"\0"])
@pytest.mark.security(row=13)
def test_an_error_is_raised_by_read_events_behind_what_came_before(bad: bytes) -> None:
    parser = Parser()
    parser.feed(OPEN + b"<m/>" + bad)
    found = parser.read_events()
    assert [event for event, _ in itertools.islice(found, 3)] == ["start", "start", "end"]
    with pytest.raises(ET.ParseError) as error:
        next(found)
    assert error.value.position[1] >= len(OPEN + b"<m/>")
    assert error.value.code == 4
    parser.feed(b"<m/>")
    with pytest.raises(ET.ParseError):
        next(parser.read_events())


@pytest.mark.security(row=22)
def test_what_is_too_large_or_too_deep_is_refused() -> None:
    for bad in (b"<m>" + b"x" * 5_000_000, b"<m>" * 300, b"<m a='" + b"x" * 100_000):
        parser = Parser()
        parser.feed(OPEN + bad)
        with pytest.raises(ET.ParseError, match="policy-violation"):
            list(parser.read_events())


def test_the_limit_of_a_stanza_can_be_set() -> None:
    parser = Parser(max_stanza_bytes=1000)
    parser.feed(OPEN + b"<m>" + b"x" * 1000)
    with pytest.raises(ET.ParseError, match="policy-violation"):
        list(parser.read_events())


def test_feed_while_events_are_read() -> None:
    """As a handler may do that slixmpp calls."""
    parser = Parser()
    parser.feed(OPEN + b"<a/><b/>")
    tags = []
    for event, element in parser.read_events():
        tags.append(element.tag[-1])
        if (event, element.tag[-1]) == ("end", "a"):
            parser.feed(b"<c/>")
    assert tags == ["m", "a", "a", "b", "b", "c", "c"]


def test_close() -> None:
    parser = Parser()
    parser.feed(OPEN)
    with pytest.raises(ET.ParseError, match="no end"):
        parser.close()
    with pytest.raises(ValueError, match="after end"):
        parser.feed(b"<m/>")


def test_install_is_for_all_streams_and_can_be_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from slixmpp.xmlstream import XMLStream

    monkeypatch.setattr(XMLStream, "init_parser", XMLStream.init_parser)
    own = XMLStream.init_parser
    install()
    install(max_stanza_bytes=1000)
    assert XMLStream.init_parser.__wrapped__ is own  # type: ignore[attr-defined]
    stream = SimpleNamespace()
    XMLStream.init_parser(stream)  # type: ignore[arg-type]
    assert isinstance(stream.parser, Parser)
    assert (stream.xml_depth, stream.xml_root) == (0, None)


@pytest.mark.peers
async def test_slixmpp_with_it_logs_in_talks_and_resumes(tmp_path: Path) -> None:
    """STARTTLS and SASL begin streams anew; then roster, presence, messages of all sizes, and XEP-0198 on another connection."""
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("juliet@localhost/balcony") as juliet,
            slixmpp(running, "romeo/slixmpp", ca_file=running.ca_file, adapter=True) as peer,
        ):
            assert (await peer.next("session"))["jid"] == str(ROMEO)
            await peer.next("managed")
            await peer.do("set_roster", jid="juliet@localhost", name="Julia \u2665", groups=["Capulets & <more>"])
            await peer.next("done")
            await peer.do("get_roster")
            (item,) = (await peer.next("roster"))["items"]
            assert (item["name"], item["groups"]) == ("Julia \u2665", ["Capulets & <more>"])
            await peer.do("presence", to=str(juliet.jid), show="chat", status=TEXT)
            assert (await presence_of(juliet, ROMEO)).status == TEXT
            for body in (TEXT, "x" * 100_000, "\U0001f600" * 5000):
                await juliet.send_message(ROMEO, body)
                assert (await peer.next("message"))["body"] == body
            await peer.do("message", jid=str(juliet.jid), body=TEXT)
            assert (await next_of(juliet.messages())).body == TEXT
            await peer.do("cut")
            await peer.next("suspended")
            for number in range(20):
                await juliet.send_message(ROMEO, str(number))
            await peer.do("reconnect")
            await peer.next("resumed")
            assert [(await peer.next("message"))["body"] for _ in range(20)] == [str(n) for n in range(20)]

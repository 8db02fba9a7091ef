# SPDX-License-Identifier: Apache-2.0
"""StreamParser(builder=...): the same trees in every form, and the same that expat and libxml2 make of the stream themselves."""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import lxml.etree
import pytest
from hypothesis import given, settings

from _xmppcore.element import Element
from _xmppcore.errors import XmlError
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamClose, StreamOpen, StreamParser
from tests.core.test_element import trees
from tests.core.test_xml import long_stream
from tests.oracles import expat
from tests.shared import shared
from tests.streams import CLOSE, OPEN, URIS, Generator
from xiot.cli import corpora

LXML = lxml.etree._Element
BUILDERS = [Element, ET.Element, LXML]
builders = pytest.mark.parametrize("builder", BUILDERS)
Outcome = tuple[list[Any], tuple[str, int] | None]


def ours(node: Any) -> Element:
    """The tree of another library as one of ours."""
    if isinstance(node, Element):
        return node
    element = Element(node.tag, dict(node.attrib.items()), node.text, *map(ours, node))
    element.tail = node.tail
    return element


def read(builder: type, pieces: list[bytes], **limits: int) -> Outcome:
    """All events, stanzas as trees of ours, and the error."""
    parser = StreamParser(builder=builder, **limits)
    found: list[Any] = []
    try:
        for piece in (*pieces, b""):
            for event in parser.feed(piece):
                if isinstance(event, StreamOpen):
                    found.append(event.attrib)
                elif isinstance(event, StreamClose):
                    found.append("close")
                elif isinstance(event, Stanza):
                    found.append(event.element)
                else:
                    assert type(event) is builder
                    found.append(ours(event))
    except XmlError as error:
        return found, (error.condition, error.offset)
    return found, None


def octets(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def pulled(parser: Any, data: bytes) -> list[Element]:
    """The stanzas that a pull parser of another library makes of a whole stream, without what stands between them."""
    parser.feed(data)
    depth, found = 0, []
    for event, element in parser.read_events():
        depth += 1 if event == "start" else -1
        if event == "end" and depth == 1:
            found.append(ours(element))
            found[-1].tail = None
    return found


@builders
def test_every_split_gives_the_same_trees_as_stanzas_have(builder: type) -> None:
    data = long_stream()
    whole = read(Stanza, [data])
    assert len(whole[0]) == 9
    for cut in range(len(data)):
        assert read(builder, [data[:cut], data[cut:]]) == whole, cut
    assert read(builder, octets(data)) == whole


@builders
@pytest.mark.security(row=13)
def test_streams_and_mutants_give_the_same_trees_and_errors_as_stanzas(builder: type) -> None:
    stanzas = refused = 0
    for seed in range(250):
        generator = Generator(seed)
        stream = generator.stream()
        for data in (stream, generator.mutant(stream)):
            found, error = read(Stanza, [data])
            places = [0, *generator.splits(len(data), 4), len(data)]
            assert read(builder, [data[i:j] for i, j in itertools.pairwise(places)]) == (found, error), data
            stanzas += len(found)
            refused += error is not None
    assert stanzas > 1000
    assert refused > 100


@pytest.mark.security(row=13)
def test_trees_are_those_of_elementtree_and_lxml_reading_the_stream_themselves() -> None:
    compared = 0
    for seed in range(400):
        data = Generator(seed, URIS).stream().removeprefix(b"\xef\xbb\xbf").strip()
        if read(Stanza, [data])[1]:
            continue
        for builder, parser in (
            (ET.Element, ET.XMLPullParser(("start", "end"))),
            (LXML, lxml.etree.XMLPullParser(("start", "end"), huge_tree=True)),
        ):
            theirs = pulled(parser, data)
            assert read(builder, [data])[0][1:-1] == theirs, data
            compared += len(theirs)
    assert compared > 1500


@pytest.mark.parametrize("kind", corpora.KINDS)
def test_corpora(kind: str) -> None:
    corpus = corpora.make(kind, 60_000)
    theirs = expat.read(corpus.data).stanzas
    assert len(theirs) == corpus.stanzas
    pieces = [corpus.data[i : i + 1000] for i in range(0, len(corpus.data), 1000)]
    for builder in BUILDERS:
        assert read(builder, pieces)[0][1:-1] == theirs


def test_examples_of_the_specifications() -> None:
    stanzas = 0
    for file in sorted(shared("data/stanzas").glob("*.jsonl")):
        for line in file.read_text("utf-8").splitlines():
            data = OPEN + json.loads(line)["xml"].encode()
            lazy = read(Stanza, [data])
            stanzas += len(lazy[0])
            for builder in BUILDERS:
                assert read(builder, [data]) == lazy, data
    assert stanzas > 4000


@settings(max_examples=40)
@given(trees())
def test_any_tree_is_read_as_it_was_written(tree: Element) -> None:
    for builder in BUILDERS:
        assert read(builder, [OPEN + tree.tobytes("jabber:client") + CLOSE])[0][1] == tree


def lxml_stanzas(data: bytes) -> list[LXML]:
    return [event for event in StreamParser(builder=LXML).feed(data) if isinstance(event, LXML)]


def test_lxml_stanzas_are_documents_with_the_declarations_they_need() -> None:
    header = "<s:s xmlns='d&amp;&apos;&#10;&#xFC;&lt;' xmlns:s='t' xmlns:p='u'>"
    data = (
        header
        + "<m to='a'/> text <m><n p:b=''/></m><s:m xmlns:p='v' p:x=\"&#9; xmlns:s=''\"><p:n/><n/></s:m>more<m xmlns=''/>"
    )
    ns = b'xmlns="d&amp;\'&#10;&#252;&lt;"'
    stanzas = lxml_stanzas(data.encode() + b"<m xmlns='w'><p:n/></m>")
    assert [lxml.etree.tostring(stanza) for stanza in stanzas] == [
        b"<m " + ns + b' to="a"/>',
        b"<m " + ns + b' xmlns:s="t" xmlns:p="u"><n p:b=""/></m>',
        b"<s:m " + ns + b' xmlns:s="t" xmlns:p="v" p:x="&#9; xmlns:s=\'\'"><p:n/><n/></s:m>',
        b'<m xmlns=""/>',
        b'<m xmlns:s="t" xmlns:p="u" xmlns="w"><p:n/></m>',
    ]
    for stanza in stanzas:
        assert (stanza.getparent(), stanza.getprevious(), stanza.getnext(), stanza.tail) == (None, None, None, None)
        assert stanza.getroottree().getroot() is stanza


def test_lxml_takes_what_libxml2_alone_would_refuse() -> None:
    """A namespace that is no URI, and an xml:id that is no name: XML allows both."""
    data = OPEN + b"<m xmlns='{a}\"b' xml:id='1 2'/><m xmlns:p='&#xFC;&lt;'><p:x xml:id='1 2'/></m>"
    assert read(LXML, [data]) == read(Stanza, [data])
    assert len(lxml_stanzas(data)) == 2


def resident() -> int:
    """Bytes of memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps what is freed for a while"
)
@builders
def test_memory_has_a_bound_however_long_the_stream_is(builder: type) -> None:
    stanzas = 300_000 if os.environ.get("XIOT_SOAK") == "1" else 20_000
    parser = StreamParser(builder=builder)
    parser.feed(OPEN)
    # The header itself is inside of stanzas, too: nothing may be kept of these.
    chunk = (b"<p:m xmlns:p='u'>" + OPEN + b"<p:n>" + b"text " * 100 + b"</p:n></stream:stream></p:m> \n") * 100
    before = 0
    for fed in range(0, stanzas, 100):
        if fed == stanzas // 2:
            before = resident()
        assert len(parser.feed(chunk)) == 100
    assert resident() - before < 2_000_000  # what was fed meanwhile is 6 MB


@builders
def test_a_stream_that_begins_anew_has_its_own_declarations(builder: type) -> None:
    parser = StreamParser(builder=builder)
    tags = []
    for ns in (b"one", b"two", b""):
        _, *stanzas = parser.feed(b"<p:s xmlns='%s' xmlns:p='p-%s'><a><p:b/></a>" % (ns, ns))
        tags += [(tree.tag, tree[0].tag) for tree in map(ours, stanzas)]
        parser.reset()
    assert tags == [("{one}a", "{p-one}b"), ("{two}a", "{p-two}b"), ("a", "{p-}b")]


@builders
def test_elements_share_nothing_that_can_be_changed(builder: type) -> None:
    first, second = StreamParser(builder=builder).feed(OPEN + b"<m a='1'>t<n b='2'/></m>" * 2)[1:]
    first.attrib["a"] = "changed"
    first[0].set("b", "changed")
    first.append(first[0].__copy__())
    assert ours(second) == Element("{jabber:client}m", {"a": "1"}, "t", Element("{jabber:client}n", {"b": "2"}))


@builders
@pytest.mark.security(row=22)
def test_limits_hold(builder: type) -> None:
    for limits, stanza in (
        ({"max_depth": 4}, b"<a><b><c><d/></c></b></a>"),
        ({"max_attributes": 2}, b"<a b='' c='' d=''/>"),
        ({"max_namespaces": 2}, b"<a xmlns:b='u' xmlns:c='u' xmlns:d='u'/>"),
        ({"max_stanza_bytes": 200}, b"<a>" + b"x" * 200),
        ({"max_tag_bytes": 200}, b"<a b='" + b"x" * 200),
    ):
        found, error = read(builder, [b"<s xmlns='u'><good/>" + stanza], **limits)
        assert error is not None
        assert error[0] == "policy-violation"
        assert found[1:] == [Element("{u}good")]


@builders
def test_the_deepest_tree_that_limits_allow(builder: type) -> None:
    depth = 1023
    (tree,) = StreamParser(builder=builder, max_depth=1024).feed(OPEN + b"<a>" * depth + b"</a>" * depth)[1:]
    for _ in range(depth - 1):
        (tree,) = tree
    assert len(tree) == 0


@builders
def test_a_stanza_that_is_not_there_yet_is_not_built(builder: type) -> None:
    parser = StreamParser(builder=builder)
    parser.feed(OPEN)
    for byte in b"<m><b>x</b></m":
        assert parser.feed(bytes([byte])) == []
    assert len(parser.feed(b">")) == 1
    assert parser.pending_bytes == 0


@builders
def test_building_leaks_nothing(builder: type) -> None:
    parser = StreamParser(builder=builder)
    parser.feed(OPEN)
    chunk = b"<m to='a' p:q='r' xmlns:p='u' x='\xc3\xbc&amp;'>t<n>long enough text</n>tail<p:o/></m>" * 200
    seen = []
    for _ in range(6):
        assert len(parser.feed(chunk)) == 200
        gc.collect()
        seen.append(sys.getallocatedblocks())
    assert seen[-1] - seen[1] < 200


class NoElement(ET.Element):
    pass


@pytest.mark.parametrize("builder", ["etree", None, str, NoElement, lxml.etree.ElementBase, ET, Element("a")], ids=repr)
def test_other_builders_are_refused(builder: Any) -> None:
    with pytest.raises(TypeError, match="builder must be"):
        StreamParser(builder=builder)


def test_attributes_of_the_header() -> None:
    (event,) = StreamParser().feed(b"<p:s xmlns:p='u&amp;' p:x='&lt;' to=' a' other='\xc3\xbc' xml:lang='de' xmlns=''>")
    assert isinstance(event, StreamOpen)
    xml = "{http://www.w3.org/XML/1998/namespace}lang"
    assert event.attrib == {"{u&}x": "<", "to": " a", "other": "ü", xml: "de"}
    assert StreamParser().feed(b"<s/>")[0].attrib == {}  # type: ignore[union-attr]

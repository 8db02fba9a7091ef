# SPDX-License-Identifier: Apache-2.0
"""Stanza: the header read from the bytes as they came, the tree when asked for, bytes that mean the same elsewhere."""

from __future__ import annotations

import gc
import sys
from itertools import product
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore.element import Element
from _xmppcore.errors import XmlError
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamParser
from tests.oracles import expat
from tests.streams import NAMESPACES, Generator

XML_NS = "http://www.w3.org/XML/1998/namespace"
ROOT = (
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:o='urn:o&amp;1'"
    " xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='en'>"
)


def stanza(text: str, root: str = ROOT) -> Stanza:
    (event,) = StreamParser().feed((root + text).encode())[1:]
    assert isinstance(event, Stanza)
    return event


# ---- header ----


@pytest.mark.parametrize(("attribute", "field"), [("to", "to"), ("from", "from_"), ("id", "id"), ("type", "type")])
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'a@b/c'", "a@b/c"),
        ('"it\'s"', "it's"),
        ("''", ""),
        ("'日本@例え'", "日本@例え"),
        ("'&lt;&gt;&amp;&quot;&apos;'", "<>&\"'"),
        ("'&#x1F600;&#233;'", "\U0001f600é"),
        ("'a\tb\nc\r\nd\re'", "a b c d e"),
        ("'&#9;&#10;&#13;'", "\t\n\r"),
    ],
)
def test_attribute_is_decoded_as_xml_wants(attribute: str, field: str, written: str, value: str) -> None:
    for text in (f"<m {attribute}={written}/>", f"<m a='1'\n{attribute}\t=\r{written} b='2'><x {attribute}='no'/></m>"):
        assert getattr(stanza(text), field) == value
        assert stanza(text).element.get(attribute) == value


def test_attribute_that_is_absent_is_none() -> None:
    event = stanza(
        "<m too='1' xto='2' o:to='3' o:from='4' o:id='5' o:type='6'><x to='7' from='8' id='9' type='0'/></m>"
    )
    assert (event.to, event.from_, event.id, event.type) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "ns", "name"),
    [
        ("<message/>", "jabber:client", "message"),
        ("<a:message xmlns:a='jabber:server'/>", "jabber:server", "message"),
        ("<message xmlns='jabber:server'/>", "jabber:server", "message"),
        ("<message xmlns='a&#98;c&amp;'/>", "abc&", "message"),
        ("<message xmlns=''/>", "", "message"),
        ("<stream:features/>", "http://etherx.jabber.org/streams", "features"),
        ("<o:x/>", "urn:o&1", "x"),
        ("<o:x xmlns:o='inner'/>", "inner", "x"),
        ("<xml:x/>", XML_NS, "x"),
        ("<é xmlns='ü'/>", "ü", "é"),
    ],
)
def test_name_and_namespace(text: str, ns: str, name: str) -> None:
    event = stanza(text)
    assert (event.ns, event.name) == (ns, name)
    assert event.element.tag == (f"{{{ns}}}{name}" if ns else name)
    assert stanza(f"<m>{text}</m>").payload == (ns, name)


def test_namespace_without_one_around() -> None:
    assert (stanza("<m/>", "<s>").ns, stanza("<xml:m/>", "<s>").ns) == ("", XML_NS)


@pytest.mark.parametrize(
    ("text", "payload", "children"),
    [
        ("<iq/>", None, 0),
        ("<iq></iq>", None, 0),
        ("<iq> text </iq>", None, 0),
        ("<iq><![CDATA[<x/>]]></iq>", None, 0),
        ("<iq> <query xmlns='jabber:iq:roster'><item/></query>\n</iq>", ("jabber:iq:roster", "query"), 1),
        ("<iq><x/><y/><z><a/></z></iq>", ("jabber:client", "x"), 3),
        ("<iq xmlns='u'><x/></iq>", ("u", "x"), 1),
        ("<iq><x xmlns=''/></iq>", ("", "x"), 1),
        ("<iq xmlns:p='u'><p:x xmlns:p='v'/></iq>", ("v", "x"), 1),
        ("<iq xmlns:p='u'><y xmlns:p='v'/><p:x/></iq>", ("jabber:client", "y"), 2),
    ],
)
def test_payload_is_the_first_child(text: str, payload: tuple[str, str] | None, children: int) -> None:
    event = stanza(text)
    assert (event.payload, event.children) == (payload, children)


@pytest.mark.parametrize(
    ("root", "own", "lang"),
    [
        ("", "", None),
        (" xml:lang='en'", "", "en"),
        (" xml:lang='e&#110;'", "", "en"),
        (" xml:lang='en'", " xml:lang='de'", "de"),
        ("", " xml:lang='&#100;e'", "de"),
        (" xml:lang='en'", " xml:lang=''", ""),
        (" lang='en'", " lang='de'", None),
    ],
)
def test_language_is_the_stanzas_own_or_the_streams(root: str, own: str, lang: str | None) -> None:
    assert stanza(f"<m{own}><body xml:lang='fr'/></m>", f"<s{root}>").lang == lang


@pytest.mark.parametrize(
    "name", ["name", "ns", "to", "from_", "id", "type", "lang", "payload", "raw", "element", "other"]
)
def test_stanza_is_read_only(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(stanza("<m/>"), name, "x")


def test_repr_shows_the_header_and_no_content() -> None:
    event = stanza("<message to='a' type='chat' xml:lang='x'><body>secret</body></message>")
    assert repr(event) == f"<Stanza message to='a' type='chat', {len(event.raw)} bytes>"


# ---- tree ----


def e(tag: str, *children: Element, text: str | None = None, tail: str | None = None, **attrib: str) -> Element:
    element = Element(tag if tag[0] == "{" else f"{{jabber:client}}{tag}", attrib, text, *children)
    element.tail = tail
    return element


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("<m/>", e("m")),
        ("<m></m>", e("m")),
        ("<m>t</m>", e("m", text="t")),
        ("<m>1<a/>2<b>3</b>4</m>", e("m", e("a", tail="2"), e("b", text="3", tail="4"), text="1")),
        ("<m>a<![CDATA[<b>&amp;]]>c&lt;<![CDATA[]]>]]</m>", e("m", text="a<b>&amp;c<]]")),
        ("<m><![CDATA[]]></m>", e("m")),
        ("<m><a/><![CDATA[x]]>&#121;<![CDATA[z]]></m>", e("m", e("a", tail="xyz"))),
        ("<m><a/><![CDATA[]]></m>", e("m", e("a"))),
        ("<m>a\r\nb\rc&#13;&#10;d\n\r</m>", e("m", text="a\nb\nc\r\nd\n\n")),
        ("<m><![CDATA[a\r\nb\rc&#13;]]></m>", e("m", text="a\nb\nc&#13;")),
        ("<m>\r<![CDATA[\n]]></m>", e("m", text="\n\n")),
        ("<m a='1\r\n2\t&#9;'/>", e("m", a="1 2 \t")),
        ("<m xmlns='u'><a xmlns=''><b xmlns='v'/></a><c/></m>", Element("{u}m", None, None,
         Element("a", None, None, Element("{v}b")), Element("{u}c"))),
        ("<p:m xmlns:p='u'><p:a xmlns:p='v'><p:b/></p:a><p:c/><d/></p:m>", Element("{u}m", None, None,
         Element("{v}a", None, None, Element("{v}b")), Element("{u}c"), e("d"))),
        ("<m p:a='1' a='2' o:a='3' xml:a='4' xmlns:p='u&#33;'/>", e("m", **{"{u!}a": "1", "a": "2", "{urn:o&1}a": "3",
                                                                    f"{{{XML_NS}}}a": "4"})),
        ("<m xmlns:p='u'><a xmlns:p='v' p:x='1'/><b p:x='2'/></m>", e("m", e("a", **{"{v}x": "1"}), e("b", **{"{u}x": "2"}))),
        ("<m xmlnsx='1' xmln='2' x='3'/>", e("m", xmlnsx="1", xmln="2", x="3")),
        ("<abcde:m xmlns:abcde='u' abcde:xmlns='1'/>", Element("{u}m", {"{u}xmlns": "1"})),
    ],
)  # fmt: skip
def test_tree(text: str, tree: Element) -> None:
    event = stanza(text)
    assert event.element == tree
    assert expat.read((ROOT + text).encode()).stanzas == [tree]


@pytest.mark.parametrize("size", range(1, 10))
def test_short_names_and_values_are_not_mixed_up(size: int) -> None:
    """They are looked up in tables with one place for each hash value."""
    words = ["".join(letters) for letters in product("ab", repeat=size)]
    for _ in range(2):
        for i in range(0, len(words), 32):
            some = words[i : i + 32]
            tree = stanza("<m " + " ".join(f"{word}='{word}'" for word in some) + "/>").element
            assert tree.attrib == {word: word for word in some}


@pytest.mark.parametrize(
    "last", ["", "a", "z", "é", "ÿ", "Ā", "\u07ff", "\u0800", "日", "\ufffd", "\U00010000", "\U0010ffff"]
)
def test_text_of_every_width_is_an_ordinary_str(last: str) -> None:
    for front in ("", "ab", "abcdefgh", "é" * 3, "日本語", "\U0001f600" * 2, "é日\U0001f600"):
        text = front + last
        tree = stanza(f"<m a='{text}'>{text}<![CDATA[{text}]]><x/>{text}</m>").element
        assert (tree.get("a"), tree.text or "", tree[0].tail or "") == (text, text + text, text)
        for found in (tree.get("a"), tree[0].tail or ""):
            assert sys.getsizeof(found) == sys.getsizeof(text)  # as narrow as it can be


@pytest.mark.parametrize("children", [0, 1, 63, 64, 65, 5000])
def test_every_child_is_there_in_order(children: int) -> None:
    inside = "".join(f"<a n='{i}'><b/>{i}<c/></a>" for i in range(children))
    tree = stanza(f"<m>{inside}</m>").element
    assert [child.get("n") for child in tree] == [str(i) for i in range(children)]
    assert all([grandchild.tag for grandchild in child] == ["{jabber:client}b", "{jabber:client}c"] for child in tree)


def test_trees_leak_nothing() -> None:
    text = "<m a='a value longer than short ones'>" + "<x y='é'><z/>text é</x>" * 200 + "</m>"
    seen = []
    for _ in range(3):
        for _ in range(20):
            stanza(text).element  # noqa: B018
        gc.collect()
        seen.append(sys.getallocatedblocks())
    assert seen[2] - seen[1] < 100


def test_tree_is_built_once() -> None:
    event = stanza("<m><x/></m>")
    assert event.element is event.element


def test_changing_the_tree_changes_no_bytes() -> None:
    for text in ("<m><x/></m>", "<m o:a='1'><o:x/></m>"):
        event, other = stanza(text), stanza(text)
        event.element.set("b", "2")
        event.element.append(Element("y"))
        assert (event.raw, event.tobytes()) == (other.raw, other.tobytes())


def test_text_of_whitespace_is_kept() -> None:
    tree = stanza("<m> <a/>\n<b> </b>\t</m>").element
    assert (tree.text, tree[0].tail, tree[1].text, tree[1].tail) == (" ", "\n", " ", "\t")


# ---- bytes ----


@pytest.mark.parametrize(
    "text",
    [
        "<m/>",
        "<m to='a&amp;b' ><x xmlns='u'>t\r\n</x><![CDATA[x]]></m >",
        "<p:m xmlns:p='u'><p:x p:a='1'/></p:m>",
        "<o:m xmlns:o='inner'/>",
        "<m xml:lang='de'><x xml:space='preserve'/></m>",
    ],
)
def test_stanza_that_needs_no_outer_prefix_keeps_its_bytes(text: str) -> None:
    event = stanza(text, "<s xmlns='jabber:client' xmlns:o='urn:o'>")
    assert event.tobytes() is event.raw
    assert event.raw == text.encode()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<stream:error/>", "<error xmlns='http://etherx.jabber.org/streams'/>"),
        ("<m><o:x/></m>", "<m><x xmlns='urn:o&amp;1'/></m>"),
        ("<m o:a='1'/>", "<m xmlns:ns0='urn:o&amp;1' ns0:a='1'/>"),
        ("<m><x xmlns='u'><y o:a='&lt;' b='2'>t</y></x></m>",
         "<m><x xmlns='u'><y xmlns:ns0='urn:o&amp;1' ns0:a='&lt;' b='2'>t</y></x></m>"),
        ("<m xmlns:o='inner'><o:x/></m><m><o:y/></m>", None),
    ],
)  # fmt: skip
def test_outer_prefix_is_written_out(text: str, written: str | None) -> None:
    for event in StreamParser().feed((ROOT + text).encode())[1:]:
        assert isinstance(event, Stanza)
        if written is not None:
            assert event.tobytes() == written.encode()
            assert event.tobytes() != event.raw
        assert stanza(event.tobytes().decode(), "<s xmlns='jabber:client'>").element == event.element


def test_bytes_mean_the_same_under_another_stream_of_the_same_default_namespace() -> None:
    """Also where that stream declares the same prefixes otherwise."""
    elsewhere = "<s xmlns='jabber:client' xmlns:o='other' xmlns:stream='other' xml:lang='fr'>"
    for text in ("<stream:x o:a='1'><o:y/></stream:x>", "<m><x xmlns:o='inner'><o:y/></x></m>", "<m xml:lang='de'/>"):
        event = stanza(text)
        again = stanza(event.tobytes().decode(), elsewhere)
        assert (again.element, again.ns, again.payload) == (event.element, event.ns, event.payload)


WRITABLE = [ns for ns in NAMESPACES if "}" not in ns]


@given(st.integers(0, 2**32))
@pytest.mark.security(row=13, statement=59)
def test_what_is_written_reads_as_the_same_tree(seed: int) -> None:
    parser = StreamParser(max_attributes=1024)
    try:
        events = parser.feed(Generator(seed, WRITABLE).stream(4))
    except XmlError:
        return
    default_ns = events[0].default_ns if events else ""  # type: ignore[union-attr]
    around = f"<s xmlns={quoteattr(default_ns)}>".encode()
    for event in events:
        if isinstance(event, Stanza):
            for data in (event.tobytes(), event.element.tobytes(default_ns)):
                assert expat.read(around + data).stanzas == [event.element]


@given(
    values=st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(0x20)), "\ufffe", "\uffff"])
        ),
        min_size=4,
        max_size=4,
    )
)
def test_header_of_a_written_element_is_read_back(values: list[str]) -> None:
    attrib: dict[str, Any] = dict(zip(("to", "from", "id", "type"), values, strict=True))
    event = stanza(Element("{jabber:client}iq", attrib).tobytes("jabber:client").decode())
    assert [event.to, event.from_, event.id, event.type] == values

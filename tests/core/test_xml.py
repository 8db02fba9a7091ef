# SPDX-License-Identifier: Apache-2.0
"""StreamParser: bytes in, events out; the same events and the same error however the bytes are split."""

from __future__ import annotations

import gc
import itertools
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from _xmppcore import scan
from _xmppcore.element import Element
from _xmppcore.errors import XmlError
from _xmppcore.names import is_ncname
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamClose, StreamOpen, StreamParser, parse_element
from tests.oracles import expat, lxml
from tests.shared import CORE, PARSER, ROOT, compiler, fuzz_target
from tests.streams import CLOSE, OPEN, URIS, Generator

XML_NS = "http://www.w3.org/XML/1998/namespace"
XMLNS_NS = "http://www.w3.org/2000/xmlns/"
SLICE = 65536  # bytes that StreamParser takes at a time
WIDE: dict[str, Any] = {"max_attributes": 1024, "max_depth": 1024, "max_namespaces": 1024}

# An error inside a tag may be found when the tag ends, so whoever compares verdicts ends whatever is open.
TAIL = b"<<?>'\"'\""


def header(event: StreamOpen | Stanza | StreamClose) -> tuple[Any, ...]:
    """All that an event tells but its tree."""
    if isinstance(event, StreamOpen):
        about = (event.name, event.ns, event.version, event.lang, event.default_ns, tuple(event.prefixes.items()))
        return ("open", *about, event.to, event.from_, event.id)
    if isinstance(event, Stanza):
        fields = (event.name, event.ns, event.type, event.lang, event.payload, event.children, event.raw)
        return ("stanza", *fields, event.to, event.from_, event.id)
    return ("close",)


@dataclass
class Outcome:
    """What a parser made of its input: events, trees of the stanzas, (condition, offset) of the error."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    trees: list[Element] = field(default_factory=list)
    error: tuple[str, int] | None = None


def feed(parser: StreamParser, pieces: Iterable[bytes], trees: bool = True) -> Outcome:
    """Feed a new parser, and see that an error comes behind all events and that the parser is dead then."""
    outcome = Outcome()
    fed = 0
    for piece in (*pieces, b""):
        fed += len(piece)
        try:
            events = parser.feed(piece)
        except XmlError as error:
            outcome.error = error.condition, error.offset
            break
        outcome.events += map(header, events)
        if trees:
            outcome.trees += [event.element for event in events if isinstance(event, Stanza)]
    if outcome.error:
        assert outcome.error[1] <= fed
        assert parser.pending_bytes == 0
        for more in (b"", b"<more/>"):
            with pytest.raises(XmlError) as again:
                parser.feed(more)
            assert (again.value.condition, again.value.offset) == outcome.error
    return outcome


def parse(data: bytes, cuts: Iterable[int] = (), trees: bool = True, **options: Any) -> Outcome:
    places = [0, *cuts, len(data)]
    return feed(StreamParser(**options), (data[i:j] for i, j in itertools.pairwise(places)), trees)


def bytewise(data: bytes, **options: Any) -> Outcome:
    return parse(data, range(1, len(data)), **options)


def check_every_split(data: bytes, **options: Any) -> Outcome:
    """The outcome, which is the same for the whole, for single bytes, and for every split in two."""
    whole = parse(data, **options)
    assert bytewise(data, **options) == whole
    for cut in range(1, len(data)):
        assert parse(data, [cut], **options) == whole, cut
    return whole


# ---- what comes out ----


def test_stream_header() -> None:
    data = (
        b"<?xml version='1.0'?><stream:stream to='a&amp;b' from=\"c'd\" id='&#x1F600;' version='1.0' xml:lang='de'"
        b" xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:q='a&lt;b'>"
    )
    (event,) = StreamParser().feed(data)
    assert isinstance(event, StreamOpen)
    assert (event.name, event.ns) == ("stream", "http://etherx.jabber.org/streams")
    assert (event.to, event.from_, event.id, event.version, event.lang) == ("a&b", "c'd", "\U0001f600", "1.0", "de")
    assert event.default_ns == "jabber:client"
    assert event.prefixes == {"": "jabber:client", "stream": "http://etherx.jabber.org/streams", "q": "a<b"}


def test_header_without_attributes() -> None:
    (event,) = StreamParser().feed(b"<s>")
    assert header(event) == ("open", "s", "", None, None, "", (), None, None, None)


@pytest.mark.parametrize(
    ("data", "ns"),
    [
        ("<s xmlns='a&amp;b'>", "a&b"),
        ("<p:s xmlns:p='u' xmlns='v'>", "u"),
        ("<xml:s>", XML_NS),
        ("<s xmlns=''>", ""),
    ],
)
def test_namespace_of_the_root(data: str, ns: str) -> None:
    (event,) = StreamParser().feed(data.encode())
    assert isinstance(event, StreamOpen)
    assert (event.name, event.ns) == ("s", ns)


def test_events_in_order() -> None:
    parser = StreamParser()
    events = parser.feed(OPEN + b" <message/>\n<iq><x/></iq>" + CLOSE + b" \n")
    assert [type(event) for event in events] == [StreamOpen, Stanza, Stanza, StreamClose]
    assert [event.raw for event in events if isinstance(event, Stanza)] == [b"<message/>", b"<iq><x/></iq>"]
    assert parser.pending_bytes == 0


def test_root_that_is_an_empty_element_opens_and_closes() -> None:
    events = StreamParser().feed(b"<stream/>")
    assert [type(event) for event in events] == [StreamOpen, StreamClose]


def test_event_comes_with_the_last_byte_of_its_stanza() -> None:
    parser = StreamParser()
    parser.feed(OPEN)
    for byte in b"<m><b>x</b></m":
        assert parser.feed(bytes([byte])) == []
    assert len(parser.feed(b">")) == 1


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_any_buffer_is_input(make: Callable[[bytes], Any]) -> None:
    assert len(StreamParser().feed(make(OPEN + b"<m/>"))) == 2


def test_stanza_does_not_share_memory_with_the_input() -> None:
    data = bytearray(OPEN + b"<m>text</m>")
    events = StreamParser().feed(data)
    data[:] = bytes(len(data))
    assert isinstance(events[1], Stanza)
    assert events[1].raw == b"<m>text</m>"


@pytest.mark.parametrize("data", ["text", None, memoryview(b"abcd")[::2]])
def test_what_is_no_buffer_is_refused(data: Any) -> None:
    with pytest.raises((TypeError, BufferError)):
        StreamParser().feed(data)


@pytest.mark.parametrize(
    "option",
    [
        {"max_stanza_bytes": 63}, {"max_tag_bytes": 63}, {"max_depth": 1}, {"max_depth": 1025}, {"max_attributes": 0},
        {"max_attributes": 1025}, {"max_namespaces": 0}, {"max_namespaces": 1025}, {"kernel": "none-such"}, {"max_depth": -1},
    ],
    ids=str,
)  # fmt: skip
def test_limit_out_of_range_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        StreamParser(**option)


def test_events_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError):
        StreamOpen()
    with pytest.raises(TypeError):
        Stanza()


# ---- the same for every split ----


def long_stream() -> bytes:
    """A stream of about 2 KB that uses whatever XML has for streams."""
    return (
        "\ufeff<?xml version=\"1.0\" encoding='utf-8' standalone = 'yes' ?>\r\n"
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:r='urn:r&amp;1'\n"
        "\tto='example.org' version='1.0' xml:lang='en' id=\"a'b&quot;&#x1F600;\" >"
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features> \r\n"
        "<message to='juliet@example.org/日本' from='romeo@example.net' id='m1' type='chat' xml:lang='de'>"
        "<body>Grüße \U0001f600 &lt;&amp;&gt;&quot;&apos; ]] &#65;&#x42; ] &#13;\r\n done</body>"
        "<active xmlns='http://jabber.org/protocol/chatstates'/></message>"
        "text between &amp; stanzas <![CDATA[ <even> this ]]> ]]"
        "<iq type='get' id='&#49;' to = \"a&quot;b\"><query xmlns='jabber:iq:roster' r:ver=''><r:x r:y='1'/></query ></iq\n>"
        "<presence/><presence ></presence>"
        "<a:message xmlns:a='jabber:client' a:x='>' b:x='/>' xmlns:b='urn:b'><![CDATA[]]]]><![CDATA[>&amp;<x>]]]>\r\r\n"
        "<a:thread><x xmlns='&#x75;' é='ß'><ü/></x></a:thread></a:message>"
        "<message><data xmlns='urn:xmpp:data' long='" + "0123456789abcdef" * 12 + "'>" + "text " * 150 + "</data>"
        "<very-long-element-name.with_all-sorts0></very-long-element-name.with_all-sorts0></message>"
        "</stream:stream\t> \n"
    ).encode()


@pytest.mark.parametrize("kernel", scan.kernels())
def test_every_split_of_a_stream_gives_the_same_events(kernel: str) -> None:
    data = long_stream()
    assert 1900 < len(data) < 2300
    outcome = check_every_split(data, kernel=kernel)
    assert outcome.error is None
    assert [event[:2] for event in outcome.events] == [
        ("open", "stream"), ("stanza", "features"), ("stanza", "message"), ("stanza", "iq"), ("stanza", "presence"),
        ("stanza", "presence"), ("stanza", "message"), ("stanza", "message"), ("close",),
    ]  # fmt: skip
    assert outcome == parse(data)


# Streams with an error: input, condition, what the error's offset is behind. OPEN stands in front unless the input has a root.
BAD: dict[str, tuple[str, str, str]] = {
    # the XML declaration
    "declaration without version": ("<?xml ?><s/>", "not-well-formed", "<?xml "),
    "declaration that starts with encoding": ("<?xml encoding='utf-8'?><s/>", "not-well-formed", "<?xml "),
    "version 2": ("<?xml version='2.0'?><s/>", "not-well-formed", "<?xml version='"),
    "version without digits": ("<?xml version='1.'?><s/>", "not-well-formed", "<?xml version='"),
    "no white space in a declaration": ("<?xml version='1.0'encoding='utf-8'?><s/>", "not-well-formed", "<?xml version='1.0'"),
    "unquoted version": ("<?xml version=1.0?><s/>", "not-well-formed", "<?xml version="),
    "declaration ended inside a value": ("<?xml version='1.0?><s/>", "not-well-formed", "<?xml version='1.0?"),
    "wrong order": ("<?xml version='1.0' standalone='no' encoding='utf-8'?><s/>", "not-well-formed",
                    "<?xml version='1.0' standalone='no' "),
    "bad standalone": ("<?xml version='1.0' standalone='maybe'?><s/>", "not-well-formed", "<?xml version='1.0' standalone='"),
    "misspelt encoding": ("<?xml version='1.0' encodinf='utf-8'?><s/>", "not-well-formed", "<?xml version='1.0' "),
    "two declarations": ("<?xml version='1.0'?><?xml version='1.0'?><s/>", "not-well-formed", "<?xml version='1.0'?>"),
    "declaration behind white space": (" <?xml version='1.0'?><s/>", "not-well-formed", " "),
    "declaration in capitals": ("<?XML version='1.0'?><s/>", "not-well-formed", ""),
    "question mark alone": ("<?xml version='1.0'?<s/>", "not-well-formed", "<?xml version='1.0'?"),
    "other encoding": ("<?xml version='1.0' encoding='ISO-8859-1'?><s/>", "unsupported-encoding",
                       "<?xml version='1.0' encoding='"),
    "utf-16 declared": ("<?xml version='1.0' encoding='UTF-16'?><s/>", "unsupported-encoding", "<?xml version='1.0' encoding='"),
    # around the root
    "text before the root": ("x<s/>", "not-well-formed", ""),
    "reference before the root": ("&amp;<s/>", "not-well-formed", ""),
    "byte order mark twice": ("\ufeff\ufeff<s/>", "not-well-formed", "\ufeff"),
    "byte order mark behind white space": (" \ufeff<s/>", "not-well-formed", " "),
    "end tag before the root": ("</s>", "not-well-formed", "<"),
    "character data section before the root": ("<![CDATA[x]]><s/>", "not-well-formed", ""),
    "document type": ("<!DOCTYPE s><s/>", "restricted-xml", ""),
    "document type with entities": ("<?xml version='1.0'?><!DOCTYPE s [<!ENTITY a 'b'>]><s>&a;</s>", "restricted-xml",
                                    "<?xml version='1.0'?>"),
    "comment before the root": (" <!-- x --><s/>", "restricted-xml", " "),
    "instruction before the root": ("<?php x?><s/>", "restricted-xml", ""),
    "text behind the root": ("<s></s>x", "not-well-formed", "<s></s>"),
    "second root": ("<s/><s/>", "not-well-formed", "<s/><"),
    "second end tag": ("<s></s></s>", "not-well-formed", "<s></s><"),
    "comment behind the root": ("<s/><!---->", "restricted-xml", "<s/>"),
    "instruction behind the root": ("<s/><?x?>", "restricted-xml", "<s/>"),
    "other root closed": ("<p:s xmlns:p='u'></s>", "not-well-formed", "<p:s xmlns:p='u'></"),
    # names and tags
    "digit starts a name": ("<1/>", "not-well-formed", "<"),
    "blank in front of a name": ("< m/>", "not-well-formed", "<"),
    "no name": ("<>", "not-well-formed", "<"),
    "colon first": ("<:m/>", "not-well-formed", "<"),
    "colon last": ("<m:/>", "not-well-formed", "<m:"),
    "two colons": ("<p:m:n xmlns:p='u'/>", "not-well-formed", "<p:m"),
    "times sign in a name": ("<m×/>", "not-well-formed", "<m"),
    "times sign starts a name": ("<×/>", "not-well-formed", "<"),
    "middle dot starts a name": ("<·m/>", "not-well-formed", "<"),
    "lone slash": ("<m/ >", "not-well-formed", "<m/"),
    "tag inside a tag": ("<m <n/>", "not-well-formed", "<m "),
    "text inside a tag": ("<m 'x'>", "not-well-formed", "<m "),
    "attribute without value": ("<m a>", "not-well-formed", "<m a"),
    "attribute without quotes": ("<m a=1>", "not-well-formed", "<m a="),
    "no blank between attributes": ("<m a='1'b='2'/>", "not-well-formed", "<m a='1'"),
    "less-than in a value": ("<m a='<'/>", "not-well-formed", "<m a='"),
    "control in a value": ("<m a='\x01'/>", "not-well-formed", "<m a='"),
    "ampersand in a value": ("<m a='&'/>", "not-well-formed", "<m a='&"),
    "undefined entity in a value": ("<m a='x&foo;'/>", "restricted-xml", "<m a='x"),
    "attribute twice": ("<m a='1' b='' a='2'/>", "not-well-formed", "<m a='1' b='' "),
    "long attribute twice": ("<m abcdefghi='1' abcdefghj='' abcdefghi='2'/>", "not-well-formed", "<m abcdefghi='1' abcdefghj='' "),
    "wrong end tag": ("<m><n></m></n>", "not-well-formed", "<m><n></"),
    "end tag with a longer name": ("<message></messages>", "not-well-formed", "<message></"),
    "end tag with another long name": ("<message-1></message-2>", "not-well-formed", "<message-1></"),
    "end tag with another prefix": ("<p:m xmlns:p='u' xmlns:q='u'></q:m>", "not-well-formed", "<p:m xmlns:p='u' xmlns:q='u'></"),
    "attribute in an end tag": ("<m></m a=''>", "not-well-formed", "<m></m "),
    "empty end tag": ("<m></>", "not-well-formed", "<m></"),
    "slash in an end tag": ("<m></m/>", "not-well-formed", "<m></m"),
    # namespaces
    "unbound prefix of an element": ("<p:m/>", "not-well-formed", "<"),
    "unbound prefix of an attribute": ("<m p:a=''/>", "not-well-formed", "<m "),
    "prefix of a sibling": ("<m><x xmlns:p='u'/><p:y/></m>", "not-well-formed", "<m><x xmlns:p='u'/><"),
    "prefix of a sibling with content": ("<m><x xmlns:p='u'></x><y p:a=''/></m>", "not-well-formed", "<m><x xmlns:p='u'></x><y "),
    "prefix of an earlier stanza": ("<m xmlns:p='u'/><p:m/>", "not-well-formed", "<m xmlns:p='u'/><"),
    "prefix undeclared": ("<m xmlns:p=''/>", "not-well-formed", "<m "),
    "xml bound to another namespace": ("<m xmlns:xml='u'/>", "not-well-formed", "<m "),
    "xml namespace under another prefix": (f"<m xmlns:p='{XML_NS}'/>", "not-well-formed", "<m "),
    "xml namespace by references": (f"<m xmlns:p='{XML_NS.replace('X', '&#' + '0' * 900 + '88;')}'/>", "not-well-formed", "<m "),
    "xml namespace as default": (f"<m xmlns='{XML_NS}'/>", "not-well-formed", "<m "),
    "xmlns declared": (f"<m xmlns:xmlns='{XMLNS_NS}'/>", "not-well-formed", "<m "),
    "xmlns namespace": (f"<m xmlns='{XMLNS_NS}'/>", "not-well-formed", "<m "),
    "xmlns as an element's prefix": ("<xmlns:m/>", "not-well-formed", "<"),
    "attribute twice by namespace": ("<m p:a='' q:a='' xmlns:p='u' xmlns:q='u'/>", "not-well-formed", "<m p:a='' "),
    "twice by a coded namespace": ("<m xmlns:p='ué' xmlns:q='u&#xE9;' a='' p:a='' q:a=''/>", "not-well-formed",
                                   "<m xmlns:p='ué' xmlns:q='u&#xE9;' a='' p:a='' "),
    "twice by an outer and an inner prefix": ("<m xmlns:p='http://etherx.jabber.org/streams' stream:a='' p:a=''/>",
                                              "not-well-formed",
                                              "<m xmlns:p='http://etherx.jabber.org/streams' stream:a='' "),
    "twice by two outer prefixes": ("<s xmlns:p='u' xmlns:q='&#117;'><m p:a='' q:a=''/>", "not-well-formed",
                                    "<s xmlns:p='u' xmlns:q='&#117;'><m p:a='' "),
    # content
    "end of a section in text": ("<m>]]></m>", "not-well-formed", "<m>"),
    "end of a section after brackets": ("<m>]]]]]></m>", "not-well-formed", "<m>]]]"),
    "end of a section between stanzas": ("]]>", "not-well-formed", ""),
    "control in text": ("<m>a\x02b</m>", "not-well-formed", "<m>a"),
    "null in text": ("<m>a\0b</m>", "not-well-formed", "<m>a"),
    "null between stanzas": ("<m/>\0", "not-well-formed", "<m/>"),
    "null in a section": ("<m><![CDATA[a\0b]]></m>", "not-well-formed", "<m><![CDATA[a"),
    "control in a section": ("<m><![CDATA[a\x1fb]]></m>", "not-well-formed", "<m><![CDATA[a"),
    "bare ampersand": ("<m>a & b</m>", "not-well-formed", "<m>a &"),
    "reference without semicolon": ("<m>&amp </m>", "not-well-formed", "<m>&amp"),
    "reference in capitals": ("<m>&LT;</m>", "restricted-xml", "<m>"),
    "undefined entity": ("<m>x&nbsp;</m>", "restricted-xml", "<m>x"),
    "undefined entity beyond ASCII": ("<m>x&ü;</m>", "restricted-xml", "<m>x"),
    "undefined entity between stanzas": ("&nbsp;", "restricted-xml", ""),
    "entity with a colon": ("<m>&a:b;</m>", "not-well-formed", "<m>&a"),
    "reference to null": ("<m>&#0;</m>", "not-well-formed", "<m>"),
    "reference to a control": ("<m>&#x1F;</m>", "not-well-formed", "<m>"),
    "reference to a surrogate": ("<m>&#xD800;</m>", "not-well-formed", "<m>"),
    "reference to U+FFFE": ("<m>&#xFFFE;</m>", "not-well-formed", "<m>"),
    "reference beyond Unicode": ("<m>&#x110000;</m>", "not-well-formed", "<m>"),
    "reference that overflows": ("<m>&#4294967361;</m>", "not-well-formed", "<m>"),
    "reference that overflows 64 bits": ("<m>&#x10000000000000041;</m>", "not-well-formed", "<m>"),
    "reference without digits": ("<m>&#;</m>", "not-well-formed", "<m>&#"),
    "hexadecimal digits in a decimal reference": ("<m>&#4A;</m>", "not-well-formed", "<m>&#4"),
    "capital X": ("<m>&#X41;</m>", "not-well-formed", "<m>&#"),
    "comment": ("<m><!-- x --></m>", "restricted-xml", "<m>"),
    "comment between stanzas": ("<m/><!-- x -->", "restricted-xml", "<m/>"),
    "half a comment": ("<m><!-x></m>", "not-well-formed", "<m>"),
    "instruction": ("<m><?target?></m>", "restricted-xml", "<m>"),
    "instruction without target": ("<m><? x?></m>", "not-well-formed", "<m><?"),
    "declaration inside a stanza": ("<m><?xml version='1.0'?></m>", "not-well-formed", "<m>"),
    "declaration between stanzas": ("<?xml version='1.0' ?>", "not-well-formed", ""),
    "document type inside": ("<m><!DOCTYPE x></m>", "restricted-xml", "<m>"),
    "document type in small letters": ("<m><!doctype x></m>", "not-well-formed", "<m>"),
    "entity declaration inside": ("<m><!ENTITY x></m>", "not-well-formed", "<m>"),
    "half a section": ("<m><![CDATX[x]]></m>", "not-well-formed", "<m>"),
    "section in small letters": ("<m><![cdata[x]]></m>", "not-well-formed", "<m>"),
}  # fmt: skip

ROOTED = re.compile(
    r"\s*(\ufeff|<\?xml|<\?XML|<s\b|<p:s\b|x<s|&amp;<s|</s>|<!\[CDATA\[x\]\]><s|<!DOCTYPE s|<!-- x --><s|<\?php)"
)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.security(row=(1, 2, 8), statement=(16, 17))
def test_error_has_its_condition_and_offset_for_every_split(name: str) -> None:
    text, condition, before = BAD[name]
    front = b"" if ROOTED.match(text) and name != "declaration between stanzas" else OPEN + b"<iq/>"
    outcome = check_every_split(front + text.encode() + TAIL)
    assert outcome.error == (condition, len(front + before.encode()))


@pytest.mark.parametrize("seed", range(60))
def test_random_splits_of_random_streams_and_mutants(seed: int) -> None:
    generator = Generator(seed)
    stream = generator.stream()
    limits: list[dict[str, Any]] = [
        {},
        {"max_stanza_bytes": 100},
        {"max_tag_bytes": 64},
        {"max_depth": 3, "max_attributes": 2, "max_namespaces": 1},
    ]
    for data in (stream, *(generator.mutant(stream) for _ in range(20))):
        options = generator.random.choice(limits)
        options = {**options, "text_between": generator.random.random() < 0.8}
        data += TAIL
        whole = parse(data, **options)
        assert bytewise(data, **options) == whole
        for kernel in scan.kernels():
            cuts = generator.splits(len(data), generator.random.choice([2, 3, 10, 100]))
            assert parse(data, cuts, kernel=kernel, **options) == whole, (data, cuts, options)


# ---- encodings ----

INVALID = {
    "lone continuation byte": b"\x80", "overlong slash": b"\xc0\xaf", "overlong of two bytes": b"\xc1\xbf",
    "overlong of three bytes": b"\xe0\x9f\xbf", "overlong of four bytes": b"\xf0\x8f\xbf\xbf", "high surrogate": b"\xed\xa0\x80",
    "low surrogate": b"\xed\xbf\xbf", "U+FFFE": b"\xef\xbf\xbe", "U+FFFF": b"\xef\xbf\xbf", "U+110000": b"\xf4\x90\x80\x80",
    "no lead byte": b"\xff", "five bytes": b"\xf8\x88\x80\x80\x80", "two bytes cut": b"\xc3", "three bytes cut": b"\xe2\x82",
    "four bytes cut": b"\xf0\x9f\x98",
}  # fmt: skip
PLACES = {
    "before the root": (b"", b"<s/>"),
    "in an element name": (OPEN + b"<m", b"/>"),
    "in an attribute name": (OPEN + b"<m a", b"='1'/>"),
    "in a value": (OPEN + b"<m a='x", b"'/>"),
    "in a value, after an error": (OPEN + b"<m a='<", b"'/>"),
    "in a prefix": (OPEN + b"<m xmlns:p", b"='u'/>"),
    "in an end tag": (OPEN + b"<m></m", b">"),
    "in text": (OPEN + b"<m>text", b"</m>"),
    "in an entity name": (OPEN + b"<m>&a", b";</m>"),
    "in a section": (OPEN + b"<m><![CDATA[x", b"]]></m>"),
    "between stanzas": (OPEN + b"<m/>", b"<m/>"),
    "behind the root": (OPEN + CLOSE, b""),
    "in the declaration": (b"<?xml version='1.0", b"'?><s/>"),
    "after half a document type": (b"<!DOC", b"TYPE><s/>"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", INVALID)
@pytest.mark.security(row=11, statement=14)
def test_invalid_utf8_is_refused_where_it_stands(name: str, place: str) -> None:
    before, after = PLACES[place]
    data = before + INVALID[name] + after + TAIL
    whole = parse(data)
    if place == "in a value, after an error":
        assert whole.error == ("not-well-formed", len(before) - 1)
    else:
        assert whole.error == ("unsupported-encoding", len(before))
    for cut in range(len(before) - 3 if before else 0, len(data)):
        assert parse(data, [cut]) == whole
    assert bytewise(data) == whole


@pytest.mark.parametrize("character", ["é", "日", "\U0001f600"])
def test_character_cut_in_two_is_no_error(character: str) -> None:
    data = OPEN + f"<m a='{character}'>{character}<![CDATA[{character}]]></m>".encode()
    assert check_every_split(data).error is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.security(row=11, statement=14)
def test_other_encodings_are_refused_at_once(encoding: str) -> None:
    data = "<?xml version='1.0'?><s/>".encode(encoding)
    assert check_every_split(data).error in [
        ("unsupported-encoding", 0),
        ("not-well-formed", 0),
        ("not-well-formed", 1),
    ]


@pytest.mark.parametrize("name", ["utf-8", "UTF-8", "Utf-8"])
def test_utf8_may_be_declared_in_any_case(name: str) -> None:
    assert check_every_split(f"<?xml version='1.0' encoding='{name}'?><s/>".encode()).error is None


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.security(statement=15)
def test_byte_order_mark_is_skipped_at_the_start_only(mark: bytes) -> None:
    outcome = check_every_split(mark + OPEN + b"<m>\xef\xbb\xbf</m>")
    assert outcome.error is None
    assert outcome.trees[0].text == "\ufeff"


# ---- limits: n is accepted, n + 1 is not ----


@pytest.mark.parametrize("n", [64, 200])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"<m>" + b"x" * (n - 7) + b"</m>",
        lambda n: b"<m>" + "é".encode() * ((n - 7) // 2) + b"x" * ((n - 7) % 2) + b"</m>",
        lambda n: b"<m><![CDATA[" + b"x" * (n - 19) + b"]]></m>",
        lambda n: b"<m>" + b"<a/>" * ((n - 7) // 4) + b"x" * ((n - 7) % 4) + b"</m>",
        lambda n: b"<m></m" + b" " * (n - 7) + b">",
        lambda n: b"<m a='" + b"v" * (n - 9) + b"'/>",
        lambda n: b"<m>" + b"&amp;" * ((n - 7) // 5) + b"x" * ((n - 7) % 5) + b"</m>",
    ],
    ids=["text", "two-byte text", "section", "children", "end tag", "empty element", "references"],
)
def test_stanza_limit(make: Callable[[int], bytes], n: int) -> None:
    good, bad = make(n), make(n + 1)
    assert (len(good), len(bad)) == (n, n + 1)
    assert check_every_split(OPEN + good + good, max_stanza_bytes=max(n, len(OPEN)), max_tag_bytes=65536).error is None
    if n >= len(OPEN):
        outcome = check_every_split(OPEN + good + bad + TAIL, max_stanza_bytes=n)
        assert outcome.error == ("policy-violation", len(OPEN + good) + n)
        assert len(outcome.events) == 2
    else:
        outcome = check_every_split(b"<s>" + good + bad + TAIL, max_stanza_bytes=n)
        assert outcome.error == ("policy-violation", len(b"<s>" + good) + n)


@pytest.mark.parametrize(
    ("before", "make", "after"),
    [
        (b"", lambda n: b"<s a='" + b"v" * (n - 8) + b"'>", b"<m/>"),
        (b"", lambda n: b"<?xml version='1.0'" + b" " * (n - 21) + b"?>", b"<s/>"),
        (b"<s>", lambda n: b"<m a='" + b"v" * (n - 9) + b"'/>", b""),
        (b"<s><m>", lambda n: b"<" + b"m" * (n - 3) + b"/>", b"</m>"),
        (b"<s><m>", lambda n: b"<m a='" + b"&lt;" * ((n - 8) // 4) + b"v" * ((n - 8) % 4) + b"'>", b"</m></m>"),
        (b"<s><m>", lambda n: b"</m" + b"\n" * (n - 4) + b">", b""),
        (b"<s>" + b"<" + b"m" * 60 + b">", lambda n: b"</" + b"m" * 60 + b" " * (n - 63) + b">", b""),
        (b"<s>", lambda n: b"</s" + b" " * (n - 4) + b">", b""),
        (b"<s><m>", lambda n: b"&#" + b"0" * (n - 5) + b"65;", b"</m>"),
        (b"<s>", lambda n: b"&#x" + b"0" * (n - 6) + b"41;", b"<m/>"),
    ],
    ids=[
        "root",
        "declaration",
        "stanza",
        "long name",
        "value",
        "end",
        "long end",
        "root's end",
        "reference",
        "between",
    ],
)
@pytest.mark.parametrize("n", [64, 100])
def test_tag_limit(before: bytes, make: Callable[[int], bytes], after: bytes, n: int) -> None:
    good, bad = make(n), make(n + 1)
    assert (len(good), len(bad)) == (n, n + 1)
    assert check_every_split(before + good + after, max_tag_bytes=n).error is None
    assert check_every_split(before + bad + after + TAIL, max_tag_bytes=n).error == (
        "policy-violation",
        len(before) + n,
    )


def test_end_tag_counts_too() -> None:
    data = b"<s><" + b"m" * 62 + b"></" + b"m" * 62 + b">"
    assert check_every_split(data + TAIL, max_tag_bytes=64).error == ("policy-violation", 3 + 64 + 64)


def test_smaller_of_two_limits_counts() -> None:
    data = OPEN + b"<m><x a='" + b"v" * 200 + TAIL
    for stanza, tag, offset in [(150, 146, 149), (150, 148, 150), (150, 147, 150)]:
        outcome = check_every_split(data, max_stanza_bytes=stanza, max_tag_bytes=tag)
        assert outcome.error == ("policy-violation", len(OPEN) + offset)


def test_error_before_the_limit_wins_and_after_it_does_not() -> None:
    for n, error in [(2, ("not-well-formed", 7)), (61, ("not-well-formed", 66)), (62, ("policy-violation", 67))]:
        data = b"<s><m" + b" " * n + b"*" + b" " * 100 + b">" + TAIL
        assert check_every_split(data, max_tag_bytes=64).error == error


def test_error_that_needs_bytes_behind_the_limit_does_not_win() -> None:
    data = b"<s><m>" + b"x" * (64 - 3 - 4) + b"&bogus;</m>" + TAIL
    assert check_every_split(data, max_stanza_bytes=64).error == ("policy-violation", 3 + 64)
    data = b"<s><m>" + b"x" * (64 - 3 - 7) + b"&bogus;</m>" + TAIL
    assert check_every_split(data, max_stanza_bytes=64).error == ("restricted-xml", 3 + 64 - 7)
    for n in range(10):
        data = b"<s><m>" + b"x" * (64 - 3 - n) + b"<![CDATX[" + TAIL
        expected = ("not-well-formed", 3 + 64 - n) if n >= 8 else ("policy-violation", 3 + 64)
        assert check_every_split(data, max_stanza_bytes=64).error == expected


def test_depth_limit() -> None:
    for depth in (2, 3, 64):
        nested = b"<a>" * (depth - 2) + b"<a/>" + b"</a>" * (depth - 2)
        assert check_every_split(b"<s>" + nested, max_depth=depth).error is None
        nested = b"<a>" * (depth - 1) + b"<b/>"
        outcome = check_every_split(b"<s>" + nested + TAIL, max_depth=depth)
        assert outcome.error == ("policy-violation", 3 + 3 * (depth - 1))


@pytest.mark.security(row=5)
def test_a_million_open_elements_are_refused_at_the_limit() -> None:
    assert parse(b"<a>" * 1_000_000).error == ("policy-violation", 3 * 64)


def test_attribute_limit() -> None:
    for n in (1, 2, 64):
        tag = b"<m" + b"".join(b" a%d=''" % i for i in range(n))
        assert check_every_split(b"<s>" + tag + b"/>", max_attributes=n).error is None
        outcome = check_every_split(b"<s>" + tag + b" more='1'/>" + TAIL, max_attributes=n)
        assert outcome.error == ("policy-violation", 3 + len(tag) + 1)


def test_attribute_over_the_limit_is_judged_by_its_whole_name() -> None:
    assert check_every_split(b"<s><m a='' b::c=''/>" + TAIL, max_attributes=1).error == ("not-well-formed", 13)


def test_namespace_limit_counts_declarations_in_force() -> None:
    declared = b" xmlns:a='1' xmlns:b='2'"
    assert check_every_split(b"<s><m" + declared + b"><x/></m><m" + declared + b"/>", max_namespaces=2).error is None
    siblings = b"<m>" + b"<x xmlns:a='1' xmlns:b='2'/>" * 3 + b"<x xmlns='3'><y xmlns='4'/></x></m>"
    assert check_every_split(b"<s>" + siblings, max_namespaces=2).error is None
    outcome = check_every_split(b"<s><m" + declared + b"><x xmlns='3'/></m>" + TAIL, max_namespaces=2)
    assert outcome.error == ("policy-violation", 5 + len(declared) + 4)
    outcome = check_every_split(b"<s" + declared + b" xmlns='3'>" + TAIL, max_namespaces=2)
    assert outcome.error == ("policy-violation", 2 + len(declared) + 1)


@pytest.mark.security(statement=61)
def test_stanza_of_ten_thousand_bytes_is_accepted_by_default() -> None:
    assert parse(OPEN + b"<m>" + b"x" * 9993 + b"</m>").error is None


# ---- behaviour ----


def test_error_comes_behind_the_events_before_it() -> None:
    parser = StreamParser()
    assert len(parser.feed(OPEN + b"<m/><m/>&bogus;")) == 3
    with pytest.raises(XmlError) as error:
        parser.feed(b"")
    assert (error.value.condition, error.value.offset) == ("restricted-xml", len(OPEN) + 8)


def test_error_without_events_before_it_is_raised_at_once() -> None:
    parser = StreamParser()
    parser.feed(OPEN)
    with pytest.raises(XmlError):
        parser.feed(b"&bogus;")


def test_each_error_is_a_new_exception() -> None:
    parser = StreamParser()
    caught = []
    for _ in range(3):
        with pytest.raises(XmlError) as error:
            parser.feed(b"x")
        caught.append(error.value)
    assert len({id(error) for error in caught}) == 3
    depths = []
    for exception in caught:
        depth, traceback = 0, exception.__traceback__
        while traceback:
            depth, traceback = depth + 1, traceback.tb_next
        depths.append(depth)
    assert len(set(depths)) == 1  # a traceback that grew would hold every caller's frame


@pytest.mark.parametrize("fed", [b"", b"<", OPEN, OPEN + b"<m><x", OPEN + b"<m>&am", OPEN + CLOSE, b"bad"])
def test_reset_expects_a_new_header(fed: bytes) -> None:
    parser = StreamParser()
    try:
        parser.feed(fed)
    except XmlError:
        assert fed == b"bad"
    parser.reset()
    assert parser.pending_bytes == 0
    outcome = feed(parser, [long_stream() + b"&"])
    assert outcome == parse(long_stream() + b"&")


def test_stanza_outlives_its_parser_and_a_reset() -> None:
    parser = StreamParser()
    stanza = parser.feed(b"<s xmlns='u' xmlns:p='v'><p:m p:a='1'><x/></p:m>")[1]
    parser.reset()
    parser.feed(b"<t xmlns='w'><n/>")
    del parser
    gc.collect()
    assert isinstance(stanza, Stanza)
    assert stanza.element == Element("{v}m", {"{v}a": "1"}, None, Element("{u}x"))
    assert stanza.ns == "v"


@pytest.mark.parametrize("text", ["x", "&amp;", "&bogus;", "]", "é", "\x7f", "<![CDATA[x]]>", "<![CDATA[]]>"])
def test_text_between_stanzas_can_be_refused(text: str) -> None:
    data = OPEN + b"<m/> \n" + text.encode() + b"<m/>"
    if text != "&bogus;":
        assert check_every_split(data).error is None
    assert check_every_split(data + TAIL, text_between=False).error == ("bad-format", len(OPEN) + 6)


def test_white_space_between_stanzas_is_never_refused() -> None:
    outcome = check_every_split(OPEN + b" <m> </m>\n\r\n\t<m/> " + CLOSE + b"\n ", text_between=False)
    assert outcome.error is None
    assert len(outcome.events) == 4


def test_pending_bytes_count_what_belongs_to_no_event_yet() -> None:
    parser = StreamParser()
    for data, pending in [
        (b"<s", 2),
        (b">", 0),
        (b" \n", 0),
        (b"<m>", 3),
        (b"text", 7),
        (b"</m", 10),
        (b">", 0),
        (b"te", 0),
    ]:
        parser.feed(data)
        assert parser.pending_bytes == pending


@pytest.mark.parametrize("piece", [1000, 4096, SLICE, 3 * SLICE, 10**7])
@pytest.mark.security(row=6)
def test_memory_is_bounded_by_the_stanza_limit(piece: int) -> None:
    limit = 100_000
    endless = OPEN + b"<m>" + b"text" * 2_000_000
    parser = StreamParser(max_stanza_bytes=limit)

    def feed_all() -> None:
        for i in range(0, len(endless), piece):
            parser.feed(endless[i : i + piece])
            assert parser.pending_bytes <= limit + SLICE
        parser.feed(b"")

    with pytest.raises(XmlError) as error:
        feed_all()
    assert (error.value.condition, error.value.offset) == ("policy-violation", len(OPEN) + limit)


@pytest.mark.parametrize("junk", [b" ", b"text", b"<![CDATA[x]]>", b"<m/>"])
def test_nothing_is_kept_of_what_is_over(junk: bytes) -> None:
    parser = StreamParser()
    parser.feed(OPEN)
    for _ in range(200):
        parser.feed(junk * 1000)
        assert parser.pending_bytes == 0


def test_stanza_larger_than_a_slice_and_many_in_one_call() -> None:
    body = b"x" * 3 * SLICE
    events = StreamParser().feed(OPEN + (b"<m>" + body + b"</m>") * 5)
    assert [len(event.raw) for event in events if isinstance(event, Stanza)] == [len(body) + 7] * 5


def test_tree_survives_a_finalizer_that_builds_another() -> None:
    """The garbage collector may run whatever it likes while a tree is built."""
    stream = b"<s xmlns:p='u'>" + b"<p:m a='1' p:b='2'>" + b"<p:x c='3'>t</p:x>" * 40 + b"</p:m>"
    other = b"<s><n xmlns='v' xmlns:q='w' q:z='0'>" + b"<y q:z='9'/>" * 5 + b"</n>"
    expected = StreamParser().feed(stream)[1]
    assert isinstance(expected, Stanza)

    class Builder:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            event = StreamParser().feed(other)[1]
            assert isinstance(event, Stanza)
            assert len(event.element) == 5

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(20):
            Builder()
            event = StreamParser().feed(stream)[1]
            assert isinstance(event, Stanza)
            assert event.element == expected.element
            assert gc.isenabled()
    finally:
        gc.set_threshold(*threshold)


# ---- cost: linear in the input, however it is split ----


def stream_of(make: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda n: b"<s xmlns:p='u'>" + make(n)


def many_prefixed(n: int) -> bytes:
    prefixes = b" ".join(b"xmlns:n%d='%d'" % (i, i) for i in range(60))
    return b"<m " + prefixes + b">" + (b"<m " + b" ".join(b"n%d:a=''" % i for i in range(60)) + b"/>") * (n // 500)


COSTLY: dict[str, Callable[[int], bytes]] = {
    "value": stream_of(lambda n: b"<m a='" + b"x" * n + b"'/>"),
    "unfinished value": stream_of(lambda n: b"<m a='" + b"x" * n),
    "angles in a value": stream_of(lambda n: b"<m a='" + b">" * n),
    "references in a value": stream_of(lambda n: b"<m a='" + b"&amp;" * (n // 5) + b"'/>"),
    "quotes": stream_of(lambda n: b"<m " + b"\"'" * (n // 2)),
    "name": stream_of(lambda n: b"<" + b"x" * n + b"/>"),
    "name beyond ASCII": stream_of(lambda n: b"<" + "é".encode() * (n // 2) + b"/>"),
    "attribute's name": stream_of(lambda n: b"<m " + b"x" * n + b"=''/>"),
    "colons": stream_of(lambda n: b"<a" + b":" * n),
    "blanks in a tag": stream_of(lambda n: b"<m" + b" " * n + b"/>"),
    "blanks in an end tag": stream_of(lambda n: b"<m></m" + b" " * n + b">"),
    "end tag": stream_of(lambda n: b"<" + b"x" * (n // 2) + b"></" + b"x" * (n // 2) + b">"),
    "text": stream_of(lambda n: b"<m>" + b"x" * n),
    "text beyond ASCII": stream_of(lambda n: b"<m>" + "日".encode() * (n // 3)),
    "brackets": stream_of(lambda n: b"<m>" + b"]" * n),
    "references": stream_of(lambda n: b"<m>" + b"&#65;" * (n // 5)),
    "long reference": stream_of(lambda n: b"<m>&#" + b"0" * n),
    "long entity": stream_of(lambda n: b"<m>&" + b"a" * n),
    "section": stream_of(lambda n: b"<m><![CDATA[" + b"x" * n),
    "brackets in a section": stream_of(lambda n: b"<m><![CDATA[" + b"]" * n),
    "sections": stream_of(lambda n: b"<m>" + b"<![CDATA[]]>" * (n // 12)),
    "instruction": stream_of(lambda n: b"<?" + b"x" * n),
    "between stanzas": stream_of(lambda n: b" " * (n // 2) + b"x" * (n // 2)),
    "stanzas": stream_of(lambda n: b"<m/>" * (n // 4)),
    "elements": stream_of(lambda n: b"<m>" + b"<a/>" * (n // 4)),
    "depth": stream_of(lambda n: (b"<a>" * 60 + b"</a>" * 60) * (n // 420)),
    "attributes": stream_of(lambda n: (b"<m " + b" ".join(b"a%d=''" % i for i in range(64)) + b"/>") * (n // 400)),
    "attributes of as many namespaces": stream_of(many_prefixed),
    "blanks in the declaration": lambda n: b"<?xml version='1.0'" + b" " * n + b"?><s/>",
    "version": lambda n: b"<?xml version='1." + b"0" * n + b"'?><s/>",
    "declaration of a document type": lambda n: (
        b"<?xml version='1.0'?><!DOCTYPE s [" + b"<!ENTITY a 'aaa'>" * (n // 17)
    ),
    "entities in a value": stream_of(lambda n: b"<m a='" + b"&lol;" * (n // 5) + b"'/>"),
    "entities": stream_of(lambda n: b"<m>" + b"&lol;" * (n // 5)),
    "prefixes": stream_of(lambda n: b"<m>" + b"<p:a p:b=''/>" * (n // 13)),
    "angles in the declaration": lambda n: b"<?xml version='1.0" + b">" * n,
}


@pytest.fixture(scope="session")
def count_steps(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes, int], int]:
    """Branches taken by the C parser for a stream fed in pieces, counted by the compiler's own instrumentation."""
    folder = tmp_path_factory.mktemp("steps")
    compile_ = partial(subprocess.run, cwd=folder, check=True)
    flags = ["-O1", "-std=gnu11", f"-I{CORE}"]
    cc = compiler()
    compile_([cc, *flags, "-fsanitize-coverage=trace-pc", "-c", *(CORE / f"{name}.c" for name in PARSER)])
    compile_([cc, *flags, ROOT / "tests/fuzz/steps_xml.c", *(f"{name}.o" for name in PARSER), "-o", "steps"])

    def count(data: bytes, piece: int) -> int:
        (folder / "input").write_bytes(data)
        return int(subprocess.check_output([folder / "steps", folder / "input", str(piece)]))

    return count


@pytest.mark.parametrize("name", COSTLY)
@pytest.mark.security(row=(1, 2, 4, 7, 8))
def test_steps_are_linear_in_the_input_for_every_size_of_pieces(
    name: str, count_steps: Callable[[bytes, int], int]
) -> None:
    n = 100_000
    once, twice = COSTLY[name](n), COSTLY[name](2 * n)
    for piece, most in [(1, 130), (1000, 100), (len(twice), 100)]:
        steps = count_steps(twice, piece)
        assert steps <= most * len(twice)
        assert steps <= 2.1 * count_steps(once, piece) + 1000


@pytest.mark.security(row=7)
def test_long_namespaces_are_compared_once_for_all_pairs_of_attributes(
    count_steps: Callable[[bytes, int], int],
) -> None:
    """Names that differ only at their ends, coded so that each comparison has to decode them."""
    declared = b" ".join(b"xmlns:n%d='%s&#48;%02d'" % (i, b"x" * 2000, i) for i in range(60))
    tag = b"<m " + b" ".join(b"n%d:a=''" % i for i in range(60)) + b"/>"
    data = b"<s><m " + declared + b">" + tag * 200 + b"</m>"
    assert count_steps(data, 4096) <= 600 * len(data)


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.security(row=4)
def test_attribute_of_a_megabyte_costs_no_more_than_stanzas(piece: int) -> None:
    """CVE-2023-52425: the Python face, too, does no work twice."""
    n = 500_000
    options: dict[str, Any] = {"max_stanza_bytes": 1 << 24, "max_tag_bytes": 1 << 24}

    def cost(data: bytes) -> float:
        parser = StreamParser(**options)
        pieces = [data[i : i + piece] for i in range(0, len(data), piece)]
        start = time.process_time()
        for data in pieces:
            parser.feed(data)
        return time.process_time() - start

    stanzas = min(cost(OPEN + b"<m/>" * (n // 4)) for _ in range(3))
    value = min(cost(OPEN + b"<m a='" + b"v" * n + b"'/>") for _ in range(3))
    assert value < 3 * stanzas + 0.05


def test_tree_of_many_sections_is_linear() -> None:
    def cost(n: int) -> float:
        (_, stanza) = StreamParser(max_stanza_bytes=1 << 26).feed(
            OPEN + b"<m>" + b"<![CDATA[0123456789ab]]>" * n + b"</m>"
        )
        assert isinstance(stanza, Stanza)
        start = time.process_time()
        assert len(stanza.element.text or "") == 12 * n
        return time.process_time() - start

    once = min(cost(20_000) for _ in range(3))
    assert min(cost(80_000) for _ in range(3)) < 8 * once + 0.02


# ---- second opinions ----

# Declarations that expat does not look at: a version that is not 1.x, an encoding other than the one it is told.
LAX = re.compile(
    rb"(\xef\xbb\xbf)?<\?xml\s+version\s*=\s*"
    rb"((['\"])(?!1\.[0-9]+\3)|(['\"])1\.[0-9]+\4\s*encoding\s*=\s*(['\"])(?!(?i:utf-8)\5))"
)


def compare_with_expat(data: bytes) -> str:
    """Our verdict is expat's plus restricted XML, with the same events before it. Returns what was compared."""
    data += TAIL
    ours = parse(data, **WIDE)
    theirs = expat.read(data)
    if ours.error and ours.error[0] == "restricted-xml":
        at = ours.error[1]
        assert data[at:].startswith((b"<!--", b"<!DOCTYPE", b"<?", b"&"))
        assert theirs.error or not data[at:].startswith(b"&")
        theirs = expat.read(data[:at])
        theirs.error = "restricted"
    opened = [event for event in ours.events if event[0] == "open"]
    closed = [event for event in ours.events if event[0] == "close"]
    counts = bool(ours.error), len(opened), len(ours.trees), len(closed)
    if counts != (bool(theirs.error), int(theirs.root is not None), len(theirs.stanzas), int(theirs.closed)):
        if LAX.match(data) and ours.error:
            return "declaration"
        # Names: the fourth edition has fewer characters.
        assert theirs.error
        assert data[theirs.error_at] >= 0x80, (data, ours.error, theirs)
        return "edition"
    assert ours.trees == theirs.stanzas, data
    for tree, (_, name, ns, type_, _, payload, children, _, to, from_, id_) in zip(
        ours.trees, (event for event in ours.events if event[0] == "stanza"), strict=True
    ):
        assert (ns, name, children) == (tree.ns, tree.name, len(tree))
        assert (to, from_, id_, type_) == tuple(tree.get(key) for key in ("to", "from", "id", "type"))
        assert payload == ((tree[0].ns, tree[0].name) if len(tree) else None)
    if theirs.root:
        tag, attrib = theirs.root
        _, name, ns, version, lang, _, _, to, from_, id_ = opened[0]
        assert tag == (f"{{{ns}}}{name}" if ns else name)
        assert (to, from_, id_, version) == tuple(attrib.get(key) for key in ("to", "from", "id", "version"))
        assert (lang or "") == attrib.get(f"{{{XML_NS}}}lang", "")
    return ours.error[0] if ours.error else "none"


@pytest.mark.security(row=13)
def test_mutants_get_expats_verdict_plus_restricted_xml() -> None:
    """XIOT_MUTANTS says how many: a million before a release."""
    count = int(os.environ.get("XIOT_MUTANTS", "8000"))
    seen: dict[str, int] = {}
    for seed in range(count // 8):
        generator = Generator(seed)
        stream = generator.stream(2)
        for data in (stream, *(generator.mutant(stream) for _ in range(7))):
            result = compare_with_expat(data)
            seen[result] = seen.get(result, 0) + 1
    assert set(seen) <= {"none", "not-well-formed", "restricted-xml", "unsupported-encoding", "declaration", "edition"}
    assert seen["restricted-xml"] > count / 200
    assert seen.get("edition", 0) < count / 100
    assert seen.get("declaration", 0) < count / 100


@pytest.mark.parametrize("name", BAD)
def test_expat_refuses_what_we_call_not_well_formed(name: str) -> None:
    text, condition, _ = BAD[name]
    front = b"" if ROOTED.match(text) and name != "declaration between stanzas" else OPEN
    result = compare_with_expat(front + text.encode())
    assert result in (condition, "declaration")


@pytest.mark.security(row=13)
def test_trees_are_those_of_expat_and_lxml() -> None:
    compared = 0
    for seed in range(300):
        data = Generator(seed, URIS).stream()
        ours = parse(data, **WIDE)
        if ours.error:
            continue
        theirs = lxml.read(data.removeprefix(b"\xef\xbb\xbf").strip())
        assert theirs is not None
        assert expat.read(data).stanzas == ours.trees
        stanzas = list(theirs)
        for stanza in stanzas:
            stanza.tail = None
        assert stanzas == ours.trees, data
        compared += len(stanzas)
    assert compared > 600


def name_borders() -> list[int]:
    """Code points at which XML 1.0 fifth edition changes its mind about names, and some between."""
    changes = [c for c in range(0x80, 0x110000) if is_ncname("a" + chr(c)) != is_ncname("a" + chr(c - 1))]
    changes += [c for c in range(0x80, 0x110000) if is_ncname(chr(c)) != is_ncname(chr(c - 1))]
    near = {c + d for c in changes for d in (-1, 0, 1)} | {Random(5).randrange(0x80, 0x110000) for _ in range(500)}
    return sorted(c for c in near if 0x80 <= c < 0x110000 and not 0xD800 <= c < 0xE000 and c not in (0xFFFE, 0xFFFF))


def test_names_are_those_of_the_fifth_edition() -> None:
    for code in name_borders():
        for name in (chr(code), "a" + chr(code)):
            for text in (f"<s><{name}/></s>", f"<s><x {name}=''/></s>", f"<s xmlns:{name}='u'><{name}:x/></s>"):
                data = text.encode()
                good = parse(data, trees=False).error is None
                assert good == is_ncname(name), hex(code)
                assert good == (lxml.read(data) is not None), hex(code)


# ---- parse_element ----


@pytest.mark.parametrize(
    ("data", "tree"),
    [
        (b"<a/>", Element("{d}a")),
        ("<ü>é</ü>", Element("{d}ü", None, "é")),
        (b" \n<a xmlns='u'><b x='&lt;'/>t</a> ", Element("{u}a", None, None, Element("{u}b", {"x": "<"}))),
        (b"<a xmlns=''/>", Element("a")),
        (b"<p:a xmlns:p='u'><b/></p:a>", Element("{u}a", None, None, Element("{d}b"))),
    ],
)
def test_parse_element(data: bytes | str, tree: Element) -> None:
    if len(tree) and tree[0].get("x"):
        tree[0].tail = "t"
    assert parse_element(data, "d") == tree


def test_parse_element_without_a_namespace_around() -> None:
    assert parse_element(b"<a/>") == Element("a")


@pytest.mark.parametrize(
    ("data", "condition", "offset"),
    [
        (b"", "bad-format", 0), (b" ", "bad-format", 1), (b"x", "bad-format", 0), (b"<a/><b/>", "bad-format", 8),
        (b"<a/>x", "bad-format", 4), (b"<a>", "bad-format", 0), (b"</a>", "not-well-formed", 2), (b"<p:a/>", "not-well-formed", 1),
        (b"<?xml version='1.0'?><a/>", "not-well-formed", 0), (b"<!-- --><a/>", "restricted-xml", 0),
        (b"<a>\xff</a>", "unsupported-encoding", 3), (b"<a/>&x;", "bad-format", 4),
    ],
)  # fmt: skip
def test_parse_element_refuses(data: bytes, condition: str, offset: int) -> None:
    with pytest.raises(XmlError) as error:
        parse_element(data)
    assert (error.value.condition, error.value.offset) == (condition, offset)


@pytest.mark.security(row=22)
def test_parse_element_has_limits() -> None:
    nested = b"<a>" * 5 + b"</a>" * 5
    assert parse_element(nested, max_depth=5).tag == "a"
    limits: list[dict[str, Any]] = [{"max_depth": 4}, {"max_bytes": 64}, {"max_attributes": 2}]
    for options in limits:
        with pytest.raises(XmlError) as error:
            parse_element(b"<a><a><a><a><a x='' y='' z=''/></a></a></a>" + b" " * 40 + b"</a>", **options)
        assert error.value.condition == "policy-violation"


@pytest.mark.security(row=12)
def test_namespace_with_a_null_is_refused() -> None:
    with pytest.raises(ValueError):
        parse_element(b"<a/>", "u\0")


def test_libexpat_reads_the_same_under_sanitizers(tmp_path: Path) -> None:
    """What tests/fuzz/fuzz_expat.c compares, with random streams and mutants of them, and with what fuzzing has found."""
    program = fuzz_target("expat", PARSER, tmp_path, "-lexpat")
    inputs = sorted((ROOT / "tests/fuzz/corpus/xml").iterdir())
    for seed in range(150):
        generator = Generator(seed, URIS)
        stream = generator.stream(2)
        for i, data in enumerate((stream, *(generator.mutant(stream) for _ in range(3)))):
            inputs.append(tmp_path / f"{seed}.{i}")
            inputs[-1].write_bytes(data)
    report = subprocess.run([program, *inputs], capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr
    assert report.stdout == f"{len(inputs)} inputs passed\n"


@pytest.mark.security(row=(9, 10))
def test_fuzz_corpus_passes_under_the_sanitizers(tmp_path: Path) -> None:
    """tests/fuzz/fuzz_xml.c over its seeds: whole against split, in C, with every read checked."""
    program = fuzz_target("xml", PARSER, tmp_path)
    seeds = sorted((ROOT / "tests/fuzz/corpus/xml").iterdir())
    assert len(seeds) > 40
    report = subprocess.run([program, *seeds], capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr
    assert report.stdout == f"{len(seeds)} inputs passed\n"

# SPDX-License-Identifier: Apache-2.0
"""Router and Link: what is routed without Python, what comes out of it, and that order, limits and lifetimes hold."""

from __future__ import annotations

import gc
import re
import subprocess
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _xmppcore import JID, Audience, Element, Link, Router, Stanza, StreamClose, StreamOpen, StreamParser, XmlError
from tests.shared import PARSER, fuzz_target

CLIENT, STREAMS = "jabber:client", "http://etherx.jabber.org/streams"
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
A, B, C = "a@x.example/phone", "b@x.example/desk", "c@x.example/1"
HEADROOM = 4096

Event = StreamOpen | Stanza | StreamClose | XmlError | Link


def header(lang: str | None = "en", ns: str = CLIENT, more: str = "") -> bytes:
    language = f" xml:lang='{lang}'" if lang is not None else ""
    return f"<?xml version='1.0'?><stream:stream xmlns='{ns}' xmlns:stream='{STREAMS}'{language}{more} version='1.0'>".encode()


def receive(link: Link, data: bytes) -> list[Event]:
    """Feed `data` and return all events; the link's own sender is named once for each slow stanza."""
    buffer = link.router.buffer
    buffer[: len(data)] = data
    events: list[Event] = []
    event = link.feed(len(data))
    while event is not None:
        events.append(event)
        if isinstance(event, XmlError):
            break
        event = link.feed()
    return events


def receive_split(link: Link, data: bytes, cuts: Iterable[int]) -> list[Event]:
    places = [0, *sorted(cuts), len(data)]
    return [event for start, end in pairwise(places) for event in receive(link, data[start:end])]


def online(router: Router, jid: str, opening: bytes | None = None, owner: Any = None) -> Link:
    link = router.link(owner)
    link.restart(logged_in=True)
    assert [type(event) for event in receive(link, header() if opening is None else opening)] == [StreamOpen]
    link.bind(JID(jid))
    return link


def take(link: Link) -> bytes:
    """What is queued, which is sent then."""
    data = b"".join(link.out.buffers(100_000))
    link.out.sent(len(data))
    return data


def parsed(data: bytes, opening: bytes | None = None) -> list[Element]:
    """The stanzas that the peer of a link reads in `data`."""
    events = StreamParser().feed((header() if opening is None else opening) + data)
    return [event.element for event in events if isinstance(event, Stanza)]


def describe(event: Event) -> tuple[Any, ...]:
    if isinstance(event, StreamOpen):
        return "open", event.lang, event.default_ns
    if isinstance(event, Stanza):
        return "stanza", event.raw, event.name, event.to, event.from_, event.lang
    if isinstance(event, XmlError):
        return "error", event.condition, event.offset
    return (type(event).__name__,)


# ---- stamping ----


SENDERS = [A, 'a@x.example/it\'s <here> & "there"', "a@x.example/é日本", "x.example/component"]


FROM_FORMS = [
    " from='{}'", ' from="{}"', "\n\tfrom \r\n=\t'{}'", " from= \"{}\"  ",
]  # fmt: skip
PLACES = [
    "<message{} to='%s' type='chat'>",
    "<message to='%s'{} type='chat'>",
    "<message to=\"%s\" type='chat'{}>",
    "<message\n to='%s'{}\n>",
]


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.security(row=53, statement=56)
def test_stanza_without_from_is_stamped_with_the_full_jid(sender: str) -> None:
    router = Router()
    a, b = online(router, sender), online(router, B)
    stanza = f"<message to='{B}' id='1'><body>hi &amp; bye</body></message>".encode()
    assert receive(a, stanza) == []
    [out] = parsed(take(b))
    [expected] = parsed(stanza)
    expected.set("from", sender)
    assert out == expected
    assert (a.stanzas, router.routed) == (1, 1)


OWN_FROMS = [
    form.format(own)
    for form in FROM_FORMS
    for own in (A, "a@x.example", "d@x.example/it's", 'd@x.example/say "x"')
    if form.count("'") * own.count("'") == 0 == form.count('"') * own.count('"')
]


@pytest.mark.parametrize("own", OWN_FROMS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.security(row=53, statement=56)
def test_own_full_or_bare_from_is_replaced_wherever_it_stands(own: str, place: str) -> None:
    router = Router()
    full = next((jid for jid in ("d@x.example/it's", 'd@x.example/say "x"') if jid in own), A)
    a, b = online(router, full), online(router, B)
    stanza = (place % B).replace("{}", own) + "<body>1</body></message>"
    assert receive(a, stanza.encode()) == []
    [out] = parsed(take(b))
    [expected] = parsed(stanza.encode())
    expected.set("from", full)
    assert out == expected


@pytest.mark.parametrize(
    "from_",
    [
        "b@x.example",
        B,
        "x.example",
        "",
        "a@x.example/",
        "a@x.example/phone2",
        "a@x.example/phon",
        "A@x.example/phone",
        "&#97;@x.example",
    ],
)
@pytest.mark.security(row=53)
def test_any_other_from_goes_to_python(from_: str) -> None:
    """RFC 6120 section 8.1.2.1. Also those that are ours when prepared or decoded: Python decides."""
    router = Router()
    a, b = online(router, A), online(router, B)
    [stanza] = receive(a, f"<message from='{from_}' to='{B}'/>".encode())
    assert isinstance(stanza, Stanza)
    assert stanza.from_ == from_.replace("&#97;", "a")
    assert take(b) == b""


def test_attribute_that_only_ends_in_from_is_left() -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    assert receive(a, f"<message xmlns:p='u' p:from='z' xfrom='y' to='{B}'/>".encode()) == []
    [out] = parsed(take(b))
    assert out.attrib == {"{u}from": "z", "xfrom": "y", "to": B, "from": A}


# ---- languages ----


@pytest.mark.parametrize(
    ("mine", "theirs", "own", "seen"),
    [
        ("en", "en", None, "en"),
        ("en", "de", None, "en"),
        ("en", None, None, "en"),
        ("en", "de", "fr", "fr"),
        ("en", "de", "", ""),
        ("en", "EN", None, "en"),
        ("x&quot;y", "de", None, 'x"y'),
    ],
)
@pytest.mark.security(statement=58)
def test_language_is_the_same_at_the_other_end(mine: str, theirs: str | None, own: str | None, seen: str) -> None:
    """RFC 6120 section 8.1.5: without xml:lang a stanza is in the language of its stream."""
    router = Router()
    a, b = online(router, A, header(mine)), online(router, B, header(theirs))
    attribute = "" if own is None else f" xml:lang='{own}'"
    assert receive(a, f"<message to='{B}' from='{A}'{attribute}><body/></message>".encode()) == []
    [stanza] = StreamParser().feed(header(theirs) + take(b))[1:]
    assert isinstance(stanza, Stanza)
    assert (stanza.lang, stanza.from_) == (seen, A)


@pytest.mark.parametrize("lang", ["d&apos;e", "a&amp;b", "a&lt;b", "a&#10;b", "a&#9;b"])
def test_language_that_needs_quoting_goes_to_python(lang: str) -> None:
    router = Router()
    a = online(router, A, header(lang))
    online(router, B)
    assert [type(event) for event in receive(a, f"<message to='{B}'/>".encode())] == [Stanza]


# ---- routed here, or not ----

ROUTED = [
    "<message to='{}'/>",
    "<message to='{}' type='error' id=''><error type='cancel'/></message>",
    '<message id="1" to="{}"><body>]] &gt; &#x1F600; <![CDATA[<x>]]></body></message>',
    "<message to='{}'><p:x xmlns:p='u' p:a='1' xml:space='preserve'/></message>",
    "<message to='{}' xmlns:p='u' p:a='1'><p:x/></message>",
    "<iq to='{}' type='get' id='1'><q xmlns='u'/></iq>",
    "<iq to='{}' type='set' id='1'><q xmlns='u'/></iq>",
    "<message to='{}'><x><stanza-id xmlns='urn:xmpp:sid:0'/></x><stanza-id2/><origin-id xmlns='urn:xmpp:sid:0'/></message>",
    "<iq to='{}' type='result' id='1'/>",
    "<iq to='{}' type='result' id='1'><q xmlns='u'/></iq>",
    "<iq to='{}' type='error' id='1'><error/></iq>",
    "<iq to='{}' type='error' id='1'><q xmlns='u'/><error/></iq>",
]
PYTHON = [
    "<presence to='{}'/>",
    "<message/>",
    "<r xmlns='urn:xmpp:sm:3'/>",
    "<message xmlns='jabber:client' to='{}'/>",
    "<message xmlns='u' to='{}'/>",
    "<message xmlns='' to='{}'/>",
    "<p:message xmlns:p='jabber:client' to='{}'/>",
    "<stream:message to='{}'/>",
    "<Message to='{}'/>",
    "<message to='{}'><stream:x/></message>",
    "<message to='{}'><x stream:a='1'/></message>",
    "<message to='{}' stream:a='1'/>",
    "<message to='{}'><body/><stanza-id xmlns='urn:xmpp:sid:0'/></message>",
    "<message to='{}'><p:stanza-id xmlns:p='urn:xmpp:si&#100;:0'/></message>",
    "<message to='{}' id='&#49;'/>",
    "<message to='{}' type='ch&#97;t'/>",
    "<iq to='{}' type='get'><q xmlns='u'/></iq>",
    "<iq to='{}' id='1'><q xmlns='u'/></iq>",
    "<iq to='{}' type='get' id='1'/>",
    "<iq to='{}' type='set' id='1'>text</iq>",
    "<iq to='{}' type='get' id='1'><q/><q/></iq>",
    "<iq to='{}' type='result' id='1'><q/><q/></iq>",
    "<iq to='{}' type='error' id='1'/>",
    "<iq to='{}' type='GET' id='1'><q/></iq>",
    "<iq to='{}' type='' id='1'><q/></iq>",
]


@pytest.mark.parametrize("stanza", ROUTED)
@pytest.mark.security(statement=59)
def test_is_routed_without_python(stanza: str) -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    raw = stanza.format(B).encode()
    assert receive(a, raw) == []
    [out] = parsed(take(b))
    [expected] = parsed(raw)
    expected.set("from", A)
    assert out == expected


@pytest.mark.parametrize("stanza", PYTHON)
def test_goes_to_python(stanza: str) -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    raw = stanza.format(B).encode()
    [event] = receive(a, raw)
    assert isinstance(event, Stanza)
    assert event.raw == raw
    assert (take(b), router.take_dirty(), router.routed) == (b"", [], 0)


@pytest.mark.parametrize(
    "to",
    [
        "b@x.example",
        "x.example",
        "b@x.example/other",
        "b@x.example/",
        "/",
        "",
        "&#98;@x.example/desk",
        "b@é.example/desk",
        "b@x.example/" + "r" * 4000,
    ],
)
def test_other_addresses_go_to_python(to: str) -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    assert [type(event) for event in receive(a, f"<message to='{to}'/>".encode())] == [Stanza]
    assert take(b) == b""


@pytest.mark.parametrize("to", ["B@X.Example/desk", "b@x.example./desk", B])
def test_address_is_prepared_before_it_is_looked_up(to: str) -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    assert receive(a, f"<message to='{to}'/>".encode()) == []
    assert parsed(take(b))[0].get("to") == to


def test_stanza_to_oneself_comes_back() -> None:
    router = Router()
    a = online(router, A)
    assert receive(a, f"<message to='{A}'/><message to='{A}' id='2'/>".encode()) == []
    assert [out.attrib for out in parsed(take(a))] == [{"to": A, "from": A}, {"to": A, "from": A, "id": "2"}]
    assert router.take_dirty() == [a]


def test_output_is_taken_as_bytes_of_each_link_in_the_order_of_the_first_write() -> None:
    router = Router()
    a, b, c = online(router, A), online(router, B), online(router, C)
    router.take_dirty()
    long = b"x" * 50_000  # several blocks
    b.write(b"1")
    a.write(long)
    view = b.out.buffers()[0]
    b.write(b"2")
    c.write(b"gone")
    c.out.sent(4)
    assert router.take_output() == [(b, b"12"), (a, long)]
    assert (router.take_output(), a.queued_bytes, b.queued_bytes) == ([], 0, 0)
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    b.write(b"3")
    assert router.take_output() == [(b, b"3")]


@pytest.mark.parametrize(
    "what", ["hooks", "pending", "unbound", "component namespace", "no default namespace", "prefixed root"]
)
def test_sender_that_python_watches_is_not_routed(what: str) -> None:
    router = Router()
    opening = {
        "component namespace": header(ns="jabber:component:accept"),
        "no default namespace": f"<stream:stream xmlns:stream='{STREAMS}'>".encode(),
        "prefixed root": f"<stream:stream xmlns:stream='{STREAMS}' xmlns:c='{CLIENT}'>".encode(),
    }.get(what)
    a, b = online(router, A, opening), online(router, B)
    a.hooks = 4 if what == "hooks" else 0
    a.pending = what == "pending"
    if what == "unbound":
        a.unbind()
    name = "c:message" if what == "prefixed root" else "message"
    assert [type(event) for event in receive(a, f"<{name} to='{B}'/>".encode())] == [Stanza]
    assert take(b) == b""
    if what in ("hooks", "pending"):
        a.hooks, a.pending = 0, False
        assert receive(a, f"<message to='{B}'/>".encode()) == []


@pytest.mark.parametrize("what", ["hooks", "stalled", "unbound", "server namespace", "restarted", "dead"])
def test_destination_that_python_watches_is_not_routed_to(what: str) -> None:
    router = Router()
    a = online(router, A)
    b: Link | None = online(router, B, header(ns="jabber:server") if what == "server namespace" else None)
    assert b is not None
    b.hooks = 1 << 31 if what == "hooks" else 0
    b.stalled = what == "stalled"
    if what == "unbound":
        b.unbind()
    elif what == "restarted":
        b.restart(logged_in=True)
    elif what == "dead":
        b = None
    assert [type(event) for event in receive(a, f"<message to='{B}'/>".encode())] == [Stanza]
    assert b is None or b.queued_bytes == 0
    if b is not None and what in ("hooks", "stalled"):
        b.hooks, b.stalled = 0, False
        assert receive(a, f"<message to='{B}'/>".encode()) == []


def test_pending_destination_still_receives() -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    b.pending = True
    assert receive(a, f"<message to='{B}'/>".encode()) == []
    assert b.queued_bytes


# ---- order ----


@pytest.mark.security(statement=57)
def test_feed_stops_at_the_first_stanza_that_needs_python() -> None:
    """RFC 6120 section 10.1: what comes behind it is not looked at before the caller goes on."""
    router = Router()
    a, b = online(router, A), online(router, B)
    data = f"<message to='{B}' id='1'/><presence/><message to='{B}' id='2'/><iq/><message to='{B}' id='3'/>".encode()
    router.buffer[: len(data)] = data
    seen = []
    event = a.feed(len(data))
    while event is not None:
        assert isinstance(event, Stanza)
        seen += [out.get("id") for out in parsed(take(b))] + [event.name]
        event = a.feed()
    assert seen + [out.get("id") for out in parsed(take(b))] == ["1", "presence", "2", "iq", "3"]


def test_what_the_caller_changes_holds_for_the_next_stanza_already() -> None:
    router = Router()
    a, b, c = online(router, A), online(router, B), online(router, C)
    data = f"<presence/><message to='{B}' id='1'/><presence/><message to='{B}' id='2'/>".encode()
    router.buffer[: len(data)] = data
    assert isinstance(a.feed(len(data)), Stanza)
    c.bind(JID(B))  # takes the name over
    assert isinstance(a.feed(), Stanza)
    a.pending = True
    last = a.feed()
    assert isinstance(last, Stanza)
    assert last.id == "2"
    assert a.feed() is None
    assert [out.get("id") for out in parsed(take(c))] == ["1"]
    assert take(b) == b""


def test_bytes_for_a_second_link_are_refused_while_a_first_has_some_left() -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    router.buffer[:22] = b"<presence/><presence/>"
    assert isinstance(a.feed(22), Stanza)
    for link in (a, b):
        with pytest.raises(RuntimeError):
            link.feed(1)
    a.park()
    assert receive(b, b"<presence/>") != []
    assert [type(event) for event in receive(a, b"")] == [Stanza]


def test_feeding_nothing_to_another_link_parks_the_first() -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    router.buffer[:22] = b"<presence/><presence/>"
    assert isinstance(a.feed(22), Stanza)
    assert b.feed() is None
    assert isinstance(a.feed(), Stanza)
    assert a.feed() is None


def test_feed_refuses_more_than_the_buffer_holds() -> None:
    router = Router()
    link = router.link()
    with pytest.raises(ValueError):
        link.feed(len(router.buffer) + 1)
    with pytest.raises(OverflowError):
        link.feed(-1)


# ---- splits ----

STREAM = (
    f"<message to='{B}'><body>1</body></message> <presence><show>away</show></presence>\n"
    f"<iq from='{A}' to='{B}' type='get' id='é&lt;'><q xmlns='u'/></iq>"
    f"<iq from=\"a@x.example\" to='{B}' type='get' id='3'><q xmlns='u' a='>'>é日本<![CDATA[</q>]]>]]</q></iq>\r\n"
    f"<message from = 'a@x.example' to='B@x.example/desk' xml:lang='de'/></stream:stream>\n"
)


def outcome(pieces: Iterable[bytes]) -> tuple[list[tuple[Any, ...]], bytes]:
    """All events up to the first error, and what was routed."""
    router = Router()
    a, b = online(router, A), online(router, B)
    events: list[tuple[Any, ...]] = []
    for piece in pieces:
        events += map(describe, receive(a, piece))
        if events and events[-1][0] == "error":
            break
    return events, take(b)


def test_every_split_in_two_gives_the_same() -> None:
    data = STREAM.encode()
    whole = outcome([data])
    assert [event[0] for event in whole[0]] == ["stanza", "stanza", "StreamClose"]
    assert len(parsed(whole[1])) == 3
    for i in range(len(data) + 1):
        assert outcome([data[:i], data[i:]]) == whole
    assert outcome([bytes([byte]) for byte in data]) == whole


@pytest.mark.parametrize(
    "ending", [b"<message></presence>", b"text", b"<message to='&x;'/>", b"<!-- -->", b"<message/></stream:stream><x/>"]
)
def test_errors_are_the_same_for_every_split(ending: bytes) -> None:
    data = f"<message to='{B}'><body>1</body></message><presence/>".encode() + ending
    whole = outcome([data])
    assert whole[0][-1][0] == "error"
    for i in range(len(data) + 1):
        assert outcome([data[:i], data[i:]]) == whole


@pytest.mark.parametrize("size", [HEADROOM - 200, HEADROOM - 70, HEADROOM, HEADROOM + 1, 3 * HEADROOM, 60_000, 200_000])
@pytest.mark.parametrize("piece", [997, 4096, 65_536])
def test_large_stanzas_come_out_whole(size: int, piece: int) -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    body = "".join(chr(32 + i % 90) for i in range(size)).replace("<", "x").replace("&", "y").replace(">", "z")
    data = f"<message to='{B}' id='1'><body>{body}</body></message><presence/><message to='{B}' id='2'/><message to='{B}'".encode()
    events = receive_split(a, data, range(piece, len(data), piece))
    assert [event.name for event in events if isinstance(event, Stanza)] == ["presence"]
    first, second = parsed(take(b))
    assert (first[0].text, second.get("id")) == (body, "2")
    assert a.unread_bytes == len(f"<message to='{B}'")
    assert receive(a, b"/>") == []
    assert a.unread_bytes == 0


@pytest.mark.security(row=4)
def test_large_stanza_byte_by_byte_is_linear() -> None:
    router = Router()
    a, b = online(router, A), online(router, B)

    def cost(size: int) -> float:
        data = f"<message to='{B}'><body>{'x' * size}</body></message>".encode()
        start = time.process_time()
        for i in range(len(data)):
            router.buffer[0] = data[i]
            assert a.feed(1) is None
        return time.process_time() - start

    cost(10_000)
    short, long = cost(20_000), cost(160_000)
    assert len(parsed(take(b))) == 3
    assert long < 30 * short  # quadratic: 64 times


# ---- many links, against a model ----

START_TAG = re.compile(rb"<([a-z]+)((?:'[^']*'|\"[^\"]*\"|[^'\">])*)>")
FROM = re.compile(rb"\s+from\s*=\s*(?:'[^']*'|\"[^\"]*\")")


def stamped(raw: bytes, jid: str, lang: bytes) -> bytes:
    match = START_TAG.match(raw)
    assert match
    name, rest = match[1], FROM.sub(b"", match[2], count=1)
    quoted = jid.replace("&", "&amp;").replace("'", "&apos;").replace("<", "&lt;").encode()
    return (
        b"<"
        + name
        + b" from='"
        + quoted
        + b"'"
        + (b"" if b"xml:lang" in rest else lang)
        + rest
        + b">"
        + raw[match.end() :]
    )


class Model:
    """Links as byte strings: what each has said and what is for it."""

    def __init__(self, seed: int, links: int) -> None:
        self.random = Random(seed)
        self.jids = [f"{'ab'[i % 2]}@x.example/{['r', chr(39), 'x&y', '<'][i % 4]}{i}" for i in range(links)]
        self.langs = [self.random.choice(["en", "de"]) for _ in self.jids]
        self.router = Router(high_bytes=1 << 30)
        self.links = [online(self.router, jid, header(lang)) for jid, lang in zip(self.jids, self.langs, strict=True)]
        self.wires = [b""] * links
        self.received = [b""] * links
        self.queues = [b""] * links
        self.plans: list[list[tuple[int, bytes]]] = [[] for _ in self.jids]  # (end on the wire, stanza)
        self.dirty: list[int] = []

    def say(self, i: int) -> None:
        """One more stanza on the wire of a link."""
        to = self.random.choice(self.jids).replace("&", "&amp;").replace("<", "&lt;")
        own = self.random.choice(["", "", f' from="{self.jids[i]}"', f" from='{self.jids[i].split('/')[0]}'"])
        if "&" in own or "<" in own:
            own = ""
        attributes = [f' to="{to}"', own, self.random.choice(["", " xml:lang='fr'"]), " id='1'", " type='get'"]
        self.random.shuffle(attributes)
        size = self.random.choice([0, 10, 100, 100, 1000, self.random.randint(0, 9000)])
        kind = self.random.choice(["message", "message", "iq", "presence"])
        text = f"<{kind}{''.join(attributes)}><body>{'é>' * (size // 3)}</body></{kind}>"
        self.wires[i] += text.encode()
        self.plans[i].append((len(self.received[i]) + len(self.wires[i]), text.encode()))

    def deliver(self, i: int) -> None:
        """A piece of the wire arrives."""
        n = self.random.choice([1, 10, 300, 5000, 20_000, 60_000])
        piece, self.wires[i] = self.wires[i][:n], self.wires[i][n:]
        self.received[i] += piece
        expected = []
        while self.plans[i] and self.plans[i][0][0] <= len(self.received[i]):
            raw = self.plans[i].pop(0)[1]
            [stanza] = StreamParser().feed(header() + raw)[1:]
            assert isinstance(stanza, Stanza)
            assert stanza.to is not None
            there = self.jids.index(stanza.to)
            if stanza.name == "presence" or "&" in stanza.to or "<" in stanza.to:
                expected.append(raw)
            else:
                lang = b"" if self.langs[i] == self.langs[there] else f" xml:lang='{self.langs[i]}'".encode()
                self.queues[there] += stamped(raw, self.jids[i], lang)
                if there not in self.dirty:
                    self.dirty.append(there)
        assert [event.raw for event in receive(self.links[i], piece) if isinstance(event, Stanza)] == expected

    def flush(self) -> None:
        assert self.router.take_dirty() == [self.links[i] for i in self.dirty]
        for i in self.dirty:
            link, n = self.links[i], self.random.choice([0, 1, 5000, 1 << 30])
            assert b"".join(link.out.buffers(10_000)) == self.queues[i]
            n = min(n, len(self.queues[i]))
            link.out.sent(n)
            self.queues[i] = self.queues[i][n:]
        self.dirty.clear()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            i = self.random.randrange(len(self.links))
            self.random.choice([self.say, self.say, self.deliver, self.deliver])(i)
            if self.random.random() < 0.05:
                self.flush()
        for i, wire in enumerate(self.wires):
            for _ in wire:
                if self.wires[i]:
                    self.deliver(i)
        for i, link in enumerate(self.links):
            assert link.unread_bytes == 0
            assert b"".join(link.out.buffers(10_000)) == self.queues[i]


@pytest.mark.parametrize("seed", range(6))
def test_many_links_with_random_splits_do_as_the_model(seed: int) -> None:
    Model(seed, links=[2, 5, 9][seed % 3]).run(1200)


# ---- parking, restart, unread bytes ----


@pytest.mark.parametrize("rest", ["<presence id='2'/>", "<presence id='2'", "x" * 3 * HEADROOM, ""])
def test_parked_bytes_come_first(rest: str) -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    tail = f"<message to='{B}'><body>{rest}</body></message>" if rest.startswith("x") else rest
    data = f"<presence id='1'/>{tail}".encode()
    router.buffer[: len(data)] = data
    assert isinstance(a.feed(len(data)), Stanza)
    assert a.unread_bytes == len(tail)
    a.park()
    a.park()
    assert a.unread_bytes == len(tail)
    receive(b, b"<presence>" * 20)
    ending = b"/>" if tail.endswith("'") else b""
    events = receive(a, ending + b"<presence id='3'/>")
    ids = [event.id for event in events if isinstance(event, Stanza)]
    assert ids == (["2", "3"] if "presence" in tail else ["3"])
    assert a.unread_bytes == 0


def test_unread_bytes_count_all_of_an_unfinished_stanza_but_no_white_space() -> None:
    router = Router()
    a = online(router, A)
    assert receive(a, b" \n") == []
    assert a.unread_bytes == 0
    assert receive(a, b"<presence><show>aw") == []
    assert a.unread_bytes == 18
    assert len(receive(a, b"ay</show></presence>  \r\n\t")) == 1
    assert a.unread_bytes == 0
    data = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>  <x>"
    router.buffer[: len(data)] = data
    assert isinstance(a.feed(len(data)), Stanza)
    assert a.unread_bytes == 3
    a.park()
    assert a.unread_bytes == 3


@pytest.mark.parametrize("white", ["", "\n", " \r\n\t"])
def test_white_space_before_the_new_header_is_dropped_however_it_comes(white: str) -> None:
    """An XML declaration has nothing in front of it, and clients do put a line's end behind their last element."""
    data = f"<auth xmlns='u'/>{white}".encode() + header() + b"<presence/>"
    for cut in range(len("<auth xmlns='u'/>"), len(data)):
        router = Router()
        link = router.link()
        receive(link, header())
        router.buffer[:cut] = data[:cut]
        assert isinstance(link.feed(cut), Stanza)
        link.restart(logged_in=True)
        events = receive(link, b"") + receive(link, data[cut:])
        assert [type(event) for event in events] == [StreamOpen, Stanza]


def test_limits_of_after_login_hold_without_a_restart() -> None:
    """XEP-0388 restarts no stream."""
    long = b"<message to='a@b'><body>" + b"x" * 20_000 + b"</body></message>"
    for log_in in (False, True):
        link = Link(Router(early_stanza_bytes=10_000))
        receive(link, header())
        if log_in:
            link.log_in()
        event = receive(link, long)[-1]
        assert isinstance(event, Stanza if log_in else XmlError)


def test_limits_do_not_change_within_a_stanza() -> None:
    link = Link(Router())
    receive(link, header() + b"<message><body>")
    with pytest.raises(RuntimeError):
        link.log_in()
    receive(link, b"</body></message><mess")
    link.log_in()  # a tag that is not complete is read again
    assert isinstance(receive(link, b"age/>")[-1], Stanza)


def test_restart_keeps_an_unfinished_stanza_in_front_of_what_comes() -> None:
    router = Router()
    link = router.link()
    receive(link, header() + b"<a><b>")
    link.restart(logged_in=False)
    assert link.unread_bytes == 6
    opened, stanza = receive(link, b"</b>")
    assert isinstance(opened, StreamOpen)
    assert isinstance(stanza, Stanza)
    assert (opened.name, stanza.name) == ("a", "b")


def test_limits_before_login_are_lower() -> None:
    stanza = b"<message>" + b"x" * 30_000 + b"</message>"
    router = Router()
    link = router.link()
    [opened, error] = receive(link, header() + stanza)
    assert isinstance(opened, StreamOpen)
    assert isinstance(error, XmlError)
    assert error.condition == "policy-violation"
    assert receive(online(router, A), stanza) != []
    [error] = receive(online(router, A), b"<message>" + b"x" * 1000 + b"<x>" * 63)
    assert isinstance(error, XmlError)


def test_text_between_stanzas_is_refused() -> None:
    router = Router()
    [error] = receive(online(router, A), b" text")
    assert isinstance(error, XmlError)
    assert error.condition == "bad-format"


def test_after_an_error_bytes_are_dropped_and_the_answer_stays() -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    [error] = receive(a, b"<a></b>" + b"x" * 50_000)
    assert isinstance(error, XmlError)
    assert a.unread_bytes == 0
    assert receive(b, b"<presence/>") != []  # nobody is waited for
    for data in (b"", b"<presence/>", b"x" * 60_000):
        [again] = receive(a, data)
        assert isinstance(again, XmlError)
        assert (again.condition, again.offset) == (error.condition, error.offset)
        assert a.unread_bytes == 0


# ---- slow links ----


def test_slow_destination_is_named_to_its_sender() -> None:
    router = Router(high_bytes=1000)
    a, b = online(router, A), online(router, B)
    stanza = f"<message to='{B}'><body>{'x' * 100}</body></message>".encode()
    size = 0
    while size <= 1000:
        events = receive(a, stanza)
        size = b.queued_bytes
        assert events == ([b] if size > 1000 else [])
    router.buffer[: 2 * len(stanza)] = 2 * stanza
    assert a.feed(2 * len(stanza)) is b
    a.park()
    assert a.unread_bytes == len(stanza)
    take(b)
    assert receive(a, b"") == []
    assert len(parsed(take(b))) == 1


@pytest.mark.security(row=47)
def test_above_four_times_the_mark_nothing_is_queued() -> None:
    router = Router(high_bytes=1000)
    a, b = online(router, A), online(router, B)
    stanza = f"<message to='{B}'><body>{'x' * 100}</body></message>".encode()
    events = receive(a, 100 * stanza)
    returned = sum(isinstance(event, Stanza) for event in events)
    assert 4000 < b.queued_bytes < 4000 + 2 * len(stanza)
    assert len(parsed(take(b))) + returned == 100
    assert receive(a, stanza) == []


def test_oneself_can_be_slow() -> None:
    router = Router(high_bytes=10)
    a = online(router, A)
    assert receive(a, f"<message to='{A}'/>".encode()) == [a]


# ---- names ----


def test_bind_takes_the_name_from_its_former_holder() -> None:
    router = Router()
    a, b = router.link(), router.link()
    assert a.bind(JID(A)) is None
    assert (a.jid, router.find(JID(A)), len(router)) == (JID(A), a, 1)
    assert b.bind(JID(A)) is a
    assert (a.jid, b.jid, router.find(JID(A)), len(router)) == (None, JID(A), b, 1)
    assert b.bind(JID(A)) is None
    assert b.bind(JID(B)) is None
    assert (router.find(JID(A)), router.find(JID(B)), len(router)) == (None, b, 1)
    b.unbind()
    b.unbind()
    assert (b.jid, router.find(JID(B)), len(router)) == (None, None, 0)


def test_bind_refuses_a_bare_jid() -> None:
    with pytest.raises(ValueError):
        Router().link().bind(JID("a@x.example"))


@pytest.mark.parametrize(
    ("jid", "spelled"),
    [
        ("jürgen@bücher.example/Büro", "JÜRGEN@Bücher.Example./Büro"),
        ("ольга@почта.рф/телефон", "ОЛЬГА@ПОЧТА.рф/телефон"),
        ("田中@日本語.jp/😀", "田中@日本語.jp/😀"),
    ],
)
def test_jid_beyond_ascii_is_routed_to_without_python(jid: str, spelled: str) -> None:
    router = Router()
    a, b = online(router, A), online(router, jid)
    assert receive(a, f"<message to='{spelled}'/>".encode()) == []
    assert receive(b, f"<message from='{jid}' to='{A}'/>".encode()) == []
    assert parsed(take(b))[0].get("to") == spelled
    assert parsed(take(a))[0].get("from") == jid


def test_longest_jids_are_bound_and_routed_to() -> None:
    router = Router()
    domain = ".".join(["d" * 60] * 4)
    jids = [f"{'l' * 1023}@{domain}/{'&' * 1022}{i}" for i in range(2)]
    a, b = online(router, jids[0]), online(router, jids[1].replace("&", "r"))
    assert receive(a, f"<message to='{b.jid}'/>".encode()) == []
    assert parsed(take(b))[0].get("from") == jids[0]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["bind", "bind", "unbind", "drop"]), st.integers(0, 30), st.integers(0, 60)),
        max_size=200,
    )
)
def test_table_is_a_dict(steps: list[tuple[str, int, int]]) -> None:
    router = Router()
    links = [router.link() for _ in range(31)]
    model: dict[JID, Link] = {}
    for what, i, number in steps:
        jid, link = JID(f"u{number}@x.example/r"), links[i]
        mine = [key for key, value in model.items() if value is link]
        for key in mine:
            del model[key]
        if what == "bind":
            assert link.bind(jid) is model.get(jid)
            model[jid] = link
        elif what == "unbind":
            link.unbind()
        else:
            links[i] = router.link()
            del link
        assert len(router) == len(model)
    for number in range(61):
        jid = JID(f"u{number}@x.example/r")
        assert router.find(jid) is model.get(jid)


def test_table_grows_and_shrinks_by_thousands() -> None:
    router, random = Router(), Random(1)
    jids = [JID(f"u{i}@x.example/r{i % 3}") for i in range(5000)]
    model: dict[JID, Link] = {}
    for _ in range(30_000):
        jid = random.choice(jids)
        if jid in model and random.random() < 0.7:
            model.pop(jid).unbind()
        else:
            link = router.link()
            assert link.bind(jid) is model.get(jid)
            model[jid] = link
    assert len(router) == len(model) > 500
    assert all(router.find(jid) is model.get(jid) for jid in jids)
    del link
    model.clear()
    assert len(router) == 0
    assert all(router.find(jid) is None for jid in jids)


# ---- output, lifetimes ----


def test_dirty_links_come_once_in_the_order_of_their_first_write() -> None:
    router = Router()
    a, b, c = online(router, A), online(router, B), online(router, C)
    c.write(b"1")
    assert receive(a, f"<message to='{B}'/><message to='{C}'/>".encode()) == []
    a.write(b"2")
    b.write(b"3")
    assert router.take_dirty() == [c, b, a]
    assert router.take_dirty() == []
    b.write(b"")
    assert router.take_dirty() == [b]


@pytest.mark.parametrize("victims", [[0], [1], [2], [0, 1], [2, 1], [0, 2], [0, 1, 2], [2, 1, 0]])
def test_links_may_die_while_dirty_bound_and_with_views_out(victims: list[int]) -> None:
    router = Router()
    links = {i: online(router, f"u@x.example/{i}") for i in range(3)}
    for link in links.values():
        link.write(b"x" * 10_000)
        link.out.buffers()
    del link
    for i in victims:
        links.pop(i)
    assert router.take_dirty() == list(links.values())
    assert len(router) == len(links)
    assert [i for i in range(3) if router.find(JID(f"u@x.example/{i}"))] == list(links)
    online(router, "u@x.example/new").write(b"x")
    assert router.take_dirty() == []


@pytest.mark.parametrize("waiting", [0, 10, 60_000])
def test_link_may_die_in_the_middle_of_its_bytes(waiting: int) -> None:
    router = Router()
    a, b = online(router, A), online(router, B)
    assert receive(a, b"<message>" + b"x" * waiting) == []
    data = b"</message><presence/>"
    router.buffer[: len(data)] = data
    assert isinstance(a.feed(len(data)), Stanza)
    del a
    assert len(receive(b, b"<presence/>")) == 1
    assert len(router) == 1


def test_links_in_cycles_with_their_owners_are_collected() -> None:
    class Owner:
        link: Link

    router = Router()
    for i in range(50):
        owner = Owner()
        owner.link = online(router, f"u@x.example/{i}", owner=owner)
        owner.link.write(b"x")
        assert owner.link.owner is owner
    del owner
    gc.collect()
    assert (len(router), router.take_dirty()) == (0, [])


def test_collector_that_runs_inside_take_dirty_finds_a_sound_list() -> None:
    class Owner:
        link: Link

    router = Router()
    before = gc.get_threshold()
    gc.collect()
    try:
        gc.set_threshold(1)
        for i in range(300):
            owner = Owner()
            owner.link = router.link(owner)
            owner.link.write(b"x")
            del owner
            alive = router.link()
            alive.write(b"y")
            assert alive in router.take_dirty(), i
    finally:
        gc.set_threshold(*before)


def test_link_outlives_the_last_reference_to_its_router() -> None:
    a = online(Router(), A)
    gc.collect()
    assert receive(a, f"<message to='{A}'/>".encode()) == []
    assert len(parsed(take(a))) == 1


def test_repr_tells_the_name() -> None:
    link = Router().link()
    assert repr(link) == "<Link unbound, 0 bytes queued>"
    link.bind(JID(A))
    link.write(b"abc")
    assert repr(link) == f"<Link {A}, 3 bytes queued>"


# ---- the fuzz target, shortly ----


@pytest.mark.security(row=(9, 10))
def test_random_commands_pass_the_fuzz_target_under_sanitizers(tmp_path: Path) -> None:
    """What tests/fuzz/fuzz_router.c checks, with inputs from a seed: two bytes a command."""
    program = fuzz_target("router", ["router", "outbuf", "sm", "jid", *PARSER], tmp_path)
    random = Random(1)
    inputs = []
    for i in range(200):
        commands = [64 | random.randrange(64), random.randrange(256)]
        commands += [byte for link in range(4) for byte in (5 * 4 + link, 0)]  # everybody reads his stream header
        for _ in range(random.choice([20, 200, 2000])):
            commands += [random.randrange(84), random.choice([0, random.randrange(256)])]
        inputs.append(tmp_path / f"input{i}")
        inputs[-1].write_bytes(bytes(commands))
    report = subprocess.run([program, *inputs], capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr
    assert report.stdout == f"{len(inputs)} inputs passed\n"


# ---- fan-out ----

PRESENCE = b"<presence from='me@x.example/1'><show>chat</show></presence>"


def test_audience_gets_a_stanza_each_with_its_own_address() -> None:
    router = Router()
    links = [online(router, jid) for jid in (A, B, C)]
    audience = Audience(router, [(links[0], "a@x.example"), (links[2], JID("c@x.example"))])
    assert len(audience) == 2
    for stanza in (PRESENCE, b"<presence/>", b"<presence\n/>"):
        assert audience.send(stanza) == []
    assert [element.get("to") for element in parsed(take(links[0]))] == ["a@x.example"] * 3
    assert take(links[1]) == b""
    assert len(parsed(take(links[2]))) == 3


def test_address_of_an_audience_is_escaped() -> None:
    router = Router()
    link, to = online(router, A), 'a@x.example/it\'s <here> & "there"'
    assert Audience(router, [(link, JID(to))]).send(PRESENCE) == []
    (element,) = parsed(take(link))
    assert (element.get("to"), element.get("from"), element[0].text) == (to, "me@x.example/1", "chat")


def test_who_of_an_audience_cannot_be_served_is_left_to_the_caller() -> None:
    router = Router(high_bytes=100)
    hooked, gone, stalled, full, fine = (online(router, f"a@x.example/{k}") for k in range(5))
    audience = Audience(router, [(link, A) for link in (hooked, gone, stalled, full, fine)])
    assert audience.send(PRESENCE) == []
    hooked.hooks = 4
    gone.unbind()
    stalled.stalled = True
    full.write(b" " * 401)
    assert audience.send(PRESENCE) == [0, 1, 2, 3]
    assert [len(parsed(take(link))) for link in (hooked, gone, stalled, full, fine)] == [1, 1, 1, 1, 2]


def test_audience_keeps_its_links_and_takes_none_of_another_router() -> None:
    router, other = Router(), Router()
    audience = Audience(router, [(online(router, A), A)])
    gc.collect()
    assert audience.send(PRESENCE) == []
    with pytest.raises(ValueError, match="another router"):
        Audience(router, [(online(other, B), B)])
    with pytest.raises(TypeError):
        Audience(router, [("not a link", B)])  # type: ignore[list-item]
    assert Audience(router, []).send(PRESENCE) == []


def test_stanza_longer_than_a_block_is_fanned_out_whole() -> None:
    router = Router()
    link = online(router, A)
    long = b"<presence>" + b"x" * 40_000 + b"</presence>"
    assert Audience(router, [(link, B)]).send(long) == []
    assert take(link) == long.replace(b"<presence", b"<presence to='" + B.encode() + b"'", 1)

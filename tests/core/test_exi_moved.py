# SPDX-License-Identifier: Apache-2.0
"""Stanzas that go from one link in EXI to another as they came: to their receiver they are what they would be if they were coded again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import JID, Link, Router, parse_element
from _xmppcore.exi_stream import DEFAULT_OPTIONS, Exi, ExiStream, Kind, Setup
from tests.exi.documents import infoset
from tests.shared import shared
from xiot.exi import Options, xiot_schemas, xmpp_schemas

OPTIONS = Options(value_max_length=64, value_partition_capacity=64, plain_numbers=True)
SETUPS = {
    "ours": Setup(OPTIONS, xiot_schemas()),
    "xmpp": Setup(OPTIONS, xmpp_schemas()),
    "aligned": Setup(replace(OPTIONS, alignment="byte-aligned"), xiot_schemas()),
    "profile": Setup(replace(DEFAULT_OPTIONS, strict=False), xmpp_schemas()),
    "default": Setup(OPTIONS),
    "few": Setup(replace(OPTIONS, value_partition_capacity=4), xiot_schemas()),
}
HEADER = (
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.org'"
    " xml:lang='{}'>"
)
ALICE, BOB = "alice@example.org/device", "bob@example.org/app"


class End:
    """A link at a router, and the client at the other end of its wire."""

    def __init__(self, router: Router, jid: str, setup: Setup, lang: str = "en") -> None:
        self.router = router
        self.link: Link = router.link()
        self.layer = Exi(ExiStream(Kind.BOUND, setup))
        self.client = ExiStream(Kind.BOUND, setup)
        header = HEADER.format(lang).encode()
        self.link.restart(logged_in=True)
        self.says(self.client.send(header))
        self.link.bind(JID(jid))
        self.link.write(header)
        assert len(self.hears()) == 1

    def says(self, octets: bytes) -> list[object]:
        """Give octets to the link; what it leaves to others."""
        self.router.buffer[: len(octets)] = octets
        self.layer.receive(self.link, len(octets))
        events = []
        while (event := self.layer.feed(self.link)) is not None:
            events.append(event)
            while (event := self.link.feed()) is not None:
                events.append(event)
        return events

    def hears(self, size: int = 1 << 20) -> list[bytes]:
        """What the client gets of all that is queued."""
        found = []
        while part := self.layer.output(self.link, False)[:size]:
            self.layer.sent(len(part))
            self.client.receive(part)
            while (piece := self.client.next()) is not None:
                found.append(piece)
        return found

    @property
    def queued(self) -> bytes:
        return b"".join(bytes(view) for view in self.link.out.buffers())


def ends(one: Setup, other: Setup, **options: str) -> tuple[End, End]:
    router = Router()
    return End(router, ALICE, one), End(router, BOB, other, **options)


def meaning(stanza: bytes) -> object:
    return infoset(parse_element(b"<s xmlns='jabber:client'>" + stanza + b"</s>")[0].tobytes())


def both_ways(setup: Setup, octets: bytes) -> tuple[list[bytes], list[bytes], int]:
    """What Bob gets of Alice's octets: moved where that may be, coded again, and how many were moved."""
    got = []
    moved = 0
    for other in (setup, Setup(setup.options, setup.grammar)):
        alice, bob = ends(setup, other)
        left = alice.says(octets)
        if other is setup:
            moved = bob.queued.count(b"\0", 0, 1)
        else:
            assert b"\0" not in bob.queued
        got.append(bob.hears())
        assert not left or not got[-1]
    return got[0], got[1], moved


def encoded(setup: Setup, stanza: str) -> bytes:
    client = ExiStream(Kind.BOUND, setup)
    client.send(HEADER.format("en").encode())
    return client.send(stanza.encode())


WORDS = st.sampled_from(
    [
        "",
        "a",
        "b",
        "chat",
        "get",
        "result",
        ALICE,
        BOB,
        "alice@example.org",
        f"see {ALICE}",
        "<&>\"'",
        "♥" * 3,
        "x" * 70,
        "12.50",
        "true",
    ]
)
NAMES = st.sampled_from(["body", "subject", "thread", "from", "to", "id", "type", "x", "item", "deep"])
SPACES = st.sampled_from(
    ["", "", "", " xmlns='urn:odd'", " xmlns='urn:xmpp:iot:sensordata'", " xmlns='urn:xmpp:receipts'"]
)


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;").replace('"', "&quot;")


ATTRIBUTES = st.dictionaries(NAMES, WORDS, max_size=3).map(
    lambda found: "".join(f" {name}='{escaped(value)}'" for name, value in found.items())
)
ELEMENTS = st.recursive(
    WORDS.map(escaped),
    lambda inside: st.builds(
        lambda name, space, attributes, children: f"<{name}{space}{attributes}>{''.join(children)}</{name}>",
        NAMES,
        SPACES,
        ATTRIBUTES,
        st.lists(inside, max_size=4),
    ),
    max_leaves=12,
)
STANZAS = st.builds(
    lambda sender, head, children: f"<message to='{BOB}'{sender}{head}>{''.join(children)}</message>",
    st.sampled_from(["", f" from='{ALICE}'", " from='alice@example.org'"]),
    st.dictionaries(st.sampled_from(["id", "type", "xml:lang", "odd"]), WORDS, max_size=3).map(
        lambda found: "".join(f" {name}='{escaped(value)}'" for name, value in found.items())
    ),
    st.lists(ELEMENTS.filter(lambda text: text.startswith("<")), max_size=4),
)


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
@given(stanza=STANZAS)
def test_what_is_moved_means_what_it_would_if_it_were_coded_again(setup: Setup, stanza: str) -> None:
    moved, again, _ = both_ways(setup, encoded(setup, stanza))
    assert [meaning(each) for each in moved] == [meaning(each) for each in again]


@pytest.fixture(scope="module")
def samples() -> list[str]:
    """Stanzas of the specifications, to Bob."""
    found = []
    for path in sorted(shared("data/stanzas").glob("*.jsonl"))[::8]:
        for line in path.read_text().splitlines():
            sample = json.loads(line)
            if not sample.get("standalone") or sample["root"] not in ("message", "iq") or "<!" in sample["xml"]:
                continue
            stanza = parse_element(f"<s xmlns='jabber:client'>{sample['xml']}</s>".encode())[0]
            stanza.set("to", BOB)
            stanza.attrib.pop("from", None)
            found.append(stanza.tobytes("jabber:client").decode())
    return found


@pytest.mark.parametrize("name", SETUPS)
def test_stanzas_of_the_specifications_are_moved_as_they_would_be_coded(name: str, samples: list[str]) -> None:
    """With our setups, nearly all of those that nobody has to look at."""
    setup, routed, count = SETUPS[name], 0, 0
    for stanza in samples:
        moved, again, was_moved = both_ways(setup, encoded(setup, stanza))
        assert [meaning(each) for each in moved] == [meaning(each) for each in again]
        routed += len(again)
        count += was_moved
    assert routed > 100
    assert count > routed * {"ours": 0.8, "xmpp": 0.8, "aligned": 0.8, "profile": 0.7, "default": 0.6, "few": 0.2}[name]


CHAT = f"<message to='{BOB}' type='chat' id='1'><body>wherefore art thou</body></message>"


def queued_after(setup: Setup, octets: bytes, **options: str) -> bytes:
    alice, bob = ends(setup, setup, **options)
    alice.says(octets)
    return bob.queued


def test_octets_go_as_they_came_but_for_the_head() -> None:
    octets = encoded(SETUPS["aligned"], CHAT)
    queued = queued_after(SETUPS["aligned"], octets)
    assert queued[:1] == b"\0"
    assert queued.endswith(octets[octets.index(b"wherefore") - 2 :])
    assert int.from_bytes(queued[1:5], "little") == len(queued) - 5


def test_an_integer_with_octets_that_it_does_not_need_is_coded_again() -> None:
    """Some decoder may read another number, and then another stanza behind it."""
    octets = encoded(SETUPS["aligned"], CHAT)
    text = octets.index(b"wherefore")
    longer = octets[: text - 1] + bytes([octets[text - 1] | 0x80, 0]) + octets[text:]
    assert queued_after(SETUPS["aligned"], longer).startswith(b"<message from=")
    assert both_ways(SETUPS["aligned"], longer)[:2] == both_ways(SETUPS["aligned"], octets)[:2]


@pytest.mark.parametrize(
    "stanza",
    [
        CHAT.replace("wherefore", f"hello {ALICE}"),  # an encoder would write it by its number
        CHAT.replace("wherefore art thou", "1"),  # as the id: found by its number among all values
        CHAT.replace("<body>", "<x xmlns='urn:odd' id='1'/><body>"),  # likewise, among those of ids
    ],
)
def test_what_depends_on_the_head_is_coded_again(stanza: str) -> None:
    assert queued_after(SETUPS["ours"], encoded(SETUPS["ours"], stanza)).startswith(b"<message from=")


def test_a_link_in_another_language_or_setup_or_with_tables_of_its_own_gets_it_coded_again() -> None:
    ours = SETUPS["ours"]
    assert queued_after(ours, encoded(ours, CHAT), lang="en").startswith(b"\0")
    assert b"xml:lang='en'" in queued_after(ours, encoded(ours, CHAT), lang="de")
    kept = Setup(ours.options, ours.grammar, keep=True)
    assert queued_after(kept, encoded(kept, CHAT)).startswith(b"<message")


def test_a_head_cannot_name_somebody_else() -> None:
    ours = SETUPS["ours"]
    alice, bob = ends(ours, ours)
    (left,) = alice.says(encoded(ours, CHAT.replace(" type", " from='carol@example.org/x' type")))
    assert type(left).__name__ == "Stanza"
    assert not bob.queued


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("size", [9, 999, 1 << 20])
def test_order_holds_among_what_is_moved_coded_again_and_written(managed: bool, size: int) -> None:
    ours = SETUPS["ours"]
    alice, bob = ends(ours, ours)
    if managed:
        bob.link.enable_sm()
    for number in range(12):
        text = "x" * 20_000 if number == 6 else ALICE if number % 3 == 2 else "text"
        alice.says(encoded(ours, CHAT.replace("'1'", f"'{number}'").replace("wherefore", text)))
        if number % 4 == 3:
            bob.link.write(f"<message id='own{number}'/>".encode())
    if managed:
        kept = [parse_element(b"<s>" + stanza + b"</s>")[0] for stanza in bob.link.unacknowledged()]
        assert [(stanza.get("id"), stanza.get("from")) for stanza in kept] == [
            (str(number), ALICE) for number in range(12)
        ]
    heard = [parse_element(b"<s>" + stanza + b"</s>")[0].get("id") for stanza in bob.hears(size)]
    order = [[str(n), f"own{n}"] if n % 4 == 3 else [str(n)] for n in range(12)]
    assert heard == [id for some in order for id in some]
    assert bob.link.queued_bytes == 0


def test_a_stream_that_is_resumed_gets_what_was_moved() -> None:
    ours = SETUPS["ours"]
    alice, bob = ends(ours, ours)
    bob.link.enable_sm()
    alice.says(encoded(ours, CHAT))
    assert bob.queued.startswith(b"\0")
    bob.link.detach()
    alice.says(encoded(ours, CHAT.replace("'1'", "'2'")))
    bob.link.unbind()
    again = End(bob.router, "bob@example.org/other", ours)
    again.link.resume(bob.link)
    assert [parse_element(b"<s>" + stanza + b"</s>")[0].get("id") for stanza in again.hears()] == ["1", "2", None]

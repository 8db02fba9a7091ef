# SPDX-License-Identifier: Apache-2.0
"""XEP-0352: Client State Indication: what waits; `tests/server/test_hooks.py` has when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import JID, Element
from xiot.xep.csi import MAX_HELD_BYTES, Held, active, can_wait, inactive

from .world import Client, World

STATE = "<{} xmlns='http://jabber.org/protocol/chatstates'/>"
COMPOSING = STATE.format("composing")


def stanza(xml: str) -> Element:
    return Element.fromstring(xml, "jabber:client")


@pytest.mark.parametrize(
    ("xml", "waits"),
    [
        ("<presence from='a@b/c'><show>away</show></presence>", True),
        ("<presence from='a@b/c' type='unavailable'/>", True),
        ("<presence from='a@b' type='subscribe'/>", False),
        ("<presence from='a@b' type='error'/>", False),
        ("<presence from='a@b' type='probe'/>", False),
        (f"<message type='chat'>{COMPOSING}</message>", True),
        (f"<message type='chat'>{COMPOSING}<thread>t</thread><no-store xmlns='urn:xmpp:hints'/></message>", True),
        (f"<message type='chat'>{COMPOSING}<body>Hi</body></message>", False),
        (f"<message type='chat'>{COMPOSING}<request xmlns='urn:xmpp:receipts'/></message>", False),
        (f"<message type='error'>{COMPOSING}</message>", False),
        ("<message type='chat'><body>Hi</body></message>", False),
        ("<message type='chat'/>", False),
        ("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", False),
    ],
)
def test_presence_and_lone_chat_states_may_wait(xml: str, waits: bool) -> None:
    assert can_wait(stanza(xml)) is waits
    assert Held().hold(stanza(xml), b"x") is waits


def test_newest_of_a_sender_waits_in_its_own_place() -> None:
    held = Held()
    for sender, octets in (("a@b/1", b"1"), ("a@b/2", b"2"), ("a@b/1", b"3")):
        held.hold(stanza(f"<presence from='{sender}'/>"), octets)
    held.hold(stanza(f"<message type='chat' from='a@b/2'>{COMPOSING}</message>"), b"4")
    assert list(held.release()) == [b"2", b"3", b"4"]
    assert list(held.release()) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, MAX_HELD_BYTES // 4)), max_size=60))
def test_what_waits_is_bounded(steps: list[tuple[int, int]]) -> None:
    held, waiting = Held(), {}
    for sender, size in steps:
        held.hold(stanza(f"<presence from='a@b/{sender}'/>"), b"x" * size)
        waiting[sender] = size
        assert held.full is (sum(waiting.values()) > MAX_HELD_BYTES)
        if held.full:
            assert sum(map(len, held.release())) == sum(waiting.values())
            waiting.clear()
            assert not held.full


async def test_indications_are_those_of_section_4_2() -> None:
    sent: list[Element] = []

    class Stream(Client):
        async def send(self, stanza: Element) -> None:
            sent.append(stanza)

    stream = Stream(World(), JID("juliet@plant.example/a"))
    await inactive(stream)
    await active(stream)
    assert sent == [Element("{urn:xmpp:csi:0}inactive"), Element("{urn:xmpp:csi:0}active")]

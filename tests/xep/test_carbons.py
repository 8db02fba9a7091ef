# SPDX-License-Identifier: Apache-2.0
"""XEP-0280: Message Carbons: which messages, and what they look like; `tests/server/test_hooks.py` has who gets them."""

import pytest

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.stanzas import error_element
from xiot.xep import carbons, chatstates, delay, forward, hints, markers, receipts, roster, stanzaid
from xiot.xep.carbons import Direction, Disable, Enable, Switch, copy, eligible, keep_private, unwrap

from .world import World

ROMEO = JID("romeo@montague.example")
BODY = "<body>What man art thou</body>"
MUC = "http://jabber.org/protocol/muc#user"


def a_message(*children: str, type: str | None = "chat") -> Element:
    kind = "" if type is None else f" type='{type}'"
    return Element.fromstring(
        "<message xmlns='jabber:client' from='juliet@capulet.example/balcony' to='romeo@montague.example/garden'"
        f"{kind}>{''.join(children)}</message>"
    )


@pytest.mark.parametrize(
    ("message", "received", "sent"),
    [
        (a_message(BODY), True, True),
        (a_message(), True, True),
        (a_message(BODY, type=None), True, True),
        (a_message(BODY, type="normal"), True, True),
        (a_message("<event xmlns='x'/>", type=None), False, False),
        (a_message(BODY, type="headline"), False, False),
        (a_message(BODY, type="groupchat"), False, False),
        (a_message("<composing xmlns='http://jabber.org/protocol/chatstates'/>", type=None), True, True),
        (a_message("<received xmlns='urn:xmpp:receipts' id='1'/>", type=None), True, True),
        (a_message("<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", type=None), True, True),
        (a_message(BODY, "<private xmlns='urn:xmpp:carbons:2'/>"), False, False),
        (a_message(BODY, "<no-copy xmlns='urn:xmpp:hints'/>"), False, False),
        (a_message("<x xmlns='jabber:x:conference' jid='room@muc'/>", type=None), True, True),
        (a_message(f"<x xmlns='{MUC}'><invite from='a@b'/></x>", type=None), True, True),
        (a_message(BODY, f"<x xmlns='{MUC}'/>"), False, True),
        (a_message("<error type='cancel'/>", type="error"), False, False),
        (a_message(BODY, "<error type='cancel'/>", type="error"), True, True),
    ],
)
@pytest.mark.security(statement=86)
def test_messages_are_copied_by_the_recommended_rules(message: Element, received: bool, sent: bool) -> None:
    assert (eligible(message, "received"), eligible(message, "sent")) == (received, sent)


def test_error_of_a_server_is_for_the_sender_alone() -> None:
    error = a_message(type="error")
    error.append(error_element(StanzaError("service-unavailable")))
    assert not eligible(error, "received")


@pytest.mark.parametrize("direction", ["received", "sent"])
def test_copy_is_from_the_own_account_and_is_unwrapped_again(direction: Direction) -> None:
    carbon = copy(a_message(BODY), direction, JID("romeo@montague.example/home"))
    assert carbon == Element.fromstring(
        "<message xmlns='jabber:client' from='romeo@montague.example' to='romeo@montague.example/home' type='chat'>"
        f"<{direction} xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>"
        + a_message(BODY).tobytes().decode()
        + f"</forwarded></{direction}></message>"
    )
    assert unwrap(carbon, ROMEO) == (direction, a_message(BODY))
    assert "type" not in copy(a_message(BODY, type=None), direction, JID("a@b/c")).attrib


@pytest.mark.parametrize(
    "sender",
    [
        "tybalt@capulet.example/home",
        "romeo@montague.example/home",
        "montague.example",
        "romeo@montague.example.org",
        "",
        "@",
    ],
)
@pytest.mark.security(row=56)
def test_carbon_of_a_stranger_is_none(sender: str) -> None:
    """Row 56 of the catalogue: CVE-2017-5589 and its like."""
    forged = copy(a_message(BODY), "received", JID("romeo@montague.example/home"))
    forged.set("from", sender)
    assert carbons.is_carbon(forged)
    assert unwrap(forged, ROMEO) is None


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "<forwarded xmlns='urn:xmpp:forward:0'/>",
        "<forwarded xmlns='urn:xmpp:forward:0'><presence xmlns='jabber:client'/></forwarded>",
    ],
)
def test_carbon_without_a_message_is_none(inside: str) -> None:
    stanza = a_message(f"<sent xmlns='urn:xmpp:carbons:2'>{inside}</sent>")
    stanza.set("from", str(ROMEO))
    assert unwrap(stanza, ROMEO) is None


def test_ordinary_message_is_no_carbon() -> None:
    stanza = a_message(BODY)
    stanza.set("from", str(ROMEO))
    assert not carbons.is_carbon(stanza)
    assert unwrap(stanza, ROMEO) is None


def test_private_message_has_both_marks_once() -> None:
    message = a_message(BODY)
    keep_private(message)
    keep_private(message)
    assert not eligible(message, "sent")
    assert [child.name for child in message] == ["body", "private", "no-copy"]


class Noted(Switch):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []

    def switch_carbons(self, jid: JID, on: bool) -> None:
        self.told.append((str(jid), on))


async def test_client_switches_them_for_itself_as_often_as_it_likes() -> None:
    noted = Noted()
    needed = (chatstates, delay, forward, hints, markers, receipts, roster, stanzaid)
    world = World(carbons.ext, *(module.ext for module in needed), services=[noted])
    romeo = world.session("romeo@plant.example/home")
    for switch in (carbons.enable, carbons.enable, carbons.disable, carbons.disable):
        await switch(romeo)
    assert noted.told == [("romeo@plant.example/home", on) for on in (True, True, False, False)]
    for payload in (Enable(), Disable()):
        with pytest.raises(StanzaError, match="not-allowed"):
            await romeo.request("set", payload, to="juliet@plant.example")
    assert len(noted.told) == 4

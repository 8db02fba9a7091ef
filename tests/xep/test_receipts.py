# SPDX-License-Identifier: Apache-2.0
"""XEP-0184: Message Delivery Receipts."""

import pytest

from _xmppcore import JID, Element
from xiot.xep import receipts, roster
from xiot.xep.roster import Roster

from .world import World

NS = "urn:xmpp:receipts"
NORTH, RICHARD = "northumberland@shakespeare.lit/westminster", "kingrichard@royalty.england.lit/throne"


def a_message(*children: str, id: str = "richard2-4.1.247", type: str = "normal", sender: str = NORTH) -> Element:
    return Element.fromstring(
        f"<message xmlns='jabber:client' from='{sender}' id='{id}' to='{RICHARD}' type='{type}'>"
        f"<body>My lord</body>{''.join(children)}</message>"
    )


REQUEST, RECEIVED = f"<request xmlns='{NS}'/>", f"<received xmlns='{NS}' id='1'/>"


def test_receipt_names_the_id_and_goes_to_the_sender() -> None:
    answer = receipts.receipt(a_message(REQUEST))
    assert answer is not None
    assert (answer.get("to"), answer.get("type"), len(answer)) == (NORTH, "normal", 1)
    assert receipts.received(answer) == "richard2-4.1.247"
    assert answer.get("id")


@pytest.mark.parametrize(
    "message",
    [
        a_message(),
        a_message(REQUEST, RECEIVED),
        a_message(REQUEST, id=""),
        a_message(REQUEST, type="error"),
        a_message(REQUEST, type="groupchat"),
        a_message(REQUEST, sender=""),
    ],
)
def test_no_receipt_is_due(message: Element) -> None:
    assert receipts.receipt(message) is None


def test_request_is_added_once_and_never_to_a_receipt() -> None:
    message = a_message()
    receipts.request(message)
    receipts.request(message)
    assert len(message.findall(f"{{{NS}}}request")) == 1
    for wrong in (a_message(id=""), a_message(RECEIVED)):
        with pytest.raises(ValueError, match="receipt"):
            receipts.request(wrong)


def test_error_is_no_receipt() -> None:
    assert receipts.received(a_message(RECEIVED)) == "1"
    assert receipts.received(a_message(RECEIVED, type="error")) is None


@pytest.mark.parametrize(
    ("subscription", "sent"), [("both", True), ("from", True), ("to", False), ("none", False), (None, False)]
)
async def test_receipt_goes_only_to_whom_we_show_our_presence(subscription: str | None, sent: bool) -> None:
    world = World(roster.ext, receipts.ext)
    north, richard = world.session(NORTH), world.session(RICHARD)
    contacts = Roster()
    if subscription is not None:
        contacts.apply(roster.Item(jid=JID(NORTH).bare, subscription=subscription), None)
    assert await receipts.acknowledge(richard, a_message(REQUEST), contacts) is sent
    assert [receipts.received(got) for got in north.inbox] == (["richard2-4.1.247"] if sent else [])


async def test_our_own_other_client_gets_a_receipt() -> None:
    world = World(roster.ext, receipts.ext)
    richard, other = world.session(RICHARD), world.session("kingrichard@royalty.england.lit/tower")
    assert await receipts.acknowledge(richard, a_message(REQUEST, sender=str(other.jid)), Roster())
    assert len(other.inbox) == 1

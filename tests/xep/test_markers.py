# SPDX-License-Identifier: Apache-2.0
"""XEP-0333: Displayed Markers."""

import pytest

from _xmppcore import Element
from xiot.xep import markers, stanzaid

from .world import World

NS = "urn:xmpp:chat-markers:0"
MARKABLE, DISPLAYED = f"<markable xmlns='{NS}'/>", f"<displayed xmlns='{NS}' id='1'/>"


def a_message(
    *children: str, sender: str = "romeo@m.lit/orchard", id: str = "the-msg-1", type: str = "chat"
) -> Element:
    return Element.fromstring(
        f"<message xmlns='jabber:client' from='{sender}' id='{id}' type='{type}'><body>Hi</body>"
        f"{''.join(children)}</message>"
    )


async def test_sender_who_asked_is_told() -> None:
    world = World(markers.ext, stanzaid.ext)
    romeo, juliet = world.session("romeo@m.lit/orchard"), world.session("juliet@c.lit/balcony")
    assert await markers.mark(juliet, a_message(MARKABLE))
    (told,) = romeo.inbox
    assert markers.displayed(told) == "the-msg-1"
    assert told.get("type") == "chat"
    assert not await markers.mark(juliet, told)


@pytest.mark.parametrize(
    "message",
    [
        a_message(),
        a_message(MARKABLE, DISPLAYED),
        a_message(MARKABLE, type="error"),
        a_message(MARKABLE, id=""),
        a_message(MARKABLE, sender=""),
    ],
)
def test_no_marker_is_due(message: Element) -> None:
    assert markers.marker(message) is None


def test_in_a_room_the_id_is_that_of_the_room() -> None:
    ids = "<stanza-id xmlns='urn:xmpp:sid:0' by='coven@chat.lit' id='39K7'/><stanza-id xmlns='urn:xmpp:sid:0' by='x' id='2'/>"
    marker = markers.marker(a_message(ids, sender="coven@chat.lit/firstwitch", type="groupchat"))
    assert marker is not None
    assert (markers.displayed(marker), marker.get("to"), marker.get("type")) == ("39K7", "coven@chat.lit", "groupchat")


def test_error_is_no_marker() -> None:
    assert markers.displayed(a_message(DISPLAYED, type="error")) is None

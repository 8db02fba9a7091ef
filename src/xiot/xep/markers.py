# SPDX-License-Identifier: Apache-2.0
"""XEP-0333: Displayed Markers, of a client. An application that sends them announces `NS` (section 3)."""

from uuid import uuid4

from _xmppcore import JID, Element
from xiot.ext import Extension, Session
from xiot.schema import Payload, attr
from xiot.stanzas import message
from xiot.xep import stanzaid

NS = "urn:xmpp:chat-markers:0"
ext = Extension("markers", spec="XEP-0333", version="1.0.0", needs=["stanzaid"])


class Markable(Payload, tag=(NS, "markable")):
    """In a message whose sender wants to know when it was displayed."""


class Displayed(Payload, tag=(NS, "displayed")):
    """All up to the message with this id has been displayed."""

    id: str = attr()


def displayed(stanza: Element) -> str | None:
    """Return the id of the message up to which all was displayed, None if this is no marker."""
    marker = stanza.find(Displayed.TAG)
    return None if marker is None or stanza.get("type") == "error" else marker.get("id")


def marker(stanza: Element) -> Element | None:
    """Return the marker that says that a message, and all before it, was displayed.

    None if its sender did not ask, or if it is itself a marker (section 4.2). In a room the id is the one the room gave
    (section 4.3), and the marker goes to the room.
    """
    sender, type, id = stanza.get("from"), stanza.get("type"), stanza.get("id")
    if not sender or type == "error" or stanza.find(Displayed.TAG) is not None:
        return None
    if type == "groupchat":
        room = JID(sender).bare
        id = stanzaid.stanza_id(stanza, room) or id
        return message(Displayed(id=id).to_element(), type="groupchat", id=uuid4().hex, to=room) if id else None
    if not id or stanza.find(Markable.TAG) is None:
        return None
    answer = message(Displayed(id=id).to_element(), id=uuid4().hex, to=sender)
    if type is not None:
        answer.set("type", type)
    return answer


async def mark(session: Session, stanza: Element) -> bool:
    """Tell the sender of a message that it was displayed, if it asked. Returns whether a marker was sent."""
    answer = marker(stanza)
    if answer is not None:
        await session.send(answer)
    return answer is not None

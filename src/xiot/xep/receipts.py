# SPDX-License-Identifier: Apache-2.0
"""XEP-0184: Message Delivery Receipts, of a client. An application that answers requests announces `NS` (section 6)."""

from uuid import uuid4

from _xmppcore import JID, Element, JidError
from xiot.ext import Extension, Session
from xiot.schema import Payload, attr
from xiot.stanzas import message
from xiot.xep.roster import Roster

NS = "urn:xmpp:receipts"
ext = Extension("receipts", spec="XEP-0184", version="1.4.0", needs=["roster"])


class Request(Payload, tag=(NS, "request")):
    """In a message whose sender wants a receipt."""


class Received(Payload, tag=(NS, "received")):
    """A receipt: a client of the recipient has the message with this id."""

    id: str = attr()


def request(stanza: Element) -> None:
    """Ask for a receipt of a message. Raises ValueError if it has no id (section 7), or is itself a receipt (section 5.4)."""
    if not stanza.get("id"):
        raise ValueError("a message that wants a receipt has an id")
    if stanza.find(Received.TAG) is not None:
        raise ValueError("a receipt is not acknowledged")
    if stanza.find(Request.TAG) is None:
        stanza.append(Request().to_element())


def received(stanza: Element) -> str | None:
    """Return the id of our message that a message acknowledges, None if it is no receipt.

    The caller checks that the sender is the one the message went to.
    """
    receipt = stanza.find(Received.TAG)
    return None if receipt is None or stanza.get("type") == "error" else receipt.get("id")


def receipt(stanza: Element) -> Element | None:
    """Return the receipt a message asks for, None if it asks for none or may have none (sections 5.3, 5.4 and 7)."""
    id, sender, type = stanza.get("id"), stanza.get("from"), stanza.get("type")
    wanted = stanza.find(Request.TAG) is not None and stanza.find(Received.TAG) is None
    if not (wanted and id and sender) or type in ("error", "groupchat"):
        return None
    answer = message(Received(id=id).to_element(), id=uuid4().hex, to=sender)
    if type is not None:
        answer.set("type", type)
    return answer


async def acknowledge(session: Session, stanza: Element, roster: Roster) -> bool:
    """Send the receipt a message asks for, unless its sender may not see our presence (section 8). Returns whether it was sent."""
    answer = receipt(stanza)
    if answer is None:
        return False
    try:
        sender = JID(answer.get("to", "")).bare
    except JidError:
        return False
    contact = roster.items.get(sender)
    if sender != session.jid.bare and (contact is None or contact.subscription not in ("from", "both")):
        return False
    await session.send(answer)
    return True

# SPDX-License-Identifier: Apache-2.0
"""XEP-0308: Last Message Correction, of a client. An application that shows corrections announces `NS` (section 3)."""

from uuid import uuid4

from _xmppcore import JID, Element, JidError
from xiot.ext import Extension, Session
from xiot.schema import Payload, attr

NS = "urn:xmpp:message-correct:0"
ext = Extension("correction", spec="XEP-0308", version="1.2.1")


class Replace(Payload, tag=(NS, "replace")):
    """This message stands in place of the one with this id."""

    id: str = attr()


def corrects(stanza: Element, original: Element) -> bool:
    """Return whether a message replaces `original`: it names its id, and is of the same sender and nature (section 4).

    The sender is the bare JID, in a room the occupant. What has been corrected once is corrected again by its first id.
    """
    replace, id = stanza.find(Replace.TAG), original.get("id")
    if replace is None or not id or replace.get("id") != id or stanza.get("type") != original.get("type"):
        return False
    try:
        sender, author = JID(stanza.get("from", "")), JID(original.get("from", ""))
    except JidError:
        return False
    return sender == author if stanza.get("type") == "groupchat" else sender.bare == author.bare


async def correct(session: Session, corrected: Element, original: Element) -> str:
    """Send the whole message `corrected` in place of `original`, which we sent; returns its new id.

    Raises ValueError if `original` has no id, else as `Session.send`.
    """
    replaced = original.find(Replace.TAG)
    first = original.get("id") if replaced is None else replaced.get("id")
    if not first:
        raise ValueError("a message without an id cannot be corrected")
    id = uuid4().hex
    corrected.set("id", id)
    for old in corrected.findall(Replace.TAG):
        corrected.remove(old)
    corrected.append(Replace(id=first).to_element())
    await session.send(corrected)
    return id

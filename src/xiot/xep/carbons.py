# SPDX-License-Identifier: Apache-2.0
"""XEP-0280: Message Carbons, both ends: all clients of an account see all its messages."""

from typing import Literal, NamedTuple

from _xmppcore import JID, Element, JidError
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, Context, Extension, Session
from xiot.schema import Payload, PayloadError, child
from xiot.stanzas import NS_CLIENT
from xiot.xep import chatstates, hints, markers, receipts
from xiot.xep.forward import Forwarded

NS = "urn:xmpp:carbons:2"
# "urn:xmpp:carbons:rules:0" is not announced: whether an error answers a message that was copied is not remembered.
ext = Extension(
    "carbons",
    spec="XEP-0280",
    version="1.0.1",
    features=[NS],
    needs=["chatstates", "forward", "hints", "markers", "receipts"],
    at=HOST,
)

Direction = Literal["received", "sent"]

_IM = frozenset([chatstates.NS, markers.NS, receipts.NS])
_MUC = "http://jabber.org/protocol/muc#user"
_BODY = f"{{{NS_CLIENT}}}body"


class Enable(Payload, tag=(NS, "enable")):
    """Wanted from now on (section 4)."""


class Disable(Payload, tag=(NS, "disable")):
    """Wanted no more (section 5)."""


class Private(Payload, tag=(NS, "private")):
    """In a message that is not to be copied (section 9)."""


class Received(Payload, tag=(NS, "received")):
    """Around a message that another client of ours got (section 7)."""

    forwarded: Forwarded = child()


class Sent(Payload, tag=(NS, "sent")):
    """Around a message that another client of ours sent (section 8)."""

    forwarded: Forwarded = child()


# ---- a server --------------------------------------------------------------------------------------------


class Switch:
    """What makes the copies; a server derives its own."""

    def switch_carbons(self, jid: JID, on: bool) -> None:
        """Begin, or stop, to copy messages to the session of the full JID `jid`."""


@ext.iq_set(Enable, at=ACCOUNT)
def on_enable(_: Enable, ctx: Context) -> None:
    """Copy messages to this client (section 4); once more is no error (section 10.1)."""
    _own(ctx).switch_carbons(ctx.sender, True)


@ext.iq_set(Disable, at=ACCOUNT)
def on_disable(_: Disable, ctx: Context) -> None:
    """Copy nothing to this client any more (section 5)."""
    _own(ctx).switch_carbons(ctx.sender, False)


def _own(ctx: Context) -> Switch:
    if ctx.account != ctx.sender.bare:
        raise StanzaError("not-allowed")
    return ctx.service(Switch)


def eligible(stanza: Element, direction: Direction) -> bool:
    """Return whether a message is to be copied (section 6.1)."""
    type = stanza.get("type")
    if type == "groupchat" or stanza.find(Private.TAG) is not None or "no-copy" in hints.hints(stanza):
        return False
    room = stanza.find(f"{{{_MUC}}}x")
    if room is not None and direction == "received":
        return room.find(f"{{{_MUC}}}invite") is not None  # others are copied by the room itself
    if type == "chat" or room is not None:
        return True
    # An error counts if it repeats a message that counts: the answers of servers do not, so they are for the sender alone.
    if type != "headline" and stanza.find(_BODY) is not None:
        return True
    return any(child.ns in _IM or child.tag == "{jabber:x:conference}x" for child in stanza)


def copy(stanza: Element, direction: Direction, to: JID) -> Element:
    """Return the carbon of `stanza` for the full JID `to` (sections 7 and 8)."""
    wrap = Received if direction == "received" else Sent
    carbon = Element(f"{{{NS_CLIENT}}}message", {"from": str(to.bare), "to": str(to)})
    type = stanza.get("type")
    if type is not None:
        carbon.set("type", type)
    carbon.append(wrap(forwarded=Forwarded.of(stanza)).to_element())
    return carbon


# ---- a client --------------------------------------------------------------------------------------------


class Carbon(NamedTuple):
    """A message that another client of ours got or sent. It must not be answered by a machine (section 10.4)."""

    direction: Direction
    message: Element


def is_carbon(stanza: Element) -> bool:
    """Return whether a message says that it is a carbon, be it true or forged."""
    return stanza.find(Received.TAG) is not None or stanza.find(Sent.TAG) is not None


def unwrap(stanza: Element, account: JID) -> Carbon | None:
    """Return the message in a carbon; None if it is none, or not of `account`, our own bare JID (section 11)."""
    try:
        if JID(stanza.get("from", "")) != account or stanza.get("type") == "error":
            return None
        received, sent = stanza.find(Received.TAG), stanza.find(Sent.TAG)
        if received is not None:
            return _carbon("received", Received.from_element(received).forwarded)
        return None if sent is None else _carbon("sent", Sent.from_element(sent).forwarded)
    except (JidError, PayloadError):
        return None


def _carbon(direction: Direction, forwarded: Forwarded) -> Carbon | None:
    stanza = forwarded.stanza
    return Carbon(direction, stanza) if stanza.tag == f"{{{NS_CLIENT}}}message" else None


async def enable(session: Session) -> None:
    """Have all messages of our other clients copied to us (section 4). Raises as `Session.request`."""
    await session.request("set", Enable())


async def disable(session: Session) -> None:
    """Have nothing copied to us any more (section 5). Raises as `Session.request`."""
    await session.request("set", Disable())


def keep_private(stanza: Element) -> None:
    """Have a message for a full JID not copied, neither here nor there (section 9)."""
    if stanza.find(Private.TAG) is None:
        stanza.append(Private().to_element())
    hints.add(stanza, "no-copy")

# SPDX-License-Identifier: Apache-2.0
"""XEP-0359: Unique and Stable Stanza IDs, both ends.

Accounts announce the feature: no id that is forged in their name passes (section 5). The core routes no stanza with a child
of that name by itself, and the server removes it where it delivers a message.
"""

from uuid import uuid4

from _xmppcore import JID, Element
from xiot.ext import ACCOUNT, Extension
from xiot.schema import Payload, attr
from xiot.stanzas import same_jid

NS = "urn:xmpp:sid:0"
ext = Extension("stanzaid", spec="XEP-0359", version="0.7.0", features=[NS], at=ACCOUNT)


class StanzaId(Payload, tag=(NS, "stanza-id")):
    """The id that the entity `by` gave to the stanza (section 2.1)."""

    id: str = attr()
    by: JID = attr()


class OriginId(Payload, tag=(NS, "origin-id")):
    """The id that the sender gave (section 2.2); anybody can forge it."""

    id: str = attr()


class ReferencedStanza(Payload, tag=(NS, "referenced-stanza")):
    """Names another stanza by the id that the entity `by` gave it (section 4)."""

    id: str = attr()
    by: JID | None = attr(default=None)


def strip(stanza: Element, by: JID) -> None:
    """Remove the ids that somebody else gave in the name of `by` (section 3, rule 2)."""
    for forged in [child for child in stanza.findall(StanzaId.TAG) if same_jid(child.get("by"), by)]:
        stanza.remove(forged)


def stamp(stanza: Element, id: str, by: JID) -> None:
    """Give a stanza the id that `by` keeps it by, in place of any forged one (section 3)."""
    strip(stanza, by)
    stanza.append(StanzaId(id=id, by=by).to_element())


def stanza_id(stanza: Element, by: JID) -> str | None:
    """Return the id that `by` gave, None if there is none, or more than one (section 3, rule 4).

    To be believed only if `by` announces `NS` (section 6).
    """
    ids = [child.get("id") for child in stanza.findall(StanzaId.TAG) if same_jid(child.get("by"), by)]
    return ids[0] if len(ids) == 1 and ids[0] else None


def add_origin_id(stanza: Element) -> str:
    """Give a message of ours a new origin id, which is also its id, unless it has one already; returns it."""
    found = stanza.find(OriginId.TAG)
    if found is not None and (known := found.get("id")):
        return known
    id = stanza.get("id") or uuid4().hex
    stanza.set("id", id)
    stanza.append(OriginId(id=id).to_element())
    return id

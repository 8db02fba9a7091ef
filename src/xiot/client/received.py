# SPDX-License-Identifier: Apache-2.0
"""What came, as the application gets it."""

from __future__ import annotations

from dataclasses import dataclass

from xiot.core import JID, Element, Stanza
from xiot.model.reading import Reading
from xiot.stanzas import NS_CLIENT
from xiot.xep import sensordata


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came (RFC 6121 section 5)."""

    sender: JID | None
    to: JID | None
    type: str
    """chat, error, groupchat, headline or normal."""
    id: str | None
    body: str | None
    element: Element
    """All of it."""


@dataclass(frozen=True, slots=True)
class Presence:
    """A presence as it came (RFC 6121 section 4)."""

    sender: JID | None
    type: str | None
    """None: available."""
    show: str | None
    status: str | None
    priority: int
    element: Element


@dataclass(frozen=True, slots=True)
class Item:
    """A published item, as a subscriber gets it (XEP-0060 section 7.1.2)."""

    node: str
    id: str
    publisher: JID | None
    payload: Element | None

    @property
    def reading(self) -> Reading:
        """The payload as a reading. Raises ValueError if it is none."""
        if self.payload is None:
            raise ValueError("the item has no payload")
        return sensordata.read(self.payload)


def to_presence(stanza: Stanza, sender: JID | None) -> Presence:
    """The fields of a presence stanza; a priority that is no number is 0."""
    element = stanza.element
    show, status, priority = (element.findtext(f"{{{NS_CLIENT}}}{name}") for name in ("show", "status", "priority"))
    try:
        number = int(priority or 0)
    except ValueError:
        number = 0
    return Presence(sender, stanza.type, show, status, number, element)

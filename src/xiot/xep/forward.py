# SPDX-License-Identifier: Apache-2.0
"""XEP-0297: Stanza Forwarding: a stanza inside another one.

What was forwarded is as true as whoever sent it: only the extension around it can tell whether to believe it (section 6).
"""

from datetime import datetime
from typing import Self

from _xmppcore import JID, Element
from xiot.ext import Extension
from xiot.schema import Payload, PayloadError, any_child, child
from xiot.stanzas import NS_CLIENT, NS_SERVER
from xiot.xep.delay import Delay

NS = "urn:xmpp:forward:0"
# No feature is announced: it is for clients that show a message forwarded by itself (section 4).
ext = Extension("forward", spec="XEP-0297", version="1.0", needs=["delay"])

_STANZAS = frozenset(f"{{{ns}}}{name}" for ns in (NS_CLIENT, NS_SERVER) for name in ("message", "presence", "iq"))


class Forwarded(Payload, tag=(NS, "forwarded")):
    """A stanza, and when the forwarding entity got it (section 3)."""

    delay: Delay | None = child(default=None)
    content: Element | None = any_child(default=None)

    @classmethod
    def of(cls, stanza: Element, received: datetime | None = None, by: JID | None = None) -> Self:
        """Wrap `stanza`, which somebody, maybe `by`, got at `received`."""
        delay = None if received is None else Delay(stamp=received, from_=None if by is None else str(by))
        return cls(delay=delay, content=stanza)

    @property
    def stanza(self) -> Element:
        """What was forwarded. Raises PayloadError if it is no stanza."""
        if self.content is None or self.content.tag not in _STANZAS:
            raise PayloadError("forwarded", "no stanza in it")
        return self.content

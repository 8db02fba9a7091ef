# SPDX-License-Identifier: Apache-2.0
"""XEP-0352: Client State Indication: what can wait is held back while nobody looks.

Theory of operation. While its client is inactive, a session gives each stanza to `Held`. Presence and lone chat states wait there, of
each sender only the newest of its kind. Before anything else, and when the client is active again, all that waits goes first, in the order
it came; so nothing is seen out of its order. What waits is bounded: when it is too much, it is sent.
"""

from collections.abc import Iterable

from _xmppcore import Element
from xiot.ext import Extension, Session
from xiot.schema import Payload
from xiot.stanzas import NS_CLIENT
from xiot.xep import chatstates, hints, stanzaid

NS = "urn:xmpp:csi:0"
ext = Extension("csi", spec="XEP-0352", version="1.0.0", needs=["chatstates", "hints", "stanzaid"])

MAX_HELD_BYTES = 65_536
"""Of stanzas that wait for one client: presence of some hundred contacts."""

_ASIDE = frozenset([hints.NS, stanzaid.NS])
_THREAD = f"{{{NS_CLIENT}}}thread"


class Feature(Payload, tag=(NS, "csi")):
    """In the features of a stream after login (section 4.1)."""


class Active(Payload, tag=(NS, "active")):
    """Somebody looks at the client (section 4.2)."""


class Inactive(Payload, tag=(NS, "inactive")):
    """Nobody looks at the client (section 4.2)."""


def can_wait(stanza: Element) -> bool:
    """Return whether a stanza may wait: presence that is no request, and a message that only tells a chat state."""
    type = stanza.get("type")
    if stanza.name == "presence":
        return type in (None, "unavailable")
    if stanza.name != "message" or type in ("error", "groupchat") or chatstates.state(stanza) is None:
        return False
    return all(child.ns in (chatstates.NS, *_ASIDE) or child.tag == _THREAD for child in stanza)


class Held:
    """What waits for one inactive client."""

    def __init__(self) -> None:
        self._stanzas: dict[tuple[str, str], bytes] = {}  # by sender and kind, in the order they came
        self._bytes = 0

    def hold(self, stanza: Element, octets: bytes) -> bool:
        """Keep `octets`, those of `stanza`, in place of what waits of the same sender and kind; False if it cannot wait."""
        if not can_wait(stanza):
            return False
        key = stanza.get("from", ""), stanza.name
        self._bytes += len(octets) - len(self._stanzas.pop(key, b""))
        self._stanzas[key] = octets
        return True

    @property
    def full(self) -> bool:
        """Whether all that waits is to be sent now."""
        return self._bytes > MAX_HELD_BYTES

    def release(self) -> Iterable[bytes]:
        """Return what waits, in the order it came; nothing waits then."""
        stanzas, self._stanzas, self._bytes = self._stanzas, {}, 0
        return stanzas.values()


async def active(session: Session) -> None:
    """Tell that somebody looks at us (section 4.2). Raises as `Session.send`."""
    await session.send(Active().to_element())


async def inactive(session: Session) -> None:
    """Tell that nobody looks at us, if our server offers `Feature` (section 4.2). Raises as `Session.send`."""
    await session.send(Inactive().to_element())

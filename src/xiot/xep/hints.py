# SPDX-License-Identifier: Apache-2.0
"""XEP-0334: Message Processing Hints, both ends."""

from typing import Literal, get_args

from _xmppcore import Element
from xiot.ext import HOST, Extension

NS = "urn:xmpp:hints"
ext = Extension("hints", spec="XEP-0334", version="1.0.0", features=[NS], at=HOST)

Hint = Literal["no-permanent-store", "no-store", "no-copy", "store"]


def hints(stanza: Element) -> frozenset[Hint]:
    """Return the hints in a message; those in an error do not count (section 5)."""
    if stanza.get("type") == "error":
        return frozenset()
    found = {child.name for child in stanza if child.ns == NS}
    return frozenset(hint for hint in get_args(Hint) if hint in found)


def add(stanza: Element, *wanted: Hint) -> None:
    """Add hints to a message; ``no-copy`` only to one for a full JID (section 4.3)."""
    for hint in wanted:
        if hint not in hints(stanza):
            stanza.append(Element(f"{{{NS}}}{hint}"))

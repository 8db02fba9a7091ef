# SPDX-License-Identifier: Apache-2.0
"""XEP-0085: Chat State Notifications, of a client. An application that sends them announces `NS` (section 4)."""

from typing import Literal, get_args

from _xmppcore import JID, Element
from xiot.ext import Extension
from xiot.stanzas import NS_CLIENT, message

NS = "http://jabber.org/protocol/chatstates"
ext = Extension("chatstates", spec="XEP-0085", version="2.1")

State = Literal["active", "composing", "paused", "inactive", "gone"]


def state(stanza: Element) -> State | None:
    """Return the state that a message tells, None if it tells none; at most one is allowed (section 5.5)."""
    found = [child.name for child in stanza if child.ns == NS]
    return next((name for name in get_args(State) if found == [name]), None)


class Conversation:
    """The states of a chat with one contact: says what is to be sent, and never more than the rules allow."""

    def __init__(self, to: JID | str, thread: str | None = None) -> None:
        self._to = to
        self._thread = thread
        self._told: State | None = None
        self._wanted: bool | None = None  # None: we do not know yet (section 5.1)

    def heard(self, stanza: Element) -> State | None:
        """Take a message of the contact: an answer without a state means that it wants none (section 5.1). Returns its state."""
        found = state(stanza)
        if stanza.get("type") != "error" and (found is not None or stanza.find(f"{{{NS_CLIENT}}}body") is not None):
            self._wanted = found is not None
        return found

    def add_to(self, stanza: Element) -> None:
        """Add ``<active/>`` to a message with content, if the contact may want it (sections 5.1 and 5.5)."""
        self._told = "active"
        if self._wanted is not False and state(stanza) is None:
            stanza.append(Element(f"{{{NS}}}active"))

    def change(self, new: State) -> Element | None:
        """Return the message that tells of the state `new`.

        None if the contact has not shown that it wants to know, or was told last time (sections 5.1 and 5.3).
        """
        if not self._wanted or new == self._told:
            return None
        self._told = new
        children = [Element(f"{{{NS}}}{new}")]
        if self._thread is not None:
            children.append(Element(f"{{{NS_CLIENT}}}thread", None, self._thread))
        return message(*children, type="chat", to=self._to)

# SPDX-License-Identifier: Apache-2.0
"""What a server forgets with the session, and what a client makes anew on a stream that does not resume the last one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from xiot.client.subscriptions import Subscriptions
from xiot.core import JID, Element
from xiot.errors import StanzaError
from xiot.ext import Session
from xiot.xep.roster import Roster, fetch

DIRECTED_KEPT = 1000  # JIDs that were sent presence of their own: the newest

log = logging.getLogger(__name__)


class Restoring:
    """What the session has that is to outlive its stream."""

    def __init__(self, roster: Roster, subscriptions: Subscriptions) -> None:
        self._roster = roster
        self._subscriptions = subscriptions
        self._kept: list[Callable[[Session], Awaitable[object]]] = []
        self._presence: Element | None = None  # the last one to everybody
        self._directed: dict[JID, Element] = {}  # the last one to each
        self.wants_roster = False

    def keep(self, act: Callable[[Session], Awaitable[object]]) -> None:
        """Do `act` on each new stream."""
        self._kept.append(act)

    def sent(self, stanza: Element) -> None:
        """Note what we have sent: presence is what is restored of it."""
        if stanza.name != "presence" or stanza.get("type") not in (None, "unavailable"):
            return
        available, to = stanza.get("type") is None, stanza.get("to")
        if to is None:
            self._presence = stanza if available else None
            if not available:
                self._directed.clear()  # RFC 6121 section 4.6.3: they, too, are told that we are gone
            return
        self._directed.pop(JID(to), None)
        if available:
            self._directed[JID(to)] = stanza
            if len(self._directed) > DIRECTED_KEPT:
                del self._directed[next(iter(self._directed))]

    async def restore(self, session: Session) -> None:
        """Make it what it was (RFC 6121 section 2.2: the roster first). Raises as requests do, or a group of that."""
        if self.wants_roster:
            await self._again(session, "the roster", lambda: fetch(session, self._roster))
        for act in self._kept:
            await self._again(session, "what was to be kept", lambda act=act: act(session))  # type: ignore[misc]
        await self._subscriptions.restore(session)
        if self._presence is not None:
            await session.send(self._presence)
        for presence in list(self._directed.values()):
            await session.send(presence)

    async def _again(self, session: Session, what: str, act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
        except StanzaError as error:
            log.warning("%s: %s is not restored: %s", session.jid, what, error)

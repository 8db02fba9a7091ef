# SPDX-License-Identifier: Apache-2.0
"""What a server forgets with the session, and what a client makes anew on a stream that does not resume the last one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from xiot.client.subscriptions import Subscriptions
from xiot.core import Element
from xiot.errors import StanzaError
from xiot.ext import Session
from xiot.xep.roster import Roster, fetch

log = logging.getLogger(__name__)


class Restoring:
    """What the session has that is to outlive its stream."""

    def __init__(self, roster: Roster, subscriptions: Subscriptions) -> None:
        self._roster = roster
        self._subscriptions = subscriptions
        self._kept: list[Callable[[Session], Awaitable[object]]] = []
        self._presence: Element | None = None  # the last one to everybody
        self.wants_roster = False

    def keep(self, act: Callable[[Session], Awaitable[object]]) -> None:
        """Do `act` on each new stream."""
        self._kept.append(act)

    def sent(self, stanza: Element) -> None:
        """Note what we have sent: presence is what is restored of it."""
        if stanza.name == "presence" and stanza.get("to") is None and stanza.get("type") in (None, "unavailable"):
            self._presence = stanza if stanza.get("type") is None else None

    async def restore(self, session: Session) -> None:
        """Make it what it was (RFC 6121 section 2.2: the roster first). Raises as requests do, or a group of that."""
        if self.wants_roster:
            await self._again(session, "the roster", lambda: fetch(session, self._roster))
        for act in self._kept:
            await self._again(session, "what was to be kept", lambda act=act: act(session))  # type: ignore[misc]
        await self._subscriptions.restore(session)
        if self._presence is not None:
            await session.send(self._presence)

    async def _again(self, session: Session, what: str, act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
        except StanzaError as error:
            log.warning("%s: %s is not restored: %s", session.jid, what, error)

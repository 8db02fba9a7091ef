# SPDX-License-Identifier: Apache-2.0
"""Looks at all connections from time to time: whoever sends more than it may has to wait, whoever is silent too long is closed.

Theory of operation. Nothing is done for a stanza or a receive: links count their octets and stanzas anyway, and a look takes the
differences. They are charged to token buckets, one for each account and each address that has sent of late. A bucket in debt has those of its
connections that have sent something held: they are not read until the debt is paid. So a rate is kept on average over the time that a
bucket and a look span, and nothing is lost: TCP tells the sender to wait.

A connection that was silent for most of its time is pinged, so that only the dead reach the end of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import trio

if TYPE_CHECKING:
    from xiot.net.pump import Connection
    from xiot.server.config import Limits
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

LOOK_S = 0.25  # while there are rates to be kept
IDLE_LOOK_S = 10.0  # while there is only silence to be looked for; at most
GRACE_S = 30.0  # to answer the ping; at most half of the time allowed
SLICE = 1000  # connections looked at, at a time: about a millisecond

Scope = Literal["account", "address"]


@dataclass(slots=True)
class Bucket:
    """Tokens that come at a rate and are spent at will, up to a debt: that is waited for."""

    level: float
    at: float

    def charge(self, spent: float, now: float, rate: float, most: float) -> float:
        """Take `spent` tokens away; `rate` a second have come since, up to `most`. Returns how many seconds are owed."""
        self.level = min(most, self.level + (now - self.at) * rate) - spent
        self.at = now
        return max(0.0, -self.level / rate)


@dataclass(slots=True)
class Payer:
    """An account or an address that has sent of late."""

    buckets: list[Bucket]
    told: bool = False
    """The log knows that it owes."""


@dataclass(slots=True)
class Spent:
    """What a payer has sent since the last look."""

    bytes: int = 0
    stanzas: int = 0
    connections: list[Connection] = field(default_factory=list)


@dataclass(slots=True)
class Hold:
    """A connection that is not read, whose debt it is, since when and until when."""

    scope: Scope
    since: float
    until: float


class Watch:
    """The watch over the connections of one server; `run` is its task."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._payers: dict[tuple[Scope, str], Payer] = {}
        self._held: dict[Connection, Hold] = {}
        self.waits: Counter[Scope] = Counter()
        """How often a connection was held, by whose debt."""
        self.waited_s: dict[Scope, float] = {"account": 0.0, "address": 0.0}
        """For how long, in all, of the holds that are over."""

    @property
    def held(self) -> int:
        """Connections that are held now."""
        return len(self._held)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            limits = self._server.config.limits
            if any(map(any, rates(limits).values())) or self._held:
                await trio.sleep(LOOK_S)
            else:
                await trio.sleep(min(IDLE_LOOK_S, limits.idle_s / 8 or IDLE_LOOK_S))
            await self.look(trio.current_time())

    async def look(self, now: float) -> None:
        """Look at every connection once; `now` is on trio's clock."""
        self._release(now)
        limits = self._server.config.limits
        spent: dict[tuple[Scope, str], Spent] = {}
        for number, session in enumerate(list(self._server.sessions), 1):
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()
            connection = session.connection
            if connection.closing:
                continue
            if connection.heard_bytes != connection.bytes_in:
                self._heard(session, connection, now, spent)
            elif not connection.reading or not connection.heard_at:
                connection.heard_at = now  # we do not listen
            elif limits.idle_s and session.bound:  # before login the time is shorter anyway
                self._silent(session, connection, now - connection.heard_at, limits.idle_s)
        self._charge(spent, now, limits)
        self._server.pump.flush()

    def _heard(
        self, session: ClientSession, connection: Connection, now: float, spent: dict[tuple[Scope, str], Spent]
    ) -> None:
        octets, stanzas = connection.bytes_in, connection.link.stanzas + connection.events
        payers: list[tuple[Scope, str]] = [("address", connection.source)]
        if session.bound:  # else anybody could spend what is another's
            payers.append(("account", str(session.jid.bare)))
        for payer in payers:
            sent = spent.setdefault(payer, Spent())
            sent.bytes += octets - connection.heard_bytes
            sent.stanzas += stanzas - connection.heard_stanzas
            sent.connections.append(connection)
        connection.heard_bytes, connection.heard_stanzas = octets, stanzas
        connection.heard_at, connection.asked = now, False

    def _silent(self, session: ClientSession, connection: Connection, seconds: float, idle_s: float) -> None:
        if seconds >= idle_s:
            session.on_idle()
        elif seconds >= idle_s - min(GRACE_S, idle_s / 2) and not connection.asked:
            connection.asked = True
            session.ping()

    # ---- rates ----

    def _charge(self, spent: dict[tuple[Scope, str], Spent], now: float, limits: Limits) -> None:
        for (scope, key), sent in spent.items():
            payer = self._payers.get((scope, key))
            owed = 0.0
            for number, (rate, count) in enumerate(zip(rates(limits)[scope], (sent.bytes, sent.stanzas), strict=True)):
                if rate:
                    most = rate * limits.burst_s
                    if payer is None:
                        payer = self._payers[scope, key] = Payer([Bucket(float("inf"), now) for _ in range(2)])
                    owed = max(owed, payer.buckets[number].charge(count, now, rate, most))
            if payer is not None and owed:
                if not payer.told:
                    payer.told = True
                    self._server.log.info("sends more than it may: it waits", of=scope, who=key, seconds=round(owed, 3))
                for connection in sent.connections:
                    self._hold(connection, scope, now, now + owed)
        self._forget(now, limits)

    def _forget(self, now: float, limits: Limits) -> None:
        """Drop the payers whose buckets have filled up again."""
        for (scope, key), payer in list(self._payers.items()):
            full = (
                not rate or bucket.level + (now - bucket.at) * rate >= rate * limits.burst_s
                for bucket, rate in zip(payer.buckets, rates(limits)[scope], strict=True)
            )
            if all(full):
                del self._payers[scope, key]

    def _hold(self, connection: Connection, scope: Scope, now: float, until: float) -> None:
        hold = self._held.get(connection)
        if hold is not None:
            hold.until = max(hold.until, until)
        elif not connection.closing:
            self._held[connection] = Hold(scope, now, until)
            self.waits[scope] += 1
            self._server.pump.hold(connection)

    def _release(self, now: float) -> None:
        for connection, hold in list(self._held.items()):
            if now >= hold.until or connection.closing:
                del self._held[connection]
                self.waited_s[hold.scope] += now - hold.since
                self._server.pump.release(connection)


def rates(limits: Limits) -> dict[Scope, tuple[int, int]]:
    """Octets and stanzas a second, by scope; 0 is no limit."""
    return {
        "account": (limits.account_bytes_per_s, limits.account_stanzas_per_s),
        "address": (limits.address_bytes_per_s, limits.address_stanzas_per_s),
    }

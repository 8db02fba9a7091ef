# SPDX-License-Identifier: Apache-2.0
"""Links whose every stanza is on disk before anybody is told so, and that go on after a kill of the server.

Theory of operation. A client asks for it by an attribute of ours on ``<enable/>`` (`xiot.proto.sm.DURABLE`), or the configuration says so
of its host or account. A hook bit brings all stanzas of such a link here; no other link pays for it.

What its client sends is taken: kept in the store together with the count of what was taken, and with the origin-id, by which a
message that comes again is known (`xiot.model.durable`). Then it is counted in ``<a/>``, and routed, one stanza after the other. What is
for the client is kept in the store before it goes to the wire. So ``<resumed/>`` tells the truth after a crash, and everything the client has
not acknowledged is there.

After a crash the sessions come back as they were, without their connections, and all stanzas that are still in the custody of the `Journal`
are routed anew. So between durable links, and into the offline storage, each stanza goes exactly once; another client may get one again
that it had not acknowledged, and knows it by its origin-id. A request that the server itself was about to answer is done again; that changes
nothing the second time, but for an item that is published without an id. What an inactive client has yet to be shown (XEP-0352: presence, chat states) is not kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import trio

from xiot.core import Element, Stanza
from xiot.model.durable import DurableSession, is_new
from xiot.proto.sm import COUNTS
from xiot.server.journal import Journal, Taken
from xiot.stanzas import NS_CLIENT
from xiot.store import Transaction
from xiot.xep.stanzaid import OriginId

if TYPE_CHECKING:
    from xiot.server.session import ClientSession

T = TypeVar("T")

MOST_BYTES = 262_144  # received and not yet dealt with, or to be sent and not yet on disk, of one link: then whoever sends has to wait


class State(msgspec.Struct, frozen=True):
    """What is kept of a session besides its stanzas."""

    lang: str
    presence: str | None
    priority: int
    arriving: str | None
    interests: list[str]
    carbons: bool
    subscriber: bool
    client: str | None
    directed: list[str]


class DurableLink:
    """The durability of one session."""

    def __init__(
        self,
        journal: Journal,
        session: ClientSession,
        id: str,
        resumable_s: float,
        handled: int = 0,
        sent: int = 0,
        acknowledged: int = 0,
    ) -> None:
        """`id`: what the session is resumed by. The counts are those of an earlier process; unlike those of the link they go on for ever."""
        self.session = session
        self.over = False
        """The session has ended."""
        self._journal = journal
        self._id = id
        self._resumable_s = resumable_s
        self._handled = handled  # with those that are not on disk yet
        self._untaken = 0  # received, and not on disk yet
        self._bytes = 0  # of all that is not dealt with
        self._todo: deque[Taken] = deque()  # on disk, to be routed
        self._at: Taken | None = None  # being routed
        self._routing = False
        self._sent = sent  # with those that are not on disk yet
        self._put = sent
        self._unput_bytes = 0
        self._acknowledged = acknowledged  # and so not on disk any more
        self._late: list[bytes] = []  # on disk only when the session had ended
        self._moved = trio.Event()
        self._saved: object = None

    def began(self) -> None:
        """The session is durable as soon as that is on disk; nothing is acknowledged before."""
        self._journal.links.add(self)
        self.session.server.hooks.changed_durability(self.session)
        self.save()
        self._expect(lambda tx: None, lambda _: self._on_disk())

    # ---- from the client ----

    def receive(self, stanza: Stanza) -> None:
        """Take a stanza, then route it."""
        journal, id, sender, data = self._journal, self._id, self.session.jid, stanza.tobytes()
        key, now, window = _origin_id(stanza), datetime.now(UTC), journal.window
        self._handled += 1
        handled, taken = self._handled, Taken(journal, stanza)

        def take(tx: Transaction) -> int | None:
            tx.durable.count(id, handled)
            if key is not None and not is_new(tx.durable, str(sender.bare), key, now, window):
                return None
            return tx.durable.receive(id, str(sender), data)

        self._bytes += taken.size_bytes
        self._expect(take, partial(self._taken, taken))
        if self._bytes > MOST_BYTES:
            self.session.wait_apart(self._room)

    def count(self) -> None:
        """Count a stanza that the stream itself has answered."""
        self._handled += 1
        handled = self._handled
        self._expect(lambda tx: tx.durable.count(self._id, handled), lambda _: self._counted())

    def take_again(self, taken: Taken) -> None:
        """Route a stanza that another process has taken."""
        self._bytes += taken.size_bytes
        self._todo.append(taken)

    def _expect(self, step: Callable[[Transaction], Any], then: Callable[[Any], None]) -> None:
        """Have something on disk before anything is acknowledged."""
        self._untaken += 1
        self.session.connection.link.pending = True
        self._journal.add(step, then)

    def _taken(self, taken: Taken, id: int | None) -> None:
        if id is not None:
            taken.id = id
            self._todo.append(taken)
        else:
            self._bytes -= taken.size_bytes
        self._counted()
        self.work()

    def _counted(self) -> None:
        self.session.connection.link.count_handled()
        self._on_disk()

    def _on_disk(self) -> None:
        self._untaken -= 1
        self._wake()

    async def _room(self) -> None:
        while self._bytes > MOST_BYTES // 2:
            await self._moved.wait()

    @property
    def busy(self) -> bool:
        """Whether anything the client has sent is yet to be dealt with."""
        return bool(self._untaken or self._todo or self._at is not None)

    async def taken(self) -> None:
        """Wait until all that came is on disk."""
        while self._untaken:
            await self._moved.wait()

    async def settled(self) -> None:
        """Wait until all that came was dealt with."""
        while self.busy:
            await self._moved.wait()

    def _wake(self) -> None:
        if not self.busy:
            self.session.connection.link.pending = False
        self._moved.set()
        self._moved = trio.Event()

    def work(self) -> None:
        """Route what was taken, up to one that something has to be waited for."""
        while self._todo and self._at is None and not self.session.server.stopping:  # else the next process does
            taken = self._at = self._todo.popleft()
            if self.over and taken.stanza.name != "message":
                self._done(taken)  # whoever is gone has no presence, and waits for no answer
                continue
            self._routing = True
            with self._journal.carrying(taken):
                self.session.guard(partial(self.session.server.routing.route, taken.stanza, self.session))
            self._routing = False
            if not taken.waits:
                self._done(taken)

    def begin(self) -> Taken | None:
        """Something has to be waited for; return what it is for, to be given to `finish`."""
        if self._at is not None:
            self._at.waits += 1
        return self._at

    def finish(self, taken: Taken) -> None:
        """It has come."""
        taken.waits -= 1
        if not taken.waits and not self._routing:
            self._done(taken)
            self.work()

    def _done(self, taken: Taken) -> None:
        self._at = None
        self._bytes -= taken.size_bytes
        taken.routed()
        self.save()
        self._wake()

    def removing(self, fn: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
        """`fn`, which stores the stanza that is being dealt with elsewhere, and removes it in the same transaction."""
        taken = self._at
        if taken is None:
            return fn

        def do(tx: Transaction) -> T:
            result = fn(tx)
            taken.remove(tx)
            return result

        return do

    # ---- to the client ----

    def send(self, data: bytes) -> bool:
        """Keep a stanza for the client, then queue it. False if it does not keep up, or is gone."""
        connection, carried = self.session.connection, self._journal.carried
        if self.over or (connection.closing and not connection.link.detached):
            return False
        if connection.link.full or self._unput_bytes > self.session.server.router.high_bytes:
            return False
        self._sent += 1
        id, number = self._id, self._sent

        def put(tx: Transaction) -> None:
            tx.durable.send(id, number, data)
            if carried is not None:
                carried.remove(tx)

        self._unput_bytes += len(data)
        self._journal.add(put, lambda _: self._queue(data))
        return True

    @property
    def crowded(self) -> bool:
        """Whether so much is to be sent that is not on disk yet that who sends more should wait."""
        return self._unput_bytes > MOST_BYTES

    async def uncrowded(self) -> None:
        """Wait until it is less."""
        while self._unput_bytes > MOST_BYTES // 2:
            await self._moved.wait()

    def _queue(self, data: bytes) -> None:
        self._put += 1
        self._unput_bytes -= len(data)
        if self._unput_bytes <= MOST_BYTES // 2:
            self._wake()
        if self.over:
            self._late.append(data)
        else:
            self.session.connection.link.send(data)

    def look(self) -> None:
        """Forget what the client has acknowledged, and note what has changed."""
        link, id = self.session.connection.link, self._id
        number = self._put - (link.sent - link.acknowledged) % COUNTS
        if number > self._acknowledged:
            self._acknowledged = number
            self._journal.add(lambda tx: tx.durable.acknowledge(id, number))
        self.save()

    # ---- the session ----

    def save(self) -> None:
        """Keep what is known of the session, if that has changed."""
        if self.over:
            return
        session, mine = self.session, self.session.availability
        state = (
            session.lang,
            mine.presence,
            mine.priority,
            mine.arriving,
            sorted(session.interests),
            session.carbons,
            session.subscriber,
            session.client,
            sorted(map(str, mine.directed)),
        )
        if state == self._saved:
            return
        self._saved = state
        lang, shown, priority, arriving, *rest = state
        written = State(lang, _text(shown), priority, None if arriving is None else arriving.tobytes().decode(), *rest)  # type: ignore[arg-type]
        row = DurableSession(self._id, str(session.jid), self._resumable_s, msgspec.json.encode(written))
        self._journal.add(lambda tx: tx.durable.put(row))

    def end(self) -> None:
        """The session is over: once all that it has sent is on its way, deal with what its client has not acknowledged."""
        self.over = True
        self._journal.links.discard(self)
        self.session.server.storing.start_soon(self._end)

    async def _end(self) -> None:
        await self.settled()
        await self._journal.settle()
        server, link, id = self.session.server, self.session.connection.link, self._id
        left = [*link.unacknowledged(), *self._late]
        server.delivery.undelivered([(stanza, None) for stanza in left], lambda tx: tx.durable.delete(id))
        server.pump.flush()


def _origin_id(stanza: Stanza) -> str | None:
    """By what a message that comes again is known."""
    if stanza.name != "message" or stanza.type == "error" or OriginId.TAG.rpartition("}")[2].encode() not in stanza.raw:
        return None
    found = stanza.element.find(OriginId.TAG)
    return None if found is None else found.get("id")


def _text(element: Element | None) -> str | None:
    return None if element is None else element.tobytes(NS_CLIENT).decode()

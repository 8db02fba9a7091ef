# SPDX-License-Identifier: Apache-2.0
"""Links whose every stanza is on disk before anybody is told so, and that go on after a kill of the server.

Theory of operation. A client asks for it by an attribute of ours on ``<enable/>`` (`xiot.proto.sm.DURABLE`), or the configuration says so
of its host or account. A hook bit brings all stanzas of such a link here; no other link pays for it.

What its client sends is taken: kept in the store together with the count of what was taken, and with the origin-id, by which a
message that comes again is known (`xiot.model.durable`). Then it is counted in ``<a/>``, and routed, one stanza after the other. What is
for the client is kept in the store before it goes to the wire. So ``<resumed/>`` tells the truth after a crash, and everything the client has
not acknowledged is there.

A stanza that was taken is in somebody's *custody*, in exactly one place of the store. Whoever takes it over removes it from there in
the same transaction: another durable link, or the offline storage. A session without durability has nothing to keep it in: what was handed
to it stays in custody until its client has acknowledged it (or, without stream management, its socket has taken it). After a crash all that is still
in custody is routed anew. So between durable links, and into the offline storage, each stanza goes exactly once; another client may
get one again that it had not acknowledged, and knows it by its origin-id.

The `Journal` commits: one transaction at a time, the next takes all that has come up since. If the store fails it tries again, and nothing is
acknowledged meanwhile.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import trio

from xiot.core import JID, Element, Stanza, StreamParser
from xiot.model.durable import DurableSession, Window, is_new
from xiot.model.roster import SubscriptionState
from xiot.net.pump import Connection
from xiot.proto import framing
from xiot.proto.sm import COUNTS
from xiot.stanzas import NS_CLIENT, reread
from xiot.store import StoreError, Transaction
from xiot.xep.stanzaid import OriginId

if TYPE_CHECKING:
    from xiot.model.effects import Tx
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

SWEEP_S = 0.5  # between looks at what was acknowledged
RETRY_S = 1.0  # after a failure of the store
FORGET_S = 3600.0  # between looks for ids that are too old
MOST_BYTES = 262_144  # received and not yet dealt with, or to be sent and not yet on disk, of one link: then whoever sends has to wait


class Custody(Protocol):
    """Where in the store a stanza is, until somebody else keeps it."""

    def remove(self, tx: Tx) -> None:
        """Remove it from there; no error if it is gone already."""


class Waiting:
    """A message in the offline storage."""

    def __init__(self, owner: str, id: int) -> None:
        self._owner = owner
        self._id = id

    def remove(self, tx: Tx) -> None:
        """Remove it."""
        tx.offline.delete(self._owner, [self._id])


class Taken:
    """A stanza of a durable link's client, until somebody else keeps it or nobody has to."""

    __slots__ = ("_holders", "_journal", "_routed", "id", "size_bytes", "stanza", "waits")

    def __init__(self, journal: Journal, stanza: Stanza, id: int = 0) -> None:
        self._journal = journal
        self.id = id
        self.stanza = stanza
        self.size_bytes = len(stanza.raw)
        self.waits = 0
        """What has to be done for it before the next one is looked at."""
        self._holders = 0  # sessions that it was handed to, and that have not acknowledged it
        self._routed = False

    def remove(self, tx: Tx) -> None:
        """Remove it from the store."""
        tx.durable.remove(self.id)

    def routed(self) -> None:
        """It was dealt with, but for those that it was handed to."""
        self._routed = True
        self._look()

    def hold(self) -> None:
        """It was handed to a session."""
        self._holders += 1

    def release(self) -> None:
        """That session has it, or it is kept elsewhere."""
        self._holders -= 1
        self._look()

    def _look(self) -> None:
        if self._routed and not self._holders:
            self._journal.add(self.remove)


class Journal:
    """What durable links have to have on disk."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._steps: list[tuple[Callable[[Transaction], Any], Callable[[Any], None] | None]] = []
        self._filled = trio.Event()
        self._committing = trio.Lock()
        self.carried: Custody | None = None
        """Of the stanza that is being routed now, if it is in anybody's."""
        self.links: set[DurableLink] = set()
        self._handed: dict[ClientSession, deque[tuple[int, Taken]]] = {}

    @property
    def window(self) -> Window:
        """How long ids of senders are remembered."""
        limits = self._server.config.limits
        return Window(limits.dedupe_ids_per_account, timedelta(seconds=limits.dedupe_s))

    def add(self, step: Callable[[Transaction], Any], then: Callable[[Any], None] | None = None) -> None:
        """Do `step` in the next transaction, behind all added before, and call `then` with its result when that is durable."""
        self._steps.append((step, then))
        self._filled.set()

    async def settle(self) -> None:
        """Wait until all that was added is durable."""
        done = trio.Event()
        self.add(lambda tx: None, lambda _: done.set())
        await done.wait()

    @contextmanager
    def carrying(self, custody: Custody) -> Iterator[None]:
        """What is delivered within comes from `custody`."""
        self.carried = custody
        try:
            yield
        finally:
            self.carried = None

    def handed(self, session: ClientSession) -> None:
        """What is carried was queued for a session without durability."""
        if isinstance(self.carried, Taken):
            link = session.connection.link
            self.carried.hold()
            self._handed.setdefault(session, deque()).append((link.sent if link.managed else 0, self.carried))

    def ended(self, session: ClientSession) -> list[Taken | None]:
        """A session without durability is over: return of each stanza that it has not acknowledged in whose custody that is."""
        handed, link = self._handed.pop(session, ()), session.connection.link
        if not link.managed:
            for _, taken in handed:
                taken.release()
            return []
        unacknowledged: list[Taken | None] = [None] * ((link.sent - link.acknowledged) % COUNTS)
        for number, taken in handed:
            place = (number - link.acknowledged - 1) % COUNTS
            if place < len(unacknowledged):
                unacknowledged[place] = taken
            else:
                taken.release()
        return unacknowledged

    async def run(self) -> None:
        """Commit, for ever."""
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            await self.flush()

    async def flush(self) -> None:
        """Commit all that was added."""
        async with self._committing:
            while self._steps:
                steps, self._steps = self._steps, []
                try:
                    await self._commit(steps)
                except trio.Cancelled:  # the last commit is yet to come
                    self._steps[:0] = steps
                    raise
                self._server.pump.flush()

    async def _commit(self, steps: list[tuple[Callable[[Transaction], Any], Callable[[Any], None] | None]]) -> None:
        def commit(tx: Transaction) -> list[Any]:
            return [step(tx) for step, _ in steps]

        def tell(results: list[Any]) -> None:
            for (_, then), result in zip(steps, results, strict=True):
                if then is not None:
                    then(result)

        failed = False
        while True:
            try:
                await self._server.store.transact(commit, tell)
                return
            except StoreError as error:
                if not failed:
                    self._server.log.error("durable links wait: the store failed", why=str(error))
                failed = True
            await trio.sleep(RETRY_S)

    async def sweep(self) -> None:
        """Look for what clients have acknowledged, for ever: in the core, so nobody tells us."""
        forget_at = 0.0
        while True:
            for session, handed in list(self._handed.items()):
                link = session.connection.link
                while handed and _arrived(link, handed[0][0]):
                    handed.popleft()[1].release()
                if not handed:
                    del self._handed[session]
            for durable in self.links:
                durable.look()
            if trio.current_time() >= forget_at:
                forget_at = trio.current_time() + FORGET_S
                before = datetime.now(UTC) - self.window.age
                self.add(lambda tx, before=before: tx.durable.forget(before))  # type: ignore[misc]
            await trio.sleep(SWEEP_S)

    # ---- after a crash, or a stop ----

    async def restore(self) -> None:
        """Bring back all sessions as they were, without their connections, and go on with what they have sent."""

        def load(tx: Transaction) -> tuple[list[_Kept], list[_Orphan]]:
            sessions, states = [], dict[str, list[tuple[str, SubscriptionState]]]()
            for row in tx.durable.sessions():
                jid = JID(row.jid)
                owner = str(jid.bare)
                if jid.domain not in hosts or not tx.accounts.exists(owner):
                    tx.durable.delete(row.id)
                    continue
                if owner not in states:
                    states[owner] = list(tx.roster.subscribed(owner))
                sessions.append((row, [(sent.number, sent.stanza) for sent in tx.durable.sent(row.id)], states[owner]))
            return sessions, [(row.id, row.session, row.sender, row.stanza) for row in tx.durable.received()]

        hosts = set(self._server.hosts)
        sessions, received = await self._server.store.run(load)
        links: dict[str, DurableLink] = {}
        lang = {row.id: msgspec.json.decode(row.state, type=State).lang for row, _, _ in sessions}
        for row, sent, _ in sessions:
            links[row.id] = await self._bring_back(row, sent)
        for row, _, subscribed in sessions:
            self._server.presences.restored(links[row.id].session, subscribed)
        for id, session, sender, stanza in received:
            if session not in links:
                links[session] = DurableLink(self, self._absent(JID(sender)), session, 0)
                links[session].over = True
            links[session].take_again(Taken(self, read(stanza, lang.get(session)), id))
        for link in links.values():
            link.work()
        if links:
            self._server.log.info("durable sessions restored", sessions=len(sessions), stanzas=len(received))

    async def _bring_back(self, row: DurableSession, sent: list[tuple[int, bytes]]) -> DurableLink:
        state = msgspec.json.decode(row.state, type=State)
        session = self._absent(JID(row.jid))
        link, base = session.connection.link, sent[0][0] - 1 if sent else row.sent
        link.enable_sm(row.handled % COUNTS, base % COUNTS)
        link.detach()
        for _, stanza in sent:
            link.send(stanza)
        session.durable = durable = DurableLink(self, session, row.id, row.resumable_s, row.handled, row.sent, base)
        session.interests = set(state.interests)
        session.carbons, session.subscriber, session.client = state.carbons, state.subscriber, state.client
        mine = session.availability
        mine.presence, mine.priority = (
            None if state.presence is None else reread(state.presence.encode()),
            state.priority,
        )
        mine.arriving = None if state.arriving is None else read(state.arriving.encode(), state.lang)
        mine.directed = {JID(jid) for jid in state.directed}
        await self._server.hooks.enter(session.jid.bare, partial(session.come_back, state.lang))
        self._server.resumptions.restore(session, row.id, row.resumable_s)
        durable.began()
        return durable

    def _absent(self, jid: JID) -> ClientSession:
        """The session of a client whose connection another process has had."""
        from xiot.server.session import ClientSession  # it makes use of us

        sock = socket.socket()
        sock.close()
        connection = Connection(self._server.pump, sock, "before the restart")
        connection.lost = "the server was restarted"
        connection.owner = session = ClientSession(self._server, connection, direct_tls=False)
        session.jid, session.account, session.bound = jid, jid.bare, True
        return session


_Kept = tuple[DurableSession, list[tuple[int, bytes]], list[tuple[str, SubscriptionState]]]
_Orphan = tuple[int, str, str, bytes]


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

    def removing(self, fn: Callable[[Transaction], Any]) -> Callable[[Transaction], Any]:
        """`fn`, with the stanza that is being dealt with removed in the same transaction: what it asks for is done once."""
        taken = self._at
        if taken is None:
            return fn

        def do(tx: Transaction) -> Any:
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


def read(data: bytes, lang: str | None) -> Stanza:
    """A stanza as it came in a stream of the language `lang`."""
    parser = StreamParser(max_stanza_bytes=2**30, max_depth=1000, max_attributes=1024, max_tag_bytes=2**30)
    parser.feed(framing.open_stream(NS_CLIENT, lang=lang))
    (stanza,) = parser.feed(data)
    assert isinstance(stanza, Stanza)
    return stanza


def _origin_id(stanza: Stanza) -> str | None:
    """By what a message that comes again is known."""
    if stanza.name != "message" or stanza.type == "error" or OriginId.TAG.rpartition("}")[2].encode() not in stanza.raw:
        return None
    found = stanza.element.find(OriginId.TAG)
    return None if found is None else found.get("id")


def _arrived(link: Any, number: int) -> bool:
    if link.managed:
        return bool((link.acknowledged - number) % COUNTS < COUNTS // 2)
    return not link.queued_bytes


def _text(element: Element | None) -> str | None:
    return None if element is None else element.tobytes(NS_CLIENT).decode()

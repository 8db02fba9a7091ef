# SPDX-License-Identifier: Apache-2.0
"""What durable links have to have on disk, and in whose custody their stanzas are; `xiot.server.durable` says what for.

Theory of operation. A stanza that was taken from a client is in somebody's *custody*, in exactly one place of the store. Whoever takes it
over removes it from there in the same transaction: another durable link, or the offline storage. A session without durability has nothing to
keep it in: what was handed to it stays in custody until its client has acknowledged it (or, without stream management, its socket has
taken it), or until it is dealt with otherwise since the session has ended. So a message of the offline storage keeps its place there until
it is acknowledged; meanwhile no other session is given it.

The `Journal` commits one transaction at a time, and the next takes all that has come up since. If the store fails it tries again, and
nothing is acknowledged meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import trio

from xiot.core import Link, Stanza
from xiot.model.durable import Window
from xiot.proto.sm import COUNTS
from xiot.store import StoreError, Transaction

if TYPE_CHECKING:
    from xiot.model.effects import Tx
    from xiot.server.durable import DurableLink
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

SWEEP_S = 0.5  # between looks at what was acknowledged
RETRY_S = 1.0  # after a failure of the store
FORGET_S = 3600.0  # between looks for ids that are too old

Step = Callable[[Transaction], Any]
Then = Callable[[Any], None]


class Custody(Protocol):
    """Where in the store a stanza is, until somebody else keeps it."""

    def remove(self, tx: Tx) -> None:
        """Remove it from there; no error if it is gone already."""

    def hold(self) -> None:
        """It was handed to a session."""

    def release(self) -> None:
        """That session has it, or it is kept elsewhere."""


class Waiting:
    """A message in the offline storage."""

    __slots__ = ("_holders", "_id", "_journal", "_owner")

    def __init__(self, journal: Journal, owner: str, id: int) -> None:
        self._journal = journal
        self._owner = owner
        self._id = id
        self._holders = 0  # sessions that it was handed to, and that have not acknowledged it

    @property
    def held(self) -> bool:
        """Whether any session has yet to acknowledge it."""
        return self._holders > 0

    def remove(self, tx: Tx) -> None:
        """Remove it."""
        tx.offline.delete(self._owner, [self._id])

    def hold(self) -> None:
        """It was handed to a session."""
        self._holders += 1
        self._journal.claim(self._owner, self._id)

    def release(self) -> None:
        """That session has it, or it is kept elsewhere."""
        self._holders -= 1
        if not self._holders:
            self._journal.add(self.remove, lambda _: self._journal.unclaim(self._owner, self._id))

    def stay(self) -> None:
        """That session has ended without it: it waits on, where it is."""
        self._holders -= 1
        if not self._holders:
            self._journal.unclaim(self._owner, self._id)


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
        self._steps: list[tuple[Step, Then | None]] = []
        self._filled = trio.Event()
        self._committing = trio.Lock()
        self.carried: Custody | None = None
        """Of the stanza that is being routed now, if it is in anybody's."""
        self.links: set[DurableLink] = set()
        self._handed: dict[ClientSession, deque[tuple[int, Custody]]] = {}
        self._claimed: dict[str, set[int]] = {}  # by owner, messages of the offline storage that sessions hold

    @property
    def window(self) -> Window:
        """How long ids of senders are remembered."""
        limits = self._server.config.limits
        return Window(limits.dedupe_ids_per_account, timedelta(seconds=limits.dedupe_s))

    def add(self, step: Step, then: Then | None = None) -> None:
        """Do `step` in the next transaction, behind all added before, and call `then` with its result when that is durable."""
        self._steps.append((step, then))
        self._filled.set()

    async def settle(self) -> None:
        """Wait until all that was added is durable."""
        done = trio.Event()
        self.add(lambda tx: None, lambda _: done.set())
        await done.wait()

    @contextmanager
    def carrying(self, custody: Custody | None) -> Iterator[None]:
        """What is delivered within is in `custody`, if in anybody's."""
        before, self.carried = self.carried, custody
        try:
            yield
        finally:
            self.carried = before

    def claim(self, owner: str, id: int) -> None:
        """A session holds that message of the offline storage."""
        self._claimed.setdefault(owner, set()).add(id)

    def unclaim(self, owner: str, id: int) -> None:
        """None does any more."""
        ids = self._claimed[owner]
        ids.remove(id)
        if not ids:
            del self._claimed[owner]

    def claimed(self, owner: str) -> frozenset[int]:
        """The messages in the offline storage of `owner` that sessions hold: nobody else is given them."""
        return frozenset(self._claimed.get(owner, ()))

    def handed(self, session: ClientSession, custody: Custody) -> None:
        """What is in `custody` was queued for a session without durability."""
        link = session.connection.link
        if link.managed or isinstance(custody, Taken):  # nobody would tell us when a message that waited has arrived
            custody.hold()
            self._handed.setdefault(session, deque()).append((link.sent if link.managed else 0, custody))

    def ended(self, session: ClientSession) -> list[Custody | None]:
        """A session without durability is over: return of each stanza that it has not acknowledged in whose custody that is."""
        handed, link = self._handed.pop(session, ()), session.connection.link
        if not link.managed:
            for _, custody in handed:
                custody.release()
            return []
        unacknowledged: list[Custody | None] = [None] * ((link.sent - link.acknowledged) % COUNTS)
        for number, custody in handed:
            place = (number - link.acknowledged - 1) % COUNTS
            if place < len(unacknowledged):
                unacknowledged[place] = custody
            else:
                custody.release()
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

    async def _commit(self, steps: list[tuple[Step, Then | None]]) -> None:
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


def _arrived(link: Link, number: int) -> bool:
    if link.managed:
        return bool((link.acknowledged - number) % COUNTS < COUNTS // 2)
    return not link.queued_bytes

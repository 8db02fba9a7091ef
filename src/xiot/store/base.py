# SPDX-License-Identifier: Apache-2.0
"""What every store can do, whatever it is kept on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from xiot.errors import XiotError
from xiot.model.effects import Tx

DEFER_S = 1.0
"""How long deferred work may wait; a crash loses it."""

V = TypeVar("V")
T = TypeVar("T")
U = TypeVar("U")
OnCommit = Callable[[int, float], None]


class StoreError(XiotError):
    """The store could not read or write; nothing of what the caller asked for has been done."""


class Secrets(Protocol):
    """Random octets that the server makes for itself once and keeps over restarts."""

    def get(self, name: str) -> bytes | None:
        """Return the secret, or None if there is none of this name."""

    def put(self, name: str, value: bytes) -> None:
        """Store a secret, replacing the one of the same name."""


class Transaction(Tx, Protocol):
    """One open transaction: what functions given to `Store.run` work on. Not to be kept after they return."""

    @property
    def secrets(self) -> Secrets: ...


class Store(ABC):
    """Where a server's state lives."""

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        """Call ``fn(tx)`` in a transaction of its own; what it did is durable when this returns.

        Functions run one at a time, in the order of the calls, maybe in another thread, so `fn` touches nothing but
        `tx` and returns plain data. If it raises, nothing of what it did stays, and the exception is raised here. Once
        `fn` is in the queue, a cancellation does not stop it.

        Raises StoreError if the store itself fails; then, too, nothing of `fn` stays.
        """
        return await self.transact(fn, _same)

    @abstractmethod
    async def transact(self, fn: Callable[[Transaction], T], then: Callable[[T], U]) -> U:
        """Do as `run`, then call `then` with the result in the loop's thread; returns what that returns.

        All `then` are called in the order of their transactions, which tasks that wake up are not: what is sent in one
        cannot contradict, or be overtaken by, what an earlier or later transaction has to send. If `then` raises, the
        exception is raised here, but what `fn` did stays.
        """

    @abstractmethod
    def glance(self, fn: Callable[[Transaction], T]) -> T:
        """Call ``fn(tx)``, which reads a few rows and changes nothing, here and now: each read sees what is committed then. Raises StoreError.

        What is queued or being committed is not seen: who must not miss it asks `idle` first.
        """

    @property
    def idle(self) -> bool:
        """Whether no transaction is queued or under way, and each `then` was called: so the next one would see what `glance` sees."""
        return True

    @abstractmethod
    def defer(
        self, fn: Callable[[Transaction, Sequence[V]], object], item: V, failed: Callable[[Exception], None]
    ) -> None:
        """Call ``fn(tx, items)`` with `item`, and all else that is deferred for `fn`, ahead of the next transaction.

        If there comes none within `DEFER_S`, alone. Nobody waits for it; `failed` is called once if it raises.
        """

    @property
    def queued(self) -> int:
        """Jobs that wait for the next commit."""
        return 0

    @staticmethod
    def open(path: Path, on_commit: OnCommit | None = None) -> AbstractAsyncContextManager[Store]:
        """Open the SQLite database at `path`, made or migrated if need be; when closed, what was queued is done.

        on_commit: called in the store's thread after each commit, with the number of jobs and the seconds that it took.

        Raises StoreError, above all if a newer xiot wrote the database.
        """
        from xiot.store.sqlite import SqliteStore

        return SqliteStore.open(path, on_commit)


def _same(result: T) -> T:
    return result

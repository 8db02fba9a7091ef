# SPDX-License-Identifier: Apache-2.0
"""The store on one SQLite file: a writer thread, and group commits.

Theory of operation. `SqliteStore.transact` puts a job (a function, and the task that waits for it) into a queue. The thread
takes all jobs that have queued up, runs them in one transaction, each behind a savepoint, commits, and only then lets
the loop wake the tasks. So one fsync serves as many jobs as came during the one before it (the fewer, the faster they
are answered), a job that raises takes back only what it did itself, and nobody hears of a change that a power cut could
undo: the journal is a WAL with ``synchronous=FULL``, which syncs at each commit.

If a batch cannot be stored, since the disk is full, its jobs are run again, each in a transaction of its own: those that
only read, and those that still find room, must not fail with the others.

What a login reads does not wait in the queue: `glance` reads it in the loop's thread, on a second connection, which sees what is
committed. In a WAL no reader waits for a writer, and a row or two are in the page cache, ours or the system's; a thread to wake, and to be
woken by, costs several times as much. What nobody waits for (`defer`) goes with the next transaction.

Other processes (``xiot user add``) may write to the same file: a transaction begins with BEGIN IMMEDIATE, which waits
its turn up to `BUSY_S`, so that none fails halfway because another has written in between.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, TypeVar

import outcome
import sqlalchemy as sa
import trio

from xiot.store import tables
from xiot.store.base import DEFER_S, OnCommit, Store, StoreError, Transaction
from xiot.store.sql import SqlTransaction

_one_migration = threading.Lock()  # a migration works on global names of alembic

V = TypeVar("V")
T = TypeVar("T")
U = TypeVar("U")

BUSY_S = 10
"""How long to wait for another process's transaction: over a disk's worst fsync, under a client's patience."""
MAX_QUEUED = 1_000
"""Jobs that wait: about the work of a tenth of a second. Callers of more wait before the queue."""
MAX_BATCH = 200
"""Jobs in one commit: the first waits for the last, some ten milliseconds."""
MIN_SQLITE = (3, 35)
"""RETURNING."""


@dataclass(slots=True)
class _Job:
    fn: Callable[[Transaction], Any]
    then: Callable[[Any], Any]
    task: trio.lowlevel.Task | None
    failed: Callable[[Exception], None] | None = None
    """If nobody waits."""
    result: outcome.Outcome[Any] = field(init=False)


class SqliteStore(Store):
    """A store on one SQLite file; made by `open`."""

    def __init__(self, connection: sa.Connection, reader: sa.Connection, on_commit: OnCommit | None = None) -> None:
        self._connection = connection
        self._reader = reader
        self._reading = SqlTransaction(reader)
        self._pending = 0  # jobs that somebody waits for, to the end of their `then`
        self._deferred: dict[Callable[..., Any], tuple[list[Any], Callable[[Exception], None]]] = {}
        self._deferring = False  # somebody sees to it that it does not wait for long
        self._on_commit = on_commit
        self._driver = _driver(connection)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._places = trio.Semaphore(MAX_QUEUED)
        self._loop = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name="xiot store", daemon=True)
        self._closed = False

    @staticmethod
    @asynccontextmanager
    async def open(path: Path, on_commit: OnCommit | None = None) -> AsyncIterator[Store]:
        """Open the database at `path`; see `xiot.store.base.Store.open`."""
        store = SqliteStore(*await trio.to_thread.run_sync(_connect, path), on_commit)
        store._thread.start()
        try:
            yield store
        finally:
            store._put_deferred()
            store._closed = True
            store._jobs.put(None)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(store._thread.join)
            store._reader.close()
            store._reader.engine.dispose()

    @property
    def idle(self) -> bool:
        return not self._pending

    def glance(self, fn: Callable[[Transaction], T]) -> T:
        """Call ``fn(tx)`` in this thread; see `xiot.store.base.Store.glance`."""
        try:
            return fn(self._reading)
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            raise _store_error(error) from error

    def defer(
        self, fn: Callable[[Transaction, Sequence[V]], object], item: V, failed: Callable[[Exception], None]
    ) -> None:
        """See `xiot.store.base.Store.defer`."""
        self._deferred.setdefault(fn, ([], failed))[0].append(item)
        if not self._deferring:
            self._deferring = True
            trio.lowlevel.spawn_system_task(self._put_deferred_later)

    async def _put_deferred_later(self) -> None:
        await trio.sleep(DEFER_S)
        self._deferring = False
        if not self._closed:
            self._put_deferred()

    def _put_deferred(self) -> None:
        deferred, self._deferred = self._deferred, {}
        for fn, (items, failed) in deferred.items():
            self._jobs.put(_Job(partial(_with_items, fn, items), _nothing, None, failed))

    @property
    def queued(self) -> int:
        return MAX_QUEUED - self._places.value

    async def transact(self, fn: Callable[[Transaction], T], then: Callable[[T], U]) -> U:
        """Call ``fn(tx)`` in the store's thread, then `then`; see `xiot.store.base.Store.transact`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._places.acquire_nowait()  # no checkpoint before the queue: it would change the order of the callers
        except trio.WouldBlock:
            await self._places.acquire()
        try:
            if self._closed:
                raise StoreError("the store is closed")
            if self._deferred:
                self._put_deferred()
            self._jobs.put(_Job(fn, then, trio.lowlevel.current_task()))
            self._pending += 1
            result: U = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
            return result
        finally:
            self._places.release()

    def _work(self) -> None:
        """The thread: commit batches until there comes a None."""
        going = True
        while going:
            batch = [self._jobs.get()]
            with contextlib.suppress(Empty):
                while len(batch) < MAX_BATCH:
                    batch.append(self._jobs.get_nowait())
            going = None not in batch
            jobs = [job for job in batch if job is not None]
            began = monotonic()
            self._commit(jobs)
            if jobs and self._on_commit is not None:
                self._on_commit(len(jobs), monotonic() - began)
            with contextlib.suppress(trio.RunFinishedError):  # the loop was torn down: nobody waits any more
                self._loop.run_sync_soon(self._release, jobs)
        self._connection.close()
        self._connection.engine.dispose()

    def _commit(self, jobs: Sequence[_Job]) -> None:
        """Run all `jobs` in one transaction, and give each its result."""
        execute = self._driver.execute
        begun = False
        try:
            with self._connection.begin():
                begun = True
                tx = SqlTransaction(self._connection)
                for job in jobs:
                    execute("SAVEPOINT job")
                    job.result = outcome.capture(job.fn, tx)
                    if not self._driver.in_transaction:  # SQLite gave up all of it, savepoints too: the disk is full
                        job.result.unwrap()
                    if isinstance(job.result, outcome.Error):
                        execute("ROLLBACK TO job")
                        if isinstance(job.result.error, sa.exc.SQLAlchemyError | sqlite3.Error):
                            job.result = outcome.Error(_store_error(job.result.error))
                    execute("RELEASE job")
        except BaseException as error:  # or another process keeps the lock: nothing of any job is stored
            if begun and len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
                return
            for job in jobs:
                job.result = outcome.Error(_store_error(error))

    def _release(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            if isinstance(job.result, outcome.Value):
                job.result = outcome.capture(job.then, job.result.value)
            if job.task is not None:
                self._pending -= 1
                trio.lowlevel.reschedule(job.task, job.result)
            elif (
                isinstance(job.result, outcome.Error)
                and isinstance(job.result.error, Exception)
                and job.failed is not None
            ):
                job.failed(job.result.error)


def _with_items(fn: Callable[[Transaction, Sequence[V]], object], items: Sequence[V], tx: Transaction) -> None:
    fn(tx, items)


def _nothing(_: object) -> None:
    pass


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    return connection.connection.driver_connection  # type: ignore[return-value]


def _store_error(error: BaseException) -> StoreError:
    """Keep what the database said, not the statement."""
    result = StoreError(str(getattr(error, "orig", None) or error))
    result.__cause__ = error
    return result


def _connect(path: Path) -> tuple[sa.Connection, sa.Connection]:
    """Open, make or migrate the database at `path`; a connection that writes, and one that reads. Raises StoreError."""
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 is needed")
    _make_private(path)
    url = sa.URL.create("sqlite", database=str(path))
    # Parameters are keys and names of people: out of errors, and so out of logs.
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_S, "check_same_thread": False})
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        connection = engine.connect()
        with connection.begin():
            _migrate(connection)
    except BaseException as error:
        engine.dispose()
        if isinstance(error, StoreError | sa.exc.SQLAlchemyError | sqlite3.Error):
            raise StoreError(f"{path}: {_store_error(error)}") from error
        raise
    reading = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": 0, "check_same_thread": False})
    sa.event.listen(reading, "connect", _on_connect_reader)
    return connection, reading.connect()


def _make_private(path: Path) -> None:
    """Make the file, if there is none, for its owner's eyes only: what will be in it helps to log in as anybody."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        existed = path.exists()
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            folder = path.parent.stat()
            if not existed and os.geteuid() == 0:  # ``sudo xiot user add`` must not lock the server out
                os.chown(file, folder.st_uid, folder.st_gid)
        finally:
            os.close(file)
    except OSError as error:
        raise StoreError(f"{error.filename}: {error.strerror}") from error


def _on_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # else the driver begins transactions when it likes to, and savepoints go wrong
    for pragma in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON"):
        connection.execute(pragma)


def _on_connect_reader(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")


def _migrate(connection: sa.Connection) -> None:
    """Bring the schema to `tables.REVISION`."""
    found = None
    if sa.inspect(connection).has_table("alembic_version"):
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if found == tables.REVISION:
        return
    if found is not None and found > tables.REVISION:
        raise StoreError(
            f"a newer xiot wrote it (its schema is {found}, this xiot knows up to {tables.REVISION}): update xiot"
        )
    from alembic import command, config  # takes as long to import as all else here, and is rarely needed

    migration = config.Config(attributes={"connection": connection})
    migration.set_main_option("script_location", "xiot.store:migrations")
    with _one_migration:
        command.upgrade(migration, "head")

# SPDX-License-Identifier: Apache-2.0
"""The store on SQLite: group commits, durability, other processes, migrations."""

from __future__ import annotations

import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
import trio.testing
from alembic import autogenerate
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from xiot.model.accounts import Credentials
from xiot.store import Store, StoreError, Transaction, sql, sqlite, tables

KEYS = Credentials("SCRAM-SHA-256", b"salt", 10_000, b"stored", b"server")


def put(tx: Transaction, name: str) -> None:
    tx.accounts.put(f"{name}@plant.example", KEYS)


def committed(path: Path) -> list[str]:
    """The accounts that another process sees."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT jid FROM accounts ORDER BY jid").fetchall()
    connection.close()
    return [jid.partition("@")[0] for (jid,) in rows]


# ---- the writer thread ----


async def test_caller_waits_for_the_commit(database: Path) -> None:
    async with Store.open(database) as store:
        for name in "abc":
            await store.run(partial(put, name=name))
            assert committed(database)[-1] == name


async def test_deferred_work_is_done_though_nothing_else_comes_and_when_the_store_closes(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "DEFER_S", 0.01)

    def all_of(tx: Transaction, names: Sequence[str]) -> None:
        for name in names:
            put(tx, name)

    async with Store.open(database) as store:
        store.defer(all_of, "a", pytest.fail)
        store.defer(all_of, "b", pytest.fail)
        with trio.fail_after(5):
            while committed(database) != ["a", "b"]:
                await trio.sleep(0.01)
        store.defer(all_of, "c", pytest.fail)
    assert committed(database) == ["a", "b", "c"]


async def test_glance_does_not_wait_for_a_transaction_and_cannot_write(database: Path) -> None:
    going, go_on = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        put(tx, "a")
        going.set()
        go_on.wait(10)

    async with Store.open(database) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.run, slow)
        await trio.to_thread.run_sync(going.wait)
        assert not store.idle
        assert not store.glance(lambda tx: tx.accounts.exists("a@plant.example"))
        with pytest.raises(StoreError, match="readonly"):
            store.glance(partial(put, name="b"))
        go_on.set()
    async with Store.open(database) as store:
        assert store.glance(lambda tx: tx.accounts.list("plant.example")) == ["a@plant.example"]


async def test_functions_that_queue_up_share_one_commit(database: Path) -> None:
    seen: list[list[str]] = []
    queued = threading.Event()
    async with Store.open(database) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.run, lambda tx: queued.wait())
        await trio.testing.wait_all_tasks_blocked()
        for name in "abcde":
            nursery.start_soon(store.run, partial(put, name=name))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(store.run, lambda tx: seen.append(committed(database)))
        await trio.testing.wait_all_tasks_blocked()
        queued.set()
    assert seen == [[]]
    assert committed(database) == list("abcde")


async def test_functions_run_in_the_order_of_the_calls(database: Path) -> None:
    order: list[int] = []
    queued = threading.Event()
    async with Store.open(database) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.run, lambda tx: queued.wait())
        for number in range(2 * sqlite.MAX_BATCH):
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(store.run, lambda tx, number=number: order.append(number))
        await trio.testing.wait_all_tasks_blocked()
        queued.set()
    assert order == list(range(2 * sqlite.MAX_BATCH))


async def test_loop_goes_on_while_the_store_works(database: Path) -> None:
    longest = 0.0
    async with Store.open(database) as store, trio.open_nursery() as nursery:

        async def tick() -> None:
            nonlocal longest
            while True:
                before = time.perf_counter()
                await trio.sleep(0.001)
                longest = max(longest, time.perf_counter() - before)

        nursery.start_soon(tick)
        await store.run(lambda tx: time.sleep(1))
        nursery.cancel_scope.cancel()
    assert longest < 0.5


async def test_queue_is_bounded(database: Path) -> None:
    blocked = threading.Event()
    async with Store.open(database) as store, trio.open_nursery() as nursery:
        assert isinstance(store, sqlite.SqliteStore)
        nursery.start_soon(store.run, lambda tx: blocked.wait())
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(sqlite.MAX_QUEUED + 50):
            nursery.start_soon(store.run, lambda tx: None)
        await trio.testing.wait_all_tasks_blocked()
        assert store._jobs.qsize() < sqlite.MAX_QUEUED
        blocked.set()


async def test_function_in_the_queue_is_not_cancelled(database: Path) -> None:
    blocked = threading.Event()
    async with Store.open(database) as store, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await store.run(partial(put, name="a"))
                assert committed(database) == ["a"]

        nursery.start_soon(store.run, lambda tx: blocked.wait())
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        blocked.set()
    assert committed(database) == ["a"]


async def test_what_was_queued_is_done_before_the_store_closes(database: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with Store.open(database) as store:
            for name in "abc":
                nursery.start_soon(store.run, partial(put, name=name))
            await trio.testing.wait_all_tasks_blocked()
        assert committed(database) == list("abc")
    with pytest.raises(StoreError, match="closed"):
        await store.run(lambda tx: None)


# ---- durability ----


@pytest.mark.security(row=77)
async def test_each_commit_is_synced(database: Path) -> None:
    async with Store.open(database) as store:
        assert isinstance(store, sqlite.SqliteStore)
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert store._connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


@pytest.mark.security(row=76)
async def test_full_disk_is_an_error_and_changes_nothing(database: Path) -> None:
    async with Store.open(database) as store:
        assert isinstance(store, sqlite.SqliteStore)
        await store.run(partial(put, name="a"))
        pages = store._driver.execute("PRAGMA page_count").fetchone()[0]
        store._driver.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="full"):
            await store.run(lambda tx: tx.secrets.put("big", bytes(1_000_000)))
        store._driver.execute(f"PRAGMA max_page_count = {pages + 1000}")
        await store.run(partial(put, name="b"))
    assert committed(database) == ["a", "b"]


async def test_full_disk_fails_only_those_that_need_room(database: Path) -> None:
    blocked = threading.Event()
    results: dict[str, object] = {}

    async def run(name: str, fn: Callable[[Transaction], object]) -> None:
        try:
            results[name] = await store.run(fn)
        except StoreError:
            results[name] = "refused"

    async with Store.open(database) as store:
        assert isinstance(store, sqlite.SqliteStore)
        await store.run(partial(put, name="a"))
        pages = store._driver.execute("PRAGMA page_count").fetchone()[0]
        store._driver.execute(f"PRAGMA max_page_count = {pages}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run, lambda tx: blocked.wait())
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(run, "small", partial(put, name="b"))
            nursery.start_soon(run, "big", lambda tx: tx.secrets.put("big", bytes(1_000_000)))
            nursery.start_soon(run, "read", lambda tx: tx.accounts.exists("a@plant.example"))
            await trio.testing.wait_all_tasks_blocked()
            blocked.set()
    assert results == {"small": None, "big": "refused", "read": True}
    assert committed(database) == ["a", "b"]


async def test_error_of_the_database_names_no_values(database: Path) -> None:
    async with Store.open(database) as store:
        with pytest.raises(StoreError) as caught:
            await store.run(lambda tx: tx.secrets.put("hidden", None))  # type: ignore[arg-type]
    error: BaseException | None = caught.value
    while error is not None:
        assert "hidden" not in str(error).replace("hidden due", "")
        error = error.__cause__


# ---- other processes ----


async def test_store_waits_for_another_process(database: Path) -> None:
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    async with Store.open(database) as store:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO accounts VALUES ('a@plant.example', 'plant.example')")
        release = threading.Timer(0.3, other.execute, ["COMMIT"])
        release.start()
        await store.run(partial(put, name="b"))
        release.join()
    other.close()
    assert committed(database) == ["a", "b"]


async def test_other_process_that_keeps_the_lock_is_an_error(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    other = sqlite3.connect(database, isolation_level=None)
    async with Store.open(database) as store:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await store.run(partial(put, name="a"))
        other.execute("ROLLBACK")
        await store.run(partial(put, name="b"))
    other.close()
    assert committed(database) == ["b"]


# ---- opening ----


async def test_new_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "100%" / "xiot.db"
    async with Store.open(path) as store:
        await store.run(partial(put, name="a"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"xiot.db": 0o600, "xiot.db-wal": 0o600, "xiot.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_rows_are_there_when_opened_again(database: Path) -> None:
    async with Store.open(database) as store:
        await store.run(partial(put, name="a"))
    async with Store.open(database) as store:
        assert await store.run(lambda tx: tx.accounts.get("a@plant.example", "SCRAM-SHA-256")) == KEYS


async def test_new_databases_may_be_opened_at_the_same_time(tmp_path: Path) -> None:
    opened = 0

    async def one(number: int) -> None:
        nonlocal opened
        async with Store.open(tmp_path / f"{number}.db") as store:
            await store.run(partial(put, name="a"))
            opened += 1

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
    assert opened == 8


async def test_database_of_a_newer_version_is_refused(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match=r"xiot.db: a newer xiot wrote it \(its schema is 9999, .*\): update xiot$"):
        async with Store.open(database):
            pass


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"\0" * 5000])
async def test_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "xiot.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"xiot.db: file is not a database$"):
        async with Store.open(path):
            pass
    assert path.read_bytes() == content


async def test_path_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "file" / "xiot.db", "File exists")):
        with pytest.raises(StoreError, match=f"^{path.parent if path.name == 'xiot.db' else path}: {reason}$"):
            async with Store.open(path):
                pass


def test_migrations_make_the_schema_of_the_tables(database: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert autogenerate.compare_metadata(context, tables.metadata) == []
        made = {
            name: " ".join(text.split())
            for name, text in connection.exec_driver_sql("SELECT name, sql FROM sqlite_master")
            if text and name not in ("alembic_version", "sqlite_sequence")
        }
    engine.dispose()
    for table in tables.metadata.sorted_tables:
        assert made.pop(table.name) == " ".join(str(sa.schema.CreateTable(table).compile(dialect=DIALECT)).split())
        for index in table.indexes:
            assert made.pop(index.name) == " ".join(str(sa.schema.CreateIndex(index).compile(dialect=DIALECT)).split())
    assert made == {}


def test_newest_migration_is_that_of_the_tables() -> None:
    config = Config()
    config.set_main_option("script_location", "xiot.store:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == tables.REVISION


# ---- cost ----

DIALECT = SQLiteDialect_pysqlite()
STATEMENTS = {
    f"{store.__name__}.{name}": statement
    for store in (
        sql.SqlAccounts,
        sql.SqlSecrets,
        sql.SqlRoster,
        sql.SqlNodes,
        sql.SqlOffline,
        sql.SqlDocuments,
        sql.SqlLogouts,
        sql.SqlBlocks,
    )
    for name, statement in [*vars(store).items(), *enumerate(getattr(store, "_SUBSCRIPTION_COUNTS", {}).values())]
    if isinstance(statement, sa.Select | sa.Update | sa.Delete)
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_a_whole_table(database: Path, name: str) -> None:
    statement = STATEMENTS[name].compile(dialect=DIALECT)
    connection = sqlite3.connect(database)
    plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * len(statement.positiontup or ())).fetchall()
    connection.close()
    assert not [step for *_, step in plan if step.startswith("SCAN")]

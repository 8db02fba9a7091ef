# SPDX-License-Identifier: Apache-2.0
"""What both stores promise, and that they are the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xiot.model.accounts import AccountStore, Credentials
from xiot.model.blocking import Block, BlockStore
from xiot.model.documents import Document, DocumentStore
from xiot.model.durable import DurableSession, DurableStore, Sent, Window, is_new
from xiot.model.exi import AgreedSetup, ExiStore, StoredSchema, remember_schema, remember_setup
from xiot.model.logout import Logout, LogoutStore
from xiot.model.nodes import Affiliation, Item, Node, NodeConfig, NodeStore, Subscription
from xiot.model.offline import OfflineStore
from xiot.model.roster import RosterItem, RosterStore
from xiot.model.tokens import TokenStore
from xiot.store import Store, Transaction
from xiot.store.base import Secrets
from xiot.store.memory import MemoryStore

from . import operations
from .operations import Call, Wanted

SOAK = os.environ.get("XIOT_SOAK") == "1"
SERVICE = "pubsub.plant.example"
NOW = datetime(2026, 11, 22, 8, 30, 0, 123456, UTC)
NODE = Node(SERVICE, "boiler", "me@plant.example", NOW)
KEYS = Credentials("SCRAM-SHA-256", b"salt", 10_000, b"stored", b"server")


def item(id: str, payload: bytes = b"") -> Item:
    return Item(SERVICE, "boiler", id, "me@plant.example", NOW, payload)


def ids(items: Any) -> list[str]:
    return [each.id for each in items]


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Store]:
    opened: AbstractAsyncContextManager[Store] = (
        Store.open(database) if request.param == "sqlite" else nullcontext(MemoryStore())
    )
    async with opened as store:
        yield store


def in_store(fn: Callable[[Transaction], None]) -> Callable[[Store], Any]:
    """Make a test of a function that runs in one transaction."""

    async def test(store: Store) -> None:
        await store.run(fn)

    test.__name__ = fn.__name__
    return test


# ---- transactions ----


async def test_result_and_exception_reach_the_caller(store: Store) -> None:
    assert await store.run(lambda tx: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await store.run(lambda tx: 1 // 0)


async def test_function_that_raises_changes_nothing(store: Store) -> None:
    def put(tx: Transaction, name: str) -> None:
        tx.accounts.put(f"{name}@plant.example", KEYS)
        if name == "bad":
            raise Wanted

    results = []

    async def run(name: str) -> None:
        try:
            await store.run(partial(put, name=name))
            results.append(name)
        except Wanted:
            results.append("raised")

    async with trio.open_nursery() as nursery:
        for name in ("a", "bad", "b"):
            nursery.start_soon(run, name)
    assert sorted(results) == ["a", "b", "raised"]
    accounts = await store.run(lambda tx: tx.accounts.list("plant.example"))
    assert list(accounts) == ["a@plant.example", "b@plant.example"]


async def test_what_follows_is_done_in_the_order_of_the_transactions(store: Store) -> None:
    done: list[int] = []
    woken: list[int] = []

    async def run(number: int) -> None:
        woken.append(await store.transact(lambda tx: number, lambda result: done.append(result) or -result))

    async with trio.open_nursery() as nursery:
        order: list[int] = []
        for number in range(100):

            async def one(number: int = number) -> None:
                order.append(number)
                await run(number)

            nursery.start_soon(one)
    assert done == order
    assert sorted(woken) == sorted(-number for number in order)


async def test_what_follows_may_fail_without_taking_the_transaction_back(store: Store) -> None:
    def fail(_: None) -> None:
        raise Wanted

    with pytest.raises(Wanted):
        await store.transact(lambda tx: tx.accounts.put("a@plant.example", KEYS), fail)
    assert await store.run(lambda tx: tx.accounts.exists("a@plant.example"))


async def test_nothing_follows_a_transaction_that_failed(store: Store) -> None:
    def fail(tx: Transaction) -> None:
        raise Wanted

    done: list[None] = []
    with pytest.raises(Wanted):
        await store.transact(fail, done.append)
    assert done == []


async def test_later_function_sees_what_an_earlier_one_did(store: Store) -> None:
    await store.run(lambda tx: tx.nodes.put_node(NODE))
    assert await store.run(lambda tx: tx.nodes.node(SERVICE, "boiler")) == NODE


async def test_cancelled_caller_is_not_queued(store: Store) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.run(lambda tx: tx.accounts.put("a@plant.example", KEYS))
    assert scope.cancelled_caught
    assert not await store.run(lambda tx: tx.accounts.exists("a@plant.example"))


# ---- messages that wait ----


@in_store
def test_pages_are_in_order_and_bounded_in_number_and_bytes(tx: Transaction) -> None:
    ids = [tx.offline.put("a@plant.example", b"x" * size) for size in (10, 10, 30, 10)]
    tx.offline.put("b@plant.example", b"other")
    assert ids == sorted(ids)

    def page(limit: int, max_bytes: int) -> list[int]:
        return [kept.id for kept in tx.offline.page("a@plant.example", limit, max_bytes)]

    assert page(100, 1000) == ids
    assert page(3, 1000) == ids[:3]
    assert page(100, 25) == ids[:2]
    assert page(100, 5) == ids[:1]  # one at least
    tx.offline.delete("a@plant.example", ids[:2])
    assert page(100, 5) == ids[2:3]
    assert tx.offline.usage("a@plant.example") == (2, 40)
    assert tx.offline.usage("b@plant.example") == (1, 5)


@in_store
def test_page_passes_over_some_and_ends_before_the_next_of_them(tx: Transaction) -> None:
    ids = [tx.offline.put("a@plant.example", b"x" * 10) for _ in range(6)]

    def page(*skip: int, limit: int = 100, max_bytes: int = 1000) -> list[int]:
        skipped = frozenset(ids[number] for number in skip)
        return [ids.index(kept.id) for kept in tx.offline.page("a@plant.example", limit, max_bytes, skipped)]

    assert page(0, 1) == [2, 3, 4, 5]
    assert page(0, 3, 4) == [1, 2]
    assert page(1) == [0]
    assert page(0, 1, limit=2) == [2, 3]
    assert page(0, 5, max_bytes=20) == [1, 2]
    assert page(0, max_bytes=1) == [1]
    assert page(*range(6)) == []


@in_store
def test_ids_of_messages_are_not_used_again(tx: Transaction) -> None:
    last = tx.offline.put("a@plant.example", b"")
    tx.offline.clear("a@plant.example")
    assert tx.offline.put("a@plant.example", b"") > last


@in_store
def test_messages_of_others_are_not_removed(tx: Transaction) -> None:
    id = tx.offline.put("a@plant.example", b"")
    tx.offline.delete("b@plant.example", [id])
    tx.offline.clear("b@plant.example")
    assert tx.offline.usage("a@plant.example") == (1, 0)


# ---- accounts ----


@in_store
def test_credentials_are_replaced_by_mechanism(tx: Transaction) -> None:
    other = replace(KEYS, mechanism="SCRAM-SHA-1")
    tx.accounts.put("a@plant.example", KEYS)
    tx.accounts.put("a@plant.example", other)
    tx.accounts.put("a@plant.example", replace(KEYS, iterations=4096))
    assert tx.accounts.get("a@plant.example", "SCRAM-SHA-256") == replace(KEYS, iterations=4096)
    assert tx.accounts.get("a@plant.example", "SCRAM-SHA-1") == other


@in_store
def test_removed_account_leaves_no_credentials(tx: Transaction) -> None:
    tx.accounts.put("a@plant.example", KEYS)
    tx.accounts.remove("a@plant.example")
    assert not tx.accounts.exists("a@plant.example")
    tx.accounts.put("a@plant.example", replace(KEYS, mechanism="SCRAM-SHA-1"))
    assert tx.accounts.get("a@plant.example", "SCRAM-SHA-256") is None


@in_store
def test_accounts_are_listed_by_host_in_order_of_code_points(tx: Transaction) -> None:
    for bare in ("\U0001f600@h", "\uffee@h", "a@h", "B@h", "c@other"):
        tx.accounts.put(bare, KEYS)
    assert list(tx.accounts.list("h")) == ["B@h", "a@h", "\uffee@h", "\U0001f600@h"]
    assert list(tx.accounts.list("h", after="B@h", limit=2)) == ["a@h", "\uffee@h"]


# ---- rosters ----


@in_store
def test_contact_comes_back_as_it_was_put(tx: Transaction) -> None:
    contact = RosterItem("a@h", "b@h", "Bob", frozenset({"Friends", 'Ünïcode, "quoted"'}), "both", True, True)
    tx.roster.put(contact)
    assert tx.roster.get("a@h", "b@h") == contact
    tx.roster.put(replace(contact, groups=frozenset()))
    assert list(tx.roster.items("a@h")) == [replace(contact, groups=frozenset())]


@in_store
def test_cleared_roster_starts_at_version_zero(tx: Transaction) -> None:
    tx.roster.put(RosterItem("a@h", "b@h"))
    tx.roster.put(RosterItem("c@h", "b@h"))
    tx.roster.put_version("a@h", 7)
    tx.roster.clear("a@h")
    assert (tx.roster.count("a@h"), tx.roster.version("a@h"), tx.roster.count("c@h")) == (0, 0, 1)


# ---- nodes ----


@in_store
def test_replaced_node_keeps_what_belongs_to_it(tx: Transaction) -> None:
    tx.nodes.put_node(NODE)
    tx.nodes.put_item(item("1"))
    tx.nodes.put_subscription(Subscription(SERVICE, "boiler", "a@h"))
    tx.nodes.put_node(replace(NODE, config=NodeConfig(title="Boiler", max_items=5)))
    assert tx.nodes.node(SERVICE, "boiler") == replace(NODE, config=NodeConfig(title="Boiler", max_items=5))
    assert tx.nodes.item_count(SERVICE, "boiler") == 1
    assert list(tx.nodes.subscriber_jids(SERVICE, "boiler")) == ["a@h"]


@in_store
def test_deleted_node_takes_all_that_belongs_to_it(tx: Transaction) -> None:
    tx.nodes.put_node(NODE)
    tx.nodes.put_item(item("1"))
    tx.nodes.put_subscription(Subscription(SERVICE, "boiler", "a@h"))
    tx.nodes.put_affiliation(Affiliation(SERVICE, "boiler", "a@h", "owner"))
    tx.nodes.delete_node(SERVICE, "boiler")
    tx.nodes.put_node(NODE)
    assert tx.nodes.item_count(SERVICE, "boiler") == 0
    assert not tx.nodes.items(SERVICE, "boiler", 9)
    assert not tx.nodes.subscriptions_of("a@h")
    assert not tx.nodes.affiliations_of("a@h", SERVICE)


@pytest.mark.parametrize(
    "put",
    [
        lambda nodes: nodes.put_item(item("1")),
        lambda nodes: nodes.put_subscription(Subscription(SERVICE, "boiler", "a@h")),
        lambda nodes: nodes.put_affiliation(Affiliation(SERVICE, "boiler", "a@h", "owner")),
    ],
)
async def test_nothing_can_belong_to_a_node_that_is_not_there(store: Store, put: Callable[[NodeStore], None]) -> None:
    with pytest.raises(LookupError, match=r"^no node 'boiler' at pubsub\.plant\.example$"):
        await store.run(lambda tx: put(tx.nodes))


@in_store
def test_replaced_item_becomes_the_newest(tx: Transaction) -> None:
    tx.nodes.put_node(NODE)
    for id in ("1", "2", "3", "1"):
        tx.nodes.put_item(item(id, id.encode()))
    assert ids(tx.nodes.items(SERVICE, "boiler", 2)) == ["1", "3"]
    assert list(tx.nodes.oldest_ids(SERVICE, "boiler", 2)) == ["2", "3"]
    assert tx.nodes.item_count(SERVICE, "boiler") == 3


async def test_order_of_items_survives_a_function_that_raises(store: Store) -> None:
    def prepare(tx: Transaction) -> None:
        tx.nodes.put_node(NODE)
        for id in ("1", "2", "3", "4"):
            tx.nodes.put_item(item(id))

    def shuffle(tx: Transaction) -> None:
        tx.nodes.put_item(item("1"))
        tx.nodes.delete_item(SERVICE, "boiler", "3")
        tx.nodes.put_item(item("5"))
        raise Wanted

    await store.run(prepare)
    with pytest.raises(Wanted):
        await store.run(shuffle)
    await store.run(lambda tx: tx.nodes.put_item(item("5")))
    assert ids(await store.run(lambda tx: tx.nodes.items(SERVICE, "boiler", 9))) == ["5", "4", "3", "2", "1"]


@pytest.mark.parametrize(("keep", "left"), [(0, []), (2, ["4", "3"]), (9, ["4", "3", "2", "1"])])
async def test_newest_items_are_kept(store: Store, keep: int, left: list[str]) -> None:
    def fn(tx: Transaction) -> None:
        tx.nodes.put_node(NODE)
        for id in ("1", "2", "3", "4"):
            tx.nodes.put_item(item(id))
        tx.nodes.delete_items(SERVICE, "boiler", keep)
        assert ids(tx.nodes.items(SERVICE, "boiler", 9)) == left
        assert tx.nodes.item_count(SERVICE, "boiler") == len(left)

    await store.run(fn)


@in_store
def test_subscriptions_of_resources_belong_to_the_account(tx: Transaction) -> None:
    tx.nodes.put_node(NODE)
    for jid in ("a@h", "a@h/r", "a@h/r/@x", "aa@h", "a@h.example", "h/a@h"):
        tx.nodes.put_subscription(Subscription(SERVICE, "boiler", jid))
    assert [s.jid for s in tx.nodes.subscriptions_of("a@h")] == ["a@h", "a@h/r", "a@h/r/@x"]
    assert [s.jid for s in tx.nodes.subscriptions_of("a@h", SERVICE, "other")] == []
    assert tx.nodes.subscription_count(SERVICE, bare="a@h") == 3
    assert tx.nodes.subscription_count(SERVICE, node="boiler") == 6
    tx.nodes.delete_resource_subscriptions("h")
    assert list(tx.nodes.subscriber_jids(SERVICE, "boiler")) == ["a@h", "a@h.example", "aa@h"]


@in_store
def test_subscriptions_of_durable_sessions_stay_when_a_host_starts(tx: Transaction) -> None:
    tx.nodes.put_node(NODE)
    for jid in ("a@h/r", "a@h/s"):
        tx.nodes.put_subscription(Subscription(SERVICE, "boiler", jid))
    tx.durable.put(DurableSession("id", "a@h/s", 600, b""))
    tx.nodes.delete_resource_subscriptions("h")
    assert list(tx.nodes.subscriber_jids(SERVICE, "boiler")) == ["a@h/s"]


# ---- durable sessions ----


@in_store
def test_counts_of_a_durable_session_stay_when_the_rest_is_stored_again(tx: Transaction) -> None:
    tx.durable.put(DurableSession("id", "a@h/s", 600, b"state"))
    tx.durable.count("id", 2**40)
    tx.durable.send("id", 3, b"c")
    tx.durable.put(DurableSession("id", "a@h/s", 600, b"other"))
    assert list(tx.durable.sessions()) == [DurableSession("id", "a@h/s", 600, b"other", 2**40, 3)]


@in_store
def test_what_a_durable_session_sent_outlives_it_and_what_it_was_sent_does_not(tx: Transaction) -> None:
    tx.durable.put(DurableSession("id", "a@h/s", 600, b""))
    first, second = (tx.durable.receive("id", "a@h/s", text) for text in (b"1", b"2"))
    for number in (1, 2, 3):
        tx.durable.send("id", number, b"x")
    tx.durable.acknowledge("id", 2)
    assert list(tx.durable.sent("id")) == [Sent(3, b"x")]
    tx.durable.delete("id")
    assert list(tx.durable.sent("id")) == list(tx.durable.sessions()) == []
    tx.durable.remove(first)
    assert [(row.id, row.stanza) for row in tx.durable.received()] == [(second, b"2")]
    assert tx.durable.receive("id", "a@h/s", b"3") > second


@in_store
def test_ids_are_remembered_within_the_window_only(tx: Transaction) -> None:
    window = Window(3, timedelta(hours=1))
    for k in range(4):
        assert is_new(tx.durable, "a@h", str(k), NOW, window)
        assert is_new(tx.durable, "b@h", str(k), NOW, Window(0, timedelta(hours=1)))
    later = NOW + timedelta(hours=1)
    assert not is_new(tx.durable, "a@h", "3", later, window)
    assert is_new(tx.durable, "b@h", "3", later, window)
    assert is_new(tx.durable, "a@h", "0", later, window)  # the fourth from the end
    assert is_new(tx.durable, "a@h", "3", later + timedelta(microseconds=1), window)
    tx.durable.forget(later + timedelta(days=1))
    assert is_new(tx.durable, "a@h", "3", later, window)


@in_store
@pytest.mark.security(row=(64, 65))
def test_whole_names_are_keys(tx: Transaction) -> None:
    long = "x" * 1023
    for name in (f"{long}1", f"{long}2", "A", "a", "%", "_", "'; DROP TABLE pubsub_nodes; --"):
        tx.nodes.put_node(replace(NODE, name=name))
    assert tx.nodes.node_count(SERVICE) == 7
    tx.nodes.delete_node(SERVICE, "%")
    assert tx.nodes.node_count(SERVICE) == 6
    jid = f"{long}@{'d' * 1023}/{'r' * 1023}"
    tx.nodes.put_subscription(Subscription(SERVICE, "a", jid))
    assert list(tx.nodes.subscriber_jids(SERVICE, "a")) == [jid]


# ---- documents, logouts, block lists ----

ME = "me@plant.example"


@in_store
def test_document_is_replaced_by_its_kind_and_name(tx: Transaction) -> None:
    first, other = Document(ME, "private", "a", b"1"), Document(ME, "vcard", "a", b"22")
    for document in (first, other, replace(first, data=b"333")):
        tx.documents.put(document)
    assert tx.documents.get(ME, "private", "a") == replace(first, data=b"333")
    assert tx.documents.get(ME, "vcard", "a") == other
    assert tx.documents.get("you@plant.example", "private", "a") is None
    assert tx.documents.sizes(ME) == replace(first, data=b"333").size_bytes + other.size_bytes
    tx.documents.delete(ME, "private", "a")
    assert tx.documents.sizes(ME) == other.size_bytes
    tx.documents.clear(ME)
    assert tx.documents.sizes(ME) == 0


@in_store
def test_last_logout_is_kept(tx: Transaction) -> None:
    tx.accounts.put(ME, KEYS)
    assert tx.logouts.get(ME) is None
    for status in ("Heading Home", ""):
        tx.logouts.put([Logout(ME, NOW, status)])
        assert tx.logouts.get(ME) == Logout(ME, NOW, status)
    tx.logouts.clear(ME)
    assert tx.logouts.get(ME) is None


@in_store
def test_of_logouts_that_come_together_the_last_of_each_account_is_kept_and_none_without_account(
    tx: Transaction,
) -> None:
    tx.accounts.put(ME, KEYS)
    tx.logouts.put([Logout(ME, NOW, "first"), Logout("guest@plant.example", NOW), Logout(ME, NOW, "it's last")])
    assert tx.logouts.get(ME) == Logout(ME, NOW, "it's last")
    assert tx.logouts.get("guest@plant.example") is None
    tx.logouts.put([])


# ---- beside the queue ----


async def test_glance_sees_what_is_committed(store: Store) -> None:
    assert not store.glance(lambda tx: tx.accounts.exists(ME))
    await store.run(lambda tx: tx.accounts.put(ME, KEYS))
    assert store.idle
    assert store.glance(lambda tx: tx.accounts.get(ME, KEYS.mechanism)) == KEYS
    await store.run(lambda tx: tx.accounts.remove(ME))
    assert not store.glance(lambda tx: tx.accounts.exists(ME))


async def test_what_glances_may_raise(store: Store) -> None:
    for _ in range(2):
        with pytest.raises(LookupError):
            store.glance(lambda tx: {}["nothing"])


async def test_deferred_work_is_done_before_the_next_transaction(store: Store) -> None:
    failed: list[Exception] = []

    def put(tx: Transaction, names: Sequence[str]) -> None:
        for name in names:
            tx.accounts.put(f"{name}@plant.example", KEYS)

    for name in "ab":
        store.defer(put, name, failed.append)
    found = await store.run(lambda tx: tx.accounts.list("plant.example"))
    assert found == ["a@plant.example", "b@plant.example"]
    assert not failed


async def test_deferred_work_that_fails_is_told_and_leaves_nothing(store: Store) -> None:
    failed: list[Exception] = []

    def put(tx: Transaction, jids: Sequence[str]) -> None:
        for jid in jids:
            tx.accounts.put(jid, KEYS)
        raise ValueError("no")

    store.defer(put, ME, failed.append)
    assert not await store.run(lambda tx: tx.accounts.exists(ME))
    assert [str(error) for error in failed] == ["no"]


@in_store
def test_block_list_has_each_entry_once(tx: Transaction) -> None:
    for jid in ("b.example", "a@b.example", "b.example"):
        tx.blocks.put(Block(ME, jid))
    tx.blocks.put(Block("you@plant.example", "c.example"))
    assert list(tx.blocks.jids(ME)) == ["a@b.example", "b.example"]
    tx.blocks.delete(ME, "b.example")
    assert list(tx.blocks.jids(ME)) == ["a@b.example"]
    tx.blocks.clear(ME)
    assert list(tx.blocks.jids(ME)) == []


@in_store
def test_of_too_many_setups_those_used_last_are_kept(tx: Transaction) -> None:
    for number in range(70):
        remember_setup(tx.exi, AgreedSetup(f"{number:02}", "<setup/>", False, NOW + timedelta(seconds=number)))
    assert [setup.id for setup in tx.exi.setups()] == [f"{number:02}" for number in range(69, 5, -1)]


@in_store
def test_of_too_many_schemas_those_used_last_are_kept(tx: Transaction) -> None:
    for number in range(5):
        schema = StoredSchema(f"urn:{number}", 100, "0" * 32, b"<schema/>", NOW + timedelta(seconds=number))
        left = remember_schema(tx.exi, schema, 250)
        assert list(tx.exi.schemas()) == left
    assert [schema.namespace for schema in left] == ["urn:4", "urn:3"]


# ---- both alike ----


def test_every_method_of_the_protocols_is_compared() -> None:
    protocols = {
        "accounts": AccountStore,
        "secrets": Secrets,
        "roster": RosterStore,
        "nodes": NodeStore,
        "offline": OfflineStore,
        "tokens": TokenStore,
        "documents": DocumentStore,
        "logouts": LogoutStore,
        "blocks": BlockStore,
        "durable": DurableStore,
        "exi": ExiStore,
    }
    promised = {(store, name) for store, each in protocols.items() for name in vars(each) if not name.startswith("_")}
    assert promised == operations.METHODS


@settings(max_examples=1000 if SOAK else 25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(operations.transactions, min_size=1, max_size=6))
def test_both_stores_answer_alike(migrated: Path, tmp_path: Path, transactions: list[tuple[list[Call], bool]]) -> None:
    async def answers(opened: AbstractAsyncContextManager[Store]) -> list[Any]:
        found: list[Any] = []
        async with opened as store:
            for calls, raises in transactions:
                try:
                    found.append(await store.run(lambda tx: operations.perform(tx, calls, raises)))  # noqa: B023
                except Wanted:
                    found.append(None)
            found.append(await store.run(operations.dump))
        return found

    path = Path(shutil.copy(migrated, tmp_path / "xiot.db"))
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    on_disk = trio.run(answers, Store.open(path))
    in_memory = trio.run(answers, nullcontext(MemoryStore()))
    assert on_disk == in_memory

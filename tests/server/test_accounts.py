# SPDX-License-Identifier: Apache-2.0
"""Accounts: made, changed, removed, and checked at login."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from xiot.core import JID
from xiot.errors import StanzaError, StreamError
from xiot.model.accounts import Credentials
from xiot.model.nodes import Affiliation, Node, Subscription
from xiot.model.roster import RosterItem
from xiot.proto import scram
from xiot.server.accounts import AccountExists, Accounts, BadPassword, NoSuchAccount
from xiot.server.config import Config, load
from xiot.store import Store, Transaction
from xiot.store.memory import MemoryStore

JULIET = JID("juliet@plant.example")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "xiot.toml"
    path.write_text(
        'data_dir = "data"\n[[host]]\nname = "plant.example"\n[[host]]\nname = "b.example"\n'
        "[accounts]\nscram_iterations = 4096\n",
        encoding="utf-8",
    )
    return load(path)


@pytest.fixture
def store() -> Store:
    return MemoryStore()


@pytest.fixture
async def accounts(config: Config, store: Store) -> Accounts:
    return await Accounts.open(store, config)


# ---- logins ----


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
async def test_password_proves_itself_by_scram(accounts: Accounts, mechanism: str) -> None:
    await accounts.add(JULIET, "s3cret")
    keys = accounts.keys(JULIET, mechanism)
    assert keys is not None
    assert keys.iterations == 4096
    binding = ("tls-exporter", b"x") if mechanism.endswith("-PLUS") else None
    client = scram.ScramClient(mechanism, "juliet", binding=binding)
    server = scram.ScramServer(mechanism, bindings=dict([binding]) if binding else None)
    assert server.first(client.first()) == "juliet"
    salt, iterations = client.challenge(server.challenge(keys))
    client.verify(server.final(client.final(scram.salted_password(mechanism, "s3cret", salt, iterations))))


async def test_plain_password_is_compared(accounts: Accounts) -> None:
    await accounts.add(JULIET, "s3cret")
    assert await accounts.check_plain(JULIET, "s3cret")
    assert not await accounts.check_plain(JULIET, "S3cret")
    assert not await accounts.check_plain(JULIET, "")
    assert not await accounts.check_plain(JID("romeo@plant.example"), "s3cret")


async def test_unknown_account_has_no_keys(accounts: Accounts) -> None:
    assert accounts.keys(JULIET, "SCRAM-SHA-1") is None
    assert not await accounts.exists(JULIET)


async def test_unknown_mechanism_has_no_keys(accounts: Accounts) -> None:
    await accounts.add(JULIET, "s3cret")
    assert accounts.keys(JULIET, "SCRAM-SHA-512") is None


async def test_account_with_keys_of_one_mechanism_can_use_plain(accounts: Accounts, store: Store) -> None:
    await accounts.add(JULIET, "s3cret")
    for mechanism in scram.HASHES:
        record = await store.run(lambda tx: tx.accounts.get(str(JULIET), mechanism))  # noqa: B023
        assert record is not None
        imported = JID(f"{mechanism}@plant.example".lower())
        await store.run(lambda tx: tx.accounts.put(str(imported), record))  # noqa: B023
        assert await accounts.check_plain(imported, "s3cret")
        assert not await accounts.check_plain(imported, "other")


async def test_same_password_has_other_salts_in_each_account(accounts: Accounts) -> None:
    salts = set()
    for name in "ab":
        await accounts.add(JID(f"{name}@plant.example"), "s3cret")
        for mechanism in scram.HASHES:
            keys = accounts.keys(JID(f"{name}@plant.example"), mechanism)
            assert keys is not None
            salts.add(keys.salt)
    assert len(salts) == 4


@pytest.mark.security(row=46)
async def test_login_check_does_not_block_the_loop(accounts: Accounts, store: Store) -> None:
    slow = scram.derive_keys("SCRAM-SHA-1", "s3cret", b"salt", 200_000)
    record = Credentials("SCRAM-SHA-1", slow.salt, slow.iterations, slow.stored_key, slow.server_key)
    await store.run(lambda tx: tx.accounts.put(str(JULIET), record))
    ticks = 0
    async with trio.open_nursery() as nursery:

        async def tick() -> None:
            nonlocal ticks
            while True:
                await trio.sleep(0.001)
                ticks += 1

        nursery.start_soon(tick)
        assert await accounts.check_plain(JULIET, "s3cret")
        nursery.cancel_scope.cancel()
    assert ticks > 10


# ---- passwords ----


async def test_password_is_prepared_before_it_is_compared(accounts: Accounts) -> None:
    await accounts.add(JULIET, "cafe\u0301 \u2009x")  # RFC 8265 section 4.2: composed, and spaces made one kind
    assert await accounts.check_plain(JULIET, "caf\u00e9  x")


@pytest.mark.parametrize("password", ["", "a\0b", "tab\t", "\u0085"])
async def test_forbidden_password_is_refused(accounts: Accounts, password: str) -> None:
    with pytest.raises(BadPassword) as caught:
        await accounts.add(JULIET, password)
    assert not password or password not in str(caught.value)
    assert not await accounts.exists(JULIET)


async def test_password_is_replaced(accounts: Accounts) -> None:
    await accounts.add(JULIET, "old")
    await accounts.passwd(JULIET, "new")
    assert await accounts.check_plain(JULIET, "new")
    assert not await accounts.check_plain(JULIET, "old")


@pytest.mark.security(statement=48)
async def test_no_password_is_stored(config: Config) -> None:
    async with Store.open(config.database) as store:
        accounts = await Accounts.open(store, config)
        await accounts.add(JULIET, "correct horse")
        assert await accounts.check_plain(JULIET, "correct horse")
        files = list(config.data_dir.iterdir())
        assert not [file for file in files if b"correct horse" in file.read_bytes()]


# ---- names ----


async def test_name_is_taken_once(accounts: Accounts) -> None:
    outcomes = []

    async def add(password: str) -> None:
        try:
            await accounts.add(JULIET, password)
            outcomes.append(password)
        except AccountExists:
            outcomes.append("taken")

    async with trio.open_nursery() as nursery:
        for password in ("a", "b"):
            nursery.start_soon(add, password)
    (winner,) = set(outcomes) - {"taken"}
    assert await accounts.check_plain(JULIET, winner)


@pytest.mark.parametrize("jid", ["plant.example", "juliet@plant.example/balcony"])
async def test_account_is_a_bare_jid(accounts: Accounts, jid: str) -> None:
    with pytest.raises(ValueError, match="not the JID of an account"):
        await accounts.add(JID(jid), "s3cret")


async def test_missing_account_cannot_be_changed(accounts: Accounts) -> None:
    with pytest.raises(NoSuchAccount):
        await accounts.passwd(JULIET, "s3cret")
    with pytest.raises(NoSuchAccount):
        await accounts.remove(JULIET)


async def test_next_account_of_a_name_inherits_nothing(accounts: Accounts, store: Store) -> None:
    bare = str(JULIET)
    everywhere = ["pubsub.plant.example", "pubsub.b.example"]

    def prepare(tx: Transaction) -> None:
        tx.roster.put(RosterItem(bare, "romeo@plant.example"))
        tx.roster.put_version(bare, 3)
        for service in [*everywhere, bare]:
            tx.nodes.put_node(Node(service, "n", bare, NOW))
            tx.nodes.put_subscription(Subscription(service, "n", f"{bare}/balcony"))
            tx.nodes.put_subscription(Subscription(service, "n", "romeo@plant.example"))
            tx.nodes.put_affiliation(Affiliation(service, "n", bare, "owner"))

    def check(tx: Transaction) -> None:
        assert (tx.roster.count(bare), tx.roster.version(bare)) == (0, 0)
        assert list(tx.nodes.subscriptions_of(bare)) == []
        assert [list(tx.nodes.affiliations_of(bare, service)) for service in everywhere] == [[], []]
        assert tx.nodes.node_count(bare) == 0
        assert [s.service for s in tx.nodes.subscriptions_of("romeo@plant.example")] == sorted(everywhere)

    await accounts.add(JULIET, "s3cret")
    await store.run(prepare)
    await accounts.remove(JULIET)
    assert not await accounts.exists(JULIET)
    assert accounts.keys(JULIET, "SCRAM-SHA-256") is None
    await store.run(check)


async def test_accounts_of_a_host_are_listed_page_by_page(
    accounts: Accounts, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiot.server.accounts.PAGE", 2)
    for jid in ("d@plant.example", "b@plant.example", "a@plant.example", "c@plant.example", "x@b.example"):
        await accounts.add(JID(jid), "s3cret")
    assert [jid.local async for jid in accounts.list("plant.example")] == list("abcd")
    assert [jid.local async for jid in accounts.list("none.example")] == []


# ---- what is kept ----


@pytest.mark.security(row=40)
async def test_fake_salts_stay_the_same_over_restarts(config: Config) -> None:
    secrets = []
    for _ in range(2):
        async with Store.open(config.database) as store:
            secrets.append((await Accounts.open(store, config)).fake_salt_secret)
    assert len(secrets[0]) == 32
    assert secrets[0] == secrets[1]


@pytest.mark.security(row=73)
async def test_secrets_differ_between_servers(config: Config) -> None:
    assert (await Accounts.open(MemoryStore(), config)).fake_salt_secret != (
        await Accounts.open(MemoryStore(), config)
    ).fake_salt_secret


# ---- in-band registration ----


class Sessions(list[tuple[JID, str]]):
    """What a registrar needs of a server: it records whose sessions are ended, and by what condition."""

    def end_sessions(self, jid: JID, error: StreamError) -> int:
        self.append((jid, error.condition))
        return 1


async def test_registrar_answers_by_stanza_errors(accounts: Accounts) -> None:
    registrar = accounts.registrar(cast("Any", Sessions()))
    await registrar.create(JULIET, "s3cret")
    for call, condition in (
        (registrar.create(JULIET, "other"), "conflict"),
        (registrar.create(JID("romeo@plant.example"), "\0"), "not-acceptable"),
        (registrar.set_password(JULIET, "\0"), "not-acceptable"),
        (registrar.set_password(JID("romeo@plant.example"), "x"), "registration-required"),
        (registrar.remove(JID("romeo@plant.example")), "registration-required"),
    ):
        with pytest.raises(StanzaError) as caught:
            await call
        assert caught.value.condition == condition
    await registrar.set_password(JULIET, "new")
    assert await accounts.check_plain(JULIET, "new")
    await registrar.remove(JULIET)
    assert not await accounts.exists(JULIET)


async def test_registrar_ends_the_streams_of_an_account(accounts: Accounts) -> None:
    sessions = Sessions()
    await accounts.registrar(cast("Any", sessions)).end_sessions(JULIET)
    assert sessions == [(JULIET, "not-authorized")]

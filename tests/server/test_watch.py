# SPDX-License-Identifier: Apache-2.0
"""Rates and silence: looks are taken by hand at times of our own, so nothing here depends on how fast the machine is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from xiot.net.listen import source_of
from xiot.server.watch import Bucket, Watch

from .attacks import Peer, Site, message
from .serving import HOST, Running, serving

RATE = 10_000


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: Watch) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Watch, "run", run)


@asynccontextmanager
async def site(folder: Path, **limits: Any) -> AsyncIterator[Site]:
    async with serving(folder, starttls="optional", plain=True, **limits) as running:
        await running.account("juliet", "romeo")
        site = Site(running, "tcp", 5)
        yield site
        await site.aclose()


async def answered(peer: Peer, id: str) -> None:
    peer.received = b""
    await peer.send(f"<iq id='{id}' type='get' to='{HOST}'><ping xmlns='urn:xmpp:ping'/></iq>".encode())
    await peer.until(f"id='{id}'".encode())


async def stays_silent(peer: Peer) -> None:
    peer.received = b""
    with trio.move_on_after(0.2):
        await peer.receive()
    assert peer.received == b""


def reading(running: Running, peer: Peer) -> bool:
    (session,) = (s for s in running.server.sessions if s.bound and str(s.jid) == peer.jid)
    return session.connection.reading


@pytest.mark.security(statement=81)
async def test_an_account_over_its_rate_waits_for_what_it_owes_and_nobody_else_does(tmp_path: Path) -> None:
    async with site(tmp_path, account_bytes_per_s=RATE, burst_s=1) as place:
        juliet, romeo = await place.peer("juliet"), await place.peer("romeo")
        watch = place.server.watch
        await watch.look(0)
        await watch.look(100)  # what the logins cost is paid
        await juliet.send(message(b"x" * (4 * RATE), juliet.jid))
        await juliet.until(b"</message>")
        with structlog.testing.capture_logs() as logs:
            await watch.look(100)
        assert [(entry["of"], entry["who"]) for entry in logs] == [("account", "juliet@localhost")]
        assert logs[0]["seconds"] == pytest.approx(3, abs=0.1)
        assert watch.held == 1
        await juliet.send(b"<iq id='later' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
        await stays_silent(juliet)
        await answered(romeo, "r")
        figures = (await place.server.metrics.text()).decode()
        assert 'xiot_connections_waiting{state="held"} 1.0' in figures
        assert 'xiot_shaper_waits_total{scope="account"} 1.0' in figures
        await watch.look(102.9)
        assert not reading(place.running, juliet)
        await watch.look(103.2)
        await juliet.until(b"later")
        assert watch.held == 0
        assert watch.waits == {"account": 1}
        assert watch.waited_s["account"] == pytest.approx(3.2)
        assert 'xiot_shaper_wait_seconds_total{scope="account"} 3.2' in (await place.server.metrics.text()).decode()


async def test_all_sessions_of_an_account_pay_together(tmp_path: Path) -> None:
    async with site(tmp_path, account_bytes_per_s=RATE, burst_s=1) as place:
        one, other = await place.peer("juliet"), await place.peer("juliet")
        watch = place.server.watch
        await watch.look(0)
        await watch.look(100)
        for peer in (one, other):
            await peer.send(message(b"x" * RATE, peer.jid))
            await peer.until(b"</message>")
        await watch.look(100)
        assert watch.held == 2
        assert not reading(place.running, one)
        assert not reading(place.running, other)


async def test_stanzas_count_whether_the_core_routed_them_or_not(tmp_path: Path) -> None:
    async with site(tmp_path, account_stanzas_per_s=10, burst_s=1) as place:
        juliet, romeo = await place.peer("juliet"), await place.peer("romeo")
        watch = place.server.watch
        await watch.look(0)
        await watch.look(100)
        await juliet.send(b"<message to='%s'/>" % romeo.jid.encode() * 50)
        await romeo.send(b"<iq id='x' type='get'><ping xmlns='urn:xmpp:ping'/></iq>" * 49)
        await answered(juliet, "a")
        await answered(romeo, "b")
        await watch.look(100)
        assert watch.held == 2


@pytest.mark.security(row=45, statement=81)
async def test_before_login_only_the_address_pays(tmp_path: Path) -> None:
    """Else anybody could have the session of another held by claiming his name."""
    async with site(tmp_path, account_bytes_per_s=100, address_bytes_per_s=RATE, burst_s=1) as place:
        watch = place.server.watch
        stranger = await place.peer(header=True)
        await stranger.send(b" " * (3 * RATE))
        while not any(s.connection.bytes_in > 3 * RATE for s in place.server.sessions):
            await trio.sleep(0.01)
        await watch.look(0)
        assert watch.waits == {"address": 1}


async def test_a_debt_outlives_the_connection(tmp_path: Path) -> None:
    async with site(tmp_path, account_bytes_per_s=RATE, burst_s=1) as place:
        watch = place.server.watch
        juliet = await place.peer("juliet")
        await juliet.send(message(b"x" * (10 * RATE), juliet.jid))
        await juliet.until(b"</message>")
        await watch.look(0)
        await place.aclose()
        juliet = await place.peer("juliet")
        await watch.look(1)
        assert watch.held == 2  # the one that has gone is found out when it is read again
        await watch.look(60)
        assert watch.held == 0
        assert not watch._payers


async def test_a_held_connection_that_closes_is_let_go(tmp_path: Path) -> None:
    async with site(tmp_path, account_bytes_per_s=RATE, burst_s=1) as place:
        watch = place.server.watch
        juliet = await place.peer("juliet")
        await juliet.send(message(b"x" * (10 * RATE), juliet.jid))
        await juliet.until(b"</message>")
        await watch.look(0)
        (session,) = place.server.sessions
        session.on_idle()
        place.server.pump.flush()
        assert b"connection-timeout" in await ending(juliet)
        await watch.look(0.1)
        assert watch.held == 0


async def ending(peer: Peer, data: bytes = b"") -> bytes:
    """What came from the last header on."""
    await peer.ending(data)
    return peer.received


async def test_no_rates_nothing_is_held(tmp_path: Path) -> None:
    async with site(tmp_path) as place:
        juliet = await place.peer("juliet")
        await juliet.send(message(b"x" * 100_000, juliet.jid))
        await juliet.until(b"</message>")
        await place.server.watch.look(0)
        assert not place.server.watch._payers


@pytest.mark.security(statement=(12, 21, 83))
async def test_the_silent_are_pinged_and_only_the_dead_are_closed(tmp_path: Path) -> None:
    """RFC 6120: idle, connection-timeout (statement 21); whitespace is a word (statement 12)."""
    async with site(tmp_path, idle_s=100) as place:
        watch = place.server.watch
        juliet = await place.peer("juliet")
        await watch.look(1)
        await watch.look(70)
        await stays_silent(juliet)
        await watch.look(72)
        await juliet.until(b"urn:xmpp:ping")
        assert f"to='{juliet.jid}'".encode() in juliet.received
        await watch.look(90)
        await stays_silent(juliet)  # it is asked once
        await juliet.send(b" ")
        await answered(juliet, "here")
        await watch.look(101)
        await watch.look(172)
        await juliet.until(b"urn:xmpp:ping")
        await watch.look(202)
        assert b"connection-timeout" in await ending(juliet)


async def test_a_silent_session_that_may_be_resumed_is_kept_without_its_connection(tmp_path: Path) -> None:
    async with site(tmp_path, idle_s=100) as place:
        watch = place.server.watch
        juliet = await place.peer("juliet")
        await juliet.send(b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        await juliet.until(b"<enabled")
        await watch.look(1)
        await watch.look(102)
        assert await ending(juliet)
        assert b"error" not in juliet.received
        assert len(place.server.resumptions) == 1


async def test_silence_before_login_is_the_business_of_another_limit(tmp_path: Path) -> None:
    async with site(tmp_path, idle_s=1) as place:
        stranger = await place.peer(header=True)
        await place.server.watch.look(1)
        await place.server.watch.look(100)
        await stays_silent(stranger)
        assert b"not-authorized" in await ending(stranger, b"<message/>")


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=50),
    st.integers(1, 10**6),
    st.floats(0.1, 60),
)
def test_who_waits_as_told_keeps_the_rate(steps: list[tuple[float, float]], rate: int, burst_s: float) -> None:
    bucket, now, total, last = Bucket(float("inf"), 0.0), 0.0, 0.0, 0.0
    for spent, pause in steps:
        owed = bucket.charge(spent, now, rate, rate * burst_s)
        assert owed >= 0
        total, last = total + spent, spent
        assert total - last <= rate * (now + burst_s) * (1 + 1e-9) + 1e-6
        now += owed + pause


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("192.0.2.1:5222", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:5222", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:1", "fe80::/64"),
        ("[::1]:1", "::/64"),
    ],
)
def test_an_address_counts_as_its_customer(peer: str, source: str) -> None:
    assert source_of(peer) == source

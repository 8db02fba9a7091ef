# SPDX-License-Identifier: Apache-2.0
"""Many at once: each message arrives exactly once, idle connections keep nobody waiting, and memory comes back."""

from __future__ import annotations

import gc
import os
import resource
import socket
from collections import Counter
from pathlib import Path

import pytest
import structlog
import trio

from xiot.core import Stanza, StreamParser
from xiot.net.listen import ACCEPTS_PER_TURN

from .attacks import HEADER, MIB, Peer, Site, message, rss_bytes
from .serving import Running, serving

SOAK = os.environ.get("XIOT_SOAK") == "1"
CLIENTS = 500
INSIDE_TLS = 100  # of them: both ends of each handshake are computed here
RESOURCES = 25  # of one account
EACH = 20  # messages that a client sends, to as many others


async def logged_in(running: Running, clients: int, inside_tls: int) -> tuple[list[Peer], list[Site]]:
    """So many clients, one after the other connected and 50 at a time logging in."""
    accounts = [f"user{i}" for i in range(-(-clients // RESOURCES))]
    await running.account(*accounts)
    tcp, tls = Site(running, "tcp", 30), Site(running, "tls", 30)
    peers: list[Peer] = []
    places = trio.CapacityLimiter(50)

    async def one(number: int) -> None:
        async with places:
            site = tls if number < inside_tls else tcp
            peers.append(await site.peer(accounts[number % len(accounts)]))

    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(one, number)
    return peers, [tcp, tls]


def parser() -> StreamParser:
    """One that stands behind a header."""
    stanzas = StreamParser()
    stanzas.feed(HEADER)
    return stanzas


@pytest.mark.security(statement=57)
async def test_500_clients_exchange_each_message_exactly_once_and_in_order(tmp_path: Path) -> None:
    got: Counter[tuple[str, str, int]] = Counter()
    last: dict[tuple[str, str], int] = {}
    disorder: list[tuple[str, str]] = []

    async def receive(peer: Peer, expected: int) -> None:
        stanzas = parser()
        while expected:
            data = await peer.receive()
            peer.received = b""
            if not data:
                return
            for stanza in stanzas.feed(data):
                assert isinstance(stanza, Stanza)
                assert stanza.from_ is not None
                assert stanza.type == "chat", stanza.raw
                number = int(stanza.element.findtext("{jabber:client}body") or -1)
                pair = stanza.from_, peer.jid
                got[*pair, number] += 1
                if last.get(pair, -1) >= number:
                    disorder.append(pair)
                last[pair] = number
                expected -= 1

    async def send(number: int) -> None:
        for round in range(2):  # twice to each, so that there is an order to keep
            for i in range(1, EACH // 2 + 1):
                to = peers[(number + i * 37) % CLIENTS]
                await peers[number].send(message(b"%d" % (round * EACH + i), to.jid))

    with structlog.testing.capture_logs() as logs:
        async with serving(tmp_path, starttls="optional", plain=True) as running:
            peers, sites = await logged_in(running, CLIENTS, INSIDE_TLS)
            assert len({peer.jid for peer in peers}) == len(running.server.router) == CLIENTS
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    for number, peer in enumerate(peers):
                        nursery.start_soon(receive, peer, EACH)
                        nursery.start_soon(send, number)
            assert len(got) == CLIENTS * EACH
            assert set(got.values()) == {1}
            assert not disorder
            assert running.server.router.routed == CLIENTS * EACH
            for site in sites:
                await site.aclose()
    assert not [entry for entry in logs if entry["log_level"] == "error"]


@pytest.mark.security(row=46)
async def test_half_open_connections_keep_no_honest_login_waiting(tmp_path: Path) -> None:
    """Row 46. Each takes two descriptors, since both ends are here."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    idle = min(8000 if SOAK else 500, (most - 200) // 2)
    async with serving(tmp_path, pre_auth_s=60) as running:
        await running.account("honest")
        site = Site(running, "tcp", 5)
        for _ in range(idle):
            await site.socket()
        while len(running.server.pump) < idle:
            await trio.sleep(0.01)
        waits: list[float] = []
        for _ in range(3):
            began = trio.current_time()
            async with running.connect("honest") as client:
                await client.ping()
                waits.append(trio.current_time() - began)
        assert min(waits) < 0.5
        await site.aclose()


@pytest.mark.security(row=44)
async def test_memory_comes_back_after_connections(tmp_path: Path) -> None:
    """Row 44: whatever they did before they went."""
    storm = 100_000 if SOAK else 2000
    what = (b"", HEADER, HEADER + b"<auth xmlns='", HEADER + b"<a>" * 30, b"garbage", HEADER + b"<message/>")

    async def wave(number: int) -> None:
        async with trio.open_nursery() as nursery:
            for worker in range(10):
                nursery.start_soon(some, number // 10, worker)
        with trio.fail_after(10):
            while len(running.server.pump):
                await trio.sleep(0.01)

    async def some(number: int, worker: int) -> None:
        site = Site(running, "tcp", 5)
        for i in range(number):
            peer = await site.peer()
            await peer.send(what[(i + worker) % len(what)])
            await site.aclose()

    with structlog.testing.capture_logs() as logs:
        async with serving(tmp_path) as running:
            await wave(300)  # what the first ones need stays
            logs.clear()
            gc.collect()
            before = rss_bytes()
            for _ in range(storm // 500):
                await wave(500)
                logs.clear()
            gc.collect()  # the attackers' ends
            grown = rss_bytes() - before
            assert not running.server.sessions
            assert grown < 5 * MIB, f"{grown} bytes more after {storm} connections"


async def test_a_storm_of_connections_keeps_no_session_waiting(tmp_path: Path) -> None:
    """Counted in turns of the pump: an answer takes a few, whatever waits to be accepted."""
    async with serving(tmp_path, starttls="optional", plain=True) as running:
        await running.account("honest")
        site = Site(running, "tcp", 5)
        honest = await site.peer("honest")
        host, _, port = running.address.rpartition(":")
        storm = [socket.socket() for _ in range(1000)]
        for sock in storm:
            sock.setblocking(False)
            sock.connect_ex((host, int(port)))
        pump, accepted = running.server.pump, running.server.metrics.accepted
        for number in range(10):
            began, before = pump.turns, running.server.metrics.accepted
            honest.received = b""
            await honest.send(b"<iq id='n%d' type='get'><ping xmlns='urn:xmpp:ping'/></iq>" % number)
            await honest.until(b"n%d" % number)
            assert pump.turns - began <= 5
            assert running.server.metrics.accepted - before <= 6 * ACCEPTS_PER_TURN
        with trio.fail_after(30):
            while running.server.metrics.accepted < accepted + len(storm):
                await trio.sleep(0.01)
        for sock in storm:
            sock.close()
        await site.aclose()

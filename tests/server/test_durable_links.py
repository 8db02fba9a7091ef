# SPDX-License-Identifier: Apache-2.0
"""Durable links: sessions go on after the server was stopped; kills are in `test_durable`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from xiot.core import JID
from xiot.server import journal

from .attacks import CLOSE
from .serving import Running, serving
from .test_resumption import NS, STREAMS, Managed, R, ack, eventually, message, peer, resume

DURABLE = f"<enable xmlns='{NS}' resume='true' d:durable='true' xmlns:d='urn:xiot:durable:0'/>".encode()
PING = b"<iq id='%d' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
PUBSUB = "http://jabber.org/protocol/pubsub"


@asynccontextmanager
async def site(folder: Path, *, host: str = "", **limits: float) -> AsyncIterator[Running]:
    """A server; the next one in the same folder goes on where it stopped."""
    async with serving(folder, starttls="off", plain=True, host=host, **limits) as running:
        for name in ("romeo", "juliet"):
            if not await running.server.store.run(lambda tx, name=name: tx.accounts.exists(f"{name}@localhost")):  # type: ignore[misc]
                await running.account(name)
        try:
            yield running
        finally:
            while STREAMS:
                await trio.aclose_forcefully(STREAMS.pop())


class Durable(Managed):
    """A peer that has asked for a durable link."""

    granted = False


async def durable(running: Running, name: str, resource: str = "", *, wish: bytes = DURABLE) -> Durable:
    it = Durable(await running.raw(), patience_s=5)
    STREAMS.append(it.stream)
    await it.login(name, resource)
    it.received = b""
    await it.send(wish)
    await it.until(b"<enabled")
    it.id = re.findall(rb"id=['\"]([^'\"]+)", it.received)[0].decode()
    it.granted = b"durable" in it.received
    it.received = b""
    return it


async def back(running: Running, name: str, id: str, h: int = 0) -> tuple[Managed, int]:
    """The session resumed on a new connection, and how many of its stanzas the server has."""
    it = await peer(running)
    await it.unbound(name)
    await it.send(resume(id, h))
    await it.until(b"<resumed")
    return it, int(re.findall(rb"<resumed[^>]* h=['\"](\d+)", it.received)[0])


async def test_link_is_durable_if_its_client_asks(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        assert (await durable(running, "romeo")).granted
        assert not (
            await durable(
                running, "romeo", wish=DURABLE.replace(b"d:", b"e:").replace(b":d=", b":e=").replace(b"xiot", b"other")
            )
        ).granted
        assert len(running.server.journal.links) == 1


@pytest.mark.parametrize(
    ("host", "asked", "plain"),
    [
        ('durable_links = "off"\ndurable_accounts = ["romeo@localhost"]', False, False),
        ('durable_links = "all"', True, True),
        ('durable_accounts = ["romeo@localhost"]', True, True),
        ('durable_accounts = ["juliet@localhost"]', True, False),
    ],
)
async def test_configuration_says_which_links_are_durable(tmp_path: Path, host: str, asked: bool, plain: bool) -> None:
    async with site(tmp_path, host=host) as running:
        enable = f"<enable xmlns='{NS}' resume='true'/>".encode()
        assert (await durable(running, "romeo")).granted is asked
        assert (await durable(running, "romeo", wish=enable)).granted is plain


async def test_link_without_resumption_is_not_durable(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        it = await peer(running, "romeo")
        await it.send(DURABLE.replace(b"resume='true'", b""))
        await it.until(b"<enabled")
        assert not running.server.journal.links


async def test_acknowledgement_comes_when_all_before_it_is_in_the_store(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo, juliet = await durable(running, "romeo"), await peer(running, "juliet", managed=True)
        await romeo.send(b"".join(message(juliet.jid, k) for k in range(50)) + R)
        await romeo.until(ack(50))
        await juliet.until(b"<body>49</body>")
        assert juliet.numbers() == list(range(50))
        (row,) = await running.server.store.run(lambda tx: tx.durable.sessions())
        assert (row.jid, row.handled) == (romeo.jid, 50)
        assert len(await running.server.store.run(lambda tx: tx.durable.received())) == 50  # juliet may not have them
        await juliet.send(ack(50))
        await eventually_empty(running)


async def eventually_empty(running: Running) -> None:
    with trio.fail_after(5):
        while await running.server.store.run(lambda tx: tx.durable.received()):
            await trio.sleep(0.05)


async def test_requests_are_answered_in_order_and_requests_for_acknowledgement_too(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await durable(running, "romeo")
        await romeo.send(PING % 1 + R + PING % 2 + b"<presence/>" + PING % 3 + R)
        await romeo.until(ack(4))
        await romeo.until(b"id='3'")
        assert romeo.received.index(ack(1)) < romeo.received.index(ack(4))
        order = [romeo.received.index(text) for text in (b"id='1'", b"id='2'", b"<presence", b"id='3'")]
        assert order == sorted(order)


async def test_session_goes_on_after_the_server_was_stopped(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo, juliet = await durable(running, "romeo"), await durable(running, "juliet", "balcony")
        await juliet.send(b"<presence><status>here</status></presence>" + PING % 1 + R)
        await juliet.until(ack(2))
        await juliet.until(b"id='1'")
        await romeo.send(b"".join(message(juliet.jid, k) for k in range(10)) + R)
        await romeo.until(ack(10))
        await juliet.until(b"<body>9</body>")
    async with site(tmp_path) as running:
        assert {str(link.session.jid) for link in running.server.journal.links} == {romeo.jid, juliet.jid}
        it, h = await back(running, "juliet", juliet.id, h=2 + 4)  # its presence, the answer, four messages
        assert h == 2
        await it.until(b"<body>9</body>")
        assert it.numbers() == list(range(4, 10))
        mine = running.server.hosts["localhost"].session(JID(juliet.jid))
        assert mine is not None
        assert mine.availability.presence is not None
        assert mine.availability.presence.findtext("{jabber:client}status") == "here"
        other, h = await back(running, "romeo", romeo.id)
        assert h == 10
        await other.send(message(juliet.jid, 10) + R)
        await other.until(ack(11))
        await it.until(b"<body>10</body>")


async def test_what_is_acknowledged_by_resuming_is_forgotten_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would add up over servers that live for moments, until the session that is brought back counts as full."""
    monkeypatch.setattr(journal, "SWEEP_S", 3600.0)
    async with site(tmp_path) as running:
        romeo, juliet = await durable(running, "romeo"), await durable(running, "juliet")
        await romeo.send(b"".join(message(juliet.jid, k) for k in range(10)) + R)
        await juliet.until(b"<body>9</body>")
    async with site(tmp_path) as running:
        sent = partial(running.server.store.run, lambda tx: tx.durable.sent(juliet.id))
        assert len(await sent()) == 10
        await back(running, "juliet", juliet.id, h=4)
        with trio.fail_after(5):
            while [stanza.number for stanza in await sent()] != list(range(5, 11)):
                await trio.sleep(0.01)


async def test_what_a_link_without_durability_had_not_acknowledged_waits_for_it_after_a_restart(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo, juliet = await durable(running, "romeo"), await peer(running, "juliet", managed=True)
        await romeo.send(b"".join(message(juliet.jid, k) for k in range(6)) + R)
        await juliet.until(b"<body>5</body>")
        await romeo.until(ack(6))
        await juliet.send(ack(2))
        with trio.fail_after(5):
            while len(await running.server.store.run(lambda tx: tx.durable.received())) > 4:
                await trio.sleep(0.05)
    async with site(tmp_path) as running:
        it = await peer(running, "juliet")
        await it.send(b"<presence/>")
        await it.until(b"<body>5</body>")
        assert it.numbers() == [2, 3, 4, 5]
        await eventually_empty(running)


async def test_message_of_the_same_origin_id_is_taken_once(tmp_path: Path) -> None:
    def with_id(to: str, id: str) -> bytes:
        return f"<message to='{to}' type='chat'><body>{id}</body><origin-id xmlns='urn:xmpp:sid:0' id='{id}'/></message>".encode()

    async with site(tmp_path, dedupe_ids_per_account=3) as running:
        romeo, juliet = await durable(running, "romeo"), await peer(running, "juliet")
        await romeo.send(b"".join(with_id(juliet.jid, id) for id in ("1", "1", "2", "1")) + R)
        await romeo.until(ack(4))
        again = await durable(running, "romeo")  # the window is the account's
        await again.send(b"".join(with_id(juliet.jid, id) for id in ("2", "3", "4", "1")) + R)
        await again.until(ack(4))
        await juliet.until(b"<body>4</body>")
        await juliet.until(b"id='1'/></message>")
        with trio.move_on_after(0.3):
            await juliet.receive()
        assert juliet.numbers() == [1, 2, 3, 4, 1]


async def test_session_that_is_not_resumed_after_a_restart_ends_and_its_messages_are_stored(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo, juliet = (
            await durable(running, "romeo"),
            await durable(running, "juliet", wish=DURABLE.replace(b"enable", b"enable max='1'", 1)),
        )
        await romeo.send(b"".join(message(juliet.jid, k) for k in range(3)) + R)
        await juliet.until(b"<body>2</body>")
        await romeo.until(ack(3))
    async with site(tmp_path) as running:
        assert len(running.server.resumptions) == 2
        await eventually(lambda: len(running.server.resumptions) == 1)
        it = await peer(running, "juliet")
        with trio.fail_after(5):
            while (await running.server.store.run(lambda tx: tx.offline.usage("juliet@localhost")))[0] < 3:
                await trio.sleep(0.02)
        await it.send(b"<presence/>")
        await it.until(b"<body>2</body>")
        assert it.numbers() == [0, 1, 2]
        assert [row.jid for row in await running.server.store.run(lambda tx: tx.durable.sessions())] == [romeo.jid]


async def test_stored_messages_are_the_sessions_own_once_handed_to_it(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await durable(running, "romeo")
        await romeo.send(b"".join(message("juliet@localhost", k) for k in range(250)) + R)
        await romeo.until(ack(250))
        juliet = await durable(running, "juliet")
        await juliet.send(b"<presence/>")
        await juliet.until(b"<body>120</body>")
    async with site(tmp_path) as running:
        it, _ = await back(running, "juliet", juliet.id, h=len(juliet.numbers()))
        await it.until(b"<body>249</body>")
        assert juliet.numbers() + it.numbers() == list(range(250))


async def test_subscription_of_a_durable_session_outlives_the_server(tmp_path: Path) -> None:
    def pubsub(body: str) -> bytes:
        return f"<iq id='s' type='set' to='pubsub.localhost'><pubsub xmlns='{PUBSUB}'>{body}</pubsub></iq>".encode()

    publish = pubsub("<publish node='n'><item><x xmlns='y'/></item></publish>")
    async with site(tmp_path) as running:
        romeo, juliet = await durable(running, "romeo"), await durable(running, "juliet")
        await romeo.send(publish)
        await romeo.until(b"id='s'")
        await juliet.send(pubsub(f"<subscribe node='n' jid='{juliet.jid}'/>") + R)
        await juliet.until(ack(1))
        await juliet.until(b"subscribed")
    async with site(tmp_path) as running:
        it, _ = await back(running, "juliet", juliet.id, h=1)
        it.received = b""
        other = await peer(running, "romeo")
        await other.send(publish)
        await it.until(b"<event")


async def test_contacts_that_did_not_survive_are_shown_as_gone(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo, juliet = await durable(running, "romeo"), await peer(running, "juliet")
        for one, other in ((romeo, juliet), (juliet, romeo)):
            await one.send(f"<presence type='subscribe' to='{other.jid.partition('/')[0]}'/>".encode())
            await one.send(PING % 1)
            await one.until(b"id='1'")
            one.received = b""
        for one, other in ((romeo, juliet), (juliet, romeo)):
            await one.send(f"<presence type='subscribed' to='{other.jid.partition('/')[0]}'/>".encode())
            await one.send(PING % 2)
            await one.until(b"id='2'")
        await romeo.send(b"<presence/>")
        await juliet.send(b"<presence/>")
        await romeo.until(f"from='{juliet.jid}'".encode())
        await romeo.send(R)
        await romeo.until(b"<a ")
    async with site(tmp_path) as running:
        it, _ = await back(running, "romeo", romeo.id)
        await it.until(b"type='unavailable'")
        new = await peer(running, "juliet")
        await new.send(b"<presence/>")
        await it.until(f"from='{new.jid}'".encode())
        await new.until(f"from='{romeo.jid}'".encode())


async def test_closed_session_leaves_nothing_behind(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo, juliet = await durable(running, "romeo"), await peer(running, "juliet")
        await romeo.ending(message(juliet.jid, 1) + CLOSE)
        await juliet.until(b"<body>1</body>")
        await eventually_empty(running)
        with trio.fail_after(5):
            while await running.server.store.run(lambda tx: tx.durable.sessions()):
                await trio.sleep(0.02)
        assert not running.server.journal.links


async def test_removed_account_has_no_session_after_a_restart(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        await durable(running, "romeo")
    async with serving(tmp_path, starttls="off", plain=True) as running:
        await running.server.store.run(lambda tx: tx.accounts.remove("romeo@localhost"))
    async with serving(tmp_path, starttls="off", plain=True) as running:
        assert not running.server.journal.links
        assert not await running.server.store.run(lambda tx: tx.durable.sessions())


async def test_who_sends_faster_than_the_disk_takes_it_waits(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo, juliet = await peer(running, "romeo"), await durable(running, "juliet")
        n, text = 3000, " " * 1000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(romeo.send, b"".join(message(juliet.jid, f"{k}{text}") for k in range(n)))
            got = 0
            with trio.fail_after(30):
                while got < n:
                    await juliet.receive()
                    got = juliet.received.count(b"</message>")
                    await juliet.send(ack(got))
        assert juliet.numbers() == list(range(n))
        assert b"error" not in romeo.received


async def test_what_is_received_and_not_dealt_with_is_bounded(tmp_path: Path) -> None:
    async with site(tmp_path, offline_messages_per_account=10_000) as running:
        romeo = await durable(running, "romeo")
        (link,) = running.server.journal.links
        async with trio.open_nursery() as nursery:
            stanzas = [message("juliet@localhost", f"{k}{' ' * 1000}") for k in range(600)]  # each waits for the store
            nursery.start_soon(romeo.send, b"".join(stanzas))
            most = 0
            with trio.fail_after(30):
                while (await running.server.store.run(lambda tx: tx.offline.usage("juliet@localhost")))[0] < 600:
                    most = max(most, link._bytes)
        assert 0 < most < 2 * 262_144


async def test_of_two_connections_that_resume_a_session_the_later_gets_it(tmp_path: Path) -> None:
    """The client had no patience while the disk was slow."""
    async with site(tmp_path) as running:
        juliet = await durable(running, "juliet")
        async with running.server.journal._committing:  # nothing gets to the disk
            await juliet.send(message(juliet.jid, 1))
            (link,) = running.server.journal.links
            await eventually(lambda: link.busy)
            await juliet.cut()
            attempts = []
            for _ in range(2):
                it = await peer(running)
                attempts.append(it)
                await it.unbound("juliet")
                await it.send(resume(juliet.id))
                heir = link.session.heir
                await eventually(lambda: link.session.heir is not heir)  # noqa: B023
        first, second = attempts
        await second.until(b"<resumed")
        await first.until(b"item-not-found")
        await second.until(b"<body>1</body>")

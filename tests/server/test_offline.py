# SPDX-License-Identifier: Apache-2.0
"""Messages that wait for their recipient (XEP-0160; statement 84), over real streams."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import trio

from xiot.core import JID
from xiot.store import StoreError, Transaction
from xiot.xep import disco

from .actors import HOST, Actor, Stage, stage
from .serving import Running, serving
from .test_resumption import Managed, came_back, peer, site

TO = f"juliet@{HOST}"
DELAY = "{urn:xmpp:delay}delay"


def text(number: int, to: str = TO, type: str = "chat", size_bytes: int = 0) -> str:
    return f"<message to='{to}' type='{type}' id='{number}'><body>{number}{'x' * size_bytes}</body></message>"


async def waiting(play: Stage) -> int:
    items, _ = await play.server.store.run(lambda tx: tx.offline.usage(TO))
    return items


async def numbers(actor: Actor, xml: str = "") -> list[int]:
    return [int(stanza.get("id", "0")) for stanza in await actor.stanzas(xml) if stanza.name == "message"]


@pytest.mark.security(statement=(62, 84))
async def test_messages_come_once_and_in_order_with_when_they_were_sent(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        assert await romeo.says("".join(map(text, range(250)))) == []
        assert await waiting(play) == 250
        juliet = await play.enter("juliet/balcony", None)
        stanzas = await juliet.stanzas("<presence/>")
        assert [stanza.get("id") for stanza in stanzas[:-1]] == [str(number) for number in range(250)]
        assert stanzas[-1].name == "presence"  # nothing overtakes them
        first = stanzas[0]
        assert (first.get("from"), first.get("to")) == (romeo.jid, TO)
        assert first.find(DELAY).get("from") == HOST  # type: ignore[union-attr]
        assert await waiting(play) == 0
        await juliet.leave()
        juliet = await play.enter("juliet/balcony", None)
        assert await numbers(juliet, "<presence/>") == []


@pytest.mark.security(statement=64)
async def test_negative_priority_gets_none_until_it_rises(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        await romeo.stanzas(text(1))
        juliet = await play.enter("juliet/balcony", None)
        assert await numbers(juliet, "<presence><priority>-1</priority></presence>") == []
        await romeo.stanzas(text(2))
        assert await numbers(juliet) == []
        assert await numbers(juliet, "<presence><priority>0</priority></presence>") == [1, 2]
        await romeo.stanzas(text(3))
        assert await numbers(juliet) == [3]


async def test_later_presence_finds_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        await romeo.stanzas(text(1))
        juliet = await play.enter("juliet/balcony", None)
        assert await numbers(juliet, "<presence/>") == [1]
        assert await numbers(juliet, "<presence><show>away</show></presence>") == []
        assert await numbers(await play.enter("juliet/chamber", None), "<presence/>") == []


async def test_two_resources_that_come_at_once_share_them(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        await romeo.stanzas("".join(map(text, range(300))))
        actors = [await play.enter(f"juliet/{resource}", None) for resource in "abc"]
        got: list[int] = []

        async def come(actor: Actor) -> None:
            got.extend(await numbers(actor, "<presence/>"))

        async with trio.open_nursery() as nursery:
            for actor in actors:
                nursery.start_soon(come, actor)
        assert sorted(got) == list(range(300))
        assert not play.server.presences._arriving


async def test_while_they_come_and_go_each_message_arrives_once_and_in_order(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        sent = 0
        got: list[int] = []

        async def write(done: trio.Event) -> None:
            nonlocal sent
            while not done.is_set():
                assert await romeo.says("".join(text(sent + i) for i in range(20))) == []
                sent += 20

        async with trio.open_nursery() as nursery:
            done = trio.Event()
            nursery.start_soon(write, done)
            for _ in range(8):
                juliet = await play.enter("juliet/balcony", None)
                got += await numbers(juliet, "<presence/>")
                got += await numbers(juliet)
                got += await numbers(juliet, "<presence type='unavailable'/>")
                await juliet.leave()
            done.set()
        juliet = await play.enter("juliet/balcony", None)
        got += await numbers(juliet, "<presence/>")
        assert got == list(range(sent))


@pytest.mark.security(row=77, statement=57)
async def test_what_is_sent_behind_a_stored_message_is_not_looked_at_before_it_is_durable(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        order: list[str] = []
        transact = play.server.store.transact

        async def slowly(fn, then):  # type: ignore[no-untyped-def]
            def noted(result: object) -> object:
                order.append("durable")
                return then(result)

            await trio.sleep(0.05)
            return await transact(fn, noted)

        play.server.store.transact = slowly  # type: ignore[method-assign]
        await romeo.stanzas(text(1) + text(2, to=romeo.jid))
        order.append("answered")
        assert order == ["durable", "answered"]


async def test_message_that_was_stored_while_the_recipient_came_is_handed_over(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony", None)
        transact = play.server.store.transact
        stored, go_on = trio.Event(), trio.Event()

        async def late(fn, then):  # type: ignore[no-untyped-def]
            if fn.__name__ == "keep":
                stored.set()
                await go_on.wait()
            return await transact(fn, then)

        play.server.store.transact = late  # type: ignore[method-assign]
        await romeo.send(text(1) + text(2))
        await stored.wait()
        assert await numbers(juliet, "<presence/>") == []
        go_on.set()
        await romeo.stanzas()
        assert await numbers(juliet) == [1, 2]
        with trio.fail_after(5):
            while await waiting(play):
                await trio.sleep(0.01)


# ---- what is stored ----

STATE = "<active xmlns='http://jabber.org/protocol/chatstates'/>"


@pytest.mark.parametrize(
    ("message", "stored"),
    [
        ("<message to='{to}'><body>x</body></message>", True),
        ("<message to='{to}' type='chat'><body>x</body></message>", True),
        ("<message to='{to}'/>", True),
        ("<message to='{to}' type='chat'><received xmlns='urn:xmpp:receipts' id='1'/></message>", True),
        (f"<message to='{{to}}' type='chat'><body>x</body>{STATE}</message>", True),
        (f"<message to='{{to}}' type='chat'>{STATE}</message>", False),
        (f"<message to='{{to}}' type='chat'>{STATE}<thread>1</thread></message>", False),
        (f"<message to='{{to}}' type='chat'>{STATE}<store xmlns='urn:xmpp:hints'/></message>", True),
        ("<message to='{to}'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>", False),
        ("<message to='{to}'><body>x</body><no-permanent-store xmlns='urn:xmpp:hints'/></message>", True),
    ],
)
async def test_what_is_worth_keeping(tmp_path: Path, message: str, stored: bool) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        said = await romeo.says(message.format(to=TO))
        assert [line.rpartition(" ")[2] for line in said] == ([] if stored else ["service-unavailable"])
        assert await waiting(play) == stored


@pytest.mark.security(statement=84)
async def test_nobody_else_writes_our_notes_of_delay(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        notes = "".join(
            f"<delay xmlns='urn:xmpp:delay' from='{origin}' stamp='2002-09-10T23:08:25Z'/>"
            for origin in (HOST, "elsewhere.example")
        )
        await romeo.stanzas(f"<message to='{TO}'><body>x</body>{notes}</message>")
        juliet = await play.enter("juliet/balcony", None)
        message, _ = await juliet.stanzas("<presence/>")
        origins = {delay.get("from"): delay.get("stamp", "")[:4] for delay in message.findall(DELAY)}
        assert origins.pop("elsewhere.example") == "2002"
        assert origins[HOST] > "2002"


@pytest.mark.security(row=76)
async def test_too_many_or_too_much_is_refused(tmp_path: Path) -> None:
    limits = {"offline_messages_per_account": 3, "offline_bytes_per_account": 5_000}
    async with stage(tmp_path, "romeo", "juliet", **limits) as play:
        romeo = await play.enter("romeo/orchard")
        refused = ["message error juliet service-unavailable"]
        assert await romeo.says(text(1, size_bytes=6_000)) == refused
        assert await romeo.says(text(1) + text(2) + text(3)) == []
        assert await romeo.says(text(4)) == refused
        assert await numbers(await play.enter("juliet/balcony", None), "<presence/>") == [1, 2, 3]


@pytest.mark.parametrize("attributes", [200, 250])
@pytest.mark.parametrize("depth", [1, 60])
async def test_no_message_keeps_others_from_the_recipient(tmp_path: Path, attributes: int, depth: int) -> None:
    async with stage(tmp_path, "romeo", "juliet", max_stanza_bytes=2_000_000) as play:
        romeo = await play.enter("romeo/orchard")
        names = "".join(f" p{i}:a='1'" for i in range(attributes // 2))
        spaces = "".join(f" xmlns:p{i}='u{i}'" for i in range(attributes // 2))
        odd = f"<x{spaces}>{f'<x{names}>' * depth}{'</x>' * depth}</x>"
        said = await romeo.says(f"<message to='{TO}'><body>x</body>{odd}</message>{text(1)}")
        assert said in ([], ["message error juliet policy-violation"])
        juliet = await play.enter("juliet/balcony", None)
        assert (await numbers(juliet, "<presence/>"))[-1] == 1


async def test_off_means_off(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet", offline_messages_per_account=0) as play:
        romeo = await play.enter("romeo/orchard")
        assert await romeo.says(text(1)) == ["message error juliet service-unavailable"]


async def test_store_that_fails_is_a_resource_constraint_and_no_end(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        transact = play.server.store.transact

        async def full(fn, then):  # type: ignore[no-untyped-def]
            raise StoreError("database or disk is full")

        play.server.store.transact = full  # type: ignore[method-assign]
        assert await romeo.says(text(1)) == ["message error juliet resource-constraint"]
        play.server.store.transact = transact  # type: ignore[method-assign]
        assert await romeo.says(text(2)) == []
        assert await waiting(play) == 1


async def test_next_account_of_a_name_inherits_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        await romeo.stanzas(text(1))
        await play.server.accounts.remove(JID(TO))
        await play.running.account("juliet")
        assert await numbers(await play.enter("juliet/balcony", None), "<presence/>") == []


# ---- much, slowly, and cut ----


def fill(tx: Transaction, count: int, size_bytes: int) -> None:
    for number in range(count):
        body = f"<body>{'x' * size_bytes}</body>"
        tx.offline.put(TO, f"<message from='a@b' to='{TO}' id='{number}'>{body}</message>".encode())


async def test_large_queue_is_read_as_the_client_takes_it(tmp_path: Path) -> None:
    async with stage(tmp_path, "juliet", out_high_bytes=65_536) as play:
        await play.server.store.run(partial(fill, count=200, size_bytes=20_000))
        juliet = await play.enter("juliet/balcony", None)
        await juliet.send("<presence/>")
        (session,) = play.server.hosts[HOST].sessions(JID(TO))
        most = 0
        for _ in range(20):  # it reads nothing yet
            await trio.sleep(0.02)
            most = max(most, session.connection.link.queued_bytes)
        assert most < 250_000  # the kernel may have taken the rest
        assert await numbers(juliet) == list(range(200))
        assert await waiting(play) == 0


async def test_what_a_cut_connection_did_not_take_waits_on(tmp_path: Path) -> None:
    async with stage(tmp_path, "juliet", out_high_bytes=65_536) as play:
        await play.server.store.run(partial(fill, count=300, size_bytes=20_000))
        juliet = await play.enter("juliet/balcony", None)
        await juliet.send("<presence/>")
        await juliet.peer.until(b"id='5'")
        await juliet.vanish()
        juliet = await play.enter("juliet/balcony", None)
        got = await numbers(juliet, "<presence/>")
        assert got
        assert got == list(range(got[0], 300))
        assert await waiting(play) == 0


# ---- with stream management (XEP-0198) ----


async def acknowledging(juliet: Managed) -> list[int]:
    """The ids of all messages up to her own presence; she acknowledges as they come."""
    handled = 0
    with trio.fail_after(20):
        while b"<presence" not in juliet.received:
            await juliet.receive()
            if (now := juliet.received.count(b"</message>")) > handled:
                handled = now
                await juliet.send(f"<a xmlns='urn:xmpp:sm:3' h='{handled}'/>".encode())
    return [int(id) for id in re.findall(rb" id='([0-9]+)'", juliet.received)]


async def empty(running: Running) -> bool:
    return await running.server.store.run(lambda tx: tx.offline.usage(TO)) == (0, 0)


async def emptied(running: Running) -> None:
    with trio.fail_after(20):
        while not await empty(running):
            await trio.sleep(0.05)


async def test_queue_longer_than_what_may_be_unacknowledged_needs_acknowledgements(tmp_path: Path) -> None:
    async with site(tmp_path, out_high_bytes=65_536) as running:
        await running.server.store.run(partial(fill, count=100, size_bytes=20_000))
        juliet = await peer(running, "juliet", managed=True)
        await juliet.send(b"<presence/>")
        assert await acknowledging(juliet) == list(range(100))
        await emptied(running)


async def test_cut_in_the_middle_of_the_queue_is_resumed_without_loss(tmp_path: Path) -> None:
    async with site(tmp_path, out_high_bytes=65_536) as running:
        await running.server.store.run(partial(fill, count=100, size_bytes=20_000))
        juliet = await peer(running, "juliet", managed=True)
        await juliet.send(b"<presence/>")
        await juliet.until(b"id='3'")
        await juliet.cut()
        assert await acknowledging(await came_back(running, "juliet", juliet.id)) == list(range(100))
        await emptied(running)


@pytest.mark.security(statement=75)
async def test_what_was_not_acknowledged_waits_again(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=0.5) as running:
        romeo = await peer(running, "romeo")
        await romeo.send((text(0) + text(1) + text(2, to=romeo.jid)).encode())
        await romeo.until(b"id='2'")
        juliet = await peer(running, "juliet", managed=True)
        await juliet.send(b"<presence/>")
        await juliet.until(b"<presence")
        await juliet.send(b"<a xmlns='urn:xmpp:sm:3' h='1'/>")
        await romeo.send(text(2).encode())
        await juliet.until(b"id='2'")
        await juliet.cut()
        await romeo.send(text(3).encode())
        with trio.fail_after(20):
            while await running.server.store.run(lambda tx: tx.offline.usage(TO)[0]) < 3:
                await trio.sleep(0.05)
        juliet = await peer(running, "juliet", managed=True)
        await juliet.send(b"<presence/>")
        assert await acknowledging(juliet) == [1, 2, 3]
        await emptied(running)


async def store_some(running: Running, count: int = 100, size_bytes: int = 1) -> None:
    await running.server.store.run(partial(fill, count=count, size_bytes=size_bytes))


async def takes_some(running: Running, resource: str = "") -> Managed:
    """A client that is handed 40 of 100 messages, acknowledges 10, and loses its connection."""
    juliet = await peer(running, "juliet", resource=resource, managed=True)
    await juliet.send(b"<presence/>")
    await juliet.until(b" id='39'")
    await juliet.send(b"<a xmlns='urn:xmpp:sm:3' h='10'/>")
    (session,) = running.server.hosts[HOST].sessions(JID(TO))
    with trio.fail_after(5):
        while session.connection.link.acknowledged < 10:
            await trio.sleep(0.01)
    await juliet.cut()
    return juliet


# Four times as much may be unacknowledged, 40 messages of 20 kB: the rest is not handed over yet.
FORTY = {"out_high_bytes": 200_000}


@pytest.mark.security(statement=75)
@pytest.mark.parametrize("resource", ["balcony", "chamber"])
async def test_what_an_ended_session_did_not_acknowledge_keeps_its_place(tmp_path: Path, resource: str) -> None:
    async with site(tmp_path, resume_s=0.3 if resource == "chamber" else 300, **FORTY) as running:
        await store_some(running, size_bytes=20_000)
        await takes_some(running, "balcony")
        if resource == "chamber":
            with trio.fail_after(20):
                while running.server.hosts[HOST].sessions(JID(TO)):
                    await trio.sleep(0.05)
        late = f"<message to='{TO}' id='100'><body/></message>".encode()
        await running.server.store.run(lambda tx: tx.offline.put(TO, late))
        juliet = await peer(running, "juliet", resource=resource, managed=True)
        await juliet.send(b"<presence/>")
        assert await acknowledging(juliet) == list(range(10, 101))
        await emptied(running)
        assert not running.server.journal._claimed
        assert not running.server.journal._handed


async def test_link_without_management_takes_up_what_a_managed_one_left(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=300, **FORTY) as running:
        await store_some(running, size_bytes=20_000)
        await takes_some(running, "balcony")
        juliet = await peer(running, "juliet", resource="balcony")
        await juliet.send(b"<presence/>")
        assert await acknowledging(juliet) == list(range(10, 100))
        await emptied(running)


async def test_second_resource_gets_nothing_that_the_first_may_still_acknowledge(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=300, **FORTY) as running:
        await store_some(running, size_bytes=20_000)
        first = await takes_some(running, "balcony")
        handed = first.received.count(b"</message>")
        (session,) = running.server.hosts[HOST].sessions(JID(TO))
        second = await peer(running, "juliet", resource="chamber", managed=True)
        await second.send(b"<presence/>")
        later = await acknowledging(second)
        assert later == list(range(later[0], 100))
        assert later[0] >= handed
        session.expire("now")
        await second.until(b" id='%d'" % (later[0] - 1))
        await second.send(b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % (90 + second.received.count(b"<presence")))
        got = [int(id) for id in re.findall(rb" id='([0-9]+)'", second.received)]
        assert got == [*later, *range(10, later[0])]
        await emptied(running)


async def test_what_is_handed_over_is_stored_until_it_is_acknowledged(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        await store_some(running, 3)
        juliet = await peer(running, "juliet", managed=True)
        await juliet.send(b"<presence/>")
        await juliet.until(b"<presence")
        await juliet.send(b"<presence type='unavailable'/><presence/>")
        await juliet.send(b"<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
        await juliet.until(b"id='p'")
        assert [juliet.received.count(b" id='%d'" % number) for number in range(3)] == [1, 1, 1]
        assert (await running.server.store.run(lambda tx: tx.offline.usage(TO)))[0] == 3
        await juliet.send(b"<a xmlns='urn:xmpp:sm:3' h='2'/>")
        with trio.fail_after(5):
            while (await running.server.store.run(lambda tx: tx.offline.usage(TO)))[0] > 1:
                await trio.sleep(0.05)
        await juliet.send(b"<a xmlns='urn:xmpp:sm:3' h='3'/>")
        await emptied(running)


async def test_who_has_only_a_copy_does_not_acknowledge_the_message(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=300) as running:
        await store_some(running, 3)
        other = await peer(running, "juliet", resource="chamber", managed=True)
        await other.send(b"<iq id='c' type='set'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        await other.until(b"id='c'")
        (copied,) = running.server.hosts[HOST].sessions(JID(TO))
        first = await peer(running, "juliet", resource="balcony", managed=True)
        await first.send(b"<presence/>")
        await first.until(b"<presence")
        await other.until(b" id='2'")
        await other.send(b"<a xmlns='urn:xmpp:sm:3' h='4'/>")
        running.server.hosts[HOST].session(JID(first.jid)).expire("now")  # type: ignore[union-attr]
        with trio.fail_after(5):
            while copied.connection.link.acknowledged < 4 or running.server.journal._handed:
                await trio.sleep(0.05)
        juliet = await peer(running, "juliet", resource="balcony", managed=True)
        await juliet.send(b"<presence/>")
        assert await acknowledging(juliet) == [0, 1, 2]
        await emptied(running)


async def test_session_that_ends_while_another_comes_leaves_nothing_behind(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=300) as running:
        await store_some(running, 3)
        first = await peer(running, "juliet", resource="balcony", managed=True)
        await first.send(b"<presence/>")
        await first.until(b"<presence")
        (session,) = running.server.hosts[HOST].sessions(JID(TO))
        await first.cut()
        second = await peer(running, "juliet", resource="chamber", managed=True)
        transact = running.server.store.transact

        async def ends(fn, then):  # type: ignore[no-untyped-def]
            def late(result: object) -> object:
                if fn.__name__ == "next_page":
                    running.server.store.transact = transact  # type: ignore[method-assign]
                    session.expire("now")
                return then(result)

            return await transact(fn, late)

        running.server.store.transact = ends  # type: ignore[method-assign]
        await second.send(b"<presence/>")
        assert await acknowledging(second) == [0, 1, 2]
        await emptied(running)


async def test_what_an_ended_session_leaves_is_handed_over_to_who_came_meanwhile(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=300) as running:
        romeo = await peer(running, "romeo")
        first = await peer(running, "juliet", resource="balcony", managed=True)
        await first.send(b"<presence/>")
        await first.until(b"<presence")
        (session,) = running.server.hosts[HOST].sessions(JID(TO))
        await first.cut()
        await romeo.send((text(1) + text(2) + text(3, to=romeo.jid)).encode())
        await romeo.until(b"id='3'")
        second = await peer(running, "juliet", resource="chamber", managed=True)
        transact = running.server.store.transact
        storing, go_on = trio.Event(), trio.Event()

        async def late(fn, then):  # type: ignore[no-untyped-def]
            if fn.__name__ == "keep":
                storing.set()
                await go_on.wait()
            return await transact(fn, then)

        running.server.store.transact = late  # type: ignore[method-assign]
        session.expire("now")
        await storing.wait()
        await second.send(b"<presence/>")
        await second.until(b"<presence")
        go_on.set()
        await second.until(b"id='2'")
        assert await acknowledging(second) == [1, 2]
        await emptied(running)


async def test_support_is_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo") as romeo:
            assert (await disco.info(romeo, HOST)).can("msgoffline")

# SPDX-License-Identifier: Apache-2.0
"""Stream management on a real server (XEP-0198): sessions that lose their connection, come back, or do not."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from xiot.core import JID, Element
from xiot.server import resumption
from xiot.server.server import Server

from .attacks import CLOSE, SASL, Peer, condition_of
from .serving import PASSWORD, Running, serving

NS = "urn:xmpp:sm:3"
R = f"<r xmlns='{NS}'/>".encode()
ENABLE = f"<enable xmlns='{NS}' resume='true'/>".encode()
STREAMS: list[trio.abc.Stream] = []
"""All that a test has opened."""

NUMBER = re.compile(rb"<body>(\d+) *</body>")


def ack(h: int) -> bytes:
    return f"<a xmlns='{NS}' h='{h}'/>".encode()


def resume(id: str, h: int = 0) -> bytes:
    return f"<resume xmlns='{NS}' previd='{id}' h='{h}'/>".encode()


def message(to: str, body: object, type: str = "chat") -> bytes:
    return f"<message to='{to}' type='{type}'><body>{body}</body></message>".encode()


class Managed(Peer):
    """A peer with stream management."""

    id = ""
    features = b""
    """Those after login, of `unbound`."""

    async def enable(self) -> None:
        self.received = b""
        await self.send(ENABLE)
        await self.until(b"<enabled")
        self.id = re.findall(rb"id=['\"]([^'\"]+)", self.received)[0].decode()
        self.received = b""

    async def unbound(self, name: str, *, opened: bool = False) -> None:
        """Log in without binding."""
        secret = base64.b64encode(f"\0{name}\0{PASSWORD}".encode()).decode()
        if not opened:
            await self.open()
        await self.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{secret}</auth>".encode())
        await self.until(b"<success")
        await self.open()
        self.features, self.received = self.received, b""

    def numbers(self) -> list[int]:
        return [int(text) for text in NUMBER.findall(self.received)]

    async def cut(self) -> None:
        await trio.aclose_forcefully(self.stream)


@asynccontextmanager
async def site(folder: Path, **limits: float) -> AsyncIterator[Running]:
    async with serving(folder, starttls="off", plain=True, **limits) as running:
        await running.account("romeo", "juliet")
        try:
            yield running
        finally:
            while STREAMS:
                await trio.aclose_forcefully(STREAMS.pop())


async def peer(running: Running, name: str | None = None, *, resource: str = "", managed: bool = False) -> Managed:
    it = Managed(await running.raw(), patience_s=5)
    STREAMS.append(it.stream)
    if name is not None:
        await it.login(name, resource)
    if managed:
        await it.enable()
    return it


async def eventually(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.01)


async def came_back(running: Running, name: str, id: str, h: int = 0) -> Managed:
    it = await peer(running)
    await it.unbound(name)
    await it.send(resume(id, h))
    await it.until(b"<resumed")
    return it


async def test_feature_is_offered_after_login_only(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        it = await peer(running)
        await it.open()
        assert NS.encode() not in it.received
        await it.unbound("romeo", opened=True)
        assert f"<sm xmlns='{NS}'/>".encode() in it.features


@pytest.mark.security(statement=73)
async def test_stanzas_are_counted_from_enable_on(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo")
        await romeo.send(b"<presence/>")
        await romeo.until(b"<presence")
        await romeo.enable()
        await romeo.send(R + b"<iq id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>" + message(romeo.jid, 1) + R)
        await romeo.until(ack(2))
        assert ack(0) in romeo.received


@pytest.mark.security(row=77)
async def test_stanza_that_waits_for_the_store_is_acknowledged_after_it(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo", managed=True)
        await romeo.send(
            b"<iq id='1' type='set'><query xmlns='jabber:iq:roster'><item jid='x@localhost'/></query></iq>" + R
        )
        await romeo.until(ack(1))
        assert romeo.received.index(b"id='1'") < romeo.received.index(ack(1))


@pytest.mark.parametrize(
    "nonza", [ENABLE, resume("x"), f"<resume xmlns='{NS}'/>".encode(), f"<enable xmlns='{NS}' max='-1'/>".encode()]
)
async def test_what_cannot_be_is_failed_and_the_stream_goes_on(tmp_path: Path, nonza: bytes) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo", managed=True)
        await romeo.send(nonza + R)
        await romeo.until(ack(0))
        assert b"<failed" in romeo.received


async def test_second_enable_within_bind_is_refused_and_names_the_session_once(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        it = await peer(running, "romeo")
        (session,) = running.server.sessions
        enable = Element(f"{{{NS}}}enable", {"resume": "true"})
        first, second = (resumption.enable_within_bind(session, enable) for _ in range(2))
        assert isinstance(first, Element)
        assert isinstance(second, Element)
        assert (first.name, second.name) == ("enabled", "failed")
        assert list(running.server.resumptions._sessions) == [first.get("id")]
        await it.cut()


async def test_enable_before_bind_is_unexpected(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        it = await peer(running)
        await it.unbound("romeo")
        await it.send(ENABLE)
        await it.until(b"</failed>")
        assert b"unexpected-request" in it.received


async def test_unknown_name_is_not_found_and_binding_goes_on(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        it = await peer(running)
        await it.unbound("romeo")
        await it.send(resume("nobody"))
        await it.until(b"</failed>")
        assert b"item-not-found" in it.received
        await it.send(b"<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        await it.until(b"<jid>")


@pytest.mark.security(row=66)
async def test_another_account_cannot_resume_it(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo", managed=True)
        await romeo.cut()
        it = await peer(running)
        await it.unbound("juliet")
        await it.send(resume(romeo.id))
        await it.until(b"</failed>")
        assert b"item-not-found" in it.received
        back = await came_back(running, "romeo", romeo.id)
        assert b"<resumed" in back.received


@pytest.mark.security(row=66, statement=79)
async def test_more_acknowledged_than_sent_ends_the_stream(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo")
        await romeo.enable()
        before = romeo.received
        assert await ended(romeo, ack(1)) == "undefined-condition"
        assert b"handled-count-too-high" in romeo.received
        assert before == b""


async def ended(it: Peer, data: bytes) -> str | None:
    """The stream error that `data` leads to, though the header was read before."""
    await it.ending(data)
    header = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    return condition_of(header + it.received)


@pytest.mark.security(row=66, statement=79)
async def test_resumption_that_claims_too_much_ends_the_stream_and_leaves_the_session(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo", managed=True)
        await romeo.cut()
        it = await peer(running)
        await it.unbound("romeo")
        assert await ended(it, resume(romeo.id, 5)) == "undefined-condition"
        await came_back(running, "romeo", romeo.id)


@pytest.mark.security(statement=74)
async def test_nothing_is_lost_or_doubled_over_a_lost_connection(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo")
        juliet = await peer(running, "juliet", resource="balcony", managed=True)
        await romeo.send(message(juliet.jid, 1) + message(juliet.jid, 2))
        await juliet.until(b"<body>2</body>")
        await juliet.cut()
        await eventually(lambda: len(running.server.resumptions) == 1)
        await romeo.send(message(juliet.jid, 3))
        await romeo.send(message(juliet.jid, 4))
        await trio.sleep(0.05)
        back = await came_back(running, "juliet", juliet.id, h=1)
        await back.until(b"<body>4</body>")
        assert back.numbers() == [2, 3, 4]
        await romeo.send(message(juliet.jid, 5))
        await back.until(b"<body>5</body>")
        assert romeo.received.count(b"error") == 0
        # What was routed to it while it was away needed no Python.
        assert running.server.router.routed == 5


async def test_what_the_client_sent_is_counted_over_the_resumption(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo", managed=True)
        await romeo.send(message(romeo.jid, 1) + message(romeo.jid, 2) + R)
        await romeo.until(ack(2))
        await romeo.cut()
        back = await came_back(running, "romeo", romeo.id, h=2)
        assert re.search(rb"<resumed [^>]*h=['\"]2['\"]", back.received)
        await back.send(message(romeo.jid, 3) + R)
        await back.until(ack(3))
        assert back.numbers() == [3]


async def test_presence_and_roster_interest_outlive_the_connection(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo", resource="a", managed=True)
        other = await peer(running, "romeo", resource="b")
        await romeo.send(b"<presence/><iq id='r' type='get'><query xmlns='jabber:iq:roster'/></iq>" + R)
        await romeo.until(ack(2))
        await other.send(b"<presence/>")
        await other.until(b"from='romeo@localhost/a'")
        await romeo.cut()
        await eventually(lambda: len(running.server.resumptions) == 1)
        await other.send(
            b"<iq id='1' type='set'><query xmlns='jabber:iq:roster'><item jid='x@localhost'/></query></iq>"
        )
        await other.until(b"id='1'")
        assert b"unavailable" not in other.received
        back = await came_back(running, "romeo", romeo.id, h=2)
        await back.until(b"x@localhost")
        assert back.received.index(b"<resumed") < back.received.index(b"x@localhost")


async def test_later_presence_reaches_who_is_away_and_who_came_back(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo", resource="a", managed=True)
        other = await peer(running, "romeo", resource="b")
        await romeo.send(b"<presence/>" + R)
        await romeo.until(ack(1))
        await other.send(b"<presence/><presence><status>1</status></presence>")
        await romeo.until(b"<status>1")
        await romeo.cut()
        await eventually(lambda: len(running.server.resumptions) == 1)
        await other.send(b"<presence><status>2</status></presence>")
        await other.until(b"<status>2")
        back = await came_back(running, "romeo", romeo.id, h=0)
        await back.until(b"<status>2")
        await other.send(b"<presence><status>3</status></presence>")
        await back.until(b"<status>3")


async def test_connection_that_still_stands_is_ended_by_the_resumption(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        juliet = await peer(running, "juliet", managed=True)
        back = await came_back(running, "juliet", juliet.id)
        assert await ended(juliet, b"") == "conflict"
        await back.send(message(juliet.jid, 1))
        await back.until(b"<body>1</body>")


@pytest.mark.security(statement=77)
async def test_session_not_resumed_in_time_ends(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=0.5) as running:
        other = await peer(running, "juliet", resource="b")
        await other.send(b"<presence/>")
        juliet = await peer(running, "juliet", resource="a", managed=True)
        await juliet.send(b"<presence/>")
        await other.until(b"juliet@localhost/a")
        await juliet.cut()
        await other.until(b"type='unavailable'")
        assert len(running.server.resumptions) == 0
        it = await peer(running)
        await it.unbound("juliet")
        await it.send(resume(juliet.id))
        await it.until(b"item-not-found")


@pytest.mark.security(statement=75)
async def test_what_an_ended_session_did_not_acknowledge_goes_elsewhere(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=0.5) as running:
        romeo = await peer(running, "romeo")
        other = await peer(running, "juliet", resource="b")
        await other.send(b"<presence/>")
        juliet = await peer(running, "juliet", resource="a", managed=True)
        await juliet.cut()
        await romeo.send(message(juliet.jid, 1) + message(juliet.jid, 2, "headline"))
        await romeo.send(f"<iq id='q' type='get' to='{juliet.jid}'><ping xmlns='urn:xmpp:ping'/></iq>".encode())
        await other.until(b"<body>1</body>")
        await romeo.until(b"id='q'")
        assert b"type='error'" in romeo.received


async def test_orderly_close_cannot_be_resumed(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        juliet = await peer(running, "juliet", managed=True)
        await juliet.ending(CLOSE)
        it = await peer(running)
        await it.unbound("juliet")
        await it.send(resume(juliet.id))
        await it.until(b"item-not-found")


async def test_without_resume_the_session_ends_with_its_connection(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        juliet = await peer(running, "juliet")
        juliet.received = b""
        await juliet.send(f"<enable xmlns='{NS}'/>".encode())
        await juliet.until(b"<enabled")
        assert b"id=" not in juliet.received
        await juliet.cut()
        await eventually(lambda: not running.server.hosts["localhost"].online)


async def test_resumption_can_be_off(tmp_path: Path) -> None:
    async with site(tmp_path, resume_s=0) as running:
        juliet = await peer(running, "juliet")
        juliet.received = b""
        await juliet.send(ENABLE)
        await juliet.until(b"<enabled")
        assert b"resume" not in juliet.received


async def test_new_session_of_the_same_resource_ends_one_that_waits(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        juliet = await peer(running, "juliet", resource="balcony", managed=True)
        await juliet.cut()
        await eventually(lambda: len(running.server.resumptions) == 1)
        new = await peer(running, "juliet", resource="balcony")
        assert new.jid == juliet.jid
        assert len(running.server.resumptions) == 0
        await new.send(message(new.jid, 1))
        await new.until(b"<body>1</body>")


@pytest.mark.security(row=47, statement=78)
async def test_session_that_waits_keeps_a_bounded_amount(tmp_path: Path) -> None:
    async with site(tmp_path, out_high_bytes=65536) as running:
        romeo = await peer(running, "romeo")
        juliet = await peer(running, "juliet", managed=True)
        await juliet.cut()
        await eventually(lambda: len(running.server.resumptions) == 1)
        for k in range(200):
            await romeo.send(message(juliet.jid, str(k) + "x" * 1000))
        await romeo.until(b"type='error'")
        await eventually(lambda: len(running.server.resumptions) == 0)


async def test_sender_waits_for_who_reads_and_does_not_acknowledge(tmp_path: Path) -> None:
    async with site(tmp_path, out_high_bytes=65536) as running:
        romeo = await peer(running, "romeo")
        juliet = await peer(running, "juliet", managed=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(romeo.send, b"".join(message(juliet.jid, str(k) + " " * 1000) for k in range(300)))
            while len(juliet.numbers()) < 40:
                await juliet.receive()
            await trio.sleep(0.5)
            before = running.server.router.routed
            assert before < 200
            while len(juliet.numbers()) < 300:
                await juliet.send(ack(len(juliet.numbers())))
                await juliet.receive()
        assert juliet.numbers() == list(range(300))
        assert b"error" not in romeo.received


async def test_who_never_acknowledges_holds_up_nobody_for_long(tmp_path: Path) -> None:
    async with site(tmp_path, out_high_bytes=65536, stall_s=3) as running:
        romeo = await peer(running, "romeo")
        juliet = await peer(running, "juliet", managed=True)
        other = await peer(running, "romeo", resource="other")
        romeo.patience_s = other.patience_s = 15
        async with trio.open_nursery() as nursery:
            nursery.start_soon(juliet.ending)  # reads on, and acknowledges nothing
            await romeo.send(b"".join(message(juliet.jid, str(k) + " " * 1000) for k in range(300)))
            await romeo.send(message(other.jid, 1))
            await other.until(b"<body>1</body>")
            await eventually(lambda: len(running.server.resumptions) == 1)
            nursery.cancel_scope.cancel()


async def test_server_that_stops_does_not_wait_for_sessions_without_connection(tmp_path: Path) -> None:
    with trio.fail_after(4):
        async with site(tmp_path) as running:
            juliet = await peer(running, "juliet", managed=True)
            await juliet.cut()
            await eventually(lambda: len(running.server.resumptions) == 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.security(statement=74)
async def test_link_cut_at_random_points_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    """Cuts while messages flow, between send and acknowledgement, in login, and right after the resumption."""
    random = Random(seed)
    async with site(tmp_path) as running:
        romeo = await peer(running, "romeo")
        juliet = await peer(running, "juliet", managed=True)
        got: list[int] = []
        n, cuts = 400, 20

        async def send() -> None:
            for k in range(n):
                await romeo.send(message(juliet.jid, k))
                if k % 7 == 0:
                    await trio.sleep(random.random() / 200)

        async def answer(it: Managed, upto: int) -> None:
            """Take messages, acknowledge as asked; seen counts over all connections."""
            nonlocal got
            while len(got) < upto:
                while found := re.search(rb"<message.*?</message>|<r xmlns='urn:xmpp:sm:3'/>", it.received):
                    it.received = it.received[found.end() :]
                    if found[0].startswith(b"<r"):
                        await it.send(ack(len(got)))
                    else:
                        got.append(int(NUMBER.findall(found[0])[0]))
                if len(got) < upto:
                    data = await it.stream.receive_some(random.randint(1, 4000))
                    assert data, "the server has closed"
                    it.received += bytes(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            it: Managed = juliet
            for _ in range(cuts):
                with trio.move_on_after(random.random() / 30):
                    await answer(it, n)
                await it.cut()
                if random.random() < 0.3:  # in the middle of the login
                    half = await peer(running)
                    await half.open()
                    await half.cut()
                it = await came_back(running, "juliet", juliet.id, h=len(got))
                it.received = it.received.partition(b"<resumed")[2].partition(b">")[2]
            with trio.fail_after(20):
                await answer(it, n)
        assert got == list(range(n))
        assert b"error" not in romeo.received


async def test_session_that_ends_while_the_server_stops_finds_somebody_to_note_it(tmp_path: Path) -> None:
    """Not so the nursery of the handlers, which closes first."""
    noted = 0
    for _ in range(8):
        async with serving(tmp_path) as running:
            server = running.server

            async def end_late(server: Server) -> None:
                nonlocal noted
                with trio.CancelScope(shield=True):
                    while server.nursery.child_tasks:
                        await trio.lowlevel.checkpoint()
                server.logged_out(JID("romeo@localhost"), "")
                server.resource_gone(JID("romeo@localhost/r"))
                noted += 1

            server.storing.start_soon(end_late, server)
            await trio.sleep(0.01)
    assert noted == 8

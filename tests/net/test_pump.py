# SPDX-License-Identifier: Apache-2.0
"""The pump on real sockets of loopback: links bound by hand, no server."""

from __future__ import annotations

import resource
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
import trustme

from xiot.core import JID, Router, Stanza, StreamClose, StreamOpen, XmlError
from xiot.net.listen import accept, listen
from xiot.net.pump import HANDSHAKES_AT_ONCE, Connection, Event, Pump

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"


class Peer:
    """An owner that records what it is told."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self.secured = False
        self.timed_out = False
        self.lost: str | None = None
        self.on: Callable[[Event], None] = lambda event: None

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, XmlError):
            self.connection.link.write(event.condition.encode())
            self.connection.close(event.condition)
        self.on(event)

    def on_secured(self) -> None:
        self.secured = True

    def on_timeout(self) -> None:
        self.timed_out = True
        self.connection.close("too slow")

    def on_lost(self, reason: str) -> None:
        assert self.lost is None
        self.lost = reason


class Bench:
    """A running pump and its listener."""

    def __init__(self, pump: Pump, address: tuple[str, int]) -> None:
        self.pump = pump
        self.address = address
        self.peers: list[Peer] = []
        self.streams: list[trio.SocketStream] = []

    async def join(self, jid: str | None = None) -> tuple[trio.SocketStream, Peer]:
        """A client, its stream open, bound to `jid`."""
        index = len(self.peers)
        stream = await self.dial()
        await stream.send_all(HEADER)
        peer = await self.peer(index)
        await until(lambda: bool(peer.events))
        if jid is not None:
            peer.connection.link.bind(JID(jid))
        return stream, peer

    async def dial(self) -> trio.SocketStream:
        """A connection that is closed at the end."""
        self.streams.append(await trio.open_tcp_stream(*self.address))
        return self.streams[-1]

    async def peer(self, index: int) -> Peer:
        await until(lambda: len(self.peers) > index)
        return self.peers[index]


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not true():
            await trio.sleep(0.002)


async def receive(stream: trio.abc.ReceiveStream, n: int) -> bytes:
    data = b""
    with trio.fail_after(5):
        while len(data) < n:
            more = await stream.receive_some(65536)
            if not more:
                break
            data += more
    return data


class Listening:
    """A drain, and whether it was to linger."""

    def __init__(self, drain: Any, lingers: list[bool]) -> None:
        self.drain = drain
        self.lingers = lingers
        self.add, self.remove, self.flush = drain.add, drain.remove, drain.flush

    def turn(self, ready: Callable[..., None], linger: bool) -> bool:
        self.lingers.append(linger)
        return bool(self.drain.turn(ready, linger))


@asynccontextmanager
async def running(
    *,
    epoll: bool | None = None,
    context: ssl.SSLContext | None = None,
    high_bytes: int = 65536,
    lingers: list[bool] | None = None,
    **options: float,
) -> AsyncIterator[Bench]:
    """`lingers`: gets whether each turn waits for more."""
    pump = Pump(Router(early_stanza_bytes=262144, high_bytes=high_bytes), epoll=epoll, **options)  # type: ignore[arg-type]
    if lingers is not None:
        pump._drain = Listening(pump._drain, lingers)  # type: ignore[assignment]
    listener = listen("127.0.0.1", 0)
    bench = Bench(pump, listener.getsockname())

    def serve(sock: socket.socket, peer: str) -> None:
        connection = pump.add(sock, peer, context)
        connection.owner = Peer(connection)
        bench.peers.append(connection.owner)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        nursery.start_soon(accept, listener, serve)
        await trio.lowlevel.checkpoint()
        yield bench
        for stream in bench.streams:
            stream.socket.close()
        nursery.cancel_scope.cancel()
    listener.close()


@pytest.fixture(params=["epoll", "task"])
def loop(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "epoll")


async def test_a_stanza_to_a_bound_link_is_stamped_and_arrives(loop: bool) -> None:
    async with running(epoll=loop) as bench:
        one, sender = await bench.join("one@x/a")
        two, _ = await bench.join("two@x/b")
        await one.send_all(b"<message to='two@x/b'><body>hi</body></message>")
        wanted = b"<message from='one@x/a' to='two@x/b'><body>hi</body></message>"
        assert await receive(two, len(wanted)) == wanted
        assert [type(e) for e in sender.events] == [StreamOpen]


async def test_what_nobody_routes_goes_to_the_owner_in_order(loop: bool) -> None:
    async with running(epoll=loop) as bench:
        one, peer = await bench.join("one@x/a")
        await one.send_all(
            b"".join(b"<iq id='%d' type='get'><q xmlns='u'/></iq>" % i for i in range(50)) + b"</stream:stream>"
        )
        await until(lambda: isinstance(peer.events[-1], StreamClose))
        assert [e.id for e in peer.events if isinstance(e, Stanza)] == [str(i) for i in range(50)]


@pytest.mark.security(statement=(8, 9))
async def test_last_words_arrive_before_the_connection_closes_though_the_peer_goes_on_sending(loop: bool) -> None:
    async with running(epoll=loop) as bench:
        one, peer = await bench.join()
        await one.send_all(b"<!DOCTYPE x>" + b"y" * 100_000)
        assert await receive(one, 1000) == b"restricted-xml"
        await one.aclose()
        await until(lambda: peer.lost is not None)
        assert peer.lost == "restricted-xml"
        assert len(bench.pump) == 0


async def test_a_closed_connection_ends_though_the_peer_never_closes(
    loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiot.net.pump.LINGER_S", 0.1)
    async with running(epoll=loop) as bench:
        _, peer = await bench.join()
        peer.connection.close("enough")
        await until(lambda: peer.lost == "enough")


async def test_a_deadline_calls_the_owner(loop: bool) -> None:
    async with running(epoll=loop) as bench:
        one, peer = await bench.join()
        peer.connection.set_deadline(0.05)
        assert await receive(one, 1) == b""
        assert peer.timed_out


async def test_a_peer_that_hangs_up_is_lost_once(loop: bool) -> None:
    async with running(epoll=loop) as bench:
        one, peer = await bench.join("one@x/a")
        await one.aclose()
        await until(lambda: peer.lost is not None)
        assert peer.lost == "connection closed by the peer"
        assert len(bench.pump.router) == 0


async def test_pausing_keeps_what_was_received_and_resuming_goes_on_with_it(loop: bool) -> None:
    async with running(epoll=loop) as bench:
        one, peer = await bench.join("one@x/a")

        def pause_once(event: Event) -> None:
            peer.on = lambda event: None
            bench.pump.pause(peer.connection)

        peer.on = pause_once
        await one.send_all(b"<iq id='1'/><iq id='2'/>")
        await until(lambda: len(peer.events) == 2)
        await one.send_all(b"<iq id='3'/>")
        await trio.sleep(0.05)
        assert len(peer.events) == 2
        bench.pump.resume(peer.connection)
        bench.pump.flush()
        await until(lambda: len(peer.events) == 4)
        assert [e.id for e in peer.events if isinstance(e, Stanza)] == ["1", "2", "3"]


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")
async def test_turns_linger_only_if_the_core_does_all_and_nobody_waits_for_another_task() -> None:
    lingers: list[bool] = []
    async with running(lingers=lingers) as bench:
        one, sender = await bench.join("one@x/a")
        two, other = await bench.join("two@x/b")
        message = b"<message from='one@x/a' to='two@x/b'/>"

        async def during(stanza: bytes, to: trio.SocketStream) -> list[bool]:
            await trio.sleep(0.02)
            lingers.clear()
            await one.send_all(stanza)
            await receive(to, 1)
            await trio.sleep(0.02)
            return lingers

        assert all(await during(message, two))
        sender.on = lambda event: sender.connection.link.write(b"done")
        asked = await during(b"<iq type='get' id='1'><q xmlns='u'/></iq>", one)
        assert asked[0]  # it cannot know
        assert not any(asked[1:])
        bench.pump.pause(other.connection)
        assert not any(await during(message, two))
        bench.pump.resume(other.connection)
        assert all(await during(message, two))
        bench.pump.pause(other.connection)
        bench.pump.lose(other.connection, "gone")
        assert all(await during(b"<message from='one@x/a' to='one@x/a'/>", one))


async def test_a_peer_that_stops_reading_is_bounded_then_passed_over_then_closed(loop: bool) -> None:
    async with running(epoll=loop, stall_after_s=0.3, stall_close_s=1.5) as bench:
        deaf = (await bench.dial()).socket
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await deaf.send(HEADER)
        stuck = await bench.peer(0)
        await until(lambda: bool(stuck.events))
        stuck.connection.link.bind(JID("deaf@x/d"))
        one, sender = await bench.join("one@x/a")
        two, _ = await bench.join("two@x/b")
        payload = b"<message to='deaf@x/d'><body>" + b"z" * 8000 + b"</body></message>"
        echo = b"<message from='two@x/b' to='two@x/b'/>"
        most = 0
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:

                async def flood() -> None:
                    while True:
                        await one.send_all(payload)

                nursery.start_soon(flood)
                while stuck.lost is None:
                    await two.send_all(b"<message to='two@x/b'/>")
                    assert await receive(two, len(echo)) == echo
                    most = max(most, stuck.connection.link.queued_bytes)
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        assert stuck.lost == "does not read"
        assert most <= 65536 + 2 * len(payload)
        assert any(isinstance(e, Stanza) for e in sender.events)  # came back to the sender's owner while stalled


async def test_one_that_does_not_read_its_answers_is_not_read_until_it_does(loop: bool) -> None:
    async with running(epoll=loop) as bench:
        one, peer = await bench.join("one@x/a")
        n, answer = 2000, b"a" * 5000
        most = 0

        def write(event: Event) -> None:
            nonlocal most
            peer.connection.link.write(answer)
            most = max(most, peer.connection.link.queued_bytes)

        peer.on = write
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, (b"<iq type='get'>" + b"q" * 1000 + b"</iq>") * n)
            before = -1
            while len(peer.events) > before:
                before = len(peer.events)
                await trio.sleep(0.1)
            assert before < n
            assert len(await receive(one, n * len(answer))) == n * len(answer)
        assert most <= bench.pump.high_bytes + len(answer)


async def test_a_slow_reader_slows_its_sender_and_loses_nothing(loop: bool) -> None:
    async with running(epoll=loop, high_bytes=16384) as bench:
        one, _ = await bench.join("one@x/a")
        two, _ = await bench.join("two@x/b")
        n = 3000
        body = b"w" * 1000

        async def send() -> None:
            for i in range(n):
                await one.send_all(b"<message to='two@x/b' id='%d'>%s</message>" % (i, body))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            got = b""
            with trio.fail_after(30):
                while got.count(b"</message>") < n:
                    got += await two.receive_some(4096)
                    if len(got) % 7 == 0:
                        await trio.sleep(0.001)
        assert [int(part.split(b"'")[0]) for part in got.split(b" id='")[1:]] == list(range(n))


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def contexts(ca: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("x.test").configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return server, client


async def test_direct_tls_carries_stanzas_larger_than_a_record(loop: bool, ca: trustme.CA) -> None:
    server, client = contexts(ca)
    async with running(epoll=loop, context=server) as bench:
        tcp = await bench.dial()
        stream = trio.SSLStream(tcp, client, server_hostname="x.test", https_compatible=True)
        await stream.send_all(HEADER)
        peer = await bench.peer(0)
        await until(lambda: bool(peer.events))
        assert peer.secured
        peer.connection.link.bind(JID("one@x/a"))
        body = bytes(range(65, 91)) * 4000
        await stream.send_all(b"<message to='one@x/a'>" + body + b"</message>")
        wanted = b"<message from='one@x/a' to='one@x/a'>" + body + b"</message>"
        assert await receive(stream, len(wanted)) == wanted
        await stream.aclose()
        await until(lambda: peer.lost is not None)


async def over_tls(bench: Bench, client: ssl.SSLContext, jid: str) -> tuple[trio.SSLStream[trio.SocketStream], Peer]:
    """A connection whose link is bound to `jid`."""
    stream = trio.SSLStream(await bench.dial(), client, server_hostname="x.test", https_compatible=True)
    await stream.send_all(HEADER)
    peer = await bench.peer(len(bench.peers) - 1)
    await until(lambda: bool(peer.events))
    peer.connection.link.bind(JID(jid))
    return stream, peer


async def test_a_slow_reader_under_tls_slows_its_sender_and_loses_nothing(loop: bool, ca: trustme.CA) -> None:
    server, client = contexts(ca)
    async with running(epoll=loop, context=server, high_bytes=16384) as bench:
        one, sender = await over_tls(bench, client, "one@x/a")
        two, _ = await over_tls(bench, client, "two@x/b")
        messages = [b" to='two@x/b' id='%d'>%s</message>" % (i, b"w" * 50_000) for i in range(300)]

        async def send() -> None:
            for message in messages:
                await one.send_all(b"<message" + message)

        wanted = b"".join(b"<message from='one@x/a'" + message for message in messages)
        got = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with trio.fail_after(30):
                while sender.connection.reading:
                    await trio.sleep(0.001)
                while len(got) < len(wanted):
                    got += await two.receive_some(65536)
        assert got == wanted


async def in_one_piece(stream: trio.SSLStream[trio.SocketStream], *stanzas: bytes) -> None:
    """Each in a record, all in a segment."""
    for stanza in stanzas:
        stream._ssl_object.write(stanza)
    await stream.transport_stream.send_all(stream._outgoing.read())


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")
async def test_tls_is_in_the_hands_of_the_drain_and_what_is_behind_an_event_comes(ca: trustme.CA) -> None:
    server, client = contexts(ca)
    async with running(epoll=True, context=server) as bench:
        one, peer = await over_tls(bench, client, "one@x/a")
        before = peer.connection.bytes_in, peer.connection.link.received_bytes
        message = b"<message to='one@x/a'/>"
        await in_one_piece(one, b"<iq type='get' id='1'/>", b"<iq type='get' id='2'/>", message)
        wanted = b"<message from='one@x/a' to='one@x/a'/>"
        assert await receive(one, len(wanted)) == wanted
        assert len(peer.events) == 3
        taken = peer.connection.bytes_in - before[0]
        assert (
            taken == peer.connection.link.received_bytes - before[1] > 0
        )  # octets of the wire, none of them by way of Python
        assert peer.connection.link.sent_bytes > len(wanted)


async def test_what_came_under_tls_in_one_piece_waits_for_the_end_of_a_pause(loop: bool, ca: trustme.CA) -> None:
    server, client = contexts(ca)
    async with running(epoll=loop, context=server) as bench:
        one, peer = await over_tls(bench, client, "one@x/a")
        peer.on = lambda event: bench.pump.pause(peer.connection)
        await in_one_piece(one, *(b"<iq type='get' id='%c'/>" % number for number in b"123"))
        with trio.fail_after(5):
            for seen in (2, 3, 4):
                while len(peer.events) < seen:
                    await trio.sleep(0.001)
                await trio.sleep(0.02)
                assert len(peer.events) == seen
                bench.pump.resume(peer.connection)
                bench.pump.flush()


async def test_starttls_sends_what_is_queued_in_clear_first(loop: bool, ca: trustme.CA) -> None:
    server, client = contexts(ca)
    async with running(epoll=loop) as bench:
        one, peer = await bench.join()

        def upgrade(event: Event) -> None:
            peer.connection.link.write(b"<proceed/>")
            peer.connection.start_tls(server)
            peer.connection.link.restart(logged_in=False)

        peer.on = upgrade
        await one.send_all(b"<starttls/>")
        assert await receive(one, 10) == b"<proceed/>"
        peer.on = lambda event: None
        stream = trio.SSLStream(one, client, server_hostname="x.test", https_compatible=True)
        await stream.send_all(HEADER)
        await until(lambda: len(peer.events) == 3)
        assert peer.secured


@pytest.mark.security(row=24)
async def test_clear_text_behind_starttls_is_refused(ca: trustme.CA) -> None:
    server, _ = contexts(ca)
    async with running() as bench:
        one, peer = await bench.join()
        refused: list[ValueError] = []

        def upgrade(event: Event) -> None:
            try:
                peer.connection.start_tls(server)
            except ValueError as error:
                refused.append(error)
                peer.connection.close("clear text")

        peer.on = upgrade
        await one.send_all(b"<starttls/><auth/>")
        await until(lambda: bool(refused))


@pytest.mark.security(statement=31)
async def test_a_failed_handshake_closes_with_an_alert(ca: trustme.CA) -> None:
    server, _ = contexts(ca)
    async with running(context=server) as bench:
        tcp = await bench.dial()
        await tcp.send_all(HEADER)  # no ClientHello
        peer = await bench.peer(0)
        await until(lambda: peer.lost is not None)
        assert peer.lost.startswith("TLS: ")
        assert not peer.events


async def test_many_connections_share_turns() -> None:
    async with running() as bench:
        clients = [await bench.join(f"u{i}@x/r") for i in range(50)]

        async def talk(i: int) -> None:
            stream, _ = clients[i]
            for k in range(20):
                await stream.send_all(b"<message to='u%d@x/r' id='%d'/>" % (i, k))
                wanted = b"<message from='u%d@x/r' to='u%d@x/r' id='%d'/>" % (i, i, k)
                assert await receive(stream, len(wanted)) == wanted

        async with trio.open_nursery() as nursery:
            for i in range(50):
                nursery.start_soon(partial(talk, i))


async def test_a_held_connection_is_not_read_though_its_pause_ends(loop: bool) -> None:
    async with running(epoll=loop) as bench:
        one, peer = await bench.join("one@x/a")
        bench.pump.hold(peer.connection)
        bench.pump.pause(peer.connection)
        await one.send_all(b"<iq id='1'/>")
        bench.pump.resume(peer.connection)
        bench.pump.flush()
        await trio.sleep(0.05)
        assert len(peer.events) == 1
        assert not peer.connection.reading
        bench.pump.pause(peer.connection)
        bench.pump.release(peer.connection)
        bench.pump.flush()
        await trio.sleep(0.05)
        assert len(peer.events) == 1
        bench.pump.resume(peer.connection)
        bench.pump.flush()
        await until(lambda: len(peer.events) == 2)


async def test_a_storm_of_handshakes_takes_its_turns_behind_the_established(ca: trustme.CA) -> None:
    """Counted in turns of the pump: how long one lasts is the machine's business."""
    server, client = contexts(ca)
    storm = min(1000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)
    async with running() as bench:
        pump = bench.pump
        one, _ = await bench.join("one@x/a")
        most = 0
        real = pump._shake_hands

        def counted() -> None:
            nonlocal most
            before = pump.handshake_steps
            real()
            most = max(most, pump.handshake_steps - before)

        pump._shake_hands = counted  # type: ignore[method-assign]
        with ExitStack() as stack:
            for _ in range(storm):
                theirs, ours = socket.socketpair()
                stack.enter_context(theirs)
                outgoing = ssl.MemoryBIO()
                tls = client.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x.test")
                with suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                theirs.send(outgoing.read())
                connection = pump.add(ours, "storm:1", server)
                connection.owner = Peer(connection)
            echo = b"<message from='one@x/a' to='one@x/a'/>"
            while len(pump._securing) < storm // 2:  # they wait in line
                await trio.lowlevel.checkpoint()
            for _ in range(5):
                began = pump.turns
                await one.send_all(b"<message to='one@x/a'/>")
                assert await receive(one, len(echo)) == echo
                assert pump.turns - began <= 4
            assert pump.securing  # all the while
            with trio.fail_after(60):
                while pump.handshake_steps < storm:
                    await trio.lowlevel.checkpoint()
            assert 1 <= most <= HANDSHAKES_AT_ONCE
            for connection in pump.connections():
                connection.close("enough")

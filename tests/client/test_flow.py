# SPDX-License-Identifier: Apache-2.0
"""The client when it is slow, cancelled, flooded or cut off."""

from __future__ import annotations

import base64
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

import xiot
from tests.client.both import listening, next_of, on_both, served
from tests.client.test_client import HEADER, SCRAM, liar, log_in
from xiot.client import inbox, incoming, outbox, streams
from xiot.client.inbox import Inbox, fresh
from xiot.core import Element
from xiot.errors import StreamError
from xiot.net.dial import dial
from xiot.proto import sm
from xiot.stanzas import NS_CLIENT, message
from xiot.xep.ping import Ping


def numbered(number: int) -> Element:
    return Element("{urn:x}x", None, str(number))


@asynccontextmanager
async def line(address: str) -> AsyncIterator[tuple[str, anyio.Lock]]:
    """A way to the server at `address`; whoever holds the lock stops what goes there. The end of the client is not passed on."""
    stop = anyio.Lock()

    async def upward(client: SocketStream, server: SocketStream) -> None:
        async for data in client:
            async with stop:
                await server.send(data)

    async def serve(client: SocketStream) -> None:
        host, _, port = address.rpartition(":")
        async with await anyio.connect_tcp(host, int(port)) as server, anyio.create_task_group() as both:
            both.start_soon(upward, client, server)
            with suppress(anyio.BrokenResourceError):
                async for data in server:
                    await client.send(data)
            both.cancel_scope.cancel()

    async with listening(serve) as ours:
        yield ours, stop


@pytest.mark.parametrize("what", ["attributes", "bytes"])
@on_both
async def test_what_the_server_lets_through_does_not_end_the_stream(tmp_path: Path, what: str) -> None:
    if what == "attributes":
        child = Element("{urn:x}x", {f"a{number}": "" for number in range(250)})
        large = message(child, to="juliet@localhost/x")
    else:
        spare = 262144 - len(
            message(Element(f"{{{NS_CLIENT}}}body", None, "x"), to="juliet@localhost/x").tobytes(NS_CLIENT)
        )
        large = message(Element(f"{{{NS_CLIENT}}}body", None, "x" * (spare + 1)), to="juliet@localhost/x")
        assert len(large.tobytes(NS_CLIENT)) == 262144
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo, running.connect("juliet@localhost/x") as juliet:
            await romeo.send(large)
            got = await next_of(juliet.messages())
            assert list(got.element) == list(large)


@on_both
async def test_a_stanza_longer_than_max_stanza_bytes_ends_the_stream(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo") as romeo,
            running.connect("juliet@localhost/x", max_stanza_bytes=20_000) as juliet,
        ):
            await romeo.send_message(juliet.jid, "x" * 21_000)
            with pytest.raises(StreamError, match="policy-violation"):
                await next_of(juliet.messages())


@pytest.mark.parametrize("tls", ["required", "off"])
@on_both
async def test_a_cancelled_send_cuts_no_stanza(tmp_path: Path, tls: str) -> None:
    async with served(tmp_path, starttls="optional") as running, line(running.address) as (address, stop):
        await running.account("romeo", "juliet")
        async with running.connect("juliet@localhost/x") as juliet:
            running.address = address
            async with running.connect("romeo", tls=tls) as romeo:
                sent: list[int] = []
                async with stop:
                    while len(sent) < 400:
                        with anyio.move_on_after(0.2) as scope:
                            await romeo.send_message(juliet.jid, str(len(sent)) + 100_000 * " ")
                        if scope.cancelled_caught:
                            break
                        sent.append(len(sent))
                    assert scope.cancelled_caught
                    for _ in range(3):  # further ones do not even get into the queue
                        with anyio.move_on_after(0.05):
                            await romeo.send_message(juliet.jid, "x")
                    assert romeo._outbox._bytes <= outbox.QUEUED_BYTES + 101_000
                await romeo.send_message(juliet.jid, "last")
                bodies = [(await next_of(juliet.messages())).body for _ in range(len(sent) + 2)]
                assert [int(body) for body in bodies[:-1]] == [*sent, len(sent)]
                assert bodies[-1] == "last"


class Slow:
    """A transport that takes its time until it is let go."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.sent = b""

    async def send(self, data: bytes) -> None:
        await self.go.wait()
        self.sent += data


@on_both
async def test_what_was_said_of_the_last_stream_is_not_said_on_one_that_resumes_it() -> None:
    box = outbox.Outbox(1)
    box.manage()
    box.open()
    box.put(b"<message/>")
    transport = Slow()
    with anyio.move_on_after(0.01):
        await box.run(transport)  # type: ignore[arg-type]
    box.close()
    box.put(b"<a h='5'/>", ahead=True, stanza=False)  # by now we have told the server that it is 7
    box.put(b"<iq/>", ahead=True)
    box.acknowledge(0)
    box.resend()
    transport.go.set()
    with anyio.move_on_after(0.05):
        await box.run(transport)  # type: ignore[arg-type]
    assert transport.sent.replace(sm.request(), b"") == b"<message/><iq/>"
    assert box._bytes == 0


@on_both
async def test_who_waits_for_a_receipt_that_nobody_gives_is_told_at_once() -> None:
    box = outbox.Outbox(1)
    box.open()
    transport = Slow()
    transport.go.set()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(box.run, transport)
        entry = await box.send(b"<message/>")
        with pytest.raises(xiot.LinkError, match="no stream management"):
            await outbox.Receipt(box, entry).delivered()
        tasks.cancel_scope.cancel()


@on_both
async def test_leaving_sends_the_closing_tag_behind_what_is_queued(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("juliet@localhost/x") as juliet:
            async with running.connect("romeo") as romeo:
                body = Element(f"{{{NS_CLIENT}}}body", None, "x")
                romeo._outbox.put(message(body, to=juliet.jid).tobytes(NS_CLIENT))  # and nobody waits for it
            assert romeo._streams.closed.is_set()
            assert str(romeo._streams.ended) == "the stream is closed"
            assert (await next_of(juliet.messages())).body == "x"


@on_both
async def test_a_writer_that_fails_ends_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CLOSE_S", 0.1)
    async with served(tmp_path) as running, line(running.address) as (address, _):
        await running.account("romeo")
        running.address = address
        async with running.connect("romeo", reconnect=False) as romeo:
            romeo._streams.wire.transport.extra(SocketAttribute.raw_socket).shutdown(
                socket.SHUT_WR
            )  # the reader learns nothing
            with pytest.raises(xiot.LinkError, match="lost"):
                await romeo.request("get", Ping(), timeout=5)
            with pytest.raises(xiot.LinkError, match="lost"):
                await next_of(romeo.messages())


@on_both
async def test_nothing_is_dropped_once_iteration_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "SOFT", 16)
    monkeypatch.setattr(incoming, "MESSAGES_KEPT", 16)
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo, running.connect("juliet@localhost/x") as juliet:
            got: list[str | None] = []
            await romeo.send_message(juliet.jid, "first")
            async for text in juliet.messages():
                got.append(text.body)
                if len(got) == 1:  # busy in the body of its loop
                    for number in range(1, 200):
                        await romeo.send_message(juliet.jid, str(number))
                    await romeo.ping()
                if len(got) == 200:
                    break
            assert got == ["first", *map(str, range(1, 200))]


@on_both
async def test_while_nobody_iterates_only_the_newest_are_kept() -> None:
    box: Inbox[int] = Inbox(lambda: None, keep=inbox.SOFT + 2)
    for number in range(inbox.SOFT + 5):
        box.put(number)
    assert box.dropped == 3
    assert not box.full  # or the stream would stand still for somebody who is not interested
    iteration = box.listen()
    assert await anext(iteration) == 3
    assert box.full
    del iteration
    assert not box.full  # he has left


@on_both
async def test_an_inbox_is_bounded_by_bytes_too() -> None:
    box: Inbox[int] = Inbox(lambda: None, keep=10)
    for number in range(5):
        box.put(number, inbox.SOFT_BYTES // 2)
    assert box.dropped == 3
    box = Inbox(lambda: None)
    for number in range(2):
        box.put(number, inbox.SOFT_BYTES // 2)
    assert box.full
    for number in range(2, 63):
        box.put(number, inbox.SOFT_BYTES // 2)
    with pytest.raises(xiot.LinkError, match="does not fetch"):
        box.put(63, inbox.SOFT_BYTES // 2)
    assert box._bytes <= inbox.HARD_BYTES
    assert [await anext(box) for _ in range(2)] == [0, 1]


@on_both
async def test_who_fetches_nothing_for_long_does_not_stop_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "SOFT", 16)
    box: Inbox[int] = Inbox(lambda: None, keep=16)
    iteration = box.listen()
    box.put(-1)
    assert await anext(iteration) == -1
    for number in range(16):
        box.put(number)
    assert box.full
    monkeypatch.setattr(inbox, "STALL_S", 0.0)
    assert not box.full
    box.put(16)
    assert (box.dropped, await anext(iteration)) == (1, 1)
    monkeypatch.undo()


@on_both
async def test_breaking_out_of_messages_does_not_stop_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SOFT", 16)
    monkeypatch.setattr(incoming, "MESSAGES_KEPT", 16)
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo, running.connect("juliet@localhost/x") as juliet:
            await romeo.publish("n", numbered(0))
            async with juliet.subscribe("n") as items:
                await romeo.send_message(juliet.jid, "first")
                async for text in juliet.messages():
                    assert text.body == "first"
                    break
                for number in range(100):
                    await romeo.send_message(juliet.jid, str(number))
                await romeo.publish("n", numbered(1))  # behind them
                assert [(await next_of(items)).payload.text for _ in range(2)] == ["0", "1"]
                assert (await next_of(juliet.messages())).body == "84"


@on_both
async def test_leaving_a_full_subscription_lets_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SOFT", 16)
    async with served(tmp_path) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler") as boiler, running.connect("app") as app:
            await boiler.publish("n", numbered(0))
            async with app.subscribe("n") as items:
                got: list[str] = []

                async def fetch() -> None:
                    async for item in items:
                        got.append(item.payload.text)

                async with anyio.create_task_group() as nursery:
                    nursery.start_soon(fetch)
                    async with app.subscribe("n"):  # and never looks
                        for number in range(1, 100):
                            await boiler.publish("n", numbered(number))
                        await anyio.sleep(0.1)
                        assert len(got) < 100
                    with anyio.move_on_after(5):
                        while len(got) < 100:
                            await anyio.sleep(0.01)
                    nursery.cancel_scope.cancel()
                assert got == [str(number) for number in range(100)]


@on_both
async def test_who_subscribes_second_is_refused_as_the_first(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("app")
        async with running.connect("app") as app:
            refused: list[str] = []

            async def enter() -> None:
                with pytest.raises(xiot.StanzaError, match="item-not-found"):
                    async with app.subscribe("none"):
                        raise AssertionError("entered")
                refused.append("item-not-found")

            async with anyio.create_task_group() as nursery:
                nursery.start_soon(enter)
                nursery.start_soon(enter)
            assert len(refused) == 2
            assert not app._subscriptions._all


@on_both
async def test_nobody_subscribes_on_a_stream_that_has_ended(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("app")
        async with running.connect("app", reconnect=False) as app:
            await app.publish("n", numbered(0))
            async with app.subscribe("n"):
                await running.cut()
                await app._streams.closed.wait()
                with pytest.raises(xiot.LinkError):
                    async with app.subscribe("n"):
                        raise AssertionError("entered")


@on_both
async def test_a_connection_that_breaks_while_the_login_sends_is_a_link_error() -> None:
    def challenge(auth: bytes) -> bytes:
        found = re.search(rb">([^<]+)</auth", auth)
        assert found
        nonce = base64.b64decode(found[1]).decode().partition("r=")[2]
        text = base64.b64encode(f"r={nonce}x,s={base64.b64encode(b'salt').decode()},i=100000".encode()).decode()
        return f"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{text}</challenge>".encode()

    async def serve(stream: SocketStream) -> None:
        await stream.receive()
        await stream.send(HEADER + SCRAM)
        await stream.send(challenge(await stream.receive()))
        raw = stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by reset

    async with listening(serve) as address:
        with pytest.raises(xiot.LinkError, match="during login"):
            await log_in(address, tls="off")


@on_both
async def test_the_traceback_of_what_ended_the_stream_does_not_grow(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo", reconnect=False) as romeo:
            await running.cut()
            await romeo._streams.closed.wait()
            for _ in range(3):
                with pytest.raises(xiot.LinkError) as sending:
                    await romeo.send_message("juliet@localhost", "x")
                with pytest.raises(xiot.LinkError) as iterating:
                    await next_of(romeo.messages())
                assert romeo._streams.ended is not None
                assert romeo._streams.ended.__traceback__ is None
                assert romeo._streams.ended not in (sending.value, iterating.value)


def test_a_fresh_exception_has_all_of_the_old_one() -> None:
    ended = StreamError("conflict", "replaced", Element("{urn:x}x"))
    again = fresh(ended)
    assert again is not ended
    assert isinstance(again, StreamError)
    assert (str(again), again.condition, again.text, again.app) == (str(ended), "conflict", "replaced", ended.app)


@on_both
async def test_a_server_that_vanishes_is_noticed() -> None:
    async with liar() as (address, _):
        host, _, port = address.rpartition(":")
        async with await dial(host, int(port)) as stream:
            connected = stream.extra(SocketAttribute.raw_socket)
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            for name, value in (("KEEPIDLE", 60), ("KEEPINTVL", 15), ("KEEPCNT", 4), ("USER_TIMEOUT", 60_000)):
                if option := getattr(socket, f"TCP_{name}", None):
                    assert connected.getsockopt(socket.IPPROTO_TCP, option) == value

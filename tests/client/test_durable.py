# SPDX-License-Identifier: Apache-2.0
"""Durable links as a client has them: exactly once, over cuts, restarts of the server, and sessions that are lost."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.abc import ByteStream, SocketStream

import xiot
from xiot.client import reconnect
from xiot.errors import LinkError
from xiot.net.dial import parse_address
from xiot.server.config import Config, HostPort
from xiot.stanzas import NS_CLIENT, Element, message

from .both import Served, listening, next_of, on_both, served, until

SOAK = os.environ.get("XIOT_SOAK") == "1"
CUTS, MESSAGES = (200, 10_000) if SOAK else (20, 600)


def numbered(n: int, to: object) -> Element:
    return message(Element(f"{{{NS_CLIENT}}}body", None, str(n)), type="chat", to=str(to))


async def bodies(client: xiot.Client, n: int) -> list[str | None]:
    messages = client.messages()
    return [(await next_of(messages, 60)).body for _ in range(n)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients try again at once."""
    monkeypatch.setattr(reconnect, "FIRST_S", 0.02)
    monkeypatch.setattr(reconnect, "CAP_S", 0.1)


@on_both
async def test_session_outlives_the_server(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo", durable=True) as romeo, running.connect("juliet", durable=True) as juliet:
            to = juliet.jid
            receipts = [await romeo.send(numbered(n, to)) for n in range(20)]
            await running.stop()
            await running.start()
            receipts += [await romeo.send(numbered(n, to)) for n in range(20, 40)]
            with anyio.fail_after(20):
                for receipt in receipts:
                    await receipt.delivered()
            assert await bodies(juliet, 40) == [str(n) for n in range(40)]
            assert juliet.jid == to


@on_both
async def test_what_was_under_way_in_a_session_that_is_lost_goes_again_and_arrives_once(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo", durable=True) as romeo, running.connect("juliet") as juliet:
            romeo._outbox.acknowledge = lambda h: True  # it does not hear what has arrived
            receipts = [await romeo.send(numbered(n, juliet.jid)) for n in range(20)]
            await until(lambda: running.server.metrics.stanzas["message"] >= 20)
            del romeo._outbox.acknowledge
            await running.there(running.server.resumptions._sessions.clear)
            await running.cut()
            receipts.append(await romeo.send(numbered(20, juliet.jid)))
            with anyio.fail_after(20):
                for receipt in receipts:
                    await receipt.delivered()
            assert await bodies(juliet, 21) == [str(n) for n in range(21)]


@on_both
async def test_server_without_durable_links_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, host='durable_links = "off"') as running:
        await running.account("romeo")
        for name in ("romeo", "romeo@localhost/r"):  # asked for within the login, and after it
            async with running.connect(name, durable=True) as romeo:
                with anyio.fail_after(5):
                    with pytest.raises(xiot.NotDurable):
                        async for _ in romeo.messages():
                            pass
                    with pytest.raises(LinkError, match="no durable links"):
                        await romeo.send(numbered(1, "romeo@localhost"))


# ---- coming back elsewhere ----


@asynccontextmanager
async def another_door(running: Served, came: list[str]) -> AsyncIterator[str]:
    """A second address of the server; `came` is who came by it."""

    async def serve(stream: SocketStream) -> None:
        came.append("somebody")
        await relay(stream, running.address, None)

    async with listening(serve) as address:
        yield address


@on_both
async def test_client_comes_back_where_the_server_wants_it(tmp_path: Path) -> None:
    came: list[str] = []
    async with served(tmp_path) as running, another_door(running, came) as address:
        await running.account("romeo")
        running.server.config = coming_back_at(running, address)
        async with running.connect("romeo") as romeo:
            await (await romeo.send(numbered(1, romeo.jid))).delivered()
            assert came == []
            await running.cut()
            await (await romeo.send(numbered(2, romeo.jid))).delivered()
            assert came == ["somebody"]
            assert await bodies(romeo, 2) == ["1", "2"]


@on_both
async def test_client_that_cannot_go_there_comes_back_where_it_was(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        running.server.config = coming_back_at(running, "127.0.0.1:1")
        async with running.connect("romeo") as romeo:
            await (await romeo.send(numbered(1, romeo.jid))).delivered()
            await running.cut()
            await (await romeo.send(numbered(2, romeo.jid))).delivered()


@on_both
async def test_who_has_not_proved_who_he_is_sends_nobody_elsewhere(tmp_path: Path) -> None:
    came: list[str] = []
    async with served(tmp_path, starttls="off") as running, another_door(running, came) as address:
        await running.account("romeo")
        running.server.config = coming_back_at(running, address)
        async with running.connect("romeo", tls="off") as romeo:
            await (await romeo.send(numbered(1, romeo.jid))).delivered()
            await running.cut()
            await (await romeo.send(numbered(2, romeo.jid))).delivered()
            assert came == []


def coming_back_at(running: Served, location: str) -> Config:
    """The configuration, with a place to come back to."""
    config = running.server.config
    return msgspec.structs.replace(config, c2s=msgspec.structs.replace(config.c2s, location=HostPort(location)))


# ---- cuts ----


async def relay(near: SocketStream, address: str, octets: float | None) -> None:
    """Carry bytes both ways until so many have passed; then cut, in the middle of whatever it is."""
    left = float("inf") if octets is None else octets

    async def carry(source: ByteStream, sink: ByteStream) -> None:
        nonlocal left
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while left > 0:
                data = await source.receive(4096)
                await sink.send(data[: max(0, int(min(left, len(data))))])
                left -= len(data)
        both.cancel_scope.cancel()

    async with await anyio.connect_tcp(*parse_address(address)) as far:
        async with anyio.create_task_group() as both:
            both.start_soon(carry, near, far)
            both.start_soon(carry, far, near)
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(near)
            await anyio.aclose_forcefully(far)


@pytest.mark.parametrize("durable", [False, True], ids=["resumed", "durable"])
async def test_each_message_arrives_once_and_in_order_over_a_link_that_is_cut(
    tmp_path: Path, durable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cuts after a random number of octets: in TLS, in the login, in the resumption, between sending and acknowledging."""
    cuts = 0

    async def serve(near: SocketStream) -> None:
        nonlocal cuts
        if cuts >= CUTS or quiet.is_set():
            await relay(near, running.address, None)
        else:
            early = random.random() < 0.3
            await relay(near, running.address, random.uniform(0, 9_000) if early else random.expovariate(1 / 40_000))
            cuts += 1

    quiet = anyio.Event()
    quiet.set()  # until both are there
    async with served(tmp_path, account_bytes_per_s=0) as running, listening(serve) as address:
        await running.account("romeo", "juliet")
        options = {"address": address, "durable": durable, "timeout": 20.0}
        async with running.connect("romeo", **options) as romeo, running.connect("juliet", **options) as juliet:
            to, got = juliet.jid, list[str | None]()
            quiet = anyio.Event()
            await running.cut()

            async def send() -> None:
                for n in range(MESSAGES):
                    await romeo.send(numbered(n, to))
                    while cuts < CUTS and n - len(got) > MESSAGES / 10:
                        await anyio.sleep(0.002)
                    while n >= MESSAGES * 0.9 and cuts < CUTS:  # the last ones when there are no cuts any more
                        await anyio.sleep(0.02)
                        await running.cut()
                        await anyio.sleep(0.05)

            with anyio.fail_after(600 if SOAK else 60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(send)
                    async for each in juliet.messages():
                        got.append(each.body)
                        if len(got) == MESSAGES:
                            break
            with anyio.move_on_after(0.2):
                got.append((await anext(juliet.messages())).body)
            assert got == [str(n) for n in range(MESSAGES)]
            assert juliet.jid == to
    with capsys.disabled():
        print(
            f"\n{cuts} cuts of {'durable' if durable else 'resumed'} links: {len(got)} messages, each once and in order"
        )

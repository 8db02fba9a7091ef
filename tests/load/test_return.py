# SPDX-License-Identifier: Apache-2.0
"""Our clients when their server is killed: all come back, and what was acknowledged is there."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import pytest
import trio

from xiot.client import Client, connect
from xiot.core import Element
from xiot.errors import LinkError
from xiot.stanzas import NS_CLIENT, message

from .test_loadgen import harness

CLIENTS = 8
EACH = 12  # messages
PASSWORD = "load-password"
TAKER = f"load{CLIENTS:05}@localhost"


@pytest.mark.peers
async def test_our_clients_come_back_and_no_acknowledged_message_is_lost(tmp_path: Path) -> None:
    tools, kind = harness.build(tmp_path / "tools"), harness.KINDS["xiot"]
    place = harness.make_place(kind, tmp_path / "server", tools)
    acknowledged: set[str] = set()
    back = 0

    def entered(user: str) -> AbstractAsyncContextManager[Client]:
        return connect(user, PASSWORD, address=f"127.0.0.1:{place.port}", ca_file=place.certificate)

    async def sender(number: int) -> None:
        nonlocal back
        async with entered(f"load{number:05}@localhost") as me:
            for n in range(EACH):
                text = f"{number}-{n}"
                with suppress(LinkError):  # nobody knows of one that was under way
                    body = Element(f"{{{NS_CLIENT}}}body", None, text)
                    receipt = await me.send(message(body, type="chat", id=text, to=TAKER))
                    await receipt.delivered()
                    acknowledged.add(text)
            await me.ping()
            back += 1

    with trio.fail_after(120):
        first = harness.running(kind, place)
        server = await trio.to_thread.run_sync(first.__enter__)
        await trio.to_thread.run_sync(harness.register, tools, server, CLIENTS + 1)
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(sender, number)
            while len(acknowledged) < CLIENTS * EACH // 3:
                await trio.sleep(0.005)
            os.killpg(server.pid, signal.SIGKILL)
            before = len(acknowledged)
            await trio.to_thread.run_sync(first.__exit__, None, None, None)
            second = harness.running(kind, place)
            await trio.to_thread.run_sync(second.__enter__)
        try:
            assert back == CLIENTS
            assert len(acknowledged) > before
            got: list[str] = []
            async with entered(TAKER) as taker:
                await taker.send_presence()
                with trio.move_on_after(20):
                    async for received in taker.messages():
                        got.append(received.body or "")
                        if acknowledged <= set(got):
                            break
            assert acknowledged <= set(got)
            assert len(got) == len(set(got))
        finally:
            await trio.to_thread.run_sync(second.__exit__, None, None, None)

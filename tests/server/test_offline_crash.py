# SPDX-License-Identifier: Apache-2.0
"""Messages that wait survive the death of the server: none that was acknowledged is lost, none comes twice."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio

from xiot.net.dial import parse_address

from .actors import Actor
from .attacks import Peer
from .serving import PASSWORD
from .test_serve import COMMAND, Process, serve

ROUNDS = 200 if os.environ.get("XIOT_SOAK") == "1" else 10
CONFIG = """
data_dir = "data"
[[host]]
name = "localhost"
[c2s]
listen = ["127.0.0.1:0"]
listen_tls = ["127.0.0.1:0"]
starttls = "off"
plain_without_tls = true
[limits]
offline_messages_per_account = 1000000
offline_bytes_per_account = 1000000000
"""
BATCH = 5


async def enter(running: Process, local: str) -> Actor:
    host, port = parse_address(running.addresses[0])
    peer = Peer(await trio.open_tcp_stream(host, port), 20)
    await peer.login(local, "r")
    peer.received = b""
    return Actor(peer)


async def send_until_killed(running: Process, start: int) -> int:
    """Send numbered messages; return how many were acknowledged when the server was killed at a random moment."""
    romeo = await enter(running, "romeo")
    acknowledged = start

    async def kill() -> None:
        await trio.sleep(random.uniform(0, 0.15))
        running.process.kill()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        try:
            while True:
                numbers = range(acknowledged, acknowledged + BATCH)
                answers = await romeo.stanzas(
                    "".join(f"<message to='juliet@localhost' id='{n}'><body>x</body></message>" for n in numbers)
                )
                assert answers == []
                acknowledged += BATCH
        except AssertionError as error:
            assert "closed" in str(error) or "reset" in str(error), error
    await running.process.wait()
    await romeo.vanish()
    return acknowledged


@pytest.mark.security(row=77)
async def test_acknowledged_messages_come_once_and_in_order_after_kill_9(tmp_path: Path) -> None:
    (tmp_path / "xiot.toml").write_text(CONFIG)
    for name in ("romeo", "juliet"):
        add = [*COMMAND, "user", "add", f"{name}@localhost", "--password-stdin", "--config", f"{tmp_path}/xiot.toml"]
        await trio.run_process(add, stdin=f"{PASSWORD}\n".encode())
    sent, total = 0, 0
    for _ in range(ROUNDS):
        async with serve(tmp_path, CONFIG) as running:
            juliet = await enter(running, "juliet")
            got = [
                int(stanza.get("id") or 0) for stanza in await juliet.stanzas("<presence/>") if stanza.name == "message"
            ]
            assert got == list(range(total, total + len(got)))  # in order, and none that came before
            assert total + len(got) >= sent  # what was not acknowledged may be there, too
            total += len(got)
            await juliet.leave()
            await juliet.vanish()
            sent = await send_until_killed(running, total)
    print(f"{sent} acknowledged messages over {ROUNDS} kills, none lost, none twice")
    assert sent > ROUNDS

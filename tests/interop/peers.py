# SPDX-License-Identifier: Apache-2.0
"""Real clients of others beside a test: slixmpp, which needs asyncio, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.server.serving import HOST, PASSWORD, Running

SCRIPT = Path(__file__).with_name("slixmpp_client.py")
END_S = 5.0  # for a peer to log out and exit, before it is killed


class Slixmpp:
    """A slixmpp client in a process of its own; see slixmpp_client.py for the verbs and events."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._partial = b""
        self._events: deque[dict[str, Any]] = deque()

    async def do(self, verb: str, **arguments: Any) -> None:
        """Have the client do something."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"verb": verb, **arguments}).encode() + b"\n")

    async def next(self, event: str, seconds: float = 10) -> dict[str, Any]:
        """The next thing of the kind `event` that happened there; those of other kinds are kept."""
        with trio.fail_after(seconds):
            while True:
                for found in self._events:
                    if found["event"] == event:
                        self._events.remove(found)
                        return found
                await self._receive()

    async def _receive(self) -> None:
        assert self._process.stdout is not None
        data = await self._process.stdout.receive_some()
        assert data, "the slixmpp client has ended"
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._events.extend(json.loads(line) for line in lines)


@asynccontextmanager
async def slixmpp(
    running: Running,
    jid: str,
    password: str = PASSWORD,
    *,
    ca_file: Path | None,
    tls_version: str = "MAXIMUM_SUPPORTED",
) -> AsyncIterator[Slixmpp]:
    """slixmpp as `jid` (localpart and resource) at the server, over STARTTLS; it logs out at the end of the block.

    `ca_file`: whose certificates it trusts, None for those of the system. `tls_version`: the newest it knows.
    """
    local, _, resource = jid.partition("/")
    arguments = [f"{local}@{HOST}/{resource}", password, running.address, str(ca_file or ""), tls_version]
    pipe = subprocess.PIPE
    process = await trio.lowlevel.open_process([sys.executable, str(SCRIPT), *arguments], stdin=pipe, stdout=pipe)
    try:
        yield Slixmpp(process)
    finally:
        assert process.stdin is not None
        with trio.move_on_after(END_S, shield=True):
            await process.stdin.aclose()
            await process.wait()
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        assert process.stdout is not None
        await process.stdout.aclose()

# SPDX-License-Identifier: Apache-2.0
"""Real clients of others beside a test: slixmpp and aioxmpp, which need asyncio, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.scripts.stages import we_have
from tests.server.serving import HOST, PASSWORD, Running, next_of, serving
from tests.shared import ROOT, missing
from xiot.client import Client, Presence
from xiot.core import JID

HERE = Path(__file__).parent
TEXT = "\U0001f339 art thou not Romeo & a <Montague>? \u00e9\ud55c"
END_S = 5.0  # for a peer to log out and exit, before it is killed


def needs(specification: str) -> None:
    """Skip the test as long as our server has no such specification."""
    if not we_have(specification):
        pytest.skip(f"xiot has no {specification}")


class Peer:
    """A client in a process of its own, driven by JSON lines; see slixmpp_client.py and aioxmpp_client.py for the verbs."""

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

    async def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Have the client do something that is answered by an event of the same name; returns that."""
        await self.do(verb, **arguments)
        return await self.next(verb)

    async def _receive(self) -> None:
        assert self._process.stdout is not None
        data = await self._process.stdout.receive_some()
        assert data, "the client has ended"
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._events.extend(json.loads(line) for line in lines)


@asynccontextmanager
async def running_peer(command: list[str], environment: Mapping[str, str] | None = None) -> AsyncIterator[Peer]:
    """A client; it logs out at the end of the block."""
    pipe = subprocess.PIPE
    env = None if environment is None else os.environ | environment
    process = await trio.lowlevel.open_process(command, stdin=pipe, stdout=pipe, env=env)
    try:
        yield Peer(process)
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


CORE = {"PYTHONPATH": str(ROOT / "src")}
"""Environment in which a Python that does not have the core finds it."""


def program_of(library: str, adapter: bool) -> list[str]:
    """The client's program, with what comes before it."""
    program = str(HERE / f"{library}_client.py")
    return [str(HERE / "with_adapter.py"), library, program] if adapter else [program]


@asynccontextmanager
async def slixmpp(
    running: Running,
    jid: str,
    password: str = PASSWORD,
    *,
    ca_file: Path | None,
    tls_version: str = "MAXIMUM_SUPPORTED",
    address: str | None = None,
    adapter: bool = False,
) -> AsyncIterator[Peer]:
    """slixmpp as `jid` (localpart and resource) at the server, over STARTTLS.

    `ca_file`: whose certificates it trusts, None for those of the system. `tls_version`: the newest it knows. `adapter`: with the core in it
    (`xiot.compat`).
    """
    local, _, resource = jid.partition("/")
    arguments = [
        f"{local}@{HOST}/{resource}",
        password,
        address or running.address,
        str(ca_file or ""),
        tls_version,
    ]
    program = program_of("slixmpp", adapter)
    async with running_peer([sys.executable, *program, *arguments], CORE if adapter else None) as peer:
        yield peer


def aioxmpp_python() -> str:
    """The Python of the environment that aioxmpp has to itself, since it needs an lxml older than ours."""
    python = Path(os.environ.get("XIOT_AIOXMPP") or ROOT / "build/aioxmpp") / "bin/python"
    if not python.exists():
        missing(f"aioxmpp is not installed: no {python} (.ci/run makes it)")
    return str(python)


@asynccontextmanager
async def aioxmpp(
    running: Running,
    jid: str,
    password: str = PASSWORD,
    *,
    ca_file: Path | None,
    address: str | None = None,
    adapter: bool = False,
) -> AsyncIterator[Peer]:
    """aioxmpp as `jid` (localpart and resource) at the server, over STARTTLS; it trusts whom `ca_file` trusts, and nobody else.

    `adapter`: with the core in it (`xiot.compat`).
    """
    local, _, resource = jid.partition("/")
    arguments = [f"{local}@{HOST}/{resource}", password, address or running.address]
    trusted = {"SSL_CERT_FILE": str(ca_file or os.devnull), "SSL_CERT_DIR": os.devnull}
    environment = trusted | CORE if adapter else trusted
    async with running_peer([aioxmpp_python(), *program_of("aioxmpp", adapter), *arguments], environment) as peer:
        yield peer


LIBRARIES = {"slixmpp": slixmpp, "aioxmpp": aioxmpp}


def romeo(library: str) -> JID:
    """Who logs in by the library."""
    return JID(f"romeo@{HOST}/{library}")


@asynccontextmanager
async def both(folder: Path, library: str, us: str) -> AsyncIterator[tuple[Client, Peer]]:
    """Our client as `us`, and that of the library as romeo."""
    async with serving(folder) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect(us) as client,
            LIBRARIES[library](running, f"romeo/{library}", ca_file=running.ca_file) as peer,
        ):
            assert (await peer.next("session"))["jid"] == str(romeo(library))
            yield client, peer


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    with trio.fail_after(5):
        while not holds():
            await trio.sleep(0.01)


async def presence_of(client: Client, sender: JID) -> Presence:
    """The next presence of `sender` that `client` gets."""
    while True:
        presence: Presence = await next_of(client.presences())
        if presence.sender == sender:
            return presence

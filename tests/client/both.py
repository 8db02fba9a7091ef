# SPDX-License-Identifier: Apache-2.0
"""The same test on trio and on asyncio, against our server, which runs under trio in a thread of its own."""

from __future__ import annotations

import functools
import inspect
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from anyio.abc import SocketStream

import xiot
from tests.server.serving import HOST, PASSWORD, serving
from xiot.server.server import Server

BACKENDS = ("trio", "asyncio")


def on_both(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make two tests of an async one: on trio and on asyncio."""

    def run(backend: str, **arguments: Any) -> None:
        anyio.run(functools.partial(test, **arguments), backend=backend)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__dict__.update(test.__dict__)  # its marks
    given = inspect.signature(test).parameters.values()
    first = inspect.Parameter("backend", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([first, *given])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("backend", BACKENDS)(run)


class Served:
    """The server in its thread, and how to reach it; it may be stopped, and started again at the same address."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.folder = folder
        self.options = options
        self.address = self.tls_address = ""
        self.ca_file: Path
        self.server: Server
        self._thread: threading.Thread | None = None

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    async def start(self) -> None:
        """Run it, at the same ports as before."""
        ready = threading.Event()
        problems: list[BaseException] = []

        async def main() -> None:
            listen = {"listen": self.address or "127.0.0.1:0", "listen_tls": self.tls_address or "127.0.0.1:0"}
            async with serving(self.folder, **listen, **self.options) as running:
                self.server, self.ca_file = running.server, running.ca_file
                self.address, self.tls_address = running.address, running.tls_address
                self._stop, self._token = trio.Event(), trio.lowlevel.current_trio_token()
                ready.set()
                await self._stop.wait()

        def thread() -> None:
            try:
                trio.run(main)
            except BaseException as problem:
                problems.append(problem)
            finally:
                ready.set()

        self._thread = threading.Thread(target=thread)
        self._thread.start()
        await anyio.to_thread.run_sync(ready.wait)
        if problems:
            raise problems[0]

    async def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._thread is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stop.set)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._thread.join)
            self._thread = None

    async def there(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, sync or async, in the server's thread."""
        run = trio.from_thread.run if inspect.iscoroutinefunction(function) else trio.from_thread.run_sync
        call = functools.partial(run, function, *arguments, trio_token=self._token)
        return await anyio.to_thread.run_sync(call)

    async def account(self, *names: str) -> None:
        for name in names:
            await self.there(self.server.accounts.add, xiot.JID(f"{name}@{HOST}"), PASSWORD)

    async def cut(self) -> None:
        """Cut all connections, without a word."""

        def cut() -> None:
            for connection in self.server.pump.connections():
                with suppress(OSError):
                    connection.sock.shutdown(2)

        await self.there(cut)

    def connect(self, name: str, **options: Any) -> Any:
        """`xiot.connect` as name@localhost, or name if it is a JID, over STARTTLS with the certificate verified."""
        jid = name if "@" in name else f"{name}@{HOST}"
        return xiot.connect(jid, PASSWORD, **{"address": self.address, "ca_file": self.ca_file, **options})


@asynccontextmanager
async def served(folder: Path, **options: Any) -> AsyncIterator[Served]:
    """A server with its data in `folder`; options as for `serving`."""
    server = Served(folder, options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def listening(serve: Callable[[SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """The address at which `serve` gets the connections, which are closed when it returns."""

    async def handle(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError):
                await serve(stream)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def next_of(items: Any, seconds: float = 10) -> Any:
    """The next thing that comes."""
    with anyio.fail_after(seconds):
        return await anext(items)


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it holds."""
    with anyio.fail_after(seconds):
        while not holds():
            await anyio.sleep(0.01)

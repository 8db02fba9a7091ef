# SPDX-License-Identifier: Apache-2.0
"""A real server on loopback, for tests."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import xiot
from xiot.client import Client
from xiot.core import JID
from xiot.net.tls import client_context
from xiot.server.config import load
from xiot.server.server import Server

HOST = "localhost"
PASSWORD = "s3cret"

CONFIG = """
data_dir = "."
[[host]]
name = "localhost"
registration = "open"
{host}
[[host]]
name = "anon.localhost"
mechanisms = ["EXTERNAL", "ANONYMOUS"]
[c2s]
listen = ["{listen}"]
listen_tls = ["{listen_tls}"]
starttls = "{starttls}"
plain_without_tls = {plain}
{c2s}
[exi]
{exi}
[accounts]
scram_iterations = 4096
{accounts}
[limits]
{limits}
"""


class Running:
    """A server, and how to reach it."""

    def __init__(self, server: Server, config: Path) -> None:
        self.server = server
        self.config = config
        """The file that `Server.reload` reads."""
        self.address = str(server.addresses[0][0])
        self.tls_address = str(server.addresses[1][0])
        self.exi_address = str(server.exi_addresses[0][0]) if server.exi_addresses else None
        """Where it speaks EXI from the first octet."""
        self.ca_file = server.certificates.development_ca

    @property
    def tls(self) -> ssl.SSLContext:
        return client_context(self.ca_file)

    async def account(self, *names: str) -> None:
        for name in names:
            await self.server.accounts.add(JID(f"{name}@{HOST}"), PASSWORD)

    def connect(self, name: str, **options: Any) -> Any:
        """`xiot.connect` as name@localhost, or name if it is a JID, over STARTTLS with the certificate verified."""
        jid = name if "@" in name else f"{name}@{HOST}"
        return xiot.connect(jid, PASSWORD, address=self.address, ca_file=self.ca_file, **options)

    async def raw(self) -> trio.SocketStream:
        """A bare connection."""
        host, _, port = self.address.rpartition(":")
        return await trio.open_tcp_stream(host, int(port))

    async def raw_tls(self) -> trio.SocketStream:
        """A bare connection to where TLS begins at once."""
        host, _, port = self.tls_address.rpartition(":")
        return await trio.open_tcp_stream(host, int(port))


def settings(
    *,
    starttls: str = "required",
    plain: bool = False,
    host: str = "",
    accounts: str = "",
    c2s: str = "",
    exi: str = "",
    listen: str = "127.0.0.1:0",
    listen_tls: str = "127.0.0.1:0",
    **limits: float,
) -> str:
    """A configuration; `host`, `accounts`, `c2s` and `exi` are more lines of their tables."""
    written = "\n".join(f"{name} = {value}" for name, value in limits.items())
    words = {"starttls": starttls, "plain": str(plain).lower(), "listen": listen, "listen_tls": listen_tls}
    return CONFIG.format(**words, host=host, accounts=accounts, c2s=c2s, exi=exi, limits=written)


@asynccontextmanager
async def serving(
    folder: Path, *, config: str | None = None, epoll: bool | None = None, **options: Any
) -> AsyncIterator[Running]:
    """A server with its data in `folder`, configured by `settings` with the options given, or by the text `config`."""
    path = folder / "xiot.toml"
    path.write_text(config or settings(**options))
    async with trio.open_nursery() as nursery:
        server = Server(load(path), read=lambda: load(path), epoll=epoll)
        await nursery.start(lambda task_status: server.run(task_status=task_status))
        yield Running(server, path)
        nursery.cancel_scope.cancel()


async def next_of(items: Any, seconds: float = 5) -> Any:
    """The next thing that comes."""
    with trio.fail_after(seconds):
        return await anext(items)


__all__ = ["HOST", "PASSWORD", "Client", "Running", "next_of", "serving"]

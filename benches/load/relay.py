# SPDX-License-Identifier: Apache-2.0
"""The relay of relay.c in Python: what a loop costs that moves bytes and looks at none. Usage: relay.py trio|uvloop PORT."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

CHUNK_BYTES = 65536


def trio_relay(port: int) -> None:
    """A task for each direction, on trio's streams."""
    import trio

    waiting: list[trio.SocketStream] = []

    async def move(source: trio.SocketStream, target: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some(CHUNK_BYTES):
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):  # the other direction has ended
            pass
        await target.aclose()

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def accepted(stream: trio.SocketStream) -> None:
                if not waiting:
                    waiting.append(stream)
                    return
                other = waiting.pop()
                nursery.start_soon(move, stream, other)
                nursery.start_soon(move, other, stream)

            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1", backlog=4096)
            # serve_listeners would close a stream when its handler returns: ours go on in pairs.
            while True:
                await accepted(await listeners[0].accept())

    trio.run(main)


def uvloop_relay(port: int) -> None:
    """A protocol for each connection, on uvloop: the fastest of asyncio."""
    import uvloop

    waiting: list[Relay] = []

    class Relay(asyncio.Protocol):
        def __init__(self) -> None:
            self.peer: Relay | None = None
            self.early: list[bytes] = []

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as such
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not waiting:
                waiting.append(self)
                return
            self.peer = waiting.pop()
            self.peer.peer = self
            for data in self.peer.early:
                transport.write(data)

        def data_received(self, data: bytes) -> None:
            if self.peer is None:
                self.early.append(data)
            else:
                self.peer.transport.write(data)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.peer is not None:
                self.peer.transport.close()

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Relay, "127.0.0.1", port, backlog=4096)
        await server.serve_forever()

    uvloop.run(main())


if __name__ == "__main__":
    {"trio": trio_relay, "uvloop": uvloop_relay}[sys.argv[1]](int(sys.argv[2]))

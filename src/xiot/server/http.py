# SPDX-License-Identifier: Apache-2.0
"""Small HTTP for operators: one request a connection, bounded in time and size, on h11.

For machines of the same host that ask for a page now and then; what browsers need is not here. So a server needs no web framework to be watched.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
import structlog
import trio

AT_ONCE = 16  # connections; more wait in the kernel's queue
PATIENCE_S = 10.0  # for a request and its answer
MAX_HEAD_BYTES = 8_192
MAX_BODY_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route returns."""

    body: bytes
    status: int = 200
    type: str = "application/json"


Route = Callable[[bytes], Awaitable[Answer]]
"""Gets the body of the request."""


class BadRequest(Exception):
    """The text is for the client."""


class HttpServer:
    """The `routes`, by method and path, on any number of listening sockets."""

    def __init__(self, routes: Mapping[tuple[str, str], Route]) -> None:
        self._routes = routes
        self._places = trio.Semaphore(AT_ONCE)
        self._log: Any = structlog.get_logger("xiot.http")

    async def serve(self, listener: socket.socket) -> None:
        """Answer requests for ever."""
        await trio.serve_listeners(self._connection, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])

    async def _connection(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(PATIENCE_S), suppress(trio.BrokenResourceError):
            async with stream, self._places:
                connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
                try:
                    method, path, body = await self._request(connection, stream)
                    answer = await self._answer(method, path, body)
                except (h11.RemoteProtocolError, BadRequest) as error:
                    method, answer = "GET", Answer(f"{error}\n".encode(), 400, "text/plain")
                except Exception:
                    self._log.exception("request failed")
                    method, answer = "GET", Answer(b"internal error\n", 500, "text/plain")
                await self._send(connection, stream, method, answer)

    async def _request(self, connection: h11.Connection, stream: trio.SocketStream) -> tuple[str, str, bytes]:
        request: h11.Request | None = None
        body = b""
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(4096))
                case h11.Request() as request:
                    pass
                case h11.Data(data=data):
                    body += data
                    if len(body) > MAX_BODY_BYTES:
                        raise BadRequest("the body is too long")
                case h11.EndOfMessage():
                    assert request is not None
                    return request.method.decode(), request.target.decode("latin-1").partition("?")[0], body
                case _:  # closed
                    raise trio.BrokenResourceError

    async def _answer(self, method: str, path: str, body: bytes) -> Answer:
        route = self._routes.get(("GET" if method == "HEAD" else method, path))
        if route is not None:
            return await route(body)
        if any(path == known for _, known in self._routes):
            return Answer(b"wrong method\n", 405, "text/plain")
        return Answer(b"not found\n", 404, "text/plain")

    async def _send(self, connection: h11.Connection, stream: trio.SocketStream, method: str, answer: Answer) -> None:
        headers = [
            ("content-type", answer.type),
            ("content-length", str(len(answer.body))),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("connection", "close"),
        ]
        with suppress(h11.LocalProtocolError):  # the peer has broken off
            data = connection.send(h11.Response(status_code=answer.status, headers=headers)) or b""
            if method != "HEAD":
                data += connection.send(h11.Data(data=answer.body)) or b""
            await stream.send_all(data)
            await stream.send_eof()

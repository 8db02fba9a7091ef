# SPDX-License-Identifier: Apache-2.0
"""The bounded queue between the application and the transport."""

from __future__ import annotations

from typing import NoReturn

import anyio
from anyio.abc import ByteSendStream

from xiot.client.inbox import fresh
from xiot.errors import XiotError

QUEUED_BYTES = 65536  # then callers wait before they queue


class Outbox:
    """Bytes on their way out. Any task queues, one task sends: a caller that is cancelled never leaves half a stanza behind."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._queued = 0  # since the start
        self._sent = 0
        self._filled = anyio.Event()
        self._moved = anyio.Event()
        self._error: XiotError | None = None

    def put(self, data: bytes) -> int:
        """Queue `data`; returns what `sent` takes."""
        self._bytes += data
        self._queued += len(data)
        self._filled.set()
        return self._queued

    async def room(self) -> None:
        """Wait until not too much is queued. Raises the error that ended the stream."""
        while self._error is not None or self._queued - self._sent > QUEUED_BYTES:
            await self._progress()

    async def sent(self, mark: int) -> None:
        """Wait until the transport has taken everything up to what `put` returned. Raises the error that ended the stream."""
        while self._sent < mark:
            await self._progress()

    async def _progress(self) -> None:
        if self._error is not None:
            raise fresh(self._error)
        await self._moved.wait()

    async def run(self, transport: ByteSendStream) -> NoReturn:
        """Send what is queued, for ever. Raises what the transport raises."""
        while True:
            while not self._bytes:
                self._filled = anyio.Event()
                await self._filled.wait()
            data = bytes(self._bytes)
            self._bytes.clear()
            await transport.send(data)
            self._sent += len(data)
            self._wake()

    def end(self, error: XiotError) -> None:
        """Nothing more is sent: whoever waits, or comes, gets `error`."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

# SPDX-License-Identifier: Apache-2.0
"""A transport whose octets are EXI and which is used as if it were XML (XEP-0322)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anyio.abc import ByteStream

from xiot.exi.configurations import ExiStream


class ExiTransport(ByteStream):
    """EXI on `below`."""

    def __init__(self, below: ByteStream, stream: ExiStream) -> None:
        self.below = below
        self.stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next piece of the stream as XML, which may be longer. Raises ExiError, and as the transport below."""
        while (xml := self.stream.next()) is None:
            self.stream.receive(await self.below.receive(max_bytes))
        return xml

    async def send(self, item: bytes) -> None:
        """Send XML of the stream. Raises ExiError, and as the transport below."""
        if octets := self.stream.send(item):
            await self.below.send(octets)

    async def send_eof(self) -> None:
        """As the transport below."""
        await self.below.send_eof()

    async def aclose(self) -> None:
        """As the transport below."""
        await self.below.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the transport below."""
        return self.below.extra_attributes

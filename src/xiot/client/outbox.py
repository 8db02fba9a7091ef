# SPDX-License-Identifier: Apache-2.0
"""The bounded queue between the application and the transport, which outlives each stream.

Theory of operation. A stanza is an `Entry`, which waits in one of two queues, is handed to the transport with others, and
is then either taken or lost. What restores a session, answers and pings go `ahead`, and never wait for room. All else goes
while the queue is open: between two streams, and while a new one is being restored, callers wait, but no longer than
`patience_s`. When a stream has ended nobody knows what of `handed` has arrived: `forget` tells whoever waits that it is lost.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Collection
from typing import NoReturn

import anyio
from anyio.abc import ByteSendStream

from xiot.client.inbox import fresh
from xiot.errors import LinkError, XiotError

QUEUED_BYTES = 65536  # then callers wait before they queue
BATCH_BYTES = 16384  # for the transport at once; so a ping is never behind much


class Interrupted(LinkError):
    """The connection was lost before it was known whether what was sent has arrived."""

    def __init__(self) -> None:
        super().__init__("the connection was lost on the way; nobody knows whether it arrived")


class Fate(enum.Enum):
    """How far an entry has come."""

    WAITING = enum.auto()
    HANDED = enum.auto()
    TAKEN = enum.auto()
    LOST = enum.auto()


class Entry:
    """The bytes of one stanza on their way."""

    __slots__ = ("data", "fate")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fate = Fate.WAITING


class Outbox:
    """Stanzas on their way out. Any task queues, one task sends: a caller that is cancelled never leaves half a stanza behind."""

    def __init__(self, patience_s: float) -> None:
        """`patience_s`: how long callers wait for a stream, before they get LinkError."""
        self._patience_s = patience_s
        self._ahead: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._handed: list[Entry] = []
        self._bytes = 0  # of all three
        self._line: deque[object] = deque()  # of callers: who queues next
        self._open = False
        self._filled = anyio.Event()
        self._moved = anyio.Event()
        self._error: XiotError | None = None

    async def send(self, data: bytes, *, ahead: bool = False) -> None:
        """Queue one stanza, and wait until the transport has taken it. If cancelled it may still go out, but whole.

        Raises Interrupted, LinkError if there is no connection for too long, or the error that ended everything.
        """
        if ahead:
            entry = self.put(data, ahead=True)
        else:
            entry = await self._in_turn(data)
        try:
            await self._until(lambda: entry.fate in (Fate.TAKEN, Fate.LOST))
        finally:
            self._withdraw(entry)
        if entry.fate is Fate.LOST:
            raise Interrupted

    async def _in_turn(self, data: bytes) -> Entry:
        turn = object()
        self._line.append(turn)
        try:
            await self._until(lambda: self._open and self._line[0] is turn and self._bytes <= QUEUED_BYTES)
            return self.put(data)
        finally:
            self._line.remove(turn)
            if self._line:
                self._wake()

    def put(self, data: bytes, *, ahead: bool = False) -> Entry:
        """Queue `data` whatever is queued already."""
        entry = Entry(data)
        (self._ahead if ahead else self._waiting).append(entry)
        self._bytes += len(data)
        self._filled.set()
        return entry

    async def _until(self, holds: Callable[[], bool]) -> None:
        give_up: float | None = None
        while not holds():
            if self._error is not None:
                raise fresh(self._error)
            if self._open:
                give_up = None
            elif give_up is None:
                give_up = anyio.current_time() + self._patience_s
            with anyio.CancelScope(deadline=float("inf") if give_up is None else give_up) as waiting:
                await self._moved.wait()
            if waiting.cancelled_caught:
                raise LinkError(f"no connection for {self._patience_s:g} s")

    def _withdraw(self, entry: Entry) -> None:
        if entry.fate is Fate.WAITING:
            (self._ahead if entry in self._ahead else self._waiting).remove(entry)
            self._settle([entry], Fate.LOST)

    def _settle(self, entries: Collection[Entry], fate: Fate) -> None:
        for entry in entries:
            entry.fate = fate
            self._bytes -= len(entry.data)
        self._wake()

    async def run(self, transport: ByteSendStream) -> NoReturn:
        """Send what is queued, for ever. Raises what the transport raises."""
        while True:
            size = 0
            while size < BATCH_BYTES and (queue := self._ahead or (self._waiting if self._open else None)):
                entry = queue.popleft()
                entry.fate = Fate.HANDED
                self._handed.append(entry)
                size += len(entry.data)
            if not self._handed:
                self._filled = anyio.Event()
                await self._filled.wait()
                continue
            await transport.send(b"".join(entry.data for entry in self._handed))
            self._settle(self._handed, Fate.TAKEN)
            self._handed.clear()

    def open(self) -> None:
        """A stream is there, and restored: let everything through."""
        self._open = True
        self._filled.set()
        self._wake()

    def close(self) -> None:
        """The stream has ended: keep what is queued."""
        self._open = False
        self._wake()

    def forget(self) -> None:
        """The stream that comes does not resume the last one: what was under way, or only for that, is lost."""
        self._settle([*self._handed, *self._ahead], Fate.LOST)
        self._handed.clear()
        self._ahead.clear()

    def end(self, error: XiotError) -> None:
        """Nothing more is sent: whoever waits, or comes, gets `error`."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

# SPDX-License-Identifier: Apache-2.0
"""The bounded queue between the application and the transport, which outlives each stream.

Theory of operation. A stanza is an `Entry`, which waits in one of two queues, is handed to the transport with others, and
is then either taken or lost. What restores a session, answers and pings go `ahead`, and never wait for room. All else goes
while the queue is open: between two streams, and while a new one is being restored, callers wait, but no longer than
`patience_s`. When a stream has ended nobody knows what of `handed` has arrived: `forget` tells whoever waits that it is lost.

With stream management (XEP-0198; from `manage` on) a stanza that was handed over is also `kept`, until the server has
acknowledged it. We ask behind each batch, if no question is open: so once in a round trip. If the next stream resumes the last
one, all that is kept goes first (`resend`), and nothing is lost.
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
from xiot.proto import sm

QUEUED_BYTES = 65536  # then callers wait before they queue
MOST_KEPT = 1000  # stanzas that are not acknowledged: then callers wait, too
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
    DELIVERED = enum.auto()
    """The server has acknowledged it."""
    LOST = enum.auto()


class Entry:
    """The bytes of one stanza on their way."""

    __slots__ = ("data", "fate", "kept", "marked", "stanza")

    def __init__(self, data: bytes, *, stanza: bool = True, marked: bool = False) -> None:
        self.data = data
        self.fate = Fate.WAITING
        self.stanza = stanza
        self.kept = False  # so that the server will tell
        self.marked = marked  # by an id, so that the server knows it if it comes again


class Outbox:
    """Stanzas on their way out. Any task queues, one task sends: a caller that is cancelled never leaves half a stanza behind."""

    def __init__(self, patience_s: float) -> None:
        """`patience_s`: how long callers wait for a stream, before they get LinkError."""
        self._patience_s = patience_s
        self._ahead: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._handed: list[Entry] = []
        self._kept: deque[Entry] | None = None  # None: no stream management
        self._sent = 0  # stanzas, since it began
        self._asked = False  # and no answer yet
        self._again: list[Entry] = []
        self._bytes = 0  # of all that was not taken yet
        self._line: deque[object] = deque()  # of callers: who queues next
        self._open = False
        self.sending = False
        """The transport may have a part of what it was given last."""
        self._filled = anyio.Event()
        self._moved = anyio.Event()
        self._error: XiotError | None = None

    async def send(self, data: bytes, *, ahead: bool = False, stanza: bool = True, marked: bool = False) -> Entry:
        """Queue one stanza, and wait until the transport has taken it. If cancelled it may still go out, but whole.

        With stream management it waits while too much is not acknowledged, too.
        Raises Interrupted, LinkError if there is no connection for too long, or the error that ended everything.
        """
        if ahead:
            entry = self.put(data, ahead=True, stanza=stanza)
        else:
            entry = await self._in_turn(data, marked)
        try:
            await self._until(lambda: entry.fate in (Fate.TAKEN, Fate.DELIVERED, Fate.LOST))
        finally:
            self._withdraw(entry)
        if entry.fate is Fate.LOST:
            raise Interrupted
        return entry

    async def delivered(self, entry: Entry) -> None:
        """Wait until the server has acknowledged it. Raises Interrupted if that will not be known, or as `send`."""
        while entry.fate is not Fate.DELIVERED:
            if entry.fate is Fate.LOST:
                raise Interrupted
            if entry.fate is Fate.TAKEN and not entry.kept:
                raise LinkError("the server has no stream management: it does not say what it has received")
            if self._error is not None:
                raise fresh(self._error)
            await self._moved.wait()

    async def _in_turn(self, data: bytes, marked: bool) -> Entry:
        turn = object()
        self._line.append(turn)
        try:
            await self._until(lambda: self._open and self._line[0] is turn and self._has_room())
            return self.put(data, marked=marked)
        finally:
            self._line.remove(turn)
            if self._line:
                self._wake()

    def _has_room(self) -> bool:
        return self._bytes <= QUEUED_BYTES and (self._kept is None or len(self._kept) < MOST_KEPT)

    def put(self, data: bytes, *, ahead: bool = False, stanza: bool = True, marked: bool = False) -> Entry:
        """Queue `data`, a stanza or something else, whatever is queued already."""
        entry = Entry(data, stanza=stanza, marked=marked)
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
            if entry.fate is not Fate.DELIVERED:  # the server was quicker than the transport
                entry.fate = fate
            self._bytes -= len(entry.data)
        self._wake()

    async def run(self, transport: ByteSendStream) -> NoReturn:
        """Send what is queued, for ever. Raises what the transport raises."""
        self.sending = False
        if self._again:
            again, self._again = self._again, []
            await self._transmit(transport, b"".join(entry.data for entry in again) + sm.request())
        while True:
            size = 0
            while size < BATCH_BYTES and (queue := self._ahead or (self._waiting if self._open else None)):
                entry = queue.popleft()
                entry.fate = Fate.HANDED
                self._handed.append(entry)
                if self._kept is not None and entry.stanza:
                    self._kept.append(entry)
                    entry.kept = True
                    self._sent += 1
                size += len(entry.data)
            question = self._question()
            if not self._handed and not question:
                self._filled = anyio.Event()
                await self._filled.wait()
                continue
            await self._transmit(transport, b"".join(entry.data for entry in self._handed) + question)
            self._settle(self._handed, Fate.TAKEN)
            self._handed.clear()

    async def _transmit(self, transport: ByteSendStream, data: bytes) -> None:
        self.sending = True
        await transport.send(data)
        self.sending = False

    # ---- stream management ----

    def manage(self, wish: sm.Enable | None = None) -> None:
        """From now on stanzas are counted and kept; a `wish` that was not in the login goes out next, ahead of all."""
        if wish is not None:
            self.put(sm.render(wish), ahead=True, stanza=False)
        self._kept, self._sent, self._asked = deque(), 0, False

    def unmanaged(self) -> None:
        """The server has refused it."""
        for entry in self._kept or ():
            entry.kept = False
        self._kept = None
        self._wake()

    def acknowledge(self, h: int) -> bool:
        """The server has dealt with `h` stanzas. False if it cannot have."""
        if self._kept is None:
            return False
        n = (h - (self._sent - len(self._kept))) % sm.COUNTS
        if n > len(self._kept):
            return False
        self._asked = False
        for _ in range(n):
            self._kept.popleft().fate = Fate.DELIVERED
        self._filled.set()
        self._wake()
        return True

    def resend(self) -> None:
        """The stream that comes resumes the last one: what is kept goes first, before what it has to say itself."""
        assert self._kept is not None
        self._settle([entry for entry in self._handed if entry.fate is Fate.HANDED], Fate.TAKEN)
        self._handed.clear()
        stale = [entry for entry in self._ahead if not entry.stanza]
        self._settle(stale, Fate.LOST)  # what was said of the last stream, such as how much we had taken by then
        self._ahead = deque(entry for entry in self._ahead if entry.stanza)
        self._again = list(self._kept)
        self._asked = bool(self._again)

    def _question(self) -> bytes:
        if not self._kept or self._asked:
            return b""
        self._asked = True
        return sm.request()

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
        """The stream that comes does not resume the last one: what was under way, or only for that, is lost.

        But what is marked goes again, first: if the server has it, it takes it for the same (`xiot.model.durable`).
        """
        under_way = {id(entry): entry for entry in (*(self._kept or ()), *self._handed)}.values()
        again = [entry for entry in under_way if entry.marked and entry.fate is not Fate.DELIVERED]
        self._settle([*self._handed, *self._ahead], Fate.LOST)
        self._handed.clear()
        self._ahead.clear()
        for entry in self._kept or ():
            entry.fate = Fate.LOST
        self._kept = None
        for entry in again:
            entry.fate, entry.kept = Fate.WAITING, False
            self._bytes += len(entry.data)
        self._waiting.extendleft(reversed(again))
        self._wake()

    def end(self, error: XiotError) -> None:
        """Nothing more is sent: whoever waits, or comes, gets `error`."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()


class Receipt:
    """Of a stanza that was sent."""

    def __init__(self, outbox: Outbox, entry: Entry) -> None:
        self._outbox = outbox
        self._entry = entry

    async def delivered(self) -> None:
        """Wait until the server has acknowledged the stanza, over however many connections (XEP-0198).

        Raises LinkError if that will not be known: the server has no stream management, or the stream could not be resumed.
        """
        await self._outbox.delivered(self._entry)

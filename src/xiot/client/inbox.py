# SPDX-License-Identifier: Apache-2.0
"""Bounded queues between the reader of a stream and the application.

Theory of operation. An `Inbox` is bounded by items and by bytes. While somebody listens nothing is dropped: if it is full,
the stream is not read until the application has caught up. Who listens: whoever holds an `Iteration` of it, or, of an inbox
without `keep`, its owner. While nobody does, the newest `keep` are kept and the stream goes on. Who has fetched nothing for
`STALL_S` from a full inbox is taken for gone: else one forgotten loop would stop all that the stream carries.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

import anyio

from xiot.errors import LinkError, XiotError

T = TypeVar("T")

log = logging.getLogger(__name__)

SOFT = 1024  # items; then the stream is not read until the application has caught up, unless it waits for an answer
HARD = 16 * SOFT  # items; then the application is too slow: the stream ends
SOFT_BYTES = 2**20  # what they took on the wire, likewise
HARD_BYTES = 32 * 2**20  # more than two of the longest stanzas
STALL_S = 60.0


class Overrun(LinkError):
    """The application is too slow for what it asked for; another connection would not help."""


def fresh(error: XiotError) -> XiotError:
    """An exception like `error`, to raise: one raised again and again would grow a traceback without bound."""
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    return copied


class Inbox(Generic[T]):
    """What came and was not fetched yet, oldest first. One reader of the stream puts, one or more tasks iterate."""

    def __init__(self, on_room: Callable[[], None], *, keep: int | None = None) -> None:
        """`on_room` is called when it is no longer full. `keep`: while nobody listens only so many are kept, the newest."""
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._on_room = on_room
        self._keep = keep
        self._iterations: weakref.WeakSet[Iteration[T]] = weakref.WeakSet()
        self._fetched_at = monotonic()
        self._changed = anyio.Event()
        self._ended = False
        self._error: XiotError | None = None
        self.dropped = 0
        """How many nobody fetched."""

    @property
    def full(self) -> bool:
        """True if the stream should not be read for now."""
        return self._over(SOFT, SOFT_BYTES) and self._listened and not self._stalled

    @property
    def _listened(self) -> bool:
        return self._keep is None or len(self._iterations) > 0

    @property
    def _stalled(self) -> bool:
        return monotonic() - self._fetched_at >= STALL_S

    def _over(self, items: int, size: int) -> bool:
        return len(self._items) >= items or self._bytes >= size

    def put(self, item: T, size: int = 0) -> None:
        """Add an item that took `size` bytes on the wire. Raises Overrun if there are far too many."""
        if not self._items:
            self._fetched_at = monotonic()  # nobody could fetch before
        self._items.append((item, size))
        self._bytes += size
        if not self._listened:
            assert self._keep is not None
            self._drop(self._keep)
        elif self._stalled and self._over(SOFT, SOFT_BYTES):
            if not self.dropped:
                log.warning("nothing was fetched for %g s: the oldest of what comes is dropped", STALL_S)
            self._drop(SOFT)
        elif self._over(HARD, HARD_BYTES):
            raise Overrun("the application does not fetch what it receives")
        self._wake()

    def _drop(self, keep: int) -> None:
        while len(self._items) > keep or (self._bytes > SOFT_BYTES and len(self._items) > 1):
            self._bytes -= self._items.popleft()[1]
            self.dropped += 1

    def end(self, error: XiotError | None = None) -> None:
        """Nothing more comes: iteration ends after what is there, or raises `error`."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def listen(self) -> Iteration[T]:
        """Iterate over it; as long as the iterator lives nothing is dropped."""
        return Iteration(self)

    def __aiter__(self) -> Inbox[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._ended:
                if self._error is not None:
                    raise fresh(self._error)
                raise StopAsyncIteration
            await self._changed.wait()
        was_full = self.full
        item, size = self._items.popleft()
        self._bytes -= size
        self._fetched_at = monotonic()
        if was_full and not self.full:
            self._on_room()
        return item


class Iteration(Generic[T]):
    """One who listens to an inbox, from the first item he asks for until the iterator is dropped."""

    def __init__(self, inbox: Inbox[T]) -> None:
        self._inbox = inbox

    def __aiter__(self) -> Iteration[T]:
        return self

    async def __anext__(self) -> T:
        self._inbox._iterations.add(self)
        return await anext(self._inbox)

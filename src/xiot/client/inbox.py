# SPDX-License-Identifier: Apache-2.0
"""Bounded queues between the reader of a stream and the application."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio

from xiot.errors import LinkError, XiotError

T = TypeVar("T")

SOFT = 1024  # items; then the stream is not read until the application has caught up, unless it waits for an answer
HARD = 16 * SOFT  # items; then the application is too slow: the stream ends


def fresh(error: XiotError) -> XiotError:
    """An exception like `error`, to raise: one raised again and again would grow a traceback without bound."""
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    return copied


class Inbox(Generic[T]):
    """What came and was not fetched yet, oldest first. One reader of the stream puts, one or more tasks iterate."""

    def __init__(self, on_room: Callable[[], None], *, keep: int | None = None) -> None:
        """`on_room` is called when it is no longer full. `keep`: before the first iteration only so many are kept, the newest."""
        self._items: deque[T] = deque()
        self._on_room = on_room
        self._keep = keep
        self._changed = anyio.Event()
        self._ended = False
        self._error: XiotError | None = None
        self.dropped = 0
        """How many nobody fetched."""

    @property
    def full(self) -> bool:
        """True if the stream should not be read for now."""
        return self._keep is None and len(self._items) >= SOFT

    def put(self, item: T) -> None:
        """Add an item. Raises LinkError if there are far too many."""
        if self._keep is None:
            if len(self._items) >= HARD:
                raise LinkError("the application does not fetch what it receives")
        elif len(self._items) >= self._keep:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._wake()

    def end(self, error: XiotError | None = None) -> None:
        """Nothing more comes: iteration ends after what is there, or raises `error`."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def __aiter__(self) -> Inbox[T]:
        return self

    async def __anext__(self) -> T:
        self._keep = None  # whoever has begun to iterate gets everything from then on
        while not self._items:
            if self._ended:
                if self._error is not None:
                    raise fresh(self._error)
                raise StopAsyncIteration
            await self._changed.wait()
        was_full = self.full
        item = self._items.popleft()
        if was_full and not self.full:
            self._on_room()
        return item

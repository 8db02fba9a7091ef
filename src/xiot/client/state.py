# SPDX-License-Identifier: Apache-2.0
"""What a client's connection is like, and how one hears that it has changed."""

from __future__ import annotations

import enum

import anyio


class State(enum.Enum):
    """What a client's connection is like."""

    CONNECTED = "connected"
    WAITING = "waiting"
    """The connection is lost, and the client tries to get another one."""
    ENDED = "ended"


class Status:
    """The state of a client, as it changes."""

    def __init__(self) -> None:
        self.state = State.WAITING
        self._changed = anyio.Event()

    def become(self, state: State) -> None:
        """It is now `state`."""
        self.state = state
        self._changed.set()
        self._changed = anyio.Event()

    async def change(self) -> None:
        """Wait until it changes."""
        await self._changed.wait()


class States:
    """An iteration over the states of a client."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._last: State | None = None

    def __aiter__(self) -> States:
        return self

    async def __anext__(self) -> State:
        if self._last is State.ENDED:
            raise StopAsyncIteration
        while self._status.state is self._last:
            await self._status.change()
        self._last = self._status.state
        return self._last

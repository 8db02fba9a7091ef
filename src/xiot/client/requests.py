# SPDX-License-Identifier: Apache-2.0
"""Our requests that wait for their answers, and what is asked again if the connection is lost meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar
from uuid import uuid4

import anyio

from xiot.client.inbox import fresh
from xiot.client.outbox import Interrupted
from xiot.core import JID, Element, Stanza
from xiot.errors import XiotError
from xiot.stanzas import iq, read_error

if TYPE_CHECKING:
    from xiot.schema import Payload

T = TypeVar("T")

REPEATS = 3  # of what may be done twice, if the connection is lost in the middle of it each time


class Send(Protocol):
    """How a stanza is sent; `ahead` of what is queued."""

    def __call__(self, stanza: Element, /, *, ahead: bool = False) -> Awaitable[object]: ...


class _Question:
    """An iq of ours that waits for its answer."""

    def __init__(self, to: JID | None) -> None:
        self.to = to
        self.sent = False
        self.settled = anyio.Event()
        self._outcome: Stanza | XiotError | None = None

    def settle(self, outcome: Stanza | XiotError) -> None:
        """Take the answer, or why there will be none; the first counts."""
        if not self.settled.is_set():
            self._outcome = outcome
            self.settled.set()

    def result(self) -> Element | None:
        """The child of the result. Raises StanzaError, or why there is no answer."""
        if isinstance(self._outcome, XiotError):
            raise fresh(self._outcome)
        assert self._outcome is not None
        if self._outcome.type == "error":
            raise read_error(self._outcome.element)
        return next(iter(self._outcome.element), None)


class Requests:
    """The requests of ours that nobody has answered yet, by their ids."""

    def __init__(self, send: Send, on_room: Callable[[], None]) -> None:
        """`on_room` is called when the stream has to be read, whatever waits to be fetched."""
        self._send = send
        self._on_room = on_room
        self._waiting: dict[str, _Question] = {}

    @property
    def waiting(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._waiting)

    async def ask(
        self,
        type: Literal["get", "set"],
        payload: Payload,
        to: JID | str | None,
        answer_s: float | None,
        *,
        ahead: bool = False,
    ) -> Element | None:
        """Send an iq and return the child of its result; `answer_s` is for the answer alone. Raises as `Client.request`."""
        question = _Question(None if to is None else JID(to))
        id = uuid4().hex
        self._waiting[id] = question
        self._on_room()  # the reader must not wait for an inbox while we wait for an answer
        try:
            await self._send(iq(type, payload.to_element(), id=id, to=question.to), ahead=ahead)
            question.sent = True
            with anyio.fail_after(answer_s):
                await question.settled.wait()
        finally:
            del self._waiting[id]
        return question.result()

    def answer(self, stanza: Stanza, sender: JID | None, own: JID) -> None:
        """Give an answer that came to whoever waits for it, if it comes from whom was asked; `own`: our full JID."""
        question = self._waiting.get(stanza.id or "")
        if question is None:
            return
        # RFC 6120 section 8.1.2.1: no `from`, or our own bare JID, or the server, is our account's answer
        account = (None, own.bare, JID(own.domain), own)
        if sender == question.to or (question.to in account and sender in account):
            question.settle(stanza)

    def interrupt(self) -> None:
        """The stream is lost: what was asked there is not answered any more."""
        for question in self._waiting.values():
            if question.sent:
                question.settle(Interrupted())

    def end(self, error: XiotError) -> None:
        """There is no further stream: whoever waits gets `error`."""
        for question in self._waiting.values():
            question.settle(error)


async def repeat(act: Callable[[], Awaitable[T]]) -> T:
    """What `act` gives; done again, a few times, if the connection is lost in the middle of it."""
    for _ in range(REPEATS):
        with suppress(Interrupted):
            return await act()
    return await act()

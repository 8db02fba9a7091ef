# SPDX-License-Identifier: Apache-2.0
"""Requests and messages of others that extensions deal with (`xiot.ext`, scope SESSION)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from anyio.abc import TaskGroup

from xiot.client.requests import Send
from xiot.core import JID, Element, Stanza
from xiot.errors import StanzaError, XiotError
from xiot.ext import SESSION, Extension, Handler, Key, Style, dispatch_table
from xiot.stanzas import error_to, reply_to

if TYPE_CHECKING:
    from xiot.schema import Payload

T = TypeVar("T")

log = logging.getLogger(__name__)

HANDLING = 256  # requests and messages of others that are being dealt with at a time


class Owner(Protocol):
    """The client that handlers act for."""

    @property
    def jid(self) -> JID:
        """Our full JID."""

    def service(self, kind: type[T]) -> T:
        """The object of class `kind` that the client has. Raises LookupError."""

    async def send(self, stanza: Element) -> object:
        """Send a stanza."""


class Handlers:
    """The handlers of a client's extensions, and how many of them are at work."""

    def __init__(self, extensions: Iterable[Extension], owner: Owner, send: Send) -> None:
        self._table = dispatch_table(extensions)
        self._owner = owner
        self._send = send
        self.tasks: TaskGroup
        """Where those run that take time."""
        self.running = 0
        """How many do."""

    def message(self, stanza: Stanza, sender: JID | None) -> bool:
        """Hand a message to the handlers of its payload; False if there are none."""
        if stanza.payload is None or stanza.type == "error":
            return False
        handlers = self._table.get(Key("message", None, SESSION, stanza.payload), ())
        context = Request(self._owner, stanza, sender or self._owner.jid.bare)
        for handler in handlers:
            with ignoring_failures():
                outcome: Any = self._call(handler, stanza, context)
                if handler.style is Style.ASYNC:
                    self.tasks.start_soon(self._finish, outcome)
        return bool(handlers)

    async def _finish(self, outcome: Awaitable[None]) -> None:
        with ignoring_failures():
            await outcome
        self.running -= 1

    def _call(self, handler: Handler, stanza: Stanza, context: Request) -> Any:
        """Call a handler, and count it if it goes on in a task. Raises StanzaError, also if too many do."""
        if handler.style is Style.ASYNC and self.running >= HANDLING:
            raise StanzaError("resource-constraint")
        outcome = handler(next(iter(stanza.element)), context)
        if handler.style is Style.ASYNC:
            self.running += 1
        return outcome

    async def request(self, stanza: Stanza, sender: JID | None) -> None:
        """Answer a request, now or when it is done."""
        kind: Literal["get", "set"] = "get" if stanza.type == "get" else "set"
        handlers = self._table.get(Key("iq", kind, SESSION, stanza.payload)) if stanza.payload is not None else None
        try:
            if handlers is None or stanza.type not in ("get", "set"):
                raise StanzaError("service-unavailable")
            context = Request(self._owner, stanza, sender or self._owner.jid.bare)
            outcome: Any = self._call(handlers[0], stanza, context)
            if handlers[0].style is Style.ASYNC:
                self.tasks.start_soon(self._answer_later, context, stanza, outcome)
                return
            await self._reply(reply_to(stanza, None if outcome is None else outcome.to_element()))
        except StanzaError as error:
            await self._reply(error_to(stanza, error))
        except Exception:
            await self._reply(_failure(stanza))

    async def _answer_later(self, context: Request, stanza: Stanza, outcome: Awaitable[Payload | None]) -> None:
        answer: Element | None = None
        try:
            payload = await outcome
            answer = reply_to(stanza, None if payload is None else payload.to_element())
        except StanzaError as error:
            answer = error_to(stanza, error)
        except XiotError:
            return  # the stream has ended while it worked
        except Exception:
            answer = _failure(stanza)
        finally:
            self.running -= 1
        if not context.replied:
            await self._reply(answer)

    async def _reply(self, answer: Element | None) -> None:
        if answer is not None:
            with suppress(XiotError):  # whoever asked is gone with the stream
                await self._send(answer, ahead=True)


class Request:
    """What a handler of ours knows of the stanza it got, and may do (an `xiot.ext.Answering`)."""

    def __init__(self, owner: Owner, stanza: Stanza, sender: JID) -> None:
        self._owner = owner
        self._stanza = stanza
        self.sender = sender
        """Who sent it, as the server stamped it."""
        self.replied = False

    @property
    def to(self) -> JID:
        """Us."""
        return self._owner.jid

    @property
    def id(self) -> str:
        """The id of the stanza."""
        return self._stanza.id or ""

    def service(self, kind: type[T]) -> T:
        """The object of class `kind` that the client has. Raises LookupError."""
        return self._owner.service(kind)

    async def reply(self, payload: Payload | None) -> None:
        """Answer the iq now; what the handler returns or raises later is not sent."""
        self.replied = True
        await self._owner.send(reply_to(self._stanza, None if payload is None else payload.to_element()))

    async def send(self, stanza: Element) -> None:
        """Send a stanza of its own. Raises LinkError if the stream has ended."""
        await self._owner.send(stanza)


@contextmanager
def ignoring_failures() -> Iterator[None]:
    """For messages, which nobody answers: log what goes wrong, a fault of ours loudly."""
    try:
        yield
    except XiotError as error:
        log.debug("a message is ignored: %s", error)
    except Exception:
        log.exception("a handler failed on a message")


def _failure(stanza: Stanza) -> Element | None:
    log.exception("a handler failed on the request %s", stanza.id)
    return error_to(stanza, StanzaError("internal-server-error"))

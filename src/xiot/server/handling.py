# SPDX-License-Identifier: Apache-2.0
"""Running the handler of a stanza, be it plain, a generator or async; its faults are answered, and end nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

from xiot.core import Stanza
from xiot.errors import StanzaError
from xiot.ext import Handler, Style
from xiot.store import StoreError

if TYPE_CHECKING:
    from xiot.server.context import ServerContext
    from xiot.server.session import ClientSession


def handle(handler: Handler, stanza: Stanza, session: ClientSession, context: ServerContext) -> None:
    """Run `handler`. Its StanzaError is the reply, or is raised here; any other exception is logged and `internal-server-error`."""
    child = next(iter(stanza.element), None)
    assert child is not None
    try:
        outcome = handler(child, context)
    except StanzaError:
        raise
    except Exception:
        _failed(handler, stanza, session)
        return

    async def run(work: Awaitable[None]) -> None:
        try:
            await work
        except (StanzaError, StoreError):
            raise
        except Exception:
            _failed(handler, stanza, session)

    if handler.style is Style.PLAIN:
        context.reply(outcome)  # type: ignore[arg-type]
    elif handler.style is Style.GENERATOR:
        session.wait(stanza, lambda: run(_generator(outcome, session, context)))  # type: ignore[arg-type]
    else:
        session.wait(stanza, lambda: run(_coroutine(outcome, context)))  # type: ignore[arg-type]


async def _generator(steps: Generator[Any, Any, Any], session: ClientSession, context: ServerContext) -> None:
    def go_on(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except StopIteration as stop:
            context.reply(stop.value)
            return None

    load = go_on(lambda: next(steps))
    while load is not None:
        try:
            load = await session.server.store.transact(load.run, lambda result: go_on(lambda: steps.send(result)))
        except Exception as error:  # the handler may know what to do
            problem = error
            load = go_on(lambda: steps.throw(problem))  # noqa: B023 - called at once


async def _coroutine(answer: Awaitable[Any], context: ServerContext) -> None:
    context.reply(await answer)


def _failed(handler: Handler, stanza: Stanza, session: ClientSession) -> None:
    session.server.log.exception("handler failed", extension=handler.extension, jid=str(session.jid), id=stanza.id)
    session.server.routing.refuse(stanza, session, StanzaError("internal-server-error"))

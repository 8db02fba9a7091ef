# SPDX-License-Identifier: Apache-2.0
"""A thing of ours over a logged-in stream: its functions read and set when others ask.

Theory of operation. A thing is served by an object that the handlers of `xiot.xep` find by its protocol (`Device`). It
does one thing at a time: the functions of a thing never run side by side, so that they may share a bus; other requests
wait their turn, and are told so. Every function has a limit; one that hangs in a thread cannot be stopped, is counted as
failed, and is not called again before it has returned.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from xiot.client.parts import parts
from xiot.core import JID
from xiot.errors import StanzaError, XiotError
from xiot.model.control import Assignment, Parameter, ParameterError, check_all
from xiot.model.reading import CURRENT, EVERYTHING, Category, Field, Query, Reading, Value

if TYPE_CHECKING:
    from xiot.iot.thing import Control, FieldSource, Past, Purpose, Thing
    from xiot.model.thing import Answers

log = logging.getLogger(__name__)

PROMPT_S = 2.0  # until a read-out that is not done says that it has started; far below what others wait for an iq
READ_OUT_S = 60.0  # for a whole read-out, however many functions it calls
REQUESTS = 32  # read-outs and settings that are accepted and not done, of all requesters together
REQUESTS_EACH = 8  # of one account
AHEAD = timedelta(days=1)  # how long before its time a read-out is accepted: it is kept in memory only
HISTORY_FIELDS = 10_000  # of one read-out


class Serving:
    """A thing while it is served (an `xiot.model.thing.Device`)."""

    def __init__(self, thing: Thing, own: JID) -> None:
        self._thing = thing
        self._own = own
        self._turn = anyio.Lock()
        self._running: dict[tuple[JID, object], anyio.CancelScope] = {}
        self._busy: set[Callable[..., object]] = set()  # in threads that were given up
        self._threads = anyio.CapacityLimiter(len(thing.fields) + len(thing.controls) + 1)

    def end(self) -> None:
        """Stop all that runs."""
        for scope in self._running.values():
            scope.cancel()

    # ---- reading ----

    async def read_out(self, sender: JID, id: str, query: Query, when: datetime | None, answers: Answers) -> None:
        """Read, when it is our turn, and answer. Raises StanzaError."""
        self._check(sender, "read")
        sources = [source for source in self._thing.fields if query.wants(source.name, source.categories)]
        unknown = query.fields.difference(source.name for source in self._thing.fields)
        if unknown and not sources and self._thing.past is None:
            raise StanzaError("item-not-found", text=f"there is no field {min(unknown)[:100]}")
        wait_s = 0.0 if when is None else (when - datetime.now(UTC)).total_seconds()
        if wait_s > AHEAD.total_seconds():
            raise StanzaError("resource-constraint", text=f"read-outs can be asked for {AHEAD} before their time")
        async with self._job(sender, id):
            if wait_s > 0 or self._turn.locked():
                await answers.accepted()
                await anyio.sleep(max(wait_s, 0))
                async with self._turn:
                    await answers.started()
                    readings = await self._read(sources, query)
            else:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_tell_started, answers)
                    async with self._turn:
                        readings = await self._read(sources, query)
                    tasks.cancel_scope.cancel()
            pieces = parts(readings)
            for number, piece in enumerate(pieces, 1):
                await answers.readings(piece, more=number < len(pieces))

    def cancel(self, sender: JID, id: str) -> None:
        """Stop a read-out that `sender` has asked for."""
        if scope := self._running.get((sender, id)):
            scope.cancel()

    async def _read(self, sources: Sequence[FieldSource], query: Query) -> list[Reading]:
        now, deadline = datetime.now(UTC), anyio.current_time() + READ_OUT_S
        readings: list[Reading] = []
        if sources and query.covers(now):
            readings.append(await self._read_fields(sources, now, deadline))
        if self._thing.past is not None and Category.HISTORICAL in query.categories:
            readings += await self._read_past(self._thing.past, query, now, deadline)
        return readings

    async def _read_fields(self, sources: Sequence[FieldSource], now: datetime, deadline: float) -> Reading:
        fields: list[Field] = []
        errors: list[str] = []
        for source in sources:
            try:
                fields.append(source.field(await self._call(source.function, deadline=deadline)))
            except TimeoutError:
                errors.append(f"{source.name}: no value in time")
            except Exception:
                log.exception("%s: the field %s cannot be read", self._thing.name, source.name)
                errors.append(f"{source.name}: cannot be read")  # the text of an exception may hold anything
        return Reading(now, tuple(fields), tuple(errors))

    async def _read_past(self, past: Past, query: Query, now: datetime, deadline: float) -> list[Reading]:
        try:
            return _historical(await self._call(past, query.since, query.until, deadline=deadline), query)
        except TimeoutError:
            problem = "history: not in time"
        except Exception:
            log.exception("%s: the history cannot be read", self._thing.name)
            problem = "history: cannot be read"
        return [Reading(now, (), (problem,))]

    # ---- controlling ----

    async def control(self, sender: JID, given: Sequence[Assignment]) -> Sequence[str]:
        """Check all values, then set them in their order; the first that fails ends it. Raises StanzaError."""
        self._check(sender, "control")
        controls = self._thing.controls
        values = check_all({name: one.parameter for name, one in controls.items()}, given)
        done: list[str] = []
        async with self._job(sender, object()), self._turn:
            for name, value in values.items():
                try:
                    await self._set(controls[name], value)
                except ParameterError as error:
                    before = f" (set before it: {', '.join(done)})" if done else ""
                    raise ParameterError(error.condition, name, f"{error.text}{before}") from None
                done.append(name)
        return done

    async def _set(self, one: Control, value: Value) -> None:
        name = one.parameter.name
        try:
            await self._call(one.function, one.convert(value))
        except TimeoutError:
            raise ParameterError("resource-constraint", name, "not done in time, but may still happen") from None
        except ValueError as error:
            raise ParameterError("bad-request", name, str(error)[:200] or "refused") from None
        except Exception:
            log.exception("%s: %s cannot be set", self._thing.name, name)
            raise ParameterError("internal-server-error", name, "it could not be set") from None

    async def parameters(self, sender: JID) -> Sequence[Parameter]:
        """Return what can be set, with the values of the fields of the same name. Raises StanzaError."""
        self._check(sender, "control")
        controls = self._thing.controls
        sources = [source for source in self._thing.fields if source.name in controls and source.categories & CURRENT]
        async with self._job(sender, object()), self._turn:
            found = await self._read_fields(sources, datetime.now(UTC), anyio.current_time() + READ_OUT_S)
        values = {field.name: field.value for field in found}
        return [
            one.parameter.having(values[name]) if name in values else one.parameter for name, one in controls.items()
        ]

    # ---- both ----

    @asynccontextmanager
    async def _job(self, sender: JID, id: object) -> AsyncIterator[None]:
        """One request, from when it is accepted until it is done. Raises StanzaError."""
        key = sender, id
        if key in self._running:
            raise StanzaError("conflict", text="there is a read-out with that id")
        if len(self._running) >= REQUESTS or sum(jid.bare == sender.bare for jid, _ in self._running) >= REQUESTS_EACH:
            raise StanzaError("resource-constraint", text="too many requests are waiting")
        with anyio.CancelScope() as scope:
            self._running[key] = scope
            try:
                yield
            finally:
                del self._running[key]
        if scope.cancelled_caught:
            raise StanzaError("undefined-condition", text="it was cancelled")

    def _check(self, sender: JID, purpose: Purpose) -> None:
        if not self._thing.may(sender, self._own, purpose):
            raise StanzaError("forbidden", "cancel", "access denied")

    async def _call(self, function: Callable[..., Any], *arguments: object, deadline: float = math.inf) -> Any:
        """Call the function, a plain one in a thread. Raises TimeoutError, or what it raises."""
        with anyio.fail_after(min(self._thing.limit_s, deadline - anyio.current_time())):
            if inspect.iscoroutinefunction(function):
                return await function(*arguments)
            if function in self._busy:
                raise TimeoutError  # a former call hangs: a second one would not fare better, and take one thread more
            run = partial(self._in_thread, function, arguments)
            result = await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._threads)
            return await result if inspect.isawaitable(result) else result

    def _in_thread(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
        self._busy.add(function)
        try:
            result = function(*arguments)
            # A generator of history works as it is iterated: that, too, is slow work.
            return (
                list(islice(result, HISTORY_FIELDS))
                if function is self._thing.past and isinstance(result, Iterable)
                else result
            )
        finally:
            self._busy.discard(function)


async def _tell_started(answers: Answers) -> None:
    await anyio.sleep(PROMPT_S)
    with anyio.CancelScope(shield=True), suppress(XiotError):  # said to be answered, it has to be answered
        await answers.started()


def _historical(found: Iterable[Reading], query: Query) -> list[Reading]:
    """The readings that were asked for, marked as historical; as many as fit."""
    readings: list[Reading] = []
    room = HISTORY_FIELDS
    for reading in islice(found, HISTORY_FIELDS):
        fields = tuple(
            replace(field, categories=Category.HISTORICAL) for field in reading if query.wants(field.name, EVERYTHING)
        )
        if fields and query.covers(reading.timestamp):
            room -= len(fields)
            if room < 0:
                readings.append(Reading(reading.timestamp, (), (f"history: more than {HISTORY_FIELDS} values",)))
                break
            readings.append(Reading(reading.timestamp, fields))
    return readings

# SPDX-License-Identifier: Apache-2.0
"""Things over a logged-in stream: serving one of ours, reading and controlling those of others.

Theory of operation. A thing is served by an object that the handlers of `xiot.xep` find by its protocol (`Device`). It
does one thing at a time: the functions of a thing never run side by side, so that they may share a bus; other requests
wait their turn, and are told so. Every function has a limit; one that hangs in a thread cannot be stopped, is counted as
failed, and is not called again before it has returned. Who reads (`Reader`) keeps for each read-out of its own what comes
in messages; what nobody has asked for, or comes from somebody else, is dropped.
"""

from __future__ import annotations

import enum
import inspect
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import anyio.to_thread

from xiot.client.inbox import fresh
from xiot.core import JID
from xiot.errors import LinkError, StanzaError, XiotError
from xiot.model.control import Assignment, Parameter, ParameterError, check_all
from xiot.model.reading import CURRENT, EVERYTHING, Category, Field, Kinds, Query, Reading, Value, categories, latest
from xiot.stanzas import iq
from xiot.xep import control, disco, sensordata

if TYPE_CHECKING:
    from xiot.ext import Session
    from xiot.iot.thing import Control, FieldSource, Past, Purpose, Thing
    from xiot.model.thing import Answers

log = logging.getLogger(__name__)

PROMPT_S = 2.0  # until a read-out that is not done says that it has started; far below what others wait for an iq
READ_OUT_S = 60.0  # for a whole read-out, however many functions it calls
REQUESTS = 32  # read-outs and settings that are accepted and not done, of all requesters together
REQUESTS_EACH = 8  # of one account
AHEAD = timedelta(days=1)  # how long before its time a read-out is accepted: it is kept in memory only
STANZA_BYTES = 8 * 1024  # of data in one answer: every server takes 10,000 bytes (RFC 6120 section 13.12)
HISTORY_FIELDS = 10_000  # of one read-out
FIELDS_KEPT = 20_000  # of one read-out of ours
CANCEL_S = 2.0  # for a cancellation to be sent
CANDIDATES = 8  # resources of an account that are asked whether they can be read


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
            parts = _parts(readings)
            for number, part in enumerate(parts, 1):
                await answers.readings(part, more=number < len(parts))

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


def _parts(readings: Iterable[Reading]) -> list[list[Reading]]:
    """The same in parts for one stanza each; at least one, which may be empty."""
    parts: list[list[Reading]] = [[]]
    room = STANZA_BYTES
    for piece in chain.from_iterable(map(_pieces, readings)):
        size = _size(piece)
        if size > room and parts[-1]:
            parts.append([])
            room = STANZA_BYTES
        room -= size
        parts[-1].append(piece)
    return [list(_joined(part)) for part in parts]


def _joined(readings: Iterable[Reading]) -> Iterator[Reading]:
    """What stands one after the other with the same timestamp, as one reading."""
    for timestamp, same in groupby(readings, key=lambda reading: reading.timestamp):
        pieces = list(same)
        fields = tuple(field for piece in pieces for field in piece)
        yield Reading(timestamp, fields, tuple(error for piece in pieces for error in piece.errors))


def _pieces(reading: Reading) -> Iterator[Reading]:
    """The reading with one field or one error at a time, none of them too long."""
    if not reading.fields and not reading.errors:
        yield reading
    for error in reading.errors:
        yield Reading(reading.timestamp, (), (error[:1000],))
    for field in reading:
        piece = Reading(reading.timestamp, (field,))
        too_long = Reading(reading.timestamp, (), (f"{field.name[:1000]}: too long to be sent",))
        yield piece if _size(piece) <= STANZA_BYTES else too_long


def _size(reading: Reading) -> int:
    """About how many bytes it is as XML, at most."""
    texts = [*reading.errors, *(text for f in reading for text in (f.name, f.text, f.unit or "", f.data_type or ""))]
    return 100 * (1 + len(reading)) + sum(6 * len(text) for text in texts)  # 6: &quot;


class _ReadOut:
    """A read-out of ours, until all has come."""

    def __init__(self, sender: JID) -> None:
        self.sender = sender
        self.readings: list[Reading] = []
        self.done = anyio.Event()
        self.error: XiotError | None = None
        self._room = FIELDS_KEPT

    def add(self, readings: Sequence[Reading], *, more: bool) -> None:
        if self.done.is_set():
            return
        self._room -= sum(1 + len(reading) + len(reading.errors) for reading in readings)
        if self._room < 0:
            self.end(XiotError(f"{self.sender} sends more than {FIELDS_KEPT} values"))
            return
        self.readings += readings
        if not more:
            self.end()

    def end(self, error: XiotError | None = None) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()


class Things:
    """Reading and controlling things: ``me.things``."""

    def __init__(
        self, session: Session, directory: disco.Directory, be_available: Callable[[], Awaitable[None]]
    ) -> None:
        """`directory` is what the client tells of itself; `be_available` sends its presence."""
        self._session = session
        self._be_available = be_available
        self._directory = directory
        self._serving: Serving | None = None
        self._read_outs: dict[str, _ReadOut] = {}
        self._ended = anyio.Event()
        self._error: XiotError | None = None

    # ---- reading and controlling others ----

    async def read(
        self,
        jid: JID | str,
        *,
        fields: str | Iterable[str] = (),
        kinds: Kinds = CURRENT,
        timeout: float = 30.0,  # noqa: ASYNC109 - of a conversation, which is to be cancelled in order
    ) -> Reading:
        """Ask the thing `jid` for `fields` (none: all) of certain `kinds`; returns the newest value of each.

        A bare JID means the first of its resources that can be read, if the account shows us those. What the thing could not
        read is in the ``errors`` of the reading.
        Raises StanzaError (``forbidden``, ``item-not-found``), TimeoutError if not all has come within `timeout` seconds,
        LinkError.
        """
        found = await self._read_out(jid, Query(_names(fields), categories(kinds)), timeout)
        return latest(found) if found else Reading(datetime.now(UTC), ())

    async def history(
        self,
        jid: JID | str,
        *,
        fields: str | Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109
    ) -> list[Reading]:
        """Ask the thing `jid` for its readings from `since` to `until`, both included; the oldest first. Raises as `read`."""
        query = Query(_names(fields), Category.HISTORICAL, since, until)
        ordered = sorted(await self._read_out(jid, query, timeout), key=lambda reading: reading.timestamp)
        return list(_joined(ordered))

    async def set(
        self,
        jid: JID | str,
        values: Mapping[str, Value | enum.Enum] | None = None,
        /,
        *,
        timeout: float = 30.0,  # noqa: ASYNC109
        **named: Value | enum.Enum,
    ) -> tuple[str, ...]:
        """Set parameters of the thing `jid`, as ``set(jid, setpoint=60.5)``; returns which were set.

        It checks all values before it sets the first; if a later one fails all the same, those before it stay set.

        Raises ParameterError if the thing refused one, StanzaError (``forbidden``), TimeoutError (it may still happen), LinkError.
        """
        given = {**(values or {}), **named}
        if not given:
            raise ValueError("nothing is to be set")
        with anyio.fail_after(timeout):
            return await control.set_parameters(
                self._session, await self._find(jid, control.NS), given, timeout=timeout
            )

    async def describe(self, jid: JID | str, *, timeout: float = 30.0) -> tuple[Parameter, ...]:  # noqa: ASYNC109
        """Ask the thing `jid` what can be set, within which limits. Raises as `read`."""
        with anyio.fail_after(timeout):
            return await control.get_form(self._session, await self._find(jid, control.NS), timeout=timeout)

    async def _read_out(self, jid: JID | str, query: Query, seconds: float) -> list[Reading]:
        id = uuid4().hex
        read_out: _ReadOut | None = None
        try:
            with anyio.fail_after(seconds):
                to = await self._find(jid, sensordata.NS)
                self._read_outs[id] = read_out = _ReadOut(to)
                first = await sensordata.request(self._session, to, id, query, timeout=seconds)
                if first is not None:
                    read_out.add(sensordata.readings_of(first), more=first.more)
                await read_out.done.wait()
        finally:
            if read_out is not None:
                del self._read_outs[id]
                if not read_out.done.is_set() and self._error is None:
                    await self._cancel(read_out.sender, id)
        if read_out.error is not None:
            raise fresh(read_out.error)
        return [_only(query.fields, reading) for reading in read_out.readings]

    async def _cancel(self, to: JID, id: str) -> None:
        """Tell the thing that nobody waits any more; the answer does not matter."""
        with anyio.move_on_after(CANCEL_S, shield=True), suppress(XiotError):
            await self._session.send(iq("set", sensordata.Cancel(id=id).to_element(), id=uuid4().hex, to=to))

    async def _find(self, jid: JID | str, feature: str) -> JID:
        """Return `jid` if it is a full one, else that of a resource there which announces the feature."""
        jid = JID(jid)
        if jid.resource is not None:
            return jid
        with suppress(StanzaError):
            for item in (await disco.items(self._session, jid))[:CANDIDATES]:
                if item.jid.bare != jid or item.jid in (jid, self._session.jid):
                    continue
                with suppress(StanzaError):
                    if (await disco.info(self._session, item.jid)).can(feature):
                        return item.jid
        raise StanzaError("recipient-unavailable", text=f"{jid} shows us no such thing; try its full JID, {jid}/...")

    # ---- what comes later than the first answer (xiot.model.thing.Reader) ----

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for messages of things."""
        return bool(self._read_outs)

    def on_readings(self, sender: JID, id: str, readings: Sequence[Reading], *, more: bool) -> None:
        """Take data of a read-out of ours."""
        if read_out := self._asked(sender, id):
            read_out.add(readings, more=more)

    def on_done(self, sender: JID, id: str, error: XiotError | None = None) -> None:
        """Note that a read-out of ours is done, or has failed."""
        if read_out := self._asked(sender, id):
            read_out.end(error)

    def _asked(self, sender: JID, id: str) -> _ReadOut | None:
        read_out = self._read_outs.get(id)
        return read_out if read_out is not None and read_out.sender == sender else None

    # ---- a thing of ours (xiot.model.thing.Device) ----

    async def serve(self, thing: Thing) -> None:
        """Be available, and answer for `thing` until the stream is closed. Raises LinkError if it is lost, ValueError if we serve one."""
        if self._serving is not None:
            raise ValueError("a client serves one thing")
        self._serving = Serving(thing, self._session.jid)
        announced = {sensordata.NS} | ({control.NS} if thing.controls else set())
        self._directory.features |= announced
        try:
            await self._be_available()
            await self._ended.wait()
        finally:
            self._directory.features -= announced
            self._serving.end()
            self._serving = None
        if self._error is not None:
            raise fresh(self._error)

    def end(self, error: XiotError | None) -> None:
        """The stream has ended."""
        self._error = error
        for read_out in self._read_outs.values():
            read_out.end(error or LinkError("the stream is closed"))
        self._ended.set()

    async def read_out(self, sender: JID, id: str, query: Query, when: datetime | None, answers: Answers) -> None:
        """Read our thing. Raises StanzaError (``service-unavailable`` if we serve none)."""
        await self._thing().read_out(sender, id, query, when, answers)

    def cancel(self, sender: JID, id: str) -> None:
        """Stop a read-out of our thing."""
        self._thing().cancel(sender, id)

    async def control(self, sender: JID, given: Sequence[Assignment]) -> Sequence[str]:
        """Set parameters of our thing."""
        return await self._thing().control(sender, given)

    async def parameters(self, sender: JID) -> Sequence[Parameter]:
        """Return what can be set in our thing."""
        return await self._thing().parameters(sender)

    def _thing(self) -> Serving:
        if self._serving is None:
            raise StanzaError("service-unavailable")
        return self._serving


def _names(fields: str | Iterable[str]) -> frozenset[str]:
    return frozenset((fields,) if isinstance(fields, str) else fields)


def _only(names: frozenset[str], reading: Reading) -> Reading:
    """Without the fields that nobody asked for."""
    return replace(reading, fields=tuple(field for field in reading if not names or field.name in names))

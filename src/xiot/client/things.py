# SPDX-License-Identifier: Apache-2.0
"""Reading and controlling the things of others over a logged-in stream, and serving one of ours (`xiot.client.serving`).

Theory of operation. `Things` keeps for each read-out of its own what comes in messages; what nobody has asked for, or comes from
somebody else, is dropped.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio

from xiot.client.inbox import fresh
from xiot.client.outbox import Interrupted
from xiot.client.parts import joined, size_of
from xiot.client.requests import repeat
from xiot.client.serving import Serving
from xiot.core import JID
from xiot.errors import LinkError, StanzaError, XiotError
from xiot.model.control import Assignment, Parameter
from xiot.model.reading import CURRENT, Category, Kinds, Query, Reading, Value, categories, latest
from xiot.stanzas import iq
from xiot.xep import control, disco, sensordata

if TYPE_CHECKING:
    from xiot.ext import Session
    from xiot.iot.thing import Thing
    from xiot.model.thing import Answers

KEPT_BYTES = 16 * 2**20  # of one read-out of ours
CANCEL_S = 2.0  # for a cancellation to be sent
CANDIDATES = 8  # resources of an account that are asked whether they can be read


class _ReadOut:
    """A read-out of ours, until all has come."""

    def __init__(self, sender: JID) -> None:
        self.sender = sender
        self.readings: list[Reading] = []
        self.asked = False
        """The thing has answered that it reads."""
        self.done = anyio.Event()
        self.error: XiotError | None = None
        self._room = KEPT_BYTES
        self._complete = False  # the last has come

    def answered(self, first: Sequence[Reading] = (), *, more: bool = True) -> None:
        """Take the first answer; what follows it may have been seen before the task that waits for it could run."""
        self.asked = True
        later, self.readings = self.readings, []
        self.add(first, more=more)
        self.readings += later
        if self._complete:
            self.end()

    def add(self, readings: Sequence[Reading], *, more: bool) -> None:
        if self.done.is_set():
            return
        self._room -= sum(map(size_of, readings))
        if self._room < 0:
            self.end(XiotError(f"{self.sender} sends more than {KEPT_BYTES} bytes"))
            return
        self.readings += readings
        if not more:
            self._complete = True
            if self.asked:
                self.end()

    def end(self, error: XiotError | None = None) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()


class Things:
    """Reading and controlling things: ``me.things``."""

    def __init__(
        self, session: Session, once: Session, directory: disco.Directory, be_available: Callable[[], Awaitable[None]]
    ) -> None:
        """`once` repeats no request; `directory` is what the client tells of itself; `be_available` sends its presence."""
        self._session = session
        self._once = once
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
        return list(joined(ordered))

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
        with anyio.fail_after(seconds):
            to = await self._find(jid, sensordata.NS)
            readings = await repeat(lambda: self._ask(to, query, seconds))
        return [_only(query.fields, reading) for reading in readings]

    async def _ask(self, to: JID, query: Query, seconds: float) -> list[Reading]:
        """Under an id of its own: the thing may still be at work on what was asked before. Raises Interrupted if the stream is lost."""
        id = uuid4().hex
        self._read_outs[id] = read_out = _ReadOut(to)
        try:
            first = await sensordata.request(self._once, to, id, query, timeout=seconds)
            if first is None:
                read_out.answered()
            else:
                read_out.answered(sensordata.readings_of(first), more=first.more)
            await read_out.done.wait()
        except XiotError as error:
            read_out.end(error)
        finally:
            del self._read_outs[id]
            if not read_out.done.is_set():
                await self._cancel(to, id)
        if read_out.error is not None:
            raise fresh(read_out.error)
        return read_out.readings

    async def _cancel(self, to: JID, id: str) -> None:
        """Tell the thing that nobody waits any more; the answer does not matter."""
        if self._error is not None:
            return
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
            if error is None:
                read_out.add((), more=False)
            else:
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

    def interrupt(self) -> None:
        """The stream is lost: what a thing would have sent there does not come any more."""
        for read_out in self._read_outs.values():
            if read_out.asked:
                read_out.end(Interrupted())

    def end(self, error: XiotError | None) -> None:
        """There is no further stream."""
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

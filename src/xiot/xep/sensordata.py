# SPDX-License-Identifier: Apache-2.0
"""Sensor data of the Neuro-Foundation, ``urn:nfi:iot:sd:1.0``: its XML, and reading things by request, both ends.

Three generations of the namespace have the same elements: that of IEEE P1451.99, and the former and the present one of the
Neuro-Foundation. The data of all are read; the present one is written unless the caller says otherwise. Requests are
answered in the present one.

Theory of operation. A request (iq get) is answered by the data at once, or by a word that they will come: ``accepted`` if
the read-out starts later, ``started`` if it takes long. What follows comes in messages, with the id of the request: ``started``
after ``accepted``, any number of ``resp`` with ``more``, and as the end a ``resp`` without, or ``done``.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.ext import SESSION, Answering, Extension, Inbound, Session
from xiot.model.reading import CURRENT, EVERYTHING, Category, Field, FieldType, Quality, Query, Reading, parse
from xiot.model.thing import Device, Reader
from xiot.schema import Payload, PayloadError, any_children, attr, children, write_datetime
from xiot.stanzas import message

NS = "urn:nfi:iot:sd:1.0"
GENERATIONS = (NS, "urn:nf:iot:sd:1.0", "urn:ieee:iot:sd:1.0")
"""The namespaces that are read, the newest first."""

# It announces no feature: only who has a thing to read does so, for as long as it has one.
ext = Extension("sensordata", spec="Neuro-Foundation sensor data", version="1.0")

_TYPES: dict[str, FieldType] = {
    "q": "numeric",
    "s": "string",
    "b": "boolean",
    "i": "int",
    "l": "int",  # of 64 bits; "i" is of 32
    "d": "date",
    "dt": "dateTime",
    "dr": "duration",
    "t": "time",
    "e": "enum",
}
_NAMES = {type: name for name, type in _TYPES.items() if name != "l"}
_CATEGORIES = {
    "m": Category.MOMENTARY,
    "p": Category.PEAK,
    "s": Category.STATUS,
    "c": Category.COMPUTED,
    "i": Category.IDENTITY,
    "h": Category.HISTORICAL,
}
_QUALITIES = {
    "ms": Quality.MISSING,
    "pr": Quality.IN_PROGRESS,
    "ae": Quality.AUTOMATIC_ESTIMATE,
    "me": Quality.MANUAL_ESTIMATE,
    "mr": Quality.MANUAL_READOUT,
    "ar": Quality.AUTOMATIC_READOUT,
    "of": Quality.TIME_OFFSET,
    "w": Quality.WARNING,
    "er": Quality.ERROR,
    "so": Quality.SIGNED,
    "iv": Quality.INVOICED,
    "eos": Quality.END_OF_SERIES,
    "pf": Quality.POWER_FAILURE,
    "ic": Quality.INVOICE_CONFIRMED,
}


class Timestamp(Payload, tag=(NS, "ts")):
    """The fields a thing had at one moment."""

    v: str = attr()
    errors: tuple[str, ...] = children(name="err", default=())
    fields: tuple[Element, ...] = any_children(default=())


class Node(Payload, tag=(NS, "nd")):
    """What one of the nodes of a concentrator had, at one or more moments."""

    id: str = attr()
    src: str | None = attr(default=None)
    pt: str | None = attr(default=None)
    timestamps: tuple[Timestamp, ...] = children(default=())


class Response(Payload, tag=(NS, "resp")):
    """Sensor data: the answer to a request, or published."""

    id: str = attr()
    """That of the request; a publication answers none."""
    more: bool = attr(default=False)
    nodes: tuple[Node, ...] = children(default=())
    timestamps: tuple[Timestamp, ...] = children(default=())


class FieldName(Payload, tag=(NS, "f")):
    """A field that is asked for."""

    n: str = attr()


class Request(Payload, tag=(NS, "req")):
    """Asks for sensor data; the flags are the categories of `_CATEGORIES`."""

    id: str = attr()
    all: bool = attr(default=False)
    m: bool = attr(default=False)
    p: bool = attr(default=False)
    s: bool = attr(default=False)
    c: bool = attr(default=False)
    i: bool = attr(default=False)
    h: bool = attr(default=False)
    from_: str | None = attr(default=None)
    to: str | None = attr(default=None)
    when: str | None = attr(default=None)
    nodes: tuple[Node, ...] = children(default=())
    fields: tuple[FieldName, ...] = children(default=())


class Accepted(Payload, tag=(NS, "accepted")):
    """The read-out will start later; `queued` if not even its turn has come."""

    id: str = attr()
    queued: bool = attr(default=False)


class Started(Payload, tag=(NS, "started")):
    """The read-out has started; data will come in messages."""

    id: str = attr()


class Done(Payload, tag=(NS, "done")):
    """All data of the read-out have been sent."""

    id: str = attr()


class Cancel(Payload, tag=(NS, "cancel")):
    """Asks to stop a read-out; the answer is empty."""

    id: str = attr()


# ---- the thing's end ------------------------------------------------------------------------------------------


class _Answers:
    """The first answer is the result of the iq, all others are messages (an `xiot.model.thing.Answers`)."""

    def __init__(self, id: str, ctx: Answering) -> None:
        self._id = id
        self._ctx = ctx
        self.answered = False

    async def accepted(self) -> None:
        await self._send(Accepted(id=self._id, queued=True))

    async def started(self) -> None:
        await self._send(Started(id=self._id))

    async def readings(self, readings: Sequence[Reading], *, more: bool) -> None:
        await self._send(response(readings, id=self._id, more=more))

    async def failed(self, error: StanzaError) -> None:
        if not self.answered:
            raise error
        await self._send(Done(id=self._id))

    async def _send(self, payload: Payload) -> None:
        if self.answered:
            await self._ctx.send(message(payload.to_element(), to=self._ctx.sender))
        else:
            self.answered = True
            await self._ctx.reply(payload)


@ext.iq_get(Request, at=SESSION)
async def on_request(request: Request, ctx: Answering) -> None:
    """Have our thing read, and send what it gives."""
    if request.nodes:
        raise StanzaError("item-not-found", text="this thing has no nodes")
    answers = _Answers(request.id, ctx)
    query, when = _read_query(request)
    try:
        await ctx.service(Device).read_out(ctx.sender, request.id, query, when, answers)
    except StanzaError as error:
        await answers.failed(error)


@ext.iq_set(Cancel, at=SESSION)
def on_cancel(cancel: Cancel, ctx: Inbound) -> None:
    """Stop a read-out of the sender; there need not be one (it may just have ended)."""
    ctx.service(Device).cancel(ctx.sender, cancel.id)


def _read_query(request: Request) -> tuple[Query, datetime | None]:
    categories = EVERYTHING if request.all else Category(0)
    for attribute, category in _CATEGORIES.items():
        if getattr(request, attribute):
            categories |= category
    since, until, when = (_moment(text) for text in (request.from_, request.to, request.when))
    # Who names no category cannot mean that nothing be read.
    return Query(frozenset(field.n for field in request.fields), categories or CURRENT, since, until), when


def _moment(text: str | None) -> datetime | None:
    try:
        value = None if text is None else parse("dateTime", text)
    except ValueError:
        raise StanzaError("bad-request", text="not a date and time") from None
    assert value is None or isinstance(value, datetime)
    return value


# ---- the reader's end -----------------------------------------------------------------------------------------


async def request(
    session: Session,
    to: JID,
    id: str,
    query: Query,
    *,
    when: datetime | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - that of the request
) -> Response | None:
    """Ask `to` for sensor data; returns what comes with the answer, None if all of it comes in messages.

    Raises as `Session.request`, and PayloadError if the answer is none.
    """
    everything = query.categories == EVERYTHING
    flags: dict[str, Any] = {
        name: True for name, category in _CATEGORIES.items() if category in query.categories and not everything
    }
    asked = Request(
        id=id,
        all=everything,
        from_=None if query.since is None else write_datetime(query.since),
        to=None if query.until is None else write_datetime(query.until),
        when=None if when is None else write_datetime(when),
        fields=tuple(FieldName(n=name) for name in sorted(query.fields)),
        **flags,
    )
    answer = await session.request("get", asked, to=to, timeout=timeout)
    if answer is not None and answer.tag in (Accepted.TAG, Started.TAG):
        return None
    return Response.from_element(answer)


@ext.message(Response, at=SESSION)
def on_response(response: Response, ctx: Inbound) -> None:
    """Take data that come behind the answer."""
    reader = ctx.service(Reader)
    try:
        reader.on_readings(ctx.sender, response.id, readings_of(response), more=response.more)
    except ValueError as error:
        reader.on_done(ctx.sender, response.id, PayloadError("resp", str(error)[:200]))


@ext.message(Done, at=SESSION)
def on_done(done: Done, ctx: Inbound) -> None:
    """Take the end of a read-out."""
    ctx.service(Reader).on_done(ctx.sender, done.id)


@ext.message(Started, at=SESSION)
def on_started(_: Started, ctx: Inbound) -> None:
    """Nothing changes: who waits for data goes on waiting."""


# ---- data -----------------------------------------------------------------------------------------------------


def response(readings: Sequence[Reading], *, id: str = "", more: bool = False) -> Response:
    """Return `readings` as the answer to the request `id`."""
    moments = (
        Timestamp(v=write_datetime(one.timestamp), errors=one.errors, fields=tuple(map(_write_field, one)))
        for one in readings
    )
    return Response(id=id, more=more, timestamps=tuple(moments))


def write(reading: Reading, *, id: str = "", ns: str = NS) -> Element:
    """Return `reading` as a ``<resp/>`` of the generation `ns`, with the id of the request it answers, if any."""
    return _renamed(response([reading], id=id).to_element(), NS, ns)


def read(el: Element) -> Reading:
    """Return the newest reading in `el`: a ``<resp/>``, ``<nd/>`` or ``<ts/>`` of any generation.

    Raises ValueError if there is none, or if something in it does not fit.
    """
    found = readings(el)
    if not found:
        raise ValueError("sensor data without a timestamp")
    return max(found, key=lambda reading: reading.timestamp)


def readings(el: Element) -> Sequence[Reading]:
    """Return all readings in `el`, those of all nodes, in their order. Raises ValueError if something does not fit."""
    el = _renamed(el, el.ns, NS) if el.ns in GENERATIONS else el
    if el.name == Timestamp.QNAME[1]:
        return [_read_moment(Timestamp.from_element(el))]
    if el.name == Node.QNAME[1]:
        return [_read_moment(moment) for moment in Node.from_element(el).timestamps]
    return readings_of(Response.from_element(el))


def readings_of(response: Response) -> Sequence[Reading]:
    """Return all readings in `response`, those of all nodes, in their order. Raises ValueError if something does not fit."""
    moments = [*response.timestamps, *(moment for node in response.nodes for moment in node.timestamps)]
    return [_read_moment(moment) for moment in moments]


def _read_moment(moment: Timestamp) -> Reading:
    timestamp = parse("dateTime", moment.v)
    assert isinstance(timestamp, datetime)
    fields = tuple(_read_field(el) for el in moment.fields if el.ns == NS and el.name in _TYPES)
    return Reading(timestamp, fields, moment.errors)


def _write_field(field: Field) -> Element:
    name = "l" if field.type == "int" and not -(2**31) <= int(field.text) < 2**31 else _NAMES[field.type]
    el = Element(f"{{{NS}}}{name}", {"n": field.name, "v": field.text})
    if field.unit is not None:
        el.set("u", field.unit)
    if field.data_type is not None:
        el.set("t", field.data_type)
    for attribute, category in _CATEGORIES.items():
        if category in field.categories:
            el.set(attribute, "true")
    for attribute, quality in _QUALITIES.items():
        if quality in field.quality:
            el.set(attribute, "true")
    return el


def _read_field(el: Element) -> Field:
    kind, name, text = _TYPES[el.name], el.get("n"), el.get("v")
    if name is None or text is None:
        raise PayloadError(el.name, "a field has a name and a value")
    categories, quality = Category(0), Quality(0)
    for attribute, value in el.attrib.items():
        if attribute in _CATEGORIES and parse("boolean", value):
            categories |= _CATEGORIES[attribute]
        elif attribute in _QUALITIES and parse("boolean", value):
            quality |= _QUALITIES[attribute]
    unit = el.get("u") if kind == "numeric" else None
    data_type = el.get("t", "") if kind == "enum" else None
    return Field(name, parse(kind, text), unit, kind, categories, quality, data_type)


def _renamed(el: Element, ns: str, to: str) -> Element:
    """Return a copy of `el` whose elements of the namespace `ns` are of the namespace `to`."""
    if ns == to:
        return el
    copy = Element(f"{{{to}}}{el.name}" if el.ns == ns else el.tag, el.attrib, el.text)
    copy.tail = el.tail
    copy.extend(_renamed(child, ns, to) for child in el)
    return copy

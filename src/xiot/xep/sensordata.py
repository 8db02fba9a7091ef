# SPDX-License-Identifier: Apache-2.0
"""Sensor data of the Neuro-Foundation, ``urn:nfi:iot:sd:1.0``, as XML of a `Reading`.

Three generations of the namespace have the same elements: that of IEEE P1451.99, and the former and the present one of the
Neuro-Foundation. All are read; the present one is written unless the caller says otherwise.
"""

from collections.abc import Sequence
from datetime import datetime

from _xmppcore import Element
from xiot.ext import Extension
from xiot.model.reading import Category, Field, FieldType, Quality, Reading, parse
from xiot.schema import Payload, PayloadError, any_children, attr, children, write_datetime

NS = "urn:nfi:iot:sd:1.0"
GENERATIONS = (NS, "urn:nf:iot:sd:1.0", "urn:ieee:iot:sd:1.0")
"""The namespaces that are read, the newest first."""

# No feature is announced: who does so promises to answer requests as well, which is not built yet.
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


def write(reading: Reading, *, id: str = "", ns: str = NS) -> Element:
    """Return `reading` as a ``<resp/>`` of the generation `ns`, with the id of the request it answers, if any."""
    moment = Timestamp(v=write_datetime(reading.timestamp), fields=tuple(map(_write_field, reading)))
    return _renamed(Response(id=id, timestamps=(moment,)).to_element(), NS, ns)


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
        moments: Sequence[Timestamp] = (Timestamp.from_element(el),)
    elif el.name == Node.QNAME[1]:
        moments = Node.from_element(el).timestamps
    else:
        response = Response.from_element(el)
        moments = [*response.timestamps, *(moment for node in response.nodes for moment in node.timestamps)]
    return [_read_moment(moment) for moment in moments]


def _read_moment(moment: Timestamp) -> Reading:
    timestamp = parse("dateTime", moment.v)
    assert isinstance(timestamp, datetime)
    return Reading(timestamp, tuple(_read_field(el) for el in moment.fields if el.ns == NS and el.name in _TYPES))


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

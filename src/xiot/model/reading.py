# SPDX-License-Identifier: Apache-2.0
"""Readings: what a thing measured at a moment, in the terms that all generations of sensor data share.

Those are XEP-0323 and the sensor data of the Neuro-Foundation (``urn:nfi:iot:sd:1.0``); each has its own wire form in
`xiot.xep`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from xiot.model import units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FieldType = Literal["numeric", "string", "boolean", "int", "date", "dateTime", "duration", "time", "enum"]
Value: TypeAlias = bool | int | float | Decimal | str | datetime | date | time | timedelta


class Category(enum.Flag):
    """What kind of value a field has; a reader can ask for some of them."""

    MOMENTARY = enum.auto()
    PEAK = enum.auto()
    STATUS = enum.auto()
    COMPUTED = enum.auto()
    IDENTITY = enum.auto()
    HISTORICAL = enum.auto()


class Quality(enum.Flag):
    """What is known of how a value came about (XEP-0323 section 3.1, quality of service)."""

    MISSING = enum.auto()
    IN_PROGRESS = enum.auto()
    AUTOMATIC_ESTIMATE = enum.auto()
    MANUAL_ESTIMATE = enum.auto()
    MANUAL_READOUT = enum.auto()
    AUTOMATIC_READOUT = enum.auto()
    TIME_OFFSET = enum.auto()
    WARNING = enum.auto()
    ERROR = enum.auto()
    SIGNED = enum.auto()
    INVOICED = enum.auto()
    END_OF_SERIES = enum.auto()
    POWER_FAILURE = enum.auto()
    INVOICE_CONFIRMED = enum.auto()


_BY_VALUE: Any = None


@dataclass(frozen=True, slots=True)
class Field:
    """A named value: ``field.value`` in ``field.unit``; ``str(field)`` is both, ``float(field)`` the number.

    A numeric value is a float if that says exactly the same in its shortest decimal form, else a Decimal; so a number
    has the same value after any number of journeys, whether it was given as int, float or Decimal.
    """

    name: str
    value: Value
    unit: str | None = None
    """A code of `xiot.model.units`, or any text; only numeric fields have one."""
    type: FieldType = _BY_VALUE
    """If not given, what goes with the Python type of the value, and numeric if there is a unit."""
    categories: Category = Category.MOMENTARY
    quality: Quality = Quality.AUTOMATIC_READOUT
    data_type: str | None = None
    """What an enumeration is called; only fields of type enum have it."""

    def __post_init__(self) -> None:
        if not self.name or not _CARRIED.fullmatch(self.name) or any(c in self.name for c in "\t\n\r"):
            raise ValueError(f"not the name of a field: {self.name!r}")
        if self.type is _BY_VALUE:
            object.__setattr__(self, "type", "numeric" if self.unit is not None else _type_of(self.value))
        if (self.data_type is not None) != (self.type == "enum"):
            raise ValueError(f"{self.name}: an enumeration has a data type, and nothing else has")
        if not _CARRIED.fullmatch(self.data_type or ""):
            raise ValueError(f"{self.name}: not the name of a data type: {self.data_type!r}")
        if self.unit is not None and (self.type != "numeric" or not _CARRIED.fullmatch(self.unit)):
            raise ValueError(f"{self.name}: {self.value!r} cannot have the unit {self.unit!r}")
        object.__setattr__(self, "value", _checked(self.name, self.type, self.value))

    @property
    def text(self) -> str:
        """The value in the lexical form of XML Schema, as `parse` reads it."""
        return _text(self.value)

    @property
    def decimal(self) -> Decimal:
        """The number exactly, as text and Decimal have it. Raises ValueError if the field is not a number."""
        if self.type not in ("numeric", "int"):
            raise ValueError(f"{self.name} is not a number")
        return Decimal(self.text)

    def __float__(self) -> float:
        return float(self.decimal)

    def __str__(self) -> str:
        return self.text if self.unit is None else f"{self.text} {units.symbol(self.unit)}"


@dataclass(frozen=True, slots=True)
class Reading:
    """The fields that a thing had at `timestamp`: ``reading["temperature"]`` is a `Field`.

    Iteration gives all of them, in order. Two fields of one name are possible (its momentary and its peak value); the
    first counts.
    """

    timestamp: datetime
    fields: tuple[Field, ...]
    errors: tuple[str, ...] = ()
    """What could not be read, in words for people."""

    def __post_init__(self) -> None:
        if self.timestamp.tzinfo is None:
            raise ValueError("the timestamp of a reading has a time zone")
        if not all(map(_CARRIED.fullmatch, self.errors)):
            raise ValueError("the text of an error has characters that XML has no place for")

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(field.name == name for field in self.fields)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)


def latest(readings: Iterable[Reading]) -> Reading:
    """Return the newest values of `readings` as one reading: of each name and kind the newest field, and all errors.

    Its timestamp is the newest. Raises ValueError if there are no readings.
    """
    ordered = sorted(readings, key=lambda reading: reading.timestamp)
    if not ordered:
        raise ValueError("no reading")
    fields = {(field.name, field.categories): field for reading in ordered for field in reading}
    errors = dict.fromkeys(error for reading in ordered for error in reading.errors)
    return Reading(ordered[-1].timestamp, tuple(fields.values()), tuple(errors))


EVERYTHING = ~Category(0)
CURRENT = EVERYTHING & ~Category.HISTORICAL
"""What a thing has now."""

Kinds: TypeAlias = "Category | str | Iterable[str]"
"""Categories, as such or by their names: ``"momentary"``, ``["peak", "status"]``."""


def categories(kinds: Kinds) -> Category:
    """Return the categories that `kinds` names. Raises ValueError if there is one that does not exist."""
    if isinstance(kinds, Category):
        return kinds
    found = Category(0)
    for kind in (kinds,) if isinstance(kinds, str) else kinds:
        member = Category.__members__.get(kind.upper())
        if member is None:
            raise ValueError(f"{kind!r} is not one of {', '.join(c.lower() for c in Category.__members__)}")
        found |= member
    return found


@dataclass(frozen=True, slots=True)
class Query:
    """Which values a read-out asks for."""

    fields: frozenset[str] = frozenset()
    """The names of the fields; none: all of them."""
    categories: Category = CURRENT
    since: datetime | None = None
    until: datetime | None = None
    """The time span of the values, its ends included."""

    def covers(self, moment: datetime) -> bool:
        """Return whether `moment` is in the time span."""
        return (self.since is None or self.since <= moment) and (self.until is None or moment <= self.until)

    def wants(self, name: str, categories: Category) -> bool:
        """Return whether a field of that name, in one of `categories`, is asked for."""
        return (not self.fields or name in self.fields) and bool(self.categories & categories)


def reading(
    at: datetime | None = None, /, **fields: Value | enum.Enum | tuple[float | Decimal, str] | Field
) -> Reading:
    """Return a reading made now, or `at`, which has a time zone: ``reading(temperature=(21.5, "Cel"), open=True)``.

    A field is a value, a (number, unit) pair, or a `Field`, which takes the name of its keyword.
    Raises ValueError if a value cannot be sent: NaN, infinite, without a time zone, with characters that XML has no
    place for.
    """
    if not fields:
        raise ValueError("a reading has at least one field")
    return Reading(at or datetime.now(UTC), tuple(field(name, value) for name, value in fields.items()))


def field(name: str, value: Value | enum.Enum | tuple[float | Decimal, str] | Field) -> Field:
    """Return `value` as the field `name`: as it is, a (number, unit) pair, or a `Field` of any name. Raises ValueError."""
    match value:
        case Field():
            return replace(value, name=name)
        case enum.Enum():
            return Field(name, value.name, type="enum", data_type=type(value).__name__)
        case (number, unit):
            return Field(name, number, unit)
        case _:
            return Field(name, value)


# ---- values ----------------------------------------------------------------------------------------------

# XML 1.0 section 2.2, production Char.
_CARRIED = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_NUMERIC = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_INT = re.compile(r"[+-]?[0-9]{1,40}")
_ZONE = r"(Z|[+-][0-9]{2}:[0-9]{2})?"
_DATE = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}){_ZONE}")
_TIME = re.compile(rf"[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]+)?{_ZONE}")
_DATETIME = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_TIME.pattern}")
_DURATION = re.compile(
    r"(-)?P(?=.)(?:([0-9]{1,9})D)?(?:T(?=.)(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)S)?)?"
)
_TYPES: dict[type, FieldType] = {
    bool: "boolean",
    int: "int",
    float: "numeric",
    Decimal: "numeric",
    str: "string",
    datetime: "dateTime",
    date: "date",
    time: "time",
    timedelta: "duration",
}
"""In this order: to Python, a bool is an int, and a datetime a date."""


def parse(type: FieldType, text: str) -> Value:
    """Return the value that `text` is in the lexical form of XML Schema, to the microsecond.

    Raises ValueError if it is none. A dateTime without a time zone counts as UTC (the examples of XEP-0323 have none);
    of a date, the zone is left away. A duration with years or months is refused: nobody knows how long it is.
    """
    match type:
        case "numeric":
            return _number(Decimal(_matched(_NUMERIC, text)))
        case "int":
            return int(_matched(_INT, text))
        case "boolean":
            return _matched(re.compile("true|false|1|0"), text) in ("true", "1")
        case "dateTime":
            moment = datetime.fromisoformat(_matched(_DATETIME, text))
            return _in_utc(moment) if moment.tzinfo else moment.replace(tzinfo=UTC)
        case "date":
            return date.fromisoformat(_matched(_DATE, text)[:10])
        case "time":
            return time.fromisoformat(_matched(_TIME, text))
        case "duration":
            return _duration(text)
        case "string" | "enum":
            return text


def _matched(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"not a value: {text[:100]!r}")
    return text


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration of days, hours, minutes and seconds: {text[:100]!r}")
    sign, days, hours, minutes, seconds = match.groups("0")
    try:
        length = timedelta(int(days), int(Decimal(seconds)), 0, 0, int(minutes), int(hours))
        length += timedelta(microseconds=int(Decimal(seconds) % 1 * 10**6))
    except OverflowError:
        raise ValueError(f"a duration of more than {timedelta.max.days} days: {text}") from None
    return -length if sign == "-" else length


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("not within the years 1 to 9999 in UTC") from None


def _text(value: Value) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return repr(value).removesuffix(".0")
        case timedelta():
            return _duration_text(value)
        case datetime():
            return _in_utc(value).isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case _:
            return str(value)


def _duration_text(value: timedelta) -> str:
    length = abs(value)
    seconds = f"{length.seconds}.{length.microseconds:06}".rstrip("0").rstrip(".")
    return f"{'-' if value < timedelta(0) else ''}P{length.days}DT{seconds}S"


def _type_of(value: Value) -> FieldType:
    for python_type, kind in _TYPES.items():
        if isinstance(value, python_type):
            return kind
    raise ValueError(f"not a value that a field can have: {value!r}")


def _checked(name: str, kind: FieldType, value: Value) -> Value:
    """Return `value` as a field of type `kind` keeps it."""
    match kind, value:
        case ("boolean", bool()) | ("time", time()) | ("duration", timedelta()):
            return value
        case "string" | "enum", str() if _CARRIED.fullmatch(value):
            return value
        case "dateTime", datetime() if value.tzinfo is not None:
            return value
        case "date", date() if not isinstance(value, datetime):
            return value
        case "int", int() if not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return value
        case "numeric", float():
            return _number(Decimal(float.__repr__(value)))  # not that of a subclass such as NumPy's
        case "numeric", int() | Decimal() if not isinstance(value, bool):
            return _number(Decimal(value))
    raise ValueError(f"{name}: {value!r} cannot be sent as {kind}")


def _number(exact: Decimal) -> float | Decimal:
    """Return `exact` as a float if its shortest form is the same number, else as it is."""
    if not exact.is_finite():
        raise ValueError(f"not a number that can be sent: {exact}")
    nearest = float(exact)
    if nearest in (float("inf"), float("-inf")):
        raise ValueError("beyond what a double can hold")  # XML Schema part 2, section 3.2.5
    return nearest if Decimal(repr(nearest)) == exact else exact

# SPDX-License-Identifier: Apache-2.0
"""A thing: functions that read its fields and set its parameters, and who may do so.

boiler = Thing("boiler")

@boiler.field("temperature", unit="Cel")
def temperature() -> float: ...

@boiler.control("setpoint", unit="Cel", low=5, high=90)
async def setpoint(value: float) -> None: ...
"""

from __future__ import annotations

import enum
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from xiot.model.control import Parameter
from xiot.model.reading import (
    Category,
    Field,
    FieldType,
    Kinds,
    Reading,
    Value,
    categories,
    field,
)

if TYPE_CHECKING:
    from _xmppcore import JID

Given = Value | enum.Enum | Field
Probe = TypeVar("Probe", bound=Callable[[], Given | Awaitable[Given]])
Setter = TypeVar("Setter", bound=Callable[[Any], Awaitable[None] | None])
Readings = Iterable[Reading]
Past = Callable[[datetime | None, datetime | None], Readings | Awaitable[Readings]]
History = TypeVar("History", bound=Past)
Purpose = Literal["read", "control"]

log = logging.getLogger(__name__)

_TYPES: dict[Any, FieldType] = {
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


@dataclass(frozen=True, slots=True)
class FieldSource:
    """A field, and the function that reads it."""

    name: str
    unit: str | None
    categories: Category
    function: Callable[[], Given | Awaitable[Given]]

    def field(self, value: Given) -> Field:
        """Return what the function gave as a field. Raises ValueError if it cannot be sent."""
        if isinstance(value, Field):
            return replace(value, name=self.name)
        plain = (value, self.unit) if self.unit is not None and not isinstance(value, enum.Enum) else value
        return replace(field(self.name, typing.cast("Any", plain)), categories=self.categories)


@dataclass(frozen=True, slots=True)
class Control:
    """A parameter, and the function that sets it."""

    parameter: Parameter
    function: Callable[[Any], Awaitable[None] | None]
    convert: Callable[[Value], Any]
    """From the value that was checked to what the function takes."""


class Thing:
    """What can be read and set, by name."""

    def __init__(self, name: str, *, allow: Callable[[JID, Purpose], bool] | None = None, limit_s: float = 5.0) -> None:
        """`allow` decides who may read or control, by the requester's full JID; without it, only our own account may
        (contacts of the roster may not yet).

        `limit_s`: seconds that one function may take; whoever takes longer has failed.
        """
        if limit_s <= 0:
            raise ValueError("a function needs more than no time")
        self.name = name
        self.limit_s = limit_s
        self.fields: list[FieldSource] = []
        self.controls: dict[str, Control] = {}
        self.past: Past | None = None
        """What gives historical readings."""
        self._allow = allow

    def field(
        self, name: str, *, unit: str | None = None, kind: Kinds = Category.MOMENTARY
    ) -> Callable[[Probe], Probe]:
        """Have the function read the field `name`, a number in `unit` or any value that a `Field` can have.

        A plain function runs in a thread, so that a slow probe holds nothing up; an ``async def`` on the event loop.
        The functions of a thing are called one after another. It may also return a `Field`, for a quality of its own.
        Raises ValueError if there is a field of that name and kind.
        """
        of = categories(kind)
        Field(name, "" if unit is None else 0, unit)  # its rules for names and units
        if any(source.name == name and source.categories & of for source in self.fields):
            raise ValueError(f"there is a field {name!r} of that kind")

        def register(function: Probe) -> Probe:
            self.fields.append(FieldSource(name, unit, of, function))
            return function

        return register

    def control(
        self, name: str, *, unit: str | None = None, low: float | None = None, high: float | None = None
    ) -> Callable[[Setter], Setter]:
        """Have the function set the parameter `name`; it is called with a value that has the type of its annotation.

        That is float, int, Decimal, bool, str, an Enum, a Literal of texts, datetime, date, time or timedelta. A
        ValueError that it raises is told to the requester, with its text. Plain functions run in a thread, as in `field`.
        Raises ValueError if there is such a control, TypeError if the annotation is none of these.
        """
        if name in self.controls:
            raise ValueError(f"there is a control {name!r}")

        def register(function: Setter) -> Setter:
            hint = _annotation(function)
            type, options, data_type, convert = _kind_of(hint)
            parameter = Parameter(name, type, unit, low, high, options, data_type)
            self.controls[name] = Control(parameter, function, convert)
            return function

        return register

    def history(self, function: History) -> History:
        """Have the function give the readings from one time to another, both included; None is without end."""
        self.past = function
        return function

    def may(self, requester: JID, own: JID, purpose: Purpose) -> bool:
        """Return whether `requester` may read or control us, who are `own`."""
        if self._allow is None:
            return requester.bare == own.bare
        try:
            return bool(self._allow(requester, purpose))
        except Exception:
            log.exception("%s: who may %s cannot be decided", self.name, purpose)
            return False


def _annotation(function: Callable[[Any], Any]) -> Any:
    parameters = list(inspect.signature(function).parameters)
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise TypeError(f"the annotation of {function.__name__} cannot be read: {error}") from None
    if not parameters or parameters[0] not in hints:
        raise TypeError(f"{function.__name__} takes one value, with its type as annotation")
    return hints[parameters[0]]


def _kind_of(hint: Any) -> tuple[FieldType, tuple[str, ...], str | None, Callable[[Value], Any]]:
    """The type of the parameter, its options, the name of an enumeration, and how a value becomes what the function takes."""
    if typing.get_origin(hint) is Literal and all(isinstance(option, str) for option in typing.get_args(hint)):
        return "string", typing.get_args(hint), None, _same
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        members = hint.__members__
        return "enum", tuple(members), hint.__name__, lambda value: members[str(value)]
    if hint not in _TYPES:
        raise TypeError(f"a parameter cannot have the type {hint!r}")
    convert: dict[Any, Callable[[Any], Any]] = {float: float, Decimal: lambda value: Decimal(str(value))}
    return _TYPES[hint], (), None, convert.get(hint, _same)


def _same(value: Value) -> Value:
    return value

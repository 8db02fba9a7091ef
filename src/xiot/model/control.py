# SPDX-License-Identifier: Apache-2.0
"""Control: what can be set in a thing, and whether a value fits, in the terms that all generations share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from xiot.errors import StanzaError
from xiot.model import units
from xiot.model.reading import Field, FieldType, Value, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FITS: dict[FieldType, set[FieldType]] = {"numeric": {"int"}, "enum": {"string"}, "string": {"enum"}}
"""What a parameter takes beside its own type: an integer is a number, and a name of an enumeration a text."""


class ParameterError(StanzaError):
    """A value was not set: `parameter` says which, `text` why."""

    def __init__(self, condition: str, parameter: str, text: str, type: str | None = None) -> None:
        super().__init__(condition, type, text)
        self.args = (f"{parameter}: {text}",)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Assignment:
    """One parameter that is to be set."""

    parameter: str
    text: str
    """The value in the lexical form of XML Schema."""
    type: FieldType | None = None
    """As what the value was sent; None: as the parameter has it."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something that can be set: a number (between `low` and `high`), one of `options`, or any value of its type."""

    name: str
    type: FieldType
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()
    data_type: str | None = None
    """What an enumeration is called."""
    label: str | None = None
    """The name for people."""
    value: Value | None = None
    """What it is set to, if that is known."""

    def __post_init__(self) -> None:
        Field(self.name, "")  # its rules for names are ours
        if self.type not in ("numeric", "int") and (self.unit, self.low, self.high) != (None, None, None):
            raise ValueError(f"{self.name}: only a number has a unit or limits")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.name}: nothing is between {self.low} and {self.high}")

    @property
    def title(self) -> str:
        """The label, or else the name and the unit."""
        return self.label or (self.name if self.unit is None else f"{self.name} ({units.symbol(self.unit)})")

    def check(self, given: Assignment) -> Value:
        """Return the value that `given` sets. Raises ParameterError (``bad-request``) if it is none of ours."""
        if given.type not in (None, self.type) and given.type not in _FITS.get(self.type, ()):
            raise self._refusal(f"a value of type {self.type} is needed, not {given.type}")
        try:
            value = self._field(parse(self.type, given.text)).value
        except ValueError:
            raise self._refusal(f"not a value of type {self.type}") from None
        if self.options and value not in self.options:
            raise self._refusal(f"not one of {', '.join(self.options)}")
        if isinstance(value, int | float | Decimal):
            if self.low is not None and value < self.low:
                raise self._refusal(f"less than {_plain(self.low)}")
            if self.high is not None and value > self.high:
                raise self._refusal(f"more than {_plain(self.high)}")
        return value

    def text_of(self, value: Value) -> str:
        """Return `value` in the lexical form of XML Schema. Raises ValueError if it does not have our type."""
        return self._field(value).text

    def having(self, value: Value) -> Parameter:
        """Return the same with `value` as what it is set to."""
        return replace(self, value=value)

    def _field(self, value: Value) -> Field:
        return Field(self.name, value, type=self.type, data_type=self.data_type)

    def _refusal(self, text: str) -> ParameterError:
        return ParameterError("bad-request", self.name, text)


def _plain(number: float) -> str:
    return Field("limit", number, type="numeric").text


def check_all(parameters: Mapping[str, Parameter], given: Iterable[Assignment]) -> dict[str, Value]:
    """Return all values by name, in the order of `given`; only if all of them fit may any be set.

    Raises ParameterError: ``item-not-found`` for a parameter that does not exist, ``bad-request`` for a value that does
    not fit or a parameter that is set twice.
    """
    values: dict[str, Value] = {}
    for assignment in given:
        name = assignment.parameter
        parameter = parameters.get(name)
        if parameter is None:
            raise ParameterError("item-not-found", name[:100], "there is no such parameter")
        if name in values:
            raise ParameterError("bad-request", name, "set twice")
        values[name] = parameter.check(assignment)
    return values

# SPDX-License-Identifier: Apache-2.0
"""What a thing declares."""

from __future__ import annotations

import enum
import subprocess
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest

from xiot.core import JID
from xiot.iot.thing import Thing
from xiot.model.reading import Category, Field, Quality


class Mode(enum.Enum):
    OFF = 0
    HEAT = 1


def test_what_a_function_gives_becomes_a_field_of_its_kind() -> None:
    thing = Thing("t")
    thing.field("a", unit="Cel", kind="peak")(lambda: 1)
    thing.field("b", kind=["status", "computed"])(lambda: Mode.HEAT)
    a, b = thing.fields
    assert a.field(21) == Field("a", 21, "Cel", categories=Category.PEAK)
    assert b.field(Mode.HEAT) == Field(
        "b", "HEAT", type="enum", data_type="Mode", categories=Category.STATUS | Category.COMPUTED
    )
    own = Field("other", 5, "K", quality=Quality.MANUAL_ESTIMATE)
    assert a.field(own) == Field("a", 5, "K", quality=Quality.MANUAL_ESTIMATE)
    for bad in (float("inf"), None, object(), "text", [1]):
        with pytest.raises(ValueError):
            a.field(bad)  # type: ignore[arg-type]


def test_a_name_is_given_once_for_each_kind() -> None:
    thing = Thing("t")
    thing.field("a")(lambda: 1)
    thing.field("a", kind="peak")(lambda: 2)
    with pytest.raises(ValueError, match="there is a field 'a'"):
        thing.field("a", kind=["momentary", "status"])
    thing.control("a")(set_int)
    with pytest.raises(ValueError, match="there is a control 'a'"):
        thing.control("a")
    for name in ("", "a\nb", "\x00"):
        with pytest.raises(ValueError):
            thing.field(name)
        with pytest.raises(ValueError):
            thing.control(name)(set_int)


def set_int(value: int) -> None: ...


@pytest.mark.parametrize(
    ("hint", "type", "given", "taken"),
    [
        (float, "numeric", 2.0, 2.0),
        (Decimal, "numeric", 2.5, Decimal("2.5")),
        (int, "int", 2, 2),
        (bool, "boolean", True, True),
        (str, "string", "x", "x"),
        (Mode, "enum", "HEAT", Mode.HEAT),
        (Literal["a", "b"], "string", "b", "b"),
        (datetime, "dateTime", datetime.min, datetime.min),
        (date, "date", date.min, date.min),
        (time, "time", time.min, time.min),
        (timedelta, "duration", timedelta(1), timedelta(1)),
    ],
)
def test_the_annotation_says_what_a_control_takes(hint: Any, type: str, given: Any, taken: Any) -> None:
    def setter(value: Any) -> None: ...

    setter.__annotations__["value"] = hint
    thing = Thing("t")
    thing.control("x")(setter)
    control = thing.controls["x"]
    assert control.parameter.type == type
    assert control.convert(given) == taken
    assert control.convert(given).__class__ is taken.__class__


def test_a_control_without_a_type_is_refused() -> None:
    def bare(value): ...  # type: ignore[no-untyped-def]

    def none() -> None: ...

    def unknown(value: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    def wrong(value: list[int]) -> None: ...

    for setter in (bare, none, unknown, wrong):
        with pytest.raises(TypeError):
            Thing("t").control("x")(setter)  # type: ignore[arg-type]


def test_only_the_own_account_may_unless_told_otherwise() -> None:
    own = JID("boiler@plant.example/thing")
    thing = Thing("t")
    assert thing.may(JID("boiler@plant.example/app"), own, "control")
    assert not thing.may(JID("boiler@other.example/app"), own, "read")
    assert not thing.may(JID("plant.example"), own, "read")
    closed = Thing("t", allow=lambda who, purpose: purpose == "read" and who.local == "app")
    assert closed.may(JID("app@plant.example/x"), own, "read")
    assert not closed.may(JID("app@plant.example/x"), own, "control")
    assert not closed.may(own, own, "read")


def test_a_thing_loads_no_event_loop() -> None:
    code = "import sys, xiot; xiot.Thing('t'); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert not {"trio", "anyio", "asyncio", "sqlalchemy", "xiot.server"} & set(loaded.stdout.split())

# SPDX-License-Identifier: Apache-2.0
"""Readings: what may be said, and that it stays the same."""

import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiot.model.reading import Category, Field, Quality, Reading, parse, reading

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)


class Door(enum.Enum):
    """An enumeration of a thing."""

    OPEN = 1
    SHUT = 2


def test_pair_is_a_number_with_its_unit() -> None:
    made = reading(NOW, temperature=(21.5, "Cel"))
    assert made == Reading(NOW, (Field("temperature", 21.5, "Cel", "numeric"),))
    field = made["temperature"]
    assert (field.value, field.unit, float(field), str(field)) == (21.5, "Cel", 21.5, "21.5 °C")


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (True, "boolean", "true"),
        (7, "int", "7"),
        (21.0, "numeric", "21"),
        (Decimal("0.10"), "numeric", "0.1"),
        (1e-7, "numeric", "1e-07"),
        ("on", "string", "on"),
        (NOW, "dateTime", "2026-11-22T08:30:00Z"),
        (NOW.astimezone(timezone(timedelta(hours=2))), "dateTime", "2026-11-22T08:30:00Z"),
        (date(2026, 11, 22), "date", "2026-11-22"),
        (time(8, 30), "time", "08:30:00"),
        (timedelta(days=1, seconds=90.5), "duration", "P1DT90.5S"),
        (-timedelta(seconds=1), "duration", "-P0DT1S"),
    ],
)
def test_type_follows_from_the_value(value: Any, type: str, text: str) -> None:
    field = reading(NOW, x=value)["x"]
    assert (field.type, field.text) == (type, text)
    assert parse(field.type, text) == field.value


def test_enumeration_is_named_after_its_class() -> None:
    field = reading(NOW, door=Door.OPEN)["door"]
    assert (field.value, field.type, field.data_type, str(field)) == ("OPEN", "enum", "Door", "OPEN")


def test_field_takes_the_name_of_its_keyword() -> None:
    field = Field("x", 3, "Cel", categories=Category.PEAK | Category.COMPUTED, quality=Quality.MANUAL_ESTIMATE)
    made = reading(NOW, temperature=field)["temperature"]
    assert (made.name, made.value, made.categories, made.quality) == ("temperature", 3, field.categories, field.quality)


def test_reading_without_a_moment_is_of_now() -> None:
    before = datetime.now(UTC)
    assert before <= reading(x=1).timestamp <= datetime.now(UTC)


def test_fields_are_found_by_name_and_come_in_order() -> None:
    first, peak, other = Field("t", 1), Field("t", 2, categories=Category.PEAK), Field("p", 3)
    made = Reading(NOW, (first, peak, other))
    assert (made["t"], list(made), len(made)) == (first, [first, peak, other], 3)
    assert "p" in made
    assert "q" not in made
    with pytest.raises(KeyError):
        made["q"]


def test_number_is_the_same_however_it_is_given() -> None:
    assert Field("x", 0.1) == Field("x", Decimal("0.10"))
    assert Field("x", 21, "Cel") == Field("x", 21.0, "Cel")


def test_digits_that_a_float_would_lose_are_kept() -> None:
    field = Field("energy", Decimal("123456789012345.678901"), "kWh")
    assert (field.value, field.text, field.decimal) == (field.decimal, str(field.decimal), parse("numeric", field.text))
    assert Field("n", 2**53 + 1, "count").text == str(2**53 + 1)


@pytest.mark.parametrize(
    "value",
    [
        *[float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity"), Decimal("1e400"), 2**63],
        *["\0", "\ud800", datetime(2026, 1, 1), b"", None, object()],
        *[(1, "bad\x01unit"), ("text", "Cel"), (True, "Cel")],
    ],
)
def test_what_cannot_be_sent_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        reading(NOW, x=value)


@pytest.mark.parametrize("name", ["", "a\nb", "a\tb", "\x07", "\ufffe"])
def test_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        Field(name, 1)


def test_empty_reading_and_naive_timestamp_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        reading()
    with pytest.raises(ValueError, match="time zone"):
        reading(datetime(2026, 1, 1), x=1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"value": 1.5, "type": "int"},
        {"value": 1, "type": "boolean"},
        {"value": NOW, "type": "date"},
        {"value": "on", "type": "enum"},
        {"value": "on", "data_type": "Switch"},
        {"value": "on", "type": "enum", "data_type": "\0"},
        {"value": "on", "type": "text"},
        {"value": "on", "type": "string", "unit": "Cel"},
    ],
)
def test_value_that_is_not_of_its_type_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Field("x", **arguments)


def test_text_is_no_number() -> None:
    with pytest.raises(ValueError, match="not a number"):
        float(Field("x", "21.5"))


def test_moment_without_a_zone_is_read_as_utc() -> None:
    assert parse("dateTime", "2013-03-07T16:24:30") == datetime(2013, 3, 7, 16, 24, 30, tzinfo=UTC)


def test_date_may_have_a_zone() -> None:
    assert parse("date", "2026-11-22+02:00") == date(2026, 11, 22)


@pytest.mark.parametrize(
    ("text", "value"),
    [("P1DT2H3M4.5S", timedelta(1, 7384.5)), ("PT0.000001S", timedelta(microseconds=1)), ("-P1D", -timedelta(1))],
)
def test_duration_is_read(text: str, value: timedelta) -> None:
    assert parse("duration", text) == value


@pytest.mark.parametrize(
    ("type", "text"),
    [
        *[("numeric", text) for text in ("", "NaN", "INF", "1e400", "1_0", " 1", "0x1", "1,5", "1e99999", "٣")],
        *[("int", text) for text in ("", "1.0", "1_0", "9" * 41, "٣")],
        *[("boolean", text) for text in ("True", "yes", "")],
        *[("dateTime", text) for text in ("2026-11-22", "20261122T083000Z", "2026-13-01T00:00:00Z", "2026-W47-7")],
        ("dateTime", "9999-12-31T23:59:59-14:00"),
        *[("date", text) for text in ("20261122", "2026-02-30")],
        *[("time", text) for text in ("8:30", "083000", "24:00:01")],
        *[("duration", text) for text in ("P", "PT", "P1Y", "P1M", "1D", "P1D2H", "P999999999DT999999999H", "PT1")],
    ],
)
def test_text_that_is_no_value_is_refused(type: Any, text: str) -> None:
    with pytest.raises(ValueError):
        parse(type, text)


values = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**300), max_value=10**300)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
)


@given(values)
def test_value_survives_its_text(value: Any) -> None:
    field = Field("x", value)
    exact = Decimal(repr(value)) if isinstance(value, float) else value
    assert (field.decimal if field.type == "numeric" else field.value) == exact
    assert Field("x", parse(field.type, field.text), type=field.type) == field


@given(
    st.sampled_from(["numeric", "int", "dateTime", "date", "time", "duration"]),
    st.text("0123456789.+-eEPTDHMSZ:", max_size=25),
)
def test_text_is_a_value_or_a_value_error(type: Any, text: str) -> None:
    try:
        value = parse(type, text)
    except ValueError:
        return
    assert parse(type, Field("x", value, type=type).text) == value

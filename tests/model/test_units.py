# SPDX-License-Identifier: Apache-2.0
"""Units (RFC 8428, RFC 8798)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiot.model.units import UNITS, convert, find, symbol


def test_unit_is_found_by_code_and_by_symbol() -> None:
    assert find("Cel") is find("°C") is UNITS["Cel"]
    assert find("parsec") is None


def test_every_symbol_means_one_unit() -> None:
    assert all(find(unit.symbol) is unit for unit in UNITS.values())


def test_secondary_units_rest_on_primary_ones() -> None:
    assert all(UNITS[unit.base].base == unit.base for unit in UNITS.values())
    assert all(UNITS[unit.base].scale == 1 and UNITS[unit.base].offset == 0 for unit in UNITS.values())


def test_symbol_of_an_unknown_unit_is_itself() -> None:
    assert symbol("m3/s") == "m³/s"
    assert symbol("parsec") == "parsec"


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (21.5, "Cel", "K", 294.65),
        (0, "K", "Cel", -273.15),
        (36, "km/h", "m/s", 10),
        (2, "kWh", "Wh", 2000),
        (30, "dBm", "dBW", 0),
        (45, "%", "/", 0.45),
        (1013.25, "hPa", "Pa", 101325),
        (120, "1/min", "1/s", 2),
    ],
)
def test_values_are_converted(value: float, unit: str, to: str, expected: float) -> None:
    assert convert(value, unit, to) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(("unit", "to"), [("Cel", "Pa"), ("parsec", "m"), ("m", "parsec")])
def test_what_does_not_measure_the_same_is_not_converted(unit: str, to: str) -> None:
    with pytest.raises(ValueError, match="no way"):
        convert(1, unit, to)


@given(st.floats(-1e12, 1e12), st.sampled_from(sorted(UNITS)))
def test_conversion_to_the_same_unit_changes_nothing(value: float, unit: str) -> None:
    assert convert(value, unit, unit) == value

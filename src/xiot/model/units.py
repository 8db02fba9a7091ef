# SPDX-License-Identifier: Apache-2.0
"""Units of measurement: their names in the SenML registry, how people write them, and what they are worth.

The registry is that of RFC 8428 section 12.1 with the units of RFC 8798.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit; a value in it, times `scale`, plus `offset`, is the value in `base`."""

    code: str
    symbol: str
    base: str
    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


def _table() -> dict[str, Unit]:
    primary = """m kg s A K cd mol Hz rad sr N Pa J W C V F S Wb T H lm lx Bq Gy Sv kat m/s l/s pH dB dBW count / bit
        bit/s 1/s S/m B VA VAs var vars J/m lat lon beats EL %EL Bspl"""
    written = {"Ohm": "Ω", "m2": "m²", "m3": "m³", "m/s2": "m/s²", "m3/s": "m³/s", "W/m2": "W/m²", "cd/m2": "cd/m²"}
    written |= {"%RH": "% RH", "kg/m3": "kg/m³", "deg": "°"}
    units = [Unit(code, code, code) for code in primary.split()]
    units += [Unit(code, symbol, code) for code, symbol in written.items()]
    units += [
        Unit("Cel", "°C", "K", offset=Fraction("273.15")),
        Unit("g", "g", "kg", Fraction(1, 1000)),
        Unit("l", "l", "m3", Fraction(1, 1000)),
        Unit("%", "%", "/", Fraction(1, 100)),
        Unit("1/min", "1/min", "1/s", Fraction(1, 60)),
        Unit("beat/min", "beat/min", "1/s", Fraction(1, 60)),
        Unit("ms", "ms", "s", Fraction(1, 1000)),
        Unit("min", "min", "s", Fraction(60)),
        Unit("h", "h", "s", Fraction(3600)),
        Unit("MHz", "MHz", "Hz", Fraction(10**6)),
        Unit("kW", "kW", "W", Fraction(1000)),
        Unit("kVA", "kVA", "VA", Fraction(1000)),
        Unit("kvar", "kvar", "var", Fraction(1000)),
        Unit("Ah", "Ah", "C", Fraction(3600)),
        Unit("Wh", "Wh", "J", Fraction(3600)),
        Unit("kWh", "kWh", "J", Fraction(3_600_000)),
        Unit("varh", "varh", "vars", Fraction(3600)),
        Unit("kvarh", "kvarh", "vars", Fraction(3_600_000)),
        Unit("kVAh", "kVAh", "VAs", Fraction(3_600_000)),
        Unit("Wh/km", "Wh/km", "J/m", Fraction("3.6")),
        Unit("KiB", "KiB", "B", Fraction(1024)),
        Unit("GB", "GB", "B", Fraction(10**9)),
        Unit("Mbit/s", "Mbit/s", "bit/s", Fraction(10**6)),
        Unit("B/s", "B/s", "bit/s", Fraction(8)),
        Unit("MB/s", "MB/s", "bit/s", Fraction(8 * 10**6)),
        Unit("mV", "mV", "V", Fraction(1, 1000)),
        Unit("mA", "mA", "A", Fraction(1, 1000)),
        Unit("dBm", "dBm", "dBW", offset=Fraction(-30)),
        Unit("ug/m3", "µg/m³", "kg/m3", Fraction(1, 10**9)),
        Unit("mm/h", "mm/h", "m/s", Fraction(1, 3_600_000)),
        Unit("m/h", "m/h", "m/s", Fraction(1, 3600)),
        Unit("ppm", "ppm", "/", Fraction(1, 10**6)),
        Unit("/100", "/100", "/", Fraction(1, 100)),
        Unit("/1000", "‰", "/", Fraction(1, 1000)),
        Unit("hPa", "hPa", "Pa", Fraction(100)),
        Unit("mm", "mm", "m", Fraction(1, 1000)),
        Unit("cm", "cm", "m", Fraction(1, 100)),
        Unit("km", "km", "m", Fraction(1000)),
        Unit("km/h", "km/h", "m/s", Fraction(10, 36)),
    ]
    return {unit.code: unit for unit in units}


UNITS = _table()
_BY_SYMBOL = {unit.symbol: unit for unit in UNITS.values()}


def find(text: str) -> Unit | None:
    """Return the unit with that code or symbol (``Cel`` or ``°C``), None if it is not in the registry."""
    return UNITS.get(text) or _BY_SYMBOL.get(text)


def symbol(unit: str) -> str:
    """Return how people write `unit`; what is not in the registry stays as it is."""
    found = find(unit)
    return found.symbol if found else unit


def convert(value: float, unit: str, to: str) -> float:
    """Return `value`, given in `unit`, in the unit `to`, rounded once.

    Raises ValueError if the units do not measure the same, or are not in the registry.
    """
    source, target = find(unit), find(to)
    if source is None or target is None or source.base != target.base:
        raise ValueError(f"no way from {unit!r} to {to!r}")
    return float((Fraction(value) * source.scale + source.offset - target.offset) / target.scale)

# SPDX-License-Identifier: Apache-2.0
"""Sensor data: readings as XML, in all generations of the namespace."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import reduce
from operator import or_

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import Element, parse_element
from xiot.model.reading import Category, Field, Quality, Reading, reading
from xiot.xep import sensordata
from xiot.xep.sensordata import GENERATIONS, NS

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

TABLE = [
    (
        reading(NOW, temperature=(21.5, "Cel")),
        f"<resp xmlns='{NS}' id=''><ts v='2026-11-22T08:00:00Z'>"
        "<q n='temperature' v='21.5' u='Cel' m='true' ar='true'/></ts></resp>",
    ),
    (
        Reading(
            NOW,
            (
                Field("s", "a<b"),
                Field("b", True),
                Field("i", -7),
                Field("l", 2**31),
                Field("d", date(2026, 11, 22)),
                Field("dt", NOW),
                Field("dr", timedelta(hours=1)),
                Field("t", time(8, 30)),
                Field("e", "OPEN", type="enum", data_type="Door"),
            ),
        ),
        f"<resp xmlns='{NS}' id=''><ts v='2026-11-22T08:00:00Z'>"
        "<s n='s' v='a&lt;b' m='true' ar='true'/><b n='b' v='true' m='true' ar='true'/>"
        "<i n='i' v='-7' m='true' ar='true'/><l n='l' v='2147483648' m='true' ar='true'/>"
        "<d n='d' v='2026-11-22' m='true' ar='true'/><dt n='dt' v='2026-11-22T08:00:00Z' m='true' ar='true'/>"
        "<dr n='dr' v='P0DT3600S' m='true' ar='true'/><t n='t' v='08:30:00' m='true' ar='true'/>"
        "<e n='e' v='OPEN' t='Door' m='true' ar='true'/></ts></resp>",
    ),
    (
        Reading(
            NOW,
            (
                Field("x", 1, categories=~Category(0), quality=~Quality(0)),
                Field("y", 2.5, quality=Quality(0), categories=Category(0)),
            ),
        ),
        f"<resp xmlns='{NS}' id=''><ts v='2026-11-22T08:00:00Z'><i n='x' v='1' m='true' p='true' s='true' c='true' "
        "i='true' h='true' ms='true' pr='true' ae='true' me='true' mr='true' ar='true' of='true' w='true' er='true' "
        "so='true' iv='true' eos='true' pf='true' ic='true'/><q n='y' v='2.5'/></ts></resp>",
    ),
]


@pytest.mark.parametrize(("made", "xml"), TABLE)
def test_reading_both_ways(made: Reading, xml: str) -> None:
    assert sensordata.write(made) == Element.fromstring(xml)
    assert sensordata.read(Element.fromstring(xml)) == made


text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff", min_codepoint=0x20), max_size=30
)
spaced = st.text("\t\n\r a", max_size=8)
names = text.filter(bool)
moments = st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=-30))]))  # fmt: skip
times = st.times() | st.times(timezones=st.just(UTC))
numbers = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
)
numbers = numbers.filter(lambda number: abs(Decimal(number)) < Decimal("1e308"))
categories = st.sets(st.sampled_from(Category)).map(lambda flags: reduce(or_, flags, Category(0)))
qualities = st.sets(st.sampled_from(Quality)).map(lambda flags: reduce(or_, flags, Quality(0)))
plain = st.one_of(
    text, spaced, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.dates(), moments, st.timedeltas(), times
)
fields = st.one_of(
    st.builds(Field, names, numbers, st.none() | text, st.just("numeric"), categories, qualities),
    st.builds(Field, names, plain, categories=categories, quality=qualities),
    st.builds(Field, names, text, type=st.just("enum"), categories=categories, quality=qualities, data_type=text),
)
all_readings = st.builds(Reading, moments, st.lists(fields, max_size=4).map(tuple))


@given(all_readings, st.sampled_from(GENERATIONS))
def test_every_reading_reads_back_equal_in_every_generation(made: Reading, ns: str) -> None:
    el = sensordata.write(made, ns=ns)
    assert el.ns == ns
    again = sensordata.read(parse_element(el.tobytes()))
    assert again == made
    assert [(type(f.value), f.text) for f in again] == [(type(f.value), f.text) for f in made]


@pytest.mark.parametrize("ns", GENERATIONS)
@pytest.mark.parametrize(
    "xml",
    [
        "<resp xmlns='{}' id='1' more='true'><nd id='a' src='s'><ts v='2026-11-22T07:00:00Z'><i n='x' v='1'/></ts></nd>"
        "<nd id='b'><ts v='2026-11-22T08:00:00Z'><i n='x' v='2'/></ts></nd></resp>",
        "<resp xmlns='{}' id='1'><ts v='2026-11-22T10:00:00+02:00'><i n='x' v='2'/></ts><ts v='2026-11-22T07:00:00Z'/></resp>",
        "<nd xmlns='{}' id='a'><ts v='2026-11-22T08:00:00Z'><i n='x' v='2'/></ts></nd>",
        "<ts xmlns='{}' v='2026-11-22T08:00:00.000Z'><i n='x' v='2'/></ts>",
        "<ts xmlns='{}' v='2026-11-22T08:00:00'><err>worn</err><new/><i n='x' v='+2' m='0' lns='l' loc='1' ctr='true'>"
        "<x a='b'/></i><i xmlns='urn:other' n='y'/></ts>",
    ],
)
def test_newest_reading_is_found_whatever_is_around_it(xml: str, ns: str) -> None:
    field = Field("x", 2, categories=Category(0), quality=Quality(0))
    errors = ("worn",) if "worn" in xml else ()
    assert sensordata.read(Element.fromstring(xml.format(ns))) == Reading(NOW, (field,), errors)


def test_all_readings_are_found() -> None:
    xml = TABLE[0][1].replace("</resp>", "<ts v='2026-11-22T07:00:00Z'/></resp>")
    assert [len(found) for found in sensordata.readings(Element.fromstring(xml))] == [1, 0]


@pytest.mark.parametrize(
    "xml",
    [
        "<resp xmlns='urn:nfi:iot:sd:1.0' id='1'/>",
        "<resp xmlns='urn:nfi:iot:sd:1.0'><ts v='2026-11-22T08:00:00Z'/></resp>",
        "<resp xmlns='urn:xmpp:iot:sensordata' id='1'><ts v='2026-11-22T08:00:00Z'/></resp>",
        "<req xmlns='urn:nfi:iot:sd:1.0' id='1'/>",
        "<ts xmlns='urn:nfi:iot:sd:1.0'/>",
        "<ts xmlns='urn:nfi:iot:sd:1.0' v='yesterday'/>",
        "<ts xmlns='urn:nfi:iot:sd:1.0' v='2026-11-22T08:00:00Z'><i n='x'/></ts>",
        "<ts xmlns='urn:nfi:iot:sd:1.0' v='2026-11-22T08:00:00Z'><i v='1'/></ts>",
        "<ts xmlns='urn:nfi:iot:sd:1.0' v='2026-11-22T08:00:00Z'><i n='x' v='1.5'/></ts>",
        "<ts xmlns='urn:nfi:iot:sd:1.0' v='2026-11-22T08:00:00Z'><q n='x' v='NaN'/></ts>",
        "<ts xmlns='urn:nfi:iot:sd:1.0' v='2026-11-22T08:00:00Z'><q n='x' v='1' m='maybe'/></ts>",
        "<ts xmlns='urn:nfi:iot:sd:1.0' v='2026-11-22T08:00:00Z'><q n='' v='1'/></ts>",
    ],
)
def test_what_does_not_fit_is_refused(xml: str) -> None:
    with pytest.raises(ValueError):
        sensordata.read(Element.fromstring(xml))

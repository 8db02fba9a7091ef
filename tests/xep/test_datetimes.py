# SPDX-License-Identifier: Apache-2.0
"""XEP-0082: XMPP Date and Time Profiles."""

from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiot.xep import datetimes


def test_examples_of_a_date_and_of_times() -> None:
    assert datetimes.read_date("1776-07-04") == date(1776, 7, 4)
    for text, offset in (("16:00:00", None), ("16:00:00Z", 0), ("16:00:00+07:00", 7), ("16:00:00-07:00", -7)):
        zone = None if offset is None else timezone(timedelta(hours=offset))
        assert datetimes.read_time(text) == time(16, 0, 0, tzinfo=zone)
        assert datetimes.read_time(text).replace(tzinfo=None) == time(16)
    assert datetimes.read_time("16:00:00.123") == time(16, 0, 0, 123000)


def test_examples_of_a_date_and_time_are_the_same_moment() -> None:
    moon = datetime(1969, 7, 21, 2, 56, 15, tzinfo=UTC)
    assert datetimes.read_datetime("1969-07-21T02:56:15Z") == moon
    assert datetimes.read_datetime("1969-07-20T21:56:15-05:00") == moon
    assert datetimes.write_datetime(moon) == "1969-07-21T02:56:15Z"


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (datetimes.read_date, text)
        for text in ("1776-7-4", "17760704", "1776-13-01", "1776-07-04T00:00:00Z", " 1776-07-04", "١٧٧٦-07-04", "")
    ]
    + [(datetimes.read_time, text) for text in ("16:00", "25:00:00", "16:00:60", "T16:00:00", "16:00:00z", "16:00:00.")]
    + [(datetimes.read_datetime, text) for text in ("1969-07-21T02:56:15", "19690721T02:56:15", "1969-07-21 02:56:15Z")]
    + [(datetimes.read_offset, text) for text in ("", "z", "6:00", "+6", "+24:00", "+06:60", "06:00", "+0600")],
)
def test_other_forms_are_refused(read: object, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)  # type: ignore[operator]


@given(st.dates(), st.times(), st.integers(-23 * 60, 23 * 60))
def test_what_is_written_is_read_again(day: date, clock: time, minutes: int) -> None:
    offset = timedelta(minutes=minutes)
    assert datetimes.read_date(datetimes.write_date(day)) == day
    assert datetimes.read_offset(datetimes.write_offset(offset)) == offset
    for zone in (None, UTC, timezone(offset)):
        assert datetimes.read_time(datetimes.write_time(clock.replace(tzinfo=zone))) == clock.replace(tzinfo=zone)


def test_date_of_a_moment_is_its_day() -> None:
    assert datetimes.write_date(datetime(1776, 7, 4, 12, tzinfo=UTC)) == "1776-07-04"


def test_utc_is_written_as_z() -> None:
    assert datetimes.write_offset(timedelta(0)) == "Z"
    assert datetimes.write_time(time(16, tzinfo=UTC)) == "16:00:00Z"

# SPDX-License-Identifier: Apache-2.0
"""XEP-0082: XMPP Date and Time Profiles.

Those of a date and time (section 3.2) are in `xiot.schema`, where payloads need them, and come from here by the same names.
"""

import re
from datetime import UTC, date, datetime, time, timedelta

from xiot.ext import Extension
from xiot.schema import read_datetime, write_datetime

__all__ = [
    "read_date",
    "read_datetime",
    "read_offset",
    "read_time",
    "write_date",
    "write_datetime",
    "write_offset",
    "write_time",
]

ext = Extension("datetimes", spec="XEP-0082", version="1.1.1")

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?")
_OFFSET = re.compile(r"([+-])([0-9]{2}):([0-5][0-9])")


def read_date(text: str) -> date:
    """Read ``CCYY-MM-DD`` (section 3.1). Raises ValueError."""
    if _DATE.fullmatch(text) is None:
        raise ValueError("not a date")
    return date.fromisoformat(text)


def write_date(value: date) -> str:
    """Write ``CCYY-MM-DD`` (section 3.1)."""
    return (value.date() if isinstance(value, datetime) else value).isoformat()


def read_time(text: str) -> time:
    """Read ``hh:mm:ss[.sss][TZD]`` (section 3.3), to the microsecond; without a zone it is local. Raises ValueError."""
    if _TIME.fullmatch(text) is None:
        raise ValueError("not a time")
    return time.fromisoformat(text)


def write_time(value: time) -> str:
    """Write ``hh:mm:ss[.sss][TZD]`` (section 3.3)."""
    text = value.isoformat()
    return f"{text[:-6]}Z" if value.tzinfo is UTC else text


def read_offset(text: str) -> timedelta:
    """Read a time zone (section 2): ``Z``, or how far it is ahead of UTC, ``-06:00``. Raises ValueError."""
    if text == "Z":
        return timedelta(0)
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[2]) > 23:
        raise ValueError("not a time zone")
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -offset if match[1] == "-" else offset


def write_offset(value: timedelta) -> str:
    """Write a time zone (section 2): ``Z``, or how far it is ahead of UTC, ``-06:00``; seconds are cut off."""
    minutes = int(abs(value).total_seconds()) // 60
    return f"{'-' if value < timedelta(0) else '+'}{minutes // 60:02}:{minutes % 60:02}" if minutes else "Z"

# SPDX-License-Identifier: Apache-2.0
"""XEP-0202: Entity Time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from _xmppcore import Element
from xiot.schema import PayloadError
from xiot.xep import datetimes, entitytime
from xiot.xep.entitytime import Clock, Time

from .world import World

NS = "urn:xmpp:time"
EXAMPLE = f"<time xmlns='{NS}'><tzo>-06:00</tzo><utc>2006-12-19T17:58:35Z</utc></time>"


def test_example_both_ways() -> None:
    time = Time(tzo="-06:00", utc=datetime(2006, 12, 19, 17, 58, 35, tzinfo=UTC))
    assert Time.from_element(Element.fromstring(EXAMPLE)) == time
    assert time.to_element() == Element.fromstring(EXAMPLE)
    assert time.local().isoformat() == "2006-12-19T11:58:35-06:00"


class Stopped(Clock):
    def now(self) -> datetime:
        return datetime(2006, 12, 19, 11, 58, 35, 999, tzinfo=timezone(timedelta(hours=-6)))


@pytest.mark.parametrize("to", ["plant.example", "juliet@plant.example", "juliet@plant.example/b"])
async def test_time_is_told_to_the_second_with_its_zone(to: str) -> None:
    world = World(datetimes.ext, entitytime.ext, services=[Stopped()])
    told = await entitytime.time(world.session("juliet@plant.example/a"), to)
    assert told.isoformat() == "2006-12-19T11:58:35-06:00"


async def test_zone_is_a_secret_unless_told_otherwise() -> None:
    now = Clock().now()
    assert now.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)


@pytest.mark.parametrize("time", [Time(), Time(tzo="Z"), Time(tzo="CET", utc=datetime(2006, 12, 19, tzinfo=UTC))])
def test_answer_without_time_or_zone_is_a_bad_one(time: Time) -> None:
    with pytest.raises(PayloadError):
        time.local()

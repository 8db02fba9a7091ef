# SPDX-License-Identifier: Apache-2.0
"""XEP-0202: Entity Time, both ends."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo

from _xmppcore import JID
from xiot.ext import ACCOUNT, HOST, SESSION, Extension, Inbound, Session
from xiot.schema import Payload, PayloadError, child
from xiot.xep.datetimes import read_offset, write_offset

NS = "urn:xmpp:time"
ext = Extension("entitytime", spec="XEP-0202", version="2.0", features=[NS], needs=["datetimes"])


class Time(Payload, tag=(NS, "time")):
    """What time it is somewhere; empty when it asks (section 2)."""

    tzo: str | None = child(default=None)
    """How far the local time is ahead of UTC, ``-06:00``."""
    utc: datetime | None = child(default=None)

    def local(self) -> datetime:
        """Return the time, in the zone of whom we asked. Raises PayloadError."""
        try:
            offset = read_offset(self.tzo or "")
        except ValueError:
            raise PayloadError("time/tzo", "not a time zone") from None
        if self.utc is None:
            raise PayloadError("time/utc", "missing")
        return self.utc.astimezone(timezone(offset))


class Clock:
    """Tells a host or client the time. The zone tells where on Earth one is (section 6), so it is UTC unless one wants."""

    def __init__(self, zone: tzinfo = UTC) -> None:
        self._zone = zone

    def now(self) -> datetime:
        """Return the time, in the zone that is told."""
        return datetime.now(self._zone)


@ext.iq_get(Time, at=HOST | ACCOUNT | SESSION)
def on_get(_: Time, ctx: Inbound) -> Time:
    """Tell the time by the `Clock` of the host or client, to the second (section 2)."""
    now = ctx.service(Clock).now().replace(microsecond=0)
    return Time(tzo=write_offset(now.utcoffset() or timedelta(0)), utc=now)


async def time(session: Session, to: JID | str) -> datetime:
    """Ask `to` for its time; the result is in the zone it told. Raises as `Session.request`."""
    return Time.from_element(await session.request("get", Time(), to=to)).local()

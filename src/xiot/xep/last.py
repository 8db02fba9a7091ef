# SPDX-License-Identifier: Apache-2.0
"""XEP-0012: Last Activity, both ends: since when an account is offline, a user idle, a server up."""

import time
from collections.abc import Callable, Generator
from typing import Any

from _xmppcore import JID
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, SESSION, Context, Extension, Inbound, Load, Session
from xiot.schema import Payload, attr, text
from xiot.xep.roster import Roster

NS = "jabber:iq:last"
ext = Extension("last", spec="XEP-0012", version="2.0", features=[NS], needs=["roster"])


class Last(Payload, tag=(NS, "query")):
    """For how many seconds nothing has happened, and the last words; empty when it asks (section 2)."""

    seconds: int | None = attr(default=None)
    status: str = text(default="")


class Activity:
    """When something was last done: of a host, its start; of a client, its user's last action.

    A client without one tells nobody, as section 8 wants that users can choose.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.touch()

    def touch(self) -> None:
        """Something is done now."""
        self._at = self._clock()

    @property
    def idle_s(self) -> int:
        """Whole seconds since then."""
        return int(self._clock() - self._at)


@ext.iq_get(Last, at=HOST)
def on_host(_: Last, ctx: Inbound) -> Last:
    """Tell for how long the host has been up (section 5)."""
    return Last(seconds=ctx.service(Activity).idle_s)


@ext.iq_get(Last, at=ACCOUNT)
def on_account(_: Last, ctx: Context) -> Generator[Load[Any], Any, Last]:
    """Tell when the account was last online, and what it said then, to whom it shows its presence (section 3)."""
    account = ctx.account
    assert account is not None
    owner, sender = str(account), str(ctx.sender.bare)
    contact, logout = yield from ctx.load(lambda tx: (tx.roster.get(owner, sender), tx.logouts.get(owner)))
    if owner != sender and (contact is None or contact.subscription not in ("from", "both")):
        raise StanzaError("forbidden")
    if ctx.resources(account):
        return Last(seconds=0)
    if logout is None:
        raise StanzaError("service-unavailable", text="it has never been online")
    return Last(seconds=max(0, int((ctx.now() - logout.at).total_seconds())), status=logout.status)


@ext.iq_get(Last, at=SESSION)
def on_session(_: Last, ctx: Inbound) -> Last:
    """Tell for how long our user has been idle, to whom we show our presence (section 4)."""
    if ctx.sender.bare != ctx.to.bare:
        contact = ctx.service(Roster).items.get(ctx.sender.bare)
        if contact is None or contact.subscription not in ("from", "both"):
            raise StanzaError("forbidden")
    try:
        return Last(seconds=ctx.service(Activity).idle_s)
    except LookupError:
        raise StanzaError("service-unavailable") from None


async def last(session: Session, to: JID | str) -> Last:
    """Ask when `to` was last active. Raises as `Session.request`, ``forbidden`` if we may not see its presence.

    Of a bare JID, the seconds since it was online (0: it is) and its last words; of a full JID, since its user did
    something; of a domain, since it was started.
    """
    return Last.from_element(await session.request("get", Last(), to=to))

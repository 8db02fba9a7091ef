# SPDX-License-Identifier: Apache-2.0
"""Which sessions the core hands over to Python, and what is done to their stanzas: block lists (XEP-0191), carbons
(XEP-0280), inactive clients (XEP-0352).

Theory of operation. What goes to a full JID online never comes to Python, unless one of the two links has a bit in `Link.hooks`. A bit is
set only where somebody needs it: BLOCKLIST on the sessions of an account that blocks somebody, CARBONS on those of an account of which one
wants carbons and there is another one, INACTIVE on a session whose client is inactive, DURABLE on one that survives crashes, STRICT on one in EXI that cannot carry each stanza. A bit is switched between two stanzas, and both the core
and Python queue a stanza before they look at the next one of its sender: so switching changes no order.

The list of an account is read before its first session is bound, and kept in memory while it is online. For accounts that are offline, whoever looks into the store anyway asks `xiot.model.blocking.blocks_sender`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from xiot.core import JID, Element, Stanza
from xiot.errors import StanzaError
from xiot.model import blocking as rules
from xiot.model.effects import Tx
from xiot.server.delivery import stamp
from xiot.stanzas import presence
from xiot.xep import blocking, carbons, csi

if TYPE_CHECKING:
    from xiot.server.host import LocalHost
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

CARBONS, BLOCKLIST, INACTIVE, DURABLE, STRICT = 1, 2, 4, 8, 16
OURS = CARBONS | BLOCKLIST | INACTIVE | DURABLE | STRICT


def _blocked(account: JID, tx: Tx) -> frozenset[str]:
    return frozenset(tx.blocks.jids(str(account)))


class Hooks(blocking.Enforcer, carbons.Switch):
    """The hooked sessions of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lists: dict[JID, frozenset[str]] = {}  # of the accounts online that block somebody

    # ---- sessions come and go ----

    async def enter(self, account: JID, then: Callable[[], None]) -> None:
        """Call `then`, which binds a session of `account`, once it is known whom that blocks. Raises StoreError."""
        if not self.enter_at_once(account, then):
            await self._server.store.transact(partial(_blocked, account), partial(self._enter, account, then))

    def enter_at_once(self, account: JID, then: Callable[[], None]) -> bool:
        """Do as `enter` here and now; False if the store is busy: then nothing was done, as the list may be about to change."""
        store = self._server.store
        if self._host(account).sessions(account):
            jids = self._lists.get(account, frozenset())
        elif store.idle:
            jids = store.glance(partial(_blocked, account))
        else:
            return False
        self._enter(account, then, jids)
        return True

    def _enter(self, account: JID, then: Callable[[], None], jids: frozenset[str]) -> None:
        then()  # maybe in place of the only session there was
        if jids and self._host(account).sessions(account):
            self._lists[account] = jids
        self._set_bits(account)

    def left(self, session: ClientSession) -> None:
        """A session has ended."""
        account = session.jid.bare
        if not self._host(account).sessions(account):
            self._lists.pop(account, None)
        self._set_bits(account)

    def _host(self, account: JID) -> LocalHost:
        return self._server.hosts[account.domain]

    def _set_bits(self, account: JID) -> None:
        sessions = self._host(account).sessions(account)
        bits = BLOCKLIST if self._lists and account in self._lists else 0
        if len(sessions) > 1 and any(session.carbons for session in sessions):
            bits |= CARBONS
        for session in sessions:
            link = session.connection.link
            own = (0 if session.held is None else INACTIVE) | (0 if session.durable is None else DURABLE)
            own |= STRICT if session.strict else 0
            link.hooks = link.hooks & ~OURS | bits | own

    def changed_durability(self, session: ClientSession) -> None:
        """The session is durable from now on (`xiot.server.durable`)."""
        self._set_bits(session.jid.bare)

    # ---- block lists: XEP-0191 ----

    def check(self, stanza: Stanza, session: ClientSession, to: JID) -> bool:
        """Return whether what a client sent to `to` goes on; False: nobody hears of it. Raises StanzaError (section 3.3)."""
        me = session.jid
        if not self._lists or to.bare == me.bare:  # section 4: nobody blocks themselves
            return True
        if rules.blocks(self._lists.get(me.bare, ()), to):
            raise blocking.refusal()
        if not rules.blocks(self._lists.get(to.bare, ()), me):
            return True
        if stanza.name != "presence":
            raise StanzaError("service-unavailable")
        return stanza.type not in (None, "unavailable", "probe")  # of the others, the states of both sides are changed

    def hidden(self, sender: str, session: ClientSession) -> bool:
        """Return whether what is from `sender` is kept from `session`, since one of them blocks the other."""
        if not self._lists:
            return False
        to, jid = session.jid, JID(sender)
        if jid.bare == to.bare:
            return False
        return rules.blocks(self._lists.get(to.bare, ()), jid) or rules.blocks(self._lists.get(jid.bare, ()), to)

    def changed(self, owner: JID, change: rules.Blocked) -> None:
        """Go by the new list; who is newly blocked sees the account go, who is unblocked sees it come (sections 3.3 and 3.4)."""
        if not self._host(owner).sessions(owner):
            return
        if change.added:
            self._appear(owner, change.added, gone=True)
        if change.jids:
            self._lists[owner] = change.jids
        else:
            self._lists.pop(owner, None)
        self._set_bits(owner)
        if change.removed:
            self._appear(owner, change.removed, gone=False)

    def _appear(self, owner: JID, jids: Iterable[str], *, gone: bool) -> None:
        """Show those of `jids` that see the presence of `owner` that it is gone, or what it is now."""
        host, entries = self._host(owner), frozenset(jids)
        watchers = [JID(jid) for jid in host.watchers.get(owner, ())]
        for session in host.sessions(owner):
            mine = session.availability
            seen = {*(watchers if mine.presence is not None else ()), *mine.directed}
            for jid in sorted(seen, key=str):
                reached = [other for other in self._server.delivery.audience(jid) if rules.blocks(entries, other.jid)]
                if gone and rules.blocks(entries, jid):
                    mine.undirect(jid)
                if reached and gone:
                    self._server.delivery.deliver(presence(type="unavailable", from_=session.jid, to=jid), reached)
                elif reached and mine.presence is not None:
                    mine.presence.set("to", str(jid))
                    self._server.delivery.deliver(mine.presence, reached)

    # ---- carbons: XEP-0280 ----

    def switch_carbons(self, jid: JID, on: bool) -> None:
        """Switch carbons for the session bound to `jid`, if there is still one."""
        session = self._host(jid).session(jid)
        if session is not None:
            session.carbons = on
            self._set_bits(jid.bare)

    def copy_received(self, stanza: Element, targets: list[ClientSession]) -> None:
        """Copy a message, which `targets`, all of one account, have got, to its other sessions that want carbons (section 7)."""
        if not targets[0].connection.link.hooks & CARBONS or not carbons.eligible(stanza, "received"):
            return
        account, sender = targets[0].jid.bare, stanza.get("from")
        for session in self._host(account).sessions(account):
            if session.carbons and session not in targets and str(session.jid) != sender:
                session.send(carbons.copy(stanza, "received", session.jid))

    def copy_sent(self, stanza: Stanza, sender: ClientSession, to: JID) -> None:
        """Copy a message that `sender` has sent to the other sessions of its account that want carbons (section 8)."""
        account = sender.jid.bare
        if not sender.connection.link.hooks & CARBONS:
            return
        if to.bare == account:
            return  # they have it, or a copy of what was received
        element = stamp(stanza, sender)
        if carbons.eligible(element, "sent"):
            for session in self._host(account).sessions(account):
                if session.carbons and session is not sender:
                    session.send(carbons.copy(element, "sent", session.jid))

    # ---- inactive clients: XEP-0352 ----

    def indicated(self, session: ClientSession, nonza: Element) -> None:
        """The client has told its state (section 4.2). What has waited goes out before anything that comes after this."""
        if nonza.tag == csi.Inactive.TAG:
            session.held = session.held or csi.Held()
            self._set_bits(session.jid.bare)
        elif nonza.tag == csi.Active.TAG:
            self.resumed(session)

    def resumed(self, session: ClientSession) -> None:
        """The client is active, by its own word or because it has resumed its session on a new stream (section 5.2)."""
        session.release()
        session.held = None
        self._set_bits(session.jid.bare)

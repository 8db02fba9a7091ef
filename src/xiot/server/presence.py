# SPDX-License-Identifier: Apache-2.0
"""Presence: RFC 6121 sections 3 and 4. The subscription states are in `xiot.model.presence`.

Theory of operation. While an account has an available resource, the host keeps the bare JIDs that see its presence (`LocalHost.watchers`):
so each later broadcast, above all the last one of a connection that breaks, needs no store and overtakes nothing. They are read when a
resource becomes available, and changed by the same effects that tell the other side (`Announce`). All effects are performed in the order of
their transactions (`xiot.store.base.Store.transact`).

A resource becomes available in one step, once all messages that waited for the account have been handed to it, page by page as it takes
them; the transaction that finds none left also reads whom to tell and whom to ask.

Who gets the broadcasts of an account, as links and how each is addressed (`_Readers`), is kept until anybody becomes available or unavailable, or
who may see whom changes: so a broadcast in a quiet moment costs one call of the core. The core leaves to us whose link has a hook.

Contacts at other servers come in at two places: `_to_watcher` and the `Route` effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, get_args

import trio

from xiot.core import JID, Audience, Element, Stanza
from xiot.errors import StanzaError
from xiot.model import presence as rules
from xiot.model.blocking import blocks_sender
from xiot.model.effects import Effect, Tx, apply
from xiot.model.offline import Kept
from xiot.model.presence import Announce, Deliver, Route, Subscriptions, Verb
from xiot.model.roster import Push, Request, SubscriptionState
from xiot.server.delivery import stamp
from xiot.server.hooks import BLOCKLIST, DURABLE
from xiot.server.journal import Waiting
from xiot.stanzas import NS_CLIENT, presence, reread
from xiot.store import StoreError
from xiot.xep import roster

if TYPE_CHECKING:
    from xiot.server.host import LocalHost
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

_NOBODY: frozenset[str] = frozenset()  # one for all that have no contacts
VERBS: tuple[Verb, ...] = get_args(Verb)
MAX_DIRECTED = 1000  # directed presences remembered by a session; further ones are refused
MAX_STATUS_CHARS = 1000  # kept of the last words of an account (XEP-0012)
PAGE_MESSAGES = 100  # read from the store and handed over at a time
PAGE_BYTES = 65_536
MAX_READERS = 32_768  # kept, of all accounts together: about 130 bytes each
DRAIN_CHECK_S = 0.01  # between looks whether the client has taken a page


@dataclass(frozen=True, slots=True)
class Known:
    """What an account has stored that concerns presence."""

    subscribed: Sequence[tuple[str, SubscriptionState]]
    requests: Sequence[Request]


def _known_at_once(owner: str, priority: int, tx: Tx) -> Known | None:
    """As `_known`; None if a message waits for that resource."""
    if priority >= 0 and tx.offline.page(owner, 1, 1):
        return None
    return _NOTHING if tx.roster.lonely(owner) else _known(tx, owner)


def _known(tx: Tx, owner: str) -> Known:
    return Known(tx.roster.subscribed(owner), tx.roster.requests(owner))


_NOTHING = Known((), ())


@dataclass(frozen=True, slots=True)
class _Readers:
    """Who gets the broadcasts of an account."""

    sessions: Sequence[tuple[ClientSession, str]]
    """Each with how the presence is addressed to it."""
    audience: Audience
    """Of their links."""


class Presences(Subscriptions):
    """The presence of all accounts of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._arriving: dict[JID, trio.Lock] = {}
        self._readers: dict[JID, _Readers] = {}  # by the account that they read of
        self._readers_kept = 0

    # ---- without `to`: sections 4.2, 4.4 and 4.5 ----

    def own(self, stanza: Stanza, session: ClientSession) -> None:
        """Take presence that `session` sends to nobody in particular. Raises StanzaError."""
        if stanza.type == "unavailable":
            self.unavailable(session, stanza.element)
            return
        if stanza.type is not None:
            if stanza.type == "error":
                return
            raise StanzaError("bad-request", text=f"presence of type {stanza.type[:32]} without 'to'")
        priority, mine = read_priority(stanza.element), session.availability
        if mine.presence is None or mine.priority < 0 <= priority:
            mine.arriving = stanza
            if not self._arrive_at_once(stanza, session, priority):
                session.wait(stanza, partial(self._arrive, stanza, session))
        else:
            mine.presence, mine.priority = stamp(stanza, session), priority
            self._broadcast(session, mine.presence)

    def resumed(self, session: ClientSession) -> None:
        """The session has a connection again: if it was about to become available, it still is."""
        self._forget_readers()
        stanza = session.availability.arriving
        if stanza is not None:
            session.spawn(partial(self._arrive, stanza, session, reading=True))

    def restored(self, session: ClientSession, subscribed: Sequence[tuple[str, SubscriptionState]]) -> None:
        """The session was brought back after a crash, as available as it was: whom it sees, and is seen by, comes anew."""
        self._forget_readers()
        mine, host, bare = session.availability, self._server.hosts[session.jid.domain], session.jid.bare
        if mine.presence is None:
            return
        host.watchers[bare] = frozenset(jid for jid, state in subscribed if state in ("from", "both"))
        for jid, state in subscribed:
            if state in ("to", "both") and not self._server.delivery.audience(JID(jid)):
                session.send_to(
                    presence(type="unavailable", from_=jid)
                )  # section 4.3.2: if it was there, it is no more

    def _arrive_at_once(self, stanza: Stanza, session: ClientSession, priority: int) -> bool:
        """Be available here and now; False if a message waits, or anything else is to be waited for."""
        bare, store, owner = session.jid.bare, self._server.store, str(session.jid.bare)
        if (
            not store.idle
            or bare in self._arriving
            or session.durable is not None
            or self._server.journal.claimed(owner)
        ):
            return False
        try:
            known = store.glance(partial(_known_at_once, owner, priority))
        except StoreError:
            return False  # the other way tells the client
        if known is not None:
            self._available(session, stamp(stanza, session), priority, known)
        return known is not None

    async def _arrive(self, stanza: Stanza, session: ClientSession, *, reading: bool = False) -> None:
        """Hand over what waits for the account, if that is wanted, then be available (section 4.2.2, XEP-0160 section 2).

        `reading`: the client's next stanzas are looked at meanwhile.
        """
        bare, element, priority = session.jid.bare, stamp(stanza, session), read_priority(stanza.element)
        journal, owner, handed = self._server.journal, str(bare), list[int]()
        claimed: frozenset[int] = frozenset()

        def next_page(tx: Tx) -> Sequence[Kept] | Known:
            if priority >= 0:
                tx.offline.delete(owner, handed)
                page = tx.offline.page(owner, PAGE_MESSAGES, PAGE_BYTES, claimed)
                if page:
                    return page
            return _known(tx, owner)

        def found(result: Sequence[Kept] | Known) -> Sequence[Kept]:
            handed.clear()
            if not isinstance(result, Known):
                return result
            if wanted() and journal.claimed(owner) == claimed:  # else some may have been given back: look again
                self._available(session, element, priority, result)
            return ()

        async def read() -> Sequence[Kept]:
            nonlocal claimed
            claimed = journal.claimed(owner)
            return await self._server.store.transact(next_page, found)

        def wanted() -> bool:
            return session.availability.arriving is stanza and not session.connection.closing

        async def room(most_bytes: float) -> bool:
            while (link := session.connection.link).queued_bytes > most_bytes or (reading and link.full):
                await trio.sleep(DRAIN_CHECK_S)  # rare, and the pump has no event for it
                if not wanted():
                    return False
            return wanted() and not link.full

        async with self._alone(bare):  # else two resources would get the same messages
            try:
                while wanted() and (page := await read()):
                    taken = 0
                    await room(self._server.pump.low_bytes)
                    for kept in page:
                        waiting = Waiting(journal, owner, kept.id)
                        if not await room(inf) or not self._hand_over(kept, waiting, session):
                            break
                        taken += 1
                        if not waiting.held:
                            handed.append(kept.id)
                    self._server.pump.flush()
                    if session.durable is not None:
                        await journal.settle()  # they are its own now
                    if taken < len(page):
                        break
            finally:
                if handed and session.durable is None and session.online:  # else nobody knows: they come again
                    with trio.CancelScope(shield=True):
                        await self._server.store.run(lambda tx: tx.offline.delete(owner, handed))
            if wanted():  # what it acknowledges makes room, so that has to be read
                session.spawn(partial(self._arrive, stanza, session, reading=True))

    def _hand_over(self, kept: Kept, waiting: Waiting, session: ClientSession) -> bool:
        message = reread(kept.stanza)
        with self._server.journal.carrying(waiting):
            return self._server.delivery.deliver(message, [session], kept.stanza)

    @asynccontextmanager
    async def _alone(self, account: JID) -> AsyncIterator[None]:
        lock = self._arriving.setdefault(account, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._arriving.pop(account, None)

    def _available(self, session: ClientSession, element: Element, priority: int, known: Known) -> None:
        mine, host, bare = session.availability, self._server.hosts[session.jid.domain], session.jid.bare
        first = mine.presence is None
        mine.presence, mine.priority, mine.arriving = element, priority, None
        watchers = frozenset(jid for jid, state in known.subscribed if state in ("from", "both"))
        host.watchers[bare] = watchers or _NOBODY
        self._forget_readers()
        self._broadcast(session, element)
        if not first:
            return
        seen = [JID(jid) for jid, state in known.subscribed if state in ("to", "both")]
        for jid in (bare, *seen):
            self._answer(jid, session)
        for request in known.requests:
            self._show(reread(request.stanza), [session])

    def _broadcast(self, session: ClientSession, element: Element) -> None:
        """Send available presence, which has no ``to``, to who sees it, and to all resources of the account (section 4.2.2)."""
        readers = self._readers.get(session.jid.bare) or self._find_readers(session.jid.bare)
        if session.connection.link.hooks & (BLOCKLIST | DURABLE):
            left: Iterable[int] = range(len(readers.sessions))
        else:
            left = readers.audience.send(element.tobytes(NS_CLIENT))
        for position in left:
            other, to = readers.sessions[position]
            element.set("to", to)
            self._show(element, [other])

    def _find_readers(self, account: JID) -> _Readers:
        host = self._server.hosts[account.domain]
        found = [(other, str(other.jid)) for other in host.available_sessions(account)]
        for watcher in host.watchers[account]:
            found += [(other, watcher) for other in self._server.delivery.audience(JID(watcher))]
        audience = Audience(self._server.router, ((other.connection.link, to) for other, to in found))
        if self._readers_kept + len(found) > MAX_READERS:
            self._forget_readers()
        self._readers_kept += len(found)
        self._readers[account] = readers = _Readers(found, audience)
        return readers

    def _forget_readers(self) -> None:
        """Who is available, on which link, or who sees whom has changed."""
        if self._readers:
            self._readers.clear()
            self._readers_kept = 0

    def _to_watcher(self, element: Element, watcher: JID) -> None:
        host = self._server.hosts.get(watcher.domain)
        if host is not None:
            element.set("to", str(watcher))
            self._show(element, host.available_sessions(watcher))

    def _show(self, element: Element, sessions: list[ClientSession]) -> None:
        if sessions:
            self._server.delivery.deliver(element, sessions)

    def unavailable(self, session: ClientSession, element: Element | None = None) -> None:
        """The session is unavailable, by its own word or because it has ended (sections 4.5 and 4.6.5)."""
        mine, host, bare = session.availability, self._server.hosts[session.jid.domain], session.jid.bare
        was, mine.presence, mine.arriving = mine.presence, None, None
        self._forget_readers()
        directed = mine.take_directed()
        if was is not None:
            status = "" if element is None else element.findtext(f"{{{NS_CLIENT}}}status", "")
            mine.status = status[:MAX_STATUS_CHARS]
        told: dict[ClientSession, None] = {}  # each once, in order
        if was is not None:
            for jid in (*map(JID, host.watchers[bare]), bare):
                told |= dict.fromkeys(self._server.delivery.audience(jid))
        for jid in directed:
            told |= dict.fromkeys(self._server.delivery.audience(jid))
        told.pop(session, None)
        if told:
            element = presence(type="unavailable") if element is None else element
            element.set("from", str(session.jid))
            for other in told:
                other.send_to(element)
        if not host.available_sessions(bare):
            host.watchers.pop(bare, None)

    # ---- with `to` ----

    def directed(self, stanza: Stanza, session: ClientSession, host: LocalHost, to: JID) -> None:
        """Take presence of `session` for the account, or the resource, `to`. Raises StanzaError."""
        match stanza.type:
            case None | "unavailable":
                self._direct(stanza, session, to)
            case "probe":
                self._probe(stanza, session, host, to)
            case "error":
                if to.resource is not None:
                    self._show(stamp(stanza, session), self._server.delivery.audience(to))
            case _:
                for verb in VERBS:
                    if verb == stanza.type:
                        self._subscription(verb, stanza, session, to.bare)
                        return
                raise StanzaError("bad-request", text="a presence of unknown type")

    def _direct(self, stanza: Stanza, session: ClientSession, to: JID) -> None:
        """Section 4.6."""
        mine = session.availability
        if stanza.type is None:
            read_priority(stanza.element)
            if to not in mine.directed and len(mine.directed) >= MAX_DIRECTED:
                raise StanzaError("resource-constraint")
            mine.direct(to)
        else:
            mine.undirect(to)
        self._show(stamp(stanza, session), self._server.delivery.audience(to))

    # ---- subscriptions: section 3 ----

    def _subscription(self, verb: Verb, stanza: Stanza, session: ClientSession, contact: JID) -> None:
        account = session.jid.bare
        if contact == account:
            return  # nobody asks themselves
        element = stamp(stanza, session)
        element.set("from", str(account))  # sections 3.1.2 to 3.4.2: both are bare
        element.set("to", str(contact))
        octets = element.tobytes(NS_CLIENT)

        def rule(tx: Tx) -> list[Effect]:
            if not tx.accounts.exists(str(account)):
                raise StanzaError("not-allowed", text="this account has no roster")  # it is anonymous
            mine, theirs = rules.load(tx, account, contact)
            if verb == "subscribe" and blocks_sender(tx, str(contact), session.jid):
                theirs = None  # XEP-0191 section 3.3: as if nobody were there to hear it
            return apply(rules.send(mine, theirs, verb, octets), tx)

        session.transact(stanza, rule, self.perform)

    def perform(self, effects: Iterable[Effect]) -> None:
        """Send what the rules have decided; see `xiot.model.presence.Subscriptions`."""
        for effect in effects:
            assert isinstance(effect, Push | Deliver | Announce | Route)
            account = JID(effect.owner)
            host = self._server.hosts.get(account.domain)
            if host is None:
                continue  # it was one of ours, by an earlier configuration
            match effect:
                case Push():
                    self._server.delivery.push(account, roster.changed(effect))
                case Deliver(_, contact, verb, stanza):
                    self._tell(host, account, contact, verb, stanza)
                case Announce(_, contact, visible):
                    self._announce(host, account, contact, visible=visible)
                case Route():
                    pass  # nobody here; another server's, once there are streams to those

    def _tell(self, host: LocalHost, account: JID, contact: str, verb: Verb, stanza: bytes) -> None:
        element = reread(stanza) if stanza else presence(type=verb, from_=contact, to=account)
        if verb == "subscribe":  # section 3.1.3: whoever is available may answer
            targets = host.available_sessions(account)
        else:  # sections 3.1.6, 3.2.3 and 3.3.3: whoever shows the roster
            targets = [session for session in host.sessions(account) if roster.NS in session.interests]
        self._show(element, targets)

    def _announce(self, host: LocalHost, account: JID, contact: str, *, visible: bool) -> None:
        watchers = host.watchers.get(account)
        if watchers is None:
            return  # nobody is available
        self._forget_readers()
        host.watchers[account] = watchers | {contact} if visible else watchers - {contact}
        for session in host.available_sessions(account):
            assert session.availability.presence is not None
            gone = presence(type="unavailable", from_=session.jid)
            self._to_watcher(session.availability.presence if visible else gone, JID(contact))

    # ---- probes: section 4.3 ----

    def _answer(self, jid: JID, session: ClientSession) -> None:
        """Tell `session` what is known of the presence of `jid`, which it may see."""
        for other in self._server.delivery.audience(jid):
            if other is not session and other.availability.presence is not None:
                session.send_to(other.availability.presence)

    def _probe(self, stanza: Stanza, session: ClientSession, host: LocalHost, to: JID) -> None:
        """Section 4.3.2."""
        account = session.jid.bare
        if to.bare == account:
            self._answer(to, session)
            return

        def look(tx: Tx) -> list[Effect] | bool:
            if blocks_sender(tx, str(to.bare), session.jid):
                return []
            mine, theirs = rules.load(tx, account, to.bare)
            state = rules.State() if theirs is None else rules.state_of(theirs)
            if state.from_ or state.pending_in:
                return state.from_
            return apply(rules.receive(mine, theirs, "unsubscribed"), tx)

        def answer(result: list[Effect] | bool) -> None:
            if not isinstance(result, bool):
                self.perform(result)
            elif result and host.available_sessions(to.bare):
                self._answer(to, session)
            elif result:
                session.send_to(presence(type="unavailable", from_=to.bare))

        session.transact(stanza, look, answer)


def read_priority(presence: Element) -> int:
    """``<priority/>`` of a presence, from -128 to 127; 0 if there is none. Raises StanzaError (RFC 6121 section 4.7.2.3)."""
    text = presence.findtext(f"{{{NS_CLIENT}}}priority")
    try:
        value = int(text.strip()) if text is not None else 0
    except ValueError:
        raise StanzaError("bad-request", text="priority is not a number") from None
    if not -128 <= value <= 127:
        raise StanzaError("bad-request", text="priority is not from -128 to 127")
    return value

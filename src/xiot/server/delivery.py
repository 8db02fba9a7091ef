# SPDX-License-Identifier: Apache-2.0
"""How stanzas reach the sessions of accounts: RFC 6121 section 8, and messages that wait (XEP-0160).

Theory of operation. Whatever Python gives to sessions, it gives to `Delivery.deliver`: what a client sent that the core did not route
itself, presence, and what the server makes. A message for an account without anybody to take it is stored; the sender's next stanza is
looked at when that is durable. Stored messages are handed over before the account's session counts as available (`xiot.server.presence`),
so nothing overtakes them; should somebody have become available while a message was being stored, it is handed over at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import trio

from xiot.core import JID, Element, Stanza, XmlError
from xiot.errors import StanzaError, XiotError
from xiot.model import offline as rules
from xiot.model.blocking import blocks_sender
from xiot.model.delivery import MessageType, reachable, route_message
from xiot.model.effects import Tx
from xiot.server.journal import Waiting
from xiot.stanzas import NS_CLIENT, error_element, iq, reread
from xiot.xep import carbons, offline, stanzaid

if TYPE_CHECKING:
    from xiot.schema import Payload
    from xiot.server.host import LocalHost
    from xiot.server.journal import Custody
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

MAX_LANG_CHARS = 35  # of a language tag (RFC 5646 section 4.4.1): a longer one would make each stanza grow


class Delivery:
    """The ways to the sessions of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def _limits(self) -> rules.OfflineLimits:
        limits = self._server.config.limits
        return rules.OfflineLimits(limits.offline_messages_per_account, limits.offline_bytes_per_account)

    def deliver(
        self, stanza: Element, sessions: Iterable[ClientSession], data: bytes | None = None, *, copies: bool = True
    ) -> bool:
        """Hand `stanza` to each of `sessions`, all of one account; `data`: its bytes, if there are any yet; `copies`: make carbons.

        It has its ``from`` and, unless it is in `data`, its ``to``. Everything that is not routed by the core comes through here: here it is
        blocked, copied and held back (`xiot.server.hooks`). Returns whether any session took it: one that does not keep up, or is gone,
        does not. What one side has blocked counts as taken.
        """
        hooks, sender = self._server.hooks, stanza.get("from")
        targets = list(sessions)
        if sender is not None and targets:
            targets = [session for session in targets if not hooks.hidden(sender, session)]
            if not targets:
                return True
        octets = stanza.tobytes(NS_CLIENT) if data is None else data
        took = [session.deliver(stanza, octets) for session in targets]  # all of them, not up to the first
        if copies and stanza.name == "message" and targets:
            with self._server.journal.carrying(None):  # who has a copy does not keep the message
                hooks.copy_received(stanza, targets)
        return any(took)

    # ---- from clients: RFC 6121 section 8.5 ----

    def message(self, stanza: Stanza, session: ClientSession, host: LocalHost, to: JID) -> None:
        """Deliver a message of `session` to the account, or the resource, `to`. Raises StanzaError."""
        if stanza.to is None:  # RFC 6120 section 10.3.1
            stanza.element.set("to", str(to))
        there = host.session(to)
        if there is not None:
            self._hand_over(stanza, session, [there])
            return
        route = route_message(message_type(stanza.type), host.available(to.bare), to_resource=to.resource is not None)
        if route.resources:
            self._hand_over(stanza, session, host.named(to.bare, route.resources))
        elif route.otherwise == "store":
            self._store(stanza, session, host, to.bare)
        elif route.otherwise == "bounce":
            raise StanzaError("service-unavailable")

    def iq(self, stanza: Stanza, session: ClientSession, host: LocalHost, to: JID) -> None:
        """Deliver an iq of `session` to the resource `to`. Raises StanzaError (section 8.5.3.2.3)."""
        there = host.session(to)
        if there is None:
            raise StanzaError("service-unavailable")
        self._hand_over(stanza, session, [there])

    def _hand_over(self, stanza: Stanza, session: ClientSession, targets: list[ClientSession]) -> None:
        element = stamp(stanza, session)
        stanzaid.strip(element, targets[0].jid.bare)
        if not self.deliver(element, targets):
            raise StanzaError("resource-constraint", text="the recipient does not keep up")
        for target in targets:
            if target.durable is not None and target.durable.crowded:
                session.wait(stanza, target.durable.uncrowded)

    def _store(self, stanza: Stanza, session: ClientSession, host: LocalHost, account: JID) -> None:
        message = stamp(stanza, session)
        stanzaid.strip(message, account)
        if not offline.storable(message):
            raise StanzaError("service-unavailable")
        owner, octets = str(account), offline.kept(message, host.domain, datetime.now(UTC))

        def keep(tx: Tx) -> int:
            if not tx.accounts.exists(owner) or blocks_sender(tx, owner, session.jid):
                raise StanzaError("service-unavailable")  # section 8.5.1; XEP-0191 section 3.3
            return rules.keep(tx.offline, owner, octets, self._limits)

        def stored(id: int) -> None:
            self._hand_over_late(message, octets, id, account)

        store = keep if session.durable is None else session.durable.removing(keep)
        session.transact(stanza, store, stored)

    def _hand_over_late(self, message: Element, octets: bytes, id: int, account: JID) -> None:
        """A message is stored: if somebody became available meanwhile, who found nothing that waits, it is his now."""
        host = self._server.hosts[account.domain]
        available = host.available(account)
        if not reachable(available):
            return
        route = route_message(message_type(message.get("type")), available)
        if self.deliver(message, host.named(account, route.resources), octets):
            self._forget(str(account), id)

    def _forget(self, owner: str, id: int) -> None:
        async def forget() -> None:
            try:
                await self._server.store.run(lambda tx: tx.offline.delete(owner, [id]))
            except XiotError as error:  # it will come once more
                self._server.log.error("a delivered message could not be removed", why=str(error))

        self._server.nursery.start_soon(forget)

    # ---- from sessions that have ended ----

    def undelivered(
        self, stanzas: list[tuple[bytes, Custody | None]], also: Callable[[Tx], object] = lambda tx: None
    ) -> None:
        """Deal with what a session that has ended did not acknowledge, as if it came now (XEP-0198 section 5).

        Each with the custody it is in, if any; `also` is to be done in the transaction that stores what has to wait. A message that has
        waited before, and has to again, keeps its place.
        """
        journal = self._server.journal
        waiting: list[Element] = []
        kept: list[Custody] = []
        for data, custody in stanzas:
            with journal.carrying(custody):
                stored = self._undelivered(data)
            if stored is None:
                if custody is not None:
                    custody.release()
            elif isinstance(custody, Waiting):
                custody.stay()
            else:
                waiting.append(stored)
                if custody is not None:
                    kept.append(custody)

        def remove(tx: Tx) -> None:
            for custody in kept:
                custody.remove(tx)
            also(tx)

        def removed() -> None:
            for custody in kept:
                custody.release()

        if waiting:
            self._server.storing.start_soon(self._keep, waiting, remove, removed)
        else:
            journal.add(also)

    def _undelivered(self, data: bytes) -> Element | None:
        """Deliver or bounce a stanza; return it if it is to be stored instead."""
        try:
            element = reread(data)
        except XmlError:  # nobody could take it
            return None
        if element.name == "message":
            to = JID(element.get("to", ""))
            if carbons.unwrap(element, to.bare) is not None:
                return None  # XEP-0280 section 10.3: it was one client's copy, and the message is not lost
            host = self._server.hosts[to.domain]
            route = route_message(
                message_type(element.get("type")), host.available(to.bare), to_resource=to.resource is not None
            )
            if route.resources:
                targets = host.named(to.bare, route.resources)
                took = self.deliver(element, targets, copies=False)  # they were made when it came
                return None if took or not offline.storable(element) else element
            elif route.otherwise == "store" and offline.storable(element):
                return element
            elif route.otherwise != "drop":
                self.bounce(element)
        elif element.name == "iq" and element.get("type") in ("get", "set"):
            self.bounce(element)
        return None

    async def _keep(self, messages: list[Element], also: Callable[[Tx], None], then: Callable[[], None]) -> None:
        """Store messages for the account that they are all addressed to; return to their senders what cannot be stored."""
        account, now = JID(messages[0].get("to", "")).bare, datetime.now(UTC)
        texts = [offline.kept(message, account.domain, now) for message in messages]

        def keep(tx: Tx) -> list[int | None]:
            also(tx)
            there, ids = tx.accounts.exists(str(account)), list[int | None]()
            for octets in texts:
                id = None
                if there:
                    with suppress(StanzaError):
                        id = rules.keep(tx.offline, str(account), octets, self._limits)
                ids.append(id)
            return ids

        def kept(ids: list[int | None]) -> None:
            then()
            for message, octets, id in zip(messages, texts, ids, strict=True):
                if id is None:
                    self.bounce(message)
                else:
                    self._hand_over_late(message, octets, id, account)

        with trio.CancelScope(shield=True):  # even while the server stops
            try:
                await self._server.store.transact(keep, kept)
            except XiotError:
                for message in messages:
                    self.bounce(message)
        self._server.pump.flush()

    def bounce(self, stanza: Element, error: StanzaError | None = None) -> None:
        """Return a stanza to its sender with `error`; None: who was to get it is gone."""
        sender = stanza.get("from")
        if sender is None:
            return
        answer = Element(stanza.tag, {"type": "error", "from": stanza.get("to", ""), "to": sender})
        id = stanza.get("id")
        if id is not None:
            answer.set("id", id)
        answer.append(error_element(error or StanzaError("recipient-unavailable")))
        self.send(answer)

    # ---- from the server ----

    def send(self, element: Element) -> None:
        """Deliver a stanza of the server's own making; `from` and `to` are set. What cannot be delivered is dropped."""
        self.deliver(element, self.targets(JID(element.get("to", ""))))

    def push(self, account: JID, payload: Payload) -> None:
        """Send `payload` in an iq set to each resource of `account` that wants pushes of its namespace."""
        child, host = payload.to_element(), self._server.hosts.get(account.domain)
        for session in host.sessions(account) if host is not None else ():
            if child.ns in session.interests:
                push = iq("set", child, id=uuid4().hex, to=session.jid)
                self.deliver(push, [session])

    def targets(self, jid: JID) -> list[ClientSession]:
        """The sessions that a stanza of the server to `jid` reaches: the one with that resource, or all available ones."""
        host = self._server.hosts.get(jid.domain)
        if host is None:
            return []
        if jid.resource is not None:
            there = host.session(jid)
            return [] if there is None else [there]
        return host.named(jid, [available.resource for available in reachable(host.available(jid))])

    def audience(self, jid: JID) -> list[ClientSession]:
        """Who gets presence that is sent to `jid` (RFC 6121 sections 8.5.2.1.2 and 8.5.3.1)."""
        host = self._server.hosts.get(jid.domain)
        if host is None:
            return []
        if jid.resource is None:
            return host.available_sessions(jid)
        there = host.session(jid)
        return [] if there is None else [there]


def stamp(stanza: Stanza, session: ClientSession) -> Element:
    """The stanza as a tree, from the session's full JID (RFC 6120 section 8.1.2.1), in its language (section 8.1.5)."""
    element = stanza.element
    element.set("from", str(session.jid))
    if stanza.lang is not None and len(stanza.lang) <= MAX_LANG_CHARS:
        element.set("{http://www.w3.org/XML/1998/namespace}lang", stanza.lang)
    return element


def message_type(type: str | None) -> MessageType:
    """The type of a message; one that is absent or unknown is normal (RFC 6121 section 5.2.2)."""
    match type:
        case "chat" | "error" | "groupchat" | "headline":
            return type
        case _:
            return "normal"

# SPDX-License-Identifier: Apache-2.0
"""Where stanzas go that the core does not route: RFC 6120 section 10, RFC 6121 sections 4.6 and 8.

Theory of operation. The core hands over what is not plainly to a full JID online. `Routing.route` looks at the address, and either
delivers to sessions, or runs the handler of a place (a host, a service) or of an account. A handler that must wait has its session
paused, so that nothing of the same sender overtakes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from xiot.core import JID, Element, JidError, Stanza
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, Handler, Key, Scope
from xiot.model.presence import MessageType, reachable, route_message
from xiot.server.context import ServerContext
from xiot.stanzas import NS_CLIENT, error_element, error_to, presence

if TYPE_CHECKING:
    from xiot.server.host import LocalHost, Place
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

MAX_LANG_CHARS = 35  # of a language tag (RFC 5646 section 4.4.1): a longer one would make each stanza grow
MAX_DIRECTED = 1000  # directed presences remembered by a session; further ones are refused


class Routing:
    """The rules of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def route(self, stanza: Stanza, session: ClientSession) -> None:
        """Deal with what `session` sent."""
        self._server.metrics.stanzas[stanza.name] += 1
        try:
            self._route(stanza, session)
        except StanzaError as error:
            self.refuse(stanza, session, error)

    def refuse(self, stanza: Stanza, session: ClientSession, error: StanzaError) -> None:
        """Answer `stanza` with `error`, if it may have an answer (RFC 6120 section 8.3.1)."""
        answer = error_to(stanza, error)
        if answer is not None:
            self._server.metrics.errors["stanza", error.condition] += 1
            answer.set("to", str(session.jid))
            session.send(answer)

    def _route(self, stanza: Stanza, session: ClientSession) -> None:
        if stanza.name == "iq":
            check_iq(stanza)
        if stanza.to is None:
            to = session.jid.bare
            if stanza.name == "presence":
                self._own_presence(stanza, session)
                return
        else:
            try:
                to = JID(stanza.to)
            except JidError:
                raise StanzaError("jid-malformed") from None
        place = self._server.places.get(to.domain)
        if place is None:
            raise StanzaError("remote-server-not-found")
        host = self._server.hosts.get(to.domain)
        if to.local is None or host is None:
            if to.local is not None and stanza.type != "error":
                raise StanzaError("item-not-found" if stanza.name == "iq" else "service-unavailable")
            self._to_place(stanza, session, place, to)
        elif stanza.name == "iq":
            self._iq(stanza, session, host, to)
        elif stanza.name == "message":
            self._message(stanza, session, host, to)
        else:
            self._presence(stanza, session, host, to)

    # ---- to the server itself ----

    def _to_place(self, stanza: Stanza, session: ClientSession, place: Place, to: JID) -> None:
        if stanza.name == "iq" and stanza.type in ("get", "set"):
            session.subscriber = session.subscriber or place.domain != place.host
            self._handle_iq(stanza, session, place, to, HOST)
        elif stanza.name != "iq":
            handlers = self._handlers(stanza, place, HOST)
            if not handlers and stanza.name == "message" and stanza.type != "error":
                raise StanzaError("service-unavailable")
            for handler in handlers:
                session.handle(handler, stanza, ServerContext(self._server, session, stanza, place, to, None))

    def _handlers(self, stanza: Stanza, place: Place, scope: Scope) -> tuple[Handler, ...]:
        if stanza.payload is None or stanza.type == "error":
            return ()
        kind: Literal["message", "presence"] = "message" if stanza.name == "message" else "presence"
        return place.table.get(Key(kind, None, scope, stanza.payload), ())

    def _handle_iq(self, stanza: Stanza, session: ClientSession, place: Place, to: JID, scope: Scope) -> None:
        assert stanza.payload is not None
        type: Literal["get", "set"] = "get" if stanza.type == "get" else "set"
        handlers = place.table.get(Key("iq", type, scope, stanza.payload))
        if not handlers:
            raise StanzaError("service-unavailable")  # RFC 6120 section 8.4
        account = to.bare if scope is ACCOUNT else None
        session.handle(handlers[0], stanza, ServerContext(self._server, session, stanza, place, to, account))

    # ---- to accounts: RFC 6121 section 8.5 ----

    def _iq(self, stanza: Stanza, session: ClientSession, host: LocalHost, to: JID) -> None:
        if to.resource is None:
            if stanza.type not in ("get", "set"):
                return
            if to == session.jid.bare or to in host.online:
                self._handle_iq(stanza, session, host, to, ACCOUNT)
            else:
                session.handle_if_exists(to, lambda: self._handle_iq(stanza, session, host, to, ACCOUNT), stanza)
            return
        there = host.online.get(to.bare, {}).get(to.resource)
        if there is None:
            raise StanzaError("service-unavailable")
        self._deliver(stanza, session, [there])

    def _message(self, stanza: Stanza, session: ClientSession, host: LocalHost, to: JID) -> None:
        type = message_type(stanza.type)
        if to.resource is not None:
            there = host.online.get(to.bare, {}).get(to.resource)
            if there is not None:
                self._deliver(stanza, session, [there])
                return
        route = route_message(type, host.available(to.bare), to_resource=to.resource is not None)
        if route.resources:
            there_now = host.online[to.bare]
            self._deliver(stanza, session, [there_now[resource] for resource in route.resources])
        elif route.otherwise != "drop":  # kept until somebody comes, once there is offline storage (XEP-0160)
            raise StanzaError("service-unavailable")

    def _presence(self, stanza: Stanza, session: ClientSession, host: LocalHost, to: JID) -> None:
        if stanza.type not in (None, "unavailable"):
            if stanza.type == "error" and to.resource is not None:
                there = host.online.get(to.bare, {}).get(to.resource)
                self._deliver(stanza, session, [] if there is None else [there], bounce=False)
            if stanza.type in ("error", "unsubscribe", "unsubscribed"):
                return
            raise StanzaError("feature-not-implemented", text="presence subscriptions are not built yet")
        directed = session.availability.directed
        if stanza.type is None:
            if to not in directed and len(directed) >= MAX_DIRECTED:
                raise StanzaError("resource-constraint")
            directed.add(to)
        else:
            directed.discard(to)
        if to.resource is None:
            targets = [s for s in host.sessions(to) if s.availability.presence is not None]
        else:
            there = host.online.get(to.bare, {}).get(to.resource)
            targets = [] if there is None else [there]
        self._deliver(stanza, session, targets, bounce=False)

    def _deliver(
        self, stanza: Stanza, session: ClientSession, targets: list[ClientSession], *, bounce: bool = True
    ) -> None:
        if not targets:
            return
        element = stamp(stanza, session)
        data = element.tobytes(NS_CLIENT)
        delivered = [target.write(data) for target in targets]
        if bounce and not any(delivered):
            raise StanzaError("resource-constraint", text="the recipient does not keep up")

    # ---- one's own presence: RFC 6121 section 4, without subscriptions ----

    def _own_presence(self, stanza: Stanza, session: ClientSession) -> None:
        if stanza.type == "unavailable":
            self.unavailable(session, stanza)
            return
        if stanza.type is not None:
            if stanza.type == "error":
                return
            raise StanzaError("bad-request", text=f"presence of type {stanza.type[:32]} without 'to'")
        mine = session.availability
        priority = read_priority(stanza.element)
        first = mine.presence is None
        mine.presence = stamp(stanza, session)
        mine.priority = priority
        others = [
            s
            for s in self._server.hosts[session.jid.domain].sessions(session.jid.bare)
            if s.availability.presence is not None
        ]
        for other in others:  # section 4.2.2: to oneself too
            other.send_to(mine.presence)
        if first:
            for other in others:
                if other is not session and other.availability.presence is not None:
                    session.send_to(other.availability.presence)

    def unavailable(self, session: ClientSession, stanza: Stanza | None = None) -> None:
        """The session is unavailable, by its own word or because it has ended (sections 4.5 and 4.6.5)."""
        mine = session.availability
        was, mine.presence = mine.presence, None
        directed, mine.directed = mine.directed, set()
        if was is None and not directed:
            return
        element = presence(type="unavailable") if stanza is None else stanza.element
        element.set("from", str(session.jid))
        bare = session.jid.bare
        if was is not None:
            for other in self._server.hosts[bare.domain].sessions(bare):
                if other.availability.presence is not None:
                    other.send_to(element)
        for jid in directed:
            host = self._server.hosts.get(jid.domain)
            for other in host.sessions(jid.bare) if host is not None else ():
                if other.jid == jid or (jid.resource is None and other.availability.presence is not None):
                    other.send_to(element)

    def undelivered(self, stanzas: list[bytes]) -> None:
        """Deal with what a session that has ended did not acknowledge, as if it came now (XEP-0198 section 5)."""
        for data in stanzas:
            element = Element.fromstring(data, NS_CLIENT)
            if element.name == "message":
                self._undelivered_message(element)
            elif element.name == "iq" and element.get("type") in ("get", "set"):
                self._bounce(element, StanzaError("recipient-unavailable"))

    def _undelivered_message(self, element: Element) -> None:
        to = JID(element.get("to", ""))
        type = message_type(element.get("type"))
        route = route_message(type, self._server.hosts[to.domain].available(to.bare), to_resource=True)
        online = self._server.hosts[to.domain].online.get(to.bare, {})
        for resource in route.resources:
            online[resource].send(element)
        if not route.resources and route.otherwise != "drop":
            self._bounce(element, StanzaError("recipient-unavailable"))

    def _bounce(self, element: Element, error: StanzaError) -> None:
        """Return a stanza to its sender with `error`."""
        sender = element.get("from")
        if sender is None:
            return
        answer = Element(element.tag, {"type": "error", "from": element.get("to", ""), "to": sender})
        if element.get("id") is not None:
            answer.set("id", element.get("id", ""))
        answer.append(error_element(error))
        self.send(answer)

    # ---- from the server ----

    def send(self, element: Element) -> None:
        """Deliver a stanza of the server's own making; `from` and `to` are set. What cannot be delivered is dropped."""
        for target in self.targets(JID(element.get("to", ""))):
            target.write(element.tobytes(NS_CLIENT))

    def targets(self, jid: JID) -> list[ClientSession]:
        """The sessions that a stanza of the server to `jid` reaches: the one with that resource, or all available ones."""
        host = self._server.hosts.get(jid.domain)
        if host is None:
            return []
        if jid.resource is not None:
            there = host.online.get(jid.bare, {}).get(jid.resource)
            return [] if there is None else [there]
        online = host.online.get(jid, {})
        return [online[a.resource] for a in reachable(host.available(jid))]


def check_iq(stanza: Stanza) -> None:
    """Raise StanzaError (bad-request) unless the iq has an id, a known type and the children of its type (RFC 6120 section 8.2.3)."""
    if not stanza.id:
        raise StanzaError("bad-request", text="an iq needs an id")
    if stanza.type not in ("get", "set", "result", "error"):
        raise StanzaError("bad-request", text="an iq needs a type: get, set, result or error")
    if stanza.type in ("get", "set") and stanza.children != 1:
        raise StanzaError("bad-request", text=f"an iq {stanza.type} has exactly one child element")


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

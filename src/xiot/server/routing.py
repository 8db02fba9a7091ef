# SPDX-License-Identifier: Apache-2.0
"""Where stanzas go that the core does not route: RFC 6120 section 10.

Theory of operation. The core hands over what is not plainly to a full JID online. `Routing.route` looks at the address, and runs the handler
of a place (a host, a service) or of an account, or hands the stanza to `xiot.server.delivery` or `xiot.server.presence`. What must wait
has its session paused, so that nothing of the same sender overtakes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from xiot.core import JID, JidError, Stanza
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, Handler, Key, Scope
from xiot.model.blocking import blocks_sender
from xiot.model.effects import Tx
from xiot.server.context import ServerContext
from xiot.server.handling import handle
from xiot.stanzas import error_to

if TYPE_CHECKING:
    from xiot.server.host import LocalHost, Place
    from xiot.server.server import Server
    from xiot.server.session import ClientSession


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
                self._server.presences.own(stanza, session)
                return
        else:
            try:
                to = JID(stanza.to)
            except JidError:
                raise StanzaError("jid-malformed") from None
            if not self._server.hooks.check(stanza, session, to):
                return
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
            self._server.delivery.message(stanza, session, host, to)
        else:
            self._server.presences.directed(stanza, session, host, to)
        if stanza.name == "message":
            self._server.hooks.copy_sent(stanza, session, to)

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
                handle(handler, stanza, session, ServerContext(self._server, session, stanza, place, to, None))

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
        handle(handlers[0], stanza, session, ServerContext(self._server, session, stanza, place, to, account))

    # ---- to accounts ----

    def _iq(self, stanza: Stanza, session: ClientSession, host: LocalHost, to: JID) -> None:
        if to.resource is not None:
            self._server.delivery.iq(stanza, session, host, to)
        elif stanza.type in ("get", "set"):
            if to == session.jid.bare or to in host.online:
                self._handle_iq(stanza, session, host, to, ACCOUNT)
                return

            def exists(tx: Tx) -> None:
                if not tx.accounts.exists(str(to)) or blocks_sender(tx, str(to), session.jid):
                    raise StanzaError("service-unavailable")  # RFC 6121 section 8.5.1; XEP-0191 section 3.3

            session.transact(stanza, exists, lambda _: self._handle_iq(stanza, session, host, to, ACCOUNT))


def check_iq(stanza: Stanza) -> None:
    """Raise StanzaError (bad-request) unless the iq has an id, a known type and the children of its type (RFC 6120 section 8.2.3)."""
    if not stanza.id:
        raise StanzaError("bad-request", text="an iq needs an id")
    if stanza.type not in ("get", "set", "result", "error"):
        raise StanzaError("bad-request", text="an iq needs a type: get, set, result or error")
    if stanza.type in ("get", "set") and stanza.children != 1:
        raise StanzaError("bad-request", text=f"an iq {stanza.type} has exactly one child element")

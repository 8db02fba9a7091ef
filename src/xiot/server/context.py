# SPDX-License-Identifier: Apache-2.0
"""What a handler may do in the server: `xiot.ext.Context` on real sessions, stores and tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from xiot.core import JID, Element, Stanza
from xiot.ext import Context
from xiot.stanzas import NS_CLIENT, reply_to

if TYPE_CHECKING:
    from xiot.schema import Payload
    from xiot.server.host import Place
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

T = TypeVar("T")


class ServerContext(Context):
    """One stanza of one session, for one handler."""

    def __init__(
        self, server: Server, session: ClientSession, stanza: Stanza, place: Place, to: JID, account: JID | None
    ) -> None:
        self._server = server
        self._session = session
        self._stanza = stanza
        self._place = place
        self._to = to
        self._account = account
        self._answered = stanza.name != "iq"

    @property
    def sender(self) -> JID:
        return self._session.jid

    @property
    def to(self) -> JID:
        return self._to

    @property
    def id(self) -> str:
        return self._stanza.id or ""

    @property
    def host(self) -> str:
        return self._place.host

    @property
    def account(self) -> JID | None:
        return self._account

    def service(self, kind: type[T]) -> T:
        return self._place.service(kind)

    def reply(self, payload: Payload | None) -> None:
        if self._answered:
            return
        self._answered = True
        answer = reply_to(self._stanza, None if payload is None else payload.to_element())
        answer.set("to", str(self._session.jid))
        self._session.send(answer)

    def send(self, stanza: Element) -> None:
        stanza.set("from", str(self._to))
        self._server.delivery.send(stanza)

    def fan_out(self, jids: Iterable[str], stanza: Element) -> None:
        stanza.set("from", str(self._to))
        data = stanza.tobytes(NS_CLIENT)
        cut = 1 + len(stanza.name)  # behind "<message"
        head, tail = data[:cut], data[cut:]
        for jid in jids:
            targets = self._server.delivery.targets(JID(jid))
            if targets:
                self._server.delivery.deliver(stanza, targets, head + to_attribute(jid) + tail)

    def push(self, account: JID, payload: Payload) -> None:
        self._server.delivery.push(account, payload)

    def interest(self, ns: str) -> None:
        self._session.interest(ns)

    def resources(self, bare: JID) -> Sequence[JID]:
        host = self._server.hosts.get(bare.domain)
        return [session.jid for session in host.available_sessions(bare)] if host is not None else []

    def now(self) -> datetime:
        return datetime.now(UTC)

    def after(self, seconds: float, fn: Callable[[], None]) -> None:
        self._session.after(seconds, fn)

    def spawn(self, fn: Callable[[], Awaitable[None]]) -> None:
        self._session.spawn(fn)


def to_attribute(jid: str) -> bytes:
    """`` to='jid'`` with what XML wants escaped."""
    return f" to='{jid.replace('&', '&amp;').replace('<', '&lt;').replace(chr(39), '&apos;')}'".encode()

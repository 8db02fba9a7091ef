# SPDX-License-Identifier: Apache-2.0
"""One client's session: between its connection, its stream machine and the server's rules.

Theory of operation. The pump calls `on_event` with what the link did not route itself. The stream machine (`xiot.proto`) turns it into
events; each is dealt with at once, or needs something slow (the store, PBKDF2): then the connection is paused, a task gets the answer, and
the connection goes on. So there is at most one such task for a session, and nothing of a stream overtakes anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import trio

from xiot.core import JID, Element, Stanza, StreamClose, StreamOpen, XmlError
from xiot.errors import StanzaError, StreamError
from xiot.ext import Handler, Style
from xiot.proto.events import (
    Authenticated,
    CheckPassword,
    Closed,
    Event,
    LoginFailed,
    NeedBind,
    NeedKeys,
    NonzaReceived,
    Ready,
    RestartStream,
    StanzaReceived,
    StartTls,
)
from xiot.proto.receiving import ServerStream
from xiot.server.host import Availability
from xiot.stanzas import NS_CLIENT
from xiot.xep import register

if TYPE_CHECKING:
    from xiot.net.pump import Connection
    from xiot.server.context import ServerContext
    from xiot.server.server import Server


class ClientSession:
    """A connected client, logged in or not."""

    def __init__(self, server: Server, connection: Connection, *, direct_tls: bool) -> None:
        self.server = server
        self.connection = connection
        self.availability = Availability()
        self.interests: set[str] = set()
        """Namespaces of which this session wants pushes."""
        self.subscriber = False
        """Whether it has asked a service for something, and may have subscribed its full JID."""
        self.account: JID | None = None
        """Whom the client says it is, from the moment it says so: whoever removes the account ends this session too."""
        self.jid: JID
        """Full; there once bound."""
        self._bound = False
        self._online = False
        self._stream = ServerStream(server.policy, secure=direct_tls)
        self._direct_tls = direct_tls
        self._scopes: set[trio.CancelScope] = set()
        self._since = monotonic()
        self._mechanism: str | None = None
        connection.set_deadline(server.config.limits.pre_auth_s)

    # ---- from the pump ----

    def on_event(self, event: StreamOpen | Stanza | StreamClose | XmlError) -> None:
        """Take the next event of the stream."""
        self._guard(lambda: self._do(self._stream.receive(event)))

    def on_secured(self) -> None:
        """TLS is on: direct TLS begins a stream, STARTTLS restarts one."""
        self._guard(self._begin_tls)

    def _begin_tls(self) -> None:
        tls = self.connection.tls
        assert tls is not None
        certificates = self.server.certificates
        bindings = certificates.bindings(certificates.host_of(tls))
        if self._direct_tls:
            self._stream = ServerStream(self.server.policy, secure=True, bindings=bindings)
        else:
            self._do(self._stream.tls_started(bindings))

    def on_timeout(self) -> None:
        """The time to log in is over."""
        self._guard(lambda: self.end(StreamError("connection-timeout", "login took too long")))

    def on_lost(self, reason: str) -> None:
        """The connection is gone: so is the session."""
        connection = self.connection
        for scope in self._scopes:
            scope.cancel()
        self._guard(self._leave)
        self.server.forget(self)
        self.server.log.info(
            "c2s ended",
            peer=connection.peer,
            jid=str(self.jid) if self._bound else None,
            reason=reason,
            seconds=round(monotonic() - self._since, 3),
            tls=connection.tls.version() if connection.tls is not None else None,
            mechanism=self._mechanism,
            bytes_in=connection.bytes_in,
            bytes_out=connection.bytes_out,
            routed=connection.link.stanzas,
        )

    def _leave(self) -> None:
        """Be offline, as soon as the stream is closed: the socket may linger."""
        if self._online:
            self._online = False
            self.server.routing.unavailable(self)
            self.server.hosts[self.jid.domain].remove(self.jid, self)
            if self.subscriber:
                self.server.resource_gone(self.jid)

    # ---- to the client ----

    def write(self, data: bytes) -> bool:
        """Queue a stanza. False if it was not: the client does not keep up, or is gone."""
        link = self.connection.link
        if self.connection.closing or link.full:
            return False
        link.write(data)
        return True

    def send(self, element: Element) -> bool:
        """Queue a stanza; see `write`."""
        return self.write(element.tobytes(NS_CLIENT))

    def send_to(self, element: Element) -> bool:
        """Queue a copy of a stanza that is addressed to this session."""
        element.set("to", str(self.jid))
        return self.send(element)

    def end(self, error: StreamError) -> None:
        """Close the stream with `error`, and then the connection."""
        self._do(self._stream.close(error))

    # ---- the stream machine ----

    def _flush_stream(self) -> None:
        data = self._stream.data_to_send()
        if data:
            self.connection.link.write(data)

    def _do(self, events: list[Event]) -> None:
        for event in events:
            self._flush_stream()
            match event:
                case StanzaReceived(stanza):
                    self._on_stanza(stanza)
                case StartTls(domain):
                    try:
                        self.connection.start_tls(self.server.certificates.context(domain))
                    except ValueError as problem:
                        self.connection.close(str(problem))
                case RestartStream():
                    self.connection.link.restart(logged_in=self._stream.jid is not None)
                case NeedKeys(username, mechanism):
                    self._answer(self._keys, username, mechanism)
                case CheckPassword(username, password):
                    self._answer(self._check, username, password)
                case LoginFailed(username, condition, text):
                    self.server.log.info(
                        "login failed",
                        peer=self.connection.peer,
                        host=self._stream.host,
                        user=username,
                        condition=condition,
                        why=text,
                    )
                case Authenticated(_, mechanism):
                    self._mechanism = mechanism
                case NeedBind(resource):
                    self._bind(resource)
                case Ready(jid):
                    self.connection.set_deadline(None)
                    self.server.log.info(
                        "c2s bound", peer=self.connection.peer, jid=str(jid), mechanism=self._mechanism
                    )
                case NonzaReceived():
                    pass  # none is asked for
                case Closed(error):
                    self._leave()
                    self.connection.close("closed" if error is None else str(error))
        if not self.connection.closing:
            self._flush_stream()

    def _answer(self, fn: Callable[..., Awaitable[list[Event]]], *args: object) -> None:
        """Get the answer to a question of the machine in a task; the connection waits."""

        async def ask() -> None:
            try:
                events = await fn(*args)
            except Exception:
                self.server.log.exception("login could not be checked", peer=self.connection.peer)
                events = self._stream.refuse_login("temporary-auth-failure")
            if not self.connection.closing:
                self._do(events)

        self._wait(ask)

    async def _keys(self, username: str, mechanism: str) -> list[Event]:
        self.account = jid = JID.of(username, self._stream.host)
        return self._stream.provide_keys(await self.server.accounts.keys(jid, mechanism))

    async def _check(self, username: str, password: str) -> list[Event]:
        self.account = jid = JID.of(username, self._stream.host)
        return self._stream.password_checked(await self.server.accounts.check_plain(jid, password))

    def _bind(self, resource: str | None) -> None:
        assert self._stream.jid is not None
        host = self.server.hosts[self._stream.host]
        bare = self._stream.jid.bare
        held = host.online.get(bare, {})
        former = None if resource is None else held.get(resource)
        if former is None and len(held) >= self.server.config.limits.resources_per_account:
            self._do(self._stream.bind_refused(StanzaError("resource-constraint")))  # RFC 6120 section 7.6.2.1
            return
        jid = bare.with_resource(resource or uuid4().hex)
        if former is not None:  # section 7.7.2.2: the newer one wins
            former.end(StreamError("conflict", "replaced by a new connection"))
        self.jid = jid
        self._bound = self._online = True
        host.add(jid, self)
        self.connection.link.bind(jid)
        self._do(self._stream.bound(jid))

    # ---- stanzas ----

    def _on_stanza(self, stanza: Stanza) -> None:
        if self._bound:
            self.server.routing.route(stanza, self)
        else:
            self._wait(lambda: self._register(stanza))

    async def _register(self, stanza: Stanza) -> None:
        """In-band registration before login (XEP-0077)."""
        answer: Element | None
        try:
            answer = await self.server.register(stanza, self._stream.host, self.connection.peer)
        except StanzaError as error:
            answer = register.refusal(stanza, error)
        if answer is not None:
            self.send(answer)

    def handle_if_exists(self, account: JID, handle: Callable[[], None], stanza: Stanza) -> None:
        """Call `handle` if there is such an account, else answer ``service-unavailable`` (RFC 6121 section 8.5.1)."""

        async def check() -> None:
            try:
                if not await self.server.accounts.exists(account):
                    raise StanzaError("service-unavailable")
                handle()
            except StanzaError as error:
                self.server.routing.refuse(stanza, self, error)

        self._wait(check)

    def handle(self, handler: Handler, stanza: Stanza, context: ServerContext) -> None:
        """Run a handler on a stanza; its StanzaError is the reply, any other exception is logged and `internal-server-error`."""
        child = next(iter(stanza.element), None)
        assert child is not None
        try:
            outcome = handler(child, context)
        except StanzaError:
            raise
        except Exception:
            self._failed(handler, stanza)
            return
        if handler.style is Style.PLAIN:
            context.reply(outcome)  # type: ignore[arg-type]
        elif handler.style is Style.GENERATOR:
            self._wait(lambda: self._run(self._generator(outcome, context), handler, stanza))  # type: ignore[arg-type]
        else:
            self._wait(lambda: self._run(self._coroutine(outcome, context), handler, stanza))  # type: ignore[arg-type]

    async def _run(self, work: Awaitable[None], handler: Handler, stanza: Stanza) -> None:
        try:
            await work
        except StanzaError as error:
            self.server.routing.refuse(stanza, self, error)
        except Exception:
            self._failed(handler, stanza)

    async def _generator(self, steps: Generator[Any, Any, Any], context: ServerContext) -> None:
        result: Any = None
        error: Exception | None = None
        while True:
            try:
                load = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as stop:
                context.reply(stop.value)
                return
            try:
                result, error = await self.server.store.run(load.run), None
            except Exception as problem:  # the handler may know what to do
                error = problem

    async def _coroutine(self, answer: Awaitable[Any], context: ServerContext) -> None:
        context.reply(await answer)

    def _failed(self, handler: Handler, stanza: Stanza) -> None:
        self.server.log.exception("handler failed", extension=handler.extension, jid=str(self.jid), id=stanza.id)
        self.server.routing.refuse(stanza, self, StanzaError("internal-server-error"))

    def _guard(self, step: Callable[[], None]) -> None:
        """Do what the pump asks for. A fault of ours ends this stream, not the server."""
        try:
            step()
        except Exception:
            self._fault()

    def _fault(self) -> None:
        self.server.log.exception(
            "fault in a session", peer=self.connection.peer, jid=str(self.jid) if self._bound else None
        )
        self.end(StreamError("internal-server-error"))

    # ---- tasks ----

    def _wait(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Read nothing more from the client until `fn` is done."""
        pump = self.server.pump
        pump.pause(self.connection)

        async def run() -> None:
            try:
                await fn()
            except Exception:
                self._fault()
            finally:
                pump.resume(self.connection)
                pump.flush()

        self.server.nursery.start_soon(run)

    def spawn(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Run `fn` in a task that ends with the session."""
        scope = trio.CancelScope()
        self._scopes.add(scope)

        async def run() -> None:
            try:
                with scope:
                    await fn()
            except Exception:
                self._fault()
            finally:
                self._scopes.discard(scope)
            self.server.pump.flush()

        if self.connection.lost is None:
            self.server.nursery.start_soon(run)

    def after(self, seconds: float, fn: Callable[[], None]) -> None:
        """Call `fn` after so many seconds, unless the session has ended."""

        async def wait() -> None:
            await trio.sleep(seconds)
            fn()

        self.spawn(wait)

    def __repr__(self) -> str:
        with suppress(AttributeError):
            return f"<ClientSession {self.jid}>"
        return f"<ClientSession of {self.connection.peer}>"

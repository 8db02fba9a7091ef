# SPDX-License-Identifier: Apache-2.0
"""One client's session: between its connection, its stream machine and the server's rules.

Theory of operation. The pump calls `on_event` with what the link did not route itself. The stream machine (`xiot.proto`) turns it into
events; each is dealt with at once, or needs something slow (the store, PBKDF2): then the connection is paused, a task gets the answer, and
the connection goes on. So there is at most one such task for a session, and nothing of a stream overtakes anything.

A session may outlive its connection and its stream, and go on with those of another one: see `xiot.server.resumption`.
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
from xiot.proto import sm
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
    Reply,
    RestartStream,
    StanzaReceived,
    StartTls,
)
from xiot.proto.receiving import ServerStream
from xiot.server import resumption
from xiot.server.host import Availability
from xiot.stanzas import NS_CLIENT
from xiot.store import StoreError
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
        self.bound = False
        self.resumable_by: str | None = None
        """The name by which it may be resumed."""
        self.resumable_s = 0.0
        """How long it is kept then without a connection."""
        self._online = False
        self._ended = False
        self._busy: trio.Event | None = None  # set when what the connection waits for is done
        self._stuck = (0, 0.0)  # how many stanzas were acknowledged when too many were not, and since when
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
        """The connection is gone, and so is the session, unless it may be resumed."""
        connection = self.connection
        self.server.disconnected(connection)
        resumable = self._online and self.resumable_by is not None and not self.server.stopping
        self.server.log.info(
            "c2s detached" if resumable else "c2s ended",
            peer=connection.peer,
            jid=str(self.jid) if self.bound else None,
            reason=reason,
            seconds=round(monotonic() - self._since, 3),
            tls=connection.tls.version() if connection.tls is not None else None,
            mechanism=self._mechanism,
            bytes_in=connection.bytes_in,
            bytes_out=connection.bytes_out,
            routed=connection.link.stanzas,
        )
        if resumable:
            connection.link.detach()
            self.server.resumptions.hold(self, self.resumable_s)
        else:
            self._finish()

    def expire(self, reason: str) -> None:
        """End the session though it could have been resumed. `reason` is for the log."""
        if self.connection.lost is None:
            self.end(StreamError("policy-violation", reason))
        elif not self._ended:
            self.server.log.info("c2s expired", jid=str(self.jid), reason=reason)
            self.connection.link.unbind()
            self._finish()

    def _finish(self) -> None:
        """Nothing comes after this."""
        self._ended = True
        for scope in self._scopes:
            scope.cancel()
        self._guard(self._leave)
        self.server.forget(self)

    def _leave(self) -> None:
        """Be offline, as soon as the stream is closed: the socket may linger."""
        if self._online:
            self._online = False
            self.server.resumptions.forget(self)
            self.server.routing.unavailable(self)
            self.server.hosts[self.jid.domain].remove(self.jid, self)
            if self.subscriber:
                self.server.resource_gone(self.jid)
            if self.connection.link.managed:
                self.server.routing.undelivered(self.connection.link.unacknowledged())

    # ---- to the client ----

    def write(self, data: bytes) -> bool:
        """Queue a stanza. False if it was not: the client does not keep up, or is gone."""
        link = self.connection.link
        if self.connection.closing and not link.detached:
            return False
        if link.full:
            if link.managed:
                self._check_progress()
            return False
        link.send(data)
        return True

    def write_nonza(self, data: bytes) -> None:
        """Queue what is no stanza."""
        if not self.connection.closing:
            self.connection.link.write(data)

    def _check_progress(self) -> None:
        """Too much was sent and not acknowledged: nothing new is, and if that stays so, the session ends."""
        link = self.connection.link
        stuck, since = self._stuck
        if not link.detached and (not since or link.acknowledged != stuck):
            self._stuck = link.acknowledged, monotonic()
        elif link.detached or monotonic() - since > self.server.config.limits.stall_s:
            self.server.resumptions.hold(self, 0)

    def send(self, element: Element) -> bool:
        """Queue a stanza; see `write`."""
        return self.write(element.tobytes(NS_CLIENT))

    def send_to(self, element: Element) -> bool:
        """Queue a copy of a stanza that is addressed to this session."""
        element.set("to", str(self.jid))
        return self.send(element)

    def end(self, error: StreamError) -> None:
        """Close the stream with `error`, and then the connection."""
        if self.connection.link.detached:
            self.expire(str(error))
        else:
            self._do(self._stream.close(error))

    # ---- stream management (XEP-0198) ----

    def resume(self, wish: sm.Resume) -> None:
        """Let the session that the client names go on here, in place of this one (section 5)."""

        async def resume() -> None:
            found = await self._find(wish.id)
            if self.connection.closing:
                return
            if found is None:
                self.write_nonza(sm.render(sm.Failed("item-not-found")))
                return
            link = found.connection.link
            try:
                link.acknowledge(wish.h)
            except ValueError:
                self.end(resumption.too_high(wish.h, link.sent))
                return
            found.go_on_as(self)

        self._wait(resume)

    async def _find(self, id: str) -> ClientSession | None:
        """The session of that name, as soon as it is done with the last stanza of its old stream."""
        assert self._stream.jid is not None
        with trio.move_on_after(resumption.IDLE_S):
            while (found := self.server.resumptions.find(id, self._stream.jid)) is not None:
                if found._busy is None:
                    return found
                await found._busy.wait()
        return None

    def go_on_as(self, other: ClientSession) -> None:
        """Take over the connection and the stream of `other`, which has asked for it, and send again what was not acknowledged."""
        assert self.resumable_by is not None
        former, stream, link = self.connection, self._stream, other.connection.link
        other.write_nonza(sm.render(sm.Resume(self.resumable_by, former.link.handled), answer=True))
        link.resume(former.link)
        link.hooks = former.link.hooks
        former.link.unbind()
        link.bind(self.jid)
        self.connection = other.connection
        self.connection.owner = self
        self.connection.set_deadline(None)
        self._stream = other._stream
        self._stream.resumed(self.jid)
        self._stuck = (0, 0.0)
        self.server.resumptions.release(self)
        self.server.forget(other)
        self.server.log.info(
            "c2s resumed", peer=self.connection.peer, jid=str(self.jid), kept=link.sent - link.acknowledged
        )
        if former.lost is None:
            former.owner = Abandoned(self.server, former)
            stream.close(StreamError("conflict", "resumed by a new connection"))
            former.link.write(stream.data_to_send())
            former.close("resumed by a new connection")

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
                    self.connection.link.count_handled()
                    self._on_stanza(stanza)
                case Reply(answer):
                    self.connection.link.count_handled()
                    self.send(answer)
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
                case NonzaReceived(nonza):
                    self._on_nonza(nonza)
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
        self.bound = self._online = True
        host.add(jid, self)
        self.connection.link.bind(jid)
        self._do(self._stream.bound(jid))

    # ---- stanzas ----

    def _on_nonza(self, nonza: Stanza) -> None:
        try:
            resumption.on_nonza(nonza, self)
        except StreamError as error:
            self.end(error)

    def _on_stanza(self, stanza: Stanza) -> None:
        if self.bound:
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
        except StoreError as error:  # a full disk, above all: a line each time, not a traceback
            self.server.log.error("the store failed", jid=str(self.jid), id=stanza.id, why=str(error))
            self.server.routing.refuse(stanza, self, StanzaError("resource-constraint"))
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
            "fault in a session", peer=self.connection.peer, jid=str(self.jid) if self.bound else None
        )
        self.end(StreamError("internal-server-error"))

    # ---- tasks ----

    def _wait(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Read nothing more from the client until `fn` is done."""
        pump, connection = self.server.pump, self.connection
        pump.pause(connection)
        self._busy = done = trio.Event()

        async def run() -> None:
            try:
                await fn()
            except Exception:
                self._fault()
            finally:
                self._busy = None
                done.set()
                pump.resume(connection)
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

        if not self._ended:
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


class Abandoned:
    """Owns a connection whose session goes on elsewhere, until it is closed."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection

    def on_event(self, event: StreamOpen | Stanza | StreamClose | XmlError) -> None:
        """Nothing is expected."""

    def on_secured(self) -> None:
        """Nothing is expected."""

    def on_timeout(self) -> None:
        """Nothing is expected."""

    def on_lost(self, reason: str) -> None:
        """The connection is gone."""
        self._server.disconnected(self._connection)

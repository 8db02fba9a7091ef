# SPDX-License-Identifier: Apache-2.0
"""One client's session: between its connection, its stream machine and the server's rules.

Theory of operation. The pump calls `on_event` with what the link did not route itself. The stream machine (`xiot.proto`) turns it into
events; each is dealt with at once, or needs something slow (the store, PBKDF2): then the connection is paused, a task gets the answer, and
the connection goes on. So there is at most one such task for a session, and nothing of a stream overtakes anything.

A session may outlive its connection and its stream, and go on with those of another one: see `xiot.server.resumption`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import trio

from xiot.core import JID, Element, Stanza, StreamClose, StreamOpen, XmlError
from xiot.errors import StanzaError, StreamError
from xiot.ext import Handler, Style
from xiot.proto import bind2, fast, sasl2
from xiot.proto.events import (
    Authenticated,
    CheckAccount,
    CheckPassword,
    CheckToken,
    Closed,
    Event,
    LoginFailed,
    NeedBind,
    NeedKeys,
    NeedSession,
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
from xiot.stanzas import NS_CLIENT, iq
from xiot.store import StoreError, Transaction
from xiot.xep import csi, register
from xiot.xep.ping import Ping

if TYPE_CHECKING:
    from xiot.net.pump import Connection
    from xiot.server.context import ServerContext
    from xiot.server.durable import DurableLink
    from xiot.server.server import Server

T = TypeVar("T")


class ClientSession:
    """A connected client, logged in or not."""

    def __init__(self, server: Server, connection: Connection, *, direct_tls: bool) -> None:
        self.server = server
        self.connection = connection
        self._certificates = server.certificates  # of its handshake, though a reload may bring others
        self.availability = Availability()
        self.interests: tuple[str, ...] = ()
        """Namespaces of which this session wants pushes."""
        self.carbons = False
        """Whether it wants copies of the messages of its account (XEP-0280)."""
        self.held: csi.Held | None = None
        """What waits while its client is inactive (XEP-0352)."""
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
        self.heir: ClientSession | None = None
        """Whose connection it is to go on with: of several that ask, the last."""
        self.durable: DurableLink | None = None
        """What keeps it over a crash of the server, if its client or the configuration wants that."""
        self.online = False
        """Whether it is bound and not over; its connection may be lost."""
        self.client: str | None = None
        """The id of its user agent, if it told one (XEP-0388)."""
        self._token_due: str | None = None  # the mechanism for which the client is to get a new token
        self._penalty_s = 0.0  # before the connection is read again
        self._ended = False
        self._waits = 0
        self._busy: trio.Event | None = None  # set when what the connection waits for is done
        self._stuck = (0, 0.0)  # how many stanzas were acknowledged when too many were not, and since when
        self._stream = ServerStream(server.policies, secure=direct_tls)
        self._direct_tls = direct_tls
        self._scopes: set[trio.CancelScope] | None = None  # of its tasks, while it has any
        self._since = monotonic()
        self._mechanism: str | None = None
        self._tried = "other"  # the mechanism of a login under way
        connection.set_deadline(server.config.limits.pre_auth_s)

    @property
    def host(self) -> str:
        """The domain that the stream is for; empty before its header has come."""
        return self._stream.host

    @property
    def lang(self) -> str:
        """The language of the stream."""
        return self._stream.lang

    @property
    def anonymous(self) -> bool:
        """Whether there is no account behind it."""
        return self._mechanism == "ANONYMOUS"

    # ---- from the pump ----

    def on_event(self, event: StreamOpen | Stanza | StreamClose | XmlError) -> None:
        """Take the next event of the stream."""
        if self.durable is not None and self.durable.busy and not (isinstance(event, Stanza) and event.ns == NS_CLIENT):
            self.wait_apart(partial(self._take_later, event, self.durable))
            return
        self.guard(lambda: self._do(self._stream.receive(event)))

    async def _take_later(self, event: StreamOpen | Stanza | StreamClose | XmlError, durable: DurableLink) -> None:
        """Take what is no stanza in its turn: a request for an acknowledgement once all before it is on disk."""
        if isinstance(event, Stanza) and event.name == "r":
            await durable.taken()
        else:
            await durable.settled()
        self.guard(lambda: self._do(self._stream.receive(event)))

    def on_secured(self) -> None:
        """TLS is on: direct TLS begins a stream, STARTTLS restarts one."""
        self.guard(self._begin_tls)

    def _begin_tls(self) -> None:
        tls = self.connection.tls
        assert tls is not None
        bindings = self._certificates.bindings(self._certificates.host_of(tls))
        if self._direct_tls:
            self._stream = ServerStream(
                self.server.policies, secure=True, bindings=bindings, certified=self._certificates.certified(tls)
            )
        else:
            self._stream.certified = self._certificates.certified(tls)
            self._do(self._stream.tls_started(bindings))

    def on_timeout(self) -> None:
        """The time to log in is over."""
        self.guard(lambda: self.end(StreamError("connection-timeout", "login took too long")))

    def on_idle(self) -> None:
        """The client has been silent for too long: it gets a last word, unless it may come back for the session."""
        if self.resumable_by is not None:
            self.connection.drop("silent for too long")
        else:
            self.guard(lambda: self.end(StreamError("connection-timeout", "silent for too long")))

    def ping(self) -> None:
        """Ask the client for a word (XEP-0199 section 4.1); whatever comes is one."""
        self.guard(lambda: self.send(iq("get", Ping().to_element(), id=uuid4().hex, to=self.jid, from_=self.host)))

    def on_lost(self, reason: str) -> None:
        """The connection is gone, and so is the session, unless it may be resumed."""
        connection = self.connection
        self.server.disconnected(connection)
        resumable = self.online and self.resumable_by is not None and not self.server.stopping
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
        for scope in self._scopes or ():
            scope.cancel()
        self.guard(self._leave)
        self.server.forget(self)

    def come_back(self, lang: str) -> None:
        """Be online as in the process before this one; see `xiot.server.durable`."""
        self.online = True
        self._stream = ServerStream(self.server.policies, lang=lang)
        self._stream.host = self.jid.domain
        self.server.hosts[self.jid.domain].add(self.jid, self)
        self.connection.link.bind(self.jid)
        self.server.sessions.add(self)

    def _leave(self) -> None:
        """Be offline, as soon as the stream is closed: the socket may linger."""
        if self.durable is not None and self.server.stopping:
            return  # the next process goes on with it
        if self.online:
            self.online = False
            self.server.resumptions.forget(self)
            self.server.presences.unavailable(self)
            host = self.server.hosts[self.jid.domain]
            host.remove(self.jid, self)
            self.server.hooks.left(self)
            if not host.sessions(self.jid.bare):
                self.server.logged_out(self.jid.bare, self.availability.status)
            if self.subscriber:
                self.server.resource_gone(self.jid)
            custody = self.server.journal.ended(self)
            if self.durable is not None:
                self.durable.end()
            elif self.connection.link.managed:
                stanzas = self.connection.link.unacknowledged()
                self.server.delivery.undelivered(list(zip(stanzas, custody, strict=True)))

    # ---- to the client ----

    def deliver(self, stanza: Element, octets: bytes) -> bool:
        """Queue a stanza, given as a tree and as octets, or hold it back while the client is inactive; else see `write`."""
        if self.held is None or not self.held.hold(stanza, octets):
            return self.write(octets)
        if self.held.full:
            self.release()
        return True

    def release(self) -> None:
        """Queue what was held back."""
        if self.held is not None:
            for octets in self.held.release():
                self.write(octets)

    def write(self, data: bytes) -> bool:
        """Queue a stanza. False if it was not: the client does not keep up, or is gone."""
        self.release()  # nothing overtakes what waits
        if self.durable is not None:
            took = self.durable.send(data)
            if not took and self.connection.link.full:
                self._check_progress()
            return took
        link = self.connection.link
        if self.connection.closing and not link.detached:
            return False
        if link.full:
            if link.managed:
                self._check_progress()
            return False
        link.send(data)
        if self.server.journal.carried is not None:
            self.server.journal.handed(self)
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

    def interest(self, ns: str) -> None:
        """The client wants pushes of that namespace."""
        if ns not in self.interests:
            self.interests += (ns,)

    def send(self, element: Element) -> bool:
        """Queue a stanza; see `write`."""
        return self.write(element.tobytes(NS_CLIENT))

    def send_to(self, element: Element) -> bool:
        """Deliver a copy of a stanza that is addressed to this session."""
        element.set("to", str(self.jid))
        return self.server.delivery.deliver(element, [self])

    def end(self, error: StreamError) -> None:
        """Close the stream with `error`, and then the connection."""
        if self.connection.link.detached:
            self.expire(str(error))
        else:
            self._do(self._stream.close(error))

    @property
    def logged_in(self) -> JID:
        """The account that the stream has logged in to."""
        assert self._stream.jid is not None
        return self._stream.jid

    # ---- stream management (XEP-0198) ----

    async def idle(self) -> None:
        """Wait until it is done with all that its client has sent so far."""
        while self._busy is not None or (self.durable is not None and self.durable.busy):
            if self._busy is not None:
                await self._busy.wait()
            elif self.durable is not None:
                await self.durable.settled()

    def resumed_by(self, jid: JID) -> None:
        """The stream, which has bound nothing, goes on as that of `jid`."""
        self._stream.resumed(jid)

    def go_on_as(self, other: ClientSession) -> None:
        """Take over the connection and the stream of `other`, which has been told so, and send again what was not acknowledged."""
        former, stream, link = self.connection, self._stream, other.connection.link
        link.resume(former.link)
        link.hooks = former.link.hooks
        former.link.unbind()
        link.bind(self.jid)
        self.connection = other.connection
        self.connection.owner = self
        self.connection.set_deadline(None)
        self._stream = other._stream
        self._stuck = (0, 0.0)
        self.server.hooks.resumed(self)
        self.heir = None
        self.server.resumptions.release(self)
        self.server.forget(other)
        self.server.log.info(
            "c2s resumed", peer=self.connection.peer, jid=str(self.jid), kept=link.sent - link.acknowledged
        )
        self.server.presences.resumed(self)
        if former.lost is None:
            former.owner = resumption.Abandoned(self.server, former)
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
                    if self.durable is not None:
                        self.durable.receive(stanza)
                    else:
                        self.connection.link.count_handled()
                        self._on_stanza(stanza)
                case Reply(answer):
                    if self.durable is not None:
                        self.durable.count()
                    else:
                        self.connection.link.count_handled()
                    self.send(answer)
                case StartTls(domain):
                    self._certificates = self.server.certificates
                    try:
                        self.connection.start_tls(self._certificates.context(domain))
                    except ValueError as problem:
                        self.connection.close(str(problem))
                case RestartStream():
                    self.connection.link.restart(logged_in=self._stream.jid is not None)
                case NeedKeys(username, mechanism):
                    self._tried = mechanism
                    self._answer(self._keys, username, mechanism)
                case CheckPassword(username, password):
                    self._tried = "PLAIN"
                    self._answer(self._check, username, password)
                case CheckAccount(username):
                    self._answer(self._exists, username)
                case CheckToken():
                    self._answer(self._token, event)
                case NeedSession(request):
                    self._answer(self._establish, request)
                case LoginFailed(username, condition, text):
                    self._punish(username, condition)
                    self.server.metrics.logins[self._tried, condition] += 1
                    self.server.log.info(
                        "login failed",
                        peer=self.connection.peer,
                        host=self._stream.host,
                        user=username,
                        condition=condition,
                        why=text,
                    )
                case Authenticated(jid, mechanism):
                    self._mechanism = sys.intern(mechanism)  # one string for all
                    self.connection.link.log_in()
                    if mechanism != "ANONYMOUS":
                        self.server.budgets.succeeded(str(jid), self.connection.peer)
                    self.server.metrics.logins[mechanism, "success"] += 1
                case NeedBind(resource):
                    account = self._stream.jid
                    assert account is not None
                    self._wait(partial(self.server.hooks.enter, account, partial(self._bind, resource)))
                case Ready(jid):
                    self.connection.set_deadline(None)
                    self.server.log.info(
                        "c2s bound", peer=self.connection.peer, jid=str(jid), mechanism=self._mechanism
                    )
                case NonzaReceived(nonza):
                    self._on_nonza(nonza)
                case Closed(error):
                    if isinstance(error, StreamError):
                        self.server.metrics.errors["stream", error.condition] += 1
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
        return self._refused(jid) or self._stream.provide_keys(await self.server.accounts.keys(jid, mechanism))

    async def _check(self, username: str, password: str) -> list[Event]:
        self.account = jid = JID.of(username, self._stream.host)
        return self._refused(jid) or self._stream.password_checked(
            await self.server.accounts.check_plain(jid, password)
        )

    async def _exists(self, username: str) -> list[Event]:
        self.account = jid = JID.of(username, self._stream.host)
        return self._stream.account_checked(await self.server.accounts.exists(jid))

    async def _token(self, asked: CheckToken) -> list[Event]:
        self.account = jid = JID.of(asked.username, self._stream.host)
        reply, condition, due = await self.server.accounts.tokens.check(jid, asked)
        self._token_due = asked.mechanism if due else None
        return self._stream.token_checked(reply, condition)

    def _refused(self, account: JID) -> list[Event]:
        """What to say if a password must not be tried now (`xiot.server.budgets`); empty if it may."""
        budgets, peer, now = self.server.budgets, self.connection.peer, monotonic()
        if budgets.address_spent(peer, now):
            return self._stream.close(StreamError("policy-violation", "too many failed logins from your address"))
        if budgets.account_spent(str(account), peer, now):
            return self._stream.refuse_login("temporary-auth-failure", "too many failed logins: try again later")
        return []

    def _punish(self, username: str | None, condition: str) -> None:
        """A login has failed: count it if it was a guess, and read on only after a while. So there is one task at most."""
        if username is not None and condition == "not-authorized":
            self.server.budgets.failed(f"{username}@{self._stream.host}", self.connection.peer, monotonic())
        self._penalty_s = self.server.config.limits.auth_failure_delay_s
        if self._busy is None:
            self._wait(trio.lowlevel.checkpoint)

    async def _establish(self, request: sasl2.Request) -> list[Event]:
        """Do what the client wants with its login (XEP-0388 section 2.6.1), and tell it."""
        bare = self._stream.jid
        assert bare is not None
        self.account, self.client = bare, request.user_agent.id
        token = await self._new_token(bare, request)
        extra = [] if token is None else [fast.render_token(token)]
        if self.connection.closing:
            return []
        policy = self.server.hosts[self._stream.host].policy
        results: list[Element] = []
        for outcome in sasl2.answers(policy.inline, self, request.inline):
            answer = await outcome if isinstance(outcome, Awaitable) else outcome
            if self.connection.closing:
                return []
            if isinstance(answer, sasl2.Resumed):
                news = self._stream.established(answer.jid, [answer.element, *results, *extra], resumed=True)
                self._flush_stream()
                if answer.then is not None:
                    answer.then()
                return news
            if answer is not None:
                results.append(answer)
        if request.bind is None:
            return self._stream.established(bare, [*results, *extra])
        jid = bind2.full_jid(bare, request.bind.tag, self.client, policy.sasl.fake_salt_secret)
        host = self.server.hosts[self._stream.host]
        events: list[Event] = []

        def take() -> None:
            if self.connection.closing:
                return
            for session in host.sessions(bare):  # XEP-0386 section 3.2: the client has come back
                if self.client is not None and session.client == self.client:
                    session.end(StreamError("conflict", "replaced by a new connection"))
            if not self._take(jid):
                events.extend(self._stream.close(StreamError("resource-constraint", "too many resources")))
                return
            bound = [a for a in sasl2.answers(policy.bind_inline, self, inline) if isinstance(a, Element)]
            events.extend(self._stream.established(jid, [bind2.bound(bound), *results, *extra]))
            self._flush_stream()  # before anything that is for us

        inline = request.bind.inline
        await self.server.hooks.enter(bare, take)
        return events

    async def _new_token(self, account: JID, request: sasl2.Request) -> fast.Token | None:
        mechanism = request.token_for or self._token_due
        if mechanism is None or mechanism not in self._stream.tokens or self.client is None:
            return None
        return await self.server.accounts.tokens.issue(account, self.client, mechanism)

    def _bind(self, resource: str | None) -> None:
        if self.connection.closing:
            return
        assert self._stream.jid is not None
        jid = self._stream.jid.with_resource(resource or uuid4().hex)
        if self._take(jid):
            self._do(self._stream.bound(jid))
        else:
            self._do(self._stream.bind_refused(StanzaError("resource-constraint")))  # RFC 6120 section 7.6.2.1

    def _take(self, jid: JID) -> bool:
        """Be `jid` from now on; False if the account has too many resources."""
        host = self.server.hosts[self._stream.host]
        former = host.session(jid)
        if former is None and len(host.sessions(jid.bare)) >= self.server.config.limits.resources_per_account:
            return False
        if former is not None:  # section 7.7.2.2: the newer one wins
            former.end(StreamError("conflict", "replaced by a new connection"))
        self.jid, self.account = jid, jid.bare
        self.bound = self.online = True
        host.add(jid, self)
        self.connection.link.bind(jid)
        return True

    # ---- stanzas ----

    def _on_nonza(self, nonza: Stanza) -> None:
        if nonza.ns == csi.NS:
            if self.bound:
                self.server.hooks.indicated(self, nonza.element)
            return
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

    def transact(self, stanza: Stanza, fn: Callable[[Transaction], T], then: Callable[[T], None]) -> None:
        """Run `fn` in the store, and `then` with its result once that is durable, before the next stanza is looked at.

        A StanzaError of either is the answer; if the store fails it is ``resource-constraint``.
        """
        if self.durable is not None:
            fn = self.durable.removing(fn)
        self.wait(stanza, lambda: self.server.store.transact(fn, then))

    def wait(self, stanza: Stanza, fn: Callable[[], Awaitable[None]]) -> None:
        """Look at the next stanza when `fn` is done; an exception of it is answered as by `transact`."""

        async def run() -> None:
            try:
                await fn()
            except StanzaError as error:
                self.server.routing.refuse(stanza, self, error)
            except StoreError as error:
                self.server.log.error("the store failed", jid=str(self.jid), id=stanza.id, why=str(error))
                self.server.routing.refuse(stanza, self, StanzaError("resource-constraint"))

        self._wait(run)

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
        def go_on(step: Callable[[], Any]) -> Any:
            try:
                return step()
            except StopIteration as stop:
                context.reply(stop.value)
                return None

        load = go_on(lambda: next(steps))
        while load is not None:
            run = load.run if self.durable is None or not load.writes else self.durable.removing(load.run)
            try:
                load = await self.server.store.transact(run, lambda result: go_on(lambda: steps.send(result)))
            except Exception as error:  # the handler may know what to do
                problem = error
                load = go_on(lambda: steps.throw(problem))  # noqa: B023 - called at once

    async def _coroutine(self, answer: Awaitable[Any], context: ServerContext) -> None:
        context.reply(await answer)

    def _failed(self, handler: Handler, stanza: Stanza) -> None:
        self.server.log.exception("handler failed", extension=handler.extension, jid=str(self.jid), id=stanza.id)
        self.server.routing.refuse(stanza, self, StanzaError("internal-server-error"))

    def guard(self, step: Callable[[], object]) -> None:
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

    def wait_apart(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Read nothing more from the client until `fn` is done, which has to do with no stanza."""
        self._wait(fn, apart=True)

    def _wait(self, fn: Callable[[], Awaitable[None]], *, apart: bool = False) -> None:
        """Read nothing more from the client until `fn` is done."""
        durable = None if apart else self.durable
        what = None if durable is None else durable.begin()
        pump, connection = self.server.pump, self.connection
        pump.pause(connection)
        self._waits += 1
        self._busy = done = self._busy if self._busy is not None else trio.Event()

        async def run() -> None:
            try:
                await fn()
                pump.flush()
                while self._penalty_s and not self.connection.closing:
                    seconds, self._penalty_s = self._penalty_s, 0.0
                    await trio.sleep(seconds)
            except Exception:
                self._fault()
            finally:
                self._waits -= 1
                if not self._waits:  # what is waited for may wait for more
                    self._busy = None
                    done.set()
                    pump.resume(connection)
                pump.flush()
            if (
                durable is not None and what is not None
            ):  # and the server does not stop: else it is done by the next one
                durable.finish(what)
                pump.flush()

        self.server.nursery.start_soon(run)

    def spawn(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Run `fn` in a task that ends with the session."""
        scope = trio.CancelScope()
        scopes = self._scopes = self._scopes or set()
        scopes.add(scope)

        async def run() -> None:
            try:
                with scope:
                    await fn()
            except Exception:
                self._fault()
            finally:
                scopes.discard(scope)
                if not scopes:
                    self._scopes = None
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

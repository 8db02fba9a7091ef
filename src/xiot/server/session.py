# SPDX-License-Identifier: Apache-2.0
"""One client's session: between its connection, its stream machine and the server's rules.

Theory of operation. The pump calls `on_event` with what the link did not route itself. The stream machine (`xiot.proto`) turns it into
events; each is dealt with at once, or needs something slow (the store, PBKDF2): then the connection is paused, a task gets the answer, and
the connection goes on. So there is at most one such task for a session, and nothing of a stream overtakes anything.

A session may outlive its connection and its stream, and go on with those of another one: see `xiot.server.resumption`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import trio

from xiot.core import JID, Element, Stanza, StreamClose, StreamOpen, XmlError
from xiot.errors import StanzaError, StreamError
from xiot.exi import ExiError
from xiot.proto.events import (
    Authenticated,
    CheckAccount,
    CheckPassword,
    CheckToken,
    Closed,
    Event,
    LoginFailed,
    NeedBind,
    NeedExi,
    NeedKeys,
    NeedSession,
    NonzaReceived,
    Ready,
    Reply,
    RestartStream,
    StanzaReceived,
    StartExi,
    StartTls,
)
from xiot.proto.receiving import ServerStream
from xiot.server import resumption
from xiot.server.host import Availability
from xiot.server.login import Login, Question
from xiot.stanzas import NS_CLIENT, error_element, iq, reread
from xiot.store import StoreError, Transaction
from xiot.xep import csi, register
from xiot.xep.ping import Ping

if TYPE_CHECKING:
    from xiot.exi.configurations import Setup
    from xiot.net.pump import Connection
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
        self._exi: Setup | None = None  # agreed on
        self._ended = False
        self._waits = 0
        self._busy: trio.Event | None = None  # set when what the connection waits for is done
        self._stuck = (0, 0.0)  # how many stanzas were acknowledged when too many were not, and since when
        self.stream = ServerStream(server.policies, secure=direct_tls)
        self.login = Login(self)
        self._direct_tls = direct_tls
        self._scopes: set[trio.CancelScope] | None = None  # of its tasks, while it has any
        self._since = monotonic()
        connection.set_deadline(server.config.limits.pre_auth_s)

    @property
    def host(self) -> str:
        """The domain that the stream is for; empty before its header has come."""
        return self.stream.host

    @property
    def lang(self) -> str:
        """The language of the stream."""
        return self.stream.lang

    @property
    def logged_in(self) -> JID:
        """The account that the stream has logged in to."""
        assert self.stream.jid is not None
        return self.stream.jid

    @property
    def paused(self) -> bool:
        """Whether the connection waits for something that is done for the client."""
        return self._busy is not None

    # ---- from the pump ----

    def on_event(self, event: StreamOpen | Stanza | StreamClose | XmlError | ExiError) -> None:
        """Take the next event of the stream."""
        if isinstance(event, StreamOpen):
            self.stream.over_exi = self.connection.over_exi
        if self.durable is not None and self.durable.busy and not (isinstance(event, Stanza) and event.ns == NS_CLIENT):
            self.wait_apart(partial(self._take_later, event, self.durable))
            return
        try:  # `guard`, without the calls
            events = self.stream.receive(event)
            if events:
                self.do(events)
            elif self.stream.out:
                self.flush_stream()
        except Exception:
            self._fault()

    async def _take_later(
        self, event: StreamOpen | Stanza | StreamClose | XmlError | ExiError, durable: DurableLink
    ) -> None:
        """Take what is no stanza in its turn: a request for an acknowledgement once all before it is on disk."""
        if isinstance(event, Stanza) and event.name == "r":
            await durable.taken()
        else:
            await durable.settled()
        self.guard(lambda: self.do(self.stream.receive(event)))

    def on_secured(self) -> None:
        """TLS is on: direct TLS begins a stream, STARTTLS restarts one."""
        self.guard(self._begin_tls)

    def _begin_tls(self) -> None:
        tls = self.connection.tls
        assert tls is not None
        bindings = self._certificates.bindings(self._certificates.host_of(tls))
        if self._direct_tls:
            self.stream = ServerStream(
                self.server.policies, secure=True, bindings=bindings, certified=self._certificates.certified(tls)
            )
        else:
            self.stream.certified = self._certificates.certified(tls)
            self.do(self.stream.tls_started(bindings))

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
            mechanism=self.login.mechanism,
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
        self.stream = ServerStream(self.server.policies, lang=lang)
        self.stream.host = self.jid.domain
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

    @property
    def strict(self) -> bool:
        """Whether the stream is in EXI that carries only what the schemas have."""
        exi = self.connection.exi
        return self.connection.over_exi and exi is not None and exi.setup is not None and exi.setup.options.strict

    def _carries(self, data: bytes) -> bool:
        """Whether a strict stream can carry a stanza; if not, who sent it, or asked for it, is told (XEP-0322 section 9)."""
        exi, stanza = self.connection.exi, reread(data)
        if exi is None or exi.setup is None or exi.setup.can_carry(stanza.tobytes()):
            return True
        refusal = StanzaError("not-acceptable", text="the schemas of the recipient's stream do not have it")
        if stanza.name == "iq" and stanza.get("type") == "result":
            given = {name: value for name in ("id", "from", "to") if (value := stanza.get(name)) is not None}
            answer = Element(stanza.tag, {"type": "error", **given}, None, error_element(refusal))
            self.write(answer.tobytes(NS_CLIENT))
        elif stanza.name != "presence" and stanza.get("type") not in ("error", "result"):
            self.server.delivery.bounce(stanza, refusal)
        else:
            self.server.log.info("the stream cannot carry a stanza", jid=str(self.jid), kind=stanza.name)
        return False

    def write(self, data: bytes) -> bool:
        """Queue a stanza. False if it was not: the client does not keep up, or is gone."""
        self.release()  # nothing overtakes what waits
        if self.strict and not self._carries(data):
            return True
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
        custody = self.server.journal.carried
        if custody is not None:
            self.server.journal.handed(self, custody)
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
            self.do(self.stream.close(error))

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
        self.stream.resumed(jid)

    def go_on_as(self, other: ClientSession) -> None:
        """Take over the connection and the stream of `other`, which has been told so, and send again what was not acknowledged."""
        former, stream, link = self.connection, self.stream, other.connection.link
        link.resume(former.link)
        link.hooks = former.link.hooks
        former.link.unbind()
        link.bind(self.jid)
        self.connection = other.connection
        self.connection.owner = self
        self.connection.set_deadline(None)
        self.stream = other.stream
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

    def flush_stream(self) -> None:
        """Queue what the machine has to say."""
        data = self.stream.data_to_send()
        if data:
            self.connection.link.write(data)

    def do(self, events: list[Event]) -> None:
        """Deal with what the machine has returned."""
        for event in events:
            if self.stream.out:
                self.flush_stream()
            _DEALS[type(event)](self, event)
        if self.stream.out and not self.connection.closing:
            self.flush_stream()

    def _received(self, event: StanzaReceived) -> None:
        if self.durable is not None:
            self.durable.receive(event.stanza)
        else:
            self.connection.link.count_handled()
            self._on_stanza(event.stanza)

    def _reply(self, event: Reply) -> None:
        if self.durable is not None:
            self.durable.count()
        else:
            self.connection.link.count_handled()
        self.send(event.stanza)

    def _start_tls(self, event: StartTls) -> None:
        self._certificates = self.server.certificates
        try:
            self.connection.start_tls(self._certificates.context(event.domain))
        except ValueError as problem:
            self.connection.close(str(problem))

    def _need_exi(self, event: NeedExi) -> None:
        self.wait_apart(partial(self._negotiate_exi, event.request))

    def _start_exi(self, _: StartExi) -> None:
        assert self._exi is not None
        try:
            self.connection.start_exi(self.server.exi.stream(self._exi))
        except ValueError as problem:
            self.connection.close(str(problem))

    def _restart(self, _: RestartStream) -> None:
        self.connection.restart(logged_in=self.stream.jid is not None)

    def _asked(self, event: Question) -> None:
        self.login.answer(event)

    def _login_failed(self, event: LoginFailed) -> None:
        self.login.failed(event)

    def _authenticated(self, event: Authenticated) -> None:
        self.login.succeeded(event)

    def _ready(self, event: Ready) -> None:
        self.connection.set_deadline(None)
        self.server.log.info("c2s bound", peer=self.connection.peer, jid=str(event.jid), mechanism=self.login.mechanism)

    def _closed(self, event: Closed) -> None:
        error = event.error
        if isinstance(error, StreamError):
            self.server.metrics.errors["stream", error.condition] += 1
        self._leave()
        self.connection.close("closed" if error is None else str(error))

    async def _negotiate_exi(self, request: Element) -> None:
        """Answer a client that negotiates EXI (XEP-0322)."""
        try:
            answer, setup = await self.server.exi.answer(request, self)
        except StreamError as error:
            self.end(error)
            return
        if self.connection.closing:
            return
        self._exi = setup
        if setup is not None and self.stream.over_exi and self.connection.exi is not None:
            self.connection.exi.propose(setup)
        self.do(self.stream.exi_answered(answer, agreed=setup is not None))

    def take(self, jid: JID) -> bool:
        """Be `jid` from now on; False if the account has too many resources."""
        host = self.server.hosts[self.stream.host]
        former = host.session(jid)
        if former is None and len(host.sessions(jid.bare)) >= self.server.config.limits.resources_per_account:
            return False
        if former is not None:  # RFC 6120 section 7.7.2.2: the newer one wins
            former.end(StreamError("conflict", "replaced by a new connection"))
        self.jid, self.account = jid, jid.bare
        self.bound = self.online = True
        host.add(jid, self)
        self.connection.link.bind(jid)
        return True

    # ---- stanzas ----

    def _on_nonza(self, event: NonzaReceived) -> None:
        nonza = event.stanza
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
            self.pause(lambda: self._register(stanza))

    async def _register(self, stanza: Stanza) -> None:
        """In-band registration before login (XEP-0077)."""
        answer: Element | None
        try:
            answer = await self.server.register(stanza, self.stream.host, self.connection.peer)
        except StanzaError as error:
            answer = register.refusal(stanza, error)
        if answer is not None:
            self.send(answer)

    def transact(self, stanza: Stanza, fn: Callable[[Transaction], T], then: Callable[[T], None]) -> None:
        """Run `fn` in the store, and `then` with its result once that is durable, before the next stanza is looked at.

        A StanzaError of either is the answer; if the store fails it is ``resource-constraint``.
        """
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

        self.pause(run)

    # ---- faults ----

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
        self.pause(fn, apart=True)

    def pause(self, fn: Callable[[], Awaitable[None]], *, apart: bool = False) -> None:
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
                await self.login.serve_penalty()
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


_DEALS: dict[type, Callable[[ClientSession, Any], None]] = {
    StanzaReceived: ClientSession._received,
    Reply: ClientSession._reply,
    StartTls: ClientSession._start_tls,
    NeedExi: ClientSession._need_exi,
    StartExi: ClientSession._start_exi,
    RestartStream: ClientSession._restart,
    **dict.fromkeys((NeedKeys, CheckPassword, CheckAccount, CheckToken, NeedSession, NeedBind), ClientSession._asked),
    LoginFailed: ClientSession._login_failed,
    Authenticated: ClientSession._authenticated,
    Ready: ClientSession._ready,
    NonzaReceived: ClientSession._on_nonza,
    Closed: ClientSession._closed,
}
"""What is done about each event of the machine."""

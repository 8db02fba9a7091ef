# SPDX-License-Identifier: Apache-2.0
"""How a client logs in and gets its resource: what its stream machine asks meanwhile, and the answers.

Theory of operation. The machine (`xiot.proto.receiving`) returns questions: is this password right, what are the keys of that account. What
a glance into the store answers is answered at once, so that a login by SCRAM starts no task; for PBKDF2, or what changes the store, there is
a task while the connection waits. Whoever guesses is slowed: the connection is read
on only after a penalty.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import trio

from xiot.core import JID, Element
from xiot.errors import StanzaError, StreamError
from xiot.proto import bind2, fast, sasl2
from xiot.proto.events import (
    Authenticated,
    CheckAccount,
    CheckPassword,
    CheckToken,
    Event,
    LoginFailed,
    NeedBind,
    NeedKeys,
    NeedSession,
)

if TYPE_CHECKING:
    from xiot.server.session import ClientSession

Question = NeedKeys | CheckPassword | CheckAccount | CheckToken | NeedSession | NeedBind


class Login:
    """The login of one session."""

    __slots__ = ("_penalty_s", "_server", "_session", "_token_due", "_tried", "mechanism")

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._server = session.server
        self.mechanism: str | None = None
        """By which it has logged in."""
        self._tried = "other"  # the mechanism of a login under way
        self._token_due: str | None = None  # the mechanism for which the client is to get a new token
        self._penalty_s = 0.0  # before the connection is read again

    @property
    def anonymous(self) -> bool:
        """Whether there is no account behind it."""
        return self.mechanism == "ANONYMOUS"

    def answer(self, question: Question) -> None:
        """Get the answer: at once, or in a task."""
        match question:
            case NeedKeys(username, mechanism):
                self._tried = mechanism
                self._tell(partial(self._keys, username, mechanism))
            case CheckPassword(username, password):
                self._tried = "PLAIN"
                self._ask(partial(self._check, username, password))
            case CheckAccount(username):
                self._ask(partial(self._exists, username))
            case CheckToken():
                self._ask(partial(self._token, question))
            case NeedSession(request):
                self._ask(partial(self._establish, request))
            case NeedBind(resource):
                hooks, account, bind = self._server.hooks, self._session.logged_in, partial(self._bind, resource)
                if not hooks.enter_at_once(account, bind):
                    self._session.pause(partial(hooks.enter, account, bind))

    def succeeded(self, event: Authenticated) -> None:
        """The login is proved."""
        self.mechanism = sys.intern(event.mechanism)  # one string for all
        connection = self._session.connection
        connection.log_in(self._server.config.limits.max_stanza_bytes)
        if not self.anonymous:
            self._server.budgets.succeeded(str(event.jid), connection.peer)
        self._server.metrics.logins[event.mechanism, "success"] += 1

    def failed(self, event: LoginFailed) -> None:
        """It is refused: count it if it was a guess, and read on only after a while."""
        host, peer = self._session.host, self._session.connection.peer
        self._server.metrics.logins[self._tried, event.condition] += 1
        self._server.log.info(
            "login failed", peer=peer, host=host, user=event.username, condition=event.condition, why=event.text
        )
        if event.username is not None and event.condition == "not-authorized":
            self._server.budgets.failed(f"{event.username}@{host}", peer, monotonic())
        self._penalty_s = self._server.config.limits.auth_failure_delay_s
        if not self._session.paused:  # so there is one task at most
            self._session.pause(trio.lowlevel.checkpoint)

    async def serve_penalty(self) -> None:
        """Wait as long as a failed login costs."""
        while self._penalty_s and not self._session.connection.closing:
            seconds, self._penalty_s = self._penalty_s, 0.0
            await trio.sleep(seconds)

    def _tell(self, fn: Callable[[], list[Event]]) -> None:
        try:
            events = fn()
        except Exception:
            events = self._unchecked()
        self._session.do(events)

    def _unchecked(self) -> list[Event]:
        """A fault of the store or of ours: the client may try again."""
        self._server.log.exception("login could not be checked", peer=self._session.connection.peer)
        return self._session.stream.refuse_login("temporary-auth-failure")

    def _ask(self, fn: Callable[[], Awaitable[list[Event]]]) -> None:
        session = self._session

        async def ask() -> None:
            try:
                events = await fn()
            except Exception:
                events = self._unchecked()
            if not session.connection.closing:
                session.do(events)

        session.pause(ask)

    def _account(self, username: str) -> JID:
        self._session.account = jid = JID.of(username, self._session.host)
        return jid

    def _keys(self, username: str, mechanism: str) -> list[Event]:
        jid = self._account(username)
        return self._refused(jid) or self._session.stream.provide_keys(self._server.accounts.keys(jid, mechanism))

    async def _check(self, username: str, password: str) -> list[Event]:
        jid = self._account(username)
        if refused := self._refused(jid):
            return refused
        return self._session.stream.password_checked(await self._server.accounts.check_plain(jid, password))

    async def _exists(self, username: str) -> list[Event]:
        jid = self._account(username)
        return self._session.stream.account_checked(await self._server.accounts.exists(jid))

    async def _token(self, asked: CheckToken) -> list[Event]:
        jid = self._account(asked.username)
        reply, condition, due = await self._server.accounts.tokens.check(jid, asked)
        self._token_due = asked.mechanism if due else None
        return self._session.stream.token_checked(reply, condition)

    def _refused(self, account: JID) -> list[Event]:
        """What to say if a password must not be tried now (`xiot.server.budgets`); empty if it may."""
        budgets, peer, now = self._server.budgets, self._session.connection.peer, monotonic()
        stream = self._session.stream
        if budgets.address_spent(peer, now):
            return stream.close(StreamError("policy-violation", "too many failed logins from your address"))
        if budgets.account_spent(str(account), peer, now):
            return stream.refuse_login("temporary-auth-failure", "too many failed logins: try again later")
        return []

    # ---- SASL2: XEP-0388 section 2.6.1 ----

    async def _establish(self, request: sasl2.Request) -> list[Event]:
        """Do what the client wants with its login, and tell it."""
        session, bare = self._session, self._session.logged_in
        session.account, session.client = bare, request.user_agent.id
        token = await self._new_token(bare, request)
        extra = [] if token is None else [fast.render_token(token)]
        results: list[Element] = []
        inline = self._server.hosts[session.host].policy.inline
        for outcome in sasl2.answers(inline, session, request.inline):
            answer = await outcome if isinstance(outcome, Awaitable) else outcome
            if session.connection.closing:
                return []
            if isinstance(answer, sasl2.Resumed):
                events = session.stream.established(answer.jid, [answer.element, *results, *extra], resumed=True)
                session.flush_stream()
                if answer.then is not None:
                    answer.then()
                return events
            if answer is not None:
                results.append(answer)
        if session.connection.closing:
            return []
        results += extra
        if request.bind is None:
            return session.stream.established(bare, results)
        return await self._bind_within(request.bind, results)

    async def _bind_within(self, request: bind2.Request, results: list[Element]) -> list[Event]:
        """Bind a resource within the login (XEP-0386)."""
        session, bare, client = self._session, self._session.logged_in, self._session.client
        host = self._server.hosts[session.host]
        jid = bind2.full_jid(bare, request.tag, client, host.policy.sasl.fake_salt_secret)
        events: list[Event] = []

        def take() -> None:
            if session.connection.closing:
                return
            for other in host.sessions(bare):  # section 3.2: the client has come back
                if client is not None and other.client == client:
                    other.end(StreamError("conflict", "replaced by a new connection"))
            if not session.take(jid):
                events.extend(session.stream.close(StreamError("resource-constraint", "too many resources")))
                return
            answers = sasl2.answers(host.policy.bind_inline, session, request.inline)
            bound = bind2.bound([answer for answer in answers if isinstance(answer, Element)])
            events.extend(session.stream.established(jid, [bound, *results]))
            session.flush_stream()  # before anything that is for us

        await self._server.hooks.enter(bare, take)
        return events

    async def _new_token(self, account: JID, request: sasl2.Request) -> fast.Token | None:
        mechanism, client = request.token_for or self._token_due, self._session.client
        if mechanism is None or mechanism not in self._session.stream.tokens or client is None:
            return None
        return await self._server.accounts.tokens.issue(account, client, mechanism)

    # ---- binding after the login: RFC 6120 section 7 ----

    def _bind(self, resource: str | None) -> None:
        session = self._session
        if session.connection.closing:
            return
        jid = session.logged_in.with_resource(resource or uuid4().hex)
        if session.take(jid):
            session.do(session.stream.bound(jid))
        else:
            session.do(session.stream.bind_refused(StanzaError("resource-constraint")))  # section 7.6.2.1

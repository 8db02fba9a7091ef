# SPDX-License-Identifier: Apache-2.0
"""Sessions that outlive their connection (XEP-0198 section 5).

Theory of operation. A session with stream management that may be resumed has a name here. When its connection is lost it is *detached*: it
stays online, its link stays bound and keeps what is sent to it. Within `Limits.resume_s` another stream of the same account may name it, and
gets the session in place of a new one; else the session ends, and what nobody acknowledged is delivered otherwise.
"""

from __future__ import annotations

import secrets
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from xiot.errors import StreamError
from xiot.exi import ExiError
from xiot.proto import sasl2, sm
from xiot.server.durable import DurableLink

if TYPE_CHECKING:
    from xiot.core import JID, Element, Stanza, StreamClose, StreamOpen, XmlError
    from xiot.net.pump import Connection
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

LOOK_S = 0.05
IDLE_S = 30.0  # how long a resumption waits for what its session is still doing


class Resumptions:
    """The sessions of a server that may be resumed."""

    def __init__(self, keep_s: float) -> None:
        self.keep_s = keep_s
        self._sessions: dict[str, ClientSession] = {}
        self._deadlines: dict[ClientSession, float] = {}
        self._changed = trio.Event()

    def __len__(self) -> int:
        """Sessions without a connection."""
        return len(self._deadlines)

    def name(self, session: ClientSession) -> str:
        """Make the session one that may be resumed; return by what: 144 random bits, since whoever knows it and the password has it."""
        id = secrets.token_urlsafe(18)
        self._sessions[id] = session
        return id

    def restore(self, session: ClientSession, id: str, seconds: float) -> None:
        """The session is one of the process before this one, and waits as long as if its connection had been lost now."""
        session.resumable_by, session.resumable_s = id, seconds
        self._sessions[id] = session
        self.hold(session, seconds)

    def find(self, id: str, account: JID) -> ClientSession | None:
        """The session of that name; None if it is not there, or not of that account."""
        session = self._sessions.get(id)
        return session if session is not None and session.jid.bare == account.bare else None

    def hold(self, session: ClientSession, seconds: float) -> None:
        """Wait so long for the session to be resumed."""
        self._deadlines[session] = trio.current_time() + seconds
        self._changed.set()

    def release(self, session: ClientSession) -> None:
        """The session has a connection again."""
        self._deadlines.pop(session, None)

    def forget(self, session: ClientSession) -> None:
        """The session is over."""
        self._deadlines.pop(session, None)
        if session.resumable_by is not None:
            self._sessions.pop(session.resumable_by, None)

    async def run(self) -> None:
        """End the sessions that were not resumed in time: neither before it nor, but for a moment, after it."""
        while True:
            with trio.move_on_at(min(self._deadlines.values(), default=inf)):
                await self._changed.wait()
            if self._changed.is_set():
                self._changed = trio.Event()
                await trio.sleep(LOOK_S)  # of many that come at once, all in one look
            now = trio.current_time()
            for session, deadline in list(self._deadlines.items()):
                if now >= deadline:
                    self._deadlines.pop(session)
                    session.expire("not resumed in time")


def on_nonza(stanza: Stanza, session: ClientSession) -> None:
    """Deal with an element of stream management that the core leaves to us. Raises StreamError."""
    link = session.connection.link
    if stanza.name == "a" and link.managed:
        raise _too_high(stanza, session)
    if stanza.name == "r" and link.managed:  # of a link that is pending (`xiot.server.durable`)
        session.write_nonza(sm.acknowledgement(link.handled))
        return
    try:
        nonza = sm.parse(stanza.element)
    except ValueError:
        session.write_nonza(sm.render(sm.Failed("bad-request")))
        return
    if isinstance(nonza, sm.Enable):
        if not session.bound or link.managed:
            session.write_nonza(sm.render(sm.Failed("unexpected-request")))  # section 3
        else:
            session.write_nonza(sm.render(_enable(nonza, session)))
    elif isinstance(nonza, sm.Resume) and stanza.name == "resume":
        if session.bound:
            session.write_nonza(sm.render(sm.Failed("unexpected-request")))
        else:
            resume(session, nonza)
    else:
        raise StreamError("unsupported-stanza-type")


def _enable(wish: sm.Enable, session: ClientSession) -> sm.Enabled:
    session.connection.link.enable_sm()
    server, resumptions = session.server, session.server.resumptions
    seconds = resumptions.keep_s if wish.max_s is None else min(resumptions.keep_s, wish.max_s)
    if not wish.resume or not seconds:
        return sm.Enabled()
    session.resumable_by = id = resumptions.name(session)
    session.resumable_s = seconds
    if _durable(wish, session):
        session.durable = DurableLink(server.journal, session, id, seconds)
        session.durable.began()
    location = server.config.c2s.location
    return sm.Enabled(id, int(seconds) or None, location, durable=session.durable is not None)


def _durable(wish: sm.Enable, session: ClientSession) -> bool:
    """Whether the session is to survive a crash: by its host, its account, or its own wish."""
    config = session.server.hosts[session.jid.domain].config
    if config.durable_links == "off" or session.login.anonymous:
        return False
    return wish.durable or config.durable_links == "all" or session.jid.bare in config.durable_accounts


def resume(session: ClientSession, wish: sm.Resume) -> None:
    """Let the session that the client names go on here, in place of `session` (section 5)."""

    async def answer() -> None:
        found = await _take_up(session, wish)
        if isinstance(found, sm.Failed):
            session.write_nonza(sm.render(found))
        elif found is not None:
            session.write_nonza(sm.render(_answer(found), answer=True))
            session.resumed_by(found.jid)
            found.go_on_as(session)

    session.wait_apart(answer)


async def resume_within_login(session: ClientSession, element: Element) -> sasl2.Answer:
    """``<resume/>`` within SASL2 (XEP-0198 section 9.1)."""
    try:
        wish = sm.parse(element)
    except ValueError:
        wish = None
    if not isinstance(wish, sm.Resume):
        return sm.build(sm.Failed("bad-request"))
    found = await _take_up(session, wish)
    if found is None:
        return None
    if isinstance(found, sm.Failed):
        return sm.build(found)
    return sasl2.Resumed(found.jid, sm.build(_answer(found), answer=True), partial(found.go_on_as, session))


async def _take_up(session: ClientSession, wish: sm.Resume) -> ClientSession | sm.Failed | None:
    """The session of that name, done with the last stanza of its old stream, without what the client has of it; None: `session` is over.

    If the client asks once more meanwhile, since it had no patience or no connection any more, the earlier one gets nothing.
    """
    resumptions, account = session.server.resumptions, session.logged_in
    found = resumptions.find(wish.id, account)
    if found is not None:
        found.heir = session
        with trio.move_on_after(IDLE_S) as patience:
            await found.idle()
        if patience.cancelled_caught or found.heir is not session or resumptions.find(wish.id, account) is not found:
            found = None
    if session.connection.closing:
        return None
    if found is None:
        return sm.Failed("item-not-found")
    link = found.connection.link
    try:
        link.acknowledge(wish.h)
    except ValueError:
        session.end(too_high(wish.h, link.sent))
        return None
    if found.durable is not None:
        found.durable.look()  # now: of servers that live shorter than from one look to the next, none would ever forget anything
    return found


def _answer(found: ClientSession) -> sm.Resume:
    """What the client that resumes is told."""
    assert found.resumable_by is not None
    return sm.Resume(found.resumable_by, found.connection.link.handled)


def enable_within_bind(session: ClientSession, element: Element) -> sasl2.Answer:
    """``<enable/>`` within Bind 2 (XEP-0198 section 9.2)."""
    try:
        wish = sm.parse(element)
    except ValueError:
        wish = None
    if not isinstance(wish, sm.Enable):
        return sm.build(sm.Failed("bad-request"))
    if session.connection.link.managed:  # a second one would give the session a second name
        return sm.build(sm.Failed("unexpected-request"))
    return sm.build(_enable(wish, session))


def _too_high(stanza: Stanza, session: ClientSession) -> StreamError:
    try:
        h = sm.parse_count(stanza.element)
    except ValueError:
        return StreamError("bad-format", "<a/> needs h")
    return too_high(h, session.connection.link.sent)


def too_high(h: int, sent: int) -> StreamError:
    """The error for an acknowledgement of more than was sent (section 4)."""
    app = sm.handled_count_too_high(h, sent)
    return StreamError("undefined-condition", f"{h} stanzas acknowledged of {sent} sent", app)


class Abandoned:
    """Owns a connection whose session goes on elsewhere, until it is closed."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection

    def on_event(self, event: StreamOpen | Stanza | StreamClose | XmlError | ExiError) -> None:
        """Nothing is expected."""

    def on_secured(self) -> None:
        """Nothing is expected."""

    def on_timeout(self) -> None:
        """Nothing is expected."""

    def on_lost(self, reason: str) -> None:
        """The connection is gone."""
        self._server.disconnected(self._connection)

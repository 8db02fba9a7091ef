# SPDX-License-Identifier: Apache-2.0
"""What a server does first: durable sessions come back as the process before it left them (`xiot.server.durable`)."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from xiot.core import JID, Stanza, StreamParser
from xiot.model.durable import DurableSession
from xiot.model.roster import SubscriptionState
from xiot.net.pump import Connection
from xiot.proto import framing
from xiot.proto.sm import COUNTS
from xiot.server.durable import DurableLink, State
from xiot.server.journal import Taken
from xiot.server.session import ClientSession
from xiot.stanzas import NS_CLIENT, reread
from xiot.store import Transaction

if TYPE_CHECKING:
    from xiot.server.server import Server

_Kept = tuple[DurableSession, list[tuple[int, bytes]], list[tuple[str, SubscriptionState]]]
_Orphan = tuple[int, str, str, bytes]


async def restore(server: Server) -> None:
    """Bring back all sessions as they were, without their connections, and go on with what they have sent."""

    def load(tx: Transaction) -> tuple[list[_Kept], list[_Orphan]]:
        sessions, states = [], dict[str, list[tuple[str, SubscriptionState]]]()
        for row in tx.durable.sessions():
            jid = JID(row.jid)
            owner = str(jid.bare)
            if jid.domain not in hosts or not tx.accounts.exists(owner):
                tx.durable.delete(row.id)
                continue
            if owner not in states:
                states[owner] = list(tx.roster.subscribed(owner))
            sessions.append((row, [(sent.number, sent.stanza) for sent in tx.durable.sent(row.id)], states[owner]))
        return sessions, [(row.id, row.session, row.sender, row.stanza) for row in tx.durable.received()]

    hosts = set(server.hosts)
    sessions, received = await server.store.run(load)
    links: dict[str, DurableLink] = {}
    lang = {row.id: msgspec.json.decode(row.state, type=State).lang for row, _, _ in sessions}
    for row, sent, _ in sessions:
        links[row.id] = await _bring_back(server, row, sent)
    for row, _, subscribed in sessions:
        server.presences.restored(links[row.id].session, subscribed)
    for id, session, sender, stanza in received:
        if session not in links:
            links[session] = DurableLink(server.journal, _absent(server, JID(sender)), session, 0)
            links[session].over = True
        links[session].take_again(Taken(server.journal, read(stanza, lang.get(session)), id))
    for link in links.values():
        link.work()
    if links:
        server.log.info("durable sessions restored", sessions=len(sessions), stanzas=len(received))


async def _bring_back(server: Server, row: DurableSession, sent: list[tuple[int, bytes]]) -> DurableLink:
    state = msgspec.json.decode(row.state, type=State)
    session = _absent(server, JID(row.jid))
    link, base = session.connection.link, sent[0][0] - 1 if sent else row.sent
    link.enable_sm(row.handled % COUNTS, base % COUNTS)
    link.detach()
    for _, stanza in sent:
        link.send(stanza)
    session.durable = durable = DurableLink(
        server.journal, session, row.id, row.resumable_s, row.handled, row.sent, base
    )
    session.interests = tuple(state.interests)
    session.carbons, session.subscriber, session.client = state.carbons, state.subscriber, state.client
    mine = session.availability
    mine.presence, mine.priority = (
        None if state.presence is None else reread(state.presence.encode()),
        state.priority,
    )
    mine.arriving = None if state.arriving is None else read(state.arriving.encode(), state.lang)
    for jid in state.directed:
        mine.direct(JID(jid))
    await server.hooks.enter(session.jid.bare, partial(session.come_back, state.lang))
    server.resumptions.restore(session, row.id, row.resumable_s)
    durable.began()
    return durable


def _absent(server: Server, jid: JID) -> ClientSession:
    """The session of a client whose connection another process has had."""
    sock = socket.socket()
    sock.close()
    connection = Connection(server.pump, sock, "before the restart")
    connection.lost = "the server was restarted"
    connection.owner = session = ClientSession(server, connection, direct_tls=False)
    session.jid, session.account, session.bound = jid, jid.bare, True
    return session


def read(data: bytes, lang: str | None) -> Stanza:
    """A stanza as it came in a stream of the language `lang`."""
    parser = StreamParser(max_stanza_bytes=2**30, max_depth=1000, max_attributes=1024, max_tag_bytes=2**30)
    parser.feed(framing.open_stream(NS_CLIENT, lang=lang))
    (stanza,) = parser.feed(data)
    assert isinstance(stanza, Stanza)
    return stanza

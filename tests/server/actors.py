# SPDX-License-Identifier: Apache-2.0
"""Clients that send XML as it is written and tell what they got, one line a stanza."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import trio

from xiot.core import Element, Stanza, StreamParser

from .attacks import HEADER, Peer
from .serving import HOST, Running, serving

PATIENCE_S = 20.0
ROSTER = "jabber:iq:roster"


class Actor:
    """One resource, over a bare TCP stream."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.jid = peer.jid
        self._parser = StreamParser(
            max_stanza_bytes=2**24, max_attributes=1024, max_namespaces=1024, max_tag_bytes=2**24
        )
        self._parser.feed(HEADER)
        self._ids = count()
        self._come: list[Element] = []

    async def send(self, xml: str) -> None:
        await self.peer.send(xml.encode())

    async def stanzas(self, xml: str = "") -> list[Element]:
        """Send `xml`, then wait until the server has dealt with it; return what has come since the last call."""
        id = f"sync{next(self._ids)}"
        await self.send(f"{xml}<iq type='get' id='{id}'><ping xmlns='urn:xmpp:ping'/></iq>")
        with trio.fail_after(PATIENCE_S):
            while True:
                for index, stanza in enumerate(self._come):
                    if stanza.get("id") == id:
                        found = self._come[:index]
                        del self._come[: index + 1]
                        return found
                data = await self.peer.receive()
                assert data, f"closed: {self._come}"
                for event in self._parser.feed(data):
                    assert isinstance(event, Stanza)
                    self._come.append(event.element)

    async def says(self, xml: str = "") -> list[str]:
        """As `stanzas`, each as one line."""
        return [line(element) for element in await self.stanzas(xml)]

    async def fetch_roster(self) -> list[str]:
        """The contacts; from now on changes are pushed."""
        (result,) = await self.stanzas(f"<iq type='get' id='r'><query xmlns='{ROSTER}'/></iq>")
        return [item_line(item) for item in result[0]]

    async def leave(self) -> None:
        """Close the stream, and wait until the server has, too."""
        await self.peer.ending(b"</stream:stream>")

    async def vanish(self) -> None:
        """Break the connection."""
        await self.peer.stream.aclose()


def line(element: Element) -> str:
    """A stanza, short: what it is, whom it is from, what is in it. Our host's name is left out, and so is the recipient."""
    sender = (element.get("from") or "").replace(f"@{HOST}", "")
    type = element.get("type")
    if element.name == "iq" and type == "set" and element[0].ns == ROSTER:
        return f"push {item_line(element[0][0])}"
    words = [element.name, *([type] if type else []), *([sender] if sender else [])]
    error = element.find("{jabber:client}error")
    if error is not None:
        words.append(error[0].name)
    else:
        words += [child.text for child in element if child.ns == "jabber:client" and child.text]
    return " ".join(words)


def item_line(item: Element) -> str:
    """A contact: who, the subscription, and what else there is."""
    words = [(item.get("jid") or "").replace(f"@{HOST}", ""), item.get("subscription") or ""]
    words += ["ask"] if item.get("ask") == "subscribe" else []
    words += ["approved"] if item.get("approved") == "true" else []
    return " ".join(words)


class Stage:
    """A server, and how to bring actors on."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.server = running.server
        self._peers: list[Peer] = []

    async def enter(self, name: str, priority: int | None = 0, *, roster: bool = True) -> Actor:
        """Log ``romeo/orchard`` in, fetch the roster, and send initial presence unless `priority` is None."""
        local, _, resource = name.partition("/")
        peer = Peer(await self.running.raw(), PATIENCE_S)
        self._peers.append(peer)
        await peer.login(local, resource)
        peer.received = b""
        actor = Actor(peer)
        if roster:
            await actor.fetch_roster()
        if priority is not None:
            await actor.stanzas(f"<presence><priority>{priority}</priority></presence>")
        return actor

    async def close(self) -> None:
        """Break all connections."""
        for peer in self._peers:
            await trio.aclose_forcefully(peer.stream)

    async def befriend(self, one: Actor, other: Actor) -> None:
        """Let both see each other's presence."""
        for a, b in ((one, other), (other, one)):
            await a.stanzas(f"<presence type='subscribe' to='{bare(b)}'/>")
            await b.stanzas(f"<presence type='subscribed' to='{bare(a)}'/>")
        for actor in (one, other):
            await actor.stanzas()


def bare(actor: Actor) -> str:
    return actor.jid.partition("/")[0]


@asynccontextmanager
async def stage(folder: Path, *names: str, **limits: float) -> AsyncIterator[Stage]:
    """A server with these accounts."""
    async with serving(folder, starttls="optional", plain=True, **limits) as running:
        await running.account(*names)
        play = Stage(running)
        try:
            yield play
        finally:
            await play.close()

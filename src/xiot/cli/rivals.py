# SPDX-License-Identifier: Apache-2.0
"""The same work done by the core and by what Python programs use else: what ``xiot bench`` and `benches/` measure.

A reader takes a stream in pieces, and counts its stanzas; a step takes a piece of a client's stream, and gives the number of bytes that
are put out to the destinations.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from random import Random
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from _xmppcore import JID, Link, Router, Stanza, StreamParser
from xiot.cli import corpora

Read = Callable[[list[bytes]], int]
Step = Callable[[bytes], int]

PIECE_BYTES = 4096
DESTINATIONS = 1000
SENDER = "anna@plant.example/phone"


def split(data: bytes, size: int = PIECE_BYTES) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def read(pieces: list[bytes]) -> int:
    """Stanza objects; nobody looks into them."""
    feed = StreamParser().feed
    seen = 0
    for piece in pieces:
        events = feed(piece)
        if events:
            seen += len(events)
    return seen - 2  # header and close


def read_trees(pieces: list[bytes]) -> int:
    """Every stanza as a tree."""
    feed = StreamParser().feed
    seen = 0
    for piece in pieces:
        for event in feed(piece):
            if type(event) is Stanza:
                event.element  # noqa: B018
                seen += 1
    return seen


def expat_no_op(pieces: list[bytes]) -> int:
    """expat with handlers that only count the depth: the least that any use of it costs."""
    depth = seen = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1

    def end(name: str) -> None:
        nonlocal depth, seen
        depth -= 1
        if depth == 1:
            seen += 1

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: None
    for piece in pieces:
        parser.Parse(piece, False)
    return seen


def expat_tree(pieces: list[bytes]) -> int:
    """expat with handlers that build ElementTree."""
    seen = 0
    builder = ET.TreeBuilder()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        if depth:
            builder.start(name, attributes)
        depth += 1

    def end(name: str) -> None:
        nonlocal builder, depth, seen
        depth -= 1
        if depth:
            builder.end(name)
        if depth == 1:
            builder.close()
            builder = ET.TreeBuilder()
            seen += 1

    def text(data: str) -> None:
        if depth > 1:
            builder.data(data)

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    for piece in pieces:
        parser.Parse(piece, False)
    return seen


def pull(parser: Any, pieces: list[bytes]) -> int:
    """The read loop of slixmpp: a pull parser, the depth, the root emptied after each stanza."""
    depth = seen = 0
    root: Any = None
    for piece in pieces:
        parser.feed(piece)
        for event, element in parser.read_events():
            if event == "start":
                if depth == 0:
                    root = element
                depth += 1
            else:
                depth -= 1
                if depth == 1:
                    seen += 1
                    root.clear()
    return seen


def etree_pull(pieces: list[bytes]) -> int:
    return pull(ET.XMLPullParser(("start", "end")), pieces)


def lxml_pull(pieces: list[bytes]) -> int:
    import lxml.etree  # not everybody has it

    return pull(lxml.etree.XMLPullParser(("start", "end"), huge_tree=True), pieces)


def address(i: int) -> str:
    return f"user{i:05}@plant.example/device{i % 7}"


def to_route(kind: str, size: int) -> corpora.Corpus:
    """The corpus' messages and iqs, to one of the destinations each, without `from`, as clients send them; at least `size` bytes."""
    random = Random(kind)
    stanzas: list[str] = []
    length = 0
    while length < size:
        text = corpora.KINDS[kind](random)
        if text.startswith("<presence"):
            continue
        text = re.sub(r" from=(?:'[^']*'|\"[^\"]*\")", "", text, count=1)
        text = re.sub(r" to=(?:'[^']*'|\"[^\"]*\")", f" to='{address(random.randrange(DESTINATIONS))}'", text, count=1)
        stanzas.append(text)
        length += len(text)
    return corpora.Corpus("".join(stanzas).encode(), len(stanzas))


def router() -> Step:
    """Ours; what is routed is taken as bytes after each piece."""
    router = Router()
    links = []

    def online(jid: str) -> Link:
        link = router.link()
        link.restart(logged_in=True)
        router.buffer[: len(corpora.OPEN)] = corpora.OPEN
        link.feed(len(corpora.OPEN))
        link.feed()
        link.bind(JID(jid))
        links.append(link)
        return link

    sender = online(SENDER)
    for i in range(DESTINATIONS):
        online(address(i))
    buffer = router.buffer

    def step(piece: bytes) -> int:
        n = len(piece)
        buffer[:n] = piece
        event = sender.feed(n)
        assert event is None
        total = 0
        for _, data in router.take_output():
            total += len(data)
        return total

    step.__dict__["links"] = links  # alive as long as the function
    return step


class Table:
    """What the rivals put their output in: a dict of full JIDs; the pieces of each destination are joined when it is flushed."""

    def __init__(self) -> None:
        self.queues: dict[str, list[bytes]] = {address(i): [] for i in range(DESTINATIONS)}
        self.dirty: list[list[bytes]] = []

    def put(self, to: str, data: bytes) -> None:
        queue = self.queues[to]
        if not queue:
            self.dirty.append(queue)
        queue.append(data)

    def flush(self) -> int:
        total = 0
        for queue in self.dirty:
            total += len(b"".join(queue))
            queue.clear()
        self.dirty.clear()
        return total


def expat_handlers() -> Step:
    """expat with handlers that write the stanza anew as it passes."""
    table = Table()
    parts: list[str] = []
    depth = 0
    to = ""
    open_tag = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, to, open_tag
        if depth:
            if depth == 1:
                to = attributes["to"]
                attributes["from"] = SENDER
            elif open_tag:
                parts.append(">")
            parts.append("<" + name + "".join([f" {key}={quoteattr(value)}" for key, value in attributes.items()]))
            open_tag = True
        depth += 1

    def end(name: str) -> None:
        nonlocal depth, open_tag
        depth -= 1
        parts.append("/>" if open_tag else f"</{name}>")
        open_tag = False
        if depth == 1:
            table.put(to, "".join(parts).encode())
            parts.clear()

    def text(data: str) -> None:
        nonlocal open_tag
        if depth > 1:
            if open_tag:
                parts.append(">")
                open_tag = False
            parts.append(escape(data))

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.Parse(corpora.OPEN, False)

    def step(piece: bytes) -> int:
        parser.Parse(piece, False)
        return table.flush()

    return step

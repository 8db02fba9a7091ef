# SPDX-License-Identifier: Apache-2.0
"""What it costs to route: bytes in, parse, look up, stamp `from`, bytes out; our router and two ways in Python, on the same bytes.

Groups: "route" sends a client's stream in 4 KB pieces to 1,000 full JIDs and takes the output of all after each piece; "lookup" finds a
full JID among many by a key that was never looked up before. No sockets. Times are CPU times of the process.

    python -m pytest -o addopts= benches/bench_router.py --benchmark-sort=mean
"""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import corpora
from _xmppcore import JID, Link, Router
from _xmppcore.router import _bench_find

Step = Callable[[bytes], int]  # a piece of the stream -> bytes put out

DESTINATIONS = 1000
PIECE_BYTES = 4096
CORPUS_BYTES = 2_000_000
REPEAT_IN_C = 1  # as often as the others, so that the group compares
SENDER = "anna@plant.example/phone"
CLIENT = "jabber:client"


def address(i: int) -> str:
    return f"user{i:05}@plant.example/device{i % 7}"


@cache
def corpus(kind: str) -> tuple[list[bytes], int, int]:
    """Pieces, bytes and stanzas: the corpus' messages and iqs, to one of the destinations each, without `from`, as clients send them."""
    random = Random(kind)
    stanzas: list[str] = []
    size = 0
    while size < CORPUS_BYTES:
        text = corpora.KINDS[kind](random)
        if text.startswith("<presence"):
            continue
        text = re.sub(r" from=(?:'[^']*'|\"[^\"]*\")", "", text, count=1)
        text = re.sub(r" to=(?:'[^']*'|\"[^\"]*\")", f" to='{address(random.randrange(DESTINATIONS))}'", text, count=1)
        stanzas.append(text)
        size += len(text)
    data = "".join(stanzas).encode()
    return [data[i : i + PIECE_BYTES] for i in range(0, len(data), PIECE_BYTES)], len(data), len(stanzas)


def xiot() -> Step:
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


def pull_parser() -> Step:
    """The read loop of slixmpp: trees, and each written anew."""
    table = Table()
    parser: Any = ET.XMLPullParser(("start", "end"))
    root: Any = None
    depth = 0

    def step(piece: bytes) -> int:
        nonlocal root, depth
        parser.feed(piece)
        for event, element in parser.read_events():
            if event == "start":
                if depth == 0:
                    root = element
                depth += 1
            else:
                depth -= 1
                if depth == 1:
                    element.set("from", SENDER)
                    table.put(element.get("to"), ET.tostring(element, "utf-8", xml_declaration=False))
                    root.clear()
        return table.flush()

    step(corpora.OPEN)
    return step


ROUTERS: dict[str, Callable[[], Step]] = {
    "xiot": xiot, "pyexpat handlers, dict": expat_handlers, "ElementTree pull, dict, tostring": pull_parser,
}  # fmt: skip


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("kind", ["chat", "iot"])
@pytest.mark.benchmark(timer=time.process_time)
def test_route(benchmark: BenchmarkFixture, kind: str, router: str) -> None:
    benchmark.group = f"route, {kind}, {DESTINATIONS} destinations, 4 KB pieces"
    pieces, size, stanzas = corpus(kind)
    step = ROUTERS[router]()

    def run() -> int:
        return sum(map(step, pieces))

    benchmark.extra_info.update(bytes=size, stanzas=stanzas)
    assert benchmark.pedantic(run, rounds=7, warmup_rounds=1) > size
    if benchmark.stats is not None:
        median = benchmark.stats.stats.median
        benchmark.extra_info.update({"MB/s": round(size / median / 1e6, 1), "stanzas/s": round(stanzas / median)})


def table_of(entries: int) -> tuple[Router, list[Link]]:
    router = Router()
    links = [router.link() for _ in range(entries)]
    for i, link in enumerate(links):
        link.bind(JID(address(i)))
    return router, links


@pytest.mark.parametrize(
    ("entries", "how"),
    [
        *((entries, how) for entries in (1000, 100_000) for how in ("xiot, in C", "xiot, Router.find", "dict of str")),
        *((5_000_000, how) for how in ("xiot, in C", "dict of str")),  # 3 GB, half a minute
    ],
)
@pytest.mark.benchmark(timer=time.process_time)
def test_lookup(benchmark: BenchmarkFixture, entries: int, how: str) -> None:
    """10,000 look-ups a round, in random order, by keys made anew for each round."""
    benchmark.group = f"lookup of a full JID among {entries}"
    random = Random(1)
    wanted = [address(random.randrange(entries)) for _ in range(10_000)]
    lookups = len(wanted)
    if how == "dict of str":
        table = {address(i): i for i in range(entries)}

        def setup() -> tuple[tuple[list[Any]], dict[str, Any]]:
            return ([text[:1] + text[1:] for text in wanted],), {}

        def run(keys: list[Any]) -> None:
            for key in keys:
                table[key]
    else:
        router, links = table_of(entries)
        if how == "xiot, in C":
            lookups *= REPEAT_IN_C

            def setup() -> tuple[tuple[list[Any]], dict[str, Any]]:
                return ([text.encode() for text in wanted],), {}

            def run(keys: list[Any]) -> None:
                assert _bench_find(router, keys, REPEAT_IN_C) == lookups
        else:

            def setup() -> tuple[tuple[list[Any]], dict[str, Any]]:
                return ([JID(text) for text in wanted],), {}

            def run(keys: list[Any]) -> None:
                find = router.find
                for key in keys:
                    find(key)

        assert len(links) == len(router)
    benchmark.extra_info.update(entries=entries, stanzas=0, bytes=sum(map(len, wanted)))
    benchmark.pedantic(run, setup=setup, rounds=15, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_lookup"] = round(benchmark.stats.stats.min / lookups * 1e9, 1)

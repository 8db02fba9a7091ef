# SPDX-License-Identifier: Apache-2.0
"""What it costs to read an XML stream: our parser and those that Python's XMPP libraries use, on the same bytes.

Groups: "feed" asks for every stanza to be seen; "trees" for every stanza as a tree. Times are CPU times of the process.

    python -m pytest -o addopts= benches/bench_xml.py --benchmark-sort=mean
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cache
from typing import Any
from xml.parsers import expat

import lxml.etree
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import corpora
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamParser

Read = Callable[[list[bytes]], int]  # pieces of a stream -> stanzas seen


def xiot(pieces: list[bytes]) -> int:
    """Stanza objects; nobody looks into them."""
    feed = StreamParser().feed
    seen = 0
    for piece in pieces:
        events = feed(piece)
        if events:
            seen += len(events)
    return seen - 2  # header and close


def xiot_to(pieces: list[bytes]) -> int:
    """Stanza objects, and the address of each."""
    feed = StreamParser().feed
    seen = 0
    for piece in pieces:
        for event in feed(piece):
            if type(event) is Stanza:
                event.to  # noqa: B018
                seen += 1
    return seen


def xiot_tree(pieces: list[bytes]) -> int:
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
    return pull(lxml.etree.XMLPullParser(("start", "end"), huge_tree=True), pieces)


FEED: dict[str, Read] = {
    "xiot": xiot, "xiot, .to read": xiot_to, "pyexpat, no-op handlers": expat_no_op, "ElementTree pull, as slixmpp": etree_pull,
    "lxml pull": lxml_pull,
}  # fmt: skip
TREES: dict[str, Read] = {
    "xiot, .element": xiot_tree, "pyexpat building ElementTree": expat_tree, "ElementTree pull, as slixmpp": etree_pull,
    "lxml pull": lxml_pull,
}  # fmt: skip
SIZES = {4096: 2_000_000, 100: 1_000_000, 1: 100_000}  # bytes of a piece: of the corpus


@cache
def pieces(kind: str, piece: int) -> tuple[list[bytes], int, int]:
    corpus = corpora.make(kind, SIZES[piece])
    return [corpus.data[i : i + piece] for i in range(0, len(corpus.data), piece)], len(corpus.data), corpus.stanzas


def measure(benchmark: BenchmarkFixture, read: Read, kind: str, piece: int) -> None:
    parts, size, stanzas = pieces(kind, piece)
    benchmark.extra_info.update(bytes=size, stanzas=stanzas)
    seen: int = benchmark.pedantic(read, (parts,), rounds=5, warmup_rounds=1)  # type: ignore[no-untyped-call]
    assert seen == stanzas
    if benchmark.stats is not None:
        benchmark.extra_info["MB/s"] = round(size / benchmark.stats.stats.median / 1e6, 1)


@pytest.mark.parametrize("reader", FEED)
@pytest.mark.parametrize("kind", corpora.KINDS)
@pytest.mark.benchmark(timer=time.process_time)
def test_feed(benchmark: BenchmarkFixture, kind: str, reader: str) -> None:
    benchmark.group = f"feed, {kind}, 4 KB pieces"
    measure(benchmark, FEED[reader], kind, 4096)


@pytest.mark.parametrize("reader", FEED)
@pytest.mark.parametrize("piece", [100, 1])
@pytest.mark.benchmark(timer=time.process_time)
def test_feed_in_small_pieces(benchmark: BenchmarkFixture, piece: int, reader: str) -> None:
    benchmark.group = f"feed, chat, {piece}-byte pieces"
    measure(benchmark, FEED[reader], "chat", piece)


@pytest.mark.parametrize("reader", TREES)
@pytest.mark.parametrize("kind", corpora.KINDS)
@pytest.mark.benchmark(timer=time.process_time)
def test_trees(benchmark: BenchmarkFixture, kind: str, reader: str) -> None:
    benchmark.group = f"trees, {kind}, 4 KB pieces"
    measure(benchmark, TREES[reader], kind, 4096)

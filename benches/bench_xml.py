# SPDX-License-Identifier: Apache-2.0
"""What it costs to read an XML stream: our parser and those that Python's XMPP libraries use, on the same bytes.

Groups: "feed" asks for every stanza to be seen; "trees" for every stanza as a tree. Times are CPU times of the process.

    python -m pytest -o addopts= benches/bench_xml.py --benchmark-sort=mean
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from functools import cache

import lxml.etree
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from _xmppcore.element import Element
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamParser
from xiot.cli import corpora
from xiot.cli.rivals import Read, etree_pull, expat_no_op, expat_tree, lxml_pull, split
from xiot.cli.rivals import read as xiot
from xiot.cli.rivals import read_trees as xiot_tree


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


def xiot_built(builder: type) -> Read:
    """Every stanza as an element of this class."""

    def read(pieces: list[bytes]) -> int:
        feed = StreamParser(builder=builder).feed
        return sum(len(feed(piece)) for piece in pieces) - 2  # header and close

    return read


FEED: dict[str, Read] = {
    "xiot": xiot, "xiot, .to read": xiot_to, "pyexpat, no-op handlers": expat_no_op, "ElementTree pull, as slixmpp": etree_pull,
    "lxml pull": lxml_pull,
}  # fmt: skip
TREES: dict[str, Read] = {
    "xiot, .element": xiot_tree, "xiot, eager": xiot_built(Element), "xiot, xml.etree": xiot_built(ET.Element),
    "xiot, lxml": xiot_built(lxml.etree._Element), "pyexpat building ElementTree": expat_tree,
    "ElementTree pull, as slixmpp": etree_pull, "lxml pull": lxml_pull,
}  # fmt: skip
SIZES = {4096: 2_000_000, 100: 1_000_000, 1: 100_000}  # bytes of a piece: of the corpus


@cache
def pieces(kind: str, piece: int) -> tuple[list[bytes], int, int]:
    corpus = corpora.make(kind, SIZES[piece])
    return split(corpus.data, piece), len(corpus.data), corpus.stanzas


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

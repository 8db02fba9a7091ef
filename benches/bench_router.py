# SPDX-License-Identifier: Apache-2.0
"""What it costs to route: bytes in, parse, look up, stamp `from`, bytes out; our router and two ways in Python, on the same bytes.

Groups: "route" sends a client's stream in 4 KB pieces to 1,000 full JIDs and takes the output of all after each piece; "lookup" finds a
full JID among many by a key that was never looked up before. No sockets. Times are CPU times of the process.

    python -m pytest -o addopts= benches/bench_router.py --benchmark-sort=mean
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from _xmppcore import JID, Link, Router
from _xmppcore.router import _bench_find
from xiot.cli import corpora
from xiot.cli.rivals import DESTINATIONS, SENDER, Step, Table, address, expat_handlers, router, split, to_route

CORPUS_BYTES = 2_000_000
REPEAT_IN_C = 1  # as often as the others, so that the group compares


@cache
def corpus(kind: str) -> tuple[list[bytes], int, int]:
    """Pieces, bytes and stanzas of a client's stream."""
    made = to_route(kind, CORPUS_BYTES)
    return split(made.data), len(made.data), made.stanzas


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
    "xiot": router, "pyexpat handlers, dict": expat_handlers, "ElementTree pull, dict, tostring": pull_parser,
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

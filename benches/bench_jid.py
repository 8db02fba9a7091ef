# SPDX-License-Identifier: Apache-2.0
"""JIDs: how fast they are made and used, with slixmpp's (Rust) and a bare `str.partition` beside them.

    python -m pytest benches/bench_jid.py --benchmark-only

A round goes once over 1000 addresses; `extra_info["ns_per_jid"]` is the fastest round's time for one. "distinct" means that no address
comes twice in a round, "same" that it is one str object again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from _xmppcore import JID
from _xmppcore.jid import _bench_prepare

JIDS = 1000
REPEAT_IN_C = 1  # as often as the others, so that the group compares

ASCII = [f"user{i:05}@plant.example/device{i:03}" for i in range(JIDS)]  # 33 octets, as prepared
UNPREPARED = [text.title() for text in ASCII]
NON_ASCII = [f"jürgen{i:05}@plant.example/Büro{i:03}" for i in range(JIDS)]
NON_ASCII_DOMAIN = [f"jürgen@werk{i:03}.bücher.example/Büro" for i in range(JIDS)]


def slixmpp_jid() -> Callable[[str], Any]:
    return pytest.importorskip("slixmpp.jid").JID  # type: ignore[no-any-return]


def partition(text: str) -> tuple[str, str, str]:
    """Splitting only: no preparation, no check."""
    bare, _, resource = text.partition("/")
    local, _, domain = bare.partition("@")
    return local, domain, resource


def over_all(benchmark: BenchmarkFixture, function: Callable[[Any], Any], values: Iterable[Any]) -> None:
    values = list(values)

    def run() -> None:
        for value in values:
            function(value)

    function(values[0])  # what is loaded on first use
    benchmark(run)
    note(benchmark, len(values))


def note(benchmark: BenchmarkFixture, jids: int) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_jid"] = round(benchmark.stats.stats.min / jids * 1e9, 1)


RIVALS = pytest.mark.parametrize("rival", ["xiot", "slixmpp", "partition"])
STACKS = pytest.mark.parametrize("rival", ["xiot", "slixmpp"])


def maker(rival: str) -> Callable[[str], Any]:
    return slixmpp_jid() if rival == "slixmpp" else JID if rival == "xiot" else partition


@pytest.mark.benchmark(group="JID from ASCII str, distinct")
@RIVALS
def test_ascii_distinct(benchmark: BenchmarkFixture, rival: str) -> None:
    over_all(benchmark, maker(rival), ASCII)


@pytest.mark.benchmark(group="JID from ASCII str, distinct, to be lower-cased")
@STACKS
def test_ascii_unprepared(benchmark: BenchmarkFixture, rival: str) -> None:
    over_all(benchmark, maker(rival), UNPREPARED)


@pytest.mark.benchmark(group="JID from ASCII str, same")
@RIVALS
def test_ascii_same(benchmark: BenchmarkFixture, rival: str) -> None:
    over_all(benchmark, maker(rival), ASCII[:1] * JIDS)


@pytest.mark.benchmark(group="JID from non-ASCII str, distinct")
@STACKS
def test_non_ascii_distinct(benchmark: BenchmarkFixture, rival: str) -> None:
    over_all(benchmark, maker(rival), NON_ASCII)


@pytest.mark.benchmark(group="JID from non-ASCII str, distinct domains")
@STACKS
def test_non_ascii_domains(benchmark: BenchmarkFixture, rival: str) -> None:
    over_all(benchmark, maker(rival), NON_ASCII_DOMAIN)


@pytest.mark.benchmark(group="JID from non-ASCII str, same")
@STACKS
def test_non_ascii_same(benchmark: BenchmarkFixture, rival: str) -> None:
    over_all(benchmark, maker(rival), NON_ASCII[:1] * JIDS)


@pytest.mark.benchmark(group="JID from bytes, distinct")
@pytest.mark.parametrize("rival", ["xiot inside C", "slixmpp"])
def test_bytes(benchmark: BenchmarkFixture, rival: str) -> None:
    octets = [text.encode() for text in ASCII]
    if rival == "slixmpp":
        make = slixmpp_jid()
        over_all(benchmark, lambda value: make(value.decode()), octets)
    else:
        assert benchmark(_bench_prepare, octets, REPEAT_IN_C) in (None, JIDS * REPEAT_IN_C)
        note(benchmark, JIDS * REPEAT_IN_C)


@pytest.mark.benchmark(group="bare JID of a full one, as a key")
@STACKS
def test_bare_key(benchmark: BenchmarkFixture, rival: str) -> None:
    make = maker(rival)
    accounts = {make(text).bare: text for text in ASCII}
    over_all(benchmark, lambda jid: accounts[jid.bare], [make(text) for text in ASCII])


@pytest.mark.benchmark(group="domain of a JID")
@STACKS
def test_domain(benchmark: BenchmarkFixture, rival: str) -> None:
    make = maker(rival)
    over_all(benchmark, lambda jid: jid.domain, [make(text) for text in ASCII])


@pytest.mark.benchmark(group="JID equal to another")
@STACKS
def test_equal(benchmark: BenchmarkFixture, rival: str) -> None:
    make = maker(rival)
    over_all(benchmark, make(ASCII[0]).__eq__, [make(text) for text in ASCII])

# SPDX-License-Identifier: Apache-2.0
"""What EXI costs beside the parsing of the same stanzas as XML, which is the least that any XMPP program does with them.

The stanzas are the corpus of the reference data if that is there (XIOT_SHARED), else those of `corpora`. Each is a document of its own, so
the rivals make a parser for each; pyexpat has no handlers, and does not look at namespaces unless said. "in C" needs a C compiler.

    python -m pytest -o addopts= benches/bench_exi.py --benchmark-sort=mean
"""

from __future__ import annotations

import ctypes
import os
import time
from array import array
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from pathlib import Path
from xml.parsers import expat

import lxml.etree
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import native
from _xmppcore import JID, Link, Router, exi
from _xmppcore.exi_stream import Exi, ExiStream, Kind, Setup
from _xmppcore.xml import StreamParser
from xiot.cli import corpora

TIMES = 20  # each stanza, in a round

FRESH = exi.Options(value_max_length=64, value_partition_capacity=64)
KEPT = exi.Options(value_max_length=128, value_partition_capacity=256)


@cache
def stanzas() -> list[bytes]:
    """Documents: stanzas with their namespaces declared."""
    folder = Path(os.environ.get("XIOT_SHARED") or native.HERE.parents[1] / "shared") / "data" / "corpus"
    found = [path.read_bytes() for path in sorted(folder.glob("r*/*.xml"))]
    if not found:
        events = StreamParser().feed(corpora.make("chat", 40_000).data)[1:-1]
        found = [event.raw.replace(b" ", b" xmlns='jabber:client' ", 1) for event in events]
    return found * TIMES


@cache
def bodies() -> list[bytes]:
    return [exi.Session(FRESH, exi.xmpp_schemas()).encode(xml) for xml in stanzas()[: len(stanzas()) // TIMES]] * TIMES


# -- in C


@cache
def library() -> ctypes.CDLL | str:
    """exi.c with the codec; or why there is none."""
    target = native.compile("libexi.so", ["exi"], native.EXI, "-shared", "-O3")
    if isinstance(target, str):
        return target
    loaded = ctypes.CDLL(str(target))
    loaded.exi_open.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_bool]
    loaded.exi_open.restype = ctypes.c_void_p
    loaded.exi_encode.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_long,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    loaded.exi_decode.argtypes = loaded.exi_peek.argtypes = loaded.exi_encode.argtypes[:4]
    loaded.exi_encode.restype = loaded.exi_decode.restype = loaded.exi_peek.restype = ctypes.c_long
    return loaded


class InC:
    """The codec from C, on all documents in one call."""

    def __init__(self, keep: bool = False) -> None:
        loaded = library()
        if isinstance(loaded, str):
            pytest.skip(loaded)
        self._c = loaded
        options, tables = KEPT if keep else FRESH, exi.xmpp_schemas().tables()
        self._bench = loaded.exi_open(
            tables, len(tables), options.value_max_length, options.value_partition_capacity, keep
        )
        assert self._bench
        self._xml, self._bodies = b"".join(stanzas()), b"".join(bodies())
        self._xml_ends = array("I", accumulate(map(len, stanzas())))
        self._body_ends = array("I", accumulate(map(len, bodies())))

    def encode(self) -> int:
        ends = self._xml_ends
        return int(self._c.exi_encode(self._bench, self._xml, ends.buffer_info()[0], len(ends), None, None))

    def decode(self) -> int:
        ends = self._body_ends
        return len(ends) if self._c.exi_decode(self._bench, self._bodies, ends.buffer_info()[0], len(ends)) > 0 else -1

    def peek(self) -> int:
        ends = self._body_ends
        return len(ends) if self._c.exi_peek(self._bench, self._bodies, ends.buffer_info()[0], len(ends)) > 0 else -1


# -- rivals, and the codec from Python; each returns how many documents it had


def parse() -> int:
    for xml in stanzas():
        expat.ParserCreate().Parse(xml, True)
    return len(stanzas())


def parse_namespaces() -> int:
    for xml in stanzas():
        expat.ParserCreate(namespace_separator="}").Parse(xml, True)
    return len(stanzas())


def parse_lxml() -> int:
    for xml in stanzas():
        lxml.etree.fromstring(xml)
    return len(stanzas())


def encode(keep: bool = False) -> int:
    call = exi.Session(KEPT if keep else FRESH, exi.xmpp_schemas(), keep=keep).encode
    for xml in stanzas():
        call(xml)
    return len(stanzas())


def decode() -> int:
    call = exi.Session(FRESH, exi.xmpp_schemas()).decode
    for body in bodies():
        call(body)
    return len(bodies())


def head() -> int:
    call = exi.Session(FRESH, exi.xmpp_schemas()).head
    for body in bodies():
        call(body)
    return len(bodies())


# -- from one link in EXI to another


def relay(moved: bool) -> int:
    """Bodies in, bodies out: to a link of the same setup, or of one that is only equal, so that each is coded again."""
    router = Router()
    setups = [Setup(FRESH, exi.xmpp_schemas()) for _ in range(2)]
    header = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
    ends = []
    for name, setup in zip("ab", [setups[0], setups[not moved]], strict=True):
        link, layer, client = router.link(), Exi(ExiStream(Kind.BOUND, setup)), ExiStream(Kind.BOUND, setup)
        link.restart(logged_in=True)
        _give(link, layer, client.send(header))
        link.bind(JID(f"{name}@example.org/device"))
        link.write(header)
        ends.append((link, layer, client))
    (one, above, client), (other, below, _) = ends
    octets = [client.send(CHAT % number) for number in range(64)]
    for _ in range(100):
        for each in octets:
            _give(one, above, each)
        while data := below.output(other, False):
            below.sent(len(data))
    assert one.stanzas == 6400
    return 6400


CHAT = b"<message to='b@example.org/device' type='chat' id='m%d'><body>A message of the usual length, as people write them.</body></message>"


def _give(link: Link, layer: Exi, octets: bytes) -> None:
    link.router.buffer[: len(octets)] = octets
    layer.receive(link, len(octets))
    while layer.feed(link) is not None:
        while link.feed() is not None:
            pass


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "coded again"])
@pytest.mark.benchmark(group="EXI to EXI through the router", timer=time.process_time)
def test_relay(benchmark: BenchmarkFixture, moved: bool) -> None:
    count = benchmark.pedantic(relay, [moved], rounds=15, warmup_rounds=1)  # type: ignore[no-untyped-call]
    if benchmark.stats is not None:
        benchmark.extra_info["us a stanza"] = round(benchmark.stats.stats.median / count * 1e6, 2)


RIVALS: dict[str, Callable[[], int]] = {
    "pyexpat, parse": parse, "pyexpat, parse with namespaces": parse_namespaces, "lxml, tree": parse_lxml,
}  # fmt: skip
GROUPS: dict[str, dict[str, Callable[[], int]]] = {
    "XML to EXI": {
        "xiot in C": lambda: InC().encode(),
        "xiot": encode,
        "xiot in C, tables kept": lambda: InC(keep=True).encode(),
        "xiot, tables kept": lambda: encode(keep=True),
    },
    "EXI to XML": {"xiot in C": lambda: InC().decode(), "xiot": decode},
    "EXI to what routing asks": {"xiot in C": lambda: InC().peek(), "xiot": head},
}


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in [*GROUPS[group], *RIVALS]])
@pytest.mark.benchmark(timer=time.process_time)
def test_exi(benchmark: BenchmarkFixture, group: str, name: str) -> None:
    benchmark.group = group
    work = GROUPS[group].get(name) or RIVALS[name]
    count = len(stanzas())
    assert benchmark.pedantic(work, rounds=7, warmup_rounds=1) == count  # type: ignore[no-untyped-call]
    if benchmark.stats is not None:
        benchmark.extra_info["thousands/s"] = round(count / benchmark.stats.stats.median / 1e3)

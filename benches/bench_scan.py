# SPDX-License-Identifier: Apache-2.0
"""The parser in C alone beside libexpat in C (namespaces, handlers that count), on the same bytes; no Python in the loop.

Needs a C compiler and expat's headers (Debian: libexpat1-dev), else it is skipped.

    python -m pytest -o addopts= benches/bench_scan.py --benchmark-sort=mean
"""

from __future__ import annotations

import ctypes
import time
from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import native
from _xmppcore import scan
from xiot.cli import corpora

CORPUS_BYTES = 2_000_000


@cache
def library() -> ctypes.CDLL | str:
    """scan.c with the core's parser; or why there is none."""
    target = native.compile("libscan.so", ["scan"], native.PARSER, "-shared", "-lexpat")
    if isinstance(target, str):
        return target
    loaded = ctypes.CDLL(str(target))
    loaded.scan_xiot.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_char_p]
    loaded.scan_expat.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t]
    loaded.scan_xiot.restype = loaded.scan_expat.restype = ctypes.c_long
    return loaded


def read(reader: str, data: bytes, piece: int) -> int:
    """Stanzas that `reader`, "libexpat" or one of our kernels, sees in `data`, given in pieces."""
    loaded = library()
    if isinstance(loaded, str):
        pytest.skip(loaded)
    if reader == "libexpat":
        return int(loaded.scan_expat(data, len(data), piece))
    return int(loaded.scan_xiot(data, len(data), piece, reader.encode()))


@cache
def corpus(kind: str) -> corpora.Corpus:
    return corpora.make(kind, CORPUS_BYTES)


@pytest.mark.parametrize("reader", [*scan.kernels(), "libexpat"])
@pytest.mark.parametrize(("kind", "piece"), [*((kind, 4096) for kind in corpora.KINDS), ("chat", 100), ("chat", 1)])
@pytest.mark.benchmark(timer=time.process_time)
def test_scan(benchmark: BenchmarkFixture, kind: str, piece: int, reader: str) -> None:
    benchmark.group = f"scan in C, {kind}, {piece}-byte pieces"
    data, stanzas = corpus(kind).data, corpus(kind).stanzas
    read(reader, data[:1000], piece)  # builds, or skips
    benchmark.extra_info.update(bytes=len(data), stanzas=stanzas)
    assert benchmark.pedantic(read, (reader, data, piece), rounds=7, warmup_rounds=1) == stanzas
    if benchmark.stats is not None:
        benchmark.extra_info["MB/s"] = round(len(data) / benchmark.stats.stats.median / 1e6, 1)

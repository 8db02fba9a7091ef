# SPDX-License-Identifier: Apache-2.0
"""How far ahead the parser is: each row of the table in benches/README.md, ours and its rivals by turns, as ratios of CPU time.

The rounds of a row are interleaved, so what else the machine does hits all alike; shown is the median over rounds of the ratio within
a round, and its quartiles. In a round each repeats its work for a tenth of a second, so that what the one before has left in the caches
is no matter.

    python benches/targets.py [--rounds N] [WORD ...]      only rows with one of these words in their name
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lxml.etree
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import bench_element
import bench_exi
import bench_router
import bench_scan
import bench_xml
from _xmppcore import scan
from _xmppcore.xml import StreamParser, parse_element
from xiot.cli import bench, corpora

Work = Callable[[], object]


@dataclass
class Row:
    name: str
    ours: Work
    rivals: dict[str, Work]
    size: int  # bytes that `ours` reads (or writes)
    must: float
    goal: float


def bind(function: Callable[..., object], *args: object) -> Work:
    return lambda: function(*args)


def of_feed() -> list[Row]:
    rows = []
    for kind in ("chat", "iot", "unicode", "large"):
        pieces, size, _ = bench_xml.pieces(kind, 4096)
        read = bench_xml.FEED
        for rival, must, goal in (("pyexpat, no-op handlers", 12, 18), ("ElementTree pull, as slixmpp", 11, 17)):
            rivals = {rival: bind(read[rival], pieces)}
            rows.append(Row(f"feed, {kind}", bind(read["xiot"], pieces), rivals, size, must, goal))
    pieces, size, _ = bench_xml.pieces("chat", 1)
    rivals = {"pyexpat, no-op handlers": bind(bench_xml.expat_no_op, pieces)}
    rows.append(Row("feed, chat, 1-byte pieces", bind(bench_xml.xiot, pieces), rivals, size, 1.5, 2.5))
    return rows


def of_trees() -> list[Row]:
    rows = []
    for kind in ("chat", "iot", "unicode"):
        pieces, size, _ = bench_xml.pieces(kind, 4096)
        read = bench_xml.TREES
        for rival, must, goal in (("pyexpat building ElementTree", 4.5, 7), ("lxml pull", 2.3, 3.5)):
            rivals = {rival: bind(read[rival], pieces)}
            for ours in ("xiot, .element", "xiot, eager"):
                rows.append(Row(f"trees, {kind}, {ours[6:]}", bind(read[ours], pieces), rivals, size, must, goal))
    return rows


def of_scan() -> list[Row]:
    if isinstance(bench_scan.library(), str):
        print(f"no scan in C: {bench_scan.library()}", file=sys.stderr)
        return []
    cases = [
        ("chat", 4096, 8, 11),
        ("iot", 4096, 8, 11),
        ("large", 4096, 8, 13),
        ("unicode", 4096, 8, 11),
        ("chat", 100, 4, 5),
    ]
    kernel = scan.default()
    rows = []
    for kind, piece, must, goal in cases:
        corpus = bench_scan.corpus(kind)
        ours = bind(bench_scan.read, kernel, corpus.data, piece)
        rivals = {"libexpat": bind(bench_scan.read, "libexpat", corpus.data, piece)}
        rows.append(
            Row(f"scan in C, {kind}, {piece}-byte pieces, {kernel}", ours, rivals, len(corpus.data), must, goal)
        )
    return rows


def of_route() -> list[Row]:
    rows = []
    for kind in ("chat", "iot"):
        pieces, size, _ = bench_router.corpus(kind)
        steps = {name: make() for name, make in bench_router.ROUTERS.items()}
        ours = bind(lambda step, parts: sum(map(step, parts)), steps["xiot"], pieces)
        rival = "pyexpat handlers, dict"
        rivals = {rival: bind(lambda step, parts: sum(map(step, parts)), steps[rival], pieces)}
        rows.append(Row(f"route, {kind}", ours, rivals, size, 35, 73))
    return rows


def of_serialise() -> list[Row]:
    """Every stanza of a corpus as a tree of each library, written again and again."""
    rows = []
    for kind in ("chat", "iot", "unicode"):
        stanzas = [event.raw for event in StreamParser().feed(corpora.make(kind, 100_000).data)[1:-1]]
        ours = [parse_element(raw, "jabber:client") for raw in stanzas]
        theirs = [lxml.etree.fromstring(raw.replace(b" ", b" xmlns='jabber:client' ", 1)) for raw in stanzas]
        rows.append(
            Row(
                f"serialise, {kind}",
                bind(lambda trees: [tree.tobytes("jabber:client") for tree in trees * 5], ours),
                {
                    "lxml tostring": bind(
                        lambda trees: [bench_element.LIBRARIES["lxml"][1](tree) for tree in trees * 5], theirs
                    )
                },
                5 * sum(map(len, stanzas)),
                1,
                2,
            )
        )
    return rows


def of_exi() -> list[Row]:
    """The corpus of stanzas to EXI and back; the yardstick is pyexpat's parsing of each of them, without handlers."""
    rivals = {"pyexpat, parse": bench_exi.parse, "pyexpat, with namespaces": bench_exi.parse_namespaces}
    size = sum(map(len, bench_exi.stanzas()))
    rows = [
        Row("XML to EXI, a Python call each", bench_exi.encode, rivals, size, 3.5, 5),
        Row("EXI to XML, a Python call each", bench_exi.decode, rivals, size, 3.5, 7),
        Row("EXI to a head, a Python call each", bench_exi.head, rivals, size, 7, 15),
    ]
    if isinstance(bench_exi.library(), str):
        print(f"no EXI in C: {bench_exi.library()}", file=sys.stderr)
        return rows
    fresh, kept = bench_exi.InC(), bench_exi.InC(keep=True)
    return [
        Row("XML to EXI, C", fresh.encode, rivals, size, 5, 5.2),
        Row("XML to EXI, tables kept, C", kept.encode, rivals, size, 5, 5.2),
        Row("EXI to XML, C", fresh.decode, rivals, size, 7, 7.7),
        Row("EXI to a head, C", fresh.peek, rivals, size, 15, 15.5),
        *rows,
    ]


ROUND_S = 0.1


def timed(work: Work) -> float:
    """CPU seconds of one time, as the mean of so many as fill a round."""
    start = time.process_time()
    times = 0
    while (spent := time.process_time() - start) < ROUND_S:
        work()
        times += 1
    return spent / times


def compare(row: Row, rounds: int) -> list[dict[str, Any]]:
    """A line of the table for each rival: the ratio's median and quartiles over `rounds`, and how fast we are."""
    works = {"": row.ours, **row.rivals}
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            took = timed(work)
            if turn:  # the first warms up
                times[name].append(took)
    lines = []
    for rival in row.rivals:
        ratios = [b / a for a, b in zip(times[""], times[rival], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        speed = row.size / statistics.median(times[""]) / 1e6
        lines.append(
            {
                "name": row.name,
                "rival": rival,
                "MB/s": round(speed),
                "ratio": round(median, 2),
                "quartiles": [round(low, 2), round(high, 2)],
                "must": row.must,
                "goal": row.goal,
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11, help="at least 2")
    parser.add_argument("--json", type=Path, help="where to write the figures, too: for report.py")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    print(f"{'':44} {'rival':30} {'MB/s':>6} {'ratio':>6} {'quartiles':>13} {'must':>5} {'goal':>5}")
    rows = [row for make in (of_feed, of_trees, of_scan, of_route, of_serialise, of_exi) for row in make()]
    rows = [row for row in rows if not args.words or any(word in row.name for word in args.words)]
    lines = []
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(rows))
        for row in rows:
            progress.update(task, description=row.name)
            for line in compare(row, args.rounds):
                low, high = line["quartiles"]
                mark = "" if line["ratio"] >= row.must else " <- below"
                print(
                    f"{row.name:44} {line['rival']:30} {line['MB/s']:6} {line['ratio']:6.1f} {low:6.1f}-{high:<6.1f}"
                    f" {row.must:5g} {row.goal:5g}{mark}",
                    flush=True,
                )
                lines.append(line)
            progress.advance(task)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(about() | {"rows": lines}, indent=1) + "\n", encoding="utf-8")


def about() -> dict[str, Any]:
    """When, and on what."""
    processor, cores = bench.processor(), os.cpu_count()
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpu": processor, "cores": cores, "kernel": platform.release()},
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""``xiot bench``: the core's figures on this machine, beside what Python programs use else. Takes less than a minute."""

from __future__ import annotations

import json
import platform
import statistics
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from _xmppcore import JID, Stanza, StreamParser, scan
from xiot.cli import corpora, rivals
from xiot.cli.rivals import Read, Step

Work = Callable[[], object]

SIZE_BYTES = 400_000
"""Of a stream: more than a second-level cache, little enough for the slowest."""
SHARE_S = 0.05
"""Of CPU time, about, for one turn of one: longer than what disturbs it."""
TURNS = 5
CLIENT = "jabber:client"


@dataclass(frozen=True)
class Question:
    """Some work, and the same done by others, all `count` times; they take turns, so that what else the machine does hits all alike."""

    name: str
    noun: str
    count: int
    size: int
    """Bytes read, or written; 0 if that says nothing."""
    ours: Work
    others: dict[str, Work]


@dataclass(frozen=True)
class Answer:
    """Medians of CPU time."""

    question: Question
    each_ns: float
    times: dict[str, float]
    """How many times as long the others take: medians of the ratios within a turn."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def bench(as_json: bool) -> None:
    """Measure the core on this machine: parsing, trees, routing, addresses, writing.

    Each figure is CPU time of one thread; who else does the same work takes turns with us. Streams are generated.
    """
    progress = Console(stderr=True)
    answers = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=progress, transient=True, disable=not progress.is_terminal) as bar:
        asked = list(questions())
        task = bar.add_task("", total=len(asked))
        for question in asked:
            bar.update(task, description=question.name)
            answers.append(measure(question))
            bar.advance(task)
    if as_json:
        click.echo(json.dumps(document(answers), indent=2))
    else:
        show(answers)


def questions() -> Iterator[Question]:
    """All of them; rivals that are not installed are left out."""
    with_lxml = find_spec("lxml") is not None
    for kind in ("chat", "iot"):
        corpus = corpora.make(kind, SIZE_BYTES)
        pieces = rivals.split(corpus.data)

        def reading(
            name: str, ours: Read, others: dict[str, Read], corpus: Any = corpus, pieces: Any = pieces
        ) -> Question:
            works: dict[str, Work] = {other: partial(read, pieces) for other, read in others.items()}
            return Question(name, "stanza", corpus.stanzas, len(corpus.data), partial(ours, pieces), works)

        pulls: dict[str, Read] = {"ElementTree": rivals.etree_pull}
        if with_lxml:
            pulls["lxml"] = rivals.lxml_pull
        yield reading(f"read {kind}", rivals.read, {"pyexpat": rivals.expat_no_op, **pulls})
        yield reading(f"trees of {kind}", rivals.read_trees, {"pyexpat": rivals.expat_tree, **pulls})
    for kind in ("chat", "iot"):
        yield routing(kind)
    yield addresses()
    yield writing(with_lxml=with_lxml)


def routing(kind: str) -> Question:
    corpus = rivals.to_route(kind, SIZE_BYTES)
    pieces = rivals.split(corpus.data)

    def through(step: Step) -> Work:
        return lambda: [step(piece) for piece in pieces]

    # A stream may be cut off behind any stanza, and gone on with.
    ours, theirs = rivals.router(), rivals.expat_handlers()
    return Question(
        f"route {kind}", "stanza", corpus.stanzas, len(corpus.data), through(ours), {"pyexpat": through(theirs)}
    )


def addresses() -> Question:
    texts = [rivals.address(i) for i in range(1000)]

    def each(make: Callable[[str], object]) -> Work:
        def run() -> None:
            for text in texts:
                make(text)

        return run

    others = {}
    if find_spec("slixmpp") is not None:
        from slixmpp.jid import JID as Theirs

        others["slixmpp"] = each(Theirs)
    return Question("JID of a str", "JID", len(texts), 0, each(JID), others)


def writing(*, with_lxml: bool) -> Question:
    events = StreamParser().feed(corpora.make("chat", SIZE_BYTES // 4).data)
    ours = [event.element for event in events if isinstance(event, Stanza)]
    texts = [tree.tobytes() for tree in ours]
    others: dict[str, Work] = {}
    theirs = [ET.fromstring(text) for text in texts]
    others["ElementTree"] = lambda: [ET.tostring(tree, encoding="utf-8") for tree in theirs]
    if with_lxml:
        import lxml.etree

        trees = [lxml.etree.fromstring(text) for text in texts]
        others["lxml"] = lambda: [lxml.etree.tostring(tree, encoding="utf-8") for tree in trees]
    return Question(
        "write chat", "stanza", len(ours), sum(map(len, texts)), lambda: [tree.tobytes() for tree in ours], others
    )


def measure(question: Question) -> Answer:
    works = {"": question.ours, **question.others}
    often = {}
    for name, work in works.items():
        work()  # what is made once
        often[name] = max(1, round(SHARE_S / max(timed(work, 1), 1e-6)))
    turns = [{name: timed(work, often[name]) for name, work in works.items()} for _ in range(TURNS)]
    return Answer(
        question,
        statistics.median(turn[""] for turn in turns) / question.count * 1e9,
        {name: statistics.median(turn[name] / turn[""] for turn in turns) for name in question.others},
    )


def timed(work: Work, often: int) -> float:
    """CPU seconds for one run."""
    start = time.process_time()
    for _ in range(often):
        work()
    return (time.process_time() - start) / often


def machine() -> dict[str, str]:
    """What the figures hold for."""
    return {
        "xiot": version("xiot"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "processor": processor(),
        "kernel": scan.default(),
    }


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Model"):
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def document(answers: list[Answer]) -> dict[str, Any]:
    return {
        **machine(),
        "figures": [
            {
                "name": answer.question.name,
                "of": answer.question.noun,
                "each_ns": round(answer.each_ns, 1),
                "per_s": round(1e9 / answer.each_ns),
                "bytes_per_s": round(answer.question.size / answer.question.count / answer.each_ns * 1e9) or None,
                "times": {name: round(times, 2) for name, times in answer.times.items()},
            }
            for answer in answers
        ],
    }


def show(answers: list[Answer]) -> None:
    """The figures for people."""
    about = machine()
    console = Console(highlight=False)
    console.print(f"xiot {about['xiot']}, {about['python']}, {about['processor']}, {about['kernel']}")
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for title in ("ns each", "a second", "MB/s"):
        table.add_column(title, justify="right", no_wrap=True)
    names = dict.fromkeys(name for answer in answers for name in answer.times)
    for name in names:
        table.add_column(name, justify="right", style="green", no_wrap=True)
    for answer in answers:
        question = answer.question
        rate = f"{question.size / question.count / answer.each_ns * 1e3:,.0f}" if question.size else ""
        times = [f"{answer.times[name]:.1f} x" if name in answer.times else "" for name in names]
        table.add_row(question.name, f"{answer.each_ns:,.0f}", f"{1e9 / answer.each_ns:,.0f}", rate, *times)
    console.print(table)
    console.print("CPU time of one thread for a stanza or JID; x: times as long as ours.", style="dim")

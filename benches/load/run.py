# SPDX-License-Identifier: Apache-2.0
"""Whole servers under the same load, in one run: a table, and the figures as JSON.

Each round starts each server afresh (its accounts kept), runs all cases on it in the order given, and ends it before
the next one starts: rounds are interleaved over servers, and nothing but one server and the generator runs. Shown are
medians over rounds. `per cpu-s`, stanzas (logins) per CPU second of the server with all its processes, is the figure to
compare.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from harness import (
    KINDS,
    Case,
    Kind,
    LoadError,
    Place,
    Result,
    Tools,
    build,
    make_place,
    measure,
    measure_alone,
    register,
    running,
)
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

DEFAULT_CASES = ("chat/10/w64", "chat/100/w1")
ALL_CASES = (
    *("chat/100/w1", "chat/10/w64", "chat/2000/w8", "chat/100/w1/direct", "chat/10/w64/direct", "chat/100/2000ps"),
    *("presence/100/w1", "presence/100/w8", "chat/100/w1/sm", "chat/10/w64/sm"),
    *("login/64/scram-sha-1", "login/64/direct/scram-sha-1"),
    *("idle/5000", "idle/5000/direct", "storm/1000/direct/scram-sha-1", "return/500", "growth/10/w64"),
)
SESSION_CASES = tuple(f"chat/{pairs}/w1" for pairs in (5, 25, 100, 500, 2500))
"""What a message costs among 10 to 5,000 sessions."""

BUSY_PERCENT = 90.0
"""Above this the generator may have been the limit of what is counted per second (never of per cpu-s)."""

MIN_WIDTH = 200
"""Columns of text that the table needs."""

WRONG = ("lost", "doubled", "reordered", "errors", "shed", "disconnects", "failed_logins")
"""Counters that must be 0."""

COLUMNS = (
    *("per s", "per cpu-s", "spread %", "p50 us", "p99 us", "p99.9 us", "login/cpu-s", "RSS MiB", "lost+err"),
    *("fds", "gen cpu %", "others %", "note"),
)

DISTURBED_PERCENT = 20.0
"""Foreign processes that took more than this of one core during a run have disturbed it."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often."""

    cases: list[Case]
    rounds: int
    seconds: float
    patience_s: float


@click.command()
@click.option(
    "--cache",
    type=click.Path(path_type=Path, resolve_path=True),
    help="Where to build; default build/load in the repository.",
)
@click.option("--server", "names", multiple=True, type=click.Choice(list(KINDS)), help="Default: all installed.")
@click.option("--case", "cases", multiple=True, default=DEFAULT_CASES, show_default=True, help="Repeatable.")
@click.option(
    "--all", "everything", is_flag=True, help="All cases that there are figures for: it takes an hour or two."
)
@click.option("--sessions", is_flag=True, help="What a message costs among 10, 50, 200, 1,000 and 5,000 sessions.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=2.0, show_default=True, help="Length of a case's timed part.")
@click.option(
    "--json", "target", type=click.Path(path_type=Path), help="Default: results.json (sessions.json) in the cache."
)
@click.option(
    "--add", is_flag=True, help="Keep what the file has of other cases: so they can be measured a few at a time."
)
@click.option(
    "--patience", default=0.0, show_default=True, help="Seconds for which a run disturbed by others is repeated."
)
def main(
    cache: Path | None,
    names: tuple[str, ...],
    cases: tuple[str, ...],
    everything: bool,
    sessions: bool,
    rounds: int,
    seconds: float,
    target: Path | None,
    add: bool,
    patience: float,
) -> None:
    """Measure servers, and C programs that do nothing but what they must, side by side on this machine's loopback."""
    cases = SESSION_CASES if sessions else ALL_CASES if everything else cases
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that servers end with it
    console = Console()
    console.width = max(console.width, MIN_WIDTH)
    cache = cache or Path(__file__).resolve().parents[2] / "build" / "load"
    try:
        plan = Plan([Case.parse(text) for text in cases], rounds, seconds, patience)
        tools = build(cache)
        kinds = _installed(console, names)
        with (cache / "lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="xiot-load-") as work:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two measurements at once are none
            places = _prepare(console, kinds, plan, tools, Path(work))
            runs = _rounds(console, kinds, plan, tools, places)
    except (LoadError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    pairs = [(kind, case.text) for case in plan.cases for kind in kinds]
    rows = [_row(kind, text, runs[kind.name, text]) for kind, text in pairs if (kind.name, text) in runs]
    console.print(_table(rows))
    console.print("* the generator was busy: it may have been the limit of per s; others: CPU of foreign processes")
    target = target or cache / ("sessions.json" if sessions else "results.json")
    document = _document(kinds, rows, plan)
    if add and target.exists():
        document = _joined(json.loads(target.read_text(encoding="utf-8")), document)
    target.write_text(json.dumps(document, indent=1), encoding="utf-8")
    console.print(f"[dim]{target}")


def _installed(console: Console, names: tuple[str, ...]) -> list[Kind]:
    found = []
    for kind in KINDS.values():
        if names and kind.name not in names:
            continue
        missing = kind.missing()
        if missing is None:
            found.append(kind)
        elif names:
            raise LoadError(f"{kind.name}: {missing}")
        else:
            console.print(f"[yellow]without {kind.name}: {missing}")
    return found


def _prepare(console: Console, kinds: list[Kind], plan: Plan, tools: Tools, work: Path) -> dict[str, Place]:
    """Lay out each server's files and make its accounts, in a life of its own: rounds begin with a fresh process."""
    places = {}
    for kind in kinds:
        place = places[kind.name] = make_place(kind, work / kind.name, tools)
        if kind.xmpp:
            with console.status(f"accounts for {kind.name}"), running(kind, place) as server:
                suited = [case.accounts for case in plan.cases if case.suits(kind, tools)]
                register(tools, server, max(suited, default=0))
    return places


def _rounds(
    console: Console, kinds: list[Kind], plan: Plan, tools: Tools, places: dict[str, Place]
) -> dict[tuple[str, str], list[Result]]:
    runs: dict[tuple[str, str], list[Result]] = {}
    steps = [(kind, [case for case in plan.cases if case.suits(kind, tools)]) for kind in kinds] * plan.rounds
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(len(suited) for _, suited in steps))
        for kind, suited in steps:
            progress.update(task, description=f"{kind.name} starts")
            place = places[kind.name]

            def note(case: Case, once: Callable[[], Result], kind: Kind = kind) -> None:
                progress.update(task, description=f"{kind.name} {case.text}")
                try:
                    result = _run(once, plan)
                    runs.setdefault((kind.name, case.text), []).append(result)
                except LoadError as error:  # the others are worth their time all the same
                    console.print(f"[red]{kind.name} {case.text}: {error}")
                progress.advance(task)

            together = [case for case in suited if not case.alone]
            with running(kind, place) if together else nullcontext() as server:
                for case in together:
                    note(case, partial(measure, tools, server, case, plan.seconds))
            for case in suited:
                if case.alone:
                    note(case, partial(measure_alone, tools, kind, place, case, plan.seconds))
    return runs


def _run(once: Callable[[], Result], plan: Plan) -> Result:
    """The first run that nobody disturbed; once patience has ended, the one disturbed least."""
    deadline = time.monotonic() + plan.patience_s
    tried = []
    while True:
        result = once()
        tried.append(result)
        if result["others"]["cpu_percent"] <= DISTURBED_PERCENT or time.monotonic() > deadline:
            return min(tried, key=lambda each: float(each["others"]["cpu_percent"]))
        time.sleep(1)


def _row(kind: Kind, case: str, runs: list[Result]) -> Row:
    """Medians of what varies, sums of what should be 0."""

    def median(*path: str) -> float:
        return statistics.median(_at(run, path) for run in runs)

    rates = [run["per_server_cpu_s"] for run in runs]
    return {
        "server": kind.name,
        "case": case,
        "per_s": median("per_s"),
        "per_server_cpu_s": median("per_server_cpu_s"),
        "spread_percent": 100 * (max(rates) - min(rates)) / max(statistics.median(rates), 1e-9),
        "p50_us": median("latency_us", "p50"),
        "p99_us": median("latency_us", "p99"),
        "p99.9_us": median("latency_us", "p99.9"),
        "max_us": median("latency_us", "max"),
        "seconds": median("seconds"),
        "bytes_per_stanza": median("growth", "bytes_per_stanza") if "growth" in runs[0] else 0.0,
        "setup_logins_per_cpu_s": median("setup", "per_server_cpu_s"),
        "rss_kib": median("server", "rss_kib"),
        "rss_kib_each": median("server", "rss_ready_kib") / runs[0]["setup"]["logins"]
        - median("server", "rss_fresh_kib") / runs[0]["setup"]["logins"],
        "wrong": sum(run[name] for run in runs for name in WRONG),
        "generator_cpu_percent": median("generator", "cpu_percent"),
        "others_cpu_percent": median("others", "cpu_percent"),
        "fds": median("server", "fds"),
        "runs": runs,
    }


def _at(run: Result, path: tuple[str, ...]) -> float:
    value: Any = run
    for name in path:
        value = value[name]
    return float(value)


def _table(rows: list[Row]) -> Table:
    table = Table(title="XMPP servers under load, loopback")
    for title in ("server", "case"):
        table.add_column(title)
    for title in COLUMNS:
        table.add_column(title, justify="right")
    for row in rows:
        busy = " *" if row["generator_cpu_percent"] > BUSY_PERCENT else ""
        table.add_row(
            row["server"],
            row["case"],
            f"{row['per_s']:,.0f}{busy}",
            f"{row['per_server_cpu_s']:,.0f}",
            f"{row['spread_percent']:.0f}",
            f"{row['p50_us']:,.0f}",
            f"{row['p99_us']:,.0f}",
            f"{row['p99.9_us']:,.0f}",
            f"{row['setup_logins_per_cpu_s']:,.0f}",
            f"{row['rss_kib'] / 1024:,.1f}",
            f"{row['wrong']}",
            f"{row['fds']:.0f}",
            f"{row['generator_cpu_percent']:.0f}",
            f"{row['others_cpu_percent']:.0f}",
            _note(row, rows),
        )
    return table


def _note(row: Row, rows: list[Row]) -> str:
    """What a case is about, if no column says it."""
    case, first = str(row["case"]), row["runs"][0]
    if case.startswith("idle/"):
        return f"{row['rss_kib_each']:.1f} KiB each"
    if case.startswith("storm/"):
        return f"{row['seconds']:.1f} s; a ping waited {row['max_us'] / 1000:.0f} ms"
    if case.startswith("return/"):
        return f"all back in {row['seconds']:.1f} s"
    if "growth" in first:
        return f"{first['growth']['stanzas']:,} stanzas, {row['bytes_per_stanza']:.3f} B each"
    for other in rows:  # with stream management: the share of the rate without
        if case == f"{other['case']}/sm" and other["server"] == row["server"]:
            return f"{row['per_server_cpu_s'] / max(other['per_server_cpu_s'], 1e-9):.2f} of without"
    return ""


def _document(kinds: list[Kind], rows: list[Row], plan: Plan) -> dict[str, Any]:
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "kernel": platform.release()},
        "python": platform.python_version(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "servers": {kind.name: {"version": kind.version(), "words": dict(kind.words or {})} for kind in kinds},
        "rows": rows,
    }


def _joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The new document with the old one's other cases, in the order of ALL_CASES."""
    again = {row["case"] for row in now["rows"]}
    rows = [row for row in before["rows"] if row["case"] not in again] + now["rows"]
    rows.sort(key=lambda row: ALL_CASES.index(row["case"]) if row["case"] in ALL_CASES else len(ALL_CASES))
    fewest = {name: min(before[name], now[name]) for name in ("rounds", "seconds")}
    return now | fewest | {"servers": before["servers"] | now["servers"], "rows": rows}


def _cpu_name() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        fields = dict(line.partition(":")[::2] for line in file if ":" in line)
    return " ".join(fields.get(f"{name}\t", "").strip() for name in ("model name", "cpu family", "model\t"))


if __name__ == "__main__":
    main()

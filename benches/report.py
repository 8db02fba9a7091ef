# SPDX-License-Identifier: Apache-2.0
"""Tables and plots of what was measured: benches/results/, and the tables between the marks in README.md.

    python benches/targets.py --json build/bench/parser.json
    python -m pytest benches --benchmark-enable --benchmark-only --benchmark-json build/bench/core.json
    python benches/load/run.py --all                            (writes build/load/results.json)
    python benches/load/run.py --sessions                       (writes build/load/sessions.json)
    python benches/report.py

What is not there is taken from results.json, which has the figures of all tables and plots; so the tables can be made anew anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
SOURCES = {
    "load": ROOT / "build/load/results.json",
    "sessions": ROOT / "build/load/sessions.json",
    "parser": ROOT / "build/bench/parser.json",
    "core": ROOT / "build/bench/core.json",
}
Document = dict[str, Any]
Row = dict[str, Any]

SERVERS = {
    "relay": "bare C",  # and the door, where there are logins: both do what a server must, and nothing else
    "relay-trio": "trio relay",
    "relay-uvloop": "uvloop relay",
    "xiot": "xiot",
    "xiot-bare": "xiot, bare",
    "prosody": "Prosody",
    "prosody-gen": "Prosody, generational GC",
    "ejabberd": "ejabberd",
    "ejabberd-nobw": "ejabberd, no busy waiting",
    "mosquitto": "mosquitto, QoS 0",
    "pyjabber": "pyjabber",
}
RELAYS = ("relay", "door", "relay-trio", "relay-uvloop")
OURS = ("xiot", "xiot-bare")
COLOURS = {
    "relay": "#8b949e", "relay-trio": "#c0aeb4", "relay-uvloop": "#a8b4a0", "xiot": "#2f81f7", "xiot-bare": "#79b8ff",
    "prosody": "#bf7b1c", "prosody-gen": "#d29922", "ejabberd": "#b5452f", "ejabberd-nobw": "#e5654a",
    "mosquitto": "#8957e5", "pyjabber": "#3fa45b",
}  # fmt: skip
GREY = "#768390"
"""Of text and lines: to be read on white and on black, since nobody knows what is behind the picture."""


def gather(results: Path, sources: dict[str, Path]) -> Document:
    """What is shown: of each source, if it is there, what tables and plots need; else what results.json has."""
    kept: Document = {}
    if (results / "results.json").exists():
        kept = json.loads((results / "results.json").read_text(encoding="utf-8"))
    for name, path in sources.items():
        if path.exists():
            document = json.loads(path.read_text(encoding="utf-8"))
            kept[name] = _core(document) if name == "core" else _short(document)
    return kept


def _short(document: Document) -> Document:
    rows = [
        {key: len(value) if key == "runs" else _rounded(value) for key, value in row.items()}
        for row in document["rows"]
    ]
    return document | {"rows": rows}


def _core(document: Document) -> Document:
    """pytest-benchmark's file without each single time."""
    rows = [
        {"group": each["group"], "name": _param(each["name"]), "median_us": _rounded(1e6 * each["stats"]["median"])}
        | each["extra_info"]
        for each in document["benchmarks"]
    ]
    machine = document["machine_info"]
    cpu = machine["cpu"]
    return {
        "made": document["datetime"],
        "machine": {"cpu": cpu.get("brand_raw", ""), "cores": cpu.get("count"), "kernel": machine["release"]},
        "python": machine["python_version"],
        "rows": rows,
    }


def _param(test: str) -> str:
    """What stands in the brackets of a test's name."""
    found = re.search(r"\[(.*)\]", test)
    return found[1] if found else test


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def on_machine(document: Document) -> str:
    """Such as "AMD EPYC, 2 cores, Linux 6.1, Python 3.11.7, 2026-11-24"."""
    machine = document["machine"]
    cpu = re.sub(r"\s*\(R\)|\s*\(TM\)|\s+\d+-Core Processor", "", str(machine["cpu"])).strip()
    cpu = re.sub(r" (\d+) (\d+)$", r" (family \1, model \2)", cpu)
    return f"{cpu}, {machine['cores']} cores, Linux {machine['kernel']}, Python {document['python']}, {document['made'][:10]}"


def describe(case: str) -> str:
    """A case of load/run.py in words."""
    name, number, *words = case.split("/")
    many = f"{int(number):,}"
    what = {
        "chat": f"{many} pairs", "presence": f"presence to {many} contacts", "ping": f"{many} ping", "login": "logins",
        "idle": f"{many} idle", "storm": f"{many} log in at once", "return": f"{many} come back", "growth": "a million stanzas",
    }.get(name, name)  # fmt: skip
    said = []
    for word in words:
        if re.fullmatch(r"w\d+", word):
            said.append(f"{word[1:]} in flight")
        elif word.endswith("ps") and word[:-2].isdigit():
            said.append(f"{int(word[:-2]):,} messages a second in all")
        else:
            said.append(
                {"direct": "TLS 1.3", "sm": "XEP-0198 at both ends", "scram-sha-1": "SCRAM-SHA-1"}.get(word, word)
            )
    return ", ".join([what, *said])


def significant(value: float) -> str:
    """Three digits, such as 1,230,000 or 0.85."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def times(ratio: float) -> str:
    return f"{ratio:.0f} x" if ratio >= 10 else f"{ratio:.1f} x" if ratio >= 2 else f"{ratio:.2f} x"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return re.sub(r"\|(  )(?=\|)", "| ", "\n".join(lines)) + "\n"


def by_case(document: Document) -> dict[str, dict[str, Row]]:
    cases: dict[str, dict[str, Row]] = {}
    for row in document["rows"]:
        cases.setdefault(row["case"], {})["relay" if row["server"] == "door" else row["server"]] = row
    return cases


ALONE = ("idle", "storm", "return", "growth")
"""Cases that have no figure per CPU second."""


def throughput_table(document: Document) -> str:
    """Stanzas (deliveries, logins) per CPU second of the server: a line a case, a column a server."""
    cases = {case: rows for case, rows in by_case(document).items() if case.partition("/")[0] not in ALONE}
    servers = [name for name in SERVERS if any(name in rows for rows in cases.values())]

    def cell(row: Row | None) -> str:
        if row is None:
            return ""
        return significant(row["per_server_cpu_s"]) + (f" ({row['wrong']:,} wrong)" if row["wrong"] else "")

    def versus(rows: dict[str, Row]) -> str:
        others = [
            row["per_server_cpu_s"] for name, row in rows.items() if name not in (*RELAYS, *OURS) and not row["wrong"]
        ]
        return times(rows["xiot"]["per_server_cpu_s"] / max(others)) if others and "xiot" in rows else ""

    head = [
        "case",
        *(f"**{SERVERS[name]}**" if name == "xiot" else SERVERS[name] for name in servers),
        "xiot / best other",
    ]
    return table(
        head,
        ([describe(case), *(cell(rows.get(name)) for name in servers), versus(rows)] for case, rows in cases.items()),
    )


def latency_table(document: Document) -> str:
    """Latencies of the open loop: microseconds from one client to the other."""
    lines = []
    for case, rows in by_case(document).items():
        if case.endswith("ps"):
            for name in SERVERS:
                if row := rows.get(name):
                    figures = [f"{row[key]:,.0f}" for key in ("p50_us", "p99_us", "p99.9_us")]
                    lines.append([describe(case), SERVERS[name], *figures])
    return table(["case", "server", "p50, us", "p99, us", "p99.9, us"], lines) if lines else ""


def memory_table(document: Document) -> str:
    """KiB of an idle connection."""
    cases = {case: rows for case, rows in by_case(document).items() if case.startswith("idle/")}
    servers = [name for name in SERVERS if any(name in rows for rows in cases.values())]
    head = ["KiB each", *(SERVERS[name] for name in servers)]
    rows = (
        [describe(case), *(f"{rows[name]['rss_kib_each']:.1f}" if name in rows else "" for name in servers)]
        for case, rows in cases.items()
    )
    return table(head, rows) if cases else ""


def parser_table(document: Document) -> str:
    lines = [
        [row["name"], row["rival"], f"{row['MB/s']:,}", f"{row['ratio']:.1f} x", "{:.1f} - {:.1f}".format(*row["quartiles"]),
         f"{row['must']:g}", f"{row['goal']:g}"]
        for row in document["rows"]
    ]  # fmt: skip
    return table(["what", "against", "MB/s", "times as fast", "quartiles", "must", "goal"], lines)


def core_table(document: Document) -> str:
    return table(
        ["group", "who", "median, us"],
        ([row["group"], row["name"], significant(row["median_us"])] for row in document["rows"]),
    )


def sessions_table(document: Document) -> str:
    cases = by_case(document)
    servers = [name for name in SERVERS if any(name in rows for rows in cases.values())]
    return table(
        ["sessions", *(SERVERS[name] for name in servers)],
        (
            [
                f"{sessions(case):,}",
                *(f"{1e6 / rows[name]['per_server_cpu_s']:.1f} us" if name in rows else "" for name in servers),
            ]
            for case, rows in cases.items()
        ),
    )


def sessions(case: str) -> int:
    return 2 * int(case.split("/")[1])


def thousands(value: float, _: int) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    mpl.rcParams.update(
        {
            "font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "xiot", "text.color": GREY, "axes.labelcolor": GREY,
            "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY, "grid.color": GREY, "grid.alpha": 0.25,
        }
    )  # fmt: skip
    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", which="major")
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    return made, axes


def bars(document: Document) -> Figure:
    """Messages per CPU second, a group of bars a case."""
    cases = {case: rows for case, rows in by_case(document).items() if case.partition("/")[0] not in (*ALONE, "login")}
    shown = [name for name in SERVERS if any(name in rows for rows in cases.values())]
    count = sum(len(rows) for rows in cases.values())
    made, axes = figure(9, 1.2 + 0.17 * count + 0.12 * len(cases))
    at = 0.0
    ticks = []
    for case, rows in cases.items():
        here = [name for name in shown if name in rows]
        ticks.append((at + (len(here) - 1) / 2, describe(case).replace(", ", ",\n", 1)))
        for name in here:
            value = rows[name]["per_server_cpu_s"]
            axes.barh(at, value, color=COLOURS[name], height=0.85)
            axes.text(
                value * 1.06,
                at,
                significant(value),
                va="center",
                fontsize=7,
                color=COLOURS[name] if name in OURS else GREY,
            )
            at += 1
        at += 1
    axes.set_yticks([place for place, _ in ticks], [text for _, text in ticks])
    axes.set_ylim(at - 0.5, -1)
    axes.set_xscale("log")
    axes.set_xlim(left=1000)
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.set_xlabel("messages (deliveries) per CPU second of the server, logarithmic")
    made.legend(
        [Patch(color=COLOURS[name]) for name in shown],
        [SERVERS[name] for name in shown],
        loc="outside upper center", ncols=4, frameon=False, fontsize=8.5,
    )  # fmt: skip
    return made


def latencies(document: Document) -> Figure | None:
    """The open loop: p50, p99 and p99.9 of each server, a line between them."""
    [case, *_] = [case for case in by_case(document) if case.endswith("ps")] or [""]
    rows = by_case(document).get(case, {})
    names = [name for name in reversed(SERVERS) if name in rows]
    if not names:
        return None
    made, axes = figure(9, 1.4 + 0.32 * len(names))
    marks = {"p50_us": "o", "p99_us": "s", "p99.9_us": "D"}
    for at, name in enumerate(names):
        values = [rows[name][key] for key in marks]
        axes.plot(values, [at] * 3, color=COLOURS[name], linewidth=2)
        for value, mark in zip(values, marks.values(), strict=True):
            axes.plot(value, at, mark, color=COLOURS[name], markersize=7)
    for key, mark in marks.items():
        axes.plot([], [], mark, color=GREY, label=key.removesuffix("_us"))
    axes.set_yticks(range(len(names)), [SERVERS[name] for name in names])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"microseconds from client to client, logarithmic: {describe(case)}")
    made.legend(loc="outside upper right", ncols=3, frameon=False)
    return made


def costs(document: Document) -> Figure:
    """CPU time of a message by the number of sessions."""
    made, axes = figure(9, 4)
    cases = by_case(document)
    for name in SERVERS:
        points = sorted(
            (sessions(case), 1e6 / rows[name]["per_server_cpu_s"]) for case, rows in cases.items() if name in rows
        )
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[name], label=SERVERS[name], linewidth=2)
    places = sorted({sessions(case) for case in cases})
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:,}" for place in places], minor=False)
    axes.minorticks_off()
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 4, high * 4)  # as much up and down as would matter: what is flat looks flat
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(thousands))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
    axes.set_xlabel("sessions")
    axes.set_ylabel("CPU us of the server for a message")
    made.legend(loc="outside upper center", ncols=4, frameon=False)
    return made


def ratios(document: Document) -> Figure:
    """How many times as fast as its rival the core is."""
    rows = document["rows"]
    made, axes = figure(9, 1.3 + 0.26 * len(rows))
    for at, row in enumerate(rows):
        low, high = row["quartiles"]
        axes.barh(at, row["ratio"], color="#2f81f7" if row["ratio"] >= row["must"] else "#d29922", height=0.6)
        axes.plot([low, high], [at, at], color=GREY, linewidth=1.5)
        axes.plot([row["must"]] * 2, [at - 0.42, at + 0.42], color="#e5654a", linewidth=2)
        axes.plot([row["goal"]] * 2, [at - 0.42, at + 0.42], color="#3fa45b", linewidth=2)
        axes.text(max(row["ratio"], high, row["goal"]) * 1.05, at, f"{row['ratio']:.1f} x", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row['name']}  /  {row['rival']}" for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(left=min(1, *(row["ratio"] for row in rows)) * 0.9)
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1 x", "2 x", "5 x", "10 x", "20 x", "50 x", "100 x"])
    axes.minorticks_off()
    axes.set_xlabel("times as fast as the rival, CPU time; line: quartiles")
    for colour, label in (("#2f81f7", "xiot"), ("#e5654a", "must"), ("#3fa45b", "goal")):
        axes.plot([], [], color=colour, linewidth=4, label=label)
    made.legend(loc="outside upper right", ncols=3, frameon=False)
    return made


def readme_load(found: Document) -> str:
    load = found["load"]
    versions = {
        SERVERS[name].partition(",")[0]: number[0]
        for name, each in load["servers"].items()
        if name not in RELAYS and (number := re.search(r"\d[\w.+-]*", each["version"]))
    }
    counts = sorted({row["runs"] for row in load["rows"]})
    span = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    rounds = "one round" if span == "1" else f"medians of {span} rounds"
    pictures = {"throughput": "Messages per CPU second by case and server"}
    if any(case.endswith("ps") for case in by_case(load)):
        pictures["latency"] = "Latencies of the open loop"
    if "sessions" in found:
        pictures["sessions"] = "CPU time of a message by the number of sessions"
    return (
        f"{on_machine(load)}; {rounds}; {', '.join(map(' '.join, versions.items()))}.\n\n"
        + throughput_table(load)
        + "".join(f"\n![{title}](benches/results/{name}.svg)\n" for name, title in pictures.items())
    )


KINDS = ("chat", "iot")
WORK = {
    "feed": "`StreamParser.feed`, Stanza objects",
    "trees": "every stanza as a tree",
    "scan in C": "the scan alone, in C",
    "route": "bytes in, parse, look up, stamp, bytes out, 1,000 destinations",
    "serialise": "a tree written",
}
"""Rows of targets.py in words."""


def readme_core(found: Document) -> str:
    """The core against others: a line for each work and rival, a column for chat and one for iot."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in found["parser"]["rows"]:
        kind = next((part for part in row["name"].split(", ") if part in KINDS), None)
        if kind is not None:
            what = ", ".join(
                WORK.get(part, part) for part in row["name"].split(", ") if part not in (kind, "4096-byte pieces")
            )
            lines.setdefault((what, row["rival"]), {})[kind] = f"{row['ratio']:.1f} x"
    head = ["", "against", "chat, 250 bytes a stanza", "iot, 380 bytes"]
    rows = ([what, rival, *(cells.get(kind, "") for kind in KINDS)] for (what, rival), cells in lines.items())
    return (
        f"{on_machine(found['parser'])}.\n\n"
        + table(head, rows)
        + "\n![The core against others](benches/results/parser.svg)\n"
    )


def between(text: str, mark: str, content: str) -> str:
    """`text` with what stands between the marks replaced."""
    begin, end = f"<!-- {mark}: by benches/report.py -->\n", f"<!-- end of {mark} -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise click.ClickException(f"no marks of {mark}")
    return head + begin + content + end + tail


README_PARTS = {"load": readme_load, "parser": readme_core}


def readme(text: str, found: Document) -> str:
    for name, make in README_PARTS.items():
        if name in found:
            text = between(text, f"{name} figures", make(found))
    return text


def tables(found: Document) -> str:
    parts = {
        "load": {"Per CPU second of the server": throughput_table, "Latency": latency_table, "Idle connections": memory_table},
        "sessions": {"CPU time of a message, by sessions": sessions_table},
        "parser": {"The core against others": parser_table},
        "core": {"Benches": core_table},
    }  # fmt: skip
    text = "# Results\n"
    for name, makes in parts.items():
        for title, make in makes.items():
            if name in found and (content := make(found[name])):
                text += f"\n## {title}\n\n{on_machine(found[name])}\n\n{content}"
    return text


def plots(found: Document) -> dict[str, Figure]:
    makes = {
        "throughput": (bars, "load"),
        "latency": (latencies, "load"),
        "sessions": (costs, "sessions"),
        "parser": (ratios, "parser"),
    }
    made = {name: make(found[source]) for name, (make, source) in makes.items() if source in found}
    return {name: plot for name, plot in made.items() if plot is not None}


@click.command()
@click.option(
    "--results", type=click.Path(path_type=Path), default=RESULTS, help="Where to write; default benches/results."
)
@click.option(
    "--readme",
    "page",
    type=click.Path(path_type=Path, exists=True),
    default=ROOT / "README.md",
    help="What has the marks.",
)
@click.option("--load", type=click.Path(path_type=Path), default=SOURCES["load"], help="Of load/run.py --all.")
@click.option(
    "--sessions", type=click.Path(path_type=Path), default=SOURCES["sessions"], help="Of load/run.py --sessions."
)
@click.option("--parser", type=click.Path(path_type=Path), default=SOURCES["parser"], help="Of targets.py --json.")
@click.option("--core", type=click.Path(path_type=Path), default=SOURCES["core"], help="Of pytest --benchmark-json.")
def main(results: Path, page: Path, **sources: Path) -> None:
    """Write tables and plots, and print what is new in the README."""
    found = gather(results, sources)
    if not found:
        raise click.ClickException("nothing was measured: no " + ", no ".join(map(str, sources.values())))
    results.mkdir(parents=True, exist_ok=True)
    (results / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (results / "tables.md").write_text(tables(found), encoding="utf-8")
    for name, plot in plots(found).items():
        plot.savefig(results / f"{name}.svg", transparent=True, metadata={"Date": None})
    page.write_text(readme(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    for name, make in README_PARTS.items():
        if name in found:
            click.echo(make(found))


if __name__ == "__main__":
    main()

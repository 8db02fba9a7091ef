# SPDX-License-Identifier: Apache-2.0
"""benches/report.py: tables and plots say what was measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from tests.shared import ROOT, package

MARKS = "".join(
    f"<!-- {name} figures: by benches/report.py -->\nold\n<!-- end of {name} figures -->\n"
    for name in ("load", "parser")
)
ABOUT = {
    "made": "2026-11-24T01:00:00Z",
    "machine": {"cpu": "Some CPU", "cores": 2, "kernel": "6.1"},
    "python": "3.11.7",
    "rounds": 3,
    "seconds": 2.0,
    "servers": {"xiot": {"version": "0.1.0"}, "prosody": {"version": "0.12"}},
}


@pytest.fixture(scope="module")
def report() -> ModuleType:
    package("matplotlib")
    spec = importlib.util.spec_from_file_location("bench_report", ROOT / "benches/report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_report"] = module
    spec.loader.exec_module(module)
    return module


def row(server: str, case: str, per_cpu_s: float, **more: Any) -> dict[str, Any]:
    figures = {
        "p50_us": 100.0,
        "p99_us": 250.0,
        "p99.9_us": 900.0,
        "rss_kib_each": 2.57,
        "wrong": 0,
        "runs": [{"a": 1}],
    }
    return {"server": server, "case": case, "per_server_cpu_s": per_cpu_s, **figures, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict[str, Path]:
    """Files as load/run.py and targets.py write them."""
    load = [
        row("relay", "chat/100/w1", 95_612.3),
        row("xiot", "chat/100/w1", 65_234.5),
        row("prosody", "chat/100/w1", 9_081.2),
        row("xiot", "chat/10/w64/direct", 692_123.0),
        row("prosody", "chat/10/w64/direct", 99_999.0, wrong=7),
        row("xiot", "chat/100/2000ps", 15_600.0),
        row("xiot", "idle/5000", 0.0),
    ]
    sessions = [row("xiot", f"chat/{pairs}/w1", 1e6 / 15) for pairs in (5, 2500)]
    parser = [
        {"name": f"feed, {kind}", "rival": "pyexpat", "MB/s": 700, "ratio": ratio, "quartiles": [ratio - 1, ratio + 1], "must": 12, "goal": 18}
        for kind, ratio in (("chat", 17.24), ("iot", 20.58))
    ]  # fmt: skip
    paths = {}
    for name, rows in (("load", load), ("sessions", sessions), ("parser", parser)):
        paths[name] = folder / f"{name}.json"
        paths[name].write_text(json.dumps(ABOUT | {"rows": rows}))
    return paths


def make(report: ModuleType, folder: Path, sources: dict[str, Path]) -> tuple[str, str]:
    """What is printed, and the README."""
    page = folder / "README.md"
    if not page.exists():
        page.write_text(f"before\n{MARKS}after\n")
    options = [f"--{name}={sources.get(name, folder / 'none')}" for name in ("load", "sessions", "parser", "core")]
    result = CliRunner().invoke(report.main, [*options, f"--results={folder / 'results'}", f"--readme={page}"])
    assert result.exit_code == 0, result.output
    return result.stdout, page.read_text()


@pytest.fixture(scope="module")
def made(report: ModuleType, folder: Path, measured: dict[str, Path]) -> tuple[str, str]:
    return make(report, folder, measured)


def test_readme_gets_the_figures_between_its_marks(made: tuple[str, str]) -> None:
    printed, page = made
    assert "| 100 pairs, 1 in flight | 95,600 | 65,200 | 9,080 | 7.2 x |" in page
    assert "| `StreamParser.feed`, Stanza objects | pyexpat | 17.2 x | 20.6 x |" in page
    assert "Some CPU, 2 cores" in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    for line in printed.splitlines():
        assert line in page


def test_what_went_wrong_is_said_and_is_no_rival(made: tuple[str, str]) -> None:
    assert "| 10 pairs, 64 in flight, TLS 1.3 | | 692,000 | 100,000 (7 wrong) | |" in made[1]


def test_figures_that_are_not_measured_anew_stay(report: ModuleType, folder: Path, made: tuple[str, str]) -> None:
    def results() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "results").iterdir()}

    before = results()
    plots = {"throughput.svg", "latency.svg", "sessions.svg", "parser.svg"}
    assert before.keys() == plots | {"results.json", "tables.md"}
    for name in plots:
        assert ElementTree.fromstring(before[name]).tag.endswith("svg")
    tables = before["tables.md"].decode()
    assert "| 5,000 | 15.0 us |" in tables
    assert "| 5,000 idle | 2.6 |" in tables
    assert make(report, folder, {}) == made
    assert results() == before


def test_the_readme_has_what_results_json_says(report: ModuleType) -> None:
    found = report.gather(report.RESULTS, {})
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.readme(text, found) == text

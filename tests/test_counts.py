# SPDX-License-Identifier: Apache-2.0
"""`make bench-check`: instruction counts may not grow unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shared import ROOT, compiler, program

COUNTS = ROOT / "benches/counts.py"
FEW = "JID,"
"""In the name of one count, so that the test is quick."""


def check(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, COUNTS, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The file as this machine would write it."""
    program("valgrind")
    compiler()
    path = tmp_path_factory.mktemp("counts") / "counts.json"
    status, said = check("--rebase", "--file", path)
    assert status == 0, said
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def compare(here: dict[str, Any], folder: Path, *, by: float = 1.0, **other: Any) -> tuple[int, str]:
    """What is said if the counts kept had been `by` times what they are."""
    doctored = here | other | {"instructions": {name: by * n for name, n in here["instructions"].items()}}
    path = folder / "counts.json"
    path.write_text(json.dumps(doctored))
    return check("--file", path, FEW)


def test_the_same_code_takes_the_same_instructions(here: dict[str, Any], tmp_path: Path) -> None:
    status, said = compare(here, tmp_path)
    assert status == 0, said
    assert "+0.0%" in said or "-0.0%" in said


def test_a_count_may_grow_by_three_percent_and_no_more(here: dict[str, Any], tmp_path: Path) -> None:
    status, said = compare(here, tmp_path, by=1 / 1.025)
    assert status == 0, said
    status, said = compare(here, tmp_path, by=1 / 1.035)
    assert status == 1
    assert "+3.5%  grown by more than 3 %" in said


def test_who_saves_instructions_is_told_to_keep_that(here: dict[str, Any], tmp_path: Path) -> None:
    status, said = compare(here, tmp_path, by=1.1)
    assert status == 0
    assert "keep it: --rebase" in said


def test_another_toolchain_is_said_and_not_compared(here: dict[str, Any], tmp_path: Path) -> None:
    status, said = compare(here, tmp_path, by=0.5, toolchain=here["toolchain"] | {"compiler": "tcc 0.9"})
    assert status == 0
    assert "Not compared" in said
    assert "compiler: kept tcc 0.9, here " in said


def test_other_inputs_fail_until_the_counts_are_taken_anew(here: dict[str, Any], tmp_path: Path) -> None:
    status, said = compare(here, tmp_path, inputs="0")
    assert status == 1
    assert "other inputs" in said


def test_counts_that_are_kept_are_those_that_are_made(here: dict[str, Any]) -> None:
    kept = json.loads(COUNTS.with_suffix(".json").read_text())
    assert kept["instructions"].keys() == here["instructions"].keys()

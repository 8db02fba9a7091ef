# SPDX-License-Identifier: Apache-2.0
"""`make bench-check`: instruction counts may not grow unseen."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from tests.shared import ROOT, compiler, program

BENCHES = ROOT / "benches"
Compare = Callable[..., tuple[int, str]]
ONE = "JID, to be lower-cased"


@pytest.fixture(scope="module")
def counts() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHES))
    yield importlib.import_module("counts")
    sys.path.remove(str(BENCHES))


@pytest.fixture(scope="module")
def here(counts: ModuleType) -> dict[str, Any]:
    """The file as this machine would write it, with one count only, so that the tests are quick."""
    program("valgrind")
    compiler()
    return counts.measure([ONE])  # type: ignore[no-any-return]


@pytest.fixture
def compare(counts: ModuleType, here: dict[str, Any], tmp_path: Path) -> Compare:
    """Exit status and what is said if the counts kept had been `by` times what they are."""

    def run(by: float = 1.0, **other: Any) -> tuple[int, str]:
        doctored = here | other | {"instructions": {name: by * n for name, n in here["instructions"].items()}}
        path = tmp_path / "counts.json"
        path.write_text(json.dumps(doctored))
        result = CliRunner().invoke(counts.main, ["--file", str(path), ONE])
        return result.exit_code, result.output

    return run


def test_the_same_code_takes_the_same_instructions(compare: Compare) -> None:
    status, said = compare()
    assert status == 0, said
    assert "+0.0%" in said or "-0.0%" in said


def test_a_count_may_grow_by_three_percent_and_no_more(compare: Compare) -> None:
    status, said = compare(by=1 / 1.025)
    assert status == 0, said
    status, said = compare(by=1 / 1.035)
    assert status == 1
    assert "+3.5%  grown by more than 3 %" in said


def test_who_saves_instructions_is_told_to_keep_that(compare: Compare) -> None:
    status, said = compare(by=1.1)
    assert status == 0
    assert "keep it: --rebase" in said


def test_another_toolchain_is_said_and_not_compared(compare: Compare, here: dict[str, Any]) -> None:
    status, said = compare(by=0.5, toolchain=here["toolchain"] | {"compiler": "tcc 0.9"})
    assert status == 0
    assert "Not compared" in said
    assert "compiler: kept tcc 0.9, here " in said


def test_other_inputs_fail_until_the_counts_are_taken_anew(compare: Compare) -> None:
    status, said = compare(inputs="0")
    assert status == 1
    assert "other inputs" in said


def test_all_that_can_be_counted_is_kept(counts: ModuleType) -> None:
    assert json.loads(counts.KEPT.read_text())["instructions"].keys() == counts.WORKS.keys()

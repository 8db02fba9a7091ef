# SPDX-License-Identifier: Apache-2.0
"""Every known failure and every requirement of security.txt has tests that say they are about it, or it says why there are none.

As a table, which the last test writes, that is build/security.txt.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.defences import STRUCTURES

TESTS = Path(__file__).parent
ROOT = TESTS.parent
LINE = re.compile(r"(?P<number>(row|statement) [0-9]+): (?P<title>[^\n]+?)( -- (?P<without>.+))?")
NOT_BUILT = "not built: "


class Entry(NamedTuple):
    """A line of security.txt."""

    title: str
    without: str
    """What of it is not tested, and why; empty if all is."""


def entries() -> dict[str, Entry]:
    """What has to be tested, by "row 1" and "statement 1"."""
    found = {}
    for line in (TESTS / "security.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            assert match["number"] not in found, line
            found[match["number"]] = Entry(match["title"], match["without"] or "")
    return found


def numbers(call: ast.Call) -> Iterator[str]:
    """What a mark or an attack is about: its arguments `row` and `statement`, each a number or several."""
    given = {keyword.arg: keyword.value for keyword in call.keywords} | dict(zip(("", "row"), call.args, strict=False))
    for kind in ("row", "statement"):
        if kind in given:
            value = ast.literal_eval(given[kind])
            yield from (f"{kind} {n}" for n in (value if isinstance(value, tuple) else (value,)))


def marks(node: ast.AST) -> Iterator[str]:
    """The numbers in all marks within `node`."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.security":
            found = list(numbers(call))
            assert found, ast.unparse(call)
            yield from found


def marked(file: Path) -> dict[str, list[str]]:
    """The tests of a file, by what they are about: their own marks, and those of the module for all together."""
    found = defaultdict(list)
    place = file.relative_to(TESTS).as_posix()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            about = [number for decorator in node.decorator_list for number in marks(decorator)]
            assert not about or node.name.startswith("test_"), f"{place}: {node.name} is no test"
            name = f"{place}::{node.name}"
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            about, name = list(marks(node)), place
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:  # attacks in a table
            for call in ast.walk(node.value):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "Attack":
                    title = ast.literal_eval(call.args[0])
                    for number in numbers(call):
                        found[number].append(f"{place}: {title}")
            continue
        else:
            continue
        for number in about:
            found[number].append(name)
    return found


@cache
def inventory() -> dict[str, list[str]]:
    """All tests by what they are about."""
    found = defaultdict(list)
    for file in sorted(TESTS.rglob("*.py")):
        for number, names in marked(file).items():
            found[number] += names
    return found


def test_marks_and_attacks_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "TESTS", tmp_path)
    file = tmp_path / "test_it.py"
    file.write_text(
        "pytestmark = [pytest.mark.peers, pytest.mark.security(row=3)]\n"
        "@pytest.mark.parametrize('x', [1])\n"
        "@pytest.mark.security(row=(1, 2), statement=3)\n"
        "async def test_a(): ...\n"
        "ATTACKS = (Attack('boo', 2, off, run, statement=(4,)),)\n"
    )
    assert marked(file) == {
        "row 1": ["test_it.py::test_a"],
        "row 2": ["test_it.py::test_a", "test_it.py: boo"],
        "row 3": ["test_it.py"],
        "statement 3": ["test_it.py::test_a"],
        "statement 4": ["test_it.py: boo"],
    }


def test_every_number_is_listed() -> None:
    rows = [f"row {n}" for n in range(1, 78) if n != 23]  # the catalogue has none of that number
    assert list(entries()) == rows + [f"statement {n}" for n in range(1, 91)]


def test_every_row_and_statement_has_its_tests() -> None:
    wanted, found = entries(), inventory()
    assert not [number for number in found if number not in wanted]
    lines = []
    for number, (title, without) in wanted.items():
        lines.append(f"{number}: {title}")
        lines += [f"    {name}" for name in found[number]]
        lines += [f"    ({without})"] if without else []
    tested = sum(bool(found[number]) for number in wanted)
    lines.append(
        f"{tested} of {len(wanted)} are tested, by {len({n for names in found.values() for n in names})} tests."
    )
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build/security.txt").write_text("\n".join(lines) + "\n")
    print(lines[-1])
    assert not [number for number, entry in wanted.items() if not found[number] and not entry.without]


def test_what_is_called_not_built_is_not_there() -> None:
    for number, (_, without) in entries().items():
        if without.startswith(NOT_BUILT):
            for place in without.removeprefix(NOT_BUILT).split(", "):
                assert not (ROOT / "src" / place).exists(), f"{number}: {place} is there, so it wants tests"


def test_what_has_no_switch_has_the_test_it_names() -> None:
    found = inventory()
    assert not [structure for structure in STRUCTURES if structure.test not in found[f"row {structure.row}"]]

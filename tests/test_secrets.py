# SPDX-License-Identifier: Apache-2.0
"""Secrets are compared in one place, which takes the same time wherever they differ."""

from __future__ import annotations

import ast
import operator
import os
import random
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import xiot
from xiot.proto import scram

FILES = sorted(Path(next(iter(xiot.__path__))).rglob("*.py"))
SECRET = re.compile(
    r"_key$|(^|_)(digest|proof|signature|secret|password|salted|hmac|mac|initiator|responder|token|credential|verifier)$"
)
CALLS = {"digest", "hexdigest", "pbkdf2_hmac", "initiator", "responder", "salted_password"}
SEARCHES = {"startswith", "endswith", "find", "rfind", "index", "rindex", "count", "__eq__", "__ne__", "__contains__"}


def compared(source: str) -> list[str]:
    """The names that look like secrets, and that are compared by == or !=, looked up by `in`, or searched."""
    found: list[str | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and not all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Constant) and not side.value for side in sides):
                continue  # whether there is one at all
            found += [secret(side) for side in sides]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SEARCHES:
            found += [secret(side) for side in (node.func.value, *node.args)]
        elif isinstance(node, ast.Match):
            found.append(
                secret(node.subject) if any(isinstance(c.pattern, ast.MatchValue) for c in node.cases) else None
            )
    return [name for name in found if name]


def secret(node: ast.expr) -> str | None:
    """What it is called, if that is the name of a secret."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name if name in CALLS else None
    if isinstance(node, ast.Subscript):  # record["proof"], and a part of a secret
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        return key if isinstance(key, str) and SECRET.search(key) else secret(node.value)
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name if SECRET.search(name) else None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("a.stored_key == b", ["stored_key"]),
        ("x if proof != other else y", ["proof"]),
        ("hmac.digest(a, b, c) == d", ["digest"]),
        ("h.hexdigest() in known", ["hexdigest"]),
        ("record['proof'] == proof", ["proof", "proof"]),
        ("digest[:8] == start", ["digest"]),
        ("token in known", ["token"]),
        ("proof.startswith(guess)", ["proof"]),
        ("self._key == key", ["_key"]),
        ("password is None", []),
        ("password == ''", []),
        ("secrets_equal(a.stored_key, b)", []),
        ("mechanism == 'PLAIN'", []),
    ],
)
def test_the_search_finds_what_it_should(source: str, found: list[str]) -> None:
    assert compared(source) == found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FILES[0].parent)))
@pytest.mark.security(row=38)
def test_no_code_compares_secrets_by_itself(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    place = file.relative_to(FILES[0].parent).as_posix()
    assert compared(source) == []
    assert "compare_digest" not in source or place == "proto/scram.py"


SAMPLES = 100_000 if os.environ.get("XIOT_SOAK") == "1" else 4000


def time_that_tells(equal: Callable[[bytes, bytes], bool]) -> float:
    """By how much longer `equal` takes for secrets that differ in the last octet than in the first, as a factor of the medians."""
    secret = bytes(20_000)
    guesses = [b"\1" + secret[1:], secret[:-1] + b"\1"]
    times: tuple[list[int], list[int]] = [], []
    for place in random.Random(1).choices((0, 1), k=SAMPLES):
        began = time.perf_counter_ns()
        equal(secret, guesses[place])
        times[place].append(time.perf_counter_ns() - began)
    first, last = map(statistics.median, times)
    return last / first


@pytest.mark.security(row=38)
def test_the_time_of_a_comparison_does_not_tell_where_secrets_differ() -> None:
    assert time_that_tells(operator.eq) > 1.5  # that it can be measured
    assert abs(time_that_tells(scram.secrets_equal) - 1) < 0.05

# SPDX-License-Identifier: Apache-2.0
"""Test vectors: what two other codecs make of documents, in all modes; and the runner itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.shared import ROOT, shared
from xiot.exi.check import Checker, first_difference, main, options_of

OURS = ROOT / "tests/vectors/exi"


def test_every_vector_in_the_tree_passes() -> None:
    total, failures = Checker(OURS).run()
    assert failures == []
    assert total == 175


def test_every_given_vector_and_session_passes() -> None:
    total, failures = Checker(shared("data/exi/vectors")).run()
    assert failures == []
    assert total >= 719


@pytest.fixture
def one(tmp_path: Path) -> Path:
    shutil.copytree(OURS / "st-seq", tmp_path / "st-seq")
    shutil.copytree(OURS / "exi-schemas", tmp_path / "exi-schemas")
    return tmp_path


def test_runner_says_how_many_passed(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(one)]) == 0
    assert capsys.readouterr().out == "passed 1 of 1\n"


def test_runner_names_the_first_differing_bit(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (one / "st-seq/input.xml").write_bytes((one / "st-seq/input.xml").read_bytes().replace(b"<a>2<", b"<a>3<"))
    (one / "st-seq/events.txt").write_text((one / "st-seq/events.txt").read_text())
    case = json.loads((one / "st-seq/case.json").read_text())
    assert case["status"] == "agreed"
    assert main([str(one)]) == 1
    assert "st-seq: decode of our own: event" in capsys.readouterr().out
    assert first_difference(b"\x80\x10", b"\x80\x11").startswith("bit 15 ")
    assert first_difference(b"\x80", b"\x80\x11").startswith("bit 8 ")


def test_runner_finds_a_damaged_oracle(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (one / "st-seq/oracle.exi").write_bytes(b"\x80\xff\xff")
    assert main([str(one)]) == 1
    assert "st-seq: ExiError: " in capsys.readouterr().out


def test_runner_finds_nothing_in_an_empty_folder(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1
    assert main([]) == 2
    assert main([str(tmp_path / "none")]) == 2


def test_options_of_a_case() -> None:
    options = options_of(json.loads((OURS / "hd-opts-comp/case.json").read_text()))
    assert options.compression
    assert options.in_header

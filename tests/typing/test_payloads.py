# SPDX-License-Identifier: Apache-2.0
"""A type checker sees the fields of a Payload, and the mistakes."""

from pathlib import Path

import pytest

from tests.shared import package

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def test_type_checker_knows_payloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package("mypy")
    from mypy import api

    monkeypatch.setenv("MYPYPATH", str(ROOT / "src"))
    options = ["--strict", "--follow-imports=silent", f"--cache-dir={tmp_path}", "--config-file="]
    output, problems, status = api.run([*options, str(HERE / "payloads.py")])
    assert (status, problems) == (0, ""), output + problems

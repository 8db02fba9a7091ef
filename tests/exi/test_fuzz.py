# SPDX-License-Identifier: Apache-2.0
"""The fuzz target of the codec, on what it begins with, under sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fuzz.make_corpus_exi import main
from tests.shared import CORE, ROOT, fuzz_target


@pytest.mark.security(row=18)
def test_the_vectors_pass_under_sanitizers(tmp_path: Path) -> None:
    core = [path.stem for path in CORE.glob("exi_*.c")]
    target = fuzz_target("exi", [*core, "scan"], tmp_path)
    main(tmp_path / "corpus", tmp_path / "types.xeg")
    inputs = sorted([*(tmp_path / "corpus").iterdir(), *(ROOT / "tests/fuzz/corpus/exi").iterdir()])
    done = subprocess.run(
        [target, *inputs],
        env={"XIOT_FUZZ_GRAMMAR": str(tmp_path / "types.xeg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"{len(inputs)} inputs passed\n"
    assert len(inputs) > 200

# SPDX-License-Identifier: Apache-2.0
"""What was acknowledged survives the death of the process (security, catalogue 77: acknowledged before durable)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROUNDS = 300 if os.environ.get("XIOT_SOAK") == "1" else 10


def test_acknowledged_items_survive_kill_9(database: Path) -> None:
    program = Path(__file__).with_name("crash.py")
    result = subprocess.run(
        [sys.executable, program, database, str(ROUNDS)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) >= ROUNDS

# SPDX-License-Identifier: Apache-2.0
"""Where the reference data is that several projects share: test vectors, schemas, example stanzas."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared(name: str) -> Path:
    """The file or folder `name` of XIOT_SHARED, or of the folder `shared` beside this repository.

    Skips the test if it is not there, or fails it if XIOT_REQUIRE_PEERS is 1.
    """
    path = Path(os.environ.get("XIOT_SHARED") or Path(__file__).parents[2] / "shared") / name
    if not path.exists():
        reason = f"no {path} (set XIOT_SHARED)"
        if os.environ.get("XIOT_REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path

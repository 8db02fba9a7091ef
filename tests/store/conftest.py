# SPDX-License-Identifier: Apache-2.0
"""An empty database, migrated once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from xiot.store import Store


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without rows."""
    path = tmp_path_factory.mktemp("store") / "empty.db"

    async def make() -> None:
        async with Store.open(path):
            pass

    trio.run(make)
    return path


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(migrated, tmp_path / "xiot.db"))

# SPDX-License-Identifier: Apache-2.0
"""What a client remembers, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from xiot.client.memory import FileMemory, Memory
from xiot.core import JID
from xiot.proto.fast import Token
from xiot.proto.known import Known

BOILER = JID("boiler@plant.example")
KNOWN = Known(True, True, "SCRAM-SHA-256", "an id", Token("HT-SHA-256-ENDP", "secret", "2026-12-24T00:00:00Z", 3))


def test_memory_begins_with_nothing_and_can_forget() -> None:
    memory = Memory()
    assert memory.get(BOILER) == Known()
    memory.put(BOILER, KNOWN)
    assert memory.get(BOILER) == KNOWN
    assert memory.get(JID("toaster@plant.example")) == Known()
    memory.forget(BOILER)
    assert memory.get(BOILER) == Known()


def test_file_remembers_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    FileMemory(path).put(BOILER, KNOWN)
    memory = FileMemory(path)
    assert memory.get(BOILER) == KNOWN
    memory.put(JID("toaster@plant.example"), Known(tls=True))
    again = FileMemory(path)
    assert (again.get(BOILER), again.get(JID("toaster@plant.example"))) == (KNOWN, Known(tls=True))


def test_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    path.write_text('{"accounts": {}}')
    path.chmod(0o644)
    FileMemory(path).put(BOILER, KNOWN)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"accounts": {"a@b": {}}}', '{"accounts": {"a@b": {"token": null, "x": 1}}}']
)
def test_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """To begin anew in silence would be a downgrade."""
    path = tmp_path / "memory.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="FileMemory"):
        FileMemory(path)


def test_secrets_do_not_show_in_reprs() -> None:
    assert "secret" not in repr(KNOWN)

# SPDX-License-Identifier: Apache-2.0
"""Every attack on a client is held off, and would not be without the defence it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from tests.defences import Outcome, report, table

from .attacks import ATTACKS, Attack


@pytest.mark.parametrize("attack", [pytest.param(a, id=a.name) for a in ATTACKS])
async def test_attack_is_held_off(attack: Attack, tmp_path: Path) -> None:
    with structlog.testing.capture_logs():
        await attack.run(tmp_path)


async def test_each_defence_is_needed(tmp_path: Path) -> None:
    found = []
    with structlog.testing.capture_logs():
        for attack in ATTACKS:
            folder = tmp_path / attack.name.replace("/", "")
            folder.mkdir()
            with attack.switch.off():
                found.append(Outcome(attack, await failure(attack, folder)))
    report("defences-client.txt", table(found))
    assert not [outcome.attack.name for outcome in found if outcome.failure is None]


async def failure(attack: Attack, folder: Path) -> str | None:
    """What the attack's check says; None if it passes."""
    try:
        await attack.run(folder)
    except (AssertionError, ExceptionGroup) as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            (cause,) = cause.exceptions
        if not isinstance(cause, AssertionError):
            raise
        return str(cause)
    return None

# SPDX-License-Identifier: Apache-2.0
"""Prints, at the end of a run, how many transcripts of each file pass where."""

from __future__ import annotations

import pytest

from .run import REPORT, Outcome, summary

PLAYED = pytest.StashKey[dict[str, list[Outcome]]]()
"""Stage -> what came of the scenarios there."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    played = config.stash.get(PLAYED, {})
    if played:
        terminalreporter.section("transcripts")
        terminalreporter.write(summary(played))
        terminalreporter.write_line(f"each of them, and where servers differ: {REPORT}")

# SPDX-License-Identifier: Apache-2.0
"""Prints, at the end of a run, how many transcripts of each file pass where."""

from __future__ import annotations

from typing import Any

import pytest

from .run import REPORT, Outcome, summary

PLAYED = pytest.StashKey[dict[str, list[Outcome]]]()
"""Stage -> what came of the scenarios there."""
SUMMARY = pytest.StashKey[str]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if played := config.stash.get(PLAYED, {}):
        config.stash[SUMMARY] = summary(played)
        if hasattr(config, "workeroutput"):  # several processes run the tests, and another one prints
            config.workeroutput["transcripts"] = config.stash[SUMMARY]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if text := getattr(node, "workeroutput", {}).get("transcripts"):
        node.config.stash[SUMMARY] = text


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if text := config.stash.get(SUMMARY, None):
        terminalreporter.section("transcripts")
        terminalreporter.write(text)
        terminalreporter.write_line(f"each of them, and where servers differ: {REPORT}")

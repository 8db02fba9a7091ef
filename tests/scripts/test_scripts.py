# SPDX-License-Identifier: Apache-2.0
"""Every transcript, played at our server in memory and over TCP with TLS, at Prosody and at ejabberd.

Who passes what is written to build/scripts.txt. That Prosody and ejabberd pass, or differ with a reason, proves the transcripts right.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from tests.shared import missing

from .conftest import PLAYED
from .run import Outcome, perform_all, scenarios, write_report
from .stages import STAGES, absent
from .transcript import Scenario

SCENARIOS = scenarios()
PARAMS = [name if name in ("memory", "tcp") else pytest.param(name, marks=pytest.mark.peers) for name in STAGES]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> Iterator[dict[str, list[Outcome]]]:
    """What each stage came to, as far as it was played."""
    found = request.config.stash[PLAYED] = {}
    yield found
    write_report(found)


@pytest.fixture(scope="module", params=PARAMS)
def outcomes(request: pytest.FixtureRequest, played: dict[str, list[Outcome]]) -> dict[str, Outcome]:
    """All scenarios at one stage, by name."""
    name = request.param
    if (reason := absent(name)) is not None:
        missing(reason)
    played[name] = trio.run(perform_all, name, SCENARIOS)
    return {outcome.scenario.name: outcome for outcome in played[name]}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_transcript(outcomes: dict[str, Outcome], scenario: Scenario) -> None:
    outcome = outcomes[scenario.name]
    if outcome.result == "lacks":
        pytest.skip(outcome.text)
    assert outcome.good, f"{outcome.result}: {outcome.text}"

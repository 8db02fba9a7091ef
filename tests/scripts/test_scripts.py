# SPDX-License-Identifier: Apache-2.0
"""Every transcript, played at our server in memory, over TCP with TLS, with epoll and without, at Prosody and at ejabberd.

Who passes what is written to build/scripts.txt. That Prosody and ejabberd pass, or differ with a reason, proves the transcripts right.
"""

from __future__ import annotations

import pytest
import trio

from tests.shared import missing

from .conftest import PLAYED
from .run import Outcome, perform_at, scenarios, write_report
from .stages import OURS, STAGES, absent
from .transcript import Scenario

SCENARIOS = scenarios()
PARAMS = [name if name in OURS else pytest.param(name, marks=pytest.mark.peers) for name in STAGES]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> dict[str, list[Outcome]]:
    """What came of the scenarios at each stage that tests were asked for, all stages at once: they mostly wait."""
    asked = {item.callspec.params.get("stage") for item in request.session.items if hasattr(item, "callspec")}
    found = trio.run(perform_at, [name for name in STAGES if name in asked and absent(name) is None], SCENARIOS)
    request.config.stash[PLAYED] = found
    write_report(found)
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
@pytest.mark.parametrize("stage", PARAMS)
def test_transcript(played: dict[str, list[Outcome]], stage: str, scenario: Scenario) -> None:
    if (reason := absent(stage)) is not None:
        missing(reason)
    outcome = next(outcome for outcome in played[stage] if outcome.scenario is scenario)
    if outcome.result == "lacks":
        pytest.skip(outcome.text)
    assert outcome.good, f"{outcome.result}: {outcome.text}"

# SPDX-License-Identifier: Apache-2.0
"""The fuzz target of streams: what it begins with, and what a thousand mutations make of it. `make debug` runs it under sanitizers."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.exi_streams import corpus, fuzz, run

LONG = os.environ.get("XIOT_SOAK") == "1"


@pytest.mark.security(row=18)
def test_streams_that_are_damaged_end_in_errors_and_nothing_else() -> None:
    inputs = corpus()
    assert len(inputs) > 30
    for data in inputs:
        run(data)
    fuzz(600 if LONG else 60, 1, 10_000_000 if LONG else 1000)

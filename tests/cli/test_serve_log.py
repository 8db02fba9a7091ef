# SPDX-License-Identifier: Apache-2.0
"""The log of ``xiot serve``: nothing that a peer says forges a line or commands a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from xiot.cli.serve import escape_controls, line, printable, set_up_logs
from xiot.core import JID

HOSTILE = "a\r\n2026 [info] c2s bound jid=admin\x1b[2J\u202eb\u2028c\x00\x9b"


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def logged(capsys: pytest.CaptureFixture[str], *, as_json: bool = False, **values: object) -> str:
    set_up_logs(json=as_json)
    structlog.get_logger().info("event", **values)
    return capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("value", [HOSTILE, HOSTILE.encode(), [HOSTILE], {HOSTILE: HOSTILE}, ValueError(HOSTILE)])
@pytest.mark.security(row=72)
def test_a_value_stays_on_its_line(capsys: pytest.CaptureFixture[str], value: object, as_json: bool) -> None:
    text = logged(capsys, as_json=as_json, user=value)
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    if as_json:
        json.loads(text)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.security(row=72)
def test_what_an_exception_quotes_forges_no_line(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    set_up_logs(json=as_json)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        structlog.get_logger().exception("handler failed")
    lines = capsys.readouterr().err.splitlines()
    assert all(line.isprintable() for line in lines)
    assert "handler failed" in lines[0]
    assert not [line for line in lines[1:] if not line.startswith(("  | ", "Traceback"))], lines


def test_numbers_and_names_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(logged(capsys, as_json=True, n=3, yes=True, none=None, seconds=0.5, jid=JID("jülia@a.example")))
    assert (told["n"], told["yes"], told["none"], told["seconds"], told["jid"]) == (
        3,
        True,
        None,
        0.5,
        "jülia@a.example",
    )


@given(st.dictionaries(st.sampled_from(["user", "why", "exception"]), st.text()))
@pytest.mark.security(row=72)
def test_whatever_comes_is_printable(event: dict[str, str]) -> None:
    for value in escape_controls(None, "info", dict(event)).values():
        assert all(line.isprintable() for line in value.split("\n  | "))


_values = (
    st.text("ab= '\"\\u00e9\t", max_size=4) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
)


@given(st.dictionaries(st.sampled_from(["user", "why", "peer", "n"]), _values), st.sampled_from(["info", "warning"]))
def test_line_is_the_one_that_structlog_writes(values: dict[str, object], level: str) -> None:
    event = {"event": "c2s bound", "level": level, "timestamp": "2026-11-23T22:56:02.261057Z", **values}
    theirs = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    assert line(None, level, dict(event)) == theirs(None, level, dict(event))


@given(st.text())
def test_printable_text_is_left_alone(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text

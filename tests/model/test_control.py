# SPDX-License-Identifier: Apache-2.0
"""Whether a value fits a parameter."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiot.model.control import Assignment, Parameter, ParameterError, check_all
from xiot.model.reading import FieldType, Value

SETPOINT = Parameter("setpoint", "numeric", "Cel", 5, 90)
MODE = Parameter("mode", "enum", options=("OFF", "HEAT"), data_type="Mode")


def refusal(parameter: Parameter, text: str, type: FieldType | None = None) -> str:
    with pytest.raises(ParameterError) as refused:
        parameter.check(Assignment(parameter.name, text, type))
    assert (refused.value.condition, refused.value.type, refused.value.parameter) == (
        "bad-request",
        "modify",
        parameter.name,
    )
    return str(refused.value)


@pytest.mark.parametrize(
    ("parameter", "text", "type", "value"),
    [
        (SETPOINT, "5", None, 5.0),
        (SETPOINT, "90.0", "numeric", 90.0),
        (SETPOINT, "+7", "int", 7.0),
        (Parameter("n", "int"), "-7", "int", -7),
        (Parameter("n", "boolean"), "1", None, True),
        (Parameter("n", "boolean"), "false", "boolean", False),
        (MODE, "HEAT", "enum", "HEAT"),
        (MODE, "OFF", "string", "OFF"),
        (Parameter("n", "string"), "x", "enum", "x"),
        (Parameter("n", "duration"), "PT3M30S", "duration", timedelta(seconds=210)),
    ],
)
def test_a_value_that_fits_is_taken(parameter: Parameter, text: str, type: FieldType | None, value: Value) -> None:
    assert parameter.check(Assignment(parameter.name, text, type)) == value


def test_a_value_that_does_not_fit_is_refused_with_the_reason() -> None:
    assert refusal(SETPOINT, "4.999") == "setpoint: less than 5"
    assert refusal(SETPOINT, "9e1000") == "setpoint: not a value of type numeric"
    assert refusal(SETPOINT, "NaN") == "setpoint: not a value of type numeric"
    assert refusal(SETPOINT, "true", "boolean") == "setpoint: a value of type numeric is needed, not boolean"
    assert refusal(Parameter("n", "int"), "1.5") == "n: not a value of type int"
    assert refusal(Parameter("n", "int"), "1.5", "numeric") == "n: a value of type int is needed, not numeric"
    assert refusal(Parameter("n", "int"), str(2**63)) == "n: not a value of type int"
    assert refusal(MODE, "heat") == "mode: not one of OFF, HEAT"


@given(st.text(), st.sampled_from(["numeric", "int", "boolean", "string", "date", "dateTime", "duration", "time"]))
def test_any_text_is_a_value_within_the_limits_or_refused(text: str, type: FieldType) -> None:
    limits = (-10, 10) if type in ("numeric", "int") else (None, None)
    parameter = Parameter("n", type, None, *limits)
    try:
        value = parameter.check(Assignment("n", text))
    except ParameterError:
        return
    assert parameter.check(Assignment("n", parameter.text_of(value))) == value
    if limits != (None, None):
        assert -10 <= value <= 10  # type: ignore[operator]


def test_all_are_checked_before_any_is_given_back() -> None:
    parameters = {"setpoint": SETPOINT, "mode": MODE}
    good = [Assignment("mode", "OFF"), Assignment("setpoint", "7")]
    assert list(check_all(parameters, good).items()) == [("mode", "OFF"), ("setpoint", 7.0)]
    for bad, condition in (
        (Assignment("x" * 5000, "1"), "item-not-found"),
        (Assignment("mode", "OFF"), "bad-request"),
        (Assignment("setpoint", "1"), "bad-request"),
    ):
        with pytest.raises(ParameterError) as refused:
            check_all(parameters, [good[0], bad])
        assert refused.value.condition == condition
        assert len(str(refused.value)) < 200


def test_a_parameter_that_makes_no_sense_is_refused() -> None:
    for make in (
        lambda: Parameter("", "int"),
        lambda: Parameter("n", "string", "Cel"),
        lambda: Parameter("n", "boolean", low=0),
        lambda: Parameter("n", "numeric", low=2, high=1),
    ):
        with pytest.raises(ValueError):
            make()

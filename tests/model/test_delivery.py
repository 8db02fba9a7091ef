# SPDX-License-Identifier: Apache-2.0
"""Who gets a message (RFC 6121 section 8.5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiot.model.delivery import Available, Route, most_available, reachable, route_message

HOME, WORK, MUTE = Available("home", 5), Available("work", 5, "away"), Available("mute", -1)
PHONE = Available("phone", 1)
ALL = [PHONE, MUTE, WORK, HOME]


@pytest.mark.parametrize("type", ["chat", "normal"])
def test_chat_and_normal_go_to_the_highest_priority_or_are_stored(type) -> None:
    assert route_message(type, ALL) == Route(("home", "work"), "store")
    assert route_message(type, [MUTE]) == Route((), "store")


def test_headline_goes_to_all_that_are_not_negative_or_is_dropped() -> None:
    assert route_message("headline", ALL) == Route(("home", "work", "phone"), "drop")
    assert route_message("headline", []) == Route((), "drop")


def test_groupchat_to_an_account_bounces() -> None:
    assert route_message("groupchat", ALL) == Route((), "bounce")
    assert route_message("groupchat", ALL, to_resource=True) == Route((), "bounce")


def test_error_is_never_answered() -> None:
    assert route_message("error", ALL) == route_message("error", ALL, to_resource=True) == Route((), "drop")


def test_for_a_resource_that_is_gone_only_chat_goes_to_the_others() -> None:
    assert route_message("chat", ALL, to_resource=True) == Route(("home", "work"), "store")
    assert route_message("normal", ALL, to_resource=True) == Route((), "bounce")
    assert route_message("headline", ALL, to_resource=True) == Route((), "drop")


@pytest.mark.parametrize("priority", [-129, 128])
def test_priority_is_one_signed_octet(priority: int) -> None:
    with pytest.raises(ValueError, match="priority"):
        Available("home", priority)


@given(st.lists(st.builds(Available, st.text(min_size=1), st.integers(-128, 127)), unique_by=lambda a: a.resource))
def test_the_most_available_are_reachable_and_nobody_is_above_them(available: list[Available]) -> None:
    best, rest = most_available(available), reachable(available)
    assert bool(best) == any(a.priority >= 0 for a in available)
    assert rest[: len(best)] == best
    assert all(a.priority >= 0 for a in rest)
    assert all(a.priority < best[0].priority for a in rest[len(best) :])

# SPDX-License-Identifier: Apache-2.0
"""How often a login may fail, and that nobody is locked out for ever."""

from __future__ import annotations

import pytest

from xiot.server import budgets
from xiot.server.budgets import Budget, Budgets, network


def test_most_failures_pass_at_once_and_then_one_at_a_time() -> None:
    budget = Budget(5, 10.0)
    for _ in range(5):
        assert not budget.spent("a", 0.0)
        budget.failed("a", 0.0)
    assert budget.spent("a", 0.0)
    assert budget.spent("a", 1.9)
    assert not budget.spent("a", 2.1)
    budget.failed("a", 2.1)
    assert budget.spent("a", 2.2)


def test_attempts_that_are_not_let_through_prolong_nothing() -> None:
    budget = Budget(5, 10.0)
    for now in range(100):
        budget.failed("a", now / 100)
    assert not budget.spent("a", 3.0)


def test_zero_is_off() -> None:
    budget = Budget(0, 10.0)
    budget.failed("a", 0.0)
    assert not budget.spent("a", 0.0)


def test_memory_is_bounded_and_empty_buckets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MAX_KEYS", 10)
    budget = Budget(2, 10.0)
    for n in range(1000):
        budget.failed(str(n), 0.0)
    assert len(budget._buckets) == 10
    assert not budget.spent("999", 60.0)
    assert len(budget._buckets) == 9
    both = Budgets(1, 1, 10.0)
    for n in range(1000):
        both.succeeded(f"a{n}@b", "192.0.2.1:5")
    assert len(both._friends) == 10


def test_guesses_from_everywhere_do_not_keep_out_who_was_here_before() -> None:
    both = Budgets(1000, 10, 600.0)
    both.succeeded("a@b", "192.0.2.1:1")
    for n in range(100):
        both.failed("a@b", f"198.51.100.{n}:1", 0.0)
    assert both.account_spent("a@b", "198.51.100.200:1", 0.0)
    assert not both.account_spent("a@b", "192.0.2.1:2", 0.0)
    assert not both.account_spent("b@b", "198.51.100.200:1", 0.0)
    assert not both.account_spent("a@b", "198.51.100.200:1", 61.0)  # and nobody for ever


def test_own_mistakes_do_not_count_against_the_account() -> None:
    both = Budgets(1000, 2, 600.0)
    both.succeeded("a@b", "192.0.2.1:1")
    for _ in range(10):
        both.failed("a@b", "192.0.2.1:1", 0.0)
    assert not both.account_spent("a@b", "203.0.113.9:1", 0.0)


def test_one_address_alone_closes_no_account() -> None:
    """Also where it is not turned away: what it sends beyond its budget does not count."""
    both = Budgets(60, 100, 600.0)
    for second in range(6000):
        both.failed("a@b", "192.0.2.1:1", second / 10)
        assert not both.account_spent("a@b", "203.0.113.9:1", second / 10)


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("192.0.2.1:5222", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9:1", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
        ("[fe80::1%eth0]:1", "fe80::/64"),
        ("?", ""),
    ],
)
def test_what_is_counted_of_an_address(peer: str, counted: str) -> None:
    assert network(peer) == counted

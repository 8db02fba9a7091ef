# SPDX-License-Identifier: Apache-2.0
"""Which tokens are good (XEP-0484)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiot.model.effects import Delete, Put, apply
from xiot.model.tokens import MAX_CLIENTS, Token, Verdict, check, due, issue
from xiot.store.memory import MemoryTransaction, _Log

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ENDP, NONE = "HT-SHA-256-ENDP", "HT-SHA-256-NONE"
OLD = Token("a@b", "phone", "current", NONE, b"old", NOW - timedelta(days=3), NOW + timedelta(days=7), count=5)
NEW = Token("a@b", "phone", "new", NONE, b"new", NOW - timedelta(days=1), NOW + timedelta(days=9))


def is_(token: Token) -> Callable[[Token], bool]:
    return lambda other: other.salt == token.salt


def judge(token: Token, mechanism: str = NONE, **options: Any) -> Verdict:
    wanted = {"count": None, "invalidate": False, "now": NOW, **options}
    return check([NEW, OLD], mechanism, is_(token), **wanted)


def test_new_token_takes_the_place_of_the_current_one_when_used() -> None:
    used = replace(NEW, slot="current")
    assert judge(NEW) == Verdict(used, "", [Delete(NEW), Put(used)])


def test_current_token_is_good_until_then() -> None:
    """Section 3.5: the client may never have got the new one."""
    assert judge(OLD) == Verdict(OLD, "", [])


def test_unknown_token_is_not_authorized() -> None:
    assert judge(replace(NEW, salt=b"guess")) == Verdict(None, "not-authorized")


def test_token_is_good_for_its_mechanism_alone() -> None:
    assert judge(NEW, ENDP) == Verdict(None, "not-authorized")


def test_expired_token_says_so_and_goes() -> None:
    assert judge(OLD, now=OLD.expires) == Verdict(None, "credentials-expired", [Delete(OLD)])
    assert judge(OLD, now=OLD.expires - timedelta(microseconds=1)).token == OLD


@pytest.mark.parametrize("count", [1, 5])
def test_count_that_does_not_grow_is_a_replay(count: int) -> None:
    assert judge(OLD, count=count) == Verdict(None, "not-authorized")


def test_count_that_grows_is_kept() -> None:
    counted = replace(OLD, count=6)
    assert judge(OLD, count=6) == Verdict(counted, "", [Put(counted)])


def test_invalidated_token_is_used_for_the_last_time() -> None:
    """Section 3.6."""
    for token in (OLD, NEW):
        verdict = judge(token, invalidate=True)
        assert verdict.token is not None
        assert verdict.effects == [Delete(token)]


def test_token_is_due_after_a_day() -> None:
    assert due(NEW, NOW)
    assert not due(NEW, NOW - timedelta(seconds=1))


def test_clients_that_hold_tokens_are_bounded() -> None:
    held = [replace(OLD, client=str(n), expires=NOW + timedelta(days=n)) for n in range(MAX_CLIENTS)]
    assert issue(NEW, held) == [Delete(held[0]), Put(NEW)]
    assert issue(replace(NEW, client="0"), held) == [Put(replace(NEW, client="0"))]


@given(st.lists(st.tuples(st.sampled_from(["issue", "use", "lose"]), st.integers(0, 3)), max_size=30))
def test_whoever_got_the_last_token_or_used_one_can_log_in(steps: list[tuple[str, int]]) -> None:
    """However often answers get lost, the last token that the client really has is good."""
    tx: Any = MemoryTransaction(_Log())
    made = 0
    mine: Token | None = None
    for step, _ in steps:
        if step == "use" and mine is not None:
            verdict = check(tx.tokens.get("a@b", "phone"), NONE, is_(mine), count=None, invalidate=False, now=NOW)
            assert verdict.token is not None
            apply(verdict.effects, tx)
        elif step in ("issue", "lose"):
            if step == "lose" and mine is None:
                continue
            made += 1
            token = replace(NEW, salt=str(made).encode())
            if mine is not None:  # a token is given out after a login, by the one before
                verdict = check(tx.tokens.get("a@b", "phone"), NONE, is_(mine), count=None, invalidate=False, now=NOW)
                assert verdict.token is not None
                apply(verdict.effects, tx)
            apply(issue(token, tx.tokens.list("a@b")), tx)
            mine = token if step == "issue" else mine
            assert len(tx.tokens.list("a@b")) <= 2

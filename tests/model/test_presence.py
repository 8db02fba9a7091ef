# SPDX-License-Identifier: Apache-2.0
"""Subscriptions to presence (RFC 6121 section 3 and appendix A; statement 67)."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import JID
from xiot.errors import StanzaError
from xiot.model import presence, roster
from xiot.model.effects import Effect, apply
from xiot.model.presence import Announce, Deliver, Route, State, Verb, inbound, outbound
from xiot.model.roster import Push, Request, RosterItem, RosterLimits

from .world import World

# ---- the tables of appendix A ----

NONE = State()
NONE_OUT = State(pending_out=True)
NONE_IN = State(pending_in=True)
NONE_OUT_IN = State(pending_out=True, pending_in=True)
TO = State(to=True)
TO_IN = State(to=True, pending_in=True)
FROM = State(from_=True)
FROM_OUT = State(from_=True, pending_out=True)
BOTH = State(to=True, from_=True)
STATES = [NONE, NONE_OUT, NONE_IN, NONE_OUT_IN, TO, TO_IN, FROM, FROM_OUT, BOTH]

# For each state, in this order: does the stanza go on, and the new state.
OUTBOUND: dict[Verb, list[tuple[bool, State]]] = {
    "subscribe": [  # A.2.1
        (True, NONE_OUT), (True, NONE_OUT), (True, NONE_OUT_IN), (True, NONE_OUT_IN), (True, TO), (True, TO_IN),
        (True, FROM_OUT), (True, FROM_OUT), (True, BOTH),
    ],
    "unsubscribe": [  # A.2.2
        (True, NONE), (True, NONE), (True, NONE_IN), (True, NONE_IN), (True, NONE), (True, NONE_IN),
        (True, FROM), (True, FROM), (True, FROM),
    ],
    "subscribed": [  # A.2.3
        (False, NONE), (False, NONE_OUT), (True, FROM), (True, FROM_OUT), (False, TO), (True, BOTH),
        (False, FROM), (False, FROM_OUT), (False, BOTH),
    ],
    "unsubscribed": [  # A.2.4
        (False, NONE), (False, NONE_OUT), (True, NONE), (True, NONE_OUT), (False, TO), (True, TO),
        (True, NONE), (True, NONE_OUT), (True, TO),
    ],
}  # fmt: skip
INBOUND: dict[Verb, list[tuple[bool, State]]] = {
    "subscribe": [  # A.3.1
        (True, NONE_IN), (True, NONE_OUT_IN), (False, NONE_IN), (False, NONE_OUT_IN), (True, TO_IN), (False, TO_IN),
        (False, FROM), (False, FROM_OUT), (False, BOTH),
    ],
    "unsubscribe": [  # A.3.2
        (False, NONE), (False, NONE_OUT), (True, NONE), (True, NONE_OUT), (False, TO), (True, TO),
        (True, NONE), (True, NONE_OUT), (True, TO),
    ],
    "subscribed": [  # A.3.3
        (False, NONE), (True, TO), (False, NONE_IN), (True, TO_IN), (False, TO), (False, TO_IN),
        (False, FROM), (True, BOTH), (False, BOTH),
    ],
    "unsubscribed": [  # A.3.4
        (False, NONE), (True, NONE), (False, NONE_IN), (True, NONE_IN), (True, NONE), (True, NONE_IN),
        (False, FROM), (True, FROM), (True, FROM),
    ],
}  # fmt: skip


def cells(table: dict[Verb, list[tuple[bool, State]]]) -> list[object]:
    return [
        pytest.param(before, verb, *cell, id=f"{verb}-{number}")
        for verb, column in table.items()
        for number, (before, cell) in enumerate(zip(STATES, column, strict=True))
    ]


@pytest.mark.parametrize(("before", "verb", "goes_on", "after"), cells(OUTBOUND))
@pytest.mark.security(statement=67)
def test_outbound(before: State, verb: Verb, goes_on: bool, after: State) -> None:
    assert outbound(before, verb) == (after, goes_on)


@pytest.mark.parametrize(("before", "verb", "shown", "after"), cells(INBOUND))
@pytest.mark.security(statement=67)
def test_inbound(before: State, verb: Verb, shown: bool, after: State) -> None:
    assert inbound(before, verb) == (after, shown)


# ---- two accounts of one server ----

ROMEO, JULIET = JID("romeo@example.net"), JID("juliet@example.net")
R, J = str(ROMEO), str(JULIET)
ASK = b"<presence type='subscribe'/>"


def world() -> World:
    world = World()
    world.accounts.known = {R, J}
    return world


def send(world: World, owner: JID, jid: JID, verb: Verb, stanza: bytes = b"", **limits: int) -> list[Effect]:
    return world.commit(lambda tx: presence.send(*presence.load(tx, owner, jid), verb, stanza, RosterLimits(**limits)))


def state(world: World, owner: JID, jid: JID) -> State:
    return presence.state_of(roster.load(world.roster, owner, jid))  # type: ignore[arg-type]


def sent(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Push)]


def pushes(effects: list[Effect]) -> list[tuple[str, str, bool]]:
    found = [effect for effect in effects if isinstance(effect, Push)]
    return [(push.owner, push.item.subscription, push.item.ask) for push in found if push.item is not None]


def befriend(world: World) -> None:
    for one, other in ((ROMEO, JULIET), (JULIET, ROMEO)):
        send(world, one, other, "subscribe", ASK)
        send(world, other, one, "subscribed")
    assert state(world, ROMEO, JULIET) == state(world, JULIET, ROMEO) == BOTH


def test_request_is_shown_and_kept_but_in_no_roster() -> None:
    w = world()
    effects = send(w, ROMEO, JULIET, "subscribe", ASK)
    assert sent(effects) == [Deliver(J, R, "subscribe", ASK)]
    assert pushes(effects) == [(R, "none", True)]
    assert (state(w, ROMEO, JULIET), state(w, JULIET, ROMEO)) == (NONE_OUT, NONE_IN)
    assert w.roster.items(J) == []
    assert w.roster.requests(J) == [Request(J, R, ASK)]


def test_request_that_is_repeated_is_not_shown_again() -> None:
    w = world()
    send(w, ROMEO, JULIET, "subscribe", ASK)
    assert send(w, ROMEO, JULIET, "subscribe", b"again") == []
    assert w.roster.requests(J) == [Request(J, R, ASK)]


def test_grant_is_shown_pushed_to_both_and_followed_by_presence() -> None:
    w = world()
    send(w, ROMEO, JULIET, "subscribe", ASK)
    effects = send(w, JULIET, ROMEO, "subscribed")
    assert sent(effects) == [Deliver(R, J, "subscribed", b""), Announce(J, R, True)]
    assert pushes(effects) == [(J, "from", False), (R, "to", False)]
    assert (state(w, ROMEO, JULIET), state(w, JULIET, ROMEO)) == (TO, FROM)
    assert w.roster.requests(J) == []


def test_refusal_ends_the_request() -> None:
    w = world()
    send(w, ROMEO, JULIET, "subscribe", ASK)
    effects = send(w, JULIET, ROMEO, "unsubscribed")
    assert sent(effects) == [Deliver(R, J, "unsubscribed", b"")]
    assert pushes(effects) == [(R, "none", False)]
    assert (state(w, ROMEO, JULIET), state(w, JULIET, ROMEO)) == (NONE, NONE)


def test_cancellation_hides_presence_before_it_is_told() -> None:
    w = world()
    befriend(w)
    effects = send(w, JULIET, ROMEO, "unsubscribed")
    assert sent(effects) == [Announce(J, R, False), Deliver(R, J, "unsubscribed", b"")]
    assert pushes(effects) == [(J, "to", False), (R, "from", False)]


def test_unsubscribing_hides_presence_after_it_is_told() -> None:
    w = world()
    befriend(w)
    effects = send(w, ROMEO, JULIET, "unsubscribe")
    assert sent(effects) == [Deliver(J, R, "unsubscribe", b""), Announce(J, R, False)]
    assert (state(w, ROMEO, JULIET), state(w, JULIET, ROMEO)) == (FROM, TO)


def test_who_sees_already_is_answered_at_once() -> None:
    w = world()
    befriend(w)
    w.roster.put(RosterItem(R, J, subscription="from"))  # as after a restore from an old copy
    effects = send(w, ROMEO, JULIET, "subscribe", ASK)
    assert sent(effects) == [Deliver(R, J, "subscribed", b""), Announce(J, R, True)]
    assert pushes(effects) == [(R, "from", True), (R, "both", False)]
    assert (state(w, ROMEO, JULIET), state(w, JULIET, ROMEO)) == (BOTH, BOTH)


@pytest.mark.parametrize("before", [NONE, NONE_OUT, TO])
def test_approval_beforehand_is_noted_not_sent(before: State) -> None:
    w = world()
    if before != NONE:
        send(w, JULIET, ROMEO, "subscribe", ASK)
    if before == TO:
        send(w, ROMEO, JULIET, "subscribed")
    effects = send(w, JULIET, ROMEO, "subscribed")
    assert sent(effects) == []
    (push,) = effects
    assert isinstance(push, Push)
    assert push.item is not None
    assert push.item.approved
    assert state(w, JULIET, ROMEO) == before
    assert send(w, JULIET, ROMEO, "subscribed") == []


def test_request_that_was_approved_beforehand_is_granted_and_not_shown() -> None:
    w = world()
    send(w, JULIET, ROMEO, "subscribed")
    effects = send(w, ROMEO, JULIET, "subscribe", ASK)
    assert sent(effects) == [Deliver(R, J, "subscribed", b""), Announce(J, R, True)]
    assert pushes(effects) == [(R, "none", True), (J, "from", False), (R, "to", False)]
    assert w.roster.requests(J) == []


def test_approval_beforehand_is_taken_back() -> None:
    w = world()
    send(w, JULIET, ROMEO, "subscribed")
    assert sent(send(w, JULIET, ROMEO, "unsubscribed")) == []
    assert sent(send(w, ROMEO, JULIET, "subscribe", ASK)) == [Deliver(J, R, "subscribe", ASK)]


@pytest.mark.parametrize("verb", get_args(Verb))
def test_what_goes_elsewhere_is_routed(verb: Verb) -> None:
    w = world()
    elsewhere = JID("tybalt@example.org")
    w.roster.put(RosterItem(R, str(elsewhere), subscription="both"))
    effects = send(w, ROMEO, elsewhere, verb, b"x")
    assert [effect for effect in effects if isinstance(effect, Route)] == (
        [] if verb == "subscribed" else [Route(R, str(elsewhere), verb, b"x")]
    )


def test_what_comes_from_elsewhere_is_answered_there() -> None:
    w = world()
    tybalt = JID("tybalt@example.org")
    send(w, JULIET, tybalt, "subscribed")
    effects = w.commit(lambda tx: presence.receive(roster.load(tx.roster, JULIET, tybalt), None, "subscribe", ASK))
    assert sent(effects) == [Route(J, str(tybalt), "subscribed", b""), Announce(J, str(tybalt), True)]


# ---- removal ----


def test_removal_of_a_friend_ends_both_directions_with_one_push() -> None:
    w = world()
    befriend(w)
    effects = w.commit(lambda tx: presence.remove(*presence.load(tx, ROMEO, JULIET)))
    assert sent(effects) == [
        Announce(R, J, False),
        Deliver(J, R, "unsubscribe", b""),
        Announce(J, R, False),
        Deliver(J, R, "unsubscribed", b""),
    ]
    assert [(push.owner, push.item and push.item.subscription) for push in effects if isinstance(push, Push)] == [
        (J, "to"), (J, "none"), (R, None),
    ]  # fmt: skip
    assert (state(w, ROMEO, JULIET), state(w, JULIET, ROMEO)) == (NONE, NONE)


def test_removal_takes_a_request_back_and_refuses_another() -> None:
    w = world()
    send(w, ROMEO, JULIET, "subscribe", ASK)
    send(w, JULIET, ROMEO, "subscribe", ASK)
    effects = w.commit(lambda tx: presence.remove(*presence.load(tx, ROMEO, JULIET)))
    assert sent(effects) == [Deliver(J, R, "unsubscribe", b""), Deliver(J, R, "unsubscribed", b"")]
    assert (state(w, ROMEO, JULIET), state(w, JULIET, ROMEO)) == (NONE, NONE)


def test_account_that_goes_ends_all_it_had() -> None:
    w = world()
    befriend(w)
    nurse, tybalt = JID("nurse@example.net"), JID("tybalt@example.net")
    w.accounts.known |= {str(nurse), str(tybalt)}
    send(w, nurse, ROMEO, "subscribe", ASK)
    send(w, tybalt, ROMEO, "subscribed")
    effects = presence.end_all(w, ROMEO)  # type: ignore[arg-type]
    assert Deliver(J, R, "unsubscribed", b"") in effects
    assert Deliver(str(nurse), R, "unsubscribed", b"") in effects
    for other in (JULIET, nurse, tybalt):
        assert state(w, other, ROMEO) == NONE
        assert not roster.load(w.roster, other, ROMEO).item.approved  # type: ignore[arg-type, union-attr]
    assert w.roster.requests(R) == []


# ---- limits ----


def test_too_many_requests_are_refused_and_nothing_is_noted() -> None:
    w = world()
    send(w, JID("tybalt@example.net"), JULIET, "subscribe", ASK)
    with pytest.raises(StanzaError, match="resource-constraint"):
        send(w, ROMEO, JULIET, "subscribe", ASK, max_requests=1)
    assert state(w, ROMEO, JULIET) == NONE


def test_long_request_is_refused() -> None:
    w = world()
    with pytest.raises(StanzaError, match="not-acceptable"):
        send(w, ROMEO, JULIET, "subscribe", b"x" * 11, max_request_bytes=10)
    assert state(w, ROMEO, JULIET) == NONE


def test_full_roster_takes_no_more_subscriptions() -> None:
    with pytest.raises(StanzaError, match="resource-constraint"):
        send(world(), ROMEO, JULIET, "subscribe", ASK, max_items=0)


# ---- in any order ----

STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from([*get_args(Verb), "remove"])), max_size=12)


@given(STEPS)
@pytest.mark.security(statement=67)
def test_both_sides_always_agree_and_pushes_say_all(steps: list[tuple[bool, str]]) -> None:
    w = world()
    shown: dict[str, RosterItem | None] = {R: None, J: None}
    visible: set[str] = set()
    for romeo, verb in steps:
        mine, theirs = (ROMEO, JULIET) if romeo else (JULIET, ROMEO)
        sides = presence.load(w, mine, theirs)  # type: ignore[arg-type]
        if verb == "remove":
            if sides[0].item is None:
                continue
            effects = apply(presence.remove(*sides), w)  # type: ignore[arg-type]
        else:
            effects = send(w, mine, theirs, verb)  # type: ignore[arg-type]
        for effect in effects:
            if isinstance(effect, Push):
                shown[effect.owner] = effect.item
            elif isinstance(effect, Announce):
                (visible.add if effect.visible else visible.discard)(effect.owner)
        r, j = state(w, ROMEO, JULIET), state(w, JULIET, ROMEO)
        assert (r.to, r.from_, r.pending_out, r.pending_in) == (j.from_, j.to, j.pending_in, j.pending_out)
        assert {R: w.roster.get(R, J), J: w.roster.get(J, R)} == shown
        assert visible == ({R} if r.from_ else set()) | ({J} if j.from_ else set())

# SPDX-License-Identifier: Apache-2.0
"""Rosters (RFC 6121 section 2)."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import JID
from xiot.errors import StanzaError
from xiot.model import presence, roster
from xiot.model.effects import Effect
from xiot.model.roster import Push, RosterItem, RosterLimits

from .world import World

OWNER = JID("juliet@example.com")
NURSE = JID("nurse@example.com")


def put(world: World, jid: JID, name: str = "", groups: Sequence[str] = (), **limits: int) -> list[Effect]:
    return world.commit(
        lambda tx: roster.set_item(roster.load(tx.roster, OWNER, jid), name, groups, RosterLimits(**limits))
    )


def remove(world: World, jid: JID) -> list[Effect]:
    return world.commit(lambda tx: presence.remove(roster.load(tx.roster, OWNER, jid), None))


def refused(world: World, *args, **limits: int) -> str:
    before = dict(world.roster.rows)
    with pytest.raises(StanzaError) as caught:
        put(world, *args, **limits)
    assert world.roster.rows == before
    return caught.value.condition


def test_contact_is_added_and_pushed() -> None:
    world = World()
    item = RosterItem(str(OWNER), str(NURSE), "Nurse", frozenset({"Servants"}))
    assert put(world, NURSE, "Nurse", ["Servants"]) == [Push(str(OWNER), str(NURSE), item, 1)]
    assert world.roster.items(str(OWNER)) == [item]


def test_change_keeps_what_concerns_presence() -> None:
    world = World()
    world.roster.put(RosterItem(str(OWNER), str(NURSE), "Nurse", frozenset({"A"}), "both", True, True))
    put(world, NURSE, "Angelica")
    assert world.roster.items(str(OWNER)) == [
        RosterItem(str(OWNER), str(NURSE), "Angelica", frozenset(), "both", True, True)
    ]


def test_removal_is_pushed() -> None:
    world = World()
    put(world, NURSE)
    assert remove(world, NURSE) == [Push(str(OWNER), str(NURSE), None, 2)]
    assert world.roster.items(str(OWNER)) == []


def test_removal_of_unknown_contact_is_item_not_found() -> None:
    with pytest.raises(StanzaError, match="item-not-found"):
        remove(World(), NURSE)


@pytest.mark.parametrize("jid", [OWNER, OWNER.with_resource("balcony")])
def test_own_jid_is_refused(jid: JID) -> None:
    assert refused(World(), jid) == "not-allowed"


def test_duplicate_group_is_a_bad_request() -> None:
    assert refused(World(), NURSE, "", ["A", "A"]) == "bad-request"


def test_empty_group_is_not_acceptable() -> None:
    assert refused(World(), NURSE, "", [""]) == "not-acceptable"


def test_long_names_are_not_acceptable() -> None:
    assert refused(World(), NURSE, "é" * 5, max_name_bytes=9) == "not-acceptable"
    assert refused(World(), NURSE, "", ["é" * 5], max_name_bytes=9) == "not-acceptable"
    assert refused(World(), NURSE, "", ["a", "b", "c"], max_groups=2) == "not-acceptable"


def test_full_roster_takes_changes_but_no_more_contacts() -> None:
    world = World()
    put(world, NURSE, max_items=1)
    put(world, NURSE, "Angelica", max_items=1)
    assert refused(world, JID("romeo@example.net"), max_items=1) == "resource-constraint"


def test_roster_is_left_out_if_the_version_is_current() -> None:
    world = World()
    assert roster.changes_since(world.roster, str(OWNER), None) == ([], 0)
    put(world, NURSE)
    item = RosterItem(str(OWNER), str(NURSE))
    assert roster.changes_since(world.roster, str(OWNER), 0) == ([item], 1)
    assert roster.changes_since(world.roster, str(OWNER), None) == ([item], 1)
    assert roster.changes_since(world.roster, str(OWNER), 1) == (None, 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.text(max_size=3))))
def test_roster_is_what_the_pushes_say(steps: list[tuple[str, str | None]]) -> None:
    world, seen, version = World(), {}, 0
    for local, name in steps:
        jid = JID(f"{local}@example.net")
        if name is None and str(jid) not in seen:
            continue
        (push,) = remove(world, jid) if name is None else put(world, jid, name)
        assert isinstance(push, Push)
        assert push.version == version + 1
        version = push.version
        if push.item is None:
            del seen[push.jid]
        else:
            seen[push.jid] = push.item
    assert roster.changes_since(world.roster, str(OWNER), None) == ([seen[jid] for jid in sorted(seen)], version)

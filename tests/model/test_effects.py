# SPDX-License-Identifier: Apache-2.0
"""Changes are stored in order, and what is to be sent comes back in order."""

from xiot.model.effects import Delete, Effect, Put, apply
from xiot.model.roster import RosterItem

from .world import World


class Send(Effect):
    """Something to be sent."""


def test_changes_are_stored_in_order() -> None:
    world = World()
    first, second = RosterItem("a@x", "b@x", "Old"), RosterItem("a@x", "b@x", "New")
    assert apply([Put(first), Delete(first), Put(second)], world) == []  # type: ignore[arg-type]
    assert world.roster.items("a@x") == [second]


def test_what_is_no_change_is_returned_in_order() -> None:
    sent = [Send(), Send()]
    item = RosterItem("a@x", "b@x")
    assert apply([sent[0], Put(item), sent[1]], World()) == sent  # type: ignore[arg-type]

# SPDX-License-Identifier: Apache-2.0
"""Block lists (XEP-0191): what matches, and how they change."""

import pytest

from _xmppcore import JID
from xiot.errors import StanzaError
from xiot.model.blocking import MAX_BLOCKED, Block, Blocked, State, block, blocks, unblock
from xiot.model.effects import Delete, Put

ME = "me@h"


@pytest.mark.parametrize(
    ("entry", "jid", "hit"),
    [
        ("a@b/c", "a@b/c", True),
        ("a@b/c", "a@b/d", False),
        ("a@b/c", "a@b", False),
        ("a@b", "a@b/c", True),
        ("a@b", "a@b", True),
        ("a@b", "b", False),
        ("b/c", "b/c", True),
        ("b/c", "a@b/c", False),
        ("b/c", "b", False),
        ("b", "b", True),
        ("b", "a@b", True),
        ("b", "a@b/c", True),
        ("b", "b/c", True),
        ("b", "a@x.b", False),
        ("b", "x.b", False),
    ],
)
def test_entry_matches_as_section_5_says(entry: str, jid: str, hit: bool) -> None:
    assert blocks({"z@z", entry}, JID(jid)) is hit
    assert not blocks((), JID(jid))


def test_only_what_is_new_is_stored() -> None:
    state = State(ME, True, frozenset(["a@b"]))
    assert block(state, ["a@b", "c", "c"]) == [
        Put(Block(ME, "c")),
        Blocked(ME, frozenset(["a@b", "c"]), added=("c",)),
    ]


def test_only_what_is_there_is_removed() -> None:
    state = State(ME, True, frozenset(["a@b", "c"]))
    assert unblock(state, ["c", "d"]) == [Delete(Block(ME, "c")), Blocked(ME, frozenset(["a@b"]), removed=("c",))]


def test_no_entries_are_all() -> None:
    state = State(ME, True, frozenset(["a@b", "c"]))
    assert unblock(state, [])[-1] == Blocked(ME, frozenset(), removed=("a@b", "c"))


def test_list_is_bounded() -> None:
    full = State(ME, True, frozenset(f"{n}.example" for n in range(MAX_BLOCKED)))
    block(full, ["0.example"])
    with pytest.raises(StanzaError, match="resource-constraint"):
        block(full, ["one.more"])


def test_guest_keeps_no_list() -> None:
    with pytest.raises(StanzaError, match="not-allowed"):
        block(State(ME, False, frozenset()), ["a@b"])

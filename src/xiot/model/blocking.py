# SPDX-License-Identifier: Apache-2.0
"""Block lists: from whom an account takes nothing, and to whom it sends nothing. Sections cited are those of XEP-0191."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from xiot.errors import StanzaError
from xiot.model.effects import Delete, Effect, Put

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from _xmppcore import JID
    from xiot.model.effects import Tx

MAX_BLOCKED = 1000
"""Entries of one list: a list is sent whole, and held in memory while its account is online."""


@dataclass(frozen=True, slots=True)
class Block:
    """One entry of a block list; the key is (owner, jid)."""

    owner: str
    """Bare JID of the account."""
    jid: str
    """A prepared JID of any form."""

    def put(self, tx: Tx) -> None:
        """Store this entry."""
        tx.blocks.put(self)

    def delete(self, tx: Tx) -> None:
        """Remove this entry."""
        tx.blocks.delete(self.owner, self.jid)


@dataclass(frozen=True, slots=True)
class State:
    """What the rules have to know of one account."""

    owner: str
    registered: bool
    """Whether there is such an account: a guest keeps nothing, since nobody would ever remove it."""
    jids: frozenset[str]


def load(tx: Tx, owner: str) -> State:
    """Read what the rules need for `owner`."""
    return State(owner, tx.accounts.exists(owner), frozenset(tx.blocks.jids(owner)))


class BlockStore(Protocol):
    """The block lists of all accounts; `owner` is a prepared bare JID, `jid` a prepared JID."""

    def jids(self, owner: str) -> Sequence[str]:
        """Return whom `owner` blocks, ordered by code points."""

    def put(self, block: Block) -> None:
        """Store `block`; no error if it is there."""

    def delete(self, owner: str, jid: str) -> None:
        """Remove an entry; no error if there is none."""

    def clear(self, owner: str) -> None:
        """Remove the whole list of `owner`."""


@dataclass(frozen=True, slots=True)
class Blocked(Effect):
    """The list of `owner` is now `jids`; `added` or `removed` are the entries that are new or gone."""

    owner: str
    jids: frozenset[str]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def blocks(blocked: Collection[str], jid: JID) -> bool:
    """Return whether a list holds `jid`: its full, its bare form or its domain (section 5)."""
    return bool(blocked) and (str(jid) in blocked or str(jid.bare) in blocked or jid.domain in blocked)


def blocks_sender(tx: Tx, owner: str, sender: JID) -> bool:
    """Return whether the account `owner`, which may be offline, blocks `sender`; never its own resources (section 4)."""
    return str(sender.bare) != owner and blocks(frozenset(tx.blocks.jids(owner)), sender)


def block(state: State, jids: Iterable[str]) -> list[Effect]:
    """Add `jids` to the list (section 3.3). Raises StanzaError."""
    if not state.registered:
        raise StanzaError("not-allowed", text="only registered accounts keep a list")
    new = tuple(dict.fromkeys(jid for jid in jids if jid not in state.jids))
    if len(state.jids) + len(new) > MAX_BLOCKED:
        raise StanzaError("resource-constraint", text=f"a list has at most {MAX_BLOCKED} entries")
    changed = Blocked(state.owner, state.jids.union(new), added=new)
    return [*(Put(Block(state.owner, jid)) for jid in new), changed]


def unblock(state: State, jids: Iterable[str]) -> list[Effect]:
    """Remove `jids`, or all entries if there are none, from the list (sections 3.4 and 3.5)."""
    wanted = tuple(dict.fromkeys(jids)) or tuple(sorted(state.jids))
    gone = tuple(jid for jid in wanted if jid in state.jids)
    changed = Blocked(state.owner, state.jids.difference(gone), removed=gone)
    return [*(Delete(Block(state.owner, jid)) for jid in gone), changed]

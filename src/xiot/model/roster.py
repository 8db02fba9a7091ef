# SPDX-License-Identifier: Apache-2.0
"""Rosters: whom an account knows. Sections cited are those of RFC 6121."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from xiot.errors import StanzaError
from xiot.model.effects import Delete, Effect, Put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _xmppcore import JID
    from xiot.model.effects import Tx

SubscriptionState = Literal["none", "to", "from", "both"]


@dataclass(frozen=True, slots=True)
class RosterItem:
    """One contact of an account (section 2.1.2); the key is (owner, jid)."""

    owner: str
    """Bare JID of the account."""
    jid: str
    """JID of the contact, normally bare."""
    name: str = ""
    """The handle the user gave; empty if none."""
    groups: frozenset[str] = frozenset()
    subscription: SubscriptionState = "none"
    ask: bool = False
    """A request of ours to see the contact's presence awaits an answer (``ask='subscribe'``)."""
    approved: bool = False
    """The contact is pre-approved to see our presence (section 3.4)."""

    def put(self, tx: Tx) -> None:
        """Store this item."""
        tx.roster.put(self)

    def delete(self, tx: Tx) -> None:
        """Remove this item."""
        tx.roster.delete(self.owner, self.jid)


@dataclass(frozen=True, slots=True)
class RosterVersion:
    """The number of changes a roster has seen (section 2.6); it only grows."""

    owner: str
    version: int

    def put(self, tx: Tx) -> None:
        """Store this version."""
        tx.roster.put_version(self.owner, self.version)


class RosterStore(Protocol):
    """The rosters of all accounts; `owner` is a prepared bare JID, `jid` a prepared JID."""

    def get(self, owner: str, jid: str) -> RosterItem | None:
        """Return one contact, or None."""

    def items(self, owner: str) -> Sequence[RosterItem]:
        """Return all contacts of `owner`, ordered by JID; their number is bounded by the rule that adds them."""

    def count(self, owner: str) -> int:
        """Return how many contacts `owner` has."""

    def put(self, item: RosterItem) -> None:
        """Store `item`, replacing the one of the same owner and JID."""

    def delete(self, owner: str, jid: str) -> None:
        """Remove one contact; no error if there is none."""

    def version(self, owner: str) -> int:
        """Return the version of the roster, 0 if it was never changed."""

    def put_version(self, owner: str, version: int) -> None:
        """Store the version of the roster."""

    def clear(self, owner: str) -> None:
        """Remove all contacts and the version, as when the account is removed."""


@dataclass(frozen=True, slots=True)
class RosterLimits:
    """How much one account may keep in its roster."""

    max_items: int = 5_000
    """The whole roster is one stanza: 5,000 contacts are about 500 KB."""
    max_name_bytes: int = 1_023
    """Of a name and of a group, in UTF-8: what a part of a JID may have (RFC 7622 section 3.1)."""
    max_groups: int = 100
    """Per contact; clients show a contact once in each."""


@dataclass(frozen=True, slots=True)
class Push(Effect):
    """Tell all interested resources of `owner` that a contact changed (section 2.1.6)."""

    owner: str
    jid: str
    item: RosterItem | None
    """None if the contact was removed."""
    version: int


@dataclass(frozen=True, slots=True)
class RosterState:
    """What `set_item` and `remove` look at."""

    owner: JID
    jid: JID
    item: RosterItem | None
    count: int
    version: int


def load(store: RosterStore, owner: JID, jid: JID) -> RosterState:
    """Read what `set_item` and `remove` look at; `owner` is a bare JID."""
    bare = str(owner)
    return RosterState(owner, jid, store.get(bare, str(jid)), store.count(bare), store.version(bare))


def set_item(
    state: RosterState, name: str = "", groups: Sequence[str] = (), limits: RosterLimits | None = None
) -> list[Effect]:
    """Add a contact, or change its name and groups (sections 2.3 and 2.4); what concerns presence stays as it is."""
    limits = limits or RosterLimits()
    if state.jid.bare == state.owner:
        raise StanzaError("not-allowed", text="nobody is a contact of their own")
    if len(set(groups)) < len(groups):
        raise StanzaError("bad-request", text="the same group twice")  # section 2.3.3
    if not all(groups):
        raise StanzaError("not-acceptable", text="a group has a name")  # section 2.3.3
    if any(len(text.encode()) > limits.max_name_bytes for text in (name, *groups)):
        raise StanzaError("not-acceptable", text=f"a name has at most {limits.max_name_bytes} bytes")
    if len(groups) > limits.max_groups:
        raise StanzaError("not-acceptable", text=f"a contact is in at most {limits.max_groups} groups")
    if state.item is None and state.count >= limits.max_items:
        raise StanzaError("resource-constraint", text=f"a roster has at most {limits.max_items} contacts")
    item = state.item or RosterItem(str(state.owner), str(state.jid))
    item = replace(item, name=name, groups=frozenset(groups))
    return [Put(item), *_pushed(state, item)]


def remove(state: RosterState) -> list[Effect]:
    """Remove a contact (section 2.5)."""
    if state.item is None:
        raise StanzaError("item-not-found")
    return [Delete(state.item), *_pushed(state, None)]


def _pushed(state: RosterState, item: RosterItem | None) -> list[Effect]:
    owner, version = str(state.owner), state.version + 1
    return [Put(RosterVersion(owner, version)), Push(owner, str(state.jid), item, version)]


def changes_since(store: RosterStore, owner: str, version: int | None) -> tuple[Sequence[RosterItem] | None, int]:
    """Return the whole roster, or None if it is still at `version`, and its version (section 2.6.3)."""
    current = store.version(owner)
    return (None if version == current else store.items(owner)), current

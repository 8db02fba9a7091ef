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


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks to see the presence of `owner`, who has not answered yet: "pending in" of appendix A.1.

    It is no part of the roster: clients see it as the stanza itself, at each login until they answer (section 3.1.3).
    """

    owner: str
    jid: str
    """Bare JID of who asks."""
    stanza: bytes
    """The presence stanza of type subscribe, whole."""

    def put(self, tx: Tx) -> None:
        """Store this request."""
        tx.roster.put_request(self)

    def delete(self, tx: Tx) -> None:
        """Remove this request."""
        tx.roster.delete_request(self.owner, self.jid)


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

    def lonely(self, owner: str) -> bool:
        """Return whether both `subscribed` and `requests` would return nothing."""

    def subscribed(self, owner: str) -> Sequence[tuple[str, SubscriptionState]]:
        """Return JID and subscription, which is not none, of all such contacts of `owner`, ordered by JID."""

    def approvals(self, jid: str, limit: int = 1000) -> Sequence[RosterItem]:
        """Return at most `limit` items of any owner that pre-approve `jid`, ordered by owner."""

    def request(self, owner: str, jid: str) -> Request | None:
        """Return the open request of `jid`, or None."""

    def requests(self, owner: str) -> Sequence[Request]:
        """Return all open requests to `owner`, ordered by JID; their number is bounded by the rule that adds them."""

    def request_count(self, owner: str) -> int:
        """Return how many open requests `owner` has."""

    def put_request(self, request: Request) -> None:
        """Store `request`, replacing the one of the same owner and JID."""

    def delete_request(self, owner: str, jid: str) -> None:
        """Remove one request; no error if there is none."""

    def clear(self, owner: str) -> None:
        """Remove all contacts and requests and the version, as when the account is removed."""


@dataclass(frozen=True, slots=True)
class RosterLimits:
    """How much one account may keep in its roster."""

    max_items: int = 5_000
    """The whole roster is one stanza: 5,000 contacts are about 500 KB."""
    max_name_bytes: int = 1_023
    """Of a name and of a group, in UTF-8: what a part of a JID may have (RFC 7622 section 3.1)."""
    max_groups: int = 100
    """Per contact; clients show a contact once in each."""
    max_requests: int = 1_000
    """Open requests to see one account's presence: all are sent at each login."""
    max_request_bytes: int = 2_048
    """Of one such request, or the answer to one, which anybody may send: a name and a line of text have room."""


@dataclass(frozen=True, slots=True)
class Push(Effect):
    """Tell all interested resources of `owner` that a contact changed (section 2.1.6)."""

    owner: str
    jid: str
    item: RosterItem | None
    """None if the contact was removed."""
    version: int


@dataclass(slots=True)
class RosterState:
    """What an account and a contact are to each other, on the account's side; rules change it as they go."""

    owner: JID
    jid: JID
    item: RosterItem | None
    request: Request | None
    items: int
    """Contacts that `owner` has."""
    requests: int
    """Open requests to `owner`."""
    version: int

    def put(self, item: RosterItem) -> list[Effect]:
        """Store and push `item` in the place of the one there is."""
        self.item = item
        return [Put(item), *self._pushed()]

    def delete(self) -> list[Effect]:
        """Remove the item, and push that."""
        assert self.item is not None
        item, self.item = self.item, None
        return [Delete(item), *self._pushed()]

    def _pushed(self) -> list[Effect]:
        self.version += 1
        owner = str(self.owner)
        return [Put(RosterVersion(owner, self.version)), Push(owner, str(self.jid), self.item, self.version)]


def load(store: RosterStore, owner: JID, jid: JID) -> RosterState:
    """Read what the rules look at; `owner` is a bare JID."""
    bare, contact = str(owner), str(jid)
    return RosterState(
        owner,
        jid,
        store.get(bare, contact),
        store.request(bare, contact),
        store.count(bare),
        store.request_count(bare),
        store.version(bare),
    )


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
    return state.put(replace(item_to_be(state, limits), name=name, groups=frozenset(groups)))


def item_to_be(state: RosterState, limits: RosterLimits) -> RosterItem:
    """Return the item there is, or a new one. Raises StanzaError (resource-constraint) if there are too many."""
    if state.item is None and state.items >= limits.max_items:
        raise StanzaError("resource-constraint", text=f"a roster has at most {limits.max_items} contacts")
    return state.item or RosterItem(str(state.owner), str(state.jid))


def changes_since(store: RosterStore, owner: str, version: int | None) -> tuple[Sequence[RosterItem] | None, int]:
    """Return the whole roster, or None if it is still at `version`, and its version (section 2.6.3)."""
    current = store.version(owner)
    return (None if version == current else store.items(owner)), current

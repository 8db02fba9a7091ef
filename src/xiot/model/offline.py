# SPDX-License-Identifier: Apache-2.0
"""Messages kept for accounts that nobody is logged in to (XEP-0160)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from xiot.errors import StanzaError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True, slots=True)
class Kept:
    """One message that waits."""

    id: int
    """Greater than those of all messages kept before, of any account; never used again."""
    stanza: bytes
    """As it is to be delivered."""


@dataclass(frozen=True, slots=True)
class OfflineLimits:
    """How much is kept for one account."""

    max_items: int
    """0: nothing is kept."""
    max_bytes: int


class OfflineStore(Protocol):
    """The messages that wait, of all accounts; `owner` is a prepared bare JID."""

    def usage(self, owner: str) -> tuple[int, int]:
        """Return how many messages wait, and how many bytes they have."""

    def put(self, owner: str, stanza: bytes) -> int:
        """Keep a message behind all others; return its id."""

    def page(self, owner: str, limit: int, max_bytes: int, skip: Collection[int] = ()) -> Sequence[Kept]:
        """Return the oldest messages in order: at most `limit`, of at most `max_bytes` together, but one at least.

        `skip`: ids of messages that are passed over; the page ends before the next of them.
        """

    def delete(self, owner: str, ids: Sequence[int]) -> None:
        """Remove messages; no error for one that is not there."""

    def clear(self, owner: str) -> None:
        """Remove all messages of `owner`."""


def keep(store: OfflineStore, owner: str, stanza: bytes, limits: OfflineLimits) -> int:
    """Keep a message for `owner`; return its id.

    Raises StanzaError (service-unavailable) if too many wait already (section 2, step 3).
    """
    items, octets = store.usage(owner)
    if items >= limits.max_items or octets + len(stanza) > limits.max_bytes:
        raise StanzaError("service-unavailable", text="too many messages wait for the recipient")
    return store.put(owner, stanza)

# SPDX-License-Identifier: Apache-2.0
"""What is kept of links whose every stanza is durable, so that they go on after a crash.

Theory of operation. Of such a session there is kept how many stanzas of its client were taken (`handled`), those of them that have not
yet reached whoever keeps them next (`Received`), and those for the client that it has not acknowledged (`Sent`). A stanza changes its
place within one transaction: so after a crash it is in exactly one.

The ids that senders gave (origin-id, XEP-0359) are remembered for a while, the last `Window.count` of an account and none older than
`Window.age`: a stanza that comes again under one of these, since its sender never learned that it had arrived, is not taken twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class DurableSession:
    """A session that survives a crash; counts go on beyond those of the wire, which are modulo 2^32."""

    id: str
    """What it is resumed by."""
    jid: str
    """Full."""
    resumable_s: float
    """How long it is kept without a connection."""
    state: bytes
    """Whatever else the server wants to know of it."""
    handled: int = 0
    """Stanzas of the client that were taken."""
    sent: int = 0
    """Stanzas for the client."""


@dataclass(frozen=True, slots=True)
class Received:
    """A stanza that a client was told of that it was taken, and that nobody else keeps yet."""

    id: int
    """Greater than those of all before."""
    session: str
    sender: str
    """The full JID of the session."""
    stanza: bytes
    """As it came."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A stanza for a client that may not have it yet."""

    number: int
    """Of the stanzas sent in the session, from 1."""
    stanza: bytes


@dataclass(frozen=True, slots=True)
class Window:
    """How long an id of a sender is remembered."""

    count: int
    """Of one account, the newest; 0: none is."""
    age: timedelta


class DurableStore(Protocol):
    """The durable sessions of all accounts."""

    def sessions(self) -> Sequence[DurableSession]:
        """Return all, ordered by id."""

    def put(self, session: DurableSession) -> None:
        """Store a session; if it is there already its counts stay."""

    def delete(self, session: str) -> None:
        """Remove a session, and what it has not acknowledged; what it sent stays."""

    def count(self, session: str, handled: int) -> None:
        """Note how many stanzas of the client were taken."""

    def receive(self, session: str, sender: str, stanza: bytes) -> int:
        """Keep a stanza of the client; return its id."""

    def received(self) -> Sequence[Received]:
        """Return all stanzas that were received and not removed, oldest first."""

    def remove(self, id: int) -> None:
        """Remove one of these; no error if it is not there."""

    def send(self, session: str, number: int, stanza: bytes) -> None:
        """Keep a stanza for the client, and note that there are `number` by now."""

    def sent(self, session: str) -> Sequence[Sent]:
        """Return what is kept for a client, in order."""

    def acknowledge(self, session: str, number: int) -> None:
        """Remove what is kept for a client, up to `number`."""

    def remembers(self, account: str, key: bytes, since: datetime) -> bool:
        """Return whether `key` was remembered for `account` at `since` or later."""

    def remember(self, account: str, key: bytes, now: datetime, keep: int) -> None:
        """Remember `key`, and of `account` only the last `keep`."""

    def forget(self, before: datetime) -> None:
        """Forget all keys that are older."""


def is_new(store: DurableStore, account: str, id: str, now: datetime, window: Window) -> bool:
    """Return whether `account` has sent nothing under this origin-id within the window, and remember that it has now."""
    if not window.count:
        return True
    key = blake2b(id.encode(), digest_size=16).digest()
    if store.remembers(account, key, now - window.age):
        return False
    store.remember(account, key, now, window.count)
    return True

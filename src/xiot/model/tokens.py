# SPDX-License-Identifier: Apache-2.0
"""Tokens to log in again with (XEP-0484): which are good, when there is a new one, which are thrown away.

Theory of operation. A client of an account has two slots (section 5.1). A new token goes into ``new``; used for the
first time, it moves to ``current`` and so replaces the one before, which was good until then: whoever is cut off before
the new token arrives still has the old one. What is kept is no token: a token is made of `salt` and a key of the
server's, so that a copy of these rows alone lets nobody in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

from xiot.model.effects import Delete, Effect, Put

if TYPE_CHECKING:
    from xiot.model.effects import Tx

ROTATION = timedelta(days=1)
"""A token that is older is replaced when it is used: of one that leaked, the next use by its owner is the end."""

MAX_CLIENTS = 32
"""Of one account, that hold tokens: ids of user agents are the clients' to choose, and so could grow for ever."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token; no two are equal in their first three fields."""

    account: str
    """Bare JID."""
    client: str
    """Id of the user agent."""
    slot: Literal["new", "current"]
    mechanism: str
    """The only one that it is good for (section 3.4)."""
    salt: bytes = field(repr=False)
    issued: datetime
    expires: datetime
    count: int = 0
    """The highest that the client sent with it."""

    def put(self, tx: Tx) -> None:
        """Store it."""
        tx.tokens.put(self)

    def delete(self, tx: Tx) -> None:
        """Remove it."""
        tx.tokens.delete(self.account, self.client, self.slot)


class TokenStore(Protocol):
    """The tokens of all accounts; `account` is a prepared bare JID."""

    def get(self, account: str, client: str) -> Sequence[Token]:
        """Return the tokens of one client of an account, that of the slot ``new`` first."""

    def list(self, account: str) -> Sequence[Token]:
        """Return all tokens of an account, ordered by when they expire, and then by client and slot."""

    def put(self, token: Token) -> None:
        """Store `token`, replacing the one in its slot."""

    def delete(self, account: str, client: str, slot: str) -> None:
        """Empty a slot; no error if it is."""

    def clear(self, account: str) -> None:
        """Remove all tokens of an account."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a login by a token."""

    token: Token | None
    """The one that was used; None if the login fails."""
    condition: str
    """Why it fails (RFC 6120 section 6.5)."""
    effects: Sequence[Effect] = ()


def issue(token: Token, others: Sequence[Token]) -> list[Effect]:
    """Store a new `token`; `others` are all tokens of its account. Those of the client nearest its end may have to go."""
    effects: list[Effect] = []
    clients = dict.fromkeys(other.client for other in others if other.client != token.client)
    for client in list(clients)[: max(0, len(clients) + 1 - MAX_CLIENTS)]:
        effects += [Delete(other) for other in others if other.client == client]
    return [*effects, Put(token)]


def check(
    tokens: Sequence[Token],
    mechanism: str,
    proves: Callable[[Token], bool],
    *,
    count: int | None,
    invalidate: bool,
    now: datetime,
) -> Verdict:
    """Judge a login by `mechanism`: of a client's `tokens`, find the one of which `proves` is true (section 5.1).

    `count` is the client's (section 3.4), None if it sent none; `invalidate`: the token is used for the last time.
    """
    token = next((token for token in tokens if token.mechanism == mechanism and proves(token)), None)
    if token is None:
        return Verdict(None, "not-authorized")
    if now >= token.expires:
        return Verdict(None, "credentials-expired", [Delete(token)])
    if count is not None and count <= token.count:
        return Verdict(None, "not-authorized")  # somebody plays back what was sent before
    used = replace(token, slot="current", count=token.count if count is None else count)
    if invalidate:
        return Verdict(used, "", [Delete(token)])
    if token.slot == "new":
        return Verdict(used, "", [Delete(token), Put(used)])
    return Verdict(used, "", [Put(used)] if used.count > token.count else [])


def due(token: Token, now: datetime) -> bool:
    """Return whether the client should get another token in place of `token` (section 3.5)."""
    return now - token.issued >= ROTATION

# SPDX-License-Identifier: Apache-2.0
"""What a rule asks for: changes to be stored, then things to be sent.

Theory of operation. A rule of this room is a plain function: it takes state that was loaded before, and returns a list
of effects. It reads no store, no clock and no socket, so it is tested by a plain call. The shell loads the state, calls
the rule and hands the effects to `apply`, all in one transaction; after the commit it sends what `apply` returned. So
nobody is told of a change that was lost, and since load, rule and apply see one transaction, two requests for the same
node cannot slip between each other.

A file of rules adds a kind of thing to send by deriving from `Effect`, and a kind of thing to store by giving its rows
`put` and `delete`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xiot.model.accounts import AccountStore
    from xiot.model.blocking import BlockStore
    from xiot.model.documents import DocumentStore
    from xiot.model.durable import DurableStore
    from xiot.model.exi import ExiStore
    from xiot.model.logout import LogoutStore
    from xiot.model.nodes import NodeStore
    from xiot.model.offline import OfflineStore
    from xiot.model.roster import RosterStore
    from xiot.model.tokens import TokenStore


class Tx(Protocol):
    """One open transaction: the stores, all seeing the same state, until the shell commits or rolls back."""

    @property
    def accounts(self) -> AccountStore: ...

    @property
    def roster(self) -> RosterStore: ...

    @property
    def nodes(self) -> NodeStore: ...

    @property
    def offline(self) -> OfflineStore: ...

    @property
    def tokens(self) -> TokenStore: ...

    @property
    def documents(self) -> DocumentStore: ...

    @property
    def logouts(self) -> LogoutStore: ...

    @property
    def blocks(self) -> BlockStore: ...

    @property
    def durable(self) -> DurableStore: ...

    @property
    def exi(self) -> ExiStore: ...


class Storable(Protocol):
    """A row that knows its store."""

    def put(self, tx: Tx) -> None: ...


class Deletable(Protocol):
    """A row, or the key of one, that knows its store."""

    def delete(self, tx: Tx) -> None: ...


class Effect:
    """Base of what a rule returns; what is neither `Put` nor `Delete` is to be sent after the commit."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Put(Effect):
    """Store `row`, replacing the one with the same key."""

    row: Storable


@dataclass(frozen=True, slots=True)
class Delete(Effect):
    """Remove `row`, with all that belongs to it; no error if it is not there."""

    row: Deletable


def apply(effects: Iterable[Effect], tx: Tx) -> list[Effect]:
    """Store the changes among `effects` in `tx`, in order.

    Returns the other effects, in order: the caller sends them once `tx` is committed.
    """
    rest: list[Effect] = []
    for effect in effects:
        match effect:
            case Put(row):
                row.put(tx)
            case Delete(row):
                row.delete(tx)
            case _:
                rest.append(effect)
    return rest

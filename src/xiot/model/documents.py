# SPDX-License-Identifier: Apache-2.0
"""Documents that a server keeps for its accounts without looking into them: private data and vCards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from xiot.errors import StanzaError
from xiot.model.effects import Delete, Effect, Put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xiot.model.effects import Tx

Kind = Literal["private", "vcard"]

ROW_BYTES = 100
"""What a document costs besides its octets, so that many small ones are no way around the quota."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of an account; the key is (owner, kind, name)."""

    owner: str
    """Bare JID of the account."""
    kind: Kind
    name: str
    """Which one of its kind; empty if an account has only one of that kind."""
    data: bytes

    def put(self, tx: Tx) -> None:
        """Store this document."""
        tx.documents.put(self)

    def delete(self, tx: Tx) -> None:
        """Remove this document."""
        tx.documents.delete(self.owner, self.kind, self.name)

    @property
    def size_bytes(self) -> int:
        """What the document takes of its owner's quota."""
        return ROW_BYTES + len(self.name.encode()) + len(self.data)


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one account may keep in documents of all kinds."""

    most_bytes: int


class DocumentStore(Protocol):
    """The documents of all accounts; `owner` is a prepared bare JID."""

    def get(self, owner: str, kind: Kind, name: str) -> Document | None:
        """Return the document, or None."""

    def sizes(self, owner: str) -> int:
        """Return the sum of `Document.size_bytes` of all documents of `owner`."""

    def put(self, document: Document) -> None:
        """Store `document`, replacing the one with its key."""

    def delete(self, owner: str, kind: Kind, name: str) -> None:
        """Remove a document; no error if there is none."""

    def clear(self, owner: str) -> None:
        """Remove all documents of `owner`."""


@dataclass(frozen=True, slots=True)
class State:
    """What `keep` has to know."""

    quota: Quota
    registered: bool
    """Whether there is such an account: a guest keeps nothing, since nobody would ever remove it."""
    used_bytes: int
    """By all documents of the account."""
    former_bytes: int
    """Of these, by the ones that would be replaced."""


def load(tx: Tx, documents: Sequence[Document], quota: Quota) -> State:
    """Read what `keep` needs for `documents`: at least one, all of one owner and with different keys."""
    former = (tx.documents.get(document.owner, document.kind, document.name) for document in documents)
    owner = documents[0].owner
    return State(
        quota,
        tx.accounts.exists(owner),
        tx.documents.sizes(owner),
        sum(document.size_bytes for document in former if document is not None),
    )


def keep(state: State, documents: Sequence[Document]) -> list[Effect]:
    """Store `documents`, those without data being removed.

    Raises StanzaError: ``resource-constraint`` above the quota, ``not-allowed`` without an account.
    """
    if not state.registered:
        raise StanzaError("not-allowed", text="only registered accounts keep something")
    kept = [document for document in documents if document.data]
    added_bytes = sum(document.size_bytes for document in kept) - state.former_bytes
    # What makes it less is taken even above the quota, which may have been higher once.
    if added_bytes > 0 and state.used_bytes + added_bytes > state.quota.most_bytes:
        raise StanzaError("resource-constraint", text=f"an account keeps at most {state.quota.most_bytes} bytes")
    return [Put(document) if document.data else Delete(document) for document in documents]

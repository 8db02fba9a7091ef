# SPDX-License-Identifier: Apache-2.0
"""Accounts and what they log in with: no password is ever kept, only what SCRAM needs (RFC 5802 section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one account has on record for one SASL mechanism."""

    mechanism: str
    """Such as ``SCRAM-SHA-256``, without ``-PLUS``: channel binding uses the same keys."""
    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


class AccountStore(Protocol):
    """The accounts of all hosts of this server; `bare` is a prepared bare JID."""

    def get(self, bare: str, mechanism: str) -> Credentials | None:
        """Return what `bare` has on record for `mechanism`, or None."""

    def put(self, bare: str, credentials: Credentials) -> None:
        """Store `credentials`, replacing those of the same mechanism; makes the account if it does not exist."""

    def remove(self, bare: str) -> None:
        """Remove the account and all its credentials; no error if there is none."""

    def exists(self, bare: str) -> bool:
        """Return whether there is such an account."""

    def list(self, host: str, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Return at most `limit` bare JIDs of `host` that are greater than `after`, in order of code points."""

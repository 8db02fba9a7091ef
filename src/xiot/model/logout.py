# SPDX-License-Identifier: Apache-2.0
"""When accounts were last online."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Logout:
    """The end of the last session of an account."""

    owner: str
    """Bare JID of the account."""
    at: datetime
    """With time zone, to the microsecond."""
    status: str = ""
    """What the last unavailable presence said (RFC 6121 section 4.5), empty if nothing."""


class LogoutStore(Protocol):
    """The last logout of each account; `owner` is a prepared bare JID."""

    def get(self, owner: str) -> Logout | None:
        """Return the last logout of `owner`, or None if there has been none."""

    def put(self, logouts: Sequence[Logout]) -> None:
        """Store each of `logouts`, replacing that of the same owner, unless its account is gone: a guest's, or one removed while online."""

    def clear(self, owner: str) -> None:
        """Forget the logout of `owner`; no error if there is none."""

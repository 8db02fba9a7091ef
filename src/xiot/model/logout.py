# SPDX-License-Identifier: Apache-2.0
"""When accounts were last online."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from xiot.model.effects import Effect, Put

if TYPE_CHECKING:
    from datetime import datetime

    from xiot.model.effects import Tx


@dataclass(frozen=True, slots=True)
class Logout:
    """The end of the last session of an account."""

    owner: str
    """Bare JID of the account."""
    at: datetime
    """With time zone, to the microsecond."""
    status: str = ""
    """What the last unavailable presence said (RFC 6121 section 4.5), empty if nothing."""

    def put(self, tx: Tx) -> None:
        """Store this logout, in place of an earlier one."""
        tx.logouts.put(self)


def end_of_last_session(logout: Logout, tx: Tx) -> list[Effect]:
    """Keep `logout`, unless its account is gone: a guest's, or one that was removed while online."""
    return [Put(logout)] if tx.accounts.exists(logout.owner) else []


class LogoutStore(Protocol):
    """The last logout of each account; `owner` is a prepared bare JID."""

    def get(self, owner: str) -> Logout | None:
        """Return the last logout of `owner`, or None if there has been none."""

    def put(self, logout: Logout) -> None:
        """Store `logout`, replacing that of the same owner."""

    def clear(self, owner: str) -> None:
        """Forget the logout of `owner`; no error if there is none."""

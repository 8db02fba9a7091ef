# SPDX-License-Identifier: Apache-2.0
"""What a client remembers of an account's server from one login to the next, so that it cannot be talked down."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from xiot.errors import AuthError
from xiot.proto import fast

_STRENGTH = {"PLAIN": 1, "SCRAM-SHA-1": 2, "SCRAM-SHA-256": 3}
"""Others prove something else than a password, and are chosen by other means."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the logins of one account taught us; all false and empty before the first."""

    tls: bool = False
    """We logged in under TLS: from then on never without (security.md section 2, 35)."""
    plus: bool = False
    """We bound a login to the channel: a server that suddenly cannot is somebody else."""
    mechanism: str = ""
    """The strongest by which we proved a password, without ``-PLUS``."""
    client: str = ""
    """The id of our user agent (XEP-0388 section 2.3)."""
    token: fast.Token | None = None
    """For the next login (XEP-0484)."""

    def after(self, mechanism: str, *, secure: bool) -> Known:
        """Return what is known after a login by `mechanism`."""
        name = mechanism.removesuffix("-PLUS")
        return replace(
            self,
            tls=self.tls or secure,
            plus=self.plus or mechanism.endswith("-PLUS"),
            mechanism=name if _STRENGTH.get(name, 0) > _STRENGTH.get(self.mechanism, 0) else self.mechanism,
        )

    def check_tls(self, secure: bool) -> None:
        """Raises AuthError if TLS is missing that there was before."""
        if self.tls and not secure:
            raise AuthError("downgrade", "the server had TLS before, and now it has not")

    def check(self, mechanism: str, acceptable: Collection[str]) -> None:
        """Raises AuthError if `mechanism` is weaker than what the server took before, and we would still accept."""
        name = mechanism.removesuffix("-PLUS")
        if name not in _STRENGTH:
            return
        if self.plus and not mechanism.endswith("-PLUS") and any(other.endswith("-PLUS") for other in acceptable):
            raise AuthError("downgrade", "the server could bind the login to the channel before, and now it cannot")
        stronger = _STRENGTH.get(self.mechanism, 0) > _STRENGTH[name]
        if stronger and self.mechanism in (other.removesuffix("-PLUS") for other in acceptable):
            raise AuthError("downgrade", f"the server took {self.mechanism} before, and now offers {name} at most")


NOTHING = Known()
"""Before the first login."""

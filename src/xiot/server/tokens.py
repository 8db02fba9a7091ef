# SPDX-License-Identifier: Apache-2.0
"""The FAST tokens of a server's accounts: issued and checked, each in one transaction (XEP-0484)."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from xiot.core import JID
from xiot.model import tokens
from xiot.model.effects import Tx, apply
from xiot.proto import fast
from xiot.proto.events import CheckToken
from xiot.proto.scram import secrets_equal
from xiot.store import Store

SALT_BYTES = 16


class Tokens:
    """All tokens of a server."""

    def __init__(self, store: Store, key: bytes, lifetime: timedelta) -> None:
        """`key` and a stored salt make a token; it has to outlive restarts."""
        self._store = store
        self._key = key
        self.lifetime = lifetime

    async def check(self, jid: JID, asked: CheckToken) -> tuple[bytes | None, str, bool]:
        """Judge a login of the account `jid`.

        Returns our proof (None if the login fails), the condition of RFC 6120 section 6.5 if so, and whether the client
        should get another token.
        """
        account, now = str(jid), datetime.now(UTC)

        def proves(token: tokens.Token) -> bool:
            return secrets_equal(fast.initiator(self._secret(token), asked.binding), asked.proof)

        def check(tx: Tx) -> tokens.Verdict:
            verdict = tokens.check(
                tx.tokens.get(account, asked.client),
                asked.mechanism,
                proves,
                count=asked.how.count,
                invalidate=asked.how.invalidate,
                now=now,
            )
            apply(verdict.effects, tx)
            return verdict

        verdict = await self._store.run(check)
        if verdict.token is None:
            return None, verdict.condition, False
        due = not asked.how.invalidate and tokens.due(verdict.token, now)
        return fast.responder(self._secret(verdict.token), asked.binding), "", due

    async def issue(self, jid: JID, client: str, mechanism: str) -> fast.Token | None:
        """Make a token for a client of the account `jid`; None if there is no such account any more."""
        now = datetime.now(UTC).replace(microsecond=0)
        token = tokens.Token(
            str(jid), client, "new", mechanism, secrets.token_bytes(SALT_BYTES), now, now + self.lifetime
        )

        def issue(tx: Tx) -> bool:
            if not tx.accounts.exists(token.account):
                return False
            apply(tokens.issue(token, tx.tokens.list(token.account)), tx)
            return True

        if not await self._store.run(issue):
            return None
        return fast.Token(mechanism, self._secret(token), token.expires.strftime("%Y-%m-%dT%H:%M:%SZ"))

    def _secret(self, token: tokens.Token) -> str:
        text = "\0".join(("fast", token.account, token.client, token.mechanism)).encode()
        return urlsafe_b64encode(hmac.digest(self._key, text + token.salt, "sha256")).decode()

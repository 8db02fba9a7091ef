# SPDX-License-Identifier: Apache-2.0
"""The accounts of a server: made, changed, removed, and checked at login. SCRAM keys are stored, never a password."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import trio

from xiot.core import JID
from xiot.errors import StanzaError, StreamError, XiotError
from xiot.model import presence
from xiot.model.accounts import Credentials
from xiot.model.effects import Effect, Tx
from xiot.proto import scram
from xiot.server.tokens import Tokens
from xiot.store import Store, Transaction
from xiot.xep.register import Registrar

if TYPE_CHECKING:
    from xiot.server.config import Config
    from xiot.server.server import Server

MECHANISMS = tuple(scram.HASHES)
"""Those whose keys are kept for each account."""
PAGE = 1_000
"""Rows that one transaction reads, so that others get their turn."""


class AccountError(XiotError):
    """There is already, or is not, such an account, or the password is not allowed."""


class AccountExists(AccountError):
    """The name is taken."""


class NoSuchAccount(AccountError):
    """Nobody has this name."""


class BadPassword(AccountError):
    """The password is empty, or has characters that RFC 8265 section 4.2 forbids."""


class Accounts:
    """All accounts of a server; every `jid` is a bare JID with a local part, else ValueError. Made by `open`."""

    def __init__(self, store: Store, config: Config, fake_salt_secret: bytes, token_key: bytes) -> None:
        self._store = store
        # PBKDF2 takes a processor for milliseconds; the loop keeps one for itself.
        self._limiter = trio.CapacityLimiter(max(1, (os.cpu_count() or 1) - 1))
        self.fake_salt_secret = fake_salt_secret
        """Makes the salts of accounts that do not exist (`xiot.proto.scram.fake_keys`); kept over restarts."""
        self.subscriptions = presence.Subscriptions()
        """Tells the contacts of an account that it is removed."""
        self.tokens = Tokens(store, token_key, timedelta(days=config.accounts.token_days))
        """What clients may log in again with."""
        self.configure(config)

    @classmethod
    async def open(cls, store: Store, config: Config) -> Accounts:
        """Return the accounts in `store`, which also keeps the secret for fake salts."""
        return cls(store, config, *await store.run(lambda tx: (_secret(tx, "fake-salt"), _secret(tx, "fast-tokens"))))

    def configure(self, config: Config) -> None:
        """Go by `config` from now on."""
        self._iterations = config.accounts.scram_iterations
        self.tokens.lifetime = timedelta(days=config.accounts.token_days)
        self._services = [f"pubsub.{host.name}" for host in config.hosts]

    async def add(self, jid: JID, password: str) -> None:
        """Make the account `jid`. Raises AccountExists, BadPassword."""
        await self._put(jid, password, exists=False)

    async def passwd(self, jid: JID, password: str) -> None:
        """Replace what the account `jid` logs in with. Raises NoSuchAccount, BadPassword."""
        await self._put(jid, password, exists=True)

    async def remove(self, jid: JID) -> None:
        """Remove the account `jid` and all that it has, so that the next one of this name inherits nothing.

        Nodes that it made at a publish-subscribe service stay. Raises NoSuchAccount.
        """
        bare = _bare(jid)

        def remove(tx: Tx) -> list[Effect]:
            if not tx.accounts.exists(bare):
                raise NoSuchAccount(f"there is no account {bare}")
            farewell = presence.end_all(tx, jid)
            tx.accounts.remove(bare)
            for store in (tx.tokens, tx.roster, tx.offline, tx.documents, tx.logouts, tx.blocks):
                store.clear(bare)
            while names := tx.nodes.node_names(bare, limit=PAGE):  # its own service (XEP-0163)
                for name in names:
                    tx.nodes.delete_node(bare, name)
            for subscription in tx.nodes.subscriptions_of(bare):
                subscription.delete(tx)
            for service in self._services:
                for affiliation in tx.nodes.affiliations_of(bare, service):
                    affiliation.delete(tx)
            return farewell

        await self._store.transact(remove, self.subscriptions.perform)

    async def exists(self, jid: JID) -> bool:
        """Return whether there is an account `jid`."""
        bare = _bare(jid)
        return await self._store.run(lambda tx: tx.accounts.exists(bare))

    async def list(self, host: str) -> AsyncIterator[JID]:
        """Yield the accounts of `host`, ordered by code points."""
        page: Sequence[str] = [""]
        while page:
            page = await self._store.run(partial(_page, host, page[-1]))
            for bare in page:
                yield JID(bare)

    def keys(self, jid: JID, mechanism: str) -> scram.ScramKeys | None:
        """Return what `jid` has on record for `mechanism`, which may end in ``-PLUS``; None if nothing. Raises StoreError."""
        bare, name = _bare(jid), mechanism.removesuffix("-PLUS")
        credentials = self._store.glance(lambda tx: tx.accounts.get(bare, name))
        return None if credentials is None else _keys(credentials)

    async def check_plain(self, jid: JID, password: str) -> bool:
        """Return whether `password` is that of `jid`; takes as long if there is no such account."""
        bare = _bare(jid)
        records = await self._store.run(lambda tx: [tx.accounts.get(bare, mechanism) for mechanism in MECHANISMS])
        known = next(filter(None, records), None)
        if known is None:
            mechanism = MECHANISMS[0]
            keys = scram.fake_keys(mechanism, bare, self.fake_salt_secret, self._iterations)
        else:
            mechanism, keys = known.mechanism, _keys(known)
        right = await trio.to_thread.run_sync(scram.check_password, mechanism, password, keys, limiter=self._limiter)
        return right and known is not None

    def registrar(self, server: Server) -> Registrar:
        """Return what lets clients of `server` manage their accounts in-band (XEP-0077)."""
        return _Registrar(self, server)

    async def _put(self, jid: JID, password: str, *, exists: bool) -> None:
        bare = _bare(jid)
        credentials = await trio.to_thread.run_sync(_derive, password, self._iterations, limiter=self._limiter)

        def put(tx: Tx) -> None:
            if tx.accounts.exists(bare) != exists:
                raise (
                    NoSuchAccount(f"there is no account {bare}") if exists else AccountExists(f"{bare} exists already")
                )
            tx.tokens.clear(bare)  # whoever knew the old password may have got one
            for each in credentials:
                tx.accounts.put(bare, each)

        await self._store.run(put)


class _Registrar(Registrar):
    """In-band registration at one server."""

    def __init__(self, accounts: Accounts, server: Server) -> None:
        self._accounts = accounts
        self._server = server

    async def create(self, jid: JID, password: str) -> None:
        with _as_stanza_error():
            await self._accounts.add(jid, password)

    async def set_password(self, jid: JID, password: str) -> None:
        with _as_stanza_error():
            await self._accounts.passwd(jid, password)

    async def remove(self, jid: JID) -> None:
        with _as_stanza_error():
            await self._accounts.remove(jid)

    async def end_sessions(self, jid: JID) -> None:
        self._server.end_sessions(jid, StreamError("not-authorized", "the account was removed"))


@contextmanager
def _as_stanza_error() -> Iterator[None]:
    """Answer as XEP-0077 sections 3.1 to 3.3 say."""
    try:
        yield
    except AccountExists as error:
        raise StanzaError("conflict", text=str(error)) from error
    except NoSuchAccount as error:
        raise StanzaError("registration-required", text=str(error)) from error
    except BadPassword as error:
        raise StanzaError("not-acceptable", text=str(error)) from error


def _bare(jid: JID) -> str:
    if jid.local is None or not jid.is_bare:
        raise ValueError(f"not the JID of an account: {jid}")
    return str(jid)


def _keys(credentials: Credentials) -> scram.ScramKeys:
    return scram.ScramKeys(credentials.salt, credentials.iterations, credentials.stored_key, credentials.server_key)


def _derive(password: str, iterations: int) -> list[Credentials]:
    """Return what to store for `password`, in milliseconds. Raises BadPassword."""
    try:
        pairs = [
            (mechanism, scram.derive_keys(mechanism, password, secrets.token_bytes(scram.SALT_BYTES), iterations))
            for mechanism in MECHANISMS
        ]
    except ValueError as error:
        raise BadPassword(str(error)) from None
    return [
        Credentials(mechanism, keys.salt, keys.iterations, keys.stored_key, keys.server_key)
        for mechanism, keys in pairs
    ]


def _page(host: str, after: str, tx: Tx) -> Sequence[str]:
    return tx.accounts.list(host, after, PAGE)


def _secret(tx: Transaction, name: str) -> bytes:
    secret = tx.secrets.get(name)
    if secret is None:
        secret = secrets.token_bytes(32)
        tx.secrets.put(name, secret)
    return secret

# SPDX-License-Identifier: Apache-2.0
"""The store in memory: for tests, demonstrations, and things that need not remember.

Theory of operation. Each change of a table is noted in a log with what was there before; if the function raises, the
log is undone from its end. The rows themselves are frozen, so what a function was given cannot change later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import trio

from xiot.model.accounts import Credentials
from xiot.model.blocking import Block
from xiot.model.documents import Document, Kind
from xiot.model.durable import DurableSession, Received, Sent
from xiot.model.exi import AgreedSetup, StoredSchema
from xiot.model.logout import Logout
from xiot.model.nodes import Affiliation, Item, Node, Role, Subscription
from xiot.model.offline import Kept
from xiot.model.roster import Request, RosterItem, SubscriptionState
from xiot.model.tokens import Token
from xiot.store.base import Store, Transaction

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
U = TypeVar("U")

_ABSENT: Any = object()


class MemoryStore(Store):
    """A `xiot.store.base.Store` that is empty at first and gone at last."""

    def __init__(self) -> None:
        self._log = _Log()
        self._tx = MemoryTransaction(self._log)

    async def transact(self, fn: Callable[[Transaction], T], then: Callable[[T], U]) -> U:
        """Call ``fn(tx)`` and `then` at once; see `xiot.store.base.Store.transact`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            result = fn(self._tx)
        except BaseException:
            self._log.undo()
            raise
        finally:
            self._log.clear()
        try:
            return then(result)
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def glance(self, fn: Callable[[Transaction], T]) -> T:
        return fn(self._tx)

    def defer(
        self, fn: Callable[[Transaction, Sequence[V]], object], item: V, failed: Callable[[Exception], None]
    ) -> None:
        try:
            fn(self._tx, [item])
        except Exception as error:
            self._log.undo()
            failed(error)
        finally:
            self._log.clear()


class _Items(dict[str, tuple[int, Item]]):
    """The items of a node by id, each with its number, in ascending order of the numbers."""


class _Log:
    """What the open transaction has changed."""

    def __init__(self) -> None:
        self._changes: list[tuple[dict[Any, Any], Any, Any]] = []
        self.clear = self._changes.clear

    def put(self, table: dict[K, V], key: K, value: V) -> None:
        """Set a row, at its old place if there is one."""
        self._changes.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    def delete(self, table: dict[K, V], key: K) -> None:
        """Remove a row, if there is one."""
        if key in table:
            self._changes.append((table, key, table.pop(key)))

    def undo(self) -> None:
        """Restore all rows, and the order of items."""
        shuffled = {}
        for table, key, before in reversed(self._changes):
            if before is _ABSENT:
                del table[key]
            else:
                table[key] = before
                shuffled[id(table)] = table
        for table in shuffled.values():
            if isinstance(table, _Items):
                ordered = sorted(table.items(), key=lambda row: row[1][0])
                table.clear()
                table.update(ordered)


class MemoryTransaction:
    """The open transaction: all the stores, noting changes in the same log."""

    def __init__(self, log: _Log) -> None:
        self.accounts = MemoryAccounts(log)
        self.roster = MemoryRoster(log)
        self.durable = MemoryDurable(log)
        self.nodes = MemoryNodes(log, self.durable)
        self.offline = MemoryOffline(log)
        self.documents = MemoryDocuments(log)
        self.logouts = MemoryLogouts(log, self.accounts)
        self.blocks = MemoryBlocks(log)
        self.secrets = MemorySecrets(log)
        self.tokens = MemoryTokens(log)
        self.exi = MemoryExi(log)


class MemoryAccounts:
    """`xiot.model.accounts.AccountStore` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._accounts: dict[str, dict[str, Credentials]] = {}

    def get(self, bare: str, mechanism: str) -> Credentials | None:
        return self._accounts.get(bare, {}).get(mechanism)

    def put(self, bare: str, credentials: Credentials) -> None:
        if bare not in self._accounts:
            self._log.put(self._accounts, bare, {})
        self._log.put(self._accounts[bare], credentials.mechanism, credentials)

    def remove(self, bare: str) -> None:
        self._log.delete(self._accounts, bare)

    def exists(self, bare: str) -> bool:
        return bare in self._accounts

    def list(self, host: str, after: str = "", limit: int = 1000) -> Sequence[str]:
        return sorted(bare for bare in self._accounts if bare.rpartition("@")[2] == host and bare > after)[:limit]


class MemorySecrets:
    """`xiot.store.base.Secrets` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._secrets: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self._secrets.get(name)

    def put(self, name: str, value: bytes) -> None:
        self._log.put(self._secrets, name, value)


class MemoryExi:
    """`xiot.model.exi.ExiStore` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._setups: dict[str, AgreedSetup] = {}
        self._schemas: dict[tuple[str, int, str], StoredSchema] = {}

    def setups(self) -> Sequence[AgreedSetup]:
        ordered = sorted(self._setups.values(), key=lambda setup: setup.id)
        return sorted(ordered, key=lambda setup: setup.used, reverse=True)

    def put_setup(self, setup: AgreedSetup) -> None:
        self._log.put(self._setups, setup.id, setup)

    def delete_setup(self, id: str) -> None:
        self._log.delete(self._setups, id)

    def schemas(self) -> Sequence[StoredSchema]:
        ordered = sorted(self._schemas.values(), key=lambda schema: (schema.namespace, schema.size, schema.md5))
        return sorted(ordered, key=lambda schema: schema.used, reverse=True)

    def put_schema(self, schema: StoredSchema) -> None:
        self._log.put(self._schemas, (schema.namespace, schema.size, schema.md5), schema)

    def delete_schema(self, namespace: str, size: int, md5: str) -> None:
        self._log.delete(self._schemas, (namespace, size, md5))


class MemoryTokens:
    """`xiot.model.tokens.TokenStore` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._tokens: dict[str, dict[tuple[str, str], Token]] = {}

    def get(self, account: str, client: str) -> Sequence[Token]:
        held = self._tokens.get(account, {})
        return [held[client, slot] for slot in ("new", "current") if (client, slot) in held]

    def list(self, account: str) -> Sequence[Token]:
        return sorted(
            self._tokens.get(account, {}).values(), key=lambda token: (token.expires, token.client, token.slot)
        )

    def put(self, token: Token) -> None:
        if token.account not in self._tokens:
            self._log.put(self._tokens, token.account, {})
        self._log.put(self._tokens[token.account], (token.client, token.slot), token)

    def delete(self, account: str, client: str, slot: str) -> None:
        self._log.delete(self._tokens.get(account, {}), (client, slot))

    def clear(self, account: str) -> None:
        self._log.delete(self._tokens, account)


class MemoryRoster:
    """`xiot.model.roster.RosterStore` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._rosters: dict[str, dict[str, RosterItem]] = {}
        self._versions: dict[str, int] = {}
        self._requests: dict[str, dict[str, Request]] = {}

    def get(self, owner: str, jid: str) -> RosterItem | None:
        return self._rosters.get(owner, {}).get(jid)

    def items(self, owner: str) -> Sequence[RosterItem]:
        return sorted(self._rosters.get(owner, {}).values(), key=lambda item: item.jid)

    def count(self, owner: str) -> int:
        return len(self._rosters.get(owner, {}))

    def put(self, item: RosterItem) -> None:
        if item.owner not in self._rosters:
            self._log.put(self._rosters, item.owner, {})
        self._log.put(self._rosters[item.owner], item.jid, item)

    def delete(self, owner: str, jid: str) -> None:
        self._log.delete(self._rosters.get(owner, {}), jid)

    def version(self, owner: str) -> int:
        return self._versions.get(owner, 0)

    def put_version(self, owner: str, version: int) -> None:
        self._log.put(self._versions, owner, version)

    def lonely(self, owner: str) -> bool:
        return not (self.subscribed(owner) or self.requests(owner))

    def subscribed(self, owner: str) -> Sequence[tuple[str, SubscriptionState]]:
        return [(item.jid, item.subscription) for item in self.items(owner) if item.subscription != "none"]

    def approvals(self, jid: str, limit: int = 1000) -> Sequence[RosterItem]:
        items = (roster.get(jid) for _, roster in sorted(self._rosters.items(), key=lambda row: row[0]))
        return list(islice((item for item in items if item is not None and item.approved), limit))

    def request(self, owner: str, jid: str) -> Request | None:
        return self._requests.get(owner, {}).get(jid)

    def requests(self, owner: str) -> Sequence[Request]:
        return sorted(self._requests.get(owner, {}).values(), key=lambda request: request.jid)

    def request_count(self, owner: str) -> int:
        return len(self._requests.get(owner, {}))

    def put_request(self, request: Request) -> None:
        if request.owner not in self._requests:
            self._log.put(self._requests, request.owner, {})
        self._log.put(self._requests[request.owner], request.jid, request)

    def delete_request(self, owner: str, jid: str) -> None:
        self._log.delete(self._requests.get(owner, {}), jid)

    def clear(self, owner: str) -> None:
        self._log.delete(self._rosters, owner)
        self._log.delete(self._versions, owner)
        self._log.delete(self._requests, owner)


class MemoryOffline:
    """`xiot.model.offline.OfflineStore` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._queues: dict[str, dict[int, Kept]] = {}
        self._last: dict[str, int] = {}

    def usage(self, owner: str) -> tuple[int, int]:
        queue = self._queues.get(owner, {})
        return len(queue), sum(len(kept.stanza) for kept in queue.values())

    def put(self, owner: str, stanza: bytes) -> int:
        if owner not in self._queues:
            self._log.put(self._queues, owner, {})
        id = self._last.get("id", 0) + 1
        self._log.put(self._last, "id", id)
        self._log.put(self._queues[owner], id, Kept(id, stanza))
        return id

    def page(self, owner: str, limit: int, max_bytes: int, skip: Collection[int] = ()) -> Sequence[Kept]:
        page: list[Kept] = []
        octets = 0
        for id, kept in sorted(self._queues.get(owner, {}).items()):
            if id in skip and not page:
                continue
            if id in skip or len(page) == limit:
                break
            octets += len(kept.stanza)
            if page and octets > max_bytes:
                break
            page.append(kept)
        return page

    def delete(self, owner: str, ids: Sequence[int]) -> None:
        for id in ids:
            self._log.delete(self._queues.get(owner, {}), id)

    def clear(self, owner: str) -> None:
        self._log.delete(self._queues, owner)


class MemoryDocuments:
    """`xiot.model.documents.DocumentStore` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._documents: dict[str, dict[tuple[Kind, str], Document]] = {}

    def get(self, owner: str, kind: Kind, name: str) -> Document | None:
        return self._documents.get(owner, {}).get((kind, name))

    def sizes(self, owner: str) -> int:
        return sum(document.size_bytes for document in self._documents.get(owner, {}).values())

    def put(self, document: Document) -> None:
        if document.owner not in self._documents:
            self._log.put(self._documents, document.owner, {})
        self._log.put(self._documents[document.owner], (document.kind, document.name), document)

    def delete(self, owner: str, kind: Kind, name: str) -> None:
        self._log.delete(self._documents.get(owner, {}), (kind, name))

    def clear(self, owner: str) -> None:
        self._log.delete(self._documents, owner)


class MemoryLogouts:
    """`xiot.model.logout.LogoutStore` in memory."""

    def __init__(self, log: _Log, accounts: MemoryAccounts) -> None:
        self._log = log
        self._accounts = accounts
        self._logouts: dict[str, Logout] = {}

    def get(self, owner: str) -> Logout | None:
        return self._logouts.get(owner)

    def put(self, logouts: Sequence[Logout]) -> None:
        for logout in logouts:
            if self._accounts.exists(logout.owner):
                self._log.put(self._logouts, logout.owner, logout)

    def clear(self, owner: str) -> None:
        self._log.delete(self._logouts, owner)


class MemoryBlocks:
    """`xiot.model.blocking.BlockStore` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._blocks: dict[str, dict[str, Block]] = {}

    def jids(self, owner: str) -> Sequence[str]:
        return sorted(self._blocks.get(owner, {}))

    def put(self, block: Block) -> None:
        if block.owner not in self._blocks:
            self._log.put(self._blocks, block.owner, {})
        self._log.put(self._blocks[block.owner], block.jid, block)

    def delete(self, owner: str, jid: str) -> None:
        self._log.delete(self._blocks.get(owner, {}), jid)

    def clear(self, owner: str) -> None:
        self._log.delete(self._blocks, owner)


class MemoryDurable:
    """`xiot.model.durable.DurableStore` in memory."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._sessions: dict[str, DurableSession] = {}
        self._received: dict[int, Received] = {}
        self._last: dict[str, int] = {}
        self._sent: dict[str, dict[int, Sent]] = {}
        self._ids: dict[str, dict[bytes, tuple[int, datetime]]] = {}

    def sessions(self) -> Sequence[DurableSession]:
        return sorted(self._sessions.values(), key=lambda session: session.id)

    def put(self, session: DurableSession) -> None:
        known = self._sessions.get(session.id, session)
        self._log.put(self._sessions, session.id, replace(session, handled=known.handled, sent=known.sent))

    def delete(self, session: str) -> None:
        self._log.delete(self._sessions, session)
        self._log.delete(self._sent, session)

    def count(self, session: str, handled: int) -> None:
        if session in self._sessions:
            self._log.put(self._sessions, session, replace(self._sessions[session], handled=handled))

    def receive(self, session: str, sender: str, stanza: bytes) -> int:
        id = self._last.get("id", 0) + 1
        self._log.put(self._last, "id", id)
        self._log.put(self._received, id, Received(id, session, sender, stanza))
        return id

    def received(self) -> Sequence[Received]:
        return sorted(self._received.values(), key=lambda row: row.id)

    def remove(self, id: int) -> None:
        self._log.delete(self._received, id)

    def send(self, session: str, number: int, stanza: bytes) -> None:
        if session not in self._sent:
            self._log.put(self._sent, session, {})
        self._log.put(self._sent[session], number, Sent(number, stanza))
        if session in self._sessions:
            self._log.put(self._sessions, session, replace(self._sessions[session], sent=number))

    def sent(self, session: str) -> Sequence[Sent]:
        return sorted(self._sent.get(session, {}).values(), key=lambda row: row.number)

    def acknowledge(self, session: str, number: int) -> None:
        sent = self._sent.get(session, {})
        for old in [each for each in sent if each <= number]:
            self._log.delete(sent, old)

    def remembers(self, account: str, key: bytes, since: datetime) -> bool:
        remembered = self._ids.get(account, {}).get(key)
        return remembered is not None and remembered[1] >= since

    def remember(self, account: str, key: bytes, now: datetime, keep: int) -> None:
        if account not in self._ids:
            self._log.put(self._ids, account, {})
        ids = self._ids[account]
        number = max((number for number, _ in ids.values()), default=0) + 1
        self._log.put(ids, key, (number, now))
        for old in [each for each, (at, _) in ids.items() if at <= number - keep]:
            self._log.delete(ids, old)

    def forget(self, before: datetime) -> None:
        for ids in self._ids.values():
            for old in [key for key, (_, at) in ids.items() if at < before]:
                self._log.delete(ids, old)

    def is_bound(self, jid: str) -> bool:
        """Whether a durable session has the full JID `jid`."""
        return any(session.jid == jid for session in self._sessions.values())


class _Node:
    """A node and what belongs to it."""

    def __init__(self) -> None:
        self.items = _Items()
        self.subscriptions: dict[str, Subscription] = {}
        self.affiliations: dict[str, Affiliation] = {}


class MemoryNodes:
    """`xiot.model.nodes.NodeStore` in memory. To put what belongs to a node that is not there raises LookupError."""

    def __init__(self, log: _Log, durable: MemoryDurable) -> None:
        self._log = log
        self._durable = durable
        self._nodes: dict[tuple[str, str], Node] = {}
        self._contents: dict[tuple[str, str], _Node] = {}
        self._last_number = 0

    def node(self, service: str, name: str) -> Node | None:
        return self._nodes.get((service, name))

    def node_names(self, service: str, after: str = "", limit: int = 1000) -> Sequence[str]:
        return sorted(name for at, name in self._nodes if at == service and name > after)[:limit]

    def node_count(self, service: str) -> int:
        return sum(at == service for at, _ in self._nodes)

    def put_node(self, node: Node) -> None:
        key = node.service, node.name
        if key not in self._contents:
            self._log.put(self._contents, key, _Node())
        self._log.put(self._nodes, key, node)

    def delete_node(self, service: str, name: str) -> None:
        self._log.delete(self._nodes, (service, name))
        self._log.delete(self._contents, (service, name))

    def item(self, service: str, node: str, id: str) -> Item | None:
        numbered = self._content(service, node).items.get(id)
        return None if numbered is None else numbered[1]

    def items(self, service: str, node: str, limit: int) -> Sequence[Item]:
        return [item for _, item in islice(reversed(self._content(service, node).items.values()), limit)]

    def item_count(self, service: str, node: str) -> int:
        return len(self._content(service, node).items)

    def oldest_ids(self, service: str, node: str, limit: int) -> Sequence[str]:
        return list(islice(self._content(service, node).items, limit))

    def put_item(self, item: Item) -> None:
        items = self._existing(item.service, item.node).items
        self._log.delete(items, item.id)
        self._last_number += 1
        self._log.put(items, item.id, (self._last_number, item))

    def delete_item(self, service: str, node: str, id: str) -> None:
        self._log.delete(self._content(service, node).items, id)

    def delete_items(self, service: str, node: str, keep: int = 0) -> None:
        items = self._content(service, node).items
        for id in list(islice(items, max(len(items) - keep, 0))):
            self._log.delete(items, id)

    def subscriber_jids(self, service: str, node: str) -> Sequence[str]:
        return sorted(self._content(service, node).subscriptions)

    def subscription(self, service: str, node: str, jid: str) -> Subscription | None:
        return self._content(service, node).subscriptions.get(jid)

    def subscriptions_of(
        self, bare: str, service: str | None = None, node: str | None = None
    ) -> Sequence[Subscription]:
        return [
            content.subscriptions[jid]
            for (at, name), content in sorted(self._contents.items(), key=lambda row: row[0])
            for jid in sorted(content.subscriptions)
            if _bare(jid) == bare and service in (None, at) and node in (None, name)
        ]

    def subscription_count(self, service: str, *, bare: str | None = None, node: str | None = None) -> int:
        return sum(
            bare in (None, _bare(jid))
            for (at, name), content in self._contents.items()
            if at == service and node in (None, name)
            for jid in content.subscriptions
        )

    def put_subscription(self, subscription: Subscription) -> None:
        subscriptions = self._existing(subscription.service, subscription.node).subscriptions
        self._log.put(subscriptions, subscription.jid, subscription)

    def delete_subscription(self, service: str, node: str, jid: str) -> None:
        self._log.delete(self._content(service, node).subscriptions, jid)

    def delete_resource_subscriptions(self, domain: str) -> None:
        for content in self._contents.values():
            for jid in list(content.subscriptions):
                if "/" in jid and _bare(jid).rpartition("@")[2] == domain and not self._durable.is_bound(jid):
                    self._log.delete(content.subscriptions, jid)

    def affiliation(self, service: str, node: str, jid: str) -> Role | None:
        affiliation = self._content(service, node).affiliations.get(jid)
        return None if affiliation is None else affiliation.role

    def affiliations(self, service: str, node: str) -> Sequence[Affiliation]:
        return sorted(self._content(service, node).affiliations.values(), key=lambda affiliation: affiliation.jid)

    def affiliations_of(self, jid: str, service: str) -> Sequence[Affiliation]:
        found = (content.affiliations.get(jid) for (at, _), content in self._contents.items() if at == service)
        return sorted((affiliation for affiliation in found if affiliation), key=lambda affiliation: affiliation.node)

    def put_affiliation(self, affiliation: Affiliation) -> None:
        affiliations = self._existing(affiliation.service, affiliation.node).affiliations
        self._log.put(affiliations, affiliation.jid, affiliation)

    def delete_affiliation(self, service: str, node: str, jid: str) -> None:
        self._log.delete(self._content(service, node).affiliations, jid)

    def _content(self, service: str, node: str) -> _Node:
        return self._contents.get((service, node)) or _Node()

    def _existing(self, service: str, node: str) -> _Node:
        try:
            return self._contents[service, node]
        except KeyError:
            raise LookupError(f"no node {node!r} at {service}") from None


def _bare(jid: str) -> str:
    return jid.partition("/")[0]

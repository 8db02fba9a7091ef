# SPDX-License-Identifier: Apache-2.0
"""The model's stores as SQL, by SQLAlchemy Core. `xiot.store.sqlite` opens a database and runs transactions on it.

Each statement is built once, with its parameters named ``jid_``, ``node_``, ...: to build it anew for each call would
cost five times what running it does.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from xiot.model.accounts import Credentials
from xiot.model.blocking import Block
from xiot.model.documents import Document, Kind
from xiot.model.durable import DurableSession, Received, Sent
from xiot.model.exi import AgreedSetup, StoredSchema
from xiot.model.logout import Logout
from xiot.model.nodes import Affiliation, Item, Node, NodeConfig, Role, Subscription
from xiot.model.offline import Kept
from xiot.model.roster import Request, RosterItem, SubscriptionState
from xiot.model.tokens import Token
from xiot.store import tables as t


def _text(name: str) -> sa.BindParameter[str]:
    """A parameter; the name ends in ``_``, since in an UPDATE that of a column would set it."""
    return sa.bindparam(name, type_=sa.Text)


def _number(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.Integer)


def _put(table: sa.Table, *key: str, keep: Collection[str] = ()) -> sa.Insert:
    """Insert a row, or update the one with this `key`, which is unique, but for the columns to `keep`."""
    statement = insert(table)
    columns = [name for name in table.columns.keys() if name not in key and name not in keep]  # noqa: SIM118
    values = {name: statement.excluded[name] for name in columns}
    return statement.on_conflict_do_update(index_elements=key, set_=values)


class _Rows:
    def __init__(self, connection: sa.Connection) -> None:
        self._execute = connection.execute
        # What each login reads and writes goes to the driver without a layer: it answers in a thirtieth of the time.
        self._driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]


class SqlAccounts(_Rows):
    """`xiot.model.accounts.AccountStore` on SQL."""

    _GET = "SELECT mechanism, salt, iterations, stored_key, server_key FROM credentials WHERE jid = ? AND mechanism = ?"
    _EXISTS = "SELECT 1 FROM accounts WHERE jid = ?"
    _a = t.accounts.c
    _PUT = _put(t.accounts, "jid")
    _PUT_CREDENTIALS = _put(t.credentials, "jid", "mechanism")
    _REMOVE = sa.delete(t.accounts).where(_a.jid == _text("jid_"))
    _LIST = (
        sa.select(_a.jid)
        .where(_a.host == _text("host_"), _a.jid > _text("after_"))
        .order_by(_a.jid)
        .limit(_number("limit_"))
    )

    def get(self, bare: str, mechanism: str) -> Credentials | None:
        row = self._driver.execute(self._GET, (bare, mechanism)).fetchone()
        return None if row is None else Credentials(*row)

    def put(self, bare: str, credentials: Credentials) -> None:
        self._execute(self._PUT, {"jid": bare, "host": bare.rpartition("@")[2]})
        self._execute(self._PUT_CREDENTIALS, {"jid": bare, **asdict(credentials)})

    def remove(self, bare: str) -> None:
        self._execute(self._REMOVE, {"jid_": bare})

    def exists(self, bare: str) -> bool:
        return self._driver.execute(self._EXISTS, (bare,)).fetchone() is not None

    def list(self, host: str, after: str = "", limit: int = 1000) -> Sequence[str]:
        return self._execute(self._LIST, {"host_": host, "after_": after, "limit_": limit}).scalars().all()


class SqlSecrets(_Rows):
    """`xiot.store.base.Secrets` on SQL."""

    _GET = sa.select(t.secrets.c.value).where(t.secrets.c.name == _text("name_"))
    _PUT = _put(t.secrets, "name")

    def get(self, name: str) -> bytes | None:
        return self._execute(self._GET, {"name_": name}).scalar()

    def put(self, name: str, value: bytes) -> None:
        self._execute(self._PUT, {"name": name, "value": value})


class SqlTokens(_Rows):
    """`xiot.model.tokens.TokenStore` on SQL."""

    _k = t.tokens.c
    _OF_ACCOUNT = _k.account == _text("account_")
    _OF_CLIENT = sa.and_(_OF_ACCOUNT, _k.client == _text("client_"))
    _GET = sa.select(t.tokens).where(_OF_CLIENT).order_by(_k.slot.desc())
    _LIST = sa.select(t.tokens).where(_OF_ACCOUNT).order_by(_k.expires, _k.client, _k.slot)
    _PUT = _put(t.tokens, "account", "client", "slot")
    _DELETE = sa.delete(t.tokens).where(_OF_CLIENT, _k.slot == _text("slot_"))
    _CLEAR = sa.delete(t.tokens).where(_OF_ACCOUNT)

    def get(self, account: str, client: str) -> Sequence[Token]:
        return [Token(*row) for row in self._execute(self._GET, {"account_": account, "client_": client})]

    def list(self, account: str) -> Sequence[Token]:
        return [Token(*row) for row in self._execute(self._LIST, {"account_": account})]

    def put(self, token: Token) -> None:
        self._execute(self._PUT, asdict(token))

    def delete(self, account: str, client: str, slot: str) -> None:
        self._execute(self._DELETE, {"account_": account, "client_": client, "slot_": slot})

    def clear(self, account: str) -> None:
        self._execute(self._CLEAR, {"account_": account})


class SqlRoster(_Rows):
    """`xiot.model.roster.RosterStore` on SQL."""

    _i, _v = t.roster_items.c, t.roster_versions.c
    _KEY = sa.and_(_i.owner == _text("owner_"), _i.jid == _text("jid_"))
    _GET = sa.select(t.roster_items).where(_KEY)
    _ITEMS = sa.select(t.roster_items).where(_i.owner == _text("owner_")).order_by(_i.jid)
    _COUNT = sa.select(sa.func.count()).where(_i.owner == _text("owner_"))
    _PUT = _put(t.roster_items, "owner", "jid")
    _DELETE = sa.delete(t.roster_items).where(_KEY)
    _VERSION = sa.select(_v.version).where(_v.owner == _text("owner_"))
    _PUT_VERSION = _put(t.roster_versions, "owner")
    _CLEAR_ITEMS = sa.delete(t.roster_items).where(_i.owner == _text("owner_"))
    _CLEAR_VERSION = sa.delete(t.roster_versions).where(_v.owner == _text("owner_"))
    _ANYBODY = (
        "SELECT 1 FROM roster_items WHERE owner = ? AND subscription != 'none' "
        "UNION ALL SELECT 1 FROM roster_requests WHERE owner = ? LIMIT 1"
    )
    _SUBSCRIBED = "SELECT jid, subscription FROM roster_items WHERE owner = ? AND subscription != 'none' ORDER BY jid"
    _APPROVALS = (
        sa.select(t.roster_items)
        .where(_i.jid == _text("jid_"), _i.approved)
        .order_by(_i.owner)
        .limit(_number("limit_"))
    )
    _r = t.roster_requests.c
    _REQUEST_KEY = sa.and_(_r.owner == _text("owner_"), _r.jid == _text("jid_"))
    _REQUEST = sa.select(t.roster_requests).where(_REQUEST_KEY)
    _REQUESTS = "SELECT owner, jid, stanza FROM roster_requests WHERE owner = ? ORDER BY jid"
    _COUNT_REQUESTS = sa.select(sa.func.count()).where(_r.owner == _text("owner_"))
    _PUT_REQUEST = _put(t.roster_requests, "owner", "jid")
    _DELETE_REQUEST = sa.delete(t.roster_requests).where(_REQUEST_KEY)
    _CLEAR_REQUESTS = sa.delete(t.roster_requests).where(_r.owner == _text("owner_"))

    def get(self, owner: str, jid: str) -> RosterItem | None:
        row = self._execute(self._GET, {"owner_": owner, "jid_": jid}).one_or_none()
        return None if row is None else _roster_item(row)

    def items(self, owner: str) -> Sequence[RosterItem]:
        return [_roster_item(row) for row in self._execute(self._ITEMS, {"owner_": owner})]

    def count(self, owner: str) -> int:
        return self._execute(self._COUNT, {"owner_": owner}).scalar_one()

    def put(self, item: RosterItem) -> None:
        self._execute(self._PUT, {**asdict(item), "groups": sorted(item.groups)})

    def delete(self, owner: str, jid: str) -> None:
        self._execute(self._DELETE, {"owner_": owner, "jid_": jid})

    def version(self, owner: str) -> int:
        return self._execute(self._VERSION, {"owner_": owner}).scalar() or 0

    def put_version(self, owner: str, version: int) -> None:
        self._execute(self._PUT_VERSION, {"owner": owner, "version": version})

    def lonely(self, owner: str) -> bool:
        return self._driver.execute(self._ANYBODY, (owner, owner)).fetchone() is None

    def subscribed(self, owner: str) -> Sequence[tuple[str, SubscriptionState]]:
        return self._driver.execute(self._SUBSCRIBED, (owner,)).fetchall()

    def approvals(self, jid: str, limit: int = 1000) -> Sequence[RosterItem]:
        return [_roster_item(row) for row in self._execute(self._APPROVALS, {"jid_": jid, "limit_": limit})]

    def request(self, owner: str, jid: str) -> Request | None:
        row = self._execute(self._REQUEST, {"owner_": owner, "jid_": jid}).one_or_none()
        return None if row is None else Request(*row)

    def requests(self, owner: str) -> Sequence[Request]:
        return [Request(*row) for row in self._driver.execute(self._REQUESTS, (owner,))]

    def request_count(self, owner: str) -> int:
        return self._execute(self._COUNT_REQUESTS, {"owner_": owner}).scalar_one()

    def put_request(self, request: Request) -> None:
        self._execute(self._PUT_REQUEST, asdict(request))

    def delete_request(self, owner: str, jid: str) -> None:
        self._execute(self._DELETE_REQUEST, {"owner_": owner, "jid_": jid})

    def clear(self, owner: str) -> None:
        for statement in (self._CLEAR_ITEMS, self._CLEAR_VERSION, self._CLEAR_REQUESTS):
            self._execute(statement, {"owner_": owner})


class SqlOffline(_Rows):
    """`xiot.model.offline.OfflineStore` on SQL."""

    _m = t.offline_messages.c
    _MINE = _m.owner == _text("owner_")
    _USAGE = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_m.bytes), 0)).where(_MINE)
    _PUT = sa.insert(t.offline_messages).returning(_m.id)
    _SIZES = "SELECT id, bytes FROM offline_messages WHERE owner = ? ORDER BY id LIMIT ?"
    _PAGE = sa.select(_m.id, _m.stanza).where(_MINE, _m.id.between(_number("first_"), _number("last_"))).order_by(_m.id)
    _DELETE = sa.delete(t.offline_messages).where(_MINE, _m.id == _number("id_"))
    _CLEAR = sa.delete(t.offline_messages).where(_MINE)

    def usage(self, owner: str) -> tuple[int, int]:
        items, octets = self._execute(self._USAGE, {"owner_": owner}).one()
        return items, octets

    def put(self, owner: str, stanza: bytes) -> int:
        row = {"owner": owner, "bytes": len(stanza), "stanza": stanza}
        id: int = self._execute(self._PUT, row).scalar_one()
        return id

    def page(self, owner: str, limit: int, max_bytes: int, skip: Collection[int] = ()) -> Sequence[Kept]:
        page: list[int] = []
        octets = 0
        for id, size in self._driver.execute(self._SIZES, (owner, limit + len(skip))).fetchall():
            if id in skip and not page:
                continue
            octets += size
            if id in skip or len(page) == limit or (page and octets > max_bytes):
                break
            page.append(id)
        if not page:
            return []
        ends = {"owner_": owner, "first_": page[0], "last_": page[-1]}
        return [Kept(*row) for row in self._execute(self._PAGE, ends)]

    def delete(self, owner: str, ids: Sequence[int]) -> None:
        if ids:
            self._execute(self._DELETE, [{"owner_": owner, "id_": id} for id in ids])

    def clear(self, owner: str) -> None:
        self._execute(self._CLEAR, {"owner_": owner})


class SqlNodes(_Rows):
    """`xiot.model.nodes.NodeStore` on SQL. To put what belongs to a node that is not there raises LookupError."""

    _n, _i, _s, _a = t.nodes.c, t.items.c, t.subscriptions.c, t.affiliations.c
    _OF_SERVICE = _n.service == _text("service_")
    _THIS = sa.and_(_OF_SERVICE, _n.name == _text("node_"))
    _ID = sa.select(_n.id).where(_THIS)
    _THIS_ID = _ID.scalar_subquery()

    _NODE = sa.select(_n.creator, _n.created, _n.config).where(_THIS)
    _NAMES = sa.select(_n.name).where(_OF_SERVICE, _n.name > _text("after_")).order_by(_n.name).limit(_number("limit_"))
    _COUNT = sa.select(sa.func.count()).where(_OF_SERVICE)
    _PUT = _put(t.nodes, "service", "name", keep=("id", "item_count", "last_seq"))
    _DELETE = sa.delete(t.nodes).where(_THIS)

    _OF_NODE = sa.select(_i.id, _i.publisher, _i.published, _i.payload).where(_i.node_id == _THIS_ID)
    _ITEM = _OF_NODE.where(_i.id == _text("id_"))
    _NEWEST = _OF_NODE.order_by(_i.seq.desc()).limit(_number("limit_"))
    _OLDEST = sa.select(_i.id).where(_i.node_id == _THIS_ID).order_by(_i.seq).limit(_number("limit_"))
    _ITEM_COUNT = sa.select(_n.item_count).where(_THIS)
    _REPLACED = sa.select(sa.func.count()).where(_i.node_id == _n.id, _i.id == _text("id_")).scalar_subquery()
    _NUMBER = (
        sa.update(t.nodes)
        .where(_THIS)
        .values(last_seq=_n.last_seq + 1, item_count=_n.item_count + 1 - _REPLACED)
        .returning(_n.id, _n.last_seq)
    )
    _PUT_ITEM = _put(t.items, "node_id", "id")
    _DELETE_ITEM = sa.delete(t.items).where(_i.node_id == _THIS_ID, _i.id == _text("id_"))
    _NEWEST_TO_DELETE = (
        sa.select(_i.seq).where(_i.node_id == _THIS_ID).order_by(_i.seq.desc()).limit(1).offset(_number("keep_"))
    )
    _DELETE_ITEMS = sa.delete(t.items).where(_i.node_id == _THIS_ID, _i.seq <= _NEWEST_TO_DELETE.scalar_subquery())
    _FEWER = sa.update(t.nodes).where(_THIS).values(item_count=_n.item_count - _number("deleted_"))

    _SUBSCRIBERS = sa.select(_s.jid).where(_s.node_id == _THIS_ID).order_by(_s.jid)
    _SUBSCRIPTION = sa.select(_s.jid).where(_s.node_id == _THIS_ID, _s.jid == _text("jid_"))
    _SUBSCRIPTIONS_OF = (
        sa.select(_n.service, _n.name, _s.jid)
        .join_from(t.subscriptions, t.nodes)
        .where(_s.bare == _text("jid_"))
        .where(_text("service_").is_(None) | _OF_SERVICE, _text("node_").is_(None) | (_n.name == _text("node_")))
        .order_by(_n.service, _n.name, _s.jid)
    )
    _AT = sa.select(sa.func.count()).select_from(t.subscriptions.join(t.nodes)).where(_OF_SERVICE)
    _AT_NODE = _AT.where(_n.name == _text("node_"))
    _OF_BARE = _s.bare == _text("jid_")
    _SUBSCRIPTION_COUNTS: ClassVar = {
        (False, False): _AT,
        (True, False): _AT.where(_OF_BARE),
        (False, True): _AT_NODE,
        (True, True): _AT_NODE.where(_OF_BARE),
    }
    _PUT_SUBSCRIPTION = _put(t.subscriptions, "node_id", "jid")
    _DELETE_SUBSCRIPTION = sa.delete(t.subscriptions).where(_s.node_id == _THIS_ID, _s.jid == _text("jid_"))
    _DELETE_OF_RESOURCES = sa.delete(t.subscriptions).where(
        _s.domain == _text("domain_"), _s.jid != _s.bare, _s.jid.not_in(sa.select(t.durable_sessions.c.jid))
    )

    _AFFILIATION = sa.select(_a.role).where(_a.node_id == _THIS_ID, _a.jid == _text("jid_"))
    _AFFILIATIONS = sa.select(_a.jid, _a.role).where(_a.node_id == _THIS_ID).order_by(_a.jid)
    _AFFILIATIONS_OF = (
        sa.select(_n.name, _a.role)
        .join_from(t.affiliations, t.nodes)
        .where(_a.jid == _text("jid_"), _OF_SERVICE)
        .order_by(_n.name)
    )
    _PUT_AFFILIATION = _put(t.affiliations, "node_id", "jid")
    _DELETE_AFFILIATION = sa.delete(t.affiliations).where(_a.node_id == _THIS_ID, _a.jid == _text("jid_"))

    def node(self, service: str, name: str) -> Node | None:
        row = self._execute(self._NODE, {"service_": service, "node_": name}).one_or_none()
        return None if row is None else Node(service, name, row.creator, row.created, NodeConfig(**row.config))

    def node_names(self, service: str, after: str = "", limit: int = 1000) -> Sequence[str]:
        return self._execute(self._NAMES, {"service_": service, "after_": after, "limit_": limit}).scalars().all()

    def node_count(self, service: str) -> int:
        return self._execute(self._COUNT, {"service_": service}).scalar_one()

    def put_node(self, node: Node) -> None:
        self._execute(self._PUT, asdict(node))

    def delete_node(self, service: str, name: str) -> None:
        self._execute(self._DELETE, {"service_": service, "node_": name})

    def item(self, service: str, node: str, id: str) -> Item | None:
        row = self._execute(self._ITEM, {"service_": service, "node_": node, "id_": id}).one_or_none()
        return None if row is None else Item(service, node, *row)

    def items(self, service: str, node: str, limit: int) -> Sequence[Item]:
        rows = self._execute(self._NEWEST, {"service_": service, "node_": node, "limit_": limit})
        return [Item(service, node, *row) for row in rows]

    def item_count(self, service: str, node: str) -> int:
        return self._execute(self._ITEM_COUNT, {"service_": service, "node_": node}).scalar() or 0

    def oldest_ids(self, service: str, node: str, limit: int) -> Sequence[str]:
        return self._execute(self._OLDEST, {"service_": service, "node_": node, "limit_": limit}).scalars().all()

    def put_item(self, item: Item) -> None:
        key = {"service_": item.service, "node_": item.node, "id_": item.id}
        row = self._execute(self._NUMBER, key).one_or_none()
        if row is None:
            raise LookupError(f"no node {item.node!r} at {item.service}")
        values = {"publisher": item.publisher, "published": item.published, "payload": item.payload}
        self._execute(self._PUT_ITEM, {"node_id": row.id, "id": item.id, "seq": row.last_seq, **values})

    def delete_item(self, service: str, node: str, id: str) -> None:
        self._delete(self._DELETE_ITEM, {"service_": service, "node_": node, "id_": id})

    def delete_items(self, service: str, node: str, keep: int = 0) -> None:
        self._delete(self._DELETE_ITEMS, {"service_": service, "node_": node, "keep_": keep})

    def subscriber_jids(self, service: str, node: str) -> Sequence[str]:
        return self._execute(self._SUBSCRIBERS, {"service_": service, "node_": node}).scalars().all()

    def subscription(self, service: str, node: str, jid: str) -> Subscription | None:
        row = self._execute(self._SUBSCRIPTION, {"service_": service, "node_": node, "jid_": jid}).one_or_none()
        return None if row is None else Subscription(service, node, jid)

    def subscriptions_of(
        self, bare: str, service: str | None = None, node: str | None = None
    ) -> Sequence[Subscription]:
        rows = self._execute(self._SUBSCRIPTIONS_OF, {"jid_": bare, "service_": service, "node_": node})
        return [Subscription(*row) for row in rows]

    def subscription_count(self, service: str, *, bare: str | None = None, node: str | None = None) -> int:
        statement = self._SUBSCRIPTION_COUNTS[bare is not None, node is not None]
        return self._execute(statement, {"service_": service, "jid_": bare, "node_": node}).scalar_one()

    def put_subscription(self, subscription: Subscription) -> None:
        node_id = self._node_id(subscription.service, subscription.node)
        bare = subscription.jid.partition("/")[0]
        values = {"bare": bare, "domain": bare.rpartition("@")[2]}
        self._execute(self._PUT_SUBSCRIPTION, {"node_id": node_id, "jid": subscription.jid, **values})

    def delete_subscription(self, service: str, node: str, jid: str) -> None:
        self._execute(self._DELETE_SUBSCRIPTION, {"service_": service, "node_": node, "jid_": jid})

    def delete_resource_subscriptions(self, domain: str) -> None:
        self._execute(self._DELETE_OF_RESOURCES, {"domain_": domain})

    def affiliation(self, service: str, node: str, jid: str) -> Role | None:
        role: Role | None = self._execute(self._AFFILIATION, {"service_": service, "node_": node, "jid_": jid}).scalar()
        return role

    def affiliations(self, service: str, node: str) -> Sequence[Affiliation]:
        rows = self._execute(self._AFFILIATIONS, {"service_": service, "node_": node})
        return [Affiliation(service, node, *row) for row in rows]

    def affiliations_of(self, jid: str, service: str) -> Sequence[Affiliation]:
        rows = self._execute(self._AFFILIATIONS_OF, {"jid_": jid, "service_": service})
        return [Affiliation(service, row.name, jid, row.role) for row in rows]

    def put_affiliation(self, affiliation: Affiliation) -> None:
        node_id = self._node_id(affiliation.service, affiliation.node)
        self._execute(self._PUT_AFFILIATION, {"node_id": node_id, "jid": affiliation.jid, "role": affiliation.role})

    def delete_affiliation(self, service: str, node: str, jid: str) -> None:
        self._execute(self._DELETE_AFFILIATION, {"service_": service, "node_": node, "jid_": jid})

    def _delete(self, statement: sa.Delete, parameters: dict[str, str | int]) -> None:
        """Delete items of one node, and keep its count right."""
        deleted = self._execute(statement, parameters).rowcount
        if deleted:
            node = {"service_": parameters["service_"], "node_": parameters["node_"]}
            self._execute(self._FEWER, {**node, "deleted_": deleted})

    def _node_id(self, service: str, name: str) -> int:
        id: int | None = self._execute(self._ID, {"service_": service, "node_": name}).scalar()
        if id is None:
            raise LookupError(f"no node {name!r} at {service}")
        return id


class SqlDocuments(_Rows):
    """`xiot.model.documents.DocumentStore` on SQL."""

    _d = t.documents.c
    _OWNER = _d.owner == _text("owner_")
    _KEY = sa.and_(_OWNER, _d.kind == _text("kind_"), _d.name == _text("name_"))
    _GET = sa.select(_d.data).where(_KEY)
    _SIZES = sa.select(sa.func.coalesce(sa.func.sum(_d.size_bytes), 0)).where(_OWNER)
    _PUT = _put(t.documents, "owner", "kind", "name")
    _DELETE = sa.delete(t.documents).where(_KEY)
    _CLEAR = sa.delete(t.documents).where(_OWNER)

    def get(self, owner: str, kind: Kind, name: str) -> Document | None:
        row = self._execute(self._GET, {"owner_": owner, "kind_": kind, "name_": name}).one_or_none()
        return None if row is None else Document(owner, kind, name, row.data)

    def sizes(self, owner: str) -> int:
        total: int = self._execute(self._SIZES, {"owner_": owner}).scalar_one()
        return total

    def put(self, document: Document) -> None:
        self._execute(self._PUT, {**asdict(document), "size_bytes": document.size_bytes})

    def delete(self, owner: str, kind: Kind, name: str) -> None:
        self._execute(self._DELETE, {"owner_": owner, "kind_": kind, "name_": name})

    def clear(self, owner: str) -> None:
        self._execute(self._CLEAR, {"owner_": owner})


class SqlLogouts(_Rows):
    """`xiot.model.logout.LogoutStore` on SQL."""

    _l = t.logouts.c
    _GET = sa.select(t.logouts).where(_l.owner == _text("owner_"))
    # One statement for as many as have come together: each one that is run lets go of the interpreter and waits for it again.
    _PUT = (
        "INSERT INTO logouts (owner, at, status) "
        "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?) "
        "WHERE EXISTS (SELECT 1 FROM accounts WHERE jid = json_extract(value, '$[0]')) "
        "ON CONFLICT (owner) DO UPDATE SET at = excluded.at, status = excluded.status"
    )
    _CLEAR = sa.delete(t.logouts).where(_l.owner == _text("owner_"))

    def get(self, owner: str) -> Logout | None:
        row = self._execute(self._GET, {"owner_": owner}).one_or_none()
        return None if row is None else Logout(*row)

    def put(self, logouts: Sequence[Logout]) -> None:
        rows = [(logout.owner, t.microseconds(logout.at), logout.status) for logout in logouts]
        self._driver.execute(self._PUT, (json.dumps(rows),))

    def clear(self, owner: str) -> None:
        self._execute(self._CLEAR, {"owner_": owner})


class SqlBlocks(_Rows):
    """`xiot.model.blocking.BlockStore` on SQL."""

    _b = t.blocks.c
    _JIDS = "SELECT jid FROM blocks WHERE owner = ? ORDER BY jid"
    _PUT = insert(t.blocks).on_conflict_do_nothing()
    _DELETE = sa.delete(t.blocks).where(_b.owner == _text("owner_"), _b.jid == _text("jid_"))
    _CLEAR = sa.delete(t.blocks).where(_b.owner == _text("owner_"))

    def jids(self, owner: str) -> Sequence[str]:
        return [jid for (jid,) in self._driver.execute(self._JIDS, (owner,))]

    def put(self, block: Block) -> None:
        self._execute(self._PUT, asdict(block))

    def delete(self, owner: str, jid: str) -> None:
        self._execute(self._DELETE, {"owner_": owner, "jid_": jid})

    def clear(self, owner: str) -> None:
        self._execute(self._CLEAR, {"owner_": owner})


class SqlDurable(_Rows):
    """`xiot.model.durable.DurableStore` on SQL."""

    _l, _r, _o, _i = t.durable_sessions.c, t.durable_received.c, t.durable_sent.c, t.durable_ids.c
    _THIS = _l.id == _text("id_")
    _OF_THIS = _o.session == _text("id_")
    _OF_ACCOUNT = _i.account == _text("account_")
    _SESSIONS = sa.select(t.durable_sessions).order_by(_l.id)
    _PUT = _put(t.durable_sessions, "id", keep=("handled", "sent"))
    _DELETE = sa.delete(t.durable_sessions).where(_THIS)
    _COUNT = sa.update(t.durable_sessions).where(_THIS).values(handled=_number("count_"))
    _RECEIVE = sa.insert(t.durable_received).returning(_r.id)
    _RECEIVED = sa.select(t.durable_received).order_by(_r.id)
    _REMOVE = sa.delete(t.durable_received).where(_r.id == _number("number_"))
    _SEND = _put(t.durable_sent, "session", "number")
    _COUNT_SENT = sa.update(t.durable_sessions).where(_THIS).values(sent=_number("count_"))
    _SENT = sa.select(_o.number, _o.stanza).where(_OF_THIS).order_by(_o.number)
    _DELETE_SENT = sa.delete(t.durable_sent).where(_OF_THIS)
    _ACKNOWLEDGE = _DELETE_SENT.where(_o.number <= _number("number_"))
    _REMEMBERED = sa.select(_i.at).where(_OF_ACCOUNT, _i.key == sa.bindparam("key_", type_=sa.LargeBinary))
    _LAST = sa.select(sa.func.coalesce(sa.func.max(_i.number), 0)).where(_OF_ACCOUNT)
    _REMEMBER = _put(t.durable_ids, "account", "key")
    _FORGET_OLDEST = sa.delete(t.durable_ids).where(_OF_ACCOUNT, _i.number <= _number("number_"))
    _FORGET = sa.delete(t.durable_ids).where(_i.at < sa.bindparam("before_", type_=t.Timestamp))

    def sessions(self) -> Sequence[DurableSession]:
        return [DurableSession(*row) for row in self._execute(self._SESSIONS)]

    def put(self, session: DurableSession) -> None:
        self._execute(self._PUT, asdict(session))

    def delete(self, session: str) -> None:
        self._execute(self._DELETE, {"id_": session})
        self._execute(self._DELETE_SENT, {"id_": session})

    def count(self, session: str, handled: int) -> None:
        self._execute(self._COUNT, {"id_": session, "count_": handled})

    def receive(self, session: str, sender: str, stanza: bytes) -> int:
        row = {"session": session, "sender": sender, "stanza": stanza}
        id: int = self._execute(self._RECEIVE, row).scalar_one()
        return id

    def received(self) -> Sequence[Received]:
        return [Received(*row) for row in self._execute(self._RECEIVED)]

    def remove(self, id: int) -> None:
        self._execute(self._REMOVE, {"number_": id})

    def send(self, session: str, number: int, stanza: bytes) -> None:
        self._execute(self._SEND, {"session": session, "number": number, "stanza": stanza})
        self._execute(self._COUNT_SENT, {"id_": session, "count_": number})

    def sent(self, session: str) -> Sequence[Sent]:
        return [Sent(*row) for row in self._execute(self._SENT, {"id_": session})]

    def acknowledge(self, session: str, number: int) -> None:
        self._execute(self._ACKNOWLEDGE, {"id_": session, "number_": number})

    def remembers(self, account: str, key: bytes, since: datetime) -> bool:
        at: datetime | None = self._execute(self._REMEMBERED, {"account_": account, "key_": key}).scalar()
        return at is not None and at >= since

    def remember(self, account: str, key: bytes, now: datetime, keep: int) -> None:
        number = self._execute(self._LAST, {"account_": account}).scalar_one() + 1
        self._execute(self._REMEMBER, {"account": account, "number": number, "key": key, "at": now})
        self._execute(self._FORGET_OLDEST, {"account_": account, "number_": number - keep})

    def forget(self, before: datetime) -> None:
        self._execute(self._FORGET, {"before_": before})


class SqlExi(_Rows):
    """`xiot.model.exi.ExiStore` on SQL."""

    _s, _f = t.exi_setups.c, t.exi_schemas.c
    _SETUPS = sa.select(t.exi_setups).order_by(_s.used.desc(), _s.id)
    _PUT_SETUP = _put(t.exi_setups, "id")
    _DELETE_SETUP = sa.delete(t.exi_setups).where(_s.id == _text("id_"))
    _SCHEMAS = sa.select(t.exi_schemas).order_by(_f.used.desc(), _f.namespace, _f.size, _f.md5)
    _PUT_SCHEMA = _put(t.exi_schemas, "namespace", "size", "md5")
    _DELETE_SCHEMA = sa.delete(t.exi_schemas).where(
        _f.namespace == _text("namespace_"), _f.size == _number("size_"), _f.md5 == _text("md5_")
    )

    def setups(self) -> Sequence[AgreedSetup]:
        return [AgreedSetup(*row) for row in self._execute(self._SETUPS)]

    def put_setup(self, setup: AgreedSetup) -> None:
        self._execute(self._PUT_SETUP, asdict(setup))

    def delete_setup(self, id: str) -> None:
        self._execute(self._DELETE_SETUP, {"id_": id})

    def schemas(self) -> Sequence[StoredSchema]:
        return [StoredSchema(*row) for row in self._execute(self._SCHEMAS)]

    def put_schema(self, schema: StoredSchema) -> None:
        self._execute(self._PUT_SCHEMA, asdict(schema))

    def delete_schema(self, namespace: str, size: int, md5: str) -> None:
        self._execute(self._DELETE_SCHEMA, {"namespace_": namespace, "size_": size, "md5_": md5})


class SqlTransaction:
    """One open transaction: all the stores, on the same `connection`."""

    def __init__(self, connection: sa.Connection) -> None:
        self.accounts = SqlAccounts(connection)
        self.roster = SqlRoster(connection)
        self.nodes = SqlNodes(connection)
        self.offline = SqlOffline(connection)
        self.documents = SqlDocuments(connection)
        self.logouts = SqlLogouts(connection)
        self.blocks = SqlBlocks(connection)
        self.secrets = SqlSecrets(connection)
        self.tokens = SqlTokens(connection)
        self.durable = SqlDurable(connection)
        self.exi = SqlExi(connection)


def _roster_item(row: sa.Row[Any]) -> RosterItem:
    return RosterItem(row.owner, row.jid, row.name, frozenset(row.groups), row.subscription, row.ask, row.approved)

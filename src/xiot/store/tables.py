# SPDX-License-Identifier: Apache-2.0
"""The schema of the SQL store.

Text is never truncated: keys are whole prepared JIDs and whole node names. SQLite orders TEXT by its UTF-8 octets,
which is the order of code points that the Protocols of `xiot.model` promise. A change here needs a migration in
`xiot.store.migrations`, and a new `REVISION`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

REVISION = "0006"
"""The newest migration: what a database must be at for this code."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Return `at` as a `Timestamp` is stored."""
    return (at - _EPOCH) // _MICROSECOND


class Timestamp(sa.TypeDecorator[datetime]):
    """A moment, as the integer number of microseconds since 1970 in UTC: exact, and SQLite has no type of its own."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else microseconds(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = sa.MetaData()

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("jid", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Index("accounts_by_host", "host", "jid"),
    sqlite_with_rowid=False,
)

credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("jid", sa.ForeignKey("accounts.jid", ondelete="CASCADE"), primary_key=True),
    sa.Column("mechanism", sa.Text, primary_key=True),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("iterations", sa.Integer, nullable=False),
    sa.Column("stored_key", sa.LargeBinary, nullable=False),
    sa.Column("server_key", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("mechanism", sa.Text, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("issued", Timestamp, nullable=False),
    sa.Column("expires", Timestamp, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

roster_items = sa.Table(
    "roster_items",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("jid", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("groups", sa.JSON, nullable=False),
    sa.Column("subscription", sa.Text, nullable=False),
    sa.Column("ask", sa.Boolean, nullable=False),
    sa.Column("approved", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)

roster_versions = sa.Table(
    "roster_versions",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

sa.Index(  # read when an account is removed
    "roster_items_approved",
    roster_items.c.jid,
    roster_items.c.owner,
    sqlite_where=sa.text("approved = 1"),  # as a statement has it
)

roster_requests = sa.Table(
    "roster_requests",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("jid", sa.Text, primary_key=True),
    sa.Column("stanza", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

offline_messages = sa.Table(
    "offline_messages",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("stanza", sa.LargeBinary, nullable=False),
    # Each message that is kept asks how many there are: answered from the index, without reading any.
    sa.Index("offline_messages_by_owner", "owner", "id", "bytes"),
    sqlite_autoincrement=True,  # an id that was given away must not come again
)

# What belongs to a node names it by a number: a service and a node name in each of 10^6 items, and in their indexes,
# would cost more than most readings do.
nodes = sa.Table(
    "pubsub_nodes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("creator", sa.Text, nullable=False),
    sa.Column("created", Timestamp, nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("item_count", sa.Integer, nullable=False, server_default="0"),  # every publish asks; COUNT(*) is linear
    sa.Column("last_seq", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("service", "name"),
)

items = sa.Table(
    "pubsub_items",
    metadata,
    sa.Column("node_id", sa.ForeignKey("pubsub_nodes.id", ondelete="CASCADE"), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),  # the order of items: the highest is the newest
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("publisher", sa.Text, nullable=False),
    sa.Column("published", Timestamp, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("node_id", "id"),
    sa.Index("pubsub_items_by_age", "node_id", "seq", unique=True),
)

subscriptions = sa.Table(
    "pubsub_subscriptions",
    metadata,
    sa.Column("node_id", sa.ForeignKey("pubsub_nodes.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("jid", sa.Text, primary_key=True),
    sa.Column("bare", sa.Text, nullable=False, index=True),
    sa.Column("domain", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(  # read when a host starts
    "pubsub_subscriptions_of_resources",
    subscriptions.c.domain,
    sqlite_where=subscriptions.c.jid != subscriptions.c.bare,
)

affiliations = sa.Table(
    "pubsub_affiliations",
    metadata,
    sa.Column("node_id", sa.ForeignKey("pubsub_nodes.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("jid", sa.Text, primary_key=True, index=True),
    sa.Column("role", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),  # in the index: the sum of an owner reads no document
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("owner", "kind", "name"),
    sa.Index("documents_sizes", "owner", "size_bytes"),
)

logouts = sa.Table(
    "logouts",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

blocks = sa.Table(
    "blocks",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("jid", sa.Text, primary_key=True),
    sqlite_with_rowid=False,
)

durable_sessions = sa.Table(
    "durable_sessions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("jid", sa.Text, nullable=False, index=True),
    sa.Column("resumable_s", sa.Float, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("handled", sa.BigInteger, nullable=False),
    sa.Column("sent", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

durable_received = sa.Table(
    "durable_received",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("session", sa.Text, nullable=False),  # maybe over: what it sent has to arrive all the same
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("stanza", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # whoever removes one late must not meet another one
)

durable_sent = sa.Table(
    "durable_sent",
    metadata,
    sa.Column("session", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("stanza", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

durable_ids = sa.Table(
    "durable_ids",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),  # of the account: so the oldest are found without counting
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.UniqueConstraint("account", "key"),
    sqlite_with_rowid=False,
)

exi_setups = sa.Table(
    "exi_setups",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("within_exi", sa.Boolean, nullable=False),
    sa.Column("used", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)

exi_schemas = sa.Table(
    "exi_schemas",
    metadata,
    sa.Column("namespace", sa.Text, primary_key=True),
    sa.Column("size", sa.Integer, primary_key=True),
    sa.Column("md5", sa.Text, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("used", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)

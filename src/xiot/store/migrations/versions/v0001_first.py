# SPDX-License-Identifier: Apache-2.0
"""The first schema: accounts, rosters, publish-subscribe."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "accounts",
        sa.Column("jid", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("accounts_by_host", "accounts", ["host", "jid"])
    op.create_table(
        "credentials",
        sa.Column("jid", sa.Text, sa.ForeignKey("accounts.jid", ondelete="CASCADE"), primary_key=True),
        sa.Column("mechanism", sa.Text, primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("iterations", sa.Integer, nullable=False),
        sa.Column("stored_key", sa.LargeBinary, nullable=False),
        sa.Column("server_key", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "roster_items",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("jid", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("subscription", sa.Text, nullable=False),
        sa.Column("ask", sa.Boolean, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "roster_versions",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pubsub_nodes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("item_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_seq", sa.Integer, nullable=False, server_default="0"),
        sa.UniqueConstraint("service", "name"),
    )
    op.create_table(
        "pubsub_items",
        _node_id(primary_key=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("published", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("node_id", "id"),
    )
    op.create_index("pubsub_items_by_age", "pubsub_items", ["node_id", "seq"], unique=True)
    op.create_table(
        "pubsub_subscriptions",
        _node_id(primary_key=True),
        sa.Column("jid", sa.Text, primary_key=True),
        sa.Column("bare", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_pubsub_subscriptions_bare", "pubsub_subscriptions", ["bare"])
    op.create_index(
        "pubsub_subscriptions_of_resources", "pubsub_subscriptions", ["domain"], sqlite_where=sa.text("jid != bare")
    )
    op.create_table(
        "pubsub_affiliations",
        _node_id(primary_key=True),
        sa.Column("jid", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_pubsub_affiliations_jid", "pubsub_affiliations", ["jid"])


def _node_id(*, primary_key: bool) -> sa.Column[int]:
    owner = sa.ForeignKey("pubsub_nodes.id", ondelete="CASCADE")
    return sa.Column("node_id", sa.Integer, owner, primary_key=primary_key, nullable=False)

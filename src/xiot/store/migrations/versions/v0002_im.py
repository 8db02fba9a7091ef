# SPDX-License-Identifier: Apache-2.0
"""Instant messaging: requests to see presence, and messages that wait."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables."""
    op.create_index("roster_items_approved", "roster_items", ["jid", "owner"], sqlite_where=sa.text("approved = 1"))
    op.create_table(
        "roster_requests",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("jid", sa.Text, primary_key=True),
        sa.Column("stanza", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "offline_messages",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("stanza", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("offline_messages_by_owner", "offline_messages", ["owner", "id", "bytes"])

# SPDX-License-Identifier: Apache-2.0
"""Documents of accounts (private data, vCards), last logouts, block lists."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "documents",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("owner", "kind", "name"),
    )
    op.create_index("documents_sizes", "documents", ["owner", "size_bytes"])
    op.create_table(
        "logouts",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "blocks",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("jid", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )

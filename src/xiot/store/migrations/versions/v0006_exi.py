# SPDX-License-Identifier: Apache-2.0
"""Setups of EXI that clients have agreed on, and schemas of theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "exi_setups",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("within_exi", sa.Boolean, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "exi_schemas",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column("size", sa.Integer, primary_key=True),
        sa.Column("md5", sa.Text, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )

"""Versions side by side: who can use the database, who reads a shard, how long its lease lasts.

Longshore of revisions 0001 and 0002 takes no other, so it cannot use this one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
oldest = "0003"


def upgrade() -> None:
    """Add the columns, and the table."""
    format_ = sa.Column("format", sa.SmallInteger, nullable=False, server_default="1")
    op.add_column("shards", format_)
    op.add_column("shards", sa.Column("lease_seconds", sa.Float))
    free = sa.text("owner IS NULL AND state IN ('QUEUED', 'RUNNING')")
    op.drop_index("shards_free", "shards")
    op.create_index(
        "shards_free",
        "shards",
        ["store", "job", "attempt", "id", "format"],
        sqlite_where=free,
        postgresql_where=free,
    )
    op.add_column("coordinators", sa.Column("reads", sa.SmallInteger))
    op.create_table("compatibility", sa.Column("oldest", sa.Text, primary_key=True))

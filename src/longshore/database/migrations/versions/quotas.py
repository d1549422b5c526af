"""Quotas that a coordinator hands out, and a worker's leases found by their owner.

Nothing here may come from ``tables``: that is the newest schema, and this is the second for ever.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
oldest = "0002"

_Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a table and an index."""
    op.create_table(
        "quotas",
        sa.Column("owner", _Name, primary_key=True),
        sa.Column("parts", sa.JSON, nullable=False),
    )
    leased = sa.text("owner IS NOT NULL")
    op.create_index(
        "shards_of_worker",
        "shards",
        ["owner", "store"],
        postgresql_where=leased,
        sqlite_where=leased,
    )

"""How it stands, for whoever asks: how many workers a coordinator sees, how many shards they have
places for, and when the last checkpoint of a shard was.

Nothing here may come from ``tables``: that is the newest schema, and this is the fourth for ever.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
oldest = "0003"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("coordinators", sa.Column("workers", sa.Integer))
    op.add_column("coordinators", sa.Column("places", sa.Integer))
    op.add_column("shards", sa.Column("checkpoint_us", sa.BigInteger))

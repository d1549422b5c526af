"""What each bucket was found to take, told from worker to worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from longshore.database.tables import estimates


class Found(NamedTuple):
    """An estimate of the calls at once that a bucket takes of all workers together."""

    store: str
    bucket: str
    concurrency: float


def tell(connection: Connection, found: Sequence[Found], now_us: int) -> None:
    """Let the other workers know; the last word about a bucket counts."""
    sqlites = connection.dialect.name == "sqlite"
    insert = sqlite.insert(estimates) if sqlites else postgresql.insert(estimates)
    key = (estimates.c.store, estimates.c.bucket)
    values = {
        "concurrency": insert.excluded.concurrency,
        "update_us": insert.excluded.update_us,
    }
    rows = [one._asdict() | {"update_us": now_us} for one in sorted(found)]
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=values), rows)


def hear(connection: Connection, since_us: int) -> list[Found]:
    """What was told since then."""
    columns = (estimates.c.store, estimates.c.bucket, estimates.c.concurrency)
    told = select(*columns).where(estimates.c.update_us >= since_us)
    return [Found(*row) for row in connection.execute(told)]

"""How many changes a second a bucket has been seen to take, kept for whoever asks it next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from longshore.database.tables import ramps


class Taken(NamedTuple):
    """What all workers together may ask of a bucket from now on."""

    store: str
    bucket: str
    writes_per_second: float


def keep(connection: Connection, taken: Sequence[Taken], now_us: int) -> None:
    """Let it be known; the last word about a bucket counts."""
    sqlites = connection.dialect.name == "sqlite"
    insert = sqlite.insert(ramps) if sqlites else postgresql.insert(ramps)
    values = {
        "writes_per_second": insert.excluded.writes_per_second,
        "update_us": insert.excluded.update_us,
    }
    key = (ramps.c.store, ramps.c.bucket)
    rows = [one._asdict() | {"update_us": now_us} for one in sorted(taken)]
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=values), rows)


def recall(
    connection: Connection, buckets: Sequence[tuple[str, str]], since_us: int
) -> list[Taken]:
    """What was kept of these since then, by store and bucket."""
    columns = (ramps.c.store, ramps.c.bucket, ramps.c.writes_per_second)
    wanted = tuple_(ramps.c.store, ramps.c.bucket).in_(buckets)
    kept = select(*columns).where(wanted, ramps.c.update_us >= since_us)
    return [Taken(*row) for row in connection.execute(kept)]

"""Bucket operations as they begin: each with a shard without a range, whose work is to plan.

A job whose source is to find its buckets begins with one bucket operation without a bucket. Its
shard finds them, and it becomes that of the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Connection, bindparam, insert, literal, select, update

from longshore import names
from longshore.database.tables import bucket_operations, jobs, shards, sources
from longshore.model import FORMAT, State

NO_BUCKET = ""
HAS_BUCKET = bucket_operations.c.bucket != NO_BUCKET
"""Whether a bucket operation has got its bucket, and is to be seen."""
_INSERT_SOURCES = insert(sources)
_INSERT = insert(bucket_operations)
_INSERT_SHARDS = insert(shards).from_select(
    ["job", "bucket_operation", "state", "cursor", "format"],
    select(
        bucket_operations.c.job,
        bucket_operations.c.id,
        literal(State.QUEUED.value),
        literal({}, JSON),
        literal(FORMAT),
    )
    .where(
        bucket_operations.c.job == bindparam("of_job"),
        bucket_operations.c.position >= bindparam("first"),
    )
    .order_by(bucket_operations.c.position),
)
_SET_BUCKET = (
    update(bucket_operations)
    .where(bucket_operations.c.id == bindparam("part"))
    .values(bucket=bindparam("new_bucket"))
    .returning(bucket_operations.c.source_name, bucket_operations.c.source)
)
_SET_MULTI_BUCKET = (
    update(jobs).where(jobs.c.id == bindparam("row")).values(multi_bucket=bindparam("several"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPart:
    """A job's part in one bucket: the source's name and its plain data, which is kept once for all
    parts that share it (``is``). ``bucket`` NO_BUCKET: the source is to find the job's buckets."""

    bucket: str
    source_name: str
    source: Mapping[str, Any]


def insert_parts(connection: Connection, job: int, parts: Sequence[NewPart], now_us: int) -> None:
    """Make the bucket operations of a new job, and their shards."""
    numbers: dict[int, int] = {}
    rows: list[dict[str, Any]] = []
    for part in parts:
        if id(part.source) not in numbers:
            numbers[id(part.source)] = len(rows)
            rows.append({"job": job, "number": len(rows), "data": dict(part.source)})
    connection.execute(_INSERT_SOURCES, rows)
    _insert(
        connection,
        job,
        [(part.bucket, part.source_name, numbers[id(part.source)]) for part in parts],
        now_us,
    )


def _insert(
    connection: Connection,
    job: int,
    parts: Iterable[tuple[str, str, int]],
    now_us: int,
    *,
    first: int = 0,
) -> None:
    """Bucket operations (bucket, name of the source, its number), of which the first one has the
    position ``first``, and their shards."""
    connection.execute(
        _INSERT,
        [
            {
                "job": job,
                "bucket_operation_id": names.new_bucket_operation_id(),
                "position": position,
                "bucket": bucket,
                "source_name": source_name,
                "source": number,
                "state": State.QUEUED.value,
                "create_us": now_us,
            }
            for position, (bucket, source_name, number) in enumerate(parts, first)
        ],
    )
    connection.execute(_INSERT_SHARDS, {"of_job": job, "first": first})


def set_buckets(
    connection: Connection, job: int, part: int, buckets: Sequence[str], now_us: int
) -> None:
    """Give the bucket operation ``part``, the only one and without a bucket yet, the first of
    ``buckets``, and make those of the others, with the same source; the job's row is locked."""
    connection.execute(_SET_MULTI_BUCKET, {"row": job, "several": len(buckets) > 1})
    same = connection.execute(_SET_BUCKET, {"part": part, "new_bucket": buckets[0]}).one()
    if len(buckets) > 1:
        others = [(bucket, *same) for bucket in buckets[1:]]
        _insert(connection, job, others, now_us, first=1)

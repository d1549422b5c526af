"""Bucket operations as they begin: each with a shard without a range, whose work is to plan.

A job whose source is to find its buckets begins with one bucket operation without a bucket. Its
shard finds them, and it becomes that of the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, null, select, update

from longshore import names
from longshore.database.tables import bucket_operations, jobs, shards
from longshore.model import State

NO_BUCKET = ""
HAS_BUCKET = bucket_operations.c.bucket != NO_BUCKET
"""Whether a bucket operation has got its bucket, and is to be seen."""
_FROM = (
    select(bucket_operations.c.id)
    .where(
        bucket_operations.c.job == bindparam("job"),
        bucket_operations.c.position >= bindparam("first"),
    )
    .order_by(bucket_operations.c.position)
)
_SET_BUCKET = (
    update(bucket_operations)
    .where(bucket_operations.c.id == bindparam("part"))
    .values(bucket=bindparam("new_bucket"))
)
_SET_MULTI_BUCKET = (
    update(jobs).where(jobs.c.id == bindparam("row")).values(multi_bucket=bindparam("several"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPart:
    """A job's part in one bucket: the source's name and its plain data. ``bucket`` NO_BUCKET: the
    source is to find the job's buckets."""

    bucket: str
    source_name: str
    source: Mapping[str, Any]


def insert_parts(
    connection: Connection, job: int, parts: Sequence[NewPart], now_us: int, *, first: int = 0
) -> None:
    """Make bucket operations, the first of which has the position ``first``, and their shards."""
    connection.execute(
        insert(bucket_operations),
        [
            {
                "job": job,
                "bucket_operation_id": names.new_bucket_operation_id(),
                "position": position,
                "bucket": part.bucket,
                "source_name": part.source_name,
                "source": dict(part.source),
                "state": State.QUEUED.value,
                "create_us": now_us,
            }
            for position, part in enumerate(parts, first)
        ],
    )
    ids = connection.scalars(_FROM, {"job": job, "first": first}).all()
    connection.execute(
        insert(shards),
        [
            {
                "job": job,
                "bucket_operation": one,
                "state": State.QUEUED.value,
                "range": null(),
                "cursor": {},
            }
            for one in ids
        ],
    )


def set_buckets(
    connection: Connection, job: int, part: int, parts: Sequence[NewPart], now_us: int
) -> None:
    """Give the bucket operation ``part``, which has none yet, the bucket of the first of ``parts``,
    and make the others; the job's row is locked."""
    connection.execute(_SET_MULTI_BUCKET, {"row": job, "several": len(parts) > 1})
    connection.execute(_SET_BUCKET, {"part": part, "new_bucket": parts[0].bucket})
    if len(parts) > 1:
        insert_parts(connection, job, parts[1:], now_us, first=1)

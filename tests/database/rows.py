"""Jobs and shards to test statements with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from longshore.database import Database
from longshore.database import jobs as job_statements
from longshore.database import leases as lease_statements
from longshore.database import shards as statements
from longshore.database.jobs import NewJob, NewPart
from longshore.database.shards import Announcement
from longshore.database.tables import bucket_operations, jobs, shards
from longshore.model import Shard

MANY = 1_000


def new_job(job_id: str = "j", *, project: str = "p", buckets: tuple[str, ...] = ("b",)) -> NewJob:
    return NewJob(
        project=project,
        job_id=job_id,
        message=b"\0as its creator set it",
        dry_run=False,
        transformation_name="delete_object",
        transformation={"permanent": True},
        log_states=("FAILED",),
        parts=[
            NewPart(bucket=bucket, source_name="prefix_list", source={"prefixes": ["d/"]})
            for bucket in buckets
        ],
    )


async def create(database: Database, new: NewJob | None = None, now_us: int = 1) -> int:
    counted = await database.write(job_statements.create_job, new or new_job(), now_us)
    assert counted is not None, "the id is taken"
    return int(counted.row.id)


async def claim(database: Database, owner: str = "w", at_once: int = MANY) -> list[Shard]:
    return await database.write(lease_statements.claim, owner, {}, at_once, 2)


async def plan(
    database: Database, shard: Shard, ranges: int = 1, store: str = "main"
) -> Shard | None:
    many = [{"after": f"{number}"} for number in range(ranges)]
    return await database.write(statements.finish_plan, shard, many, store, 3)


async def running(database: Database, count: int = 1, **job: Any) -> list[Shard]:
    """Leased shards of a new job that has been planned."""
    await create(database, new_job(**job))
    first = [await plan(database, planning, count) for planning in await claim(database)]
    found = [*(shard for shard in first if shard is not None), *await claim(database)]
    return sorted(found, key=lambda shard: shard.id)


def announcement(found: int = 0, intent: bytes | None = None, cursor: str = "") -> Announcement:
    return Announcement(
        intent=intent, cursor={"after": cursor}, found=found, bytes_found=10 * found
    )


async def row(database: Database, table: Any, id_: int | None = None) -> Any:
    """The only row of a table, or the one with this id."""
    statement = select(table) if id_ is None else select(table).where(table.c.id == id_)

    def read(connection: Connection) -> Any:
        return connection.execute(statement).one()

    return await database.read(read)


async def states(database: Database) -> tuple[list[str], list[str], list[str]]:
    """Of all jobs, bucket operations and shards, by id."""

    def read(connection: Connection) -> Any:
        return tuple(
            list(connection.scalars(select(table.c.state).order_by(table.c.id)))
            for table in (jobs, bucket_operations, shards)
        )

    found: tuple[list[str], list[str], list[str]] = await database.read(read)
    return found

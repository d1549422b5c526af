"""What is too old: jobs that have run for too long, and what is left of those that ended long ago.

Rows go in small transactions, so that nobody waits for the database's write lock: a job may have a
million shards. What is to go is hidden first, so that nobody sees half of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, delete, func, select, update

from longshore.database.tables import bucket_operations, jobs, shards
from longshore.model import OPEN_STATES

ROWS_AT_ONCE: Final = 500
"""How many rows one transaction removes: some milliseconds."""


def overdue(connection: Connection, before_us: int) -> Sequence[int]:
    """The rows of jobs that were created before then, still run, and that nobody cancelled."""
    old = _old(jobs.c.state.in_(OPEN_STATES), before_us)
    running = select(jobs.c.id).where(jobs.c.id.in_(old), jobs.c.cancel_us.is_(None))
    return connection.scalars(running.order_by(jobs.c.id)).all()


def expired(connection: Connection, before_us: int) -> Sequence[int]:
    """The rows of some jobs that ended before then, oldest first; none: there are no more."""
    old = _old(jobs.c.state.not_in(OPEN_STATES), before_us)
    ended = select(jobs.c.id).where(jobs.c.id.in_(old), jobs.c.complete_us < before_us)
    return connection.scalars(ended.order_by(jobs.c.id).limit(ROWS_AT_ONCE)).all()


def _old(state: ColumnElement[bool], before_us: int) -> Select[Any]:
    # The columns of an index: rows, with all that a job's creator wrote, are not touched for this.
    return select(jobs.c.id).where(state, jobs.c.create_us < before_us)


def remove_some(connection: Connection, job: int, now_us: int) -> bool:
    """Hide an ended job and its operation, and remove rows of it from the bottom up; True once
    nothing of it is left."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job)
        .values(
            job_delete_us=func.coalesce(jobs.c.job_delete_us, now_us),
            operation_delete_us=func.coalesce(jobs.c.operation_delete_us, now_us),
        )
    )
    for table in (shards, bucket_operations):
        some = select(table.c.id).where(table.c.job == job).limit(ROWS_AT_ONCE)
        if connection.execute(delete(table).where(table.c.id.in_(some))).rowcount == ROWS_AT_ONCE:
            return False
    connection.execute(delete(jobs).where(jobs.c.id == job))
    return True

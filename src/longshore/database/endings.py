"""Jobs that have ended and of whose end the audit log has no record yet.

Who ends a job, a worker or the API, only sets its time of completion; the log is written from here,
by one process, so that a transaction that is tried again leaves no second record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from longshore.database.tables import jobs

_AT_ONCE = 500
_UNRECORDED = (
    select(
        jobs.c.id,
        jobs.c.project,
        jobs.c.operation_id,
        jobs.c.creator,
        jobs.c.state,
        jobs.c.error_code,
    )
    .where(jobs.c.complete_us.is_not(None), jobs.c.record_us.is_(None))
    .order_by(jobs.c.id)
    .limit(_AT_ONCE)
)
_RECORDED = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    .values(record_us=bindparam("now_us"))
)


def unrecorded(connection: Connection) -> Sequence[Row[*tuple[Any, ...]]]:
    """Some of them, the oldest rows first."""
    return connection.execute(_UNRECORDED).all()


def recorded(connection: Connection, ids: Sequence[int], now_us: int) -> None:
    """The log has the end of these."""
    connection.execute(_RECORDED, {"ids": sorted(ids), "now_us": now_us})

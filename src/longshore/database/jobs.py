"""The statements of the API: jobs, their bucket operations and operations, remembered requests.

What the engine needs of a new job is plain data in three places: the job's row (transformation),
its bucket operations' rows (sources) and, per bucket operation, one shard without a range, whose
work is to plan. Where the buckets are yet to be found there is one bucket operation, without a
bucket, which nobody is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from longshore import names
from longshore.database.notices import CANCELLED, tell
from longshore.database.parts import HAS_BUCKET, NewPart, insert_parts
from longshore.database.rollup import (
    Totals,
    counters_of_bucket_operations,
    counters_of_jobs,
    fold_canceled,
    lock_job,
    lock_parts,
    roll_up,
)
from longshore.database.tables import bucket_operations, jobs, requests, shards, sources
from longshore.errors import InvalidArgument
from longshore.model import COUNTER_NAMES, OPEN_STATES, Counters, Errors, State, load_errors
from longshore.names import JobName, OperationName

Name = TypeVar("Name", bound=tuple[str, str])

# Statements that every call makes are built once: building one costs more than running it.
_INSERT_JOB = {
    name: dialect_insert(jobs)
    .on_conflict_do_nothing(
        index_elements=["project", "job_id"], index_where=jobs.c.job_delete_us.is_(None)
    )
    .returning(jobs.c.id)
    for name, dialect_insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}
_JOB = select(jobs).where(
    jobs.c.project == bindparam("project"),
    jobs.c.job_id == bindparam("job_id"),
    jobs.c.job_delete_us.is_(None),
)
_JOB_BY_ROW_ID = select(jobs).where(jobs.c.id == bindparam("job"))
_JOB_BY_OPERATION = select(jobs).where(
    jobs.c.project == bindparam("project"),
    jobs.c.operation_id == bindparam("operation_id"),
    jobs.c.operation_delete_us.is_(None),
)
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)


def _named_by(column: Column[str]) -> Select[Any]:
    """Without what is for workers and lists, which may be long."""
    left_out = ("description", "log_states", "transformation")
    shown = (one for one in jobs.c if one.name not in left_out)
    named = select(column.label("named"), *shown)
    return named.where(jobs.c.project == bindparam("project"), column.in_(_IDS))


_JOBS = _named_by(jobs.c.job_id).where(jobs.c.job_delete_us.is_(None))
_OPERATIONS = _named_by(jobs.c.operation_id).where(jobs.c.operation_delete_us.is_(None))
_LOCK_JOB = _JOB.with_for_update(key_share=True)
_LOCK_JOB_BY_OPERATION = _JOB_BY_OPERATION.with_for_update(key_share=True)
_PART = select(bucket_operations).where(
    bucket_operations.c.job == bindparam("job"),
    bucket_operations.c.bucket_operation_id == bindparam("bucket_operation_id"),
    HAS_BUCKET,
)
_REQUEST = select(requests).where(
    requests.c.project == bindparam("project"),
    requests.c.method == bindparam("method"),
    requests.c.request_id == bindparam("request_id"),
)
_LOCK_REQUEST = select(func.pg_advisory_xact_lock(bindparam("key", type_=BigInteger())))
_EXISTING_SHARDS = (
    select(shards.c.id)
    .join(jobs, jobs.c.id == shards.c.job)
    .where(shards.c.id.in_(_IDS), jobs.c.job_delete_us.is_(None))
)
_OPEN_JOBS = select(jobs.c.id).where(jobs.c.id.in_(_IDS), jobs.c.complete_us.is_(None))
_OPEN_OPERATIONS = _OPEN_JOBS.where(jobs.c.operation_delete_us.is_(None))
_IDS_AT_ONCE = 1_000

REQUEST_MEMORY_US = 24 * 3600 * 1_000_000
"""How long a request id is remembered; the API promises an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A checked job. ``message`` is the Job as its creator set it; ``log_states`` which outcomes
    are logged; ``creator`` a principal."""

    project: str
    job_id: str
    description: str = ""
    message: bytes
    dry_run: bool
    transformation_name: str
    transformation: Mapping[str, Any]
    log_states: Sequence[str]
    parts: Sequence[NewPart]
    creator: str | None = None


class Counted(NamedTuple):
    """A row of a job or bucket operation with what has been counted for it so far."""

    row: Any
    counters: Counters
    errors: Errors


class Request(NamedTuple):
    """The identity of a request that its sender may repeat, and a digest of what it asks for."""

    project: str
    method: str
    request_id: str
    fingerprint: bytes


def create_job(connection: Connection, new: NewJob, now_us: int) -> Counted | None:
    """Insert a QUEUED job with all that the engine needs; None: its id is taken.

    The row is not read again, which would cost as much as to write it: of it there is what a job
    that has not begun has.
    """
    values: dict[str, Any] = {
        "project": new.project,
        "job_id": new.job_id,
        "operation_id": names.new_operation_id(now_us),
        # For filters; the message has it as it is.
        "description": new.description.replace("\0", "\N{REPLACEMENT CHARACTER}") or None,
        "message": new.message,
        "state": State.QUEUED.value,
        "dry_run": new.dry_run,
        "multi_bucket": len(new.parts) > 1,
        "creator": new.creator,
        "transformation_name": new.transformation_name,
        "transformation": dict(new.transformation),
        "log_states": list(new.log_states),
        "create_us": now_us,
    }
    insert_job = _INSERT_JOB[connection.dialect.name]
    job = connection.execute(insert_job, values).scalar_one_or_none()
    if job is None:
        return None
    insert_parts(connection, job, new.parts, now_us)
    unset = {**dict.fromkeys(jobs.c.keys()), **dict.fromkeys(COUNTER_NAMES, 0)}
    return Counted(SimpleNamespace(**{**unset, **values, "id": job}), Counters(), {})


def cancel_job(connection: Connection, job: int, now_us: int) -> None:
    """Ask for the end of an open job, and tell workers; asking again changes nothing.

    A shard that nobody carries and that has nothing announced ends now, and with the last one the
    job."""
    lock_job(connection, job)
    goes_on = (jobs.c.cancel_us.is_(None), jobs.c.complete_us.is_(None))
    asked = update(jobs).where(jobs.c.id == job, *goes_on).values(cancel_us=now_us)
    if connection.execute(asked).rowcount == 0:
        return
    tell(connection, CANCELLED, str(job))
    lock_parts(connection, job)
    connection.execute(
        update(shards)
        .where(
            shards.c.job == job,
            shards.c.state.in_(OPEN_STATES),
            shards.c.owner.is_(None),
            shards.c.intent.is_(None),
        )
        .values(state=State.CANCELED.value)
    )
    fold_canceled(connection, job)
    roll_up(connection, job, now_us)


def delete_job(connection: Connection, row: Row[Any], now_us: int) -> None:
    """Remove a finished job and its parts; its row stays while its operation is to be seen.

    ``row`` is locked (``find_job``), as in ``delete_operation``.
    """
    for table in (bucket_operations, sources):
        connection.execute(delete(table).where(table.c.job == row.id))
    if row.operation_delete_us is not None:
        connection.execute(delete(jobs).where(jobs.c.id == row.id))
    else:
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(job_delete_us=now_us))


def delete_operation(connection: Connection, row: Row[Any], now_us: int) -> None:
    """Forget a job's operation. The job stays and is not cancelled."""
    if row.job_delete_us is not None:
        connection.execute(delete(jobs).where(jobs.c.id == row.id))
    else:
        values = {"operation_delete_us": now_us}
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(values))


def find_job(
    connection: Connection, project: str, job_id: str, *, lock: bool = False
) -> Row[Any] | None:
    """The row of a job that has not been deleted.

    ``lock``: to change it, by what the row says; nobody else does until the transaction ends.
    """
    statement = _LOCK_JOB if lock else _JOB
    return connection.execute(statement, {"project": project, "job_id": job_id}).one_or_none()


def find_operation(
    connection: Connection, project: str, operation_id: str, *, lock: bool = False
) -> Row[Any] | None:
    """The row of the job whose operation this is, if the operation has not been deleted;
    ``lock`` as in ``find_job``."""
    name = {"project": project, "operation_id": operation_id}
    statement = _LOCK_JOB_BY_OPERATION if lock else _JOB_BY_OPERATION
    return connection.execute(statement, name).one_or_none()


def find_bucket_operation(
    connection: Connection, job: int, bucket_operation_id: str
) -> Row[Any] | None:
    """The row of a job's part."""
    name = {"job": job, "bucket_operation_id": bucket_operation_id}
    return connection.execute(_PART, name).one_or_none()


def job_by_row_id(connection: Connection, job: int) -> Row[Any] | None:
    """A job's row by its own id, deleted or not."""
    return connection.execute(_JOB_BY_ROW_ID, {"job": job}).one_or_none()


def count_jobs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Counted]:
    """``rows`` of jobs with their counters: summed for those that are open."""
    ids = _open(rows)
    return _count(rows, counters_of_jobs(connection, ids) if ids else {})


def count_bucket_operations(connection: Connection, rows: Sequence[Row[Any]]) -> list[Counted]:
    """``rows`` of bucket operations with their counters, likewise."""
    ids = _open(rows)
    return _count(rows, counters_of_bucket_operations(connection, ids) if ids else {})


def ended_jobs(connection: Connection, names: Sequence[JobName]) -> dict[JobName, Counted]:
    """Those of the jobs that have ended, whose rows have everything, by one statement a project."""
    return _those_ended(_named(connection, _JOBS, names))


def counted_jobs(connection: Connection, names: Sequence[JobName]) -> dict[JobName, Counted]:
    """Those of the jobs that exist, with their counters so far."""
    rows = _named(connection, _JOBS, names)
    return dict(zip(rows, count_jobs(connection, list(rows.values())), strict=True))


def ended_operations(
    connection: Connection, names: Sequence[OperationName]
) -> dict[OperationName, Counted]:
    """The jobs of those of the operations that are done, as ``ended_jobs``."""
    return _those_ended(_named(connection, _OPERATIONS, names))


def counted_operations(
    connection: Connection, names: Sequence[OperationName]
) -> dict[OperationName, Counted]:
    """The jobs of those of the operations that exist, as ``counted_jobs``."""
    rows = _named(connection, _OPERATIONS, names)
    return dict(zip(rows, count_jobs(connection, list(rows.values())), strict=True))


def _named(
    connection: Connection, statement: Select[Any], names: Sequence[Name]
) -> dict[Name, Row[Any]]:
    """The rows of jobs with these names, (project, id)."""
    ids: dict[str, list[str]] = {}
    for project, one in names:
        ids.setdefault(project, []).append(one)
    rows: dict[tuple[str, str], Row[Any]] = {}
    for project, all_ids in ids.items():
        for start in range(0, len(all_ids), _IDS_AT_ONCE):
            some = {"project": project, "ids": all_ids[start : start + _IDS_AT_ONCE]}
            rows |= {(project, row.named): row for row in connection.execute(statement, some)}
    return {name: rows[name] for name in names if name in rows}


def _those_ended(rows: Mapping[Name, Row[Any]]) -> dict[Name, Counted]:
    return {name: _ended(row) for name, row in rows.items() if row.state not in OPEN_STATES}


def _ended(row: Row[Any]) -> Counted:
    mapping = row._mapping
    counters = Counters(**{name: mapping[name] for name in COUNTER_NAMES})
    return Counted(row, counters, load_errors(row.errors))


def _open(rows: Sequence[Row[Any]]) -> list[int]:
    return [row.id for row in rows if row.state in OPEN_STATES]


def _count(rows: Sequence[Row[Any]], sums: Mapping[int, Totals]) -> list[Counted]:
    counted = []
    for row in rows:
        if row.state in OPEN_STATES:
            counted.append(Counted(row, *sums.get(row.id, (Counters(), {}))))
        else:
            counted.append(_ended(row))
    return counted


def existing_shards(connection: Connection, ids: Sequence[int]) -> frozenset[int]:
    """Those of ``ids`` that are shards of a job which has not been deleted."""
    return _found(connection, _EXISTING_SHARDS, ids)


def open_jobs(connection: Connection, ids: Sequence[int]) -> frozenset[int]:
    """Those of ``ids``, of jobs' rows, that have not ended."""
    return _found(connection, _OPEN_JOBS, ids)


def open_operations(connection: Connection, ids: Sequence[int]) -> frozenset[int]:
    """Those of ``ids``, of jobs' rows, whose operations are neither done nor deleted."""
    return _found(connection, _OPEN_OPERATIONS, ids)


def _found(connection: Connection, statement: Select[Any], ids: Sequence[int]) -> frozenset[int]:
    found: set[int] = set()
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = ids[start : start + _IDS_AT_ONCE]
        found.update(connection.execute(statement, {"ids": some}).scalars())
    return frozenset(found)


def replayed(connection: Connection, request: Request) -> Row[Any] | None:
    """The remembered first request with this id; None if this one is the first.

    Of two at the same instant the second waits here until the first is remembered or has failed.
    Raises InvalidArgument if the first one asked for something else.
    """
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        connection.execute(_LOCK_REQUEST, {"key": _lock_key(request)})
    key = {
        "project": request.project,
        "method": request.method,
        "request_id": request.request_id,
    }
    first = connection.execute(_REQUEST, key).one_or_none()
    if first is not None and first.fingerprint != request.fingerprint:
        raise InvalidArgument(
            f"The request id {request.request_id!r} was used before, with other content. Repeat"
            " that request unchanged, or choose a new id.",
            reason="REQUEST_ID_REUSED",
        )
    return first


def _lock_key(request: Request) -> int:
    name = "\0".join((request.project, request.method, request.request_id)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), signed=True)


def remember(connection: Connection, request: Request, job: int, now_us: int) -> None:
    """Keep a request that succeeded, for whoever repeats it; forget those of days ago."""
    connection.execute(delete(requests).where(requests.c.create_us < now_us - REQUEST_MEMORY_US))
    connection.execute(
        insert(requests).values(
            project=request.project,
            method=request.method,
            request_id=request.request_id,
            fingerprint=request.fingerprint,
            job=job,
            create_us=now_us,
        )
    )

"""Counters of what is open, the beginning of what waits, and the end of what is done.

Row locks are taken in the order job → bucket operation → shard, here and wherever rows are
written: two workers that finish together would otherwise each see the other's shard still open, and
the job would run for ever. PostgreSQL runs transactions side by side, each statement on what was
committed when it began: so a lock is taken first, and what it guards is read after it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import add
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
    update,
)

from longshore.database.tables import bucket_operations, jobs, shards
from longshore.errors import Code
from longshore.model import (
    COUNTER_NAMES,
    OPEN_STATES,
    Counters,
    Errors,
    State,
    change,
    dump_errors,
    load_errors,
    merge_errors,
)

Totals = tuple[Counters, Errors]
_Statements = tuple[Select[Any] | CompoundSelect[Any], Select[Any] | CompoundSelect[Any]]


def counters_of_jobs(connection: Connection, ids: Collection[int]) -> dict[int, Totals]:
    """What has been counted so far, by the rows' ids of jobs: on the rows of their bucket
    operations, and by the shards that have begun and not ended."""
    return _totals(connection, _BY_JOB, ids)


def counters_of_bucket_operations(
    connection: Connection, ids: Collection[int]
) -> dict[int, Totals]:
    """What has been counted so far, by the rows' ids of bucket operations."""
    return _totals(connection, _BY_BUCKET_OPERATION, ids)


def lock_job(connection: Connection, job: int) -> None:
    """Take the row lock of a job, before anything below it is written.

    It keeps everybody out who may end a part of the job; not those who only refer to its row.
    """
    connection.execute(_LOCK_JOB, {"job": job})


def lock_parts(connection: Connection, job: int) -> None:
    """Take the row locks of a job's open bucket operations, with the job's row locked and before
    any of their shards is."""
    connection.execute(_LOCK_PARTS, {"job": job})


def fold(connection: Connection, part: int, totals: Totals) -> None:
    """Add what a shard has counted to the row of its bucket operation, in the transaction that ends
    it: with the job's row locked (``lock_job``), and before the shard's row is.

    Whoever looks at the job sums what still runs, not ten thousand shards that have ended.
    """
    counters, errors = totals
    if counters == Counters():
        return
    values = {f"more_{name}": getattr(counters, name) for name in COUNTER_NAMES}
    connection.execute(_FOLD, {"part": part, **values})
    fold_errors(connection, part, errors)


def fold_errors(connection: Connection, part: int, errors: Errors) -> None:
    """The same for error summaries alone, in the transaction that takes them off a shard which
    somebody else may carry on: of ten thousand that have begun, only those that are carried have
    any to be added up."""
    if errors:
        before = connection.execute(_ERRORS_OF_PART, {"part": part}).scalar_one()
        merged = dump_errors(merge_errors([load_errors(before), errors]))
        connection.execute(_WRITE_ERRORS, {"part": part, "new_errors": merged})


def fold_canceled(connection: Connection, job: int) -> None:
    """Fold all shards of a job that are CANCELED; for the transaction that cancels it, before which
    there are none."""
    for part, totals in _totals(connection, _CANCELED, [job]).items():
        fold(connection, part, totals)


def begin(
    connection: Connection, waiting_jobs: Collection[int], parts: Collection[int], now_us: int
) -> None:
    """Let those that are QUEUED run; call it before any of their shards is locked."""
    for (lock, run), ids in ((_BEGIN_JOBS, waiting_jobs), (_BEGIN_PARTS, parts)):
        if ids:
            connection.execute(lock, {"ids": sorted(ids)})
            connection.execute(run, {"ids": sorted(ids), "new_us": now_us})


def roll_up(connection: Connection, job: int, now_us: int, part: int | None = None) -> None:
    """End the bucket operations of ``job`` that have no open shard, and then the job likewise.
    ``part``: the only bucket operation that may have come to its end.

    Call it in the transaction that ends a shard, with the job's row locked (``lock_job``) and what
    the shard has counted on its bucket operation's row (``fold``). FAILED wins over SUCCEEDED; a
    job that somebody asked to cancel, and of which a part was, is CANCELED.
    """
    open_shard = select(shards.c.id).where(
        shards.c.bucket_operation == bucket_operations.c.id, shards.c.state.in_(OPEN_STATES)
    )
    ended = select(bucket_operations.c.id, bucket_operations.c.state).where(
        bucket_operations.c.job == job,
        bucket_operations.c.state.in_(OPEN_STATES),
        ~open_shard.exists(),
    )
    if part is not None:
        ended = ended.where(bucket_operations.c.id == part)
    done = connection.execute(ended).all()
    if not done:
        return
    for row in done:
        ending = _ending(
            connection.execute(
                select(shards.c.state, shards.c.error_code, shards.c.error_message)
                .where(shards.c.bucket_operation == row.id)
                .distinct()
            )
        )
        change(State(row.state), State(ending["state"]))
        connection.execute(
            update(bucket_operations)
            .where(bucket_operations.c.id == row.id)
            .values(complete_us=now_us, **ending)
        )
    _roll_up_job(connection, job, now_us)


def _roll_up_job(connection: Connection, job: int, now_us: int) -> None:
    if connection.execute(_OPEN_PART, {"job": job}).first() is not None:
        return
    parts = connection.execute(
        select(
            bucket_operations.c.state,
            bucket_operations.c.error_code,
            bucket_operations.c.error_message,
        )
        .where(bucket_operations.c.job == job)
        .distinct()
    ).all()
    before = connection.execute(select(jobs.c.state).where(jobs.c.id == job)).scalar_one()
    ending = _ending(parts)
    change(State(before), State(ending["state"]))
    totals = counters_of_jobs(connection, [job])
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job)
        .values(complete_us=now_us, **ending, **_columns(totals.get(job)))
    )


def _ending(parts: Iterable[Any]) -> dict[str, Any]:
    """State and error of a whole whose parts have all ended, as columns."""
    by_state: dict[str, Any] = {}
    for part in parts:
        by_state.setdefault(part.state, part)
    if "CANCELED" in by_state:
        message = "The operation was cancelled."
        return {
            "state": "CANCELED",
            "error_code": Code.CANCELLED.name,
            "error_message": message,
        }
    if "FAILED" in by_state:
        failed = by_state["FAILED"]
        return {
            "state": "FAILED",
            "error_code": failed.error_code,
            "error_message": failed.error_message,
        }
    return {"state": "SUCCEEDED"}


def _columns(totals: Totals | None) -> dict[str, Any]:
    counters, errors = totals or (Counters(), {})
    values = {name: getattr(counters, name) for name in COUNTER_NAMES}
    return values | {"errors": dump_errors(errors)}


def _sums(key: Column[int], *where: ColumnElement[bool]) -> Select[Any]:
    """The counters by ``key``, of the rows of its table."""
    # PostgreSQL's own sums are numeric, each of which becomes a Decimal on the way here.
    sums = [cast(func.sum(key.table.c[name]), BigInteger).label(name) for name in COUNTER_NAMES]
    columns: list[Any] = [key.label("key"), *sums]
    return select(*columns).where(*where).group_by(key)


def _failures(key: Column[int], place: int, *where: ColumnElement[bool]) -> Select[Any]:
    """The error summaries by ``key``; ``place``: those of a lower one come first."""
    table = key.table
    columns = (key.label("key"), table.c.errors, literal(place).label("place"), table.c.id)
    return select(*columns).where(table.c.errors.is_not(null()), *where)


def _counted(part_key: Column[int], shard_key: Column[int]) -> _Statements:
    """What stands on bucket operations' rows, and what runs: shards that wait have counted
    nothing, and those that have ended are on the rows."""
    parts = part_key.in_(_IDS)
    running = (shard_key.in_(_IDS), shards.c.state == State.RUNNING.value)
    failures = union_all(
        _failures(part_key, 0, parts), _failures(shard_key, 1, shards.c.failed > 0, *running)
    )
    return (
        union_all(_sums(part_key, parts), _sums(shard_key, *running)),
        failures.order_by("place", "id"),
    )


# Built once: a job that is watched is summed with every look.
_LOCK_JOB = select(jobs.c.id).where(jobs.c.id == bindparam("job")).with_for_update(key_share=True)
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_LOCK_PARTS = (
    select(bucket_operations.c.id)
    .where(bucket_operations.c.job == bindparam("job"), bucket_operations.c.state.in_(OPEN_STATES))
    .order_by(bucket_operations.c.id)
    .with_for_update(key_share=True)
)
_THE_PART = bucket_operations.c.id == bindparam("part")
_FOLD = (
    update(bucket_operations)
    .where(_THE_PART)
    .values({name: bucket_operations.c[name] + bindparam(f"more_{name}") for name in COUNTER_NAMES})
)
_ERRORS_OF_PART = select(bucket_operations.c.errors).where(_THE_PART)
_WRITE_ERRORS = update(bucket_operations).where(_THE_PART).values(errors=bindparam("new_errors"))
_OPEN_PART = (
    select(bucket_operations.c.id)
    .where(bucket_operations.c.job == bindparam("job"), bucket_operations.c.state.in_(OPEN_STATES))
    .limit(1)
)


def _begin(table: Table, time: str) -> tuple[Select[Any], Update]:
    """Lock, in the order of their ids, and let run those of the rows that are QUEUED."""
    waiting = and_(table.c.id.in_(_IDS), table.c.state == State.QUEUED.value)
    lock = select(table.c.id).where(waiting).order_by(table.c.id).with_for_update(key_share=True)
    values: dict[str, Any] = {"state": State.RUNNING.value, time: bindparam("new_us")}
    return lock, update(table).where(waiting).values(values)


_BEGIN_JOBS = _begin(jobs, "schedule_us")
_BEGIN_PARTS = _begin(bucket_operations, "start_us")
_BY_JOB = _counted(bucket_operations.c.job, shards.c.job)
_BY_BUCKET_OPERATION = _counted(bucket_operations.c.id, shards.c.bucket_operation)
_CANCELED_SHARDS = (shards.c.job.in_(_IDS), shards.c.state == State.CANCELED.value)
_CANCELED = (
    _sums(shards.c.bucket_operation, *_CANCELED_SHARDS),
    _failures(shards.c.bucket_operation, 0, shards.c.failed > 0, *_CANCELED_SHARDS).order_by(
        shards.c.id
    ),
)


def _totals(
    connection: Connection, statements: _Statements, ids: Collection[int]
) -> dict[int, Totals]:
    sums, failures = statements
    numbers: dict[int, Sequence[int]] = {}
    for row in connection.execute(sums, {"ids": list(ids)}):
        some = row[1:]
        numbers[row.key] = [*map(add, numbers[row.key], some)] if row.key in numbers else some
    counters = {
        key: Counters(**dict(zip(COUNTER_NAMES, some, strict=True)))
        for key, some in numbers.items()
    }
    errors: Mapping[int, list[Errors]] = defaultdict(list)
    if any(total.failed for total in counters.values()):
        for row in connection.execute(failures, {"ids": list(ids)}):
            errors[row.key].append(load_errors(row.errors))
    return {
        one: (total, merge_errors(errors[one]) if one in errors else {})
        for one, total in counters.items()
    }

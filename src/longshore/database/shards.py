"""The statements of a shard that is carried: its checkpoints, and what it leaves behind.

Every write to a shard is conditional on its attempt, the fencing number: a worker whose lease is
gone changes nothing, whatever it believes. Values are written whole, not added, so a checkpoint
that took effect and whose reply was lost does no harm when it is written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Row, Update, and_, bindparam, insert, null, select, update

from longshore.database.parts import set_buckets
from longshore.database.prepared import Prepared
from longshore.database.rollup import fold, fold_errors, lock_job, roll_up
from longshore.database.tables import bucket_operations, jobs, shards, sources
from longshore.errors import Error
from longshore.model import (
    COUNTER_NAMES,
    FORMAT,
    Counters,
    Errors,
    ErrorSummary,
    Shard,
    State,
    change,
    dump_errors,
    load_errors,
    merge_errors,
)


class Halving(Enum):
    """What there is to say about halving a running shard."""

    ASKED = "ASKED"
    """An idle worker asks for half of what is left."""
    NO = "NO"
    """Its own worker has found nothing worth it."""


class LeaseLost(Exception):
    """The shard belongs to another attempt; whoever gets this drops it and sends nothing more."""


class Answer(Enum):
    """What a checkpoint tells a shard to do."""

    GO_ON = "go on"
    HALVE = "go on, and hand half of the rest over"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a shard is about to do: its intent, where its source goes on, and what it found."""

    intent: bytes | None
    cursor: Mapping[str, Any]
    found: int
    bytes_found: int
    halves: bool = False
    """Whether the shard would hand half of the rest over, if an idle worker asked for it."""
    got_on: bool = False
    """Whether anything has been done since it was leased: then it is not what kills workers."""


MINE = and_(
    shards.c.id == bindparam("shard_id"),
    shards.c.attempt == bindparam("shard_attempt"),
    shards.c.state == State.RUNNING.value,
    shards.c.owner.is_not(None),
)
_IS_CANCELLED = select(jobs.c.cancel_us).where(jobs.c.id == bindparam("job_id"))
_ASKED = (
    select(jobs.c.cancel_us, shards.c.halving)
    .outerjoin(shards, and_(shards.c.job == jobs.c.id, shards.c.id == bindparam("shard_id")))
    .where(jobs.c.id == bindparam("job_id"))
)
_FOUND = select(shards.c.total, shards.c.bytes_found).where(shards.c.id == bindparam("shard_id"))
WHOLE = (
    select(
        shards,
        jobs.c.project,
        jobs.c.job_id,
        jobs.c.transformation_name,
        jobs.c.transformation,
        jobs.c.dry_run,
        jobs.c.log_states,
        bucket_operations.c.bucket,
        bucket_operations.c.source_name,
        sources.c.data.label("source"),
    )
    .join(jobs, jobs.c.id == shards.c.job)
    .join(bucket_operations, bucket_operations.c.id == shards.c.bucket_operation)
    .join(
        sources,
        and_(sources.c.job == shards.c.job, sources.c.number == bucket_operations.c.source),
    )
)
_LEASED = WHOLE.where(
    shards.c.id == bindparam("id"),
    shards.c.attempt == bindparam("attempt"),
    shards.c.owner.is_not(None),
)


def _update(*columns: str) -> Update:
    """An update of a leased shard whose values are given as ``new_<column>``; built once, since
    building one takes longer than running it."""
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    return update(shards).where(MINE).values(checkpoint=shards.c.checkpoint + 1, **values)


_COUNTED = (*COUNTER_NAMES, "errors", "intent")
_CHECKPOINT = _update(*_COUNTED, "cursor", "halving", "deaths", "checkpoint_us")
_QUICK_ASKED, _QUICK_CHECKPOINT = Prepared(_ASKED), Prepared(_CHECKPOINT)
_FINISH = _update(*_COUNTED, "owner", "state", "error_code", "error_message")
_HAND_BACK = _update(*COUNTER_NAMES, "intent", "owner").values(errors=null())
_LET_GO = _update("owner")
_PLAN = _update("range", "store", "deaths")
_CUT = _update("range")
_CONFIRM = _update()


def reload(connection: Connection, shard: Shard) -> Shard:
    """A leased shard as its last checkpoint left it; raises LeaseLost."""
    row = connection.execute(_LEASED, {"id": shard.id, "attempt": shard.attempt}).first()
    if row is None:
        raise LeaseLost(f"shard {shard.id} is no longer attempt {shard.attempt}")
    return shard_of(row)


def shard_of(row: Row[Any], attempt: int | None = None) -> Shard:
    """The shard of a row of WHOLE; ``attempt``: the one that it is being leased for."""
    return Shard(
        id=row.id,
        job=row.job,
        bucket_operation=row.bucket_operation,
        attempt=row.attempt if attempt is None else attempt,
        project=row.project,
        job_id=row.job_id,
        bucket=row.bucket,
        store=row.store,
        source=(row.source_name, row.source),
        transformation=(row.transformation_name, row.transformation),
        dry_run=row.dry_run,
        log_states=frozenset(row.log_states),
        range=row.range,
        cursor=row.cursor,
        intent=row.intent,
        counters=Counters(**{name: row._mapping[name] for name in COUNTER_NAMES}),
        errors=load_errors(row.errors),
        deaths=row.deaths,
    )


def checkpoint(
    connection: Connection,
    shard: Shard,
    counters: Counters,
    errors: Errors,
    announcement: Announcement,
    now_us: int,
) -> Answer:
    """Count what is done and announce what is next, unless the job is being cancelled.

    Cancelled: nothing is announced, the shard ends here, and the answer is STOP. ``counters`` hold
    what is done, without the announcement. Raises LeaseLost, having changed nothing.
    """
    asked = connection.execute(_ASKED, {"job_id": shard.job, "shard_id": shard.id}).one()
    if asked.cancel_us is not None:
        # If this was committed once, and only the reply was lost, its objects have been counted as
        # found, and perhaps seen; nobody acts upon them any more.
        found = connection.execute(_FOUND, {"shard_id": shard.id}).one()
        counters = replace(
            counters,
            total=max(counters.total, found.total),
            bytes_found=max(counters.bytes_found, found.bytes_found),
        )
        finish(connection, shard, counters, errors, State.CANCELED, now_us)
        return Answer.STOP
    values = _checkpoint_values(shard, counters, errors, announcement, now_us)
    _write(connection, shard, _CHECKPOINT, values)
    return _answer(asked.halving, announcement)


def quick_checkpoint(
    connection: Connection,
    shard: Shard,
    counters: Counters,
    errors: Errors,
    announcement: Announcement,
    now_us: int,
) -> Answer | None:
    """The same for ``Database.jot``; None where the job is being cancelled or the lease is lost."""
    keys = {"job_id": shard.job, "shard_id": shard.id}
    cancel_us, halving = _QUICK_ASKED.run(connection, keys).fetchone()
    if cancel_us is not None:
        return None
    values = _checkpoint_values(shard, counters, errors, announcement, now_us)
    if _QUICK_CHECKPOINT.run(connection, _of_shard(shard, values)).rowcount == 0:
        return None
    return _answer(halving, announcement)


def _checkpoint_values(
    shard: Shard, counters: Counters, errors: Errors, announcement: Announcement, now_us: int
) -> dict[str, Any]:
    values = _counter_values(counters, errors)
    values["total"] += announcement.found
    values["bytes_found"] += announcement.bytes_found
    values |= {"intent": announcement.intent, "cursor": announcement.cursor}
    values["halving"] = None if announcement.halves else Halving.NO.value
    values["deaths"] = 0 if announcement.got_on else shard.deaths
    values["checkpoint_us"] = now_us
    return values


def _answer(halving: str | None, announcement: Announcement) -> Answer:
    wanted = announcement.halves and halving == Halving.ASKED.value
    return Answer.HALVE if wanted else Answer.GO_ON


def finish(
    connection: Connection,
    shard: Shard,
    counters: Counters,
    errors: Errors,
    state: State,
    now_us: int,
    error: Error | None = None,
) -> None:
    """End a shard, and with the last one its bucket operation and job.

    A shard that comes to an end, whichever, after somebody asked to cancel its job ends CANCELED.
    Raises LeaseLost, having changed nothing.
    """
    lock_job(connection, shard.job)
    cancelled = connection.execute(_IS_CANCELLED, {"job_id": shard.job}).scalar_one() is not None
    if cancelled:
        state, error = State.CANCELED, None
    values = _counter_values(counters, errors)
    values |= {"intent": None, "owner": None, "state": change(State.RUNNING, state).value}
    values["error_code"] = error.code.name if error else None
    values["error_message"] = error.message if error else None
    fold(connection, shard.bucket_operation, (counters, errors))
    _write(connection, shard, _FINISH, values)
    roll_up(connection, shard.job, now_us, shard.bucket_operation)


def hand_back(connection: Connection, shard: Shard, counters: Counters, errors: Errors) -> None:
    """Count what is done and give the lease back, so that another worker can go on at once.

    Raises LeaseLost, having changed nothing.
    """
    if errors:
        lock_job(connection, shard.job)
        fold_errors(connection, shard.bucket_operation, errors)
    _write(connection, shard, _HAND_BACK, _counters(counters) | {"intent": None, "owner": None})


def let_go(connection: Connection, shard: Shard) -> None:
    """Give the lease back and leave everything else as the last checkpoint wrote it.

    Raises LeaseLost, having changed nothing.
    """
    _write(connection, shard, _LET_GO, {"owner": None})


def finish_search(
    connection: Connection, shard: Shard, buckets: Sequence[str], now_us: int
) -> Shard | None:
    """Make a shard without a bucket the planning shard of the first of ``buckets``, which keeps its
    lease and is given, and bucket operations of the others; without any, or where somebody asked
    to cancel, it ends.

    Raises LeaseLost, having changed nothing.
    """
    lock_job(connection, shard.job)
    cancelled = connection.execute(_IS_CANCELLED, {"job_id": shard.job}).scalar_one() is not None
    if cancelled or not buckets:
        finish(connection, shard, Counters(), {}, State.SUCCEEDED, now_us)
        return None
    set_buckets(connection, shard.job, shard.bucket_operation, buckets, now_us)
    _write(connection, shard, _CONFIRM, {})
    return replace(shard, bucket=buckets[0])


def finish_plan(
    connection: Connection,
    shard: Shard,
    ranges: Sequence[Mapping[str, Any]],
    store: str,
    now_us: int,
) -> Shard | None:
    """Make a planning shard the shard of the first of its ranges, which keeps its lease and is
    given, and free shards of the others; with no range, or where somebody asked to cancel, it ends.

    ``store``: the name of the one that serves the bucket. Raises LeaseLost, having changed nothing.
    """
    lock_job(connection, shard.job)  # before the new rows refer to it
    cancelled = connection.execute(_IS_CANCELLED, {"job_id": shard.job}).scalar_one() is not None
    if cancelled or not ranges:
        finish(connection, shard, Counters(), {}, State.SUCCEEDED, now_us)
        return None
    first, *others = ranges
    _write(connection, shard, _PLAN, {"range": first, "store": store, "deaths": 0})
    if others:
        connection.execute(insert(shards), [_new(shard, range_, store, 0) for range_ in others])
    return replace(shard, range=first, store=store, deaths=0)


def hand_over(
    connection: Connection, shard: Shard, keep: Mapping[str, Any], give: Mapping[str, Any]
) -> bool:
    """Cut the range of a leased shard, and make a free shard of what it gives away; False, with
    nothing changed, where somebody asked to cancel the job.

    Nothing that it has announced may lie in ``give``. Raises LeaseLost, having changed nothing.
    """
    lock_job(connection, shard.job)
    if connection.execute(_IS_CANCELLED, {"job_id": shard.job}).scalar_one() is not None:
        return False
    _write(connection, shard, _CUT, {"range": keep})
    connection.execute(insert(shards), [_new(shard, give, shard.store, shard.attempt)])
    return True


def _new(
    shard: Shard, range_: Mapping[str, Any], store: str | None, attempt: int
) -> dict[str, Any]:
    return {
        "job": shard.job,
        "bucket_operation": shard.bucket_operation,
        "state": State.QUEUED.value,
        "range": range_,
        "cursor": {},
        "store": store,
        "attempt": attempt,
        "format": FORMAT,
    }


def give_up(connection: Connection, shard: Shard, error: Error, now_us: int) -> None:
    """End a shard FAILED from its last checkpoint; what was announced but not counted failed too.

    Raises LeaseLost, having changed nothing.
    """
    row = connection.execute(select(shards).where(shards.c.id == shard.id)).one_or_none()
    if row is None:
        raise LeaseLost(f"shard {shard.id} is gone with its job")
    counters = Counters(**{name: row._mapping[name] for name in COUNTER_NAMES})
    lost = 0 if shard.dry_run else counters.total - counters.succeeded - counters.failed
    errors = load_errors(row.errors)
    if lost:
        errors = merge_errors([errors, {error.code: ErrorSummary(code=error.code, count=lost)}])
        counters = replace(counters, failed=counters.failed + lost)
    finish(connection, shard, counters, errors, State.FAILED, now_us, error)


def _counter_values(counters: Counters, errors: Errors) -> dict[str, Any]:
    return _counters(counters) | {"errors": dump_errors(errors)}


def _counters(counters: Counters) -> dict[str, Any]:
    return {name: getattr(counters, name) for name in COUNTER_NAMES}


def _write(
    connection: Connection, shard: Shard, statement: Update, values: Mapping[str, Any]
) -> None:
    if connection.execute(statement, _of_shard(shard, values)).rowcount == 0:
        raise LeaseLost(f"shard {shard.id} is no longer attempt {shard.attempt}")


def _of_shard(shard: Shard, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an ``_update``."""
    keys = {"shard_id": shard.id, "shard_attempt": shard.attempt}
    return keys | {f"new_{name}": value for name, value in values.items()}

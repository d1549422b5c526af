"""The statements of the engine: leases, checkpoints, and what a shard leaves behind.

Every write to a shard is conditional on its attempt, the fencing number: a worker whose lease is
gone changes nothing, whatever it believes. Values are written whole, not added, so a checkpoint
that took effect and whose reply was lost does no harm when it is written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    case,
    insert,
    or_,
    select,
    update,
)

from longshore.database.rollup import begin, lock_job, roll_up
from longshore.database.tables import bucket_operations, jobs, shards
from longshore.errors import Error
from longshore.model import (
    COUNTER_NAMES,
    OPEN_STATES,
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


class LeaseLost(Exception):
    """The shard belongs to another attempt; whoever gets this drops it and sends nothing more."""


class Answer(Enum):
    """What a checkpoint tells a shard to do."""

    GO_ON = "go on"
    STOP = "stop"


class Poll(NamedTuple):
    """What a worker asks every 50 ms: jobs to cancel, and whether any shard is free."""

    cancelled: frozenset[int]
    free: bool


Carried = Mapping[str | None, int]
"""How many shards a worker carries of each store, by its name; None: how many it plans."""


class Lease(NamedTuple):
    """A shard's lease, as its supervisor watches it: it lives while ``checkpoint`` moves."""

    shard: int
    attempt: int
    owner: str
    checkpoint: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a shard is about to do: its intent, where its source goes on, and what it found."""

    intent: bytes | None
    cursor: Mapping[str, Any]
    found: int
    bytes_found: int


_FREE = and_(shards.c.owner.is_(None), shards.c.state.in_(OPEN_STATES))
_MINE = and_(
    shards.c.id == bindparam("shard_id"),
    shards.c.attempt == bindparam("shard_attempt"),
    shards.c.state == State.RUNNING.value,
    shards.c.owner.is_not(None),
)
_CANCELLED = select(jobs.c.id).where(jobs.c.cancel_us.is_not(None), jobs.c.complete_us.is_(None))
_IS_CANCELLED = select(jobs.c.cancel_us).where(jobs.c.id == bindparam("job_id"))
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_ID = select(shards.c.id)
_WHOLE = (
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
        bucket_operations.c.source,
    )
    .join(jobs, jobs.c.id == shards.c.job)
    .join(bucket_operations, bucket_operations.c.id == shards.c.bucket_operation)
)
_CANDIDATE = _WHOLE.with_only_columns(
    shards.c.id,
    shards.c.store,
    case((jobs.c.state == State.QUEUED.value, jobs.c.id)).label("waiting_job"),
    case((bucket_operations.c.state == State.QUEUED.value, bucket_operations.c.id)).label(
        "waiting_part"
    ),
)
_LEASED = _WHOLE.where(
    shards.c.id == bindparam("id"),
    shards.c.attempt == bindparam("attempt"),
    shards.c.owner.is_not(None),
)


def _update(*columns: str) -> Update:
    """An update of a leased shard whose values are given as ``new_<column>``; built once, since
    building one takes longer than running it."""
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    return update(shards).where(_MINE).values(checkpoint=shards.c.checkpoint + 1, **values)


_COUNTED = (*COUNTER_NAMES, "errors", "intent")
_CHECKPOINT = _update(*_COUNTED, "cursor")
_FINISH = _update(*_COUNTED, "owner", "state", "error_code", "error_message")
_HAND_BACK = _update(*_COUNTED, "owner")
_LET_GO = _update("owner")
_RENEW = _update()
_TAKE = (
    _WHOLE.where(shards.c.id.in_(_IDS), _FREE)
    .order_by(shards.c.id)
    .with_for_update(of=shards, key_share=True, skip_locked=True)
)
_LEASE = (
    update(shards)
    .where(shards.c.id.in_(_IDS))
    .values(
        state=State.RUNNING.value,
        owner=bindparam("new_owner"),
        attempt=shards.c.attempt + 1,
        checkpoint=shards.c.checkpoint + 1,
    )
)


def poll(connection: Connection, carried: Carried, at_once: int) -> Poll:
    """The jobs that somebody asked to cancel and that have not ended, and whether there is a shard
    that ``claim`` would take."""
    cancelled = frozenset(connection.execute(_CANCELLED).scalars())
    free = connection.execute(_takeable(_ID, carried, at_once)).first() is not None
    return Poll(cancelled, free)


def claim(
    connection: Connection, owner: str, carried: Carried, at_once: int, now_us: int
) -> list[Shard]:
    """Lease free shards to the worker ``owner``, oldest first, until it carries ``at_once`` of each
    store and of planning; ``carried``: how many it does by now.

    May give fewer than are free: what another worker takes at this moment is left to it.
    """
    chosen = _choose(connection, carried, at_once)
    waiting_jobs = {row.waiting_job for row in chosen} - {None}
    begin(connection, waiting_jobs, {row.waiting_part for row in chosen} - {None}, now_us)
    taken = connection.execute(_TAKE, {"ids": [row.id for row in chosen]}).all() if chosen else []
    if taken:
        connection.execute(_LEASE, {"ids": [row.id for row in taken], "new_owner": owner})
    return [_shard(row, attempt=row.attempt + 1) for row in taken]


def _choose(connection: Connection, carried: Carried, at_once: int) -> list[Row[Any]]:
    """The shards that a worker would take; nothing is locked yet."""
    chosen: list[Row[Any]] = []
    carries = Counter(carried)
    last = 0
    while row := connection.execute(
        _takeable(_CANDIDATE, carries, at_once).where(shards.c.id > last)
    ).first():
        chosen.append(row)
        carries[row.store] += 1
        last = row.id
    return chosen


def _takeable(statement: Select[Any], carried: Carried, at_once: int) -> Select[Any]:
    """The oldest free shard of a store of which a worker can carry more."""
    full = [store for store, count in carried.items() if count >= at_once]
    statement = statement.where(_FREE).order_by(shards.c.id).limit(1)
    if None in full:
        statement = statement.where(shards.c.store.is_not(None))
    stores = [store for store in full if store is not None]
    if stores:
        statement = statement.where(or_(shards.c.store.is_(None), shards.c.store.not_in(stores)))
    return statement


def reload(connection: Connection, shard: Shard) -> Shard:
    """A leased shard as its last checkpoint left it; raises LeaseLost."""
    row = connection.execute(_LEASED, {"id": shard.id, "attempt": shard.attempt}).first()
    if row is None:
        raise LeaseLost(f"shard {shard.id} is no longer attempt {shard.attempt}")
    return _shard(row)


def _shard(row: Row[Any], attempt: int | None = None) -> Shard:
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
    if connection.execute(_IS_CANCELLED, {"job_id": shard.job}).scalar_one() is not None:
        finish(connection, shard, counters, errors, State.CANCELED, now_us)
        return Answer.STOP
    values = _counter_values(counters, errors)
    values["total"] += announcement.found
    values["bytes_found"] += announcement.bytes_found
    values |= {"intent": announcement.intent, "cursor": announcement.cursor}
    _write(connection, shard, _CHECKPOINT, values)
    return Answer.GO_ON


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
    _write(connection, shard, _FINISH, values)
    roll_up(connection, shard.job, now_us)


def hand_back(connection: Connection, shard: Shard, counters: Counters, errors: Errors) -> None:
    """Count what is done and give the lease back, so that another worker can go on at once.

    Raises LeaseLost, having changed nothing.
    """
    values = _counter_values(counters, errors) | {"intent": None, "owner": None}
    _write(connection, shard, _HAND_BACK, values)


def let_go(connection: Connection, shard: Shard) -> None:
    """Give the lease back and leave everything else as the last checkpoint wrote it.

    Raises LeaseLost, having changed nothing.
    """
    _write(connection, shard, _LET_GO, {"owner": None})


def finish_plan(
    connection: Connection,
    shard: Shard,
    ranges: Sequence[Mapping[str, Any]],
    store: str,
    now_us: int,
) -> None:
    """Replace a planning shard by the shards of its ranges, in one transaction.

    ``store``: the name of the one that serves the bucket.
    """
    rows = [
        {
            "job": shard.job,
            "bucket_operation": shard.bucket_operation,
            "state": State.QUEUED.value,
            "range": range_,
            "cursor": {},
            "store": store,
        }
        for range_ in ranges
    ]
    lock_job(connection, shard.job)  # before the new rows refer to it
    cancelled = connection.execute(_IS_CANCELLED, {"job_id": shard.job}).scalar_one() is not None
    if rows and not cancelled:
        connection.execute(insert(shards), rows)
    finish(connection, shard, Counters(), {}, State.SUCCEEDED, now_us)


def give_up(connection: Connection, shard: Shard, error: Error, now_us: int) -> None:
    """End a shard FAILED from its last checkpoint; what was announced but not counted failed too.

    Raises LeaseLost, having changed nothing.
    """
    row = connection.execute(select(shards).where(shards.c.id == shard.id)).one_or_none()
    if row is None:
        raise LeaseLost(f"shard {shard.id} is gone with its job")
    counters = Counters(**{name: row._mapping[name] for name in COUNTER_NAMES})
    lost = counters.total - counters.succeeded - counters.failed
    errors = load_errors(row.errors)
    if lost:
        errors = merge_errors([errors, {error.code: ErrorSummary(code=error.code, count=lost)}])
        counters = replace(counters, failed=counters.failed + lost)
    finish(connection, shard, counters, errors, State.FAILED, now_us, error)


def renew(connection: Connection, leases: Mapping[int, int]) -> frozenset[int]:
    """Keep leases (shard id → attempt) alive without counting anything; gives those that live."""
    return frozenset(
        shard
        for shard, attempt in leases.items()
        if connection.execute(_RENEW, {"shard_id": shard, "shard_attempt": attempt}).rowcount
    )


def leases(connection: Connection) -> list[Lease]:
    """Every lease there is."""
    rows = connection.execute(
        select(shards.c.id, shards.c.attempt, shards.c.owner, shards.c.checkpoint).where(
            shards.c.owner.is_not(None)
        )
    )
    return [Lease(*row) for row in rows]


def release(connection: Connection, owner: str | None = None) -> int:
    """End the leases of the worker ``owner``, or of everybody; gives how many there were.

    Only for workers that are known to be dead: their processes reaped, or the lock on the data
    directory taken.
    """
    mine = shards.c.owner.is_not(None) if owner is None else shards.c.owner == owner
    return connection.execute(update(shards).where(mine).values(owner=None)).rowcount


def _counter_values(counters: Counters, errors: Errors) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(counters, name) for name in COUNTER_NAMES}
    values["errors"] = dump_errors(errors)
    return values


def _write(
    connection: Connection, shard: Shard, statement: Update, values: Mapping[str, Any]
) -> None:
    keys = {"shard_id": shard.id, "shard_attempt": shard.attempt}
    parameters = keys | {f"new_{name}": value for name, value in values.items()}
    if connection.execute(statement, parameters).rowcount == 0:
        raise LeaseLost(f"shard {shard.id} is no longer attempt {shard.attempt}")

"""Who carries which shard: leasing what is free, fairly; giving it back; asking for more.

What is free is leased job by job: first of the job of which the fewest shards are carried by
anybody, then of the one that was served least often, so that a small job never waits for a large
one. ``attempt`` counts both how often a shard was leased and how often it has had its turn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    update,
)

from longshore.database.rollup import begin
from longshore.database.shards import WHOLE, Halving, shard_of
from longshore.database.tables import bucket_operations, jobs, shards
from longshore.model import FORMAT, OPEN_STATES, Shard, State

Carried = Mapping[str | None, int]
"""How many shards a worker carries of each store, by its name; None: how many it plans."""


class Poll(NamedTuple):
    """What a worker asks every 50 ms: which jobs are cancelled; whether a shard is free for it; and
    ``starved``: the stores, all of whose places it has filled, of jobs that nobody carries."""

    cancelled: frozenset[int]
    free: bool
    starved: tuple[str | None, ...] = ()


class Lease(NamedTuple):
    """A shard's lease, as its supervisor watches it: it lives while ``checkpoint`` moves, and for
    ``seconds`` after that; None: as long as the supervisor's own settings say."""

    shard: int
    attempt: int
    owner: str
    checkpoint: int
    seconds: float | None = None


class Leased(NamedTuple):
    """So many shards of a bucket are leased by a worker."""

    store: str
    bucket: str
    owner: str
    shards: int


_STARVED_AT_ONCE = 8
_JOBS_AT_ONCE = 64
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
# Written out: no database takes a parameter for the condition of an index.
_OPEN_STATES: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in OPEN_STATES]
_FREE = and_(shards.c.owner.is_(None), shards.c.state.in_(_OPEN_STATES))
_TURNS = (shards.c.job, shards.c.attempt, shards.c.id)
LEASED = shards.c.owner.is_not(None)
LEASE_OF = (
    shards.c.id,
    shards.c.attempt,
    shards.c.owner,
    shards.c.checkpoint,
    shards.c.lease_seconds,
)
"""The columns of a Lease."""
_CANCELLED = select(jobs.c.id).where(jobs.c.cancel_us.is_not(None), jobs.c.complete_us.is_(None))
_OF_JOB = shards.c.job == jobs.c.id
_OPEN = jobs.c.state.in_(_OPEN_STATES)
_CARRIED = select(func.count()).where(_OF_JOB, LEASED).scalar_subquery()
_CANDIDATE = WHOLE.with_only_columns(
    shards.c.id,
    shards.c.store,
    case((jobs.c.state == State.QUEUED.value, jobs.c.id)).label("waiting_job"),
    case((bucket_operations.c.state == State.QUEUED.value, bucket_operations.c.id)).label(
        "waiting_part"
    ),
)
_TAKE = (
    WHOLE.where(shards.c.id.in_(_IDS), _FREE, shards.c.format <= bindparam("reads"))
    .order_by(shards.c.id)
    .with_for_update(of=shards, key_share=True, skip_locked=True)
)
LEASE = (
    update(shards)
    .where(shards.c.id.in_(_IDS))
    .values(
        state=State.RUNNING.value,
        owner=bindparam("new_owner"),
        attempt=shards.c.attempt + 1,
        checkpoint=shards.c.checkpoint + 1,
        halving=None,
    )
)
# From now on the row is what this longshore makes of it.
TO_CARRY: dict[str, Any] = {"format": FORMAT, "lease_seconds": bindparam("seconds")}
_LEASE_TO_CARRY = LEASE.values(**TO_CARRY)
RENEW = (
    update(shards)
    .where(
        shards.c.id == bindparam("shard_id"),
        shards.c.attempt == bindparam("shard_attempt"),
        shards.c.state == State.RUNNING.value,
        LEASED,
    )
    .values(checkpoint=shards.c.checkpoint + 1)
)
_WHO = (
    select(shards.c.store, bucket_operations.c.bucket, shards.c.owner, func.count())
    .join(bucket_operations, bucket_operations.c.id == shards.c.bucket_operation)
    .where(LEASED, shards.c.store.is_not(None))
    .group_by(shards.c.store, bucket_operations.c.bucket, shards.c.owner)
)


def poll(connection: Connection, carried: Carried, at_once: int, reads: int = FORMAT) -> Poll:
    """What is new for a worker that has ``at_once`` places for shards of each store, and reads
    formats up to ``reads``."""
    full = _full(carried, at_once)
    some = connection.execute(_any_free(tuple(full), reads)).first() is not None
    return Poll(cancelled(connection), some, _starved(connection, full, reads) if full else ())


def cancelled(connection: Connection) -> frozenset[int]:
    """The jobs whose end was asked for, and that have not ended."""
    return frozenset(connection.execute(_CANCELLED).scalars())


@lru_cache(maxsize=64)
def _any_free(full: tuple[str | None, ...], reads: int) -> Select[Any]:
    """Built once for each combination of stores: every worker asks twenty times a second."""
    # In the order of their index, or PostgreSQL may hope to meet one soon among all shards.
    return select(shards.c.id).where(_FREE, *_only(full, reads)).order_by(*_TURNS).limit(1)


def _starved(connection: Connection, full: list[str | None], reads: int) -> tuple[str | None, ...]:
    """The stores, among ``full``, of jobs with free shards of which nobody carries any."""
    of_them = or_(*(shards.c.store.is_not_distinct_from(one) for one in full))
    mine = and_(of_them, shards.c.format <= reads)
    free = select(shards.c.id).where(_OF_JOB, _FREE, mine).exists()
    leased = select(shards.c.id).where(_OF_JOB, LEASED).exists()
    waiting = select(jobs.c.id).where(_OPEN, free, ~leased).limit(_STARVED_AT_ONCE)
    first = (
        select(shards.c.store)
        .where(shards.c.job == bindparam("job"), _FREE, mine)
        .order_by(shards.c.attempt, shards.c.id)
        .limit(1)
    )
    found = connection.execute(waiting).scalars().all()
    return tuple(connection.execute(first, {"job": job}).scalar_one_or_none() for job in found)


def claim(
    connection: Connection,
    owner: str,
    carried: Carried,
    at_once: int,
    now_us: int,
    seconds: float | None = None,
) -> list[Shard]:
    """Lease free shards to the worker ``owner`` until it carries ``at_once`` of each store and of
    planning; ``carried``: how many it does by now; ``seconds``: how long its leases last.

    May give fewer than are free: what another worker takes at this moment is left to it.
    """
    taken = take(connection, choose(connection, carried, at_once), now_us)
    if taken:
        ids = [row.id for row in taken]
        connection.execute(_LEASE_TO_CARRY, {"ids": ids, "new_owner": owner, "seconds": seconds})
    return [shard_of(row, attempt=row.attempt + 1) for row in taken]


def take(
    connection: Connection, chosen: Sequence[Any], now_us: int, reads: int = FORMAT
) -> Sequence[Any]:
    """Lock what is still free, and of formats up to ``reads``, of the ``chosen``."""
    if not chosen:
        return []
    waiting_jobs = {row.waiting_job for row in chosen} - {None}
    begin(connection, waiting_jobs, {row.waiting_part for row in chosen} - {None}, now_us)
    keys = {"ids": [row.id for row in chosen], "reads": reads}
    return connection.execute(_TAKE, keys).all()


def choose(
    connection: Connection,
    carried: Carried,
    at_once: int,
    reads: int = FORMAT,
    most: float = math.inf,
) -> list[Any]:
    """The shards that a worker would take, of formats up to ``reads``; nothing is locked yet."""
    carries = Counter(carried)
    chosen: list[Any] = []
    full = _full(carries, at_once)
    queue = {
        row.id: (row.carried, row.served, row.id)
        for row in connection.execute(_jobs_with_free_shards(full, reads))
    }
    while queue and len(chosen) < most:
        job = min(queue, key=queue.__getitem__)
        shard = connection.execute(
            _CANDIDATE.where(
                shards.c.job == job,
                _FREE,
                shards.c.id.not_in([row.id for row in chosen]),
                *_only(_full(carries, at_once), reads),
            )
            .order_by(shards.c.attempt, shards.c.id)
            .limit(1)
        ).first()
        if shard is None:
            del queue[job]
            continue
        chosen.append(shard)
        carries[shard.store] += 1
        carried_now, served, _ = queue[job]
        queue[job] = (carried_now + 1, served, job)
    return chosen


def _jobs_with_free_shards(full: list[str | None], reads: int) -> Select[Any]:
    served = (
        select(shards.c.attempt)
        .where(_OF_JOB, _FREE, *_only(full, reads))
        .order_by(shards.c.attempt, shards.c.id)
        .limit(1)
        .scalar_subquery()
    )
    columns = select(jobs.c.id, _CARRIED.label("carried"), served.label("served"))
    found = columns.where(_OPEN).subquery()
    return (
        select(found)
        .where(found.c.served.is_not(None))
        .order_by(found.c.carried, found.c.served, found.c.id)
        .limit(_JOBS_AT_ONCE)
    )


def is_awaited(connection: Connection, store: str) -> bool:
    """Whether a shard of the store is free."""
    free = select(shards.c.id).where(_FREE, shards.c.store == store).order_by(*_TURNS).limit(1)
    return connection.execute(free).first() is not None


def worth_halving(
    connection: Connection, carried: Carried, at_once: int, reads: int = FORMAT
) -> int | None:
    """The running shard, of a store of which this worker could carry more and of a format that it
    reads, that is to be asked for half of what it has left: the one that has done least, since it
    has most left as far as anybody knows. None where nothing runs, or all have been asked."""
    running = (
        select(shards.c.id)
        .join(jobs, jobs.c.id == shards.c.job)
        .where(
            LEASED,
            shards.c.range.is_not(None),
            shards.c.halving.is_(None),
            jobs.c.cancel_us.is_(None),
            *_only(_full(carried, at_once), reads),
        )
        .order_by(shards.c.total, shards.c.id)
        .limit(1)
    )
    return connection.execute(running).scalar_one_or_none()


def ask_to_halve(connection: Connection, shard: int) -> None:
    """Ask for half of what a running shard has left, unless somebody has."""
    asked = update(shards).where(shards.c.id == shard, shards.c.halving.is_(None), LEASED)
    connection.execute(asked.values(halving=Halving.ASKED.value))


def who_leases(connection: Connection) -> list[Leased]:
    """How many shards of each bucket each worker has."""
    return [Leased(*row) for row in connection.execute(_WHO)]


def renew(connection: Connection, attempts: Mapping[int, int]) -> frozenset[int]:
    """Keep leases (shard id → attempt) alive without counting anything; gives those that live."""
    return frozenset(
        shard
        for shard, attempt in attempts.items()
        if connection.execute(RENEW, {"shard_id": shard, "shard_attempt": attempt}).rowcount
    )


def leases(connection: Connection) -> list[Lease]:
    """Every lease there is."""
    return [Lease(*row) for row in connection.execute(select(*LEASE_OF).where(LEASED))]


def release(connection: Connection, owner: str | None = None, *, prefix: str = "") -> int:
    """End the leases of the worker ``owner``, or of all whose names begin with ``prefix``; gives
    how many there were.

    Only for workers that are known to be dead: their processes reaped, the lock on the data
    directory taken, or their leases unmoved for longer than they last.
    """
    mine = shards.c.owner == owner
    if owner is None:
        mine = and_(LEASED, shards.c.owner.startswith(prefix, autoescape=True))
    return connection.execute(update(shards).where(mine).values(owner=None)).rowcount


def bury(connection: Connection, owner: str) -> int:
    """``release`` for a worker that has died by itself, or was ended because it hung: that may have
    been the doing of what it carried, so it is counted there."""
    mine = update(shards).where(shards.c.owner == owner)
    return connection.execute(mine.values(owner=None, deaths=shards.c.deaths + 1)).rowcount


def _full(carried: Carried, at_once: int) -> list[str | None]:
    return [store for store, count in carried.items() if count >= at_once]


def _only(full: Sequence[str | None], reads: int) -> list[ColumnElement[bool]]:
    """Conditions that leave out the shards of some stores, and those of newer formats."""
    return [*_not_of(full), shards.c.format <= reads]


def _not_of(full: Sequence[str | None]) -> list[ColumnElement[bool]]:
    """Conditions that leave out the shards of some stores, and with None those to be planned."""
    conditions: list[ColumnElement[bool]] = []
    if None in full:
        conditions.append(shards.c.store.is_not(None))
    stores = [store for store in full if store is not None]
    if stores:
        conditions.append(or_(shards.c.store.is_(None), shards.c.store.not_in(stores)))
    return conditions

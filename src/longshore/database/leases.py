"""Who carries which shard: leasing what is free, fairly; giving it back; asking for more.

What is free is leased job by job: first of the job of which the fewest shards are carried by
anybody, then of the one that was served least often, so that a small job never waits for a large
one. ``attempt`` counts both how often a shard was leased and how often it has had its turn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    select,
    tuple_,
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
_SHARDS_AT_ONCE = 64
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
# Written out: no database takes a parameter for the condition of an index.
_OPEN_STATES: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in OPEN_STATES]
_FREE = and_(shards.c.owner.is_(None), shards.c.state.in_(_OPEN_STATES))
_TURN = (shards.c.attempt, shards.c.id)
_TURNS = (shards.c.store, shards.c.job, *_TURN)
"""The index of what is free: PostgreSQL may hope to meet one soon elsewhere, where it is not asked
for in this order."""
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
_CANDIDATE = (
    select(
        shards.c.id,
        shards.c.attempt,
        shards.c.store,
        case((jobs.c.state == State.QUEUED.value, jobs.c.id)).label("waiting_job"),
        case((bucket_operations.c.state == State.QUEUED.value, bucket_operations.c.id)).label(
            "waiting_part"
        ),
    )
    .join(jobs, jobs.c.id == shards.c.job)
    .join(bucket_operations, bucket_operations.c.id == shards.c.bucket_operation)
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
    awaited = _awaited(connection)
    full = [store for store in awaited if carried.get(store, 0) >= at_once]
    some = any(is_awaited(connection, store, reads) for store in awaited if store not in full)
    return Poll(cancelled(connection), some, _starved(connection, full, reads))


def cancelled(connection: Connection) -> frozenset[int]:
    """The jobs whose end was asked for, and that have not ended."""
    return frozenset(connection.execute(_CANCELLED).scalars())


def _stores_awaited() -> CompoundSelect[Any]:
    """From each store to the next in the index of what is free, however many shards wait."""
    free = select(shards.c.store).where(_FREE).order_by(*_TURNS).limit(1)
    first = free.where(shards.c.store.is_not(None)).scalar_subquery()
    found = select(first.label("store")).cte("found", recursive=True)
    later = free.where(shards.c.store > found.c.store).scalar_subquery()
    found = found.union_all(select(later).where(found.c.store.is_not(None)))
    planning = free.where(shards.c.store.is_(None)).exists()
    named = select(found.c.store).where(found.c.store.is_not(None))
    return named.union_all(select(null()).where(planning))


_AWAITED = _stores_awaited()
_ANY_FREE = select(shards.c.id).where(_FREE).order_by(*_TURNS).limit(1)


def _awaited(connection: Connection) -> list[str | None]:
    """The stores of free shards; None: some are to be planned."""
    # Asked twenty times a second by a worker that has nothing to do, for whom this is cheaper.
    if connection.execute(_ANY_FREE).first() is None:
        return []
    return list(connection.execute(_AWAITED).scalars())


def _of(store: str | None) -> ColumnElement[bool]:
    """The shards of one store, or those to be planned."""
    return shards.c.store.is_(None) if store is None else shards.c.store == store


def _starved(
    connection: Connection, full: Sequence[str | None], reads: int
) -> tuple[str | None, ...]:
    """The stores, among ``full``, of jobs with free shards of which nobody carries any; one for
    each job."""
    leased = select(shards.c.id).where(_OF_JOB, LEASED).exists()
    starved: dict[int, str | None] = {}
    for store in full:
        mine = (_OF_JOB, _FREE, _of(store), shards.c.format <= reads)
        waiting = select(jobs.c.id).where(_OPEN, select(shards.c.id).where(*mine).exists(), ~leased)
        for job in connection.execute(waiting.limit(_STARVED_AT_ONCE)).scalars():
            starved.setdefault(job, store)
    return tuple(starved.values())


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
    stores = [store for store in _awaited(connection) if carries[store] < at_once]
    queue: dict[int, tuple[int, int, int]] = {}
    for store in stores:
        for row in connection.execute(_jobs_with_free_shards(store, reads)):
            turn = (row.carried, row.served, row.id)
            queue[row.id] = min(turn, queue.get(row.id, turn))
    waiting = _Waiting(connection, reads, min(at_once, most, _SHARDS_AT_ONCE))
    chosen: list[Any] = []
    while queue and stores and len(chosen) < most:
        job = min(queue, key=queue.__getitem__)
        shard = waiting.pop(job, stores)
        if shard is None:
            del queue[job]
            continue
        chosen.append(shard)
        carries[shard.store] += 1
        if carries[shard.store] >= at_once:
            stores.remove(shard.store)
        carried_now, served, _ = queue[job]
        queue[job] = (carried_now + 1, served, job)
    return chosen


class _Waiting:
    """The free shards of jobs, in the order of their turns."""

    def __init__(self, connection: Connection, reads: int, some: float) -> None:
        """``some``: how many to ask for at a time."""
        self._connection = connection
        self._reads = reads
        self._some = int(some)
        self._lines: dict[tuple[int, str | None], Iterator[Any]] = {}
        self._heads: dict[tuple[int, str | None], Any] = {}

    def pop(self, job: int, stores: Sequence[str | None]) -> Any | None:
        """The next one of a job and any of these stores; None: there is none."""
        heads = {store: head for store in stores if (head := self._head(job, store)) is not None}
        if not heads:
            return None
        store = min(heads, key=lambda one: (heads[one].attempt, heads[one].id))
        return self._heads.pop((job, store))

    def _head(self, job: int, store: str | None) -> Any | None:
        key = job, store
        if key not in self._lines:
            self._lines[key] = self._line(job, store)
        if key not in self._heads:
            self._heads[key] = next(self._lines[key], None)
        return self._heads[key]

    def _line(self, job: int, store: str | None) -> Iterator[Any]:
        of_job = _CANDIDATE.where(
            shards.c.job == job, _FREE, _of(store), shards.c.format <= self._reads
        )
        last: Any = None
        while True:
            left = of_job
            if last is not None:
                left = of_job.where(tuple_(*_TURN) > tuple_(last.attempt, last.id))
            rows = self._connection.execute(left.order_by(*_TURNS).limit(self._some)).all()
            yield from rows
            if len(rows) < self._some:
                return
            last = rows[-1]


def _jobs_with_free_shards(store: str | None, reads: int) -> Select[Any]:
    served = (
        select(shards.c.attempt)
        .where(_OF_JOB, _FREE, _of(store), shards.c.format <= reads)
        .order_by(*_TURNS)
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


def is_awaited(connection: Connection, store: str | None, reads: int = FORMAT) -> bool:
    """Whether a shard of the store is free, or one to be planned."""
    free = select(shards.c.id).where(_FREE, _of(store), shards.c.format <= reads)
    return connection.execute(free.order_by(*_TURNS).limit(1)).first() is not None


def worth_halving(
    connection: Connection, carried: Carried, at_once: int, reads: int = FORMAT, most: int = 1
) -> list[int]:
    """The running shards, of stores of which this worker could carry more and of formats that it
    reads, that are to be asked for half of what they have left: those that have done least, since
    they have most left as far as anybody knows. Fewer than ``most`` where no more run, or all have
    been asked."""
    full = [store for store, count in carried.items() if count >= at_once]
    running = (
        select(shards.c.id)
        .join(jobs, jobs.c.id == shards.c.job)
        .where(
            LEASED,
            shards.c.range.is_not(None),
            shards.c.store.not_in([store for store in full if store is not None]),
            shards.c.halving.is_(None),
            jobs.c.cancel_us.is_(None),
            shards.c.format <= reads,
        )
        .order_by(shards.c.total, shards.c.id)
        .limit(most)
    )
    return list(connection.execute(running).scalars())


def ask_to_halve(connection: Connection, ids: Sequence[int]) -> None:
    """Ask for half of what running shards have left, unless somebody has."""
    asked = update(shards).where(shards.c.id.in_(_IDS), shards.c.halving.is_(None), LEASED)
    connection.execute(asked.values(halving=Halving.ASKED.value), {"ids": ids})


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

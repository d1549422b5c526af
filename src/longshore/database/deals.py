"""Leases that a coordinator deals to the workers of a cluster, each write of it in its term."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, select, update

from longshore.database import coordinator, quotas
from longshore.database.estimates import Found, hear
from longshore.database.leases import (
    LEASE,
    LEASE_OF,
    LEASED,
    RENEW,
    TO_CARRY,
    Carried,
    Lease,
    cancelled,
    choose,
    take,
)
from longshore.database.quotas import Quota
from longshore.database.shards import WHOLE, shard_of
from longshore.database.tables import shards
from longshore.model import FORMAT, Shard

DEALT_AT_ONCE = 256
"""How many shards a cluster gets in one transaction."""
_SEEN_AT_ONCE = 1000


class Carrier(NamedTuple):
    """A worker that can be dealt to: how many shards of each store it carries by now, and may at
    most, and up to which format it reads them."""

    carried: Carried
    at_once: int
    reads: int = FORMAT


class News(NamedTuple):
    """What a worker of a cluster asks once a second, though it is told most of it at once: which
    jobs are cancelled, which shards it was dealt, by id and attempt, its quotas, and what
    others have found out about buckets."""

    cancelled: frozenset[int]
    dealt: Sequence[tuple[int, int]]
    quotas: Sequence[Quota]
    found: Sequence[Found]


class Accepted(NamedTuple):
    """A shard that a worker carries from now on, and the quotas that it has by then."""

    shard: Shard
    quotas: Sequence[Quota]


_CARRIED_BY = (
    select(shards.c.owner, shards.c.store, func.count())
    .where(LEASED)
    .group_by(shards.c.owner, shards.c.store)
)


def carried_by(connection: Connection) -> dict[str, Counter[str | None]]:
    """How many shards of each store, and of planning, each worker has."""
    found: dict[str, Counter[str | None]] = {}
    for owner, store, number in connection.execute(_CARRIED_BY):
        found.setdefault(owner, Counter())[store] = number
    return found


def crowding(connection: Connection, store: str | None) -> list[Lease]:
    """The leases on shards of a store, or on planning, those of the job with most of them first."""
    of_job = func.count().over(partition_by=shards.c.job)
    found = select(*LEASE_OF).where(LEASED, shards.c.store.is_not_distinct_from(store))
    return [Lease(*row) for row in connection.execute(found.order_by(of_job.desc(), shards.c.id))]


def together(carriers: Iterable[Carrier]) -> Carrier:
    """Several workers as if they were one."""
    every = list(carriers)
    return Carrier(
        sum((Counter(one.carried) for one in every), Counter()),
        sum(one.at_once for one in every),
        max(one.reads for one in every),
    )


def deal(
    connection: Connection, term: int, carriers: Mapping[str, Carrier], now_us: int
) -> list[Lease]:
    """Lease free shards to the workers of a cluster, by name, each to the one that has most of its
    places left, until none is; none to a worker that cannot read it.

    Gives DEALT_AT_ONCE at most; who gets them may ask for more. Raises coordinator.Deposed if this
    is no longer the coordinator's ``term``.
    """
    coordinator.check(connection, term)
    dealt: list[Lease] = []
    # Who can read least first: what is left, the others can read as well.
    for reads in sorted({one.reads for one in carriers.values()}):
        alike = {name: one for name, one in carriers.items() if one.reads == reads}
        dealt += _deal(connection, alike, DEALT_AT_ONCE - len(dealt), now_us)
    return dealt


def _deal(
    connection: Connection, carriers: Mapping[str, Carrier], most: int, now_us: int
) -> list[Lease]:
    """The same among workers that read the same formats."""
    whole = together(carriers.values())
    chosen = choose(connection, *whole, most=most)
    loads = {owner: Counter(one.carried) for owner, one in carriers.items()}
    dealt: list[Lease] = []

    def load(owner: str, store: str | None) -> tuple[float, float, str]:
        at_once = carriers[owner].at_once
        return loads[owner][store] / at_once, loads[owner].total() / at_once, owner

    for row in take(connection, chosen, now_us, whole.reads):
        owner = min(loads, key=lambda one: load(one, row.store))
        loads[owner][row.store] += 1
        dealt.append(Lease(row.id, row.attempt + 1, owner, row.checkpoint + 1))
    for owner in loads:
        if ids := [lease.shard for lease in dealt if lease.owner == owner]:
            connection.execute(LEASE, {"ids": ids, "new_owner": owner})
    return dealt


def dealt(connection: Connection, owner: str) -> list[tuple[int, int]]:
    """The shards, with their attempts, that are leased to a worker."""
    mine = select(shards.c.id, shards.c.attempt).where(LEASED, shards.c.owner == owner)
    return [(row.id, row.attempt) for row in connection.execute(mine)]


def news(connection: Connection, owner: str, since_us: int) -> News:
    """What is new for a worker; ``since_us``: what was found out before then is too old."""
    return News(
        cancelled(connection),
        dealt(connection, owner),
        quotas.of(connection, owner),
        hear(connection, since_us),
    )


def accept(
    connection: Connection, owner: str, shard: int, attempt: int, seconds: float | None = None
) -> Accepted | None:
    """Begin to carry a shard that was dealt to ``owner``, whose leases last so many ``seconds``;
    None: it is no longer so, or its format is newer than this longshore."""
    given = {"shard_id": shard, "shard_attempt": attempt, "seconds": seconds}
    mine = RENEW.where(shards.c.owner == owner, shards.c.format <= FORMAT)
    if not connection.execute(mine.values(**TO_CARRY), given).rowcount:
        return None
    whole = shard_of(connection.execute(WHOLE.where(shards.c.id == shard)).one())
    return Accepted(whole, quotas.of(connection, owner))


def unmoved(connection: Connection, seen: Sequence[Lease]) -> set[Lease]:
    """Those of these leases that are still as they were seen, however long they last."""
    found: set[tuple[int, int, str, int]] = set()
    for first in range(0, len(seen), _SEEN_AT_ONCE):
        ids = [lease.shard for lease in seen[first : first + _SEEN_AT_ONCE]]
        rows = connection.execute(select(*LEASE_OF[:4]).where(shards.c.id.in_(ids), LEASED))
        found |= {(row.id, row.attempt, row.owner, row.checkpoint) for row in rows}
    return {lease for lease in seen if lease[:4] in found}


def end(connection: Connection, term: int, lease: Lease) -> bool:
    """End a lease that is as it was seen: one that has stood still for all its time, or was dealt
    and never accepted; gives whether it was. Raises coordinator.Deposed."""
    coordinator.check(connection, term)
    still = (
        shards.c.id == lease.shard,
        shards.c.attempt == lease.attempt,
        shards.c.owner == lease.owner,
        shards.c.checkpoint == lease.checkpoint,
    )
    # Who writes this row at the moment, and whom nobody waits for, shows that it has moved.
    free = select(shards.c.id).where(*still).with_for_update(key_share=True, skip_locked=True)
    ended = update(shards).where(shards.c.id.in_(free)).values(owner=None)
    return connection.execute(ended).rowcount > 0

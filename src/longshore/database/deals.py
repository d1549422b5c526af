"""Leases that a coordinator deals to the workers of a cluster, each write of it in its term."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, select, update

from longshore.database import coordinator, quotas
from longshore.database.estimates import Found, hear
from longshore.database.leases import (
    LEASE,
    LEASED,
    RENEW,
    Carried,
    Lease,
    cancelled,
    choose,
    take,
)
from longshore.database.quotas import Quota
from longshore.database.shards import WHOLE, shard_of
from longshore.database.tables import shards
from longshore.model import Shard

DEALT_AT_ONCE = 256
"""How many shards a cluster gets in one transaction."""


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
    lease = (shards.c.id, shards.c.attempt, shards.c.owner, shards.c.checkpoint)
    of_job = func.count().over(partition_by=shards.c.job)
    found = select(*lease).where(LEASED, shards.c.store.is_not_distinct_from(store))
    return [Lease(*row) for row in connection.execute(found.order_by(of_job.desc(), shards.c.id))]


def together(places: Mapping[str, Carried]) -> Carried:
    """How many shards of each store several workers carry."""
    return sum((Counter(carried) for carried in places.values()), Counter())


def deal(
    connection: Connection, term: int, places: Mapping[str, Carried], at_once: int, now_us: int
) -> list[Lease]:
    """Lease free shards to the workers of a cluster, each to the one that carries least, until
    every one carries ``at_once`` of each store.

    ``places``: what each carries by now. Gives DEALT_AT_ONCE at most; who gets them may ask for
    more. Raises coordinator.Deposed if this is no longer the coordinator's ``term``.
    """
    coordinator.check(connection, term)
    chosen = choose(connection, together(places), at_once * len(places), DEALT_AT_ONCE)
    loads = {owner: Counter(carried) for owner, carried in places.items()}
    dealt: list[Lease] = []
    for row in take(connection, chosen, now_us):
        owner = min(loads, key=lambda one: (loads[one][row.store], loads[one].total(), one))
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


def accept(connection: Connection, owner: str, shard: int, attempt: int) -> Accepted | None:
    """Begin to carry a shard that was dealt to ``owner``; None: it is no longer so."""
    given = {"shard_id": shard, "shard_attempt": attempt}
    if not connection.execute(RENEW.where(shards.c.owner == owner), given).rowcount:
        return None
    whole = shard_of(connection.execute(WHOLE.where(shards.c.id == shard)).one())
    return Accepted(whole, quotas.of(connection, owner))


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

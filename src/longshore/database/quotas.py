"""Which part each worker has of what a store may be asked for, as the coordinator of a cluster
hands it out: by how many of everybody's shards it carries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from longshore.database import coordinator
from longshore.database.leases import Leased
from longshore.database.tables import quotas

WHOLE_STORE: Final = ""
"""Instead of a bucket: all buckets of the store together."""

Key = tuple[str, str]
"""A store, and a bucket of it or WHOLE_STORE."""


class Quota(NamedTuple):
    """A worker's shards of a bucket, or of the WHOLE_STORE: ``mine`` of ``everybody``'s, behind
    those of workers that come ``before`` it in an order on which all agree. ``new``: nobody had any
    until these were divided, so nobody else can still be using what is this worker's now."""

    store: str
    bucket: str
    before: int
    mine: int
    everybody: int
    new: bool = False


def counted(leased: Iterable[Leased]) -> dict[Key, Counter[str]]:
    """How many shards each worker has, of what."""
    found: dict[Key, Counter[str]] = {}
    for store, bucket, owner, number in leased:
        for key in ((store, bucket), (store, WHOLE_STORE)):
            found.setdefault(key, Counter())[owner] += number
    return found


def divided(
    carried: Mapping[Key, Mapping[str, int]], new: Iterable[Key] = ()
) -> dict[str, list[Quota]]:
    """Every worker's quotas of what is ``carried``; ``new``: of what nobody had any before."""
    found: dict[str, list[Quota]] = {}
    fresh = frozenset(new)
    for key, owners in sorted(carried.items()):
        everybody, before = sum(owners.values()), 0
        for owner, mine in sorted(owners.items()):
            quota = Quota(*key, before, mine, everybody, key in fresh)
            found.setdefault(owner, []).append(quota)
            before += mine
    return found


def own(leased: Iterable[Leased], owner: str) -> list[Quota]:
    """A worker's quotas where nobody hands them out: everyone divides for itself."""
    return divided(counted(leased)).get(owner, [])


def hand_out(connection: Connection, term: int, parts: Mapping[str, Sequence[Quota]]) -> None:
    """Give workers all the quotas that each has from now on; without any it is forgotten. In one
    transaction, so that no two ever have the same part. Raises coordinator.Deposed."""
    coordinator.check(connection, term)
    gone = [owner for owner, mine in parts.items() if not mine]
    if gone:
        connection.execute(delete(quotas).where(quotas.c.owner.in_(gone)))
    rows = [
        {"owner": owner, "parts": [tuple(one) for one in mine]}
        for owner, mine in sorted(parts.items())
        if mine
    ]
    if rows:
        sqlites = connection.dialect.name == "sqlite"
        insert = sqlite.insert(quotas) if sqlites else postgresql.insert(quotas)
        replace = {"parts": insert.excluded.parts}
        upsert = insert.on_conflict_do_update(index_elements=(quotas.c.owner,), set_=replace)
        connection.execute(upsert, rows)


def of(connection: Connection, owner: str) -> list[Quota]:
    """What a worker was given."""
    return everybodys(connection, owner).get(owner, [])


def everybodys(connection: Connection, *owners: str) -> dict[str, list[Quota]]:
    """What all workers were given, or these."""
    found = select(quotas.c.owner, quotas.c.parts)
    if owners:
        found = found.where(quotas.c.owner.in_(owners))
    known = len(Quota._fields)  # a newer coordinator may say more
    return {
        owner: [Quota(*part[:known]) for part in parts]
        for owner, parts in connection.execute(found)
    }

"""Shards that a newer longshore has made or carried, beside workers who cannot read them."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, update

from longshore.database import Database, census, coordinator, deals, leases, shards
from longshore.database.coordinator import Present
from longshore.database.deals import Carrier
from longshore.database.leases import Lease
from longshore.database.tables import shards as table
from longshore.model import FORMAT, State
from tests.database.rows import claim, create, new_job, row, running

NEWER = FORMAT + 1
BUCKETS = tuple(f"b-{number}" for number in range(6))


async def make(database: Database, format_: int, *ids: int) -> None:
    """Have these shards, or all, be of a format."""

    def make(connection: Connection) -> None:
        some = table.c.id.in_(ids) if ids else table.c.id > 0
        connection.execute(update(table).where(some).values(format=format_))

    await database.write(make)


async def test_a_row_is_of_the_format_of_who_made_it_or_has_it(database: Database) -> None:
    planned, *others = await running(database, 3)
    assert {(await row(database, table, one.id)).format for one in (planned, *others)} == {FORMAT}
    await database.write(shards.let_go, planned)
    await make(database, 0, planned.id)
    (again,) = await database.write(leases.claim, "v", {}, 4, 8, 33.0)
    found = await row(database, table, again.id)
    assert (found.format, found.lease_seconds) == (FORMAT, 33)
    await database.write(shards.hand_over, again, {"after": "0"}, {"after": "5"})
    (half,) = await database.write(leases.claim, "u", {}, 4, 9)
    assert (await row(database, table, half.id)).format == FORMAT


async def test_nobody_takes_what_is_too_new_for_them(database: Database) -> None:
    await create(database, new_job(buckets=BUCKETS))
    await make(database, NEWER)
    assert not (await database.read(leases.poll, {}, 4)).free
    assert await claim(database) == []
    assert (await database.read(leases.poll, {}, 4, NEWER)).free
    await make(database, FORMAT, 3)
    assert (await database.read(leases.poll, {}, 4)).free
    assert [shard.id for shard in await claim(database)] == [3]
    # Nor does a job of such shards have others make room.
    assert (await database.read(leases.poll, {None: 1}, 1)).starved == ()


async def test_what_has_become_too_new_since_it_was_chosen_is_left(database: Database) -> None:
    await create(database, new_job(buckets=BUCKETS))
    chosen = await database.read(leases.choose, {}, 4)
    assert len(chosen) == 4
    await make(database, NEWER, chosen[0].id, chosen[2].id)
    taken = await database.write(leases.take, chosen, 8)
    assert {one.id for one in taken} == {chosen[1].id, chosen[3].id}


async def test_no_worker_is_dealt_what_it_cannot_read(database: Database) -> None:
    await create(database, new_job(buckets=BUCKETS))
    await make(database, NEWER, 1, 2, 3, 4)
    await database.write(coordinator.take, "c", None)
    old, new = Carrier({}, 4), Carrier({}, 3, NEWER)
    assert deals.together([old, new]) == Carrier({}, 7, NEWER)
    dealt = await database.write(deals.deal, 1, {"old": old}, 8)
    assert {(one.owner, one.shard) for one in dealt} == {("old", 5), ("old", 6)}
    full = old._replace(carried={None: 2})
    dealt = await database.write(deals.deal, 1, {"old": full, "new": new}, 8)
    assert {(one.owner, one.shard) for one in dealt} == {("new", 1), ("new", 2), ("new", 3)}
    full = new._replace(carried={None: 3})
    assert await database.write(deals.deal, 1, {"old": old, "new": full}, 8) == []


async def test_the_older_worker_has_what_it_can_read_first(database: Database) -> None:
    await create(database, new_job(buckets=BUCKETS))
    await make(database, NEWER, 2, 4)
    await database.write(coordinator.take, "c", None)
    carriers = {"new": Carrier({}, 4, NEWER), "old": Carrier({}, 3)}
    dealt = await database.write(deals.deal, 1, carriers, 8)
    assert {one.shard for one in dealt if one.owner == "old"} == {1, 3, 5}
    assert {one.shard for one in dealt if one.owner == "new"} == {2, 4, 6}


async def test_who_has_more_places_is_dealt_more(database: Database) -> None:
    """Workers of two settings, beside each other."""
    await create(database, new_job(buckets=BUCKETS))
    await database.write(coordinator.take, "c", None)
    carriers = {"large": Carrier({}, 4), "small": Carrier({}, 2)}
    dealt = await database.write(deals.deal, 1, carriers, 8)
    assert Counter(one.owner for one in dealt) == {"large": 4, "small": 2}


async def test_what_was_dealt_by_mistake_is_not_accepted(database: Database) -> None:
    await create(database, new_job(buckets=BUCKETS[:2]))
    await database.write(coordinator.take, "c", None)
    carriers = {"w": Carrier({}, 4, NEWER)}
    await make(database, NEWER, 1)
    newer, ours = await database.write(deals.deal, 1, carriers, 8)
    assert await database.write(deals.accept, "w", newer.shard, newer.attempt, 40.0) is None
    assert await database.write(deals.accept, "w", ours.shard, ours.attempt, 40.0) is not None
    assert await database.read(leases.leases) == [
        newer,
        Lease(ours.shard, ours.attempt, "w", ours.checkpoint + 1, 40.0),
    ]
    assert (await row(database, table, newer.shard)).format == NEWER


async def test_nobody_asks_for_half_of_what_they_cannot_read(database: Database) -> None:
    one, other = await running(database, 2)
    await make(database, NEWER, one.id)
    assert await database.read(leases.worth_halving, {}, 4, most=2) == [other.id]
    await make(database, NEWER, other.id)
    assert await database.read(leases.worth_halving, {}, 4) == []
    assert await database.read(leases.worth_halving, {}, 4, NEWER) == [one.id]


async def test_the_coordinator_knows_what_waits_for_newer_workers(database: Database) -> None:
    await create(database, new_job(buckets=BUCKETS))
    await make(database, NEWER, 1, 2)
    assert (await database.read(census.standing)).unread == 0  # nobody has looked
    await database.write(coordinator.take, "c", None)
    for reads, unread in ((FORMAT, 2), (NEWER, 0), (None, 0)):
        await database.write(coordinator.note, 1, Present(reads=reads))
        found = await database.read(census.standing)
        assert (found.waiting, found.unread) == (6, unread)
    assert found.jobs == {State.QUEUED: 1}

"""One process of many coordinates: terms, and that no write of an old one takes effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from longshore.database import Database, coordinator, deals, leases
from longshore.database.coordinator import Deposed, Seat
from longshore.database.deals import Carrier
from tests.database.rows import create, new_job, running


@pytest.fixture
async def database(database_at: Path | str) -> AsyncIterator[Database]:
    opened = Database(database_at)
    await opened.create()
    yield opened
    await opened.close()


async def test_the_first_who_asks_has_the_first_term(database: Database) -> None:
    assert await database.read(coordinator.seat) is None
    assert await database.write(coordinator.take, "a", None) == 1
    assert await database.write(coordinator.take, "b", None) is None
    assert await database.read(coordinator.seat) == Seat(1, "a", 0)


async def test_only_a_seat_that_is_as_it_was_seen_can_be_taken(database: Database) -> None:
    await database.write(coordinator.take, "a", None)
    seen = await database.read(coordinator.seat)
    await database.write(coordinator.beat, 1)
    assert await database.write(coordinator.take, "b", seen) is None
    seen = await database.read(coordinator.seat)
    assert await database.write(coordinator.take, "b", seen) == 2
    assert await database.write(coordinator.take, "c", seen) is None
    assert await database.read(coordinator.seat) == Seat(2, "b", 0)


async def test_nothing_that_is_written_in_an_old_term_takes_effect(database: Database) -> None:
    await create(database)
    await database.write(coordinator.take, "a", None)
    await database.write(coordinator.take, "b", await database.read(coordinator.seat))
    with pytest.raises(Deposed):
        await database.write(coordinator.beat, 1)
    with pytest.raises(Deposed):
        await database.write(deals.deal, 1, {"w": Carrier({}, 4)}, 8)
    await database.write(coordinator.resign, 1)
    assert await database.read(coordinator.seat) == Seat(2, "b", 0)
    assert await database.read(leases.leases) == []
    (lease,) = await database.write(deals.deal, 2, {"w": Carrier({}, 4)}, 8)
    assert await database.read(leases.leases) == [lease]
    with pytest.raises(Deposed):
        await database.write(deals.end, 1, lease)
    assert await database.read(leases.leases) == [lease]
    assert lease.owner == "w"


async def test_what_is_given_back_can_be_taken_at_once(database: Database) -> None:
    await database.write(coordinator.take, "a", None)
    await database.write(coordinator.resign, 1)
    seen = await database.read(coordinator.seat)
    assert seen is not None
    assert seen.owner is None
    assert await database.write(coordinator.take, "b", seen) == 2


async def test_shards_are_dealt_to_whoever_carries_least(database: Database) -> None:
    await create(database, new_job(buckets=tuple(f"b-{number}" for number in range(9))))
    await database.write(coordinator.take, "c", None)
    carried: dict[str, leases.Carried] = {"w-1": {None: 2}, "w-2": {}, "w-3": {"other": 1}}
    carriers = {name: Carrier(one, 3) for name, one in carried.items()}
    dealt = await database.write(deals.deal, 1, carriers, 8)
    assert Counter(lease.owner for lease in dealt) == {"w-1": 1, "w-2": 3, "w-3": 3}
    found = await database.read(deals.carried_by)
    assert found == {"w-1": {None: 1}, "w-2": {None: 3}, "w-3": {None: 3}}
    assert await database.write(deals.deal, 1, {"w-1": Carrier({None: 3}, 3)}, 8) == []


async def test_a_shard_is_accepted_only_by_whom_it_was_dealt_to(database: Database) -> None:
    (shard,) = await running(database)  # by "w"
    (before,) = await database.read(leases.leases)
    assert await database.write(deals.accept, "other", shard.id, shard.attempt) is None
    assert await database.write(deals.accept, "w", shard.id, shard.attempt + 1) is None
    assert await database.read(leases.leases) == [before]
    accepted = await database.write(deals.accept, "w", shard.id, shard.attempt)
    assert accepted == (shard, [])
    (after,) = await database.read(leases.leases)
    assert after.checkpoint > before.checkpoint  # so the lease lasts its whole time from now on


async def test_what_was_dealt_and_not_accepted_is_taken_back_for_good(database: Database) -> None:
    await create(database, new_job(buckets=("b-1", "b-2")))
    await database.write(coordinator.take, "c", None)
    late, quick = await database.write(deals.deal, 1, {"w": Carrier({}, 4)}, 8)
    assert await database.write(deals.accept, "w", quick.shard, quick.attempt) is not None
    for lease in (late, quick):
        await database.write(deals.end, 1, lease)
    assert [lease.shard for lease in await database.read(leases.leases)] == [quick.shard]
    (again,) = await database.write(deals.deal, 1, {"w": Carrier({None: 1}, 4)}, 8)
    assert await database.write(deals.accept, "w", late.shard, late.attempt) is None
    assert await database.write(deals.accept, "w", again.shard, again.attempt) is not None


async def test_a_lease_that_has_moved_is_not_ended(database: Database) -> None:
    (shard,) = await running(database)
    await database.write(coordinator.take, "c", None)
    (seen,) = await database.read(leases.leases)
    await database.write(leases.renew, {shard.id: shard.attempt})
    await database.write(deals.end, 1, seen)
    (lease,) = await database.read(leases.leases)
    await database.write(deals.end, 1, lease)
    assert await database.read(leases.leases) == []


async def test_room_is_made_by_the_job_that_has_most(database: Database) -> None:
    (small,) = await running(database, job_id="small")
    large = await running(database, 3, job_id="large")
    found = await database.read(deals.crowding, "main")
    assert [lease.shard for lease in found] == [*(shard.id for shard in large), small.id]
    assert await database.read(deals.crowding, "other") == []

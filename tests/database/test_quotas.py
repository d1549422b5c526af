"""What a coordinator hands out of the caps of stores: always a partition, again when workers come
and go, and nothing in an old term."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from longshore.database import Database, coordinator, deals, leases, quotas, shards
from longshore.database.coordinator import Deposed
from longshore.database.deals import Carrier
from longshore.database.leases import Leased
from longshore.database.quotas import WHOLE_STORE, Quota
from longshore.dividing import Divider, is_uneven
from longshore.engine.caps import Held
from longshore.model import Counters, Shard, State
from tests.database.rows import create, new_job


def test_quotas_are_a_partition_of_each_bucket_and_of_the_store() -> None:
    leased = [
        Leased("s", "b-1", "w-2", 3),
        Leased("s", "b-1", "w-1", 1),
        Leased("s", "b-2", "w-3", 5),
        Leased("t", "b-3", "w-1", 2),
    ]
    found = quotas.divided(quotas.counted(leased), new=[("s", "b-1")])
    assert found == {
        "w-1": [
            Quota("s", WHOLE_STORE, 0, 1, 9),
            Quota("s", "b-1", 0, 1, 4, new=True),
            Quota("t", WHOLE_STORE, 0, 2, 2),
            Quota("t", "b-3", 0, 2, 2),
        ],
        "w-2": [Quota("s", WHOLE_STORE, 1, 3, 9), Quota("s", "b-1", 1, 3, 4, new=True)],
        "w-3": [Quota("s", WHOLE_STORE, 4, 5, 9), Quota("s", "b-2", 0, 5, 5)],
    }
    assert quotas.own(leased, "w-2") == [one._replace(new=False) for one in found["w-2"]]
    assert quotas.own(leased, "nobody") == []
    for most in (1, 2, 10, 64):
        held = [Held(*one[2:]) for mine in found.values() for one in mine if one[:2] == ("s", "")]
        assert sum(one.permits(most) for one in held) == most


@pytest.mark.parametrize(
    ("before", "now", "uneven"),
    [
        ({"a": 4, "b": 4}, {"a": 4, "b": 4}, False),
        ({"a": 64, "b": 64}, {"a": 60, "b": 64}, False),
        ({"a": 64, "b": 64}, {"a": 32, "b": 32}, False),
        ({"a": 64, "b": 64}, {"a": 50, "b": 64}, True),
        ({"a": 4, "b": 4}, {"a": 4, "b": 3}, True),
        ({"a": 4, "b": 4}, {"a": 4}, True),
        ({"a": 4}, {"b": 4}, True),
    ],
)
def test_small_changes_are_left(before: dict[str, int], now: dict[str, int], uneven: bool) -> None:
    assert is_uneven(before, now) is uneven


async def test_what_is_handed_out_replaces_what_was(database: Database) -> None:
    await database.write(coordinator.take, "c", None)
    one, two = Quota("s", "b", 0, 1, 3), Quota("s", "b", 1, 2, 3, new=True)
    await database.write(quotas.hand_out, 1, {"w-1": [one], "w-2": [two]})
    assert await database.read(quotas.everybodys) == {"w-1": [one], "w-2": [two]}
    await database.write(quotas.hand_out, 1, {"w-1": [], "w-2": [one, two]})
    assert await database.read(quotas.of, "w-1") == []
    assert await database.read(quotas.of, "w-2") == [one, two]
    await database.write(coordinator.take, "d", await database.read(coordinator.seat))
    with pytest.raises(Deposed):
        await database.write(quotas.hand_out, 1, {"w-2": []})
    assert await database.read(quotas.of, "w-2") == [one, two]


class Pier:
    """Jobs whose buckets have been planned, and workers that they are dealt to."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.divider = Divider(1, database)

    async def carries(self, owner: str, buckets: int = 1) -> list[Shard]:
        """``owner`` accepts and plans so many buckets of a job of its own."""
        job = new_job(f"j-{owner}", buckets=tuple(f"b-{number}" for number in range(buckets)))
        await create(self.database, job)
        carried = []
        for lease in await self.database.write(deals.deal, 1, {owner: Carrier({}, buckets)}, 8):
            accepted = await self.database.write(deals.accept, owner, lease.shard, lease.attempt)
            assert accepted is not None
            planned = await self.database.write(shards.finish_plan, accepted.shard, [{}], "main", 9)
            assert planned is not None
            carried.append(planned)
        return carried

    async def given(self, owner: str) -> dict[str, Quota]:
        """What ``owner`` has once it is divided anew, by bucket."""
        await self.divider.divide(anew=True)
        return {one.bucket: one for one in await self.database.read(quotas.of, owner)}


@pytest.fixture
async def pier(database: Database) -> Pier:
    await database.write(coordinator.take, "c", None)
    found = Pier(database)
    assert await found.given("w-1") == {}
    return found


async def test_who_is_first_may_use_all_at_once_and_who_comes_later_waits(pier: Pier) -> None:
    (first,) = await pier.carries("w-1")
    assert (await pier.given("w-1"))["b-0"] == Quota("main", "b-0", 0, 1, 1, new=True)
    await pier.carries("w-2")
    assert (await pier.given("w-2"))["b-0"] == Quota("main", "b-0", 1, 1, 2)
    assert (await pier.given("w-1"))["b-0"] == Quota("main", "b-0", 0, 1, 2)
    await pier.database.write(shards.finish, first, Counters(), {}, State.SUCCEEDED, 10)
    assert await pier.given("w-1") == {}
    assert (await pier.given("w-2"))[WHOLE_STORE] == Quota("main", WHOLE_STORE, 0, 1, 1)


async def test_who_begin_together_may_use_all_at_once(pier: Pier) -> None:
    await pier.carries("w-1", 2)
    await pier.carries("w-2")
    assert (await pier.given("w-1"))[WHOLE_STORE] == Quota("main", WHOLE_STORE, 0, 2, 3, new=True)
    assert (await pier.given("w-2"))["b-0"] == Quota("main", "b-0", 1, 1, 2, new=True)


async def test_a_coordinator_goes_on_from_what_the_one_before_divided(pier: Pier) -> None:
    (shard,) = await pier.carries("w-1")
    first = await pier.given("w-1")
    pier.divider = Divider(1, pier.database)
    assert await pier.given("w-1") == first
    await pier.carries("w-2")
    pier.divider = Divider(1, pier.database)
    assert (await pier.given("w-2"))["b-0"] == Quota("main", "b-0", 1, 1, 2)
    assert (await pier.given("w-1"))["b-0"] == Quota("main", "b-0", 0, 1, 2)
    await pier.database.write(shards.finish, shard, Counters(), {}, State.SUCCEEDED, 10)
    pier.divider = Divider(1, pier.database)
    assert await pier.given("w-1") == {}


async def test_what_begins_under_a_new_coordinator_is_new_all_the_same(pier: Pier) -> None:
    await pier.carries("w-1")
    pier.divider = Divider(1, pier.database)
    assert (await pier.given("w-1"))["b-0"] == Quota("main", "b-0", 0, 1, 1, new=True)


async def test_nothing_is_written_where_nothing_has_changed(
    pier: Pier, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pier.carries("w-1", 3)
    given = await pier.given("w-1")
    written: list[Callable[..., object]] = []
    write = pier.database.write

    async def noted(function: Callable[..., object], *args: object) -> object:
        written.append(function)
        return await write(function, *args)

    monkeypatch.setattr(pier.database, "write", noted)
    assert await pier.given("w-1") == given
    await pier.divider.divide()
    assert written == []


async def test_a_worker_hears_of_all_that_is_new_in_one_question(pier: Pier) -> None:
    (shard,) = await pier.carries("w-1")
    await pier.given("w-1")
    news = await pier.database.read(deals.news, "w-1", 0)
    assert news.cancelled == frozenset()
    assert news.dealt == [(shard.id, shard.attempt)]
    assert {one.bucket for one in news.quotas} == {WHOLE_STORE, "b-0"}
    assert await pier.database.read(leases.who_leases) == [Leased("main", "b-0", "w-1", 1)]
    assert await pier.database.read(deals.news, "other", 0) == news._replace(dealt=[], quotas=[])

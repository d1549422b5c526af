"""A store that refuses by ranges of names, and wants to be asked for more by and by.

All in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from longshore.clock import SYSTEM_CLOCK
from longshore.database.leases import Leased
from longshore.database.quotas import own
from longshore.database.ramps import Taken
from longshore.engine.calls import Calls
from longshore.engine.deadline import Deadline
from longshore.engine.gate import LOOK, Gate
from longshore.engine.limits import Limits
from longshore.engine.planning import spread
from longshore.engine.running import Running
from longshore.errors import Code
from longshore.model import Shard
from longshore.settings import Ramp, Settings, StoreSettings
from longshore.source import Range
from longshore.store import Stores
from tests.busy_store import BusyStore, refused_share
from tests.engine.test_limits import CLOCK, Fleet
from tests.virtual_time import run

STORE = StoreSettings(name="s", kind="memory")
RAMP = Ramp(writes_per_second=1_000, double_seconds=1_200, prove_seconds=10)
AT_ONCE = 100
"""Changes in a request."""


def _gates(fleet: Fleet, count: int, *, by_range: bool = True, **more: Any) -> list[Gate]:
    """The gates of the shards that one worker carries."""
    return [
        fleet.gate("w", shards=count, shard=number if by_range else None, **more)
        for number in range(count)
    ]


# ── Ranges ───────────────────────────────────────────────────────────────────────────────────────


def _done_beside(neighbour: BusyStore, *, by_range: bool) -> tuple[float, float]:
    """Calls a second that a range takes beside another, and those that the other takes."""

    async def main() -> tuple[float, float]:
        fleet, quick = Fleet(STORE), BusyStore(seconds=0.1)
        stores = quick, neighbour
        for gate, store in zip(_gates(fleet, 2, by_range=by_range), stores, strict=True):
            fleet.lanes(gate, store.call, count=64, objects=1)
        await asyncio.sleep(15)
        await fleet.end()
        answered = [sum(not one[3] for one in store.between(5, 15)) for store in stores]
        return answered[0] / 10, answered[1] / 10

    return run(main())


def test_a_range_that_refuses_does_not_slow_another() -> None:
    def crowded() -> BusyStore:
        return BusyStore(seconds=0.1, rate=50)

    alone, _ = _done_beside(BusyStore(seconds=0.1), by_range=True)
    beside, other = _done_beside(crowded(), by_range=True)
    assert beside >= 0.95 * alone
    assert 0.9 * 50 <= other <= 1.05 * 50
    slowed, _ = _done_beside(crowded(), by_range=False)
    assert slowed < 0.5 * alone  # as it was where all ranges have one estimate


def test_a_range_that_is_down_is_asked_once_a_second_and_does_not_slow_another() -> None:
    down = BusyStore(seconds=0.03, down=True)
    beside, _ = _done_beside(down, by_range=True)
    assert beside >= 0.95 * 64 / 0.1
    assert len(down.between(5, 15)) <= 2 * 10


def test_ranges_share_the_cap_of_their_bucket() -> None:
    async def main() -> Fleet:
        fleet = Fleet(replace(STORE, max_objects_per_second=1_000.0, max_concurrency=5))
        store = BusyStore(seconds=0.02)
        for gate in _gates(fleet, 4):
            fleet.lanes(gate, store.call, count=4)
        await asyncio.sleep(10)
        await fleet.end()
        assert store.peak <= 5
        return fleet

    fleet = run(main())
    assert fleet.per_second(2, 10) == pytest.approx(1_000, rel=0.05)
    assert fleet.most(1.0, 0, 10) <= 1_050


def test_what_a_shard_had_is_forgotten_when_it_ends_and_told_to_nobody() -> None:
    async def main() -> None:
        limits = Limits(lambda _: STORE, CLOCK)
        limits.divide(own([Leased("s", "b", "w", 2)], "w"), CLOCK.monotonic())
        one, two = (limits.gate("s", "b", shard=shard) for shard in (1, 2))
        assert one is not two
        assert limits.gate("s", "b", shard=1) is one
        assert limits.news() == []
        async with one.call(1, asyncio.Event()), two.call(1, asyncio.Event()):
            assert list(limits.at_work()) == [("s", "b", one.allowed + two.allowed)]
        limits.ended(1)
        assert limits.gate("s", "b", shard=1) is not one
        assert limits.gate("s", "b", shard=2) is two

    run(main())


def test_ranges_are_taken_in_an_order_that_spreads_over_the_names() -> None:
    assert spread([]) == []
    assert spread([{"prefix": "a"}]) == [{"prefix": "a"}]
    ranges: list[Range] = [{"prefix": f"{number:02}"} for number in range(19)]
    order = [int(one["prefix"]) for one in spread(ranges)]
    assert sorted(order) == list(range(19))
    assert order[:4] == [0, 16, 8, 4]
    assert all(abs(one - next_) >= 4 for one, next_ in pairwise(order))


async def test_each_shard_of_a_store_that_refuses_by_ranges_has_a_gate(tmp_path: Path) -> None:
    gs = StoreSettings(
        name="gs",
        kind="gs",
        buckets=("g*",),
        options={"endpoint": "http://127.0.0.1:1", "initial_writes_per_second": 7},
    )
    stores = Stores(Settings(data_dir=tmp_path, stores={"gs": gs}))
    limits = Limits(stores.settings_of, CLOCK)

    def gate(shard: int, bucket: str) -> Gate:
        deadline = Deadline(SYSTEM_CLOCK, 30, 10, 0)
        leased = cast(Shard, SimpleNamespace(id=shard))
        running = Running(shard=leased, store=None, deadline=deadline, since=0)
        return Calls(stores, limits, running, SYSTEM_CLOCK).gate(bucket)

    assert gate(1, "g") is gate(1, "g")
    assert gate(1, "g") is not gate(2, "g")
    assert gate(1, "local") is gate(2, "local")
    assert limits.ramped() == [("gs", "g")]
    await stores.close()


# ── The ramp ─────────────────────────────────────────────────────────────────────────────────────


def _ramped(
    send: Callable[[int], Any],
    *,
    seconds: float,
    workers: int = 1,
    kept: float | None = None,
    ramp: Ramp = RAMP,
) -> Fleet:
    """Four shards of each worker change a hundred objects by each call."""

    async def main() -> Fleet:
        fleet = Fleet(STORE)
        for number in range(workers):
            for shard in range(4):
                gate = fleet.gate(f"w{number}", shards=4, shard=shard, ramp=ramp)
                fleet.lanes(gate, send, count=10, objects=AT_ONCE)
            if kept is not None:
                limits = fleet.limits[f"w{number}"]
                for store, bucket in limits.ramped():
                    limits.remember(Taken(store, bucket, kept))
        await asyncio.sleep(seconds)
        await fleet.end()
        return fleet

    return run(main())


@pytest.mark.parametrize("workers", [1, 3])
def test_a_bucket_is_asked_for_twice_what_it_took(workers: int) -> None:
    fleet = _ramped(BusyStore(seconds=0.05).call, seconds=40, workers=workers)
    assert fleet.most(1.0, 0, 9) <= 1_050 + workers * AT_ONCE
    for begin, rate in ((2, 1_000), (13, 2_000), (24, 4_000), (35, 8_000)):
        assert fleet.per_second(begin, begin + 5) == pytest.approx(rate, rel=0.15)


def test_what_is_refused_now_and_then_is_asked_for_twice_as_much_in_its_time() -> None:
    refused = 0.0

    async def send(objects: int) -> Code | None:
        nonlocal refused
        await asyncio.sleep(0.05)
        if CLOCK.monotonic() - refused < 5:
            return None
        refused = CLOCK.monotonic()
        return Code.RESOURCE_EXHAUSTED

    fleet = _ramped(send, seconds=220, ramp=replace(RAMP, double_seconds=100))
    assert fleet.per_second(0, 10) <= 1_050
    assert fleet.per_second(90, 110) == pytest.approx(2_000, rel=0.1)
    assert fleet.per_second(190, 210) == pytest.approx(4_000, rel=0.1)


def test_a_bucket_that_gets_slow_is_not_asked_for_twice_as_much() -> None:
    """It works on two requests at once: 4,000 changes a second, whatever is asked."""
    store = BusyStore(seconds=0.05, servers=2)
    fleet = _ramped(store.call, seconds=120)
    assert fleet.per_second(100, 120) == pytest.approx(4_000, rel=0.05)
    (taken,) = fleet.kept.values()
    assert taken.writes_per_second <= 8_800


def test_what_is_not_used_is_not_proven() -> None:
    async def main() -> list[Taken]:
        fleet = Fleet(STORE)
        gate = fleet.gate("w", shard=1, ramp=RAMP)
        while CLOCK.monotonic() < 60:
            async with gate.call(AT_ONCE, fleet.stop):
                await asyncio.sleep(0.5)
        await fleet.end()
        return list(fleet.kept.values())

    assert run(main()) == []


def test_what_was_proven_is_asked_for_at_once() -> None:
    fleet = _ramped(BusyStore(seconds=0.05).call, seconds=6, kept=6_000)
    assert fleet.per_second(2, 6) == pytest.approx(6_000, rel=0.1)


def test_what_is_proven_is_told_once_and_again_while_it_is_in_use() -> None:
    async def main() -> None:
        limits = Limits(lambda _: STORE, CLOCK)
        gate = limits.gate("s", "b", shard=1, ramp=RAMP)
        told: list[tuple[float, float]] = []
        while CLOCK.monotonic() < 1_300:
            limits.divide(own([Leased("s", "b", "w", 1)], "w"), CLOCK.monotonic())
            told += [(CLOCK.monotonic(), one.writes_per_second) for one in limits.taken()]
            for _ in range(9 if CLOCK.monotonic() < 10.2 else 1):
                async with gate.call(25, asyncio.Event()):
                    pass
            await asyncio.sleep(0.25)
        (first, rate), *again = told
        assert 10 <= first <= 11
        assert 1_000 < rate <= 1_100  # it took about 530
        assert [one for _, one in again] == [rate] * 2
        limits.remember(Taken("s", "b", rate * 2))
        limits.remember(Taken("s", "elsewhere", 1e6))
        assert limits.taken() == []

    run(main())


def test_reads_and_looks_do_not_wait_for_the_ramp() -> None:
    async def main() -> None:
        fleet = Fleet(STORE)
        gate = fleet.gate("w", shard=1, ramp=replace(RAMP, writes_per_second=1))
        async with gate.call(5, fleet.stop):
            pass
        for objects, verb in ((0, "objects.list"), (1_000, LOOK)):
            async with gate.call(objects, fleet.stop, verb):
                assert CLOCK.monotonic() == 0.0
        async with gate.call(1, fleet.stop):
            assert CLOCK.monotonic() >= 4.5
        assert gate.batch_size == 1_000
        await fleet.end()

    run(main())


def test_refusals_by_range_at_a_ramp_are_few() -> None:
    """A bucket of two ranges, of which each takes so many requests a second and no more."""
    stores = [BusyStore(seconds=0.05, rate=rate) for rate in (10, 40)]

    async def main() -> Fleet:
        fleet = Fleet(STORE)
        for gate, store in zip(_gates(fleet, 2, ramp=RAMP), stores, strict=True):
            fleet.lanes(gate, store.call, count=10, objects=AT_ONCE)
        await asyncio.sleep(150)
        await fleet.end()
        return fleet

    run(main())
    for store, rate in zip(stores, (10, 40), strict=True):
        calls = store.between(100, 150)
        assert sum(not refused for *_, refused in calls) / 50 >= 0.85 * rate
        assert refused_share(calls) < 0.05

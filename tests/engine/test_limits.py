"""Caps that hold over all workers together, and an estimate that finds what a store takes.

All in virtual time: a minute takes a second, and every run is the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from longshore.database.estimates import Found
from longshore.database.leases import Leased
from longshore.database.quotas import WHOLE_STORE, Quota, own
from longshore.database.ramps import Taken
from longshore.engine.gate import Gate
from longshore.engine.limits import Limits
from longshore.errors import Code, NotFound, Unavailable
from longshore.settings import Caps, Ramp, StoreSettings
from tests.busy_store import BusyStore, refused_share
from tests.virtual_time import VirtualClock, run


class LateClock(VirtualClock):
    """Timers of a busy machine: up to 4 ms late."""

    def __init__(self) -> None:
        self._dice = random.Random(5)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        return await super().wait(event, seconds + self._dice.uniform(0, 0.004))


STORE = StoreSettings(name="s", kind="memory")
CLOCK = VirtualClock()


def _store(**settings: Any) -> StoreSettings:
    return StoreSettings(name="s", kind="memory", **settings)


class Fleet:
    """Workers with gates to buckets of one store; each learns now and then who has what."""

    def __init__(self, settings: StoreSettings, clock: VirtualClock = CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self.stop = asyncio.Event()
        self.shards: dict[tuple[str, str], int] = {}
        self.limits: dict[str, Limits] = {}
        self.table: dict[str, Found] = {}
        self.kept: dict[str, Taken] = {}
        self.done: list[tuple[float, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def gate(
        self,
        worker: str,
        bucket: str = "b",
        *,
        shards: int = 1,
        shard: int | None = None,
        ramp: Ramp | None = None,
    ) -> Gate:
        """``worker`` takes shards of the bucket, and learns of it at once."""
        if worker not in self.limits:
            self.limits[worker] = Limits(lambda _: self._settings, self._clock)
            self._start(self._learn(worker))
        gate = self.limits[worker].gate("s", bucket, shard=shard, ramp=ramp)
        self.shards[worker, bucket] = shards
        self._divide(worker)
        return gate

    def ends(self, worker: str) -> None:
        for owner, bucket in [key for key in self.shards if key[0] == worker]:
            del self.shards[owner, bucket]
            self.limits[worker].left("s", bucket, whole_store=True)

    def _divide(self, worker: str) -> None:
        rows = [Leased("s", bucket, owner, n) for (owner, bucket), n in self.shards.items()]
        self.limits[worker].divide(own(rows, worker), CLOCK.monotonic())

    async def _learn(self, worker: str) -> None:
        while not await CLOCK.wait(self.stop, 0.25):
            if not any(owner == worker for owner, _ in self.shards):
                continue
            self._divide(worker)
            for found in self.table.values():
                self.limits[worker].heard(found)
            for found in self.limits[worker].news():
                self.table[found.bucket] = found
            for taken in self.kept.values():
                self.limits[worker].remember(taken)
            for taken in self.limits[worker].taken():
                self.kept[taken.bucket] = taken

    def lanes(
        self,
        gate: Gate,
        call: Callable[[int], Any],
        *,
        count: int = 1,
        stop: asyncio.Event | None = None,
        objects: int | None = None,
    ) -> None:
        """So many shards, each of which sends one call after the other."""
        for _ in range(count):
            self._start(self._lane(gate, call, stop or self.stop, objects))

    async def _lane(
        self, gate: Gate, send: Callable[[int], Any], stop: asyncio.Event, objects: int | None
    ) -> None:
        pause = 0.02
        while not stop.is_set():
            size = objects or gate.batch_size
            async with gate.call(size, stop) as call:
                if not call.permitted:
                    return
                self.done.append((CLOCK.monotonic(), size))
                code = await send(size)
                call.ended(code)
            if code is not None:
                pause = min(1.0, pause * 1.5)
                await CLOCK.wait(stop, pause)
            else:
                pause = 0.02

    def _start(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)

    async def end(self) -> None:
        self.stop.set()
        await asyncio.gather(*self._tasks)

    def most(self, seconds: float, begin: float, end: float) -> int:
        """The most objects in any time of that length."""
        marks = [mark for mark in self.done if begin <= mark[0] < end]
        most = late = inside = 0
        for at, objects in marks:
            inside += objects
            while marks[late][0] <= at - seconds:
                inside -= marks[late][1]
                late += 1
            most = max(most, inside)
        return most

    def per_second(self, begin: float, end: float) -> float:
        return sum(n for at, n in self.done if begin <= at < end) / (end - begin)


async def _instant(objects: int) -> None:
    return None


async def _takes_20_ms(objects: int) -> None:
    await asyncio.sleep(0.02)


# ── Caps ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rate", [40.0, 500.0, 5_000.0, 90_000.0])
@pytest.mark.parametrize("workers", [1, 4])
def test_objects_a_second_of_all_workers_together(rate: float, workers: int) -> None:
    async def main() -> None:
        fleet = Fleet(_store(max_objects_per_second=rate))
        for number in range(workers):
            fleet.lanes(fleet.gate(f"w{number}"), _takes_20_ms, count=4)
        await asyncio.sleep(12)
        await fleet.end()
        assert fleet.per_second(2, 12) == pytest.approx(rate, rel=0.05)
        assert fleet.most(1.0, 0, 12) <= 1.05 * rate + workers * (rate < 1_000)
        assert fleet.most(5.0, 0, 12) <= 1.05 * 5 * rate

    run(main())


@pytest.mark.parametrize("workers", [1, 3])
def test_requests_a_second_of_all_workers_together(workers: int) -> None:
    async def main() -> None:
        fleet = Fleet(_store(max_requests_per_second=300))
        for number in range(workers):
            fleet.lanes(fleet.gate(f"w{number}"), _takes_20_ms, count=20, objects=1)
        await asyncio.sleep(12)
        await fleet.end()
        assert fleet.per_second(2, 12) == pytest.approx(300, rel=0.05)
        assert fleet.most(1.0, 0, 12) <= 1.05 * 300 + 1

    run(main())


@pytest.mark.parametrize(("cap", "workers"), [(10, 1), (10, 3), (2, 3)])
def test_calls_at_once_of_all_workers_together(cap: int, workers: int) -> None:
    async def main() -> BusyStore:
        fleet, store = Fleet(_store(max_concurrency=cap)), BusyStore(seconds=0.03)
        for number in range(workers):
            fleet.lanes(fleet.gate(f"w{number}"), store.call, count=12, objects=1)
        await asyncio.sleep(6)
        await fleet.end()
        return store

    store = run(main())
    assert store.peak == cap
    in_use = sum(took for began, took, _, _ in store.log if 2 <= began < 5.9) / 3.9
    assert in_use >= 0.95 * cap


@pytest.mark.parametrize("cap", ["max_objects_per_second", "max_requests_per_second"])
def test_a_timer_that_is_late_costs_nothing(cap: str) -> None:
    async def main() -> Fleet:
        fleet = Fleet(_store(**{cap: 400}), LateClock())
        fleet.lanes(fleet.gate("a"), _instant, count=2, objects=1)
        await asyncio.sleep(10)
        await fleet.end()
        return fleet

    fleet = run(main())
    assert fleet.per_second(1, 9) == pytest.approx(400, rel=0.02)
    assert fleet.most(1.0, 0, 10) <= 1.05 * 400 + 1


def test_a_worker_that_joins_does_not_overshoot_and_one_that_ends_frees_its_part() -> None:
    async def main() -> Fleet:
        fleet = Fleet(_store(max_objects_per_second=1_000))
        fleet.lanes(fleet.gate("a"), _instant, count=2)
        await asyncio.sleep(5.1)
        fleet.lanes(fleet.gate("b"), _instant, count=2, stop=(leaves := asyncio.Event()))
        await asyncio.sleep(5)
        leaves.set()
        fleet.ends("b")
        await asyncio.sleep(5)
        await fleet.end()
        return fleet

    fleet = run(main())
    assert fleet.most(1.0, 0, 15) <= 1_050
    for begin, end in [(0, 5), (7, 10), (11, 15)]:
        assert fleet.per_second(begin, end) == pytest.approx(1_000, rel=0.05)


def test_a_worker_that_comes_and_goes_does_not_overshoot() -> None:
    async def main() -> Fleet:
        fleet = Fleet(_store(max_objects_per_second=1_000))
        fleet.lanes(fleet.gate("a"), _instant)
        fleet.gate("b")
        await asyncio.sleep(2)  # each has half
        for _ in range(20):
            leaves = asyncio.Event()
            fleet.lanes(fleet.gate("b"), _instant, stop=leaves)
            await asyncio.sleep(0.24)  # before the other one hears of it, sometimes
            leaves.set()
            fleet.ends("b")
            await asyncio.sleep(0.27)
        await fleet.end()
        return fleet

    assert run(main()).most(1.0, 2, 20) <= 1_050


def test_an_answer_from_before_a_worker_ended_gives_it_no_part_again() -> None:
    """In a cluster a coordinator takes a moment to take a quota away; meanwhile it is still read.
    Whoever is alone since uses all of the cap, and when the worker comes again, for a second."""

    async def main() -> None:
        stop = asyncio.Event()
        limits = Limits(lambda _: _store(max_objects_per_second=1_000), CLOCK)
        half = [Quota("s", "b", 0, 1, 2, True), Quota("s", WHOLE_STORE, 0, 1, 2, True)]
        now_half = [one._replace(new=False) for one in half]
        limits.divide(half, 0.0)
        assert limits.gate("s", "b").call(1, stop).begin()
        limits.left("s", "b", whole_store=True)
        limits.divide(half, 0.1)
        assert not limits.has_quota("s", "b")
        limits.began("s", "b")
        limits.divide(now_half, 0.2)
        assert not limits.gate("s", "b").call(1, stop).begin()
        limits.divide(now_half, 1.2)
        await asyncio.sleep(1.2)
        assert limits.gate("s", "b").call(1, stop).begin()

    run(main())


def test_a_worker_alone_begins_at_once() -> None:
    async def main() -> None:
        fleet = Fleet(_store(max_objects_per_second=1_000, max_concurrency=1))
        async with fleet.gate("a").call(40, fleet.stop) as call:
            assert call.permitted
        assert CLOCK.monotonic() == 0.0
        await fleet.end()

    run(main())


@pytest.mark.parametrize("stall", [0.2, 3.0])
def test_what_a_stall_lost_is_not_caught_up_on(stall: float) -> None:
    async def main() -> Fleet:
        fleet = Fleet(_store(max_objects_per_second=1_000))
        gate = fleet.gate("a")
        for _ in range(3):
            began = len(fleet.done)
            while len(fleet.done) < began + 60:
                async with gate.call(gate.batch_size, fleet.stop) as call:
                    assert call.permitted
                    fleet.done.append((CLOCK.monotonic(), gate.batch_size))
            await asyncio.sleep(stall)
        await fleet.end()
        return fleet

    assert run(main()).most(1.0, 0, 100) <= 1_050


def test_a_worker_that_no_longer_knows_its_part_waits() -> None:
    async def main() -> None:
        limits = Limits(lambda _: _store(max_requests_per_second=10), CLOCK)
        gate, stop = limits.gate("s", "b"), asyncio.Event()
        limits.divide(own([Leased("s", "b", "a", 1)], "a"), CLOCK.monotonic())
        await asyncio.sleep(5)
        waits = asyncio.create_task(_enter(gate, stop))
        await asyncio.sleep(5)
        assert not waits.done()
        waits.cancel()
        assert await _enter(gate, stop, 0)  # what is open must be settled, whoever is silent
        waits = asyncio.create_task(_enter(gate, stop))
        await asyncio.sleep(0.1)
        limits.divide(own([Leased("s", "b", "a", 1)], "a"), CLOCK.monotonic())
        assert await waits
        assert CLOCK.monotonic() == pytest.approx(10.1, abs=0.01)

    run(main())


async def _enter(gate: Gate, stop: asyncio.Event, objects: int = 1) -> bool:
    async with gate.call(objects, stop) as call:
        return call.permitted


def test_a_worker_without_shards_may_read_to_plan_some_but_change_nothing() -> None:
    async def main() -> None:
        limits = Limits(lambda _: _store(max_requests_per_second=10), CLOCK)
        gate, stop = limits.gate("s", "b"), asyncio.Event()
        limits.divide(own([Leased("s", "b", "a", 1)], "b"), CLOCK.monotonic())
        assert await _enter(gate, stop, 0)
        changes = asyncio.create_task(_enter(gate, stop, 1))
        await asyncio.sleep(3)
        assert not changes.done()
        stop.set()
        assert not await changes

    run(main())


def test_a_gate_that_is_made_later_knows_who_has_what() -> None:
    async def main() -> None:
        limits = Limits(lambda _: _store(max_requests_per_second=10), CLOCK)
        limits.divide(own([Leased("s", "b", "a", 1)], "a"), CLOCK.monotonic())
        assert await _enter(limits.gate("s", "b"), asyncio.Event())
        assert CLOCK.monotonic() == 0.0

    run(main())


def test_a_bucket_has_its_own_cap_within_that_of_its_store() -> None:
    async def main() -> Fleet:
        settings = _store(
            max_objects_per_second=1_000, limits={"small*": Caps(max_objects_per_second=100)}
        )
        fleet = Fleet(settings)
        assert [fleet.gate("a", name).batch_size for name in ("small-1", "big")] == [4, 40]
        fleet.lanes(fleet.gate("a", "small-1"), _instant, objects=4)
        fleet.lanes(fleet.gate("a", "big"), _instant, objects=40)
        await asyncio.sleep(10)
        await fleet.end()
        return fleet

    fleet = run(main())
    small = sum(n for _, n in fleet.done if n == 4) / 10
    assert 85 <= small <= 105  # now and then it waits for its turn among the big ones
    assert fleet.per_second(0, 10) == pytest.approx(1_000, rel=0.05)


def test_buckets_of_a_store_take_turns_for_its_permits() -> None:
    async def main() -> dict[str, BusyStore]:
        fleet = Fleet(_store(max_concurrency=3))
        stores = {bucket: BusyStore(seconds=0.02) for bucket in "xyz"}
        for bucket, lanes in zip("xyz", (20, 5, 1), strict=True):
            fleet.lanes(fleet.gate("a", bucket), stores[bucket].call, count=lanes, objects=1)
        await asyncio.sleep(10)
        await fleet.end()
        return stores

    calls = {bucket: len(store.log) for bucket, store in run(main()).items()}
    assert sum(calls.values()) == pytest.approx(3 / 0.02 * 10, rel=0.05)
    assert calls["z"] >= 200  # of the 500 that its only lane could do if it never had to wait


def test_batches_shrink_under_a_cap() -> None:
    async def main() -> list[int]:
        sizes = []
        for rate in (None, 5_000.0, 3.0):
            limits = Limits(lambda _, rate=rate: _store(max_objects_per_second=rate), CLOCK)
            limits.gate("s", "b")
            limits.divide(own([Leased("s", "b", "a", 1)], "a"), CLOCK.monotonic())
            sizes.append(limits.gate("s", "b").batch_size)
        return sizes

    assert run(main()) == [1_000, 200, 1]


# ── Stop ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "settings",
    [{"max_objects_per_second": 1}, {"max_requests_per_second": 0.01}, {"max_concurrency": 1}, {}],
)
def test_whoever_waits_hears_of_a_stop_within_a_tick(settings: dict[str, Any]) -> None:
    async def main() -> None:
        fleet, stop = Fleet(_store(**settings)), asyncio.Event()
        gate = fleet.gate("a")
        first = asyncio.create_task(_stay(gate, fleet.stop))
        await asyncio.sleep(0.01)
        if not settings:
            gate.estimate.concurrency, gate.estimate.refuses = 1e-9, True
            gate.estimate.latency = 1e-9
            gate.learn(1.0, CLOCK.monotonic())
        waiting = [asyncio.create_task(_enter(gate, stop)) for _ in range(20)]
        other = asyncio.create_task(_enter(gate, fleet.stop))
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        stop.set()
        began = CLOCK.monotonic()
        assert not any(await asyncio.gather(*waiting))
        assert CLOCK.monotonic() - began <= 0.05
        assert gate.waiting == 1
        assert not await _enter(gate, stop)
        await fleet.end()
        assert await first
        await other
        assert gate.busy == 0

    run(main())


async def _stay(gate: Gate, stop: asyncio.Event) -> bool:
    async with gate.call(1, stop) as call:
        await stop.wait()
        return call.permitted


def test_a_call_that_is_cancelled_gives_back_what_it_took() -> None:
    async def main() -> None:
        fleet = Fleet(_store(max_objects_per_second=100, max_concurrency=2))
        gate = fleet.gate("a")
        for _ in range(50):
            tasks = [asyncio.create_task(_stay(gate, fleet.stop)) for _ in range(4)]
            await asyncio.sleep(0.011)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.busy == 0
        began = CLOCK.monotonic()
        for _ in range(5):
            assert await _enter(gate, fleet.stop, 10)
        assert CLOCK.monotonic() - began < 0.7
        await fleet.end()

    run(main())


# ── What a store takes ───────────────────────────────────────────────────────────────────────────


def _watch(
    store: BusyStore,
    *,
    workers: int = 1,
    lanes: int = 64,
    seconds: float = 20.0,
    objects: int = 1,
    happens: Callable[[BusyStore], Any] | None = None,
    clock: VirtualClock = CLOCK,
    **settings: Any,
) -> Fleet:
    async def main() -> Fleet:
        fleet = Fleet(_store(**settings), clock)
        for number in range(workers):
            gate = fleet.gate(f"w{number}", shards=4)
            fleet.lanes(gate, store.call, count=lanes // workers, objects=objects)
        later = asyncio.create_task(happens(store)) if happens else None
        await asyncio.sleep(seconds)
        if later:
            await later
        await fleet.end()
        return fleet

    return run(main())


def _rate(store: BusyStore, begin: float, end: float) -> float:
    return sum(not refused for _, _, _, refused in store.between(begin, end)) / (end - begin)


@pytest.mark.parametrize(
    ("seconds", "windows", "workers"),
    [(0.03, False, 1), (0.03, True, 4), (0.001, False, 4), (0.001, True, 1)],
)
def test_750_requests_a_second(seconds: float, windows: bool, workers: int) -> None:
    store = BusyStore(seconds=seconds, rate=750, windows=windows)
    _watch(store, workers=workers)
    assert _rate(store, 10, 20) >= 0.9 * 750
    assert refused_share(store.between(10, 20)) < 0.05


@pytest.mark.parametrize("workers", [1, 4])
def test_a_store_that_refuses_more_calls_at_once(workers: int) -> None:
    store = BusyStore(seconds=0.03, most=32)
    _watch(store, workers=workers)
    assert _rate(store, 10, 20) >= (0.9 if workers == 1 else 0.85) * 32 / 0.03
    assert refused_share(store.between(10, 20)) < 0.05


def test_a_cap_of_500_calls_at_once_is_in_use_soon() -> None:
    store = BusyStore(seconds=0.03, jitter=0.3)
    _watch(store, lanes=600, seconds=3, max_concurrency=500)
    assert store.peak == 500
    assert _rate(store, 0.5, 2.9) >= 0.9 * 500 / 0.03


@pytest.mark.parametrize("knows", [True, False])
def test_a_worker_s_own_slowness_is_not_the_store_s(knows: bool) -> None:
    """Each call costs the worker half a millisecond, for which all others wait."""

    async def main() -> float:
        fleet = Fleet(_store(max_concurrency=64))
        gate = fleet.gate("a")
        limits = fleet.limits["a"]

        async def call(objects: int) -> None:
            lag = gate.busy * 0.0005
            if knows:
                limits.lag.woke(lag)
            await asyncio.sleep(0.03 + lag)

        fleet.lanes(gate, call, count=80, objects=1)
        await asyncio.sleep(10)
        await fleet.end()
        return fleet.per_second(5, 10)

    full = 64 / (0.03 + 64 * 0.0005)
    assert (run(main()) >= 0.9 * full) is knows


@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_a_process_that_stands_still_now_and_then_keeps_its_pace(seconds: float) -> None:
    """Whatever is under way then takes so much longer, which is no queue in the store."""

    async def main() -> float:
        fleet = Fleet(_store(max_concurrency=64))
        gate = fleet.gate("a")

        async def call(objects: int) -> None:
            began = CLOCK.monotonic()
            await asyncio.sleep(0.03)
            stalls = int(began / 2.5) != int((began + 0.03) / 2.5)
            await asyncio.sleep(seconds if stalls else 0)

        fleet.lanes(gate, call, count=80, objects=1)
        await asyncio.sleep(21)
        await fleet.end()
        return fleet.per_second(1, 20)

    assert run(main()) >= 0.95 * (1 - seconds / 2.5) * 64 / 0.03


def test_a_lag_that_is_longer_than_a_call_says_nothing() -> None:
    async def main() -> float:
        fleet = Fleet(_store(max_concurrency=64))
        gate = fleet.gate("a")
        dice = random.Random(2)

        async def call(objects: int) -> None:
            fleet.limits["a"].lag.seconds = dice.choice([0.0, 0.002, 0.2])
            await asyncio.sleep(0.03)

        fleet.lanes(gate, call, count=80, objects=1)
        await asyncio.sleep(10)
        await fleet.end()
        return fleet.per_second(1, 10)

    assert run(main()) >= 0.95 * 64 / 0.03


def test_750_requests_a_second_with_late_timers() -> None:
    store = BusyStore(seconds=0.001, rate=750)
    _watch(store, seconds=20, clock=LateClock())
    assert _rate(store, 10, 20) >= 0.9 * 750
    assert refused_share(store.between(10, 20)) < 0.05


def test_it_begins_low() -> None:
    store = BusyStore(seconds=0.5, most=1000)
    _watch(store, workers=4, seconds=0.4)
    assert store.peak <= 12  # each worker believes to be alone until the next has come


@pytest.mark.parametrize(("objects", "per_object"), [(1, 0.0), (1_000, 0.0003)])
def test_a_store_that_queues_is_not_flooded(objects: int, per_object: float) -> None:
    store = BusyStore(seconds=0.03, seconds_per_object=per_object, servers=8)
    _watch(store, lanes=128, seconds=40, objects=objects)
    needs = 0.03 + per_object * objects
    assert _rate(store, 20, 39) >= 0.95 * 8 / needs
    took = [took for _, took, _, _ in store.between(20, 39)]
    assert sum(took) / len(took) < 3 * needs  # with all lanes it would be 16 times as long


def test_times_that_vary_by_themselves_are_no_queue() -> None:
    store = BusyStore(seconds=0.03, jitter=1.2)
    _watch(store, lanes=96, seconds=10, max_concurrency=64)
    assert _rate(store, 3, 9) >= 0.95 * 64 / 0.03


def test_calls_that_need_longer_from_now_on_are_no_queue() -> None:
    async def slower(store: BusyStore) -> None:
        await asyncio.sleep(2)
        store.seconds *= 5

    store = BusyStore(seconds=0.03)
    _watch(store, lanes=96, seconds=13, max_concurrency=64, happens=slower)
    assert _rate(store, 6, 12) >= 0.95 * 64 / 0.15


def test_a_store_that_changes_is_followed() -> None:
    async def changes(store: BusyStore) -> None:
        await asyncio.sleep(5)
        store.rate = 200
        await asyncio.sleep(10)
        store.rate = 1_000

    store = BusyStore(seconds=0.03, rate=750)
    _watch(store, seconds=30, happens=changes)
    assert _rate(store, 8, 15) >= 0.9 * 200
    assert refused_share(store.between(8, 15)) < 0.05
    assert _rate(store, 22, 30) >= 0.9 * 1_000
    assert refused_share(store.between(22, 30)) < 0.05


def test_an_outage_is_asked_about_once_a_second_and_recovered_from_quickly() -> None:
    async def outage(store: BusyStore) -> None:
        await asyncio.sleep(5)
        store.down = True
        await asyncio.sleep(20)
        store.down = False

    store = BusyStore(seconds=0.03, rate=750)
    _watch(store, workers=4, seconds=40, happens=outage)
    assert len(store.between(15, 25)) <= 10 * 2
    assert _rate(store, 30, 40) >= 0.9 * 750
    assert refused_share(store.between(30, 40)) < 0.05


def test_four_workers_have_fair_parts() -> None:
    store = BusyStore(seconds=0.03, rate=750)
    parts: dict[int, int] = {}

    async def main() -> None:
        fleet = Fleet(_store())
        for number in range(4):

            async def send(objects: int, number: int = number) -> Code | None:
                code = await store.call(objects)
                parts[number] = parts.get(number, 0) + (code is None)
                return code

            fleet.lanes(fleet.gate(f"w{number}"), send, count=16, objects=1)
        await asyncio.sleep(20)
        await fleet.end()

    run(main())
    assert min(parts.values()) >= 0.7 * max(parts.values())


def test_a_worker_that_joins_begins_with_what_others_found() -> None:
    async def main() -> None:
        fleet, store = Fleet(_store()), BusyStore(seconds=0.03, most=64)
        fleet.lanes(fleet.gate("a"), store.call, count=128, objects=1)
        await asyncio.sleep(10)
        newcomer = fleet.gate("b")
        await asyncio.sleep(0.3)
        assert newcomer.estimate.concurrency == pytest.approx(64, rel=0.25)
        await fleet.end()

    run(main())


def test_news_come_at_once_when_bad_and_once_a_second_else() -> None:
    async def main() -> None:
        limits = Limits(lambda _: STORE, CLOCK)
        estimate = limits.gate("s", "b").estimate
        assert limits.news() == [Found("s", "b", 4.0)]
        estimate.concurrency = 8.0
        assert limits.news() == []
        await asyncio.sleep(1)
        assert limits.news() == [Found("s", "b", 8.0)]
        estimate.concurrency = 6.0
        assert limits.news() == [Found("s", "b", 6.0)]
        assert limits.news() == []
        limits.heard(Found("s", "b", 60.0))
        assert estimate.concurrency == 60.0
        assert limits.news() == []
        estimate.concurrency = 61.0
        limits.heard(Found("s", "b", 60.0))
        assert estimate.concurrency == 61.0
        limits.heard(Found("s", "elsewhere", 3.0))
        await asyncio.sleep(31)
        assert limits.news() == []
        async with limits.gate("s", "b").call(0, asyncio.Event()):
            assert limits.news() == [Found("s", "b", 61.0)]

    run(main())


@pytest.mark.parametrize(
    ("error", "lowers"), [(Unavailable("down"), True), (NotFound("gone"), False), (None, False)]
)
def test_an_error_that_leaves_the_call_counts(error: Exception | None, lowers: bool) -> None:
    async def main() -> None:
        fleet = Fleet(STORE)
        gate = fleet.gate("a")
        before = gate.estimate.concurrency
        if error is not None:
            with pytest.raises(type(error)):
                async with gate.call(1, fleet.stop):
                    raise error
        assert (gate.estimate.concurrency < before) is lowers
        assert gate.busy == 0
        await fleet.end()

    run(main())


def test_a_failure_that_says_nothing_of_pressure_changes_nothing() -> None:
    async def main() -> None:
        fleet = Fleet(STORE)
        gate = fleet.gate("a")
        async with gate.call(1, fleet.stop) as call:
            call.ended(Code.INTERNAL)
        assert gate.estimate.concurrency == 4.0
        await fleet.end()

    run(main())

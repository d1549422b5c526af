"""What passes is waited for; what does not ends, with every object counted."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longshore.engine import carry, shard
from longshore.engine.action_log import ActionLog
from longshore.errors import Code, Unavailable
from longshore.settings import StoreSettings
from longshore.store import Bucket, Failure, NewObject, Outcome
from tests.house import BUCKET, House

EVERYTHING = ("prefix_list", {"prefixes": [""]})
HOLD = ("put_object_hold", {"temporary_hold": True})
DELETE = ("delete_object", {"permanent": True})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, "memory", batch=20)
    await house.open()
    for number in range(60):
        await house.write(f"d/{number:02d}")
    yield house
    await house.close()


class Outage:
    """A store whose named verbs fail while ``down``; counts the calls that met it."""

    def __init__(self, store: Any, *verbs: str) -> None:
        self._store = store
        self._verbs = verbs
        self.down = True
        self.met = 0

    def __getattr__(self, name: str) -> Any:
        if self.down and name in self._verbs:
            self.met += 1
            raise Unavailable(f"{name}: the store is down")
        return getattr(self._store, name)


def _strike(house: House, *verbs: str) -> Outage:
    outage = Outage(house.mortal, *verbs)
    house.stores._open["main"] = outage  # type: ignore[assignment]
    return outage


async def _run_until(house: House, job: int, outage: Outage, met: int) -> asyncio.Task[bool]:
    running = asyncio.create_task(house.run(job))
    while outage.met < met:
        await asyncio.sleep(0.002)
    return running


@pytest.mark.parametrize("verb", ["list_objects", "get_bucket", "patch_objects"])
async def test_an_outage_is_waited_for_with_growing_pauses(house: House, verb: str) -> None:
    outage = _strike(house, verb)
    job = await house.create(HOLD, EVERYTHING)
    running = await _run_until(house, job, outage, 6)
    row, _ = await house.job(job)
    assert row.state == "RUNNING"
    outage.down = False
    assert await running
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded, counters.failed) == ("SUCCEEDED", 60, 0)
    assert len(house.mortal.journal) == 60


async def test_patience_ends_with_a_store_that_answers_and_turns_everything_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No single object is blamed: after so long without any that was done, the shard fails."""
    for module in (carry, shard):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 5.0)

    async def busy(bucket: str, batch: Any, patch: Any, **options: Any) -> Outcome:
        busy_ = Failure(Code.RESOURCE_EXHAUSTED, "too many requests")
        return Outcome(failures=dict.fromkeys(range(len(batch)), busy_))

    monkeypatch.setattr(house.mortal, "patch_objects", busy)
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, row.error_code) == ("FAILED", "UNAVAILABLE")
    assert counters.total == counters.failed > 0
    assert not house.mortal.journal


async def test_ranges_that_are_refused_do_not_keep_the_others_from_their_turn(
    house: House,
) -> None:
    """As many of them as a worker has places, until all others are done."""
    for number in range(10):
        await house.write(f"e/{number}/a")
        await house.write(f"e/{number}/b")
    prefixes = [f"e/{number}/" for number in range(10)]
    places = house.settings.shards_at_once
    done: set[str] = set()
    hot: list[str] = []
    refusals = 0

    class ByRange:
        capabilities = replace(house.mortal.capabilities, by_range=True)

        def __getattr__(self, name: str) -> Any:
            return getattr(house.mortal, name)

        async def patch_objects(self, bucket: str, batch: Any, patch: Any, **options: Any) -> Any:
            nonlocal refusals
            prefix = batch.names[0][:4]
            if prefix not in hot and len(hot) < places:
                hot.append(prefix)
            if prefix in hot and len(done) < 2 * (10 - places):
                refusals += 1
                slow = Failure(Code.RESOURCE_EXHAUSTED, "slow down")
                return Outcome(failures=dict.fromkeys(range(len(batch)), slow))
            done.update(batch.names)
            return await house.mortal.patch_objects(bucket, batch, patch, **options)

    house.stores._open["main"] = ByRange()  # type: ignore[assignment]
    job = await house.create(HOLD, ("prefix_list", {"prefixes": prefixes}))
    assert await house.run(job)
    row, (counters, errors) = await house.job(job)
    assert (row.state, counters.succeeded, errors) == ("SUCCEEDED", 20, {})
    assert len(house.mortal.journal) == 20
    assert len(hot) == places
    assert refusals >= places


async def test_patience_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "PATIENCE_SECONDS", 2.0)
    _strike(house, "patch_objects")
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, (counters, errors) = await house.job(job)
    assert (row.state, row.error_code) == ("FAILED", "UNAVAILABLE")
    # What was announced could be looked at: it is as it was, so it failed.
    assert (counters.total, counters.succeeded, counters.failed) == (20, 0, 20)
    assert list(errors) == [Code.UNAVAILABLE]


async def test_objects_that_were_changed_too_often_are_tried_again_a_second_later(
    house: House,
) -> None:
    """Those alone, of the batch; the others stand, and are not held up by it for longer."""
    tried: dict[str, list[float]] = {}

    class Exacting:
        """Takes one change of an object a second, and has just taken one of some by others."""

        def __getattr__(self, name: str) -> Any:
            return getattr(house.mortal, name)

        async def patch_objects(self, bucket: str, batch: Any, patch: Any, **options: Any) -> Any:
            now = house.clock.monotonic()
            for name in batch.names:
                tried.setdefault(name, []).append(now)
            busy = [
                i for i, name in enumerate(batch.names) if name in often and len(tried[name]) < 3
            ]
            done = batch.pick([i for i in range(len(batch)) if i not in busy])
            assert not (await house.mortal.patch_objects(bucket, done, patch, **options)).failures
            wait = Failure(Code.RESOURCE_EXHAUSTED, "too often", 1.0)
            return Outcome(failures=dict.fromkeys(busy, wait))

    often = {"d/03", "d/04", "d/33"}
    house.stores._open["main"] = Exacting()  # type: ignore[assignment]
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, (counters, errors) = await house.job(job)
    assert (row.state, counters.succeeded, errors) == ("SUCCEEDED", 60, {})
    assert len(house.mortal.journal) == 60
    assert {name for name, times in tried.items() if len(times) > 1} == often
    for name in often:
        first, second, third = tried[name]
        assert second - first >= 1.0
        assert third - second >= 2.0


async def test_an_object_that_is_always_changed_too_often_is_given_up(house: House) -> None:
    async def busy(bucket: str, batch: Any, patch: Any, **options: Any) -> Outcome:
        often = Failure(Code.RESOURCE_EXHAUSTED, "too often", 1.0)
        return Outcome(failures=dict.fromkeys(range(len(batch)), often))

    house.mortal.patch_objects = busy  # type: ignore[method-assign]
    job = await house.create(HOLD, ("prefix_list", {"prefixes": ["d/0"]}))
    assert await house.run(job)
    row, (counters, errors) = await house.job(job)
    assert (row.state, counters.failed) == ("SUCCEEDED", 10)
    assert errors[Code.RESOURCE_EXHAUSTED].count == 10


async def test_one_object_that_always_fails_is_given_up_with_its_own_code(house: House) -> None:
    class Poisoned:
        def __getattr__(self, name: str) -> Any:
            return getattr(house.mortal, name)

        async def patch_objects(self, bucket: str, batch: Any, patch: Any, **options: Any) -> Any:
            bad = {i: name for i, name in enumerate(batch.names) if name == "d/33"}
            good = batch.pick([i for i in range(len(batch)) if i not in bad])
            outcome = await house.mortal.patch_objects(bucket, good, patch, **options)
            assert not outcome.failures
            return Outcome(failures={i: Failure(Code.INTERNAL, "always") for i in bad})

    house.stores._open["main"] = Poisoned()  # type: ignore[assignment]
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, (counters, errors) = await house.job(job)
    assert (row.state, counters.succeeded, counters.failed) == ("SUCCEEDED", 59, 1)
    assert errors[Code.INTERNAL].samples == ((f"gs://{BUCKET}/d/33", "always"),)


async def test_a_log_that_cannot_be_written_is_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refusals = ActionLog.write, iter(range(5))

    async def full(self: ActionLog, *args: Any, **kwargs: Any) -> None:
        if next(refusals, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device", "shard-2.jsonl")
        await write(self, *args, **kwargs)

    monkeypatch.setattr(ActionLog, "write", full)
    job = await house.create(DELETE, EVERYTHING)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded, counters.failed) == ("SUCCEEDED", 60, 0)
    assert next(refusals, None) is None
    assert len(house.records()) == 60


async def test_a_job_cancelled_while_its_store_is_down_ends_once_it_is_back(house: House) -> None:
    outage = _strike(house, "patch_objects", "read_objects")
    job = await house.create(HOLD, EVERYTHING)
    running = await _run_until(house, job, outage, 3)
    await house.cancel(job)
    met = outage.met
    await asyncio.sleep(0.1)
    assert outage.met - met < 20, "it must not spin"
    outage.down = False
    assert await running
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded) == ("CANCELED", 0)
    assert house.mortal.journal == []


async def test_a_worker_that_ends_in_an_outage_hands_its_shard_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call is under way just then. The shard is to stop as well, but is not cancelled, so its
    patience is that of any shard. (seed 7241)"""
    monkeypatch.setattr(carry, "CANCELLED_PATIENCE_SECONDS", 0.0)
    patch_objects, outage, met = house.mortal.patch_objects, asyncio.Event(), 0
    outage.set()

    async def slowly(*args: Any, **options: Any) -> Outcome:
        nonlocal met
        if not outage.is_set():
            return await patch_objects(*args, **options)
        met += 1
        if met == 3:
            house.stop.set()
            await asyncio.sleep(0.1)
        raise Unavailable("The store is down.")

    monkeypatch.setattr(house.mortal, "patch_objects", slowly)
    job = await house.create(HOLD, EVERYTHING)
    assert not await house.run(job)
    assert met == 3
    row, _ = await house.job(job)
    assert row.state == "RUNNING"
    outage.clear()
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded, counters.failed) == ("SUCCEEDED", 60, 0)


async def test_a_cancel_has_its_patience_from_the_first_failure_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stood still, or waited for a reply, has not yet tried to settle anything: what
    it did would be counted as failed. (seed 12976)"""
    monkeypatch.setattr(carry, "CANCELLED_PATIENCE_SECONDS", 50.0)
    patch_objects, read_objects = house.mortal.patch_objects, house.mortal.read_objects
    reads = 0

    async def late(*args: Any, **options: Any) -> Outcome:
        began = house.clock.monotonic()
        await patch_objects(*args, **options)
        await house.cancel(job)
        while house.clock.monotonic() < began + 60.0:
            await asyncio.sleep(0.01)
        raise Unavailable("The connection was lost.")

    async def once_blind(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 1:
            raise Unavailable("The store is down.")
        return await read_objects(*args, **options)

    monkeypatch.setattr(house.mortal, "patch_objects", late)
    monkeypatch.setattr(house.mortal, "read_objects", once_blind)
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    assert reads > 1
    row, (counters, errors) = await house.job(job)
    assert (row.state, errors) == ("CANCELED", {})
    assert counters.succeeded == len(house.mortal.journal) == 20


async def test_a_job_cancelled_while_it_is_planned_is_canceled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry, "CANCELLED_PATIENCE_SECONDS", 1.0)
    outage = _strike(house, "get_bucket")
    job = await house.create(HOLD, EVERYTHING)
    running = await _run_until(house, job, outage, 2)
    await house.cancel(job)
    assert await running
    row, _ = await house.job(job)
    assert (row.state, row.error_code) == ("CANCELED", "CANCELLED")


async def test_a_shard_past_its_deadline_is_taken_up_again(house: House) -> None:
    """The loop stands still for longer than the lease lasts, just before an act."""
    stalled = False

    async def stall(where: str) -> None:
        nonlocal stalled
        if where == "after checkpoint" and not stalled:
            stalled = True
            time.sleep(house.settings.lease_seconds / house.clock._speed)

    house.fate.at_boundary = stall
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    assert stalled
    _, (counters, _) = await house.job(job)
    assert (counters.total, counters.succeeded) == (60, 60)
    assert len(house.mortal.journal) == 60


async def test_a_slow_store_keeps_no_other_waiting(tmp_path: Path) -> None:
    house = House(tmp_path, "memory", batch=20)
    slow = StoreSettings(name="slow", kind="memory", buckets=("slow-*",), max_objects_per_second=1)
    house.settings.stores["slow"] = slow  # type: ignore[index]
    await house.open()
    await house.write("quick")
    store = house.stores.open("slow")
    for number in range(6):
        name = f"slow-{number}"
        await store.create_bucket(Bucket(name=name, create_time_us=0))
        new = [NewObject(name=str(n), content=b"") for n in range(500)]
        await store.write_objects(name, new)
    names = tuple(f"slow-{number}" for number in range(6))
    await house.create(HOLD, EVERYTHING, buckets=names)
    quick = await house.create(HOLD, EVERYTHING)
    assert await house.run(quick, seconds=5)
    await house.close()


async def test_a_long_search_through_a_manifest_is_cancelled(tmp_path: Path) -> None:
    house = House(tmp_path, "memory", batch=1_000)
    await house.open()
    await house.write("first")
    others = b"elsewhere,some/object/of/another/bucket\n" * 1_000_000
    await house.write("list.csv", f"{BUCKET},first\n".encode() + others)
    job = await house.create(HOLD, ("manifest", {"bucket": BUCKET, "name": "list.csv"}))
    running = asyncio.create_task(house.run(job))
    while (await house.job(job))[1][0].succeeded == 0:
        await asyncio.sleep(0.005)
    await house.cancel(job)
    began = time.monotonic()
    assert await running
    row, (counters, _) = await house.job(job)
    assert time.monotonic() - began < 5.0
    assert (row.state, counters.total, counters.succeeded) == ("CANCELED", 1, 1)
    await house.close()

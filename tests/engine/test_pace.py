"""The cap of objects per second: kept, smooth, and never in the way of a stop."""

from __future__ import annotations

import asyncio

import pytest

from longshore.engine.pace import Pace


class SteppedClock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def now_us(self) -> int:
        return int(self.now * 1e6)

    def monotonic(self) -> float:
        return self.now

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        if not event.is_set():
            self.waits.append(seconds)
            self.now += seconds
        return event.is_set()


@pytest.mark.parametrize("rate", [7.0, 500.0, 5_000.0, 20_000.0, 90_000.0])
async def test_the_cap_is_kept_within_5_percent(rate: float) -> None:
    clock = SteppedClock()
    pace = Pace(rate, clock)
    began, done = clock.now, 0
    while clock.now - began < 20:
        await pace.reserve(asyncio.Event())
        done += pace.batch_size
    assert done / (clock.now - began) == pytest.approx(rate, rel=0.05)
    assert max(clock.waits) <= max(1 / rate, 1 / 10)


async def test_batches_shrink_under_a_cap() -> None:
    assert Pace(None, SteppedClock()).batch_size == 1_000
    assert Pace(5_000, SteppedClock()).batch_size == 250
    assert Pace(3, SteppedClock()).batch_size == 1


async def test_what_a_batch_does_not_use_is_given_back() -> None:
    clock = SteppedClock()
    pace = Pace(1_000, clock)
    began, done = clock.now, 0
    for _ in range(400):
        await pace.reserve(asyncio.Event())
        pace.give_back(pace.batch_size - 5)
        done += 5
    assert done / (clock.now - began) == pytest.approx(1_000, rel=0.05)


async def test_time_that_nobody_used_is_not_caught_up_on() -> None:
    clock = SteppedClock()
    pace = Pace(1_000, clock)
    await pace.reserve(asyncio.Event())
    clock.now += 60
    began, done = clock.now, 0
    while clock.now - began < 1:
        await pace.reserve(asyncio.Event())
        done += pace.batch_size
    assert done <= 1_000 + 2 * pace.batch_size


async def test_a_stop_is_not_waited_for() -> None:
    clock = SteppedClock()
    pace = Pace(1, clock)
    stop = asyncio.Event()
    stop.set()
    for _ in range(10):
        await pace.reserve(stop)
    assert clock.waits == []

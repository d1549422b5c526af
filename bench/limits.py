"""How well the engine finds what a store takes, in virtual time; and what a call through it costs.

    python bench/limits.py [--controllers estimate gradient] [--cases WORD ...] [--seeds N]

Each case is a store as a queue (tests/busy_store.py) and shards that send one call after another.
*used* is the part of the store's limit that was answered, *refused* the part of calls turned away,
both after the first 10 s of 30; *found* is when 90 % of the limit was first answered over half a
second; *fair* the least busy of the workers against the busiest. Figures are means over seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from longshore.database.estimates import Found
from longshore.database.leases import Leased
from longshore.database.quotas import own
from longshore.engine.estimate import FIRST, MOST, Estimate, Kind
from longshore.engine.gate import Gate
from longshore.engine.limits import Limits
from longshore.engine.retry import Retries
from longshore.settings import StoreSettings
from tests.busy_store import BusyStore, refused_share
from tests.virtual_time import VirtualClock, run

WARM_SECONDS = 10.0
SECONDS = 30.0
CLOCK = VirtualClock()


class Gradient:
    """What was not chosen: the limit follows short over long times, by windows of a round trip, as
    Netflix's Gradient2 does, and loses what was refused in a window."""

    def __init__(self) -> None:
        self.concurrency = FIRST
        self.latency = 0.0
        self.refuses = False
        self.proven = True
        self._long = 0.0
        self._window = 0.0
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        self._took, self._calls, self._dropped, self._busy = 0.0, 0, 0, 0.0
        self._window = now

    def succeeded(
        self, now: float, began: float, kind: Kind, mine: float, busy: float, lag: float
    ) -> None:
        took = now - began
        self.latency += (took - self.latency) / 16 if self.latency else took
        self._took += took
        self._calls += 1
        self._busy = max(self._busy, busy)
        self._judge(now, mine)

    def refused(self, now: float, began: float, mine: float) -> None:
        self._dropped += 1
        self.refuses = True
        self._judge(now, mine)

    def heard(self, concurrency: float) -> None:
        self.concurrency = concurrency

    @property
    def seconds(self) -> float:
        return self.latency or 0.1

    def _judge(self, now: float, mine: float) -> None:
        ended = self._calls + self._dropped
        if ended < max(10, mine) or now < self._window + self.latency:
            return
        limit = self.concurrency
        if self._dropped:
            limit *= max(0.5, 0.95 - self._dropped / ended)
        elif self._busy >= 0.5:
            short = self._took / self._calls
            self._long += (short - self._long) / 60 if self._long else short
            if self._long > 2 * short:
                self._long *= 0.95
            gradient = max(0.5, min(1.0, 1.5 * self._long / short))
            limit = 0.8 * limit + 0.2 * (limit * gradient + max(math.sqrt(limit), min(limit, 4)))
        self.concurrency = min(MOST, max(limit, self.latency or 0.1))
        self._begin(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A store, what it can answer in a second, and who asks it."""

    name: str
    store: Callable[[], BusyStore]
    answers: float
    workers: int = 1
    lanes: int = 64
    sizes: Sequence[int] = (1,)
    exchange: bool = True
    happens: Sequence[tuple[float, Callable[[BusyStore], None]]] = ()
    caps: dict[str, Any] = field(default_factory=dict)


def _down(store: BusyStore) -> None:
    store.down = True


def _up(store: BusyStore) -> None:
    store.down = False


def _rate(rate: float) -> Callable[[BusyStore], None]:
    return lambda store: setattr(store, "rate", rate)


def _slower(store: BusyStore) -> None:
    store.seconds *= 4


def _cases() -> list[Case]:
    def store(**limits: Any) -> Callable[[], BusyStore]:
        return lambda: BusyStore(**({"seconds": 0.03} | limits))

    kilo = 0.03 + 0.0003 * 1_000
    mixed = 0.03 + 0.0003 * (3 + 1_000) / 4
    return [
        Case(name="750/s", store=store(rate=750), answers=750),
        Case(name="750/s, 1 ms", store=store(rate=750, seconds=0.001), answers=750),
        Case(name="750/s, 300 ms", store=store(rate=750, seconds=0.3), answers=750, lanes=512),
        Case(name="750/s, burst of 1 s", store=store(rate=750, burst=1.0), answers=750),
        Case(name="750 each second", store=store(rate=750, windows=True), answers=750),
        Case(name="750/s, 4 workers", store=store(rate=750), answers=750, workers=4),
        Case(
            name="750/s, 4 that do not talk",
            store=store(rate=750),
            answers=750,
            workers=4,
            exchange=False,
        ),
        Case(
            name="750 each second, 4 workers",
            store=store(rate=750, windows=True),
            answers=750,
            workers=4,
        ),
        Case(name="32 at once", store=store(most=32), answers=32 / 0.03),
        Case(name="32 at once, 4 workers", store=store(most=32), answers=32 / 0.03, workers=4),
        Case(
            name="8 at once, 500 ms, 4 workers",
            store=store(most=8, seconds=0.5),
            answers=16,
            workers=4,
        ),
        Case(name="32 servers, queue", store=store(servers=32), answers=32 / 0.03, lanes=256),
        Case(
            name="32 servers, queue, 4 workers",
            store=store(servers=32),
            answers=32 / 0.03,
            lanes=256,
            workers=4,
        ),
        Case(
            name="8 servers, calls of 1,000",
            store=store(servers=8, seconds_per_object=0.0003),
            answers=8 / kilo,
            sizes=(1_000,),
        ),
        Case(
            name="16 servers, calls of 1 and 1,000",
            store=store(servers=16, seconds_per_object=0.0003),
            answers=16 / mixed,
            lanes=128,
            sizes=(1, 1, 1, 1_000),
        ),
        Case(
            name="no limit, cap of 500 at once",
            store=store(jitter=0.3),
            answers=500 / 0.03,
            lanes=600,
            caps={"max_concurrency": 500},
        ),
        Case(
            name="no limit, wild times, cap of 64",
            store=store(jitter=1.2),
            answers=64 / 0.03,
            lanes=128,
            caps={"max_concurrency": 64},
        ),
        Case(
            name="750/s, down from 3 to 13 s",
            store=store(rate=750),
            answers=750,
            workers=4,
            happens=((3, _down), (13, _up)),
        ),
        Case(
            name="300/s, 1,000/s from 12 s",
            store=store(rate=300),
            answers=1_000,
            happens=((12, _rate(1_000)),),
        ),
        Case(
            name="64 at once, 4 times slower from 5 s",
            store=store(most=64),
            answers=64 / 0.12,
            lanes=128,
            happens=((5, _slower),),
        ),
    ]


async def _lane(
    gate: Gate, store: BusyStore, sizes: Sequence[int], dice: random.Random, done: list[int]
) -> None:
    retries, stop = Retries(dice), asyncio.Event()
    while True:
        size = dice.choice(sizes)
        async with gate.call(size, stop) as call:
            code = await store.call(size)
            call.ended(code)
        retries.ended(done=int(code is None), failed=int(code is not None))
        done[0] += code is None
        if pause := retries.pause():
            await asyncio.sleep(min(pause, 1.0))


async def _talk(workers: Sequence[Limits], exchange: bool) -> None:
    rows = [Leased("s", "b", f"w{number}", 4) for number in range(len(workers))]
    table: dict[str, Found] = {}
    while True:
        for number, worker in enumerate(workers):
            worker.divide(own(rows, f"w{number}"), CLOCK.monotonic())
            if exchange:
                for found in table.values():
                    worker.heard(found)
                table |= {found.bucket: found for found in worker.news()}
        await asyncio.sleep(0.25)


async def _happen(case: Case, store: BusyStore) -> None:
    for at, change in case.happens:
        await asyncio.sleep(at - CLOCK.monotonic())
        change(store)


def _play(case: Case, controller: type, seed: int) -> dict[str, float]:
    store = case.store()
    store.random = random.Random(seed)
    done = [[0] for _ in range(case.workers)]

    async def main() -> None:
        settings = StoreSettings(name="s", kind="memory", **case.caps)
        workers = [Limits(lambda _: settings, CLOCK) for n in range(case.workers)]
        tasks = []
        for number, worker in enumerate(workers):
            gate = worker.gate("s", "b")
            gate.estimate = controller()
            for lane in range(case.lanes // case.workers):
                dice = random.Random(seed * 10_000 + number * 1_000 + lane)
                lanes = _lane(gate, store, case.sizes, dice, done[number])
                tasks.append(asyncio.create_task(lanes))
        tasks.append(asyncio.create_task(_talk(workers, case.exchange)))
        tasks.append(asyncio.create_task(_happen(case, store)))
        await asyncio.sleep(SECONDS)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if not (ended is None or isinstance(ended, asyncio.CancelledError)):
                raise ended

    run(main())
    late = store.between(WARM_SECONDS, SECONDS - 1)
    if case.happens:
        late = store.between(case.happens[-1][0] + WARM_SECONDS / 2, SECONDS - 1)
    answered = [took for _, took, _, refused in late if not refused]
    lasted = SECONDS - 1 - min((began for began, *_ in late), default=0.0)
    totals = [one[0] for one in done]
    return {
        "used": len(answered) / lasted / case.answers,
        "refused": refused_share(late),
        "milliseconds": 1e3 * statistics.mean(answered) if answered else math.nan,
        "found": _found(case, store),
        "fair": min(totals) / max(totals),
    }


def _found(case: Case, store: BusyStore) -> float:
    begin = case.happens[-1][0] if case.happens else 0.0
    counts = [0] * int(2 * SECONDS + 2)
    for began, _, _, refused in store.log:
        if began >= begin and not refused:
            counts[int(2 * (began - begin))] += 1
    enough = 0.9 * case.answers / 2
    return next((half / 2 for half, count in enumerate(counts) if count >= enough), math.inf)


class _Ticks:
    """A clock that costs next to nothing."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now


async def _cost(**caps: Any) -> float:
    """CPU microseconds of a call that does not wait."""
    clock = _Ticks()
    settings = StoreSettings(name="s", kind="memory", **caps)
    limits = Limits(lambda _: settings, clock)  # type: ignore[arg-type]
    gate, stop, best = limits.gate("s", "b"), asyncio.Event(), math.inf
    gate.estimate.concurrency = 500.0
    for _ in range(200):
        limits.divide(own([Leased("s", "b", "w", 1)], "w"), clock.now)
        began = time.thread_time()
        for _ in range(450):
            async with gate.call(1, stop):
                pass
        best = min(best, (time.thread_time() - began) / 450)
    return 1e6 * best


def main() -> None:
    controllers = {"estimate": Estimate, "gradient": Gradient}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--controllers", nargs="*", default=list(controllers))
    parser.add_argument("--cases", nargs="*", default=[""])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for name in arguments.controllers:
        print(f"\n| {name} | used | refused | ms | found, s | fair |\n|---|---|---|---|---|---|")
        for case in _cases():
            if not any(word in case.name for word in arguments.cases):
                continue
            played = [_play(case, controllers[name], 1 + seed) for seed in range(arguments.seeds)]
            mean = {key: statistics.mean(one[key] for one in played) for key in played[0]}
            print(
                f"| {case.name} | {mean['used']:.0%} | {mean['refused']:.1%}"
                f" | {mean['milliseconds']:.0f} | {mean['found']:.1f} | {mean['fair']:.2f} |",
                flush=True,
            )
    for caps in ({}, {"max_requests_per_second": 1e9}, {"max_concurrency": 600}):
        print(
            f"a call that does not wait, {caps or 'no caps'}: {asyncio.run(_cost(**caps)):.2f} µs"
        )


if __name__ == "__main__":
    main()

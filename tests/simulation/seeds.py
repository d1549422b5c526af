"""Many seeds, on all cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import Pool

from tests.simulation.machines import Shelf
from tests.simulation.reckoning import reckon
from tests.simulation.world import World

TOGETHER = 10
"""How many seeds a process is handed at a time."""
_shelf: list[Shelf] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a seed; ``problem`` "" if all is well."""

    seed: int
    problem: str
    digest: str
    steps: int
    events: int
    met: Counter[str]
    story: list[str]

    def __str__(self) -> str:
        replay = f"python -m tests.simulation --story --seeds {self.seed}"
        return f"{self.problem}\nseed {self.seed}; to see it again: {replay}"


def simulate(seed: int) -> Report:
    """Live through one seed, in this process."""
    if not _shelf:
        _shelf.append(Shelf())
        gc.freeze()  # what is imported stays: a quarter of the time would go into looking at it
    world = World(seed, _shelf[0])
    problem = ""
    try:
        world.run()
        reckon(world)
    except Exception:
        problem = f"{world.plan}\n{traceback.format_exc()}"
    return Report(
        seed=seed,
        problem=problem,
        digest=world.digest(),
        steps=world.loop.steps,
        events=world.events,
        met=world.met(),
        story=world.story,
    )


def close() -> None:
    """Remove what this process has made for its simulations."""
    while _shelf:
        _shelf.pop().close()


def processes(count: int | None = None) -> Pool:
    """A pool for ``simulate_all``; each of its processes begins as a fresh interpreter."""
    return multiprocessing.get_context("spawn").Pool(count or os.cpu_count())


def simulate_all(seeds: Iterable[int], pool: Pool) -> Iterator[Report]:
    """The reports of seeds, as they come in."""
    return pool.imap_unordered(simulate, seeds, chunksize=TOGETHER)

"""Seeds that every run of the tests lives through; `make simulate` goes on from here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.machines import Shelf
from tests.simulation.reckoning import reckon
from tests.simulation.world import World

SEEDS = 1000
TOGETHER = 50


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.close()


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_whatever_happens_the_counters_are_exact(first: int, shelf: Shelf) -> None:
    for seed in range(first, first + TOGETHER):
        world = World(seed, shelf)
        try:
            world.run()
            reckon(world)
        except AssertionError as error:
            error.add_note(f"seed {seed}: python -m tests.simulation --story --seeds {seed}")
            raise

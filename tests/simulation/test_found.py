"""What simulations have found, each as the shortest story that shows it, with the seed that did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.machines import Shelf
from tests.simulation.plan import Plan, calm
from tests.simulation.reckoning import reckon
from tests.simulation.world import World


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.close()


def live(plan: Plan, shelf: Shelf, script: dict[int, str] | None = None) -> World:
    world = World(plan.seed, shelf, plan=plan)
    world.network.script = script or {}
    world.run()
    reckon(world)
    assert not world.network.script, "the story went another way"
    return world


@pytest.mark.parametrize("change", ["updateObjectCustomContext", "rewriteObject"])
def test_a_call_made_twice_of_which_the_second_reply_comes_counts(
    change: str, shelf: Shelf
) -> None:
    """The second reply says that the objects have moved: it was we who moved them. (181, 635)"""
    live(calm(change), shelf, {0: "second reply"})


def test_a_worker_that_takes_a_shard_again_which_it_still_carries(shelf: Shelf) -> None:
    """Its lease was taken away while it was paused. The end of the old run must not make the
    worker forget the new one, which would then hear of no cancel. (246, 427)"""
    for moment in range(5, 15):
        live(calm("putObjectHold", reaps=False, agenda={moment: ("pause long",)}), shelf)

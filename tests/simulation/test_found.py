"""What simulations have found, each as the shortest story that shows it, with the seed that did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.machines import Shelf
from tests.simulation.plan import BUCKETS, Plan, Row, calm
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


@pytest.mark.parametrize("moment", [3, 4])
def test_a_worker_that_comes_back_with_buckets_that_another_has_found(
    moment: int, shelf: Shelf
) -> None:
    """Just when it has found them itself: each bucket has one bucket operation all the same."""
    for seed in range(8):
        agenda = {moment: ("outlive lease",)}
        two = {"workers": 2, "buckets": BUCKETS, "reaps": False}
        live(calm("putObjectHold", seed=seed, project=True, agenda=agenda, **two), shelf)


def test_a_row_that_names_what_an_earlier_row_has_rewritten_is_refused(shelf: Shelf) -> None:
    """Its generation is noncurrent by then. With the reply lost, the earlier row's work was taken
    for this one's, and its bytes were counted twice. (724)"""
    world = World(0, shelf, plan=calm("rewriteObject", versioned=True, manifest=True, objects=6))
    name, generation = "a/000", 0

    def rows(bucket: str, _names: list[str]) -> list[Row]:
        nonlocal generation
        found = world.network.store._buckets[bucket]
        found.live[name].storage_class, found.live[name].temporary_hold = "STANDARD", False
        generation = found.live[name].generation
        return [Row(name, generation)] * 12

    world._draw_rows = rows  # type: ignore[method-assign]
    world.network.script = {1: "reply lost"}
    world.run()
    reckon(world)
    counters = world.watch.job()
    assert counters["bytes_transformed"] == world.history.sizes["harbour", name, generation]


def test_a_dry_run_by_manifest_under_a_cap_comes_to_its_end(shelf: Shelf) -> None:
    """It has no shard of the manifest's bucket, and so no part of that bucket's cap. (489, 670)"""
    live(calm("deleteObject", manifest=True, dry_run=True, capped=True), shelf)

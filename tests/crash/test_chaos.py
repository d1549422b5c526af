"""A short storm; ``make chaos`` is the long one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.chaos.reckoning import together
from tests.crash.chaos.storm import Storm

KILLS = 30 if os.environ.get("CI") == "true" else 10
SEED = 7341
"""One that begins with four kinds of jobs and has a strike of nearly every kind."""
FIRST = {"deleteObject", "rewriteObject", "putMetadata", "updateObjectCustomContext"}


@pytest.mark.services
@pytest.mark.timeout(900)
def test_whoever_is_killed_the_counters_are_exact(
    tmp_path: Path, new_database: Callable[[], str | None]
) -> None:
    storm = Storm(tmp_path, seed=SEED, kills=KILLS, objects=5_000, database=new_database())
    storm.run()
    assert storm.killed == KILLS
    ended = [one for lane in storm.lanes for one in lane.ended]
    sums = together(one.sums for one in ended)
    assert {one.kind for one in ended} >= FIRST
    assert sums.acts > 0
    assert sums.settled > 0
    assert sums.by_others > 0

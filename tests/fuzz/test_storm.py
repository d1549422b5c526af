"""Thousands of requests that nobody should send, by seed, to a real service."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.fuzz.attacks import attack
from tests.fuzz.target import Target, attacked
from tests.service import Service

FEW, MANY = 500, 20_000
WARM = 500
"""Attacks before memory is first looked at: caches fill, pools grow."""
GROWTH_MAX_MIB = 32.0
SEED = int(os.environ.get("FUZZ_SEED", "20261125"))


@pytest.fixture
def target(tmp_path: Path, new_database: Callable[[], str | None]) -> Iterator[Target]:
    with attacked(Service(tmp_path, database=new_database())) as found:
        found.prepare()
        yield found


def withstand(target: Target, number: int) -> None:
    """No 5xx, no hang, no growth, nothing in the log; and afterwards it is as it was."""
    attacks = partial(attack, SEED)
    target.storm(attacks, range(WARM))
    before = target.memory_mib()
    target.storm(attacks, range(WARM, number))
    target.check_log()
    grown = target.memory_mib() - before
    assert grown < GROWTH_MAX_MIB, f"grew by {grown:.0f} MiB, from {before:.0f}"
    assert target.service.http.get("/healthz").status_code == 200
    assert target.service.stop() == 0
    target.check_log()


def test_a_small_storm(target: Target) -> None:
    withstand(target, FEW)


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_storm(target: Target) -> None:
    withstand(target, MANY)


def test_attacks_are_the_same_for_the_same_seed() -> None:
    assert [attack(3, number) for number in range(50)] == [
        attack(3, number) for number in range(50)
    ]
    assert len({attack(3, number).data for number in range(50)}) == 50

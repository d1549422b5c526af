"""What is tried again, how soon, and how much of it."""

from __future__ import annotations

import random

import pytest

from longshore.engine.retry import (
    MAX_DELAY_SECONDS,
    PRESSURE,
    TRANSIENT,
    Retries,
    delay,
    is_their_own,
)
from longshore.errors import Code


def test_codes_of_pressure_pass() -> None:
    assert PRESSURE < TRANSIENT
    assert not TRANSIENT & {Code.NOT_FOUND, Code.ABORTED, Code.PERMISSION_DENIED}


def test_pauses_grow_to_a_limit_and_are_spread() -> None:
    dice = random.Random(7)
    means = []
    for failures in range(12):
        pauses = [delay(failures, dice) for _ in range(500)]
        longest = min(MAX_DELAY_SECONDS, 0.1 * 2**failures)
        assert 0 < min(pauses) < 0.2 * longest
        assert 0.8 * longest < max(pauses) <= longest
        means.append(sum(pauses))
    assert means[:8] == sorted(means[:8])


def test_a_seed_gives_the_same_pauses() -> None:
    def pauses(seed: int) -> list[float]:
        retries = Retries(random.Random(seed))
        taken = []
        for _ in range(5):
            retries.ended(done=0, failed=10)
            taken.append(retries.pause())
        return taken

    assert pauses(1) == pauses(1) != pauses(2)


def test_what_goes_well_is_not_paused_for() -> None:
    retries = Retries()
    assert retries.pause() == 0.0
    retries.ended(done=899, failed=101)
    assert 0 < retries.pause() <= 0.2
    retries.ended(done=1_000, failed=0)
    assert retries.pause() == 0.0


def test_few_refusals_in_each_batch_are_not_paused_for() -> None:
    retries = Retries()
    for _ in range(100):
        retries.ended(done=950, failed=50, tries=1)
        assert retries.pause() == 0.0
    assert not retries.probing


def test_an_object_that_keeps_failing_is_paused_for_longer_each_time() -> None:
    retries, pauses = Retries(random.Random(3)), []
    for tries in range(1, 6):
        retries.ended(done=999, failed=1, tries=tries)
        pauses.append(sum(retries.pause() for _ in range(500)) / 500)
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] > 1.0


@pytest.mark.parametrize("batch", [1, 1_000])
def test_an_outage_is_probed_after_three_batches_and_its_end_noticed(batch: int) -> None:
    retries = Retries()
    for _ in range(3):
        assert not retries.probing
        retries.ended(done=0, failed=batch)
    assert retries.probing
    retries.ended(done=0, failed=batch)
    assert retries.probing
    retries.ended(done=batch, failed=0)
    assert not retries.probing
    retries.ended(done=0, failed=batch)
    retries.ended(done=0, failed=batch)
    assert retries.probing  # an outage that comes back at once has less of a reserve


@pytest.mark.parametrize(("refused", "spent"), [(50, False), (80, False), (200, True)])
def test_no_more_than_a_tenth_is_repeated_in_the_long_run(refused: int, spent: bool) -> None:
    retries = Retries()
    probed = False
    for _ in range(200):
        retries.ended(done=1_000 - refused, failed=refused)
        probed = probed or retries.probing
    assert probed is spent


@pytest.mark.parametrize(
    ("code", "done", "failed", "theirs"),
    [
        (Code.UNAVAILABLE, 999, 1, True),
        (Code.UNAVAILABLE, 990, 10, True),
        (Code.UNAVAILABLE, 900, 100, False),
        (Code.UNAVAILABLE, 0, 1, False),
        (Code.UNAVAILABLE, 2, 1, True),
        (Code.INTERNAL, 0, 1_000, True),
    ],
)
def test_a_store_in_trouble_is_not_the_objects_fault(
    code: Code, done: int, failed: int, theirs: bool
) -> None:
    assert is_their_own(code, done, failed) is theirs

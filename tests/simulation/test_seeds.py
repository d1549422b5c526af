"""Seeds that every run of the tests lives through; `make simulate` goes on from here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.pool import Pool

import pytest

from tests.simulation import seeds

SEEDS = 1000
AT_A_TIME = 100
EVERY_HUNDRED = {
    *("crash", "crash all", "pause", "clock ahead and pause", "drain", "storm", "user", "cancel"),
    *("call lost", "call partial", "call reply lost", "call second reply", "call twice"),
    *("database fails at statement", "database fails at done", "database fails at undone"),
    *("projects", "halvings", "leases taken away or run out", "ends SUCCEEDED", "ends CANCELED"),
    *("stores that copy", "logs in a bucket", "clusters"),
}
"""What comes up among so many seeds: else they have lost their power."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with seeds.processes() as pool:
        yield pool
        pool.close()
        pool.join()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, AT_A_TIME))
def test_whatever_happens_the_counters_are_exact(first: int, pool: Pool) -> None:
    reports = list(seeds.simulate_all(range(first, first + AT_A_TIME), pool))
    assert not [str(report) for report in reports if report.problem]
    assert {what for report in reports for what in report.met} >= EVERY_HUNDRED


def test_a_seed_tells_the_same_story_each_time() -> None:
    """In other processes, too, in which texts have other hashes."""
    command = [sys.executable, "-m", "tests.simulation", "--digests", "--seeds", "150:190"]
    told = {
        subprocess.run(
            [*command, "--processes", "1"],
            env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
            capture_output=True,
            check=True,
            timeout=300,
        ).stdout
        for hash_seed in (1, 2)
    }
    assert len(told) == 1
    assert told.pop().count(b"\n") == 40

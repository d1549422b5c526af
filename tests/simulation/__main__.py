"""Simulate: ``python -m tests.simulation --seeds FIRST[:END]``, END excluded.

Stops at the first seed that goes wrong, says why and how to see it again. ``--story`` tells what
happened, step by step; ``--keep-going`` goes on to the last seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation import seeds
from tests.simulation.seeds import Report

PROGRESS = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:1000", metavar="FIRST[:END]")
    parser.add_argument("--processes", type=int, default=None, help="default: one for each core")
    parser.add_argument("--story", action="store_true")
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--digests", action="store_true", help="print nothing else")
    options = parser.parse_args()
    first, _, end = options.seeds.partition(":")
    chosen = range(int(first), int(end) if end else int(first) + 1)
    if options.digests:
        for report in _reports(chosen, 1):
            print(report.seed, report.digest)
        return 0
    began, done, bad = time.monotonic(), 0, 0
    met: Counter[str] = Counter()
    seeds_that_met: Counter[str] = Counter()
    for report in _reports(chosen, options.processes):
        done += 1
        met += report.met
        seeds_that_met.update(report.met.keys())
        if report.problem or options.story:
            print("\n".join(report.story))
        if report.problem:
            bad += 1
            print(report, flush=True)
            if not options.keep_going:
                break
        if done % PROGRESS == 0:
            rate = done / (time.monotonic() - began)
            print(f"{done} of {len(chosen)} seeds, {rate:.1f} a second", flush=True)
    if done > 1:
        for what in sorted(met):
            print(f"{what:32} {met[what]:8} in {seeds_that_met[what]:6} seeds")
    print(f"{done} seeds, {bad} bad, {time.monotonic() - began:.1f} s")
    return bool(bad)


def _reports(chosen: range, processes: int | None) -> Iterator[Report]:
    if len(chosen) == 1 or processes == 1:
        try:
            yield from map(seeds.simulate, chosen)
        finally:
            seeds.close()
    else:
        with seeds.processes(processes) as pool:
            yield from seeds.simulate_all(chosen, pool)


if __name__ == "__main__":
    sys.exit(main())

"""Simulate seeds: ``python -m tests.simulation [--seeds FIRST:LAST] [--story SEED]``."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.machines import Shelf
from tests.simulation.reckoning import reckon
from tests.simulation.world import World


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0:100")
    parser.add_argument("--story", action="store_true")
    parser.add_argument("--keep-going", action="store_true")
    options = parser.parse_args()
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last or int(first) + 1))
    shelf = Shelf()
    bad = 0
    began, cpu = time.monotonic(), time.process_time()
    steps = events = 0
    for seed in seeds:
        world = World(seed, shelf)
        try:
            world.run()
            reckon(world)
        except Exception:
            bad += 1
            if options.story:
                print("\n".join(world.story))
            print(f"seed {seed}: {world.plan.change.kind} {world.plan}")
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            if not options.keep_going:
                break
        else:
            if options.story:
                print("\n".join(world.story))
        steps += world.loop.steps
        events += world.events
    count = len(seeds)
    print(
        f"{count} seeds, {bad} bad; {time.monotonic() - began:.1f} s, CPU"
        f" {(time.process_time() - cpu) / count * 1e3:.1f} ms a seed, {steps // count} steps,"
        f" {events // count} events"
    )
    shelf.close()
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

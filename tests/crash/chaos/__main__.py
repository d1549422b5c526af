"""Kill a working service again and again: ``python -m tests.crash.chaos --kills 200``.

Two workers, four jobs side by side in three buckets of the local store, somebody else who writes
and deletes under them; processes are killed, stopped and drained at random. Every job is reckoned
when it ends. Stops at the first discrepancy and keeps everything in its directory. The seed chooses
jobs and kills; when they meet is up to the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.crash.chaos.lane import Ended
from tests.crash.chaos.reckoning import Discrepancy, together
from tests.crash.chaos.storm import WORKERS, Storm
from tests.services.postgresql import running


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--objects", type=int, default=20_000, help="of a lane in one bucket")
    parser.add_argument(
        "--database",
        metavar="KIND",
        default="sqlite",
        help="sqlite, postgresql (one of its own), or the URL of an empty PostgreSQL",
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write it there, too")
    options = parser.parse_args()
    if options.database != "postgresql":
        return run(options, None if options.database == "sqlite" else options.database)
    with running() as server:
        if server is None:
            print("PostgreSQL is not installed (Debian: postgresql).")
            return 1
        return run(options, server.new_database())


def run(options: argparse.Namespace, database: str | None) -> int:
    """The exit status of one storm."""
    directory = Path(tempfile.mkdtemp(prefix="longshore-chaos-"))
    print(f"seed {options.seed}, in {directory}", flush=True)
    began = time.monotonic()
    storm = Storm(
        directory,
        seed=options.seed,
        kills=options.kills,
        objects=options.objects,
        database=database,
        say=lambda line: print(line, flush=True),
    )
    try:
        storm.run()
    except Discrepancy as error:
        print(f"{error}\nAfter {storm.killed} kills with seed {options.seed}: see {directory}")
        return 1
    kind = "PostgreSQL" if database else "SQLite"
    text = "\n".join(summary(storm, kind, time.monotonic() - began)) + "\n"
    print(f"\n{text}")
    if options.summary is not None:
        options.summary.parent.mkdir(parents=True, exist_ok=True)
        options.summary.write_text(text)
    shutil.rmtree(directory)
    return 0


def summary(storm: Storm, database: str, seconds: float) -> Iterator[str]:
    """A page about a storm that was lived through."""
    ended = [one for lane in storm.lanes for one in lane.ended]
    sums = together(one.sums for one in ended)
    yield f"# {storm.killed} kills on {database}: nothing lost, nothing counted twice"
    yield ""
    yield (
        f"Seed {storm.seed}, {seconds:.0f} s, {os.cpu_count()} cores, {WORKERS} workers,"
        f" Python {platform.python_version()}."
    )
    yield ""
    yield "| struck | times |"
    yield "|---|---|"
    for kind, times in sorted(storm.strikes.items()):
        yield f"| {MEANING[kind]} | {times} |"
    yield ""
    yield "| jobs | | objects | succeeded | failed | acts | settled | by others | halves |"
    yield "|---|---|---|---|---|---|---|---|---|"
    kinds: dict[str, list[Ended]] = defaultdict(list)
    for one in ended:
        kinds[f"{one.kind} by {one.form}"].append(one)
    for kind, jobs in [*sorted(kinds.items()), ("all", ended)]:
        of = together(one.sums for one in jobs)
        halved = sum(one.halved for one in jobs)
        numbers = (of.total, of.succeeded, of.codes.total(), of.acts, of.settled, of.by_others)
        cells = " | ".join(f"{number:,}" for number in (*numbers, halved))
        yield f"| {kind} | {len(jobs)} | {cells} |"
    yield ""
    codes = ", ".join(f"{code} {count:,}" for code, count in sorted(sums.codes.items()))
    yield f"Failed: {codes or 'none'}. Slowest start of the service: {storm.slowest_start:.1f} s."
    yield ""
    yield (
        "*acts* are changes that the job made, by the journal of the bucket; *settled* were counted"
        " by what was found there after a crash; *by others* are changes by the meddler meanwhile."
    )


MEANING = {
    "worker": "one worker killed",
    "workers": "all workers killed at once",
    "parent": "the service's own process killed, workers left to die with it",
    "both": "all processes killed at once",
    "cut": "killed while it drained",
    "drain": "drained by SIGTERM (no kill)",
    "hang": "a worker stopped for good, ended by its parent (not counted as a kill)",
    "nap": "a process stopped for up to 2.5 s (no kill)",
}

if __name__ == "__main__":
    sys.exit(main())

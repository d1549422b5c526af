"""Does the net catch? Plants bugs in a copy of the sources and simulates until one is found.

``python -m tests.simulation.plant [NAME …]`` prints, for each bug, the first seed that finds it and
how; it fails if SEEDS seeds do not. A bug is a few exact replacements of text; where a text is no
longer there the plant fails, so that it is kept up to date.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One replacement in a file below src/longshore; ``times``: how often the text is there."""

    file: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A mistake that somebody could make."""

    name: str
    edits: tuple[Edit, ...]


_ACT = """\
                    ending = await self._work.act(prepared, intent)  # act
                    await self._count(intent, ending)
"""
_LOG = """\
            await self._log.write(
                intent,
                ending.failures,
                ending.again.keys(),
                now_us=self._tools.clock.now_us(),
                settled=ending.looked,
            )
"""
_FENCE = 'shards.c.attempt == bindparam("shard_attempt")'

BUGS = (
    Bug(
        name="buckets found by two workers both count",
        edits=(
            Edit(
                file="database/shards.py",
                old="    _write(connection, shard, _CONFIRM, {})\n",
                new="",
            ),
        ),
    ),
    Bug(
        name="batches of a filtered page go on behind the whole page",
        edits=(
            Edit(
                file="sources/project_source/__init__.py",
                old='    cursor = {"after": batch.names[last], "generation": None}\n',
                new='    cursor = {"after": batch.names[-1], "generation": None}\n',
            ),
        ),
    ),
    Bug(
        name="no fencing",
        edits=(
            Edit(
                file="database/shards.py",
                old=_FENCE,
                new='bindparam("shard_attempt").is_not(None)',
            ),
            Edit(
                file="database/leases.py",
                old=_FENCE,
                new='bindparam("shard_attempt").is_not(None)',
            ),
        ),
    ),
    Bug(
        name="checkpoint before the act",
        edits=(
            Edit(
                file="engine/shard.py",
                old=_ACT,
                new="""\
                    from dataclasses import replace
                    await self._count(intent, Ending())
                    await self._announce(replace(prepared, intent=None, found=0, bytes_found=0))
                    await self._work.act(prepared, intent)
""",
            ),
        ),
    ),
    Bug(
        name="no intent",
        edits=(Edit(file="engine/shard.py", old="intent=packed,", new="intent=None,"),),
    ),
    Bug(
        name="intent without names",
        edits=(
            Edit(
                file="engine/intent.py",
                old="_compress(names)",
                new='_compress(b"")',
            ),
        ),
    ),
    Bug(
        name="not found is done, for rows announced absent",
        edits=(
            Edit(
                file="engine/work.py",
                old="if generation == ABSENT and index not in failures:",
                new="if generation == ABSENT and not gone_is_done and index not in failures:",
            ),
            Edit(
                file="engine/work.py",
                old="def _known_failures(intent: Intent, bucket: str)",
                new="def _known_failures(intent: Intent, bucket: str, gone_is_done: bool)",
            ),
            Edit(
                file="engine/work.py",
                old="_known_failures(intent, self.bucket)",
                new="_known_failures(intent, self.bucket, self.transformation.gone_is_done)",
                times=2,
            ),
        ),
    ),
    Bug(
        name="cancel drops an open intent",
        edits=(
            Edit(
                file="database/jobs.py",
                old="""\
            shards.c.owner.is_(None),
            shards.c.intent.is_(None),
""",
                new="            shards.c.owner.is_(None),\n",
            ),
        ),
    ),
    Bug(
        name="a split cuts into what is announced",
        edits=(
            Edit(
                file="engine/shard.py",
                old="self._tools.database.write(shards.hand_over, self._shard, keep, give)",
                new="self._tools.database.write(shards.hand_over, self._shard,"
                ' {**keep, "before": self._open.names[-1]},'
                ' {**give, "after": self._open.names[0]})'
                " if self._open else self._tools.database.write("
                "shards.hand_over, self._shard,"
                ' {**keep, "before": last.batch.names[-1]},'
                ' {**give, "after": last.batch.names[0]})',
            ),
        ),
    ),
    Bug(
        name="leases judged by a wall clock",
        edits=(
            Edit(
                file="engine/lease_watch.py",
                old="self._clock.monotonic()",
                new="self._clock.now_us() / 1e6",
            ),
        ),
    ),
    Bug(
        name="deadlines judged by a wall clock",
        edits=(
            Edit(
                file="engine/deadline.py",
                old="self._clock.monotonic()",
                new="self._clock.now_us() / 1e6",
                times=2,
            ),
            Edit(
                file="engine/shard.py",
                old="asked = self._tools.clock.monotonic()",
                new="asked = self._tools.clock.now_us() / 1e6",
            ),
            Edit(
                file="engine/worker.py",
                old="asked = self._clock.monotonic()\n        claimed",
                new="asked = self._clock.now_us() / 1e6\n        claimed",
            ),
            Edit(
                file="engine/worker.py",
                old="now = self._clock.monotonic()\n        due = [",
                new="now = self._clock.now_us() / 1e6\n        due = [",
            ),
        ),
    ),
    Bug(
        name="no deadline",
        edits=(
            Edit(
                file="engine/calls.py",
                old="                self._changing.deadline.check()\n",
                new="                pass\n",
            ),
        ),
    ),
    Bug(
        name="a commit whose reply was lost is made again and adds twice",
        edits=(
            Edit(
                file="database/shards.py",
                old='values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}',
                new="""\
values: dict[str, Any] = {
        name: shards.c[name] + bindparam(f"new_{name}")
        if name in COUNTER_NAMES
        else bindparam(f"new_{name}")
        for name in columns
    }""",
            ),
            Edit(
                file="engine/shard.py",
                old="self._tally.counters,",
                new="self._unconfirmed(),",
                times=3,
            ),
            Edit(
                file="database/transaction.py",
                old="if self._doubtful is not None:",
                new="if False:",
            ),
            Edit(
                file="engine/shard.py",
                old="self._open, self._again, self._cursor = prepared.intent, Again(),"
                " prepared.cursor\n",
                new="self._open, self._again, self._cursor = prepared.intent, Again(),"
                " prepared.cursor\n            self._confirmed = self._tally.counters\n",
            ),
            Edit(
                file="engine/shard.py",
                old="        self.progressed = False\n",
                new="        self.progressed = False\n"
                "        self._confirmed = self._tally.counters\n",
            ),
            Edit(
                file="engine/shard.py",
                old="    async def _hand_back(self) -> None:",
                new="""\
    def _unconfirmed(self):
        from longshore.model import COUNTER_NAMES, Counters
        now, before = self._tally.counters, self._confirmed
        return Counters(**{n: getattr(now, n) - getattr(before, n) for n in COUNTER_NAMES})

    async def _hand_back(self) -> None:""",
            ),
        ),
    ),
    Bug(
        name="a commit whose reply was lost is made again",
        edits=(
            Edit(
                file="database/transaction.py",
                old="if self._doubtful is not None:",
                new="if False:",
            ),
        ),
    ),
    Bug(
        name="a batch that failed in part is done again as a whole and counted twice",
        edits=(
            Edit(
                file="engine/work.py",
                old="    indexes = sorted(ending.again)\n",
                new="    indexes = list(range(len(intent))) if ending.again"
                " else sorted(ending.again)\n",
            ),
            Edit(
                file="engine/work.py",
                old="| ending.again[i] for i in indexes]",
                new="| ending.again.get(i, 0) for i in indexes]",
            ),
        ),
    ),
    Bug(
        name="two finishers, each of which sees the other's shard still open",
        edits=(
            Edit(
                file="engine/shard.py",
                old="        await self._tools.database.write(\n            shards.finish,",
                new="""\
        from sqlalchemy import func, select
        from longshore.database.tables import shards as rows
        alone = await self._tools.database.read(
            lambda connection: connection.execute(
                select(func.count()).where(
                    rows.c.job == self._shard.job, rows.c.state.in_(("QUEUED", "RUNNING"))
                )
            ).scalar_one() == 1
        )
        await self._tools.database.write(
            shards.finish if alone else shards.finish_alone,""",
            ),
            Edit(
                file="database/shards.py",
                old="def hand_back(connection",
                new="""\
def finish_alone(connection, shard, counters, errors, state, now_us, error=None):
    cancelled = connection.execute(_IS_CANCELLED, {"job_id": shard.job}).scalar_one() is not None
    values = _counter_values(counters, errors)
    values |= {"intent": None, "owner": None, "error_code": None, "error_message": None}
    values["state"] = "CANCELED" if cancelled else state.value
    _write(connection, shard, _FINISH, values)


def hand_back(connection""",
            ),
        ),
    ),
    Bug(
        name="what cannot be written to the bucket of logs is counted all the same",
        edits=(
            Edit(
                file="engine/log_objects.py",
                old="                raise Unavailable(\n",
                new="                return str(\n",
            ),
        ),
    ),
    Bug(
        name="a log has an object for each attempt, which the next batch replaces",
        edits=(
            Edit(
                file="engine/log_objects.py",
                old="{time:%Y%m%dT%H%M%S.%fZ}-{attempt:04}-{random}",
                new="-{attempt:04}-",
            ),
        ),
    ),
    Bug(
        name="the log is written after the checkpoint",
        edits=(
            Edit(
                file="engine/shard.py",
                old=_LOG,
                new="            self._records = (intent, ending, self._tools.clock.now_us())\n",
            ),
            Edit(
                file="engine/shard.py",
                old="        self.progressed = False\n",
                new="        self.progressed = False\n        self._records = None\n",
            ),
            Edit(
                file="engine/shard.py",
                old="        self._looks += LOOKS_PER_BATCH\n",
                new="        self._looks += LOOKS_PER_BATCH\n        await self._write_records()\n",
            ),
            Edit(
                file="engine/shard.py",
                old="    async def _hand_back(self) -> None:",
                new="""\
    async def _write_records(self):
        if self._records is not None:
            intent, ending, now_us = self._records
            self._records = None
            await self._log.write(
                intent, ending.failures, ending.again.keys(), now_us=now_us, settled=ending.looked
            )

    async def _hand_back(self) -> None:""",
            ),
            Edit(
                file="engine/shard.py",
                old="            self._tools.clock.now_us(),\n            error,\n        )\n",
                new="            self._tools.clock.now_us(),\n            error,\n        )\n"
                "        await self._write_records()\n",
            ),
        ),
    ),
    Bug(
        name="a change by copy is settled like one in place",
        edits=(
            Edit(
                file="transformation.py",
                old='            ours = map(_same, announced.checksums, now.columns["checksum"])\n',
                new="            ours = map(eq, announced.generations, now.generations)\n",
            ),
        ),
    ),
    Bug(
        name="a named version that a copy of ours made noncurrent is judged itself",
        edits=(
            Edit(
                file="engine/work.py",
                old="bool(one) and not self.transformation.keeps_checksum for one",
                new="bool(one) for one",
            ),
        ),
    ),
    Bug(
        name="what was refused as moved is announced again unlooked",
        edits=(
            Edit(
                file="engine/work.py",
                old="                elif failure.code is Code.ABORTED or",
                new="                elif failure.code is Code.ABORTED and not gone_is_done:\n"
                "                    _again(intent, index, failure, failures, again)\n"
                "                elif failure.code is Code.ABORTED or",
            ),
        ),
    ),
    Bug(
        name="a coordinator whose term is over deals",
        edits=(
            Edit(
                file="database/coordinator.py",
                old="    if connection.execute(found).scalar_one() != term:\n",
                new="    if connection.execute(found).scalar_one() < 0:\n",
            ),
        ),
    ),
    Bug(
        name="what is carried is begun again when it is told once more",
        edits=(
            Edit(
                file="engine/worker.py",
                old="(shard, attempt) in self._given | self._running.keys()",
                new="(shard, attempt) in self._given",
            ),
            Edit(
                file="engine/worker.py",
                old="del self._running[running.shard.id, running.shard.attempt]",
                new="self._running.pop((running.shard.id, running.shard.attempt), None)",
            ),
        ),
    ),
    Bug(
        name="what was dealt is taken back though it was accepted",
        edits=(
            Edit(
                file="database/deals.py",
                old="        shards.c.checkpoint == lease.checkpoint,\n",
                new="",
            ),
            Edit(
                file="database/deals.py",
                old="{lease for lease in seen if lease[:4] in found}",
                new="set(seen)",
            ),
        ),
    ),
    Bug(
        name="who has nothing of a bucket any more keeps its quota",
        edits=(
            Edit(
                file="dividing.py",
                old="owners = sorted(parts.keys() | self._given.keys())",
                new="owners = sorted(parts.keys())",
            ),
        ),
    ),
    Bug(
        name="a coordinator divides only among those that it has seen come",
        edits=(
            Edit(
                file="dividing.py",
                old="            self._given = await self._database.read(quotas.everybodys)\n",
                new="            self._given = {}\n",
            ),
        ),
    ),
    Bug(
        name="a worker is dealt what it cannot read",
        edits=(
            Edit(
                file="database/deals.py",
                old="if one.reads == reads}",
                new="if one.reads >= 0}",
            ),
        ),
    ),
)


def plant(bug: Bug, sources: Path) -> None:
    """Make the mistake in the copy at ``sources``; raises LookupError if it cannot be made."""
    for edit in bug.edits:
        path = sources / "longshore" / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != edit.times:
            raise LookupError(
                f"{bug.name}: {edit.file} does not have {edit.times} times {edit.old!r}"
            )
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def find(bug: Bug, seeds: int, processes: int) -> tuple[int | None, str]:
    """The first seed that is found to go wrong (None: none is), and what it says."""
    with tempfile.TemporaryDirectory(prefix="planted-") as directory:
        copy = Path(directory)
        for folder in ("src", "tests"):
            shutil.copytree(
                ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__")
            )
        plant(bug, copy / "src")
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.simulation",
                "--seeds",
                f"0:{seeds}",
                "--processes",
                str(processes),
            ],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
    output = run.stdout + run.stderr
    broken = re.search(r".*((Type|Name|Attribute|Unbound\w*|Import)Error| gave up: ).*", output)
    if broken:
        raise LookupError(f"{bug.name} is no longer planted well: {broken[0]}")
    seed = re.search(r"^seed (\d+);", run.stdout, re.MULTILINE)
    if seed is None:
        return None, output[-2000:]
    said = re.findall(r"^(?:\w+\.)*(\w+): (.*)", run.stdout, re.MULTILINE)
    return int(seed[1]), ": ".join(said[-1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.plant", description=__doc__)
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    missed = 0
    for bug in BUGS:
        if options.names and bug.name not in options.names:
            continue
        seed, said = find(bug, SEEDS, options.processes)
        missed += seed is None
        where = "NOT FOUND" if seed is None else f"seed {seed}"
        print(f"{bug.name:75} {where:10} {said[:90]}", flush=True)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())

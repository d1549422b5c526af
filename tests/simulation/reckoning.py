"""What must hold in the end: counters, log, views and objects against the store's own journal.

Objects that nobody but the job has touched are reckoned exactly. Of those that users wrote to, or
that a call reached which the network had held back for longer than a call may take, the settling
rules (docs/decisions/0002) say who may be counted as what: they give the counters some room.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tests.simulation.plan import LEAST_BYTES, LOGS, NEVER, OUTSIDE, REFUSED, Change
from tests.simulation.watch import COUNTERS, Violated

if TYPE_CHECKING:
    from tests.simulation.world import World

WANTED_CLASS = "COLDLINE"
CONTEXTS_AT_MOST = 4
"""How many contexts of one object an act can create, delete or update, as users set them here."""


class Version(NamedTuple):
    """One version of an object, as ``World.versions`` gives it."""

    name: str
    generation: int
    metageneration: int
    size: int
    live: bool
    held: bool
    contexts: str
    content_type: str
    custom_metadata: str
    acl: str
    storage_class: str


@dataclass(slots=True)
class Sums:
    """What untouched objects come to."""

    succeeded: int = 0
    failed: int = 0
    bytes_transformed: int = 0
    contexts_created: int = 0
    contexts_deleted: int = 0
    contexts_updated: int = 0


def reckon(world: World) -> None:
    """Raises Violated."""
    Reckoning(world).check()


def _demand(condition: object, what: str) -> None:
    if not condition:
        raise Violated(what)


class Reckoning:
    """The books of one simulation that has come to its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.plan = world.plan
        self.row = world.watch.job()
        self.counters = {name: self.row[name] for name in COUNTERS}
        self.errors = json.loads(self.row["errors"] or "{}")
        self.finished = self.row["state"] == "SUCCEEDED"
        self.touched = world.history.touched
        self.initial = {
            bucket: [Version(*row) for row in rows] for bucket, rows in world.initial.items()
        }
        self.rows = [
            (bucket, row.name, row.generation)
            for bucket, rows in world.rows.items()
            for row in rows
        ]
        self.effects: dict[tuple[str, str, int], list[Any]] = defaultdict(list)
        for effect in world.network.effects:
            if (effect.bucket, effect.name) not in self.touched:
                self.effects[effect.bucket, effect.name, effect.generation].append(effect)

    def check(self) -> None:
        self._check_state()
        self._check_parts()
        self._check_views()
        self._check_errors()
        self._check_outside()
        self._check_once()
        if self.plan.dry_run:
            self._check_dry_run()
            return
        self._check_log()
        if self.plan.manifest:
            self._check_manifest()
        else:
            self._check_listing()

    # What is the same for every job.

    def _check_state(self) -> None:
        state = self.row["state"]
        _demand(state in ("SUCCEEDED", "CANCELED"), f"{state}: {self.row['error_message']}")
        total, done = self.counters["total"], self.counters["succeeded"] + self.counters["failed"]
        if self.plan.dry_run:
            return
        _demand(total == done or (not self.finished and total > done), f"{total=} and {done=}")

    def _check_parts(self) -> None:
        """Each bucket has one bucket operation, or none where they were never found."""
        expected = list(self.plan.buckets)
        if self.world.watch.parts == [""]:
            _demand(self.plan.project and not self.finished, "no bucket was found")
            expected = [""]
        _demand(self.world.watch.parts == expected, f"operations for {self.world.watch.parts}")
        shown = self.world.views[0].get("isMultiBucketJob", False)
        _demand(shown == (len(expected) > 1), f"shown are several buckets: {shown}")

    def _check_views(self) -> None:
        job, operation = self.world.views
        seen = {name: int(job["counters"].get(wire, 0)) for name, wire in WIRE.items()}
        if self.plan.manifest or self.plan.project:
            seen["bytes_found"] = self.counters["bytes_found"]
        _demand(seen == self.counters, f"the job shows {seen}, counted were {self.counters}")
        shown = operation["metadata"]["job"]
        job["counters"].pop("totalBytesTransformed", None)
        for name in ("state", "completeTime", "counters", "errorSummaries"):
            _demand(shown.get(name) == job.get(name), f"{name}: {shown} and {job}")
        _demand(job["state"] == self.row["state"] and operation["done"], f"{job} {operation}")
        code = operation.get("error", {}).get("code", 0)
        _demand(code == (0 if self.finished else 1), f"{operation}")
        _demand(
            operation["metadata"].get("requestedCancellation", False)
            == (self.row["cancel_us"] is not None),
            f"{operation}",
        )

    def _check_errors(self) -> None:
        count = sum(one["count"] for one in self.errors.values())
        _demand(count == self.counters["failed"], f"{self.errors} of {self.counters}")
        for code, one in self.errors.items():
            _demand(len(one["samples"]) == min(5, one["count"]), f"samples of {code}: {one}")

    def _check_outside(self) -> None:
        """What was not chosen is as it was."""
        for bucket, before in self.initial.items():
            chosen = {row.name for row in self.world.rows.get(bucket, ())}
            if self.plan.project:
                chosen = {version.name for version in before if self._is_chosen(version)}

            def outside(name: str, bucket: str = bucket, chosen: set[str] = chosen) -> bool:
                if (bucket, name) in self.touched:
                    return False
                if self.plan.manifest or self.plan.project:
                    return name not in chosen
                return name.startswith(OUTSIDE)

            now = [row for row in self.world.versions(bucket) if outside(row[0])]
            _demand([tuple(v) for v in before if outside(v.name)] == now, "outside was touched")

    def _check_once(self) -> None:
        """No version has been changed twice by calls that came in time, nor an object of which
        each change makes a new version."""
        for key, effects in self.effects.items():
            repeats = len(effects) - 1
            if repeats and self.plan.change.kind in COUNTED_TWICE_MATTERS:
                raise Violated(f"{key} was acted upon twice: {effects}")
        change = self.plan.change
        if change.kind != "rewriteObject" and not (self.plan.copies and change.copied):
            return
        effects_of = Counter(key[:2] for key in self.effects)
        made = Counter(key[:2] for key in self.world.history.sizes if key[:2] not in self.touched)
        made.subtract(
            (bucket, version.name)
            for bucket, versions in self.initial.items()
            for version in versions
            if (bucket, version.name) not in self.touched
        )
        _demand(max(effects_of.values(), default=0) <= 1, f"copied twice: {effects_of}")
        _demand(+made == effects_of, f"{+made} new versions by {effects_of}")

    def _check_dry_run(self) -> None:
        _demand(not self.world.network.calls, "a dry run has sent calls")

    # The log.

    def records(self) -> dict[Any, list[tuple[int, str]]]:
        """(generation, code) of every record of an object, by what identifies it."""
        found: dict[Any, list[tuple[int, str]]] = defaultdict(list)
        for line in self._log():
            record = orjson.loads(line)["jsonPayload"]
            (member,) = record.keys() - {"@type", "completeTime", "status", "settled"}
            thing = record[member]["objectMetadataBefore"]["gcsObject"]
            generation = int(thing["generation"])
            key = (thing["bucket"], thing["objectKey"])
            if self.plan.change.permanent and not self.plan.manifest:
                key = (*key, generation)
            found[key].append((generation, record["status"]["statusCode"]))
        return found

    def _log(self) -> Iterator[bytes]:
        """Every line of the log, what a later attempt wrote after what an earlier one did. That may
        arrive in the bucket after its writer's death."""
        if not self.plan.log_bucket:
            for path in sorted(self.world.settings.logs_dir.glob("*/*/shard-*.jsonl")):
                yield from path.read_bytes().splitlines()
            return
        written = self.world.network.store._buckets[LOGS].live.values()
        for one in sorted(written, key=lambda one: (one.name.split("-")[-2], one.generation)):
            yield from one.content.splitlines()

    def _check_log(self) -> None:
        """Each counted object has its record."""
        found = self.records()
        last = {key: rows[-1][1] for key, rows in found.items()}
        # A worker that lives on without its lease may write last of what users changed meanwhile.
        disputed = sum(
            key[:2] in self.touched and not self.plan.reaps and len({code for _, code in rows}) > 1
            for key, rows in found.items()
        )
        done = sum(code == "OK" for code in last.values())
        failed = len(last) - done
        counters = self.counters
        if self.plan.manifest:
            rows = {key[:2] for key in self.rows if key[2] != REFUSED}
            records = self.records()
            written = sum(map(len, records.values()))
            _demand(written >= counters["succeeded"] + counters["failed"], "records are missing")
            if self.finished:
                logged = {key for key in records if not key[1].startswith("list.csv line ")}
                passed_over = {key for key in rows - logged if key not in self.touched}
                _demand(logged <= rows and not passed_over, f"records of {rows ^ logged}")
        elif self.finished:
            _demand(
                counters["succeeded"] + counters["failed"] == len(last)
                and abs(counters["failed"] - failed) <= disputed,
                f"counted are {counters}, logged {done} and {failed}",
            )
        else:
            # Cancelled: what had failed, or was done and then changed by somebody else, and is
            # found so only when the cancel settles it, has a record and is not counted.
            enough = counters["succeeded"] <= done and counters["failed"] <= failed
            exact = self.touched or counters["succeeded"] == done
            _demand(enough and exact, f"{counters} of {done} and {failed}")

    # Jobs by prefix.

    def _chosen(self) -> list[tuple[str, Version]]:
        """The untouched versions that a job by prefix is about."""
        return [
            (bucket, version)
            for bucket, versions in self.initial.items()
            for version in versions
            if (bucket, version.name) not in self.touched and self._is_chosen(version)
        ]

    def _is_chosen(self, version: Version) -> bool:
        if not version.name.startswith(self.plan.prefixes):
            return False
        if self.plan.project:
            return version.live and version.size >= LEAST_BYTES
        return version.live or self.plan.change.permanent

    def _check_listing(self) -> None:
        if self.finished:
            expected = Sums()
            for bucket, version in self._chosen():
                self._expect(expected, bucket, version)
        else:
            expected = self._effective()
        room = self._room()
        for name in COUNTERS[1:]:
            if name == "bytes_found":
                continue
            least = getattr(expected, name)
            most = least + getattr(room, name)
            if not self.finished and name in ("succeeded", "failed"):
                most = len(self._chosen()) + room.succeeded
            _demand(
                least <= self.counters[name] <= most,
                f"{name} is {self.counters[name]}, not from {least} to {most}",
            )

    def _expect(self, sums: Sums, bucket: str, version: Version) -> None:
        """Add what an untouched version comes to in a job that has run to its end."""
        change = self.plan.change
        effects = self.effects.get((bucket, version.name, version.generation), [])
        needed, allowed = needs(change, version), not version.held or change.patch is not None
        if len(effects) < (needed and allowed) or (effects and not (needed and allowed)):
            raise Violated(f"{version} has had {effects}")
        if needed and not allowed:
            sums.failed += 1
            return
        sums.succeeded += 1
        if effects:
            _add(sums, change, effects[0])

    def _effective(self) -> Sums:
        """What untouched versions have come to in a job that was cancelled: what was done."""
        sums = Sums()
        for effects in self.effects.values():
            sums.succeeded += 1
            _add(sums, self.plan.change, effects[0])
        return sums

    def _room(self) -> Sums:
        """What touched objects may add, at most."""
        sizes: dict[tuple[str, str], list[int]] = defaultdict(list)
        for (bucket, name, _), size in self.world.history.sizes.items():
            if (bucket, name) in self.touched:
                sizes[bucket, name].append(size)
        names = len(self.touched)
        count = sum(map(len, sizes.values())) if self.plan.change.permanent else names
        moves = self.plan.change.patch is None
        # A manifest may name an object more than once, and each time another version is there.
        acts = Counter(row[:2] for row in self.rows) if self.plan.manifest else Counter()
        most = sum(
            sum(one if self.plan.change.permanent else sorted(one)[-max(1, acts[key]) :])
            for key, one in sizes.items()
        )
        contexts = (
            CONTEXTS_AT_MOST * sum(max(1, acts[key]) for key in self.touched)
            if "updateObjectCustomContext" in self.plan.change.message
            else 0
        )
        return Sums(
            succeeded=count,
            failed=count,
            bytes_transformed=most if moves else 0,
            contexts_created=contexts,
            contexts_deleted=contexts,
            contexts_updated=contexts,
        )

    # Jobs by manifest.

    def _check_manifest(self) -> None:
        rows = self.rows
        count = len(rows)
        total = self.counters["total"]
        least = count - self._passed_over() if self.finished else 0
        _demand(least <= total <= count, f"{total} of {count} rows, {least} at least")
        expected = self._expect_rows() if self.finished else self._effective()
        untouched = [key for key in rows if key[:2] not in self.touched]
        repeats = len(untouched) - len({key[:2] for key in untouched})
        room = self._room()
        for name in COUNTERS[1:]:
            if name == "bytes_found":
                continue
            least = getattr(expected, name)
            most = least + getattr(room, name)
            if name in ("succeeded", "failed"):
                most = least + len(rows) - len(untouched) + repeats if self.finished else count
            _demand(
                least <= self.counters[name] <= most,
                f"{name} is {self.counters[name]}, not from {least} to {most}",
            )

    def _passed_over(self) -> int:
        """How many rows may not be counted at all: those that name a generation which is noncurrent
        by then, where noncurrent ones are not deleted (decision 2)."""
        change = self.plan.change
        if not self.plan.versioned or change.kind != "deleteObject" or change.permanent:
            return 0
        times = Counter(key[:2] for key in self.rows)
        return sum(
            key[2] > 0 and (times[key[:2]] > 1 or key[:2] in self.touched) for key in self.rows
        )

    def _expect_rows(self) -> Sums:
        """What the rows of untouched objects come to, the first of each object at least."""
        sums = Sums()
        live = {
            (bucket, version.name): version
            for bucket, versions in self.initial.items()
            for version in versions
            if version.live
        }
        absent = refused = 0
        seen: set[tuple[str, str]] = set()
        for bucket, name, generation in self.rows:
            version = live.get((bucket, name))
            if generation == REFUSED:
                refused += 1
            elif (bucket, name) in self.touched:
                continue
            elif version is None or generation == NEVER:
                absent += 1
            elif (bucket, name) not in seen:
                seen.add((bucket, name))
                self._expect(sums, bucket, version)
        sums.failed += absent + refused
        for code, least in (("NOT_FOUND", absent), ("INVALID_ARGUMENT", refused)):
            found = self.errors.get(code, {}).get("count", 0)
            _demand(found >= least, f"{least} rows must fail as {code}, {found} did")
        return sums


COUNTED_TWICE_MATTERS = ("deleteObject", "rewriteObject", "updateObjectCustomContext")
WIRE = {
    "total": "totalObjectCount",
    "succeeded": "succeededObjectCount",
    "failed": "failedObjectCount",
    "bytes_found": "totalBytesFound",
    "bytes_transformed": "totalBytesTransformed",
    "contexts_created": "objectCustomContextsCreated",
    "contexts_deleted": "objectCustomContextsDeleted",
    "contexts_updated": "objectCustomContextsUpdated",
}


def needs(change: Change, version: Version) -> bool:
    """Whether a version is not yet as the job is to make it."""
    if change.kind == "rewriteObject":
        return version.storage_class != WANTED_CLASS
    if change.patch is None:
        return True
    columns = {
        "temporary_hold": version.held,
        "content_type": version.content_type,
        "custom_metadata": version.custom_metadata,
        "contexts": version.contexts,
        "acl": version.acl,
    }
    wanted = change.patch.changes()
    return any(
        columns[name] != (value.apply(columns[name]) if hasattr(value, "apply") else value)
        for name, value in wanted.items()
    )


def _add(sums: Sums, change: Change, effect: Any) -> None:
    if change.patch is None:
        sums.bytes_transformed += effect.size
    elif change.kind == "updateObjectCustomContext":
        sums.contexts_created += effect.created
        sums.contexts_deleted += effect.deleted
        sums.contexts_updated += effect.updated

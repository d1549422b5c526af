"""What the counters of a job must be: the bucket's journal, under docs/decisions/0002.

Every change in the journal is somebody else's or the job's. The job's must be the change it was to
make, on versions that needed it; each of them must be counted, and whatever is counted must have
its change, or the reason why none was needed or possible. Of names that somebody else deleted or
overwrote meanwhile, the rules leave open whether the job met them; the job's log then says what it
counted, and the journal whether it could.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.crash.chaos.journal import Change, Key, Snapshot, Version, by_others
from tests.crash.chaos.orders import Order, contexts_changed

CONTEXTS = "updateObjectCustomContext"
GONE, HELD, MOVED = "NOT_FOUND", "PERMISSION_DENIED", ("ABORTED", "FAILED_PRECONDITION")
_CONTEXTS = tuple(f"objectCustomContexts{what}" for what in ("Created", "Deleted", "Updated"))


class Discrepancy(AssertionError):
    """The books do not balance."""


class Word(NamedTuple):
    """The last record of the job's log about an object."""

    generation: int
    code: str
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What happened in one bucket while a job ran there. ``rows``: the names of its manifest."""

    bucket: str
    before: Mapping[str, Version]
    after: Snapshot
    deleted_by_others: set[Key]
    rows: frozenset[str] | None


@dataclass(slots=True)
class Sums:
    """What a place comes to."""

    total: int = 0
    succeeded: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    bytes_found: list[int] = field(default_factory=lambda: [0, 0])
    """The least and the most."""
    bytes_transformed: int = 0
    contexts: list[int] = field(default_factory=lambda: [0, 0, 0])
    acts: int = 0
    by_others: int = 0
    settled: int = 0


class Books:
    """The books of one place."""

    def __init__(self, order: Order, place: Place) -> None:
        """Raises Discrepancy for a change that the job should not have made."""
        self._order = order
        self._place = place
        self.versions: dict[Key, Version] = {}
        self.acts: dict[Key, list[Change]] = defaultdict(list)
        self.taken: set[Key] = set()
        """Versions that somebody else deleted or overwrote."""
        self.touched: set[str] = set()
        """Names where somebody else wrote or deleted."""
        self.patched: set[str] = set()
        """Names where somebody else changed metadata."""
        self.moving: set[str] = set()
        """Names where somebody else may have been in the way of a call."""
        self.as_wanted: set[Key] = set()
        """Versions that, at some time, were as the job wants them, without it."""
        self.by_others = 0
        self._replay()

    def _replay(self) -> None:
        now = dict(self._place.before)
        for version in now.values():
            self._meet(version)
        others = by_others(self._place.after.changes, self._place.deleted_by_others)
        for change in self._place.after.changes:
            if change.old is not None and now.pop(change.old.name, None) != change.old:
                raise Discrepancy(f"the journal has a gap before {change}")
            if change.new is not None:
                now[change.new.name] = change.new
            if change.sequence in others:
                self._note(change)
            else:
                self._judge(change)
        if now != self._place.after.objects:
            raise Discrepancy("the journal does not lead to what is there")
        # Only a patch that counts contexts insists on the metageneration.
        contexts = self._order.kind == CONTEXTS
        self.moving = self.touched | (self.patched if contexts else set())

    def _meet(self, version: Version) -> None:
        self.versions[version.key] = version
        if not self._order.deletes and not self._order.needs(version):
            self.as_wanted.add(version.key)

    def _note(self, change: Change) -> None:
        """A change by somebody else."""
        self.by_others += 1
        if change.new is not None:
            self._meet(change.new)
        if change.old is not None and change.new is not None:
            self.patched.add(change.name)
        else:
            self.touched.add(change.name)
        if change.new is None and change.old is not None:
            self.taken.add(change.old.key)

    def _judge(self, change: Change) -> None:
        """A change by the job."""
        old, new = change.old, change.new
        if old is None or not self._order.made(old, new):
            raise Discrepancy(f"no {self._order.kind}, and nobody else's: {change}")
        if self._place.rows is not None and old.name not in self._place.rows:
            raise Discrepancy(f"not in the manifest: {change}")
        if not self._order.needs(old):
            raise Discrepancy(f"acted upon again: {change}")
        if self._order.removes and old.temporary_hold:
            raise Discrepancy(f"held, but acted upon: {change}")
        self.acts[old.key].append(change)
        if new is not None:
            self.versions[new.key] = new

    def reckon(self, words: Mapping[Key | str, Word]) -> Sums:
        """What the job must have counted here, given the last word about each object.

        ``words`` are by name, those of a delete without a manifest by name and generation.
        """
        sums = Sums(total=len(words), by_others=self.by_others)
        sums.acts = sum(map(len, self.acts.values()))
        if self._place.rows is None:
            sums.bytes_found = self._bytes_found()
        for thing, word in words.items():
            name = thing if isinstance(thing, str) else thing[0]
            sums.settled += word.settled
            if word.code == "OK":
                sums.succeeded += 1
                self._succeeded(name, word, sums)
            else:
                sums.codes[word.code] += 1
                self._failed(name, word)
        self._nothing_lost(words)
        return sums

    def _bytes_found(self) -> list[int]:
        """Of all that was there; what somebody else wrote or removed may have been met or not."""
        before = self._place.before.values()
        least = sum(version.size for version in before if version.name not in self.touched)
        open_ = (one.size for one in self.versions.values() if one.name in self.touched)
        return [least, least + sum(open_)]

    def _succeeded(self, name: str, word: Word, sums: Sums) -> None:
        key = (name, word.generation)
        acts = self.acts.get(key, ())
        if not acts:
            theirs = key in self.taken and word.settled
            if not (theirs if self._order.deletes else key in self.as_wanted):
                raise Discrepancy(f"counted, but never done: {key} {word}")
        if self._order.deletes or (self._order.rewrites and acts):
            sums.bytes_transformed += self.versions[key].size
        elif acts and self._order.kind == CONTEXTS:
            last = acts[-1]
            assert last.old is not None
            assert last.new is not None
            changed = contexts_changed(last.old, last.new)
            sums.contexts = [sum(pair) for pair in zip(sums.contexts, changed, strict=True)]

    def _failed(self, name: str, word: Word) -> None:
        key = (name, word.generation)
        version = self.versions.get(key)
        if word.code == GONE:
            fair = name not in self._place.before or name in self.touched
            fair = fair and not (self._order.deletes and self.acts.get(key))
        elif word.code == HELD:
            held = version is not None and version.temporary_hold
            fair = bool(held) and self._order.removes and not self.acts.get(key)
        else:
            fair = word.code in MOVED and not self._order.deletes and name in self.moving
        if not fair:
            raise Discrepancy(f"failed without a reason: {key} {word}, {version}")

    def _nothing_lost(self, words: Mapping[Key | str, Word]) -> None:
        """Each act is counted, and each object that nobody else took was acted upon once."""
        by_generation = self._order.deletes and self._place.rows is None
        for key, acts in self.acts.items():
            word = words.get(key if by_generation else key[0])
            excused = key[0] in self.moving and not self._order.deletes
            if word is None or not (excused or (word.code, word.generation) == ("OK", key[1])):
                raise Discrepancy(f"done, but not counted: {acts[-1]} {word}")
            if len(acts) > 1 and key[0] not in self.moving:
                raise Discrepancy(f"acted upon again: {acts}")
        for name, version in self._place.before.items():
            chosen = self._place.rows is None or name in self._place.rows
            if chosen and name not in self.touched:
                self._must_be_done(version, words.get(version.key if by_generation else name))

    def _must_be_done(self, version: Version, word: Word | None) -> None:
        if word is None:
            raise Discrepancy(f"left out: {version}")
        needed = self._order.needs(version)
        refused = needed and self._order.removes and version.temporary_hold
        if word.code in MOVED and version.name in self.moving:
            return  # judged by _failed
        if (word.code, word.generation) != (HELD if refused else "OK", version.generation):
            raise Discrepancy(f"{word} for {version}")
        if needed and not refused and version.key not in self.acts:
            raise Discrepancy(f"never done: {version} {word}")


def words_of(
    records: Iterable[Mapping[str, Any]], *, by_generation: bool
) -> dict[str, dict[Key | str, Word]]:
    """The last word of a log about each object, by bucket."""
    found: dict[str, dict[Key | str, Word]] = defaultdict(dict)
    for record in records:
        (member,) = record.keys() - {"@type", "completeTime", "status", "settled"}
        thing = record[member]["objectMetadataBefore"]["gcsObject"]
        name, generation = thing["objectKey"], int(thing["generation"])
        key = (name, generation) if by_generation else name
        code = record["status"]["statusCode"]
        found[thing["bucket"]][key] = Word(generation, code, record.get("settled", False))
    return found


def compare(job: Mapping[str, Any], order: Order, sums: Sums) -> None:
    """Raises Discrepancy unless the job (or bucket operation) has counted just that."""
    counted = {name: int(value) for name, value in job.get("counters", {}).items()}
    failed = sums.codes.total()
    expected = {
        "totalObjectCount": sums.total,
        "succeededObjectCount": sums.succeeded,
        "failedObjectCount": failed,
    }
    if order.removes:
        expected["totalBytesTransformed"] = sums.bytes_transformed
    if order.kind == CONTEXTS:
        expected |= dict(zip(_CONTEXTS, sums.contexts, strict=True))
    seen = {name: counted.get(name, 0) for name in expected}
    if job["state"] != "SUCCEEDED" or seen != expected or sums.total != sums.succeeded + failed:
        raise Discrepancy(f"{job['state']}, counted {seen}, not {expected}")
    least, most = sums.bytes_found
    if not least <= counted.get("totalBytesFound", 0) <= most:
        raise Discrepancy(f"counted {counted}, bytes found are {least} to {most}")
    summaries = job.get("errorSummaries", [])
    codes = {one["errorCode"]: int(one["errorCount"]) for one in summaries}
    if codes != dict(sums.codes):
        raise Discrepancy(f"errors {codes}, not {dict(sums.codes)}")
    for one in summaries:
        if len(one["errorLogEntries"]) != min(5, int(one["errorCount"])):
            raise Discrepancy(f"samples of {one}")


def together(parts: Iterable[Sums]) -> Sums:
    """The sums of a job, of those of its places."""
    whole = Sums()
    for one in parts:
        whole.total += one.total
        whole.succeeded += one.succeeded
        whole.codes += one.codes
        whole.bytes_found = [
            sum(pair) for pair in zip(whole.bytes_found, one.bytes_found, strict=True)
        ]
        whole.bytes_transformed += one.bytes_transformed
        whole.contexts = [sum(pair) for pair in zip(whole.contexts, one.contexts, strict=True)]
        whole.acts += one.acts
        whole.by_others += one.by_others
        whole.settled += one.settled
    return whole

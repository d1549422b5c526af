"""What a shard does between two checkpoints: prepare an announcement, act on it, settle it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from longshore import extensions
from longshore.engine.intent import MAX_TRIES, NEEDED, PINNED, TRIES, Intent
from longshore.engine.retry import TRANSIENT, is_their_own
from longshore.engine.rows import Rows
from longshore.errors import Code, Error
from longshore.model import Shard
from longshore.source import Cursor, Selection, Source
from longshore.store import ABSENT, UNSENT, Batch, BucketStores, Failure, Outcome, Store
from longshore.transformation import Announced, Transformation, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Objects that are to be looked at and announced once more, as columns.

    ``generations`` and ``sizes`` are the announced ones; ``flags`` hold PINNED and the tries.
    """

    names: list[str] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A batch ready to be announced and acted upon; ``intent`` None in a dry run."""

    intent: Intent | None
    batch: Batch
    follows: Mapping[int, int]
    """Rows that repeat an earlier row of the batch, and which: they share its fate."""
    settled: Collection[int]
    """Objects that were looked at again and turned out to be done."""
    cursor: Cursor
    found: int
    bytes_found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the objects of an intent ended: all succeeded but ``failures`` and those of ``again``,
    which maps an index to the object's next number of tries."""

    failures: dict[int, Failure] = field(default_factory=dict)
    again: dict[int, int] = field(default_factory=dict)
    looked: Collection[int] = ()
    """Those that were judged by what was found there: who brought that about, nobody knows."""
    answered: int = 0
    """How many objects' calls were answered for good,"""
    turned_away: int = 0
    """and how many's failed in a way that passes: wait before the next."""
    wait_seconds: float = 0.0
    """How long at least, since objects among them have been changed too often."""


class Work:
    """One shard's objects, through its source, its store and its transformation."""

    def __init__(self, shard: Shard, stores: BucketStores) -> None:
        """Raises Unimplemented if the source or the transformation is not there."""
        name, data = shard.source
        self.source: Source = extensions.load("sources", name).open_source(data)
        self.store: Store = stores.for_bucket(shard.bucket)
        name, data = shard.transformation
        asked: Transformation = extensions.load("transformations", name).open_transformation(data)
        self.transformation = asked.on(self.store.capabilities)
        self.bucket = shard.bucket
        self.dry_run = shard.dry_run

    @property
    def columns(self) -> tuple[str, ...] | None:
        """What a source must read of each object, besides whether it is live; None: a dry run only
        counts."""
        return None if self.dry_run else self.transformation.columns_before

    def nothing(self, cursor: Cursor) -> Prepared:
        """A batch of no objects: what is done is counted, and whoever asked for a stop is heard."""
        return Prepared(
            intent=None,
            batch=_EMPTY,
            follows={},
            settled=(),
            cursor=cursor,
            found=0,
            bytes_found=0,
        )

    async def refresh(self, selection: Selection, names: Set[str]) -> Selection:
        """The selection, with what is there now of ``names``: they were changed since it was read
        ahead."""
        batch, pinned = selection.batch, selection.pinned or [False] * len(selection.batch)
        stale = [
            index
            for index, name in enumerate(batch.names)
            if name in names
            and index not in selection.refused
            # A generation that the user named and that was not there does not come back.
            and not (pinned[index] and batch.generations[index] == ABSENT)
        ]
        if not stale:
            return selection
        wanted = [batch.generations[i] if pinned[i] else ABSENT for i in stale]
        now = await self._read([batch.names[i] for i in stale], wanted)
        order = list(range(len(batch)))
        for place, index in enumerate(stale):
            order[index] = len(batch) + place
        return replace(selection, batch=(batch + now).pick(order))

    async def prepare(self, again: Again, selection: Selection | None, cursor: Cursor) -> Prepared:
        """Read what must be known of ``again``, join it with ``selection``, and make the intent."""
        fresh = selection or Selection(batch=_EMPTY, cursor=cursor)
        if selection is not None and self.transformation.skips_noncurrent:
            fresh = _without_noncurrent(selection)
        found = len(fresh.batch)
        bytes_found = sum(fresh.batch.sizes) if self.source.counts_bytes else 0
        batch, intent, follows = fresh.batch, None, {}
        settled: Collection[int] = ()
        if not self.dry_run:
            rows = Rows.of(fresh)
            if again:
                rows = (await self._read_again(again)).join(rows)
            batch = rows.batch
            follows = rows.follows() if self.source.repeats else {}
            intent = rows.intent(self.transformation, self.bucket, follows)
            settled = rows.settled.keys()
        return Prepared(
            intent=intent,
            batch=batch,
            follows=follows,
            settled=settled,
            cursor=fresh.cursor,
            found=found,
            bytes_found=bytes_found,
        )

    async def act(self, prepared: Prepared, intent: Intent) -> Ending:
        """Do what was announced, to announced objects only.

        A failure of one object that is TRANSIENT leaves its effect unknown, as does one that says
        that the object has moved: on the way the call may have been made twice, and it is we who
        moved it. Such objects are looked at. Raises an errors.Error if the call as a whole fails,
        with its effect unknown.
        """
        gone_is_done = self.transformation.gone_is_done
        failures = _known_failures(intent, self.bucket)
        indexes: Sequence[int] = range(len(intent))
        if min(intent.flags, default=0) < NEEDED:
            indexes = [i for i, flags in enumerate(intent.flags) if flags & NEEDED]
        again: dict[int, int] = {}
        unknown: dict[int, Failure | None] = {}
        turned_away = unsent = 0
        outcome = Outcome()
        looked = set(prepared.settled)
        if indexes:
            batch = prepared.batch
            called = batch if len(indexes) == len(batch) else batch.pick(indexes)
            outcome = await self.transformation.act(self.store, self.bucket, called)
            turned_away = sum(one.code in TRANSIENT for one in outcome.failures.values())
            for place, failure in outcome.failures.items():
                index = indexes[place]
                if failure is UNSENT:
                    again[index] = intent.flags[index] & TRIES
                    unsent += 1
                elif failure.code in TRANSIENT:
                    own = failure.wait_seconds > 0 or is_their_own(
                        failure.code, len(indexes) - turned_away, turned_away
                    )
                    unknown[index] = failure if own else None
                elif gone_is_done and failure.code in _GONE:
                    looked.add(index)
                elif failure.code is Code.ABORTED or self._may_be_noncurrent(
                    intent, index, failure
                ):
                    unknown[index] = failure
                else:
                    failures[index] = failure
        await self._look(intent, unknown, failures, again)
        looked.update(unknown)
        for repeat, first in prepared.follows.items():
            if first in failures:
                failures[repeat] = failures[first]
            elif first in again:
                again[repeat] = again[first]
            if first in looked:
                looked.add(repeat)
        return Ending(
            failures=failures,
            again=again,
            looked=looked,
            answered=len(indexes) - turned_away - unsent,
            turned_away=turned_away,
            wait_seconds=max((one.wait_seconds for one in outcome.failures.values()), default=0.0),
        )

    async def settle(self, intent: Intent) -> Ending:
        """Judge the objects of an open intent by reads alone, after a crash."""
        failures = _known_failures(intent, self.bucket)
        again: dict[int, int] = {}
        open_ = dict.fromkeys(i for i in range(len(intent)) if i not in failures)
        await self._look(intent, open_, failures, again)
        return Ending(failures=failures, again=again, looked=range(len(intent)))

    def _may_be_noncurrent(self, intent: Intent, index: int, failure: Failure) -> bool:
        """Whether NOT_FOUND may mean that the version which the user named was made noncurrent."""
        named = intent.flags[index] & PINNED and not self.transformation.gone_is_done
        return failure.code is Code.NOT_FOUND and bool(named)

    async def _look(
        self,
        intent: Intent,
        objects: Mapping[int, Failure | None],
        failures: dict[int, Failure],
        again: dict[int, int],
    ) -> None:
        """Judge ``objects`` of an intent, by index, by what is there now, into ``failures`` and
        ``again``. The failure that left an object's effect unknown, if there was one, counts as a
        try, and is what the object ends with after too many."""
        if not objects:
            return
        indexes = list(objects)
        names = [intent.names[i] for i in indexes]
        generations = [intent.generations[i] for i in indexes]
        now = await self._read(names, generations, self.transformation.columns)
        if not self.transformation.gone_is_done:
            now = await self._with_live(now, [intent.flags[i] & PINNED for i in indexes])
        checksums = [intent.checksums[i] for i in indexes] if intent.checksums else []
        verdicts = self.transformation.settle(Announced(names, generations, checksums), now)
        for place, (index, verdict) in enumerate(zip(indexes, verdicts, strict=True)):
            moved = now.generations[place] != intent.generations[index]
            if verdict is Verdict.MISSING:
                failures[index] = _not_found(self.bucket, intent.names[index])
            elif verdict is Verdict.AGAIN and moved and intent.flags[index] & PINNED:
                failures[index] = _left(self.bucket, intent.names[index], intent.generations[index])
            elif verdict is Verdict.AGAIN:
                why = objects[index]
                if moved:
                    why = _moving(self.bucket, intent.names[index])
                _again(intent, index, why, failures, again)

    async def _with_live(self, now: Batch, pinned: Sequence[int]) -> Batch:
        """``now`` with the live object of the name in each place where the announced generation is
        gone or has become noncurrent. A noncurrent version that the user named stays in view,
        except where we may have made it noncurrent ourselves, by a copy."""
        stays = [bool(one) and not self.transformation.keeps_checksum for one in pinned]
        rows = zip(now.generations, now.columns["live"], stays, strict=True)
        gone = [
            index
            for index, (generation, live, stay) in enumerate(rows)
            if generation == ABSENT or not (live or stay)
        ]
        if not gone:
            return now
        names, anything = [now.names[i] for i in gone], [ABSENT] * len(gone)
        there = await self._read(names, anything, self.transformation.columns)
        order = list(range(len(now)))
        for place, index in enumerate(gone):
            order[index] = len(now) + place
        return (now + there).pick(order)

    async def _read_again(self, again: Again) -> Rows:
        """What is there of objects that moved: the announced generation where that is all that
        counts, else the live one."""
        keep = self.transformation.gone_is_done
        wanted = [
            generation if keep or flags & PINNED else ABSENT
            for generation, flags in zip(again.generations, again.flags, strict=True)
        ]
        batch = await self._read(again.names, wanted)
        rows = Rows(batch=batch, flags=bytes(again.flags))
        for index, flags in enumerate(again.flags):
            there = batch.generations[index] != ABSENT
            if keep:
                live = batch.columns["live"][index] or self.transformation.versions
                if not (there and live):
                    rows.settled[index] = (again.generations[index], again.sizes[index])
            elif flags & PINNED and not there:
                name, generation = again.names[index], again.generations[index]
                rows.refused[index] = _left(self.bucket, name, generation)
        return rows

    async def _read(
        self, names: Sequence[str], generations: Sequence[int], columns: Sequence[str] | None = None
    ) -> Batch:
        """What is there: ``columns``, or what must be known before it is announced."""
        if columns is None:
            columns = self.transformation.columns_before
        return await self.store.read_objects(
            self.bucket, names, generations, columns=(*columns, "live")
        )


_GONE = frozenset({Code.NOT_FOUND, Code.ABORTED})
_EMPTY = Batch(names=[], generations=[], metagenerations=[], sizes=[], columns={})


def next_round(intent: Intent, ending: Ending) -> Again:
    """The objects of an intent that are to be announced once more."""
    indexes = sorted(ending.again)
    return Again(
        names=[intent.names[i] for i in indexes],
        generations=[intent.generations[i] for i in indexes],
        sizes=[intent.sizes[i] for i in indexes],
        flags=[(intent.flags[i] & PINNED) | ending.again[i] for i in indexes],
    )


def give_up(intent: Intent, error: Error) -> Ending:
    """The ending of an intent whose objects can no longer be looked at: all failed."""
    failure = Failure(error.code, error.message)
    everything = range(len(intent))
    return Ending(failures=dict.fromkeys(everything, failure), looked=everything)


def _without_noncurrent(selection: Selection) -> Selection:
    """The selection without noncurrent versions that a manifest names."""
    batch = selection.batch
    if selection.pinned is None or "live" not in batch.columns or all(batch.columns["live"]):
        return selection
    keep = [
        index
        for index, live in enumerate(batch.columns["live"])
        if live or batch.generations[index] == ABSENT
    ]
    place = {index: new for new, index in enumerate(keep)}
    return Selection(
        batch=batch.pick(keep),
        cursor=selection.cursor,
        pinned=[selection.pinned[i] for i in keep],
        refused={place[i]: failure for i, failure in selection.refused.items()},
    )


def _again(
    intent: Intent,
    index: int,
    why: Failure | None,
    failures: dict[int, Failure],
    again: dict[int, int],
) -> None:
    """Have an object looked at again, unless ``why`` is one time too many."""
    tries = (intent.flags[index] & TRIES) + (why is not None)
    if why is not None and tries > MAX_TRIES:
        failures[index] = why
    else:
        again[index] = tries


def _known_failures(intent: Intent, bucket: str) -> dict[int, Failure]:
    """What failed by being announced: absent objects and entries that cannot be tried."""
    failures = dict(intent.refused)
    if ABSENT in intent.generations:
        for index, generation in enumerate(intent.generations):
            if generation == ABSENT and index not in failures:
                failures[index] = _not_found(bucket, intent.names[index])
    return failures


def _not_found(bucket: str, name: str) -> Failure:
    return Failure(Code.NOT_FOUND, f"No such object: {bucket}/{name}")


def _left(bucket: str, name: str, generation: int) -> Failure:
    return Failure(
        Code.FAILED_PRECONDITION,
        f"Object '{bucket}/{name}' is no longer of generation {generation}, which was asked for.",
    )


def _moving(bucket: str, name: str) -> Failure:
    return Failure(
        Code.ABORTED,
        f"Object '{bucket}/{name}' was changed by somebody else each of {MAX_TRIES + 1} times"
        " that it was looked at.",
    )

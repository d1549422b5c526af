"""The stores of our own against a plain model: whatever is done in whatever order."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from longshore.embedded import OneAtATime
from longshore.errors import Code, InvalidArgument, NotFound, PermissionDenied
from longshore.patch import MapPatch, Patch, load_map
from longshore.store import COLUMNS
from longshore.stores.local.store import LocalStore
from longshore.stores.memory import MemoryStore
from tests.conformance.shelf import BUCKET, STORES, Shelf, TurnedClock, named

T = TypeVar("T")

NAMES = st.sampled_from(["a", "a/b", "a//b", "b", "é", "\x00", "🚢"])
CONTENTS = st.one_of(st.binary(max_size=20), st.just(b"x" * 20_000))
KEPT_SECONDS = 604_800
COLUMNS_READ = ("temporary_hold", "custom_metadata", "storage_class", "live")


@dataclass
class Version:
    """What the model knows of a version."""

    content: bytes
    live: bool = True
    held: bool = False
    metageneration: int = 1
    storage_class: str = "STANDARD"
    metadata: dict[str, str] = field(default_factory=dict)


class Model(RuleBasedStateMachine):
    """Versions by (name, generation) in a dictionary, and a store that must say the same."""

    kind = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        clock = TurnedClock()
        self.shelf = Shelf(STORES[self.kind](Path(self.folder.name), clock), clock)
        self.versions: dict[tuple[str, int], Version] = {}
        self.deleted: dict[tuple[str, int], Version] = {}
        self.last = 0

    @property
    def store(self) -> OneAtATime:
        assert isinstance(self.shelf.store, LocalStore | MemoryStore)
        return self.shelf.store

    def run(self, call: Awaitable[T]) -> T:
        return self.loop.run_until_complete(call)

    def teardown(self) -> None:
        self.run(self.shelf.store.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    @initialize(versioning=st.booleans(), soft=st.booleans())
    def make(self, versioning: bool, soft: bool) -> None:
        self.versioning = versioning
        self.soft = soft
        seconds = KEPT_SECONDS if soft else 0
        self.run(self.shelf.make(versioning=versioning, soft_delete_seconds=seconds))

    # What is done

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: bytes) -> None:
        before = self.live(name)
        if before and self.versions[name, before].held:
            try:
                self.run(self.shelf.write(name, content))
            except PermissionDenied:
                return
            raise AssertionError("a held object was replaced")
        generation = self.run(self.shelf.write(name, content))
        assert generation > self.last
        self.last = generation
        self.retire(name, before)
        self.versions[name, generation] = Version(content)

    @rule(data=st.data(), permanent=st.booleans())
    def delete(self, data: Any, permanent: bool) -> None:
        rows = self.pick(data)
        batch = named(*rows)
        outcome = self.run(self.shelf.store.delete_objects(BUCKET, batch, permanent=permanent))
        for index, (name, generation) in enumerate(rows):
            version = self.versions.get((name, generation))
            if version is None or not (version.live or permanent):
                self.expect(outcome, index, self.missing(name))
            elif version.held:
                self.expect(outcome, index, Code.PERMISSION_DENIED)
            else:
                self.expect(outcome, index, None)
                if permanent:
                    self.remove(name, generation)
                else:
                    self.retire(name, generation)

    @rule(data=st.data(), held=st.booleans(), key=st.sampled_from(["k", "l"]), any_=st.booleans())
    def patch(self, data: Any, held: bool, key: str, any_: bool) -> None:
        rows = self.pick(data)
        change = Patch(temporary_hold=held, custom_metadata=MapPatch(updates={key: "v"}))
        batch = named(*rows, live=[not any_] * len(rows))
        outcome = self.run(self.shelf.store.patch_objects(BUCKET, batch, change))
        for index, (name, generation) in enumerate(rows):
            version = self.versions.get((name, generation))
            if version is None or not (version.live or any_):
                self.expect(outcome, index, self.missing(name))
                continue
            self.expect(outcome, index, None)
            version.held = held
            version.metadata[key] = "v"
            version.metageneration += 1

    @rule(data=st.data(), off=st.integers(min_value=0, max_value=1))
    def patch_at_a_metageneration(self, data: Any, off: int) -> None:
        rows = list(dict.fromkeys(self.pick(data)))
        named_ = [
            self.versions[row].metageneration + off if row in self.versions else 1 for row in rows
        ]
        batch = named(*rows, metagenerations=named_)
        outcome = self.run(
            self.shelf.store.patch_objects(
                BUCKET, batch, Patch(temporary_hold=False), match_metageneration=True
            )
        )
        for index, (name, generation) in enumerate(rows):
            version = self.versions.get((name, generation))
            if version is None or not version.live:
                self.expect(outcome, index, self.missing(name))
            elif off:
                self.expect(outcome, index, Code.ABORTED)
            else:
                self.expect(outcome, index, None)
                version.held = False
                version.metageneration += 1

    @rule(data=st.data(), storage_class=st.sampled_from(["STANDARD", "ARCHIVE"]))
    def rewrite(self, data: Any, storage_class: str) -> None:
        rows = self.pick(data)
        outcome = self.run(
            self.shelf.store.rewrite_objects(BUCKET, named(*rows), storage_class=storage_class)
        )
        for index, (name, generation) in enumerate(rows):
            version = self.versions.get((name, generation))
            if version is None or not version.live:
                self.expect(outcome, index, self.missing(name))
            elif version.held:
                self.expect(outcome, index, Code.PERMISSION_DENIED)
            else:
                self.expect(outcome, index, None)
                self.retire(name, generation)
                (new,) = self.run(self.shelf.there(name)).generations
                self.make_new(name, new, replace(version, storage_class=storage_class))

    @rule(data=st.data())
    def restore(self, data: Any) -> None:
        known = st.sampled_from(sorted(self.deleted)) if self.deleted else st.nothing()
        name, generation = data.draw(st.one_of(known, st.tuples(NAMES, st.just(1))))
        call = self.store.restore_object(BUCKET, name, generation, acl=None, check=lambda *_: None)
        version = self.deleted.get((name, generation))
        before = self.live(name)
        try:
            (new,) = self.run(call).generations
        except NotFound:
            assert version is None
        except PermissionDenied:
            assert self.versions[name, before].held
        else:
            assert version is not None
            self.retire(name, before)
            self.make_new(name, new, version)

    @rule(name=NAMES, to=NAMES)
    def move(self, name: str, to: str) -> None:
        source, before = self.live(name), self.live(to)
        call = self.store.move_object(
            BUCKET, name, to, check_source=lambda *_: None, check=lambda *_: None
        )
        try:
            (new,) = self.run(call).generations
        except NotFound:
            assert not source
        except InvalidArgument:
            assert name == to
        except PermissionDenied:
            assert any(g and self.versions[n, g].held for n, g in ((name, source), (to, before)))
        else:
            version = self.versions[name, source]
            self.retire(to, before)
            self.retire(name, source, soft=False)
            self.make_new(to, new, version)

    @rule()
    def turn_the_clock(self) -> None:
        self.shelf.clock.turn(KEPT_SECONDS + 60)
        self.deleted.clear()

    @rule(on=st.booleans())
    def switch_versioning(self, on: bool) -> None:
        self.run(self.shelf.store.update_bucket(BUCKET, versioning=on))
        self.versioning = on

    # What must be so

    @invariant()
    def listings_agree(self) -> None:
        if not hasattr(self, "versioning"):
            return
        everything = sorted(self.versions, key=lambda key: (key[0].encode(), -key[1]))
        assert self.run(self.shelf.versions(versions=True, page_size=3)) == everything
        live = [key for key in everything if self.versions[key].live]
        assert self.run(self.shelf.versions(page_size=2)) == live
        under = [key for key in live if key[0].startswith("a/")]
        assert self.run(self.shelf.versions(prefix="a/")) == under
        deleted = sorted(self.deleted, key=lambda key: (key[0].encode(), -key[1]))
        assert self.run(self.listed_as_deleted()) == deleted

    @invariant()
    def versions_agree(self) -> None:
        names, generations = zip(*self.versions, strict=True) if self.versions else ((), ())
        if not names:
            return
        batch = self.run(self.shelf.there(*names, generations=generations, columns=COLUMNS_READ))
        assert list(COLUMNS_READ) == [name for name in batch.columns if name in COLUMNS]
        for index, version in enumerate(self.versions.values()):
            held, metadata, storage_class, live = (
                batch.columns[name][index] for name in COLUMNS_READ
            )
            assert batch.metagenerations[index] == version.metageneration
            assert batch.sizes[index] == len(version.content)
            assert (held, live) == (version.held, version.live)
            assert load_map(metadata) == version.metadata
            assert storage_class == version.storage_class
            content = self.run(self.shelf.read(names[index], generations[index]))
            assert content == version.content

    # The model's own words

    def pick(self, data: Any) -> list[tuple[str, int]]:
        """A few rows, some of which are there, and some twice."""
        known = st.sampled_from(sorted(self.versions)) if self.versions else st.nothing()
        unknown = st.tuples(NAMES, st.sampled_from([0, 1]))
        rows: list[tuple[str, int]] = data.draw(
            st.lists(st.one_of(known, unknown), min_size=1, max_size=4)
        )
        return rows

    def live(self, name: str) -> int:
        return max(
            (g for (n, g), version in self.versions.items() if n == name and version.live),
            default=0,
        )

    async def listed_as_deleted(self) -> list[tuple[str, int]]:
        rows: list[tuple[str, int]] = []
        async for page in self.store.list_soft_deleted(BUCKET, page_size=2):
            rows += zip(page.names, page.generations, strict=True)
        return rows

    def make_new(self, name: str, generation: int, of: Version) -> None:
        """A copy of a version, which is newer than all there was."""
        assert generation > self.last
        self.last = generation
        new = replace(of, live=True, metageneration=1, metadata=dict(of.metadata))
        self.versions[name, generation] = new

    def retire(self, name: str, generation: int, *, soft: bool = True) -> None:
        if not generation:
            return
        if self.versioning:
            self.versions[name, generation].live = False
        else:
            self.remove(name, generation, soft=soft)

    def remove(self, name: str, generation: int, *, soft: bool = True) -> None:
        version = self.versions.pop((name, generation))
        if soft and self.soft:
            self.deleted[name, generation] = version

    def missing(self, name: str) -> Code:
        return Code.ABORTED if self.live(name) else Code.NOT_FOUND

    @staticmethod
    def expect(outcome: Any, index: int, code: Code | None) -> None:
        failure = outcome.failures.get(index)
        assert (failure.code if failure else None) == code


class LocalModel(Model):
    kind = "local"


class MemoryModel(Model):
    kind = "memory"


_LIMITS = settings(
    max_examples=30,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLocal = LocalModel.TestCase
TestLocal.settings = _LIMITS
TestMemory = MemoryModel.TestCase
TestMemory.settings = settings(_LIMITS, max_examples=60)

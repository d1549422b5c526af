"""What every transformation promises, on every store.

Another transformation is one line: an entry of CASES, with what makes it needed and what it brings
about. See house.md, "Settling", for the rules that are kept here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from longshore import extensions
from longshore.errors import Code, Unimplemented
from longshore.patch import Patch
from longshore.store import ABSENT, COLUMNS, Batch, Capabilities
from longshore.transformation import (
    Announced,
    ContextDelta,
    Delete,
    PatchObjects,
    Rewrite,
    Transformation,
    Verdict,
)
from tests.conformance.shelf import BUCKET, STORES, Shelf, TurnedClock, named, on_ceph
from tests.copying_store import CopyingStore

NAMES = ["a", "b/c", "b/d\n", "é"]
DONE, AGAIN, MISSING = Verdict.DONE, Verdict.AGAIN, Verdict.MISSING


@dataclass(frozen=True)
class Case:
    """A transformation as its plain data, what an object ``before`` has, and ``after`` it.

    ``after`` None: the object is gone. ``on_ceph``: whether Ceph can do it in a bucket like any
    other; what takes one that locks objects is in tests/s3.
    """

    name: str
    data: Mapping[str, Any]
    after: Mapping[str, Any] | None
    before: Mapping[str, Any] = field(default_factory=dict)
    delta: ContextDelta | None = None
    on_ceph: bool = True

    def open(self) -> Transformation:
        module = extensions.load("transformations", self.name)
        transformation: Transformation = module.open_transformation(self.data)
        return transformation

    def on(self, shelf: Shelf) -> Transformation:
        """The transformation as the shelf's store does it."""
        return self.open().on(shelf.store.capabilities)


CONTEXTS = {"updates": {"new": "1", "old": "2"}, "removals": ["gone"], "clear": False}
YEAR_2100_US = 4_102_444_800_000_000
CASES = [
    Case("delete_object", {"permanent": False}, None),
    Case("delete_object", {"permanent": True}, None),
    Case("put_object_hold", {"temporary_hold": True}, {"temporary_hold": True}, on_ceph=False),
    Case(
        "put_metadata",
        {"content_type": None, "custom_time_us": 5, "custom_metadata": {"k": "v", "x": ""}},
        {"content_type": "", "custom_time_us": 5, "custom_metadata": '{"k":"v","y":"2"}'},
        {"content_type": "a/b", "custom_metadata": '{"x":"1","y":"2"}'},
    ),
    Case(
        "put_metadata",
        {"retention": f"Unlocked@{YEAR_2100_US}"},
        {"retention": f"Unlocked@{YEAR_2100_US}"},
        {"retention": f"Unlocked@{YEAR_2100_US + 1}"},
        on_ceph=False,
    ),
    Case(
        "rewrite_object",
        {"storage_class": "COLDLINE", "kms_key": ""},
        {"storage_class": "COLDLINE"},
        {"storage_class": "NEARLINE"},
    ),
    Case(
        "rewrite_object",
        {"storage_class": "COLDLINE", "kms_key": ""},
        {"storage_class": "COLDLINE", "kms_key": "k1"},
        {"storage_class": "NEARLINE", "kms_key": "k1"},
        on_ceph=False,
    ),
    Case(
        "rewrite_object",
        {"storage_class": "ARCHIVE", "kms_key": "k2"},
        {"storage_class": "ARCHIVE", "kms_key": "k2"},
        {"storage_class": "ARCHIVE", "kms_key": "k1"},
        on_ceph=False,
    ),
    Case(
        "update_object_custom_context",
        CONTEXTS,
        {"contexts": '{"keep":"3","new":"1","old":"2"}'},
        {"contexts": '{"gone":"0","keep":"3","old":"1"}'},
        ContextDelta(created=1, deleted=1, updated=1),
    ),
    Case(
        "update_object_custom_context",
        {"updates": {}, "removals": [], "clear": True},
        {"contexts": ""},
        {"contexts": '{"a":"1","b":"2"}'},
        ContextDelta(deleted=2),
    ),
    Case(
        "set_object_acls",
        {"grants": {"allUsers": "READER"}, "removals": ["allAuthenticatedUsers"]},
        {"acl": '{"allUsers":"READER"}'},
        {"acl": '{"allAuthenticatedUsers":"READER"}'},
    ),
]
KEEPING = [case for case in CASES if case.after is not None]
PATCHING = [case for case in KEEPING if case.name != "rewrite_object"]


@pytest.fixture
async def bare(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    """A store of the kind that is asked for, without a bucket; "copying" copies objects to change
    their metadata, "reading" sees besides for itself which need it."""
    clock = TurnedClock()
    if request.param == "ceph":
        store = on_ceph(request.getfixturevalue("ceph"))
    elif request.param in ("copying", "reading"):
        store = CopyingStore(clock, reads=request.param == "reading")
    else:
        store = STORES[request.param](tmp_path, clock)
    yield Shelf(store, clock)
    await store.close()


def every(
    cases: Iterable[Case], on_ceph: Callable[[Case], bool] = lambda case: True
) -> pytest.MarkDecorator:
    """Each of ``cases`` on a store of each kind; on Ceph those that ``on_ceph`` says."""

    def row(kind: str, case: Case, *marks: pytest.MarkDecorator) -> Any:
        name = f"{kind}-{case.name}-{CASES.index(case)}"
        return pytest.param(kind, case, marks=marks, id=name)

    chosen = list(cases)
    rows = [row(kind, case) for kind in (*STORES, "copying", "reading") for case in chosen]
    rows += [
        row("ceph", case, pytest.mark.services) for case in chosen if case.on_ceph and on_ceph(case)
    ]
    return pytest.mark.parametrize(("bare", "case"), rows, indirect=["bare"])


def is_told_by_name(case: Case) -> bool:
    """Whether S3 acts after a look at what has the name; it deletes without one."""
    return case.after is not None


def never(case: Case) -> bool:
    """What S3 does otherwise for every case (docs/stores.md)."""
    return False


every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


async def announce(bare: Shelf, case: Case, names: list[str] = NAMES) -> tuple[Batch, Announced]:
    """Objects that need the transformation, as they would be announced."""
    for name in names:
        await bare.write(name, name.encode(), **case.before)
    return await announce_again(bare, case, names)


async def announce_again(
    bare: Shelf, case: Case, names: list[str] = NAMES
) -> tuple[Batch, Announced]:
    batch = await bare.there(*names, columns=(*case.on(bare).columns, "live"))
    checksums = batch.columns["checksum"] if case.on(bare).keeps_checksum else []
    return batch, Announced(batch.names, batch.generations, checksums)


async def settled(bare: Shelf, case: Case, announced: Announced) -> list[Verdict]:
    """The verdicts upon what is there now, read as the contract of ``settle`` says."""
    transformation = case.on(bare)
    columns = (*transformation.columns, "live")
    names, generations = list(announced.names), list(announced.generations)
    now = await bare.there(*names, generations=generations, columns=columns)
    if not transformation.gone_is_done:
        # The announced generation where that still is live, else the live object of its name.
        rows = zip(generations, now.columns["live"], strict=True)
        live = [generation if is_live else ABSENT for generation, is_live in rows]
        now = await bare.there(*names, generations=live, columns=columns)
    return transformation.settle(announced, now)


def sees_for_itself(transformation: Transformation) -> bool:
    """Whether it is the store that knows which objects need it."""
    return isinstance(transformation, PatchObjects) and transformation.reads


async def release(bare: Shelf, case: Case, names: list[str]) -> None:
    """Let the test delete or overwrite objects that a hold or a retention of the case protects."""
    data = {
        "put_object_hold": {"temporary_hold": False},
        "put_metadata": {"retention": ""},
    }.get(case.name)
    if data is not None and data.keys() & case.data.keys():
        undo = extensions.load("transformations", case.name).open_transformation(data)
        batch = await bare.there(*names, columns=("live",))
        assert not (await undo.act(bare.store, BUCKET, batch)).failures


def test_every_transformation_has_a_case() -> None:
    assert {case.name for case in CASES} == set(extensions.known("transformations"))


@every_case
def test_it_says_what_it_must_see(case: Case) -> None:
    transformation = case.open()
    assert set(transformation.columns) <= COLUMNS.keys()
    assert set(transformation.columns_before) <= set(transformation.columns)
    assert isinstance(transformation, Delete | PatchObjects | Rewrite)
    assert transformation.keeps_checksum <= ("checksum" in transformation.columns)


@every(CASES)
async def test_it_is_done_once_and_the_second_time_there_is_nothing_to_do(
    bare: Shelf, case: Case
) -> None:
    await bare.make()
    transformation = case.on(bare)
    transformation.check(bare.store.capabilities)
    batch, announced = await announce(bare, case)
    plan = transformation.plan(batch)
    assert plan.needed == [True] * len(NAMES)
    assert plan.contexts == (None if case.delta is None else [case.delta] * len(NAMES))

    assert await settled(bare, case, announced) == [AGAIN] * len(NAMES)
    assert not (await transformation.act(bare.store, BUCKET, batch)).failures
    assert await settled(bare, case, announced) == [DONE] * len(NAMES)

    if case.after is None:
        assert await bare.versions(versions=True) == []
        return
    now = await bare.there(*NAMES, columns=(*case.after, *transformation.columns))
    assert {name: now.columns[name] for name in case.after} == {
        name: [value] * len(NAMES) for name, value in case.after.items()
    }
    again = transformation.plan(now)
    assert again.needed == [sees_for_itself(transformation)] * len(NAMES)
    assert again.contexts is None or set(again.contexts) == {ContextDelta()}
    versions = await bare.versions(versions=True)
    assert not (await transformation.act(bare.store, BUCKET, now.pick([1, 3]))).failures
    if "temporary_hold" not in case.after:
        assert sees_for_itself(transformation) <= (await bare.versions(versions=True) == versions)


@every(CASES, on_ceph=is_told_by_name)
async def test_what_is_gone_is_not_found_unless_it_was_to_go(bare: Shelf, case: Case) -> None:
    await bare.make()
    transformation = case.on(bare)
    batch, announced = await announce(bare, case)
    await release(bare, case, ["a"])
    assert await bare.delete("a") is None
    outcome = await transformation.act(bare.store, BUCKET, batch)
    assert {index: failure.code for index, failure in outcome.failures.items()} == {
        0: Code.NOT_FOUND
    }
    gone = DONE if transformation.gone_is_done else MISSING
    assert await settled(bare, case, announced) == [gone, DONE, DONE, DONE]


@every(CASES, on_ceph=is_told_by_name)
async def test_what_was_overwritten_is_left_alone_and_looked_at_again(
    bare: Shelf, case: Case
) -> None:
    """A newer generation was not announced, so the act must not touch it; a delete is done."""
    await bare.make()
    transformation = case.on(bare)
    batch, announced = await announce(bare, case)
    await release(bare, case, ["b/c"])
    newer = await bare.write("b/c", b"other cargo")
    outcome = await transformation.act(bare.store, BUCKET, batch)
    assert {index: failure.code for index, failure in outcome.failures.items()} == {1: Code.ABORTED}
    moved = DONE if transformation.gone_is_done else AGAIN
    assert await settled(bare, case, announced) == [DONE, moved, DONE, DONE]
    now = await bare.there("b/c", columns=tuple(COLUMNS))
    assert now.generations == [newer]
    assert now.metagenerations == [1]


@every(CASES, on_ceph=is_told_by_name)
async def test_what_was_deleted_and_made_again_was_not_chosen(bare: Shelf, case: Case) -> None:
    await bare.make()
    transformation = case.on(bare)
    _, announced = await announce(bare, case, ["a"])
    await release(bare, case, ["a"])
    assert await bare.delete("a") is None
    newer = await bare.write("a", b"other cargo")
    wanted = [DONE if transformation.gone_is_done else AGAIN]
    assert await settled(bare, case, announced) == wanted
    assert await bare.versions() == [("a", newer)]


@every(KEEPING)
async def test_in_a_versioned_bucket_the_live_version_counts(bare: Shelf, case: Case) -> None:
    """A rewrite makes its own version noncurrent, and is done all the same."""
    await bare.make(versioning=True)
    transformation = case.on(bare)
    batch, announced = await announce(bare, case)
    assert await settled(bare, case, announced) == [AGAIN] * len(NAMES)
    assert not (await transformation.act(bare.store, BUCKET, batch)).failures
    assert await settled(bare, case, announced) == [DONE] * len(NAMES)
    await release(bare, case, ["a"])
    await bare.write("a", b"other cargo")
    assert await settled(bare, case, announced) == [AGAIN, DONE, DONE, DONE]


@every(PATCHING)
async def test_a_patch_is_done_whoever_did_it(bare: Shelf, case: Case) -> None:
    """Same generation and wanted state: nobody can know who brought it about."""
    await bare.make()
    transformation = case.on(bare)
    batch, announced = await announce(bare, case)
    assert not (await transformation.act(bare.store, BUCKET, batch.pick([0]))).failures
    assert await settled(bare, case, announced) == [DONE, AGAIN, AGAIN, AGAIN]


@every(PATCHING, on_ceph=never)
async def test_counted_contexts_are_changed_only_as_they_were_seen(bare: Shelf, case: Case) -> None:
    """Where deltas are computed from what was read, any change in between is ABORTED; elsewhere a
    change of other fields does not matter, unless it makes a new version."""
    await bare.make()
    transformation = case.on(bare)
    batch, announced = await announce(bare, case)
    touch = extensions.load("transformations", "put_metadata").open_transformation(
        {"cache_control": "no-store"}
    )
    assert not (await touch.act(bare.store, BUCKET, batch.pick([2]))).failures
    outcome = await transformation.act(bare.store, BUCKET, batch)
    failed = {index: failure.code for index, failure in outcome.failures.items()}
    copied = "cache_control" in bare.store.capabilities.copied_columns
    matters = copied or case.delta is not None
    assert failed == ({2: Code.ABORTED} if matters else {})
    moved = AGAIN if matters else DONE
    assert await settled(bare, case, announced) == [DONE, DONE, moved, DONE]


@every(PATCHING)
async def test_a_patch_keeps_generation_content_and_all_other_columns(
    bare: Shelf, case: Case
) -> None:
    await bare.make()
    transformation = case.on(bare)
    batch, _ = await announce(bare, case)
    before = await bare.there(*NAMES, columns=tuple(COLUMNS))
    assert not (await transformation.act(bare.store, BUCKET, batch)).failures
    after = await bare.there(*NAMES, columns=tuple(COLUMNS))
    changed = {name for name in COLUMNS if after.columns[name] != before.columns[name]}
    if transformation.keeps_checksum:  # it may be another generation; here, but in S3, it is
        changed.discard("create_time_us")
        here = bare.store.capabilities.preconditions
        assert not here or set(after.generations).isdisjoint(before.generations)
    else:
        assert after.generations == before.generations
        assert after.metagenerations == [number + 1 for number in before.metagenerations]
    assert after.sizes == before.sizes
    assert changed - {"update_time_us"} == set(case.after or ())


@every([one for one in CASES if one.name == "rewrite_object"], on_ceph=never)
async def test_a_rewrite_is_another_generation_of_the_same_content(bare: Shelf, case: Case) -> None:
    await bare.make()
    transformation = case.on(bare)
    batch, announced = await announce(bare, case)
    await transformation.act(bare.store, BUCKET, batch)
    after, _ = await announce_again(bare, case)
    assert all(new > old for new, old in zip(after.generations, batch.generations, strict=True))
    assert after.columns["checksum"] == batch.columns["checksum"]
    # Another content in the wanted class and under the wanted key is not ours.
    await bare.write("a", b"other cargo", **(case.after or {}))
    assert await settled(bare, case, announced) == [AGAIN, DONE, DONE, DONE]


@pytest.mark.parametrize("bare", STORES, indirect=True)
@pytest.mark.parametrize("permanent", [False, True])
async def test_deleting_in_a_versioned_bucket(bare: Shelf, permanent: bool) -> None:
    case = Case("delete_object", {"permanent": permanent}, None)
    transformation = case.on(bare)
    await bare.make(versioning=True)
    older, newer = await bare.write("a"), await bare.write("a")
    assert transformation.versions is permanent
    assert transformation.skips_noncurrent is not permanent
    batch, announced = await announce_again(bare, case, ["a"])
    assert await settled(bare, case, announced) == [AGAIN]
    assert not (await transformation.act(bare.store, BUCKET, batch)).failures
    assert await settled(bare, case, announced) == [DONE]
    left = [("a", older)] if permanent else [("a", newer), ("a", older)]
    assert await bare.versions(versions=True) == left
    # A noncurrent version is there for a permanent delete only.
    noncurrent = Announced(["a"], [older], [])
    assert await settled(bare, case, noncurrent) == [AGAIN if permanent else DONE]


@every([one for one in CASES if one not in PATCHING], on_ceph=never)
async def test_a_hold_refuses_its_object_alone(bare: Shelf, case: Case) -> None:
    await bare.make()
    transformation = case.on(bare)
    for name in NAMES:
        await bare.write(name, name.encode(), **case.before, temporary_hold=name == "a")
    batch, announced = await announce_again(bare, case)
    outcome = await transformation.act(bare.store, BUCKET, batch)
    failed = {index: failure.code for index, failure in outcome.failures.items()}
    assert failed == {0: Code.PERMISSION_DENIED}
    assert await settled(bare, case, announced) == [AGAIN, DONE, DONE, DONE]


@pytest.mark.parametrize(
    ("was", "is_", "verdict"),
    [
        ("SIZEsum1", "SIZEsum1", DONE),
        ("SIZEsum1", "SIZE", DONE),
        ("SIZE", "SIZEsum1", DONE),
        ("SIZEsum1", "SIZEsum2", AGAIN),
        ("SIZE", "ELSEsum1", AGAIN),
    ],
)
def test_a_copy_of_which_a_store_knows_less_is_told_by_that(
    was: str, is_: str, verdict: Verdict
) -> None:
    """A copy that is encrypted, or made of parts, has no MD5 in S3; what it was made of had one."""
    columns = {"checksum": [is_], "storage_class": ["COLDLINE"], "kms_key": [""]}
    columns["content_type"] = ["a/b"]
    now = named(("a", 2), **columns)
    copying = PatchObjects(patch=Patch(content_type="a/b"), copies=True)
    for transformation in (Rewrite(storage_class="COLDLINE"), copying):
        assert transformation.settle(Announced(["a"], [1], [was]), now) == [verdict]


@every_case
def test_what_a_store_cannot_do_is_refused_beforehand(case: Case) -> None:
    nothing = Capabilities(
        patch_columns=frozenset(), versions=False, rewrite=False, preconditions=False
    )
    if case.name == "delete_object":
        case.open().check(nothing)
    else:
        with pytest.raises(Unimplemented):
            case.open().check(nothing)

"""Every store: deleting, patching and rewriting batches, one behaviour a test."""

from __future__ import annotations

from typing import Any

import pytest

from longshore.errors import Code
from longshore.patch import MapPatch, Patch, dump_map
from longshore.store import ABSENT, COLUMNS, NewObject
from tests.conformance.shelf import BUCKET, Promise, Shelf, named, promised

MARK = Patch(contexts=MapPatch(updates={"mark": "on"}))
"""A change that every store makes in place."""
MARKED = dump_map({"mark": "on"})


def codes(outcome: Any) -> dict[int, Code]:
    return {index: failure.code for index, failure in outcome.failures.items()}


# Deleting


async def test_a_deleted_object_is_gone(shelf: Shelf) -> None:
    generation = await shelf.write("a")
    assert await shelf.delete("a") is None
    batch = await shelf.there("a", "a", generations=[ABSENT, generation])
    assert batch.generations == [ABSENT, ABSENT]
    assert await shelf.versions(versions=True) == []


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_batch_is_deleted(shelf: Shelf, size: int) -> None:
    objects = [NewObject(f"{index}", b"x" * size) for index in range(5)]
    await shelf.store.write_objects(BUCKET, objects)
    batch = await shelf.there("1", "2", "3")
    outcome = await shelf.store.delete_objects(BUCKET, batch, permanent=False)
    assert outcome.failures == {}
    assert await shelf.names() == ["0", "4"]


async def test_more_than_a_thousand_are_deleted_at_once(shelf: Shelf) -> None:
    names = [f"{index:04d}" for index in range(2300)]
    await shelf.store.write_objects(BUCKET, [NewObject(name, b"x") for name in names])
    held = [2200] if Promise.HOLDS_NAMES in shelf.promises else []
    for index in held:
        await shelf.patch(names[index], temporary_hold=True)
    batch = await shelf.there(*names)
    outcome = await shelf.store.delete_objects(BUCKET, batch, permanent=False)
    assert codes(outcome) == dict.fromkeys(held, Code.PERMISSION_DENIED)
    assert await shelf.names() == [names[index] for index in held]


async def test_a_versioned_bucket_keeps_what_is_deleted(versioned: Shelf) -> None:
    generation = await versioned.write("a", b"kept", content_type="text/plain")
    assert await versioned.delete("a") is None
    assert await versioned.names() == []
    assert await versioned.versions(versions=True) == [("a", generation)]
    assert await versioned.read("a", generation) == b"kept"
    assert await versioned.column("a", "content_type", generation) == "text/plain"


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_permanent_delete_takes_that_version_only(versioned: Shelf, size: int) -> None:
    first, second, third = [await versioned.write("a", b"x" * size) for _ in range(3)]
    assert await versioned.delete("a", second, permanent=True) is None
    assert await versioned.delete("a", third, permanent=True) is None
    assert await versioned.versions(versions=True) == [("a", first)]
    stays = Promise.STAYS_NONCURRENT in versioned.promises
    assert await versioned.names() == ([] if stays else ["a"])


async def test_a_permanent_delete_goes_by_the_generation_whatever_is_live(
    versioned: Shelf,
) -> None:
    first, second = [await versioned.write("a") for _ in range(2)]
    batch = named(("a", first), live=[True])
    outcome = await versioned.store.delete_objects(BUCKET, batch, permanent=True)
    assert outcome.failures == {}
    assert await versioned.versions(versions=True) == [("a", second)]


@promised(Promise.VERSIONING_OFF)
async def test_where_versioning_was_switched_off_the_live_one_goes_for_good(
    versioned: Shelf,
) -> None:
    first, second = [await versioned.write("a") for _ in range(2)]
    await versioned.store.update_bucket(BUCKET, versioning=False)
    assert await versioned.delete("a", second) is None
    assert await versioned.versions(versions=True) == [("a", first)]


async def test_overwriting_replaces_or_archives(shelf: Shelf) -> None:
    await shelf.write("a", b"x" * 50_000, content_type="text/plain")
    second = await shelf.write("a", b"new")
    assert await shelf.versions(versions=True) == [("a", second)]
    assert await shelf.column("a", "content_type") == ""
    await shelf.store.update_bucket(BUCKET, versioning=True)
    third = await shelf.write("a", b"newer")
    rows = [("a", generation) for generation in sorted((second, third), reverse=True)]
    assert await shelf.versions(versions=True) == rows


# What is not there, or is another


@pytest.mark.parametrize("verb", ["delete", "permanent", "patch", "rewrite"])
async def test_nothing_of_the_name_is_not_found(shelf: Shelf, verb: str) -> None:
    outcome = await _do(shelf, verb, named(("a", 7), ("b", ABSENT), ("", 7), ("x" * 2000, 7)))
    assert codes(outcome) == dict.fromkeys(range(4), Code.NOT_FOUND)
    assert outcome.failures[0].message.startswith("No such object: shelf/a")


@pytest.mark.parametrize("verb", ["delete", "permanent", "patch", "rewrite"])
async def test_another_generation_is_aborted(shelf: Shelf, verb: str) -> None:
    generation = await shelf.write("a")
    outcome = await _do(shelf, verb, named(("a", generation - 1), ("a", ABSENT)))
    assert codes(outcome) == {0: Code.ABORTED, 1: Code.ABORTED}
    batch = await shelf.there("a", columns=("contexts",))
    assert (batch.generations, batch.columns["contexts"]) == ([generation], [""])


@pytest.mark.parametrize("verb", ["delete", "patch", "rewrite"])
async def test_what_became_noncurrent_is_aborted_while_the_name_is_live(
    versioned: Shelf, verb: str
) -> None:
    first = await versioned.write("a")
    await versioned.write("a")
    for columns in ({}, {"live": [True]}):
        outcome = await _do(versioned, verb, named(("a", first), **columns))
        assert codes(outcome) == {0: Code.ABORTED}
    assert not await versioned.column("a", "contexts", first)


@pytest.mark.parametrize("verb", ["delete", "patch", "rewrite"])
async def test_what_became_noncurrent_is_not_found_if_nothing_is_live(
    versioned: Shelf, verb: str
) -> None:
    first = await versioned.write("a")
    await versioned.delete("a")
    outcome = await _do(versioned, verb, named(("a", first), live=[True]))
    assert codes(outcome) == {0: Code.NOT_FOUND}


async def test_a_failure_leaves_the_rest_of_the_batch_done(shelf: Shelf) -> None:
    for verb in ("patch", "rewrite", "delete"):
        rows = [(name, await shelf.write(name)) for name in "abc"]
        rows.insert(1, ("z", 5))
        rows.append(("a", 3))
        outcome = await _do(shelf, verb, named(*rows))
        assert codes(outcome).keys() == {1, 4}
        batch = await shelf.there(*"abc", columns=("contexts", "storage_class"))
        if verb == "patch":
            assert batch.columns["contexts"] == [MARKED] * 3
        if verb == "rewrite":
            assert batch.columns["storage_class"] == ["ARCHIVE"] * 3
        if verb == "delete":
            assert batch.generations == [ABSENT] * 3


@pytest.mark.parametrize("verb", ["delete", "permanent", "patch", "rewrite"])
async def test_an_empty_batch_is_done(shelf: Shelf, verb: str) -> None:
    assert (await _do(shelf, verb, named())).failures == {}


# The same object twice in a batch


async def test_deleting_twice_finds_nothing_the_second_time(shelf: Shelf) -> None:
    row = ("a", await shelf.write("a"))
    for verb in ("delete", "permanent"):
        outcome = await _do(shelf, verb, named(row, row))
        assert codes(outcome) == {1: Code.NOT_FOUND}
        row = ("a", await shelf.write("a"))


@promised(Promise.IN_PLACE)
async def test_patching_twice_is_two_changes(shelf: Shelf) -> None:
    row = ("a", await shelf.write("a"))
    assert codes(await _do(shelf, "patch", named(row, row))) == {}
    assert (await shelf.there("a")).metagenerations == [3]


@promised(Promise.METAGENERATION)
async def test_patching_twice_at_one_metageneration_is_one_change(shelf: Shelf) -> None:
    row = ("a", await shelf.write("a"))
    outcome = await shelf.patch_objects(named(row, row), MARK, match_metageneration=True)
    assert codes(outcome) == {1: Code.ABORTED}
    assert (await shelf.there("a")).metagenerations == [2]


@promised(Promise.GENERATION_PER_WRITE)
@pytest.mark.parametrize("versioning", [False, True])
async def test_rewriting_twice_is_one_new_generation(bare: Shelf, versioning: bool) -> None:
    await bare.make(versioning=versioning)
    row = ("a", await bare.write("a"))
    assert codes(await _do(bare, "rewrite", named(row, row))) == {1: Code.ABORTED}
    assert await bare.read("a") == b"cargo"
    assert len(await bare.versions(versions=True)) == 1 + versioning


# Patching


@promised(Promise.IN_PLACE)
async def test_a_patch_changes_its_columns_only(shelf: Shelf) -> None:
    generation = await shelf.write("a", content_type="text/plain", cache_control="no-store")
    before = await shelf.there("a", columns=tuple(COLUMNS))
    shelf.clock.turn(1)
    assert await shelf.patch("a", content_type="text/html") is None
    after = await shelf.there("a", columns=tuple(COLUMNS))
    assert (after.generations, after.metagenerations) == ([generation], [2])
    changed = {name for name in COLUMNS if before.columns[name] != after.columns[name]}
    assert changed == {"content_type", "update_time_us"}
    assert after.columns["content_type"] == ["text/html"]
    assert after.columns["update_time_us"] > before.columns["update_time_us"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        pytest.param("temporary_hold", True, marks=promised(Promise.HOLDS_ANYWHERE)),
        pytest.param("event_based_hold", True, marks=promised(Promise.HOLDS_ANYWHERE)),
        ("content_type", "a/b"),
        ("content_encoding", "br"),
        ("content_language", "de"),
        ("content_disposition", "attachment"),
        ("cache_control", "no-cache"),
        ("custom_time_us", 5),
    ],
)
async def test_a_column_is_set(shelf: Shelf, column: str, value: Any) -> None:
    await shelf.write("a")
    assert await shelf.patch("a", **{column: value}) is None
    assert await shelf.column("a", column) == value


async def test_text_is_cleared_by_none(shelf: Shelf) -> None:
    await shelf.write("a", content_type="text/plain")
    await shelf.patch("a", content_type=None)
    assert await shelf.column("a", "content_type") == ""


@pytest.mark.parametrize(
    "column",
    ["custom_metadata", "contexts", pytest.param("acl", marks=promised(Promise.ANY_GRANT))],
)
async def test_a_map_is_merged(shelf: Shelf, column: str) -> None:
    await shelf.write("a", **{column: dump_map({"keep": "1", "change": "1", "drop": "1"})})
    await shelf.write("b")
    change = MapPatch(updates={"change": "2", "new": "2"}, removals=frozenset({"drop", "none"}))
    batch = await shelf.there("a", "b")
    await shelf.patch_objects(batch, Patch(**{column: change}))
    assert await shelf.column("a", column) == dump_map({"keep": "1", "change": "2", "new": "2"})
    assert await shelf.column("b", column) == dump_map({"change": "2", "new": "2"})
    await shelf.patch("a", **{column: MapPatch(updates={}, clear=True)})
    assert await shelf.column("a", column) == ""


async def test_several_maps_and_fields_change_together(shelf: Shelf) -> None:
    await shelf.write("a")
    both = MapPatch(updates={"k": "v"}), MapPatch(updates={"c": "d"})
    await shelf.patch("a", custom_metadata=both[0], contexts=both[1], content_type="x/y")
    columns = ("custom_metadata", "contexts", "content_type")
    batch = await shelf.there("a", columns=columns)
    assert [batch.columns[column][0] for column in columns] == [
        dump_map({"k": "v"}),
        dump_map({"c": "d"}),
        "x/y",
    ]
    assert batch.metagenerations == [2 if Promise.METAGENERATION in shelf.promises else 1]


@promised(Promise.METAGENERATION)
async def test_another_metageneration_is_aborted(shelf: Shelf) -> None:
    rows = [(name, await shelf.write(name)) for name in "abc"]
    await shelf.patch("b", content_type="meanwhile")
    outcome = await shelf.patch_objects(named(*rows), MARK, match_metageneration=True)
    assert codes(outcome) == {1: Code.ABORTED}
    batch = await shelf.there(*"abc", columns=("contexts",))
    assert batch.columns["contexts"] == [MARKED, "", MARKED]
    assert batch.metagenerations == [2, 2, 2]


async def test_a_noncurrent_version_is_patched_where_it_is_meant(versioned: Shelf) -> None:
    first, second = [await versioned.write("a") for _ in range(2)]
    rows = (("a", first), ("a", second))
    outcome = await versioned.patch_objects(named(*rows, live=[False, True]), MARK)
    assert outcome.failures == {}
    columns = ("live", "contexts")
    batch = await versioned.there("a", "a", generations=[first, second], columns=columns)
    assert batch.columns["contexts"] == [MARKED, MARKED]
    assert batch.columns["live"] == [False, True]


async def test_a_missing_noncurrent_version_fails_as_any(versioned: Shelf) -> None:
    generation = await versioned.write("a")
    rows = (("a", generation - 1), ("z", 5))
    outcome = await versioned.patch_objects(named(*rows, live=[False, False]), MARK)
    assert codes(outcome) == {0: Code.ABORTED, 1: Code.NOT_FOUND}


# Rewriting


@promised(Promise.GENERATION_PER_WRITE)
@pytest.mark.parametrize("size", [0, 10, 100_000])
async def test_a_rewrite_makes_a_new_generation_of_the_same(shelf: Shelf, size: int) -> None:
    first = await shelf.write("a", b"x" * size, custom_metadata=dump_map({"k": "v"}), acl="")
    await shelf.patch("a", content_type="x/y")
    before = await shelf.there("a", columns=tuple(COLUMNS))
    assert await shelf.rewrite("a") is None
    after = await shelf.there("a", columns=tuple(COLUMNS))
    assert after.generations[0] > first
    assert after.metagenerations == [1]
    changed = {name for name in COLUMNS if before.columns[name] != after.columns[name]}
    assert changed == {"storage_class", "create_time_us", "update_time_us"}
    assert await shelf.read("a") == b"x" * size
    assert await shelf.versions(versions=True) == [("a", after.generations[0])]


@promised(Promise.ANY_KEY)
async def test_a_rewrite_sets_class_and_key_or_keeps_them(shelf: Shelf) -> None:
    await shelf.write("a", storage_class="NEARLINE", kms_key="old")
    for given, expected in (
        ({"kms_key": "new"}, ("NEARLINE", "new")),
        ({"storage_class": "COLDLINE"}, ("COLDLINE", "new")),
        ({"storage_class": "STANDARD", "kms_key": "third"}, ("STANDARD", "third")),
    ):
        await shelf.rewrite_objects(await shelf.there("a"), **given)
        columns = (await shelf.there("a", columns=("storage_class", "kms_key"))).columns
        assert (columns["storage_class"][0], columns["kms_key"][0]) == expected


@promised(Promise.GENERATION_PER_WRITE)
@pytest.mark.parametrize("size", [0, 10, 100_000])
async def test_a_versioned_bucket_keeps_what_is_rewritten(versioned: Shelf, size: int) -> None:
    first = await versioned.write("a", b"x" * size)
    await versioned.rewrite("a")
    await versioned.rewrite("a", "ARCHIVE")
    third, second, last = [generation for _, generation in await versioned.versions(versions=True)]
    assert last == first < second < third
    classes = [await versioned.column("a", "storage_class", g) for g in (first, second, third)]
    assert classes == ["STANDARD", "COLDLINE", "ARCHIVE"]
    for generation in (second, first, third):
        assert await versioned.read("a", generation) == b"x" * size
        assert await versioned.delete("a", generation, permanent=True) is None
    assert await versioned.versions(versions=True) == []


async def test_a_noncurrent_version_is_not_rewritten(versioned: Shelf) -> None:
    first = await versioned.write("a")
    await versioned.delete("a")
    outcome = await versioned.rewrite_objects(
        named(("a", first), live=[False]), storage_class="ARCHIVE"
    )
    assert codes(outcome) == {0: Code.FAILED_PRECONDITION}


async def test_a_batch_is_rewritten(versioned: Shelf) -> None:
    names = [f"{index}" for index in range(5)]
    objects = [
        NewObject(name, name.encode() * (1 + 9000 * (i % 2))) for i, name in enumerate(names)
    ]
    await versioned.store.write_objects(BUCKET, objects)
    batch = await versioned.there(*names)
    outcome = await versioned.rewrite_objects(batch, storage_class="ARCHIVE")
    assert outcome.failures == {}
    after = await versioned.there(*names, columns=("storage_class",))
    assert after.columns["storage_class"] == ["ARCHIVE"] * 5
    assert len({*after.generations, *batch.generations}) == 10
    assert [await versioned.read(new.name) for new in objects] == [new.content for new in objects]


async def _do(shelf: Shelf, verb: str, batch: Any) -> Any:
    if verb in ("delete", "permanent"):
        return await shelf.store.delete_objects(BUCKET, batch, permanent=verb == "permanent")
    if verb == "rewrite":
        return await shelf.rewrite_objects(batch, storage_class="ARCHIVE")
    return await shelf.patch_objects(batch, MARK)

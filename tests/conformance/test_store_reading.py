"""Every store: writing, listing and reading, one behaviour a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from longshore.patch import dump_map
from longshore.store import ABSENT, COLUMNS, PAGE_BYTES, Bucket, NewObject
from tests.conformance.shelf import BUCKET, Promise, Shelf, pieces, promised

ODD_NAMES = [
    "../x",
    "../../etc/passwd",
    "/",
    "/absolute",
    "a//b",
    "a/b/",
    ".",
    "..",
    "...",
    "con",
    "Case",
    "case",
    "CASE",
    "\x00",
    "a\x00b",
    "line\nbreak\r\n",
    "tab\t",
    "\x7f",
    "%2e%2e%2f",
    "back\\slash",
    'it\'s "quoted"; DROP TABLE object; --',
    "é",
    "e\u0301",
    "\u2028",
    "🚢",
    "\U0010ffff",
    "\uffff",
    "\ue000",
    "x" * 1024,
    "é" * 512,
]


async def test_what_was_written_is_read(shelf: Shelf) -> None:
    await shelf.write("a", b"hello")
    assert await shelf.read("a") == b"hello"


async def test_an_empty_object_is_an_object(shelf: Shelf) -> None:
    await shelf.store.write_object(BUCKET, "a", pieces())
    batch = await shelf.there("a")
    assert (batch.sizes, await shelf.read("a")) == ([0], b"")


@pytest.mark.parametrize("size", [16384, 16385, 3 << 20])
async def test_content_of_any_size_comes_back(shelf: Shelf, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    stream = pieces(*(content[i : i + 100_000] for i in range(0, size, 100_000)))
    await shelf.store.write_object(BUCKET, "a", stream)
    assert await shelf.read("a") == content
    assert (await shelf.there("a")).sizes == [size]


async def test_reading_gives_pieces_of_at_most_a_mebibyte(shelf: Shelf) -> None:
    await shelf.write("a", b"x" * (5 << 19))
    sizes = [len(piece) async for piece in shelf.store.read_bytes(BUCKET, "a")]
    assert max(sizes) <= 1 << 20
    assert sum(sizes) == 5 << 19


@pytest.mark.parametrize("content", [b"0123456789", b"0123456789" * 10_000])
async def test_reading_begins_where_it_is_told(shelf: Shelf, content: bytes) -> None:
    await shelf.write("a", content)
    assert await shelf.read("a", start=7) == content[7:]
    assert await shelf.read("a", start=len(content)) == b""
    assert await shelf.read("a", start=len(content) + 5) == b""


async def test_reading_before_the_start_is_refused(shelf: Shelf) -> None:
    await shelf.write("a")
    with pytest.raises(InvalidArgument):
        await shelf.read("a", start=-1)


async def test_reading_what_is_not_there_is_not_found(shelf: Shelf) -> None:
    generation = await shelf.write("a")
    for name, version in (("b", ABSENT), ("a", generation + 1)):
        with pytest.raises(NotFound, match="No such object: shelf/"):
            await shelf.read(name, version)


async def test_a_noncurrent_version_can_be_read(versioned: Shelf) -> None:
    first = await versioned.write("a", b"old")
    await versioned.write("a", b"new")
    assert (await versioned.read("a"), await versioned.read("a", first)) == (b"new", b"old")


@pytest.mark.parametrize("size", [10, 100_000])
async def test_what_is_being_read_may_be_deleted(shelf: Shelf, size: int) -> None:
    await shelf.write("a", b"x" * size)
    stream = shelf.store.read_bytes(BUCKET, "a")
    got = len(await anext(stream))
    await shelf.delete("a")
    assert got + sum([len(piece) async for piece in stream]) == size


@promised(Promise.GENERATION_PER_WRITE)
async def test_generations_grow_and_metagenerations_begin_at_one(shelf: Shelf) -> None:
    before = shelf.clock.now_us()
    first, second, third = [await shelf.write(name) for name in ("b", "a", "b")]
    assert before <= first < second < third
    batch = await shelf.there("a", "b")
    assert batch.generations == [second, third]
    assert batch.metagenerations == [1, 1]


@promised(Promise.GENERATION_PER_WRITE, Promise.TURNED_CLOCK)
async def test_generations_grow_even_if_the_clock_goes_back(shelf: Shelf) -> None:
    first = await shelf.write("a")
    shelf.clock.turn(-3600)
    assert await shelf.write("a") > first


@promised(Promise.HOLDS_ANYWHERE)
async def test_every_column_of_a_new_object_has_its_value(shelf: Shelf) -> None:
    given: dict[str, Any] = {
        "temporary_hold": True,
        "content_type": "text/plain",
        "content_encoding": "gzip",
        "content_language": "en",
        "content_disposition": "inline",
        "cache_control": "no-store",
        "custom_time_us": 1,
        "retention": f"Unlocked@{shelf.clock.now_us() + 10**9}",
        "custom_metadata": dump_map({"k": "v", "a": "ü"}),
        "contexts": dump_map({"c": "d"}),
        "acl": dump_map({"allUsers": "READER"}),
        "storage_class": "NEARLINE",
        "kms_key": "projects/p/key",
    }
    await shelf.write("a", **given)
    batch = await shelf.there("a", columns=tuple(COLUMNS))
    columns = {name: column[0] for name, column in batch.columns.items()}
    assert {name: columns[name] for name in given} == given
    assert (columns["live"], columns["event_based_hold"]) == (True, False)
    assert columns["create_time_us"] == columns["update_time_us"] > 0
    assert {name: type(value) for name, value in columns.items()} == dict(COLUMNS)


async def test_the_columns_of_nothing_are_zero(shelf: Shelf) -> None:
    batch = await shelf.there("a", columns=tuple(COLUMNS))
    assert (batch.generations, batch.metagenerations, batch.sizes) == ([ABSENT], [0], [0])
    assert {name: batch.columns[name][0] for name in COLUMNS} == {
        name: kind() for name, kind in COLUMNS.items()
    }


async def test_a_new_object_has_the_standard_class_unless_told_otherwise(shelf: Shelf) -> None:
    await shelf.write("a")
    assert await shelf.column("a", "storage_class") == "STANDARD"


async def test_the_checksum_goes_by_the_content(shelf: Shelf) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two"), ("d", b"one" * 9999)):
        await shelf.write(name, content)
    a, b, c, d = [await shelf.column(name, "checksum") for name in "abcd"]
    assert a == b
    assert len({a, c, d}) == 3
    assert all(0 < len(checksum) <= 8 for checksum in (a, c, d))


async def test_unknown_columns_are_refused(shelf: Shelf) -> None:
    await shelf.write("a")
    for names in (("a",), ()):
        with pytest.raises(InvalidArgument, match="did you mean 'contexts'"):
            await shelf.there(*names, columns=("context",))
    with pytest.raises(InvalidArgument, match="did you mean 'contexts'"):
        await shelf.names(columns=("context",))
    with pytest.raises(InvalidArgument, match="did you mean 'content_type'"):
        await shelf.write("a", contenttype="x")


@pytest.mark.parametrize("column", ["checksum", "live", "create_time_us", "generation"])
async def test_a_writer_cannot_set_what_the_store_decides(shelf: Shelf, column: str) -> None:
    with pytest.raises(InvalidArgument):
        await shelf.write("a", **{column: COLUMNS.get(column, int)()})


async def test_a_column_of_the_wrong_type_is_refused(shelf: Shelf) -> None:
    with pytest.raises(InvalidArgument, match="takes str"):
        await shelf.write("a", content_type=5)


async def test_a_stream_that_fails_leaves_what_was_there(shelf: Shelf) -> None:
    async def broken() -> Any:
        yield b"x" * 50_000
        raise ConnectionError

    await shelf.write("a", b"old")
    for name in ("a", "b"):
        with pytest.raises(ConnectionError):
            await shelf.store.write_object(BUCKET, name, broken())
    assert await shelf.names() == ["a"]
    assert await shelf.read("a") == b"old"


def odd_names(shelf: Shelf) -> list[str]:
    """Those that the store can have."""
    names = set(ODD_NAMES)
    if Promise.ANY_NAME not in shelf.promises:
        names = {name for name in names if "\0" not in name}
    if Promise.DOTS not in shelf.promises:
        names -= {".", ".."}
    if Promise.LINES not in shelf.promises:
        names = {name for name in names if not {"\n", "\r"} & set(name)}
    return sorted(names, key=str.encode)


async def test_odd_names_do_not_collide(shelf: Shelf) -> None:
    for name in odd_names(shelf):
        await shelf.write(name, name.encode())
    for name in odd_names(shelf):
        assert await shelf.read(name) == name.encode()
    assert await shelf.names() == odd_names(shelf)


async def test_what_is_no_name_there_is_refused_and_is_not_found(shelf: Shelf) -> None:
    await shelf.write("a")
    for name in set(ODD_NAMES).difference(odd_names(shelf)):
        with pytest.raises(InvalidArgument):
            await shelf.write(name)
        batch = await shelf.there(name, "a")
        assert [generation != ABSENT for generation in batch.generations] == [False, True]
        assert await shelf.names(prefix=name) == []
        assert await shelf.names(after=name) == ["a"] * (name < "a")
        assert await shelf.names(before=name) == ["a"] * (name > "a")


async def test_odd_names_can_be_prefixes_and_bounds(shelf: Shelf) -> None:
    names = odd_names(shelf)
    await shelf.store.write_objects(BUCKET, [NewObject(name, b"x") for name in names])
    for name in names:
        assert await shelf.names(prefix=name) == [n for n in names if n.startswith(name)]
        assert await shelf.names(after=name) == names[names.index(name) + 1 :]
        assert await shelf.names(before=name) == names[: names.index(name)]


@pytest.mark.parametrize("name", ["", "x" * 1025, "é" * 513, "a\ud800b"])
async def test_impossible_names_are_refused(shelf: Shelf, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await shelf.write(name)
    batch = await shelf.there(name)
    assert batch.generations == [ABSENT]
    assert await shelf.names() == []


async def test_a_listing_is_in_the_order_of_utf8(shelf: Shelf) -> None:
    names = ["b", "a", "\uffff", "\U00010000", "a/", "a!", "Z", "é"]
    for name in names:
        await shelf.write(name)
    assert await shelf.names() == ["Z", "a", "a!", "a/", "b", "é", "\uffff", "\U00010000"]


async def test_a_listing_is_in_pages(shelf: Shelf) -> None:
    for index in range(7):
        await shelf.write(f"{index}")
    pages = [page async for page in shelf.store.list_objects(BUCKET, page_size=3)]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [name for page in pages for name in page.names] == list("0123456")


async def test_a_range_lies_between_its_bounds(shelf: Shelf) -> None:
    for name in ("a", "b1", "b2", "b3", "b4", "c"):
        await shelf.write(name)
    assert await shelf.names(prefix="b", after="b1", before="b4") == ["b2", "b3"]
    assert await shelf.names(prefix="b", after="a", before="x") == ["b1", "b2", "b3", "b4"]
    assert await shelf.names(prefix="b", after="c") == []
    assert await shelf.names(after="b9") == ["c"]
    assert await shelf.names(before="b1", page_size=1) == ["a"]


@pytest.mark.parametrize("versions", [False, True])
async def test_who_only_counts_sees_names_and_sizes(versioned: Shelf, versions: bool) -> None:
    for name in ("a", "b", "b", "c"):
        await versioned.write(name)
    assert await versioned.delete("c") is None

    async def found(columns: Sequence[str] | None) -> list[tuple[str, int, bool]]:
        listed = versioned.store.list_objects(BUCKET, versions=versions, columns=columns)
        return [
            (name, size, generation != ABSENT)
            for page in [one async for one in listed]
            for name, size, generation in zip(page.names, page.sizes, page.generations, strict=True)
        ]

    assert await found(None) == await found(())
    assert [name for name, *_ in await found(None)][:2] == ["a", "b"]


async def test_an_empty_range_has_no_page(shelf: Shelf) -> None:
    assert [page async for page in shelf.store.list_objects(BUCKET)] == []


async def test_a_listing_has_live_objects_only(versioned: Shelf) -> None:
    for name in ("a", "a", "b"):
        last = await versioned.write(name)
    await versioned.delete("a")
    assert await versioned.versions() == [("b", last)]


async def test_a_listing_of_versions_has_the_newest_first(versioned: Shelf) -> None:
    first, second, other = [await versioned.write(name) for name in ("a", "a", "b")]
    await versioned.delete("b")
    expected = [("a", max(first, second)), ("a", min(first, second)), ("b", other)]
    for page_size in (1, 2, 3):
        assert await versioned.versions(versions=True, page_size=page_size) == expected


async def test_a_listing_of_versions_goes_on_inside_a_name(versioned: Shelf) -> None:
    generations = sorted([await versioned.write("a") for _ in range(3)], reverse=True)
    last = await versioned.write("b")
    everything = [("a", generation) for generation in generations] + [("b", last)]
    for index, (name, generation) in enumerate(everything):
        rest = await versioned.versions(versions=True, after=name, after_generation=generation)
        assert rest == everything[index + 1 :]
    assert await versioned.versions(versions=True, after="a") == [("b", last)]
    inside = {"after": "a", "after_generation": generations[0]}
    assert await versioned.versions(versions=True, prefix="b", **inside) == [("b", last)]
    assert await versioned.versions(versions=True, before="a", **inside) == []


async def test_a_listing_tells_live_from_noncurrent(versioned: Shelf) -> None:
    _, last = [await versioned.write("a") for _ in range(2)]
    pages = versioned.store.list_objects(BUCKET, versions=True, columns=("live",))
    (page,) = [page async for page in pages]
    assert page.columns["live"] == [generation == last for generation in page.generations]


@pytest.mark.parametrize("versions", [False, True])
async def test_pages_of_long_names_and_texts_have_fewer_objects(
    versioned: Shelf, versions: bool
) -> None:
    for length, metadata in ((1000, 0), (20, 8_000)):
        text = dump_map({"k": "x" * metadata}) if metadata else ""
        objects = [
            NewObject(f"{length}-{n // 5:04d}".ljust(length, "-"), b"", {"custom_metadata": text})
            for n in range(600)
        ]
        await versioned.store.write_objects(BUCKET, objects)
        wanted = await versioned.versions(prefix=f"{length}-", versions=versions, page_size=7)
        assert len(wanted) == (600 if versions else 120)
        listed = []
        async for page in versioned.store.list_objects(
            BUCKET, prefix=f"{length}-", versions=versions, columns=("custom_metadata",)
        ):
            texts = (*page.names, *page.columns["custom_metadata"])
            assert sum(map(len, texts)) <= 2 * PAGE_BYTES
            listed += zip(page.names, page.generations, strict=True)
        assert listed == wanted


async def test_reading_is_position_by_position(versioned: Shelf) -> None:
    first, second = [await versioned.write("a") for _ in range(2)]
    other = await versioned.write("b")
    names = ("b", "a", "a", "z", "a", "a", "b")
    generations = [ABSENT, first, ABSENT, ABSENT, second, 12345, other]
    batch = await versioned.there(*names, generations=generations, columns=("live",))
    assert batch.names == list(names)
    assert batch.generations == [other, first, second, ABSENT, second, ABSENT, other]
    assert batch.columns["live"] == [True, False, True, False, True, False, True]


async def test_a_deleted_object_is_read_as_absent_but_its_version_is_there(
    versioned: Shelf,
) -> None:
    generation = await versioned.write("a")
    await versioned.delete("a")
    batch = await versioned.there("a", "a", generations=[ABSENT, generation])
    assert batch.generations == [ABSENT, generation]


async def test_thousands_of_names_are_read_at_once(shelf: Shelf) -> None:
    names = [f"{index:04d}" for index in range(2500)]
    await shelf.store.write_objects(BUCKET, [NewObject(name, b"x") for name in names])
    batch = await shelf.there(*names[::-1])
    assert batch.names == names[::-1]
    assert ABSENT not in batch.generations


async def test_many_objects_are_written_at_once(shelf: Shelf, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"small")
    large.write_bytes(b"large" * 10_000)
    objects = [
        NewObject("a", b"bytes", {"content_type": "text/plain"}),
        NewObject("b", small),
        NewObject("c", large),
        NewObject("d", b"y" * 40_000),
    ]
    outcome = await shelf.store.write_objects(BUCKET, iter(objects))
    assert outcome.failures == {}
    contents = [await shelf.read(name) for name in "abcd"]
    assert contents == [b"bytes", b"small", b"large" * 10_000, b"y" * 40_000]
    assert await shelf.column("a", "content_type") == "text/plain"
    generations = (await shelf.there(*"abcd")).generations
    assert len(set(generations)) == 4


async def test_what_cannot_be_written_is_a_failure_by_position(
    shelf: Shelf, tmp_path: Path
) -> None:
    objects = [
        NewObject("a", b"x"),
        NewObject("", b"x"),
        NewObject("gone", tmp_path / "gone"),
        NewObject("folder", tmp_path),
        NewObject("b", b"x"),
    ]
    outcome = await shelf.store.write_objects(BUCKET, objects)
    codes = {index: failure.code.name for index, failure in outcome.failures.items()}
    assert codes == {1: "INVALID_ARGUMENT", 2: "NOT_FOUND", 3: "UNAVAILABLE"}
    assert await shelf.names() == ["a", "b"]


@promised(Promise.HOLDS_NAMES)
async def test_what_is_held_is_not_replaced_among_others(shelf: Shelf) -> None:
    await shelf.write("held", temporary_hold=True)
    objects = [
        NewObject("a", b"x"),
        NewObject("held", b"x"),
        NewObject("held", b"x" * 50_000),
        NewObject("b", b"x"),
    ]
    outcome = await shelf.store.write_objects(BUCKET, objects)
    codes = {index: failure.code.name for index, failure in outcome.failures.items()}
    assert codes == dict.fromkeys((1, 2), "PERMISSION_DENIED")
    assert await shelf.names() == ["a", "b", "held"]
    assert await shelf.read("held") == b"cargo"


@promised(Promise.BUCKET_RULES)
async def test_a_bucket_has_its_rules(bare: Shelf) -> None:
    before = bare.clock.now_us() // 1000 * 1000  # Cloud Storage tells milliseconds
    made = await bare.make(versioning=True, retention_period_seconds=5, uniform_access=True)
    assert before <= made.create_time_us <= bare.clock.now_us()
    assert await bare.store.get_bucket(BUCKET) == made
    assert made == Bucket(
        name=BUCKET,
        create_time_us=made.create_time_us,
        # Which are a service's own where nobody says them.
        location=made.location,
        soft_delete_seconds=made.soft_delete_seconds,
        versioning=True,
        retention_period_seconds=5,
        uniform_access=True,
    )


async def test_versioning_is_switched_on_and_off(shelf: Shelf) -> None:
    for on in (True, False, True):
        changed = await shelf.store.update_bucket(BUCKET, versioning=on)
        assert changed.versioning is on
        assert await shelf.store.get_bucket(BUCKET) == changed


@promised(Promise.BUCKET_RULES)
async def test_rules_can_be_changed(shelf: Shelf) -> None:
    changed = await shelf.store.update_bucket(
        BUCKET, versioning=True, default_event_based_hold=True
    )
    assert (changed.versioning, changed.default_event_based_hold) == (True, True)
    assert await shelf.store.get_bucket(BUCKET) == changed


@pytest.mark.parametrize(
    "changes",
    [
        {"versionin": True},
        {"name": "other"},
        {"create_time_us": 5},
        {"versioning": 1},
        {"retention_period_seconds": -1},
        {"retention_period_seconds": 3_155_760_001},
    ],
)
async def test_impossible_rules_are_refused(shelf: Shelf, changes: dict[str, Any]) -> None:
    before = await shelf.store.get_bucket(BUCKET)
    with pytest.raises(InvalidArgument):
        await shelf.store.update_bucket(BUCKET, **changes)
    assert await shelf.store.get_bucket(BUCKET) == before


async def test_buckets_are_listed_by_name(bare: Shelf) -> None:
    for name in ("zzz", "aaa", "mmm"):
        await bare.make(name)
    assert [bucket.name async for bucket in bare.store.list_buckets()] == ["aaa", "mmm", "zzz"]


@pytest.mark.parametrize(
    "facts",
    [
        {"location": "EU"},
        {"labels": dump_map({"env": "prod"})},
        {"autoclass": True},
        {"soft_delete_seconds": 604_800},
        {"attributes": "{}"},
    ],
)
async def test_what_else_is_known_of_a_bucket_is_kept_or_refused(
    bare: Shelf, facts: dict[str, Any]
) -> None:
    try:
        made = await bare.make(**facts)
    except Unimplemented:
        assert [bucket async for bucket in bare.store.list_buckets()] == []
        return
    assert [bucket async for bucket in bare.store.list_buckets()] == [made]
    assert await bare.store.get_bucket(BUCKET) == made
    assert {name: getattr(made, name) for name in facts} == facts
    with pytest.raises(InvalidArgument):
        await bare.store.update_bucket(BUCKET, **facts)


async def test_a_bucket_is_made_once(shelf: Shelf) -> None:
    await shelf.write("a")
    with pytest.raises(AlreadyExists, match="shelf"):
        await shelf.make()
    assert await shelf.names() == ["a"]


@pytest.mark.parametrize("name", ["", "..", "a.", ".hid", "a/b", "../x", "UP", "a" * 300, "a\x00b"])
async def test_impossible_bucket_names_are_refused(bare: Shelf, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await bare.make(name)
    with pytest.raises(NotFound):
        await bare.store.get_bucket(name)


async def test_a_missing_bucket_is_not_found(bare: Shelf) -> None:
    with pytest.raises(NotFound, match="shelf"):
        await bare.names()
    with pytest.raises(NotFound):
        await bare.there("a")
    with pytest.raises(NotFound):
        await bare.read("a")
    with pytest.raises(NotFound):
        await bare.write("a")
    with pytest.raises(NotFound):
        await bare.store.write_objects(BUCKET, [NewObject("a", b"")])
    with pytest.raises(NotFound):
        await bare.store.update_bucket(BUCKET, versioning=True)
    with pytest.raises(NotFound):
        await bare.store.delete_bucket(BUCKET)


async def test_an_empty_bucket_can_be_deleted(shelf: Shelf) -> None:
    await shelf.write("a")
    await shelf.delete("a")
    await shelf.store.delete_bucket(BUCKET)
    assert [bucket async for bucket in shelf.store.list_buckets()] == []
    with pytest.raises(NotFound):
        await shelf.write("a")


async def test_a_bucket_with_a_version_is_not_deleted(versioned: Shelf) -> None:
    generation = await versioned.write("a")
    for change in (None, versioned.delete("a")):
        if change is not None:
            await change
        with pytest.raises(FailedPrecondition, match="not empty"):
            await versioned.store.delete_bucket(BUCKET)
    await versioned.delete("a", generation, permanent=True)
    await versioned.empty()
    await versioned.store.delete_bucket(BUCKET)


async def test_a_bucket_can_be_made_again(shelf: Shelf) -> None:
    await shelf.store.delete_bucket(BUCKET)
    await shelf.make(versioning=True)
    await shelf.write("a")
    assert (await shelf.store.get_bucket(BUCKET)).versioning
    assert await shelf.names() == ["a"]

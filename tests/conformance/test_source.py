"""What every source promises, on every store; then what each promises beyond that.

Another source is one line: an entry of SOURCES, which chooses CHOSEN among WRITTEN.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import cycle
from typing import Any

import pytest

from longshore import extensions
from longshore.errors import Code, Error, NotFound
from longshore.settings import Settings
from longshore.source import Range, Selection
from longshore.store import ABSENT, COLUMNS, PAGE_BYTES, NewObject, Store, Stores
from tests.conformance.shelf import BUCKET, Promise, Shelf, promised
from tests.filters import project_source

CHOSEN = [f"a/{number:03}" for number in range(40)] + ["b", "b\t,\"'", "é/\U0001f600"]
WRITTEN = [*CHOSEN, "a", "c/1", "z"]
LISTS = "lists"
Row = tuple[Any, ...]


async def prefixes(yard: Shelf, chosen: Sequence[str] = CHOSEN) -> dict[str, Any]:
    return {"prefixes": ["a/", "b", "é/"]}


async def manifest(yard: Shelf, chosen: Sequence[str] = CHOSEN) -> dict[str, Any]:
    await write_manifest(yard, "m/part-1.csv", [(BUCKET, name) for name in chosen[::2]])
    await write_manifest(yard, "m/part-2.csv", [(BUCKET, name) for name in chosen[1::2]])
    return {"bucket": LISTS, "name": "m/part-*.csv"}


async def filters(yard: Shelf, chosen: Sequence[str] = CHOSEN) -> dict[str, Any]:
    text = " || ".join(f"name.startsWith('{prefix}')" for prefix in ("a/", "b", "é/"))
    return project_source(objects=f"({text}) && !name.endsWith('never')")[1]


SOURCES: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "prefix_list": prefixes,
    "manifest": manifest,
    "project_source": filters,
}
every_source = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture
async def yard(bare: Shelf) -> Shelf:
    """A store of each kind, with a bucket for manifests but none for the job."""
    await bare.make(LISTS)
    return bare


class OneStore(Stores):
    """Every bucket is in the store under test."""

    def __init__(self, store: Store) -> None:
        super().__init__(Settings())
        self._store = store

    def for_bucket(self, bucket: str) -> Store:
        return self._store


async def write_all(yard: Shelf, *names: str, **metadata: Any) -> list[int]:
    return [await yard.write(name, name.encode(), **metadata) for name in names]


async def write_manifest(yard: Shelf, name: str, rows: Iterable[Row]) -> int:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return await yard.write(name, text.getvalue().encode(), bucket=LISTS)


class Reading:
    """A source that is read shard by shard, as the engine does."""

    def __init__(self, yard: Shelf, name: str, data: dict[str, Any]) -> None:
        self.stores = OneStore(yard.store)
        self.source = extensions.load("sources", name).open_source(json.loads(json.dumps(data)))

    async def split(self, bucket: str = BUCKET) -> list[Range]:
        return list(json.loads(json.dumps(await self.source.split(self.stores, bucket))))

    def read(
        self, range_: Range, cursor: Any = None, *, versions: bool = False, sizes: Any = (1000,)
    ) -> AsyncIterator[Selection]:
        """Selections of at most ``sizes``, which are repeated."""
        wanted = cycle(sizes)
        asked: list[int] = []

        def size() -> int:
            asked.append(next(wanted))
            return asked[-1]

        async def checked() -> AsyncIterator[Selection]:
            selections = self.source.read(
                self.stores,
                BUCKET,
                range_,
                cursor or {},
                columns=("content_type", "live"),
                versions=versions,
                size=size,
            )
            seen = 0
            async for selection in selections:
                assert len(selection.batch) <= asked[-1]
                assert len(asked) > seen, "size() is asked before each selection"
                seen = len(asked)
                yield selection

        return checked()

    async def all(self, range_: Range, cursor: Any = None, **kwargs: Any) -> list[Selection]:
        return [selection async for selection in self.read(range_, cursor, **kwargs)]


def names_of(selections: Iterable[Selection]) -> list[str]:
    return [name for selection in selections for name in selection.batch.names]


@every_source
@pytest.mark.parametrize("sizes", [(1000,), (1,), (7,), (3, 11, 1), (5, 5, 5, 2)])
async def test_each_object_is_chosen_once_whatever_the_size_of_batches(
    yard: Shelf, name: str, sizes: tuple[int, ...]
) -> None:
    await yard.make()
    generations = dict(zip(WRITTEN, await write_all(yard, *WRITTEN), strict=True))
    reading = Reading(yard, name, await SOURCES[name](yard))
    found = []
    for range_ in await reading.split():
        selections = await reading.all(range_, sizes=sizes)
        found += names_of(selections)
        for selection in selections:
            batch = selection.batch
            assert batch.generations == [generations[one] for one in batch.names]
            assert batch.sizes == [len(one.encode()) for one in batch.names]
            assert not selection.refused
    assert sorted(found) == sorted(CHOSEN)


@every_source
async def test_reading_goes_on_at_any_cursor(yard: Shelf, name: str) -> None:
    await yard.make()
    await write_all(yard, *WRITTEN)
    reading = Reading(yard, name, await SOURCES[name](yard))
    for range_ in await reading.split():
        selections = await reading.all(range_, sizes=(4, 3))
        whole = names_of(selections)
        read = 0
        for selection in selections:
            read += len(selection.batch)
            cursor = json.loads(json.dumps(selection.cursor))
            assert names_of(await reading.all(range_, cursor, sizes=(5,))) == whole[read:]


@every_source
async def test_a_batch_of_long_names_has_fewer_objects(yard: Shelf, name: str) -> None:
    await yard.make()
    names = [f"a/{number:04d}".ljust(1000, "-") for number in range(700)]
    await yard.store.write_objects(BUCKET, [NewObject(one, b"") for one in names])
    reading = Reading(yard, name, await SOURCES[name](yard, names))
    found = []
    for range_ in await reading.split():
        for selection in await reading.all(range_):
            found += selection.batch.names
            assert sum(map(len, selection.batch.names)) <= PAGE_BYTES * 3 / 2
    assert sorted(found) == names


@every_source
async def test_the_columns_asked_for_come_with_whether_an_object_is_live(
    yard: Shelf, name: str
) -> None:
    await yard.make()
    await write_all(yard, *WRITTEN, content_type="a/b")
    reading = Reading(yard, name, await SOURCES[name](yard))
    for range_ in await reading.split():
        for selection in await reading.all(range_):
            count = len(selection.batch)
            columns = selection.batch.columns
            assert {name: columns[name] for name in columns.keys() & COLUMNS.keys()} == {
                "content_type": ["a/b"] * count,
                "live": [True] * count,
            }


@every_source
async def test_a_bucket_that_does_not_exist_is_not_found(yard: Shelf, name: str) -> None:
    reading = Reading(yard, name, await SOURCES[name](yard))
    with pytest.raises(NotFound, match=BUCKET):
        await reading.split()


@every_source
async def test_reading_may_be_given_up_at_any_time(yard: Shelf, name: str) -> None:
    await yard.make()
    await write_all(yard, *WRITTEN)
    reading = Reading(yard, name, await SOURCES[name](yard))
    range_, *_ = await reading.split()
    selections = reading.source.read(
        reading.stores, BUCKET, range_, {}, columns=(), versions=False, size=lambda: 2
    )
    assert len((await anext(selections)).batch) == 2
    await selections.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(selections)


def test_every_source_is_tried_here() -> None:
    assert sorted(SOURCES) == extensions.known("sources")


# prefix_list


async def test_a_prefix_list_counts_the_bytes_it_finds_and_a_manifest_does_not(yard: Shelf) -> None:
    assert Reading(yard, "prefix_list", {"prefixes": [""]}).source.counts_bytes
    assert not Reading(yard, "manifest", {"bucket": LISTS, "name": "m.csv"}).source.counts_bytes


async def test_everything_is_listed_in_order(yard: Shelf) -> None:
    await yard.make()
    await write_all(yard, *WRITTEN)
    reading = Reading(yard, "prefix_list", {"prefixes": [""]})
    (range_,) = await reading.split()
    assert names_of(await reading.all(range_, sizes=(9,))) == sorted(WRITTEN)


async def test_a_range_ends_and_begins_where_it_says(yard: Shelf) -> None:
    """However a listing is split, each object is in one range."""
    await yard.make()
    await write_all(yard, *WRITTEN)
    reading = Reading(yard, "prefix_list", {"prefixes": ["a"]})
    (whole,) = await reading.split()
    halves = [whole | {"before": "a/017\x00"}, whole | {"after": "a/017"}]
    parts = [names_of(await reading.all(half, sizes=(4,))) for half in halves]
    assert parts[0][-1] == "a/017"
    assert parts[1][0] == "a/018"
    assert parts[0] + parts[1] == names_of(await reading.all(whole))


async def test_what_is_written_behind_the_cursor_is_not_chosen(yard: Shelf) -> None:
    await yard.make()
    await write_all(yard, "b", "d", "f")
    reading = Reading(yard, "prefix_list", {"prefixes": [""]})
    (range_,) = await reading.split()
    found = []
    async for selection in reading.read(range_, sizes=(1,)):
        found += selection.batch.names
        if found == ["b"]:
            await write_all(yard, "a", "c")
            assert await yard.delete("d") is None
    assert found == ["b", "c", "f"]


@pytest.mark.parametrize("sizes", [(1,), (2,), (3,), (4, 1), (100,)])
async def test_noncurrent_versions_are_listed_where_asked_for(
    yard: Shelf, sizes: tuple[int, ...]
) -> None:
    await yard.make(versioning=True)
    for _ in range(3):
        await write_all(yard, "a/1", "a/2", "b")
    assert await yard.delete("a/2") is None
    reading = Reading(yard, "prefix_list", {"prefixes": ["a/"]})
    (range_,) = await reading.split()
    assert names_of(await reading.all(range_, sizes=sizes)) == ["a/1"]

    selections = await reading.all(range_, versions=True, sizes=sizes)
    found = [
        row
        for one in selections
        for row in zip(one.batch.names, one.batch.generations, strict=True)
    ]
    versions = await yard.versions(versions=True, delete_markers=True)
    assert found == [row for row in versions if row[0] != "b"]
    live = [
        row
        for one in selections
        for row, is_live in zip(
            zip(one.batch.names, one.batch.generations, strict=True),
            one.batch.columns["live"],
            strict=True,
        )
        if is_live
    ]
    assert live == await yard.versions(prefix="a/")
    read = 0
    for selection in selections:
        read += len(selection.batch)
        rest = await reading.all(range_, selection.cursor, versions=True, sizes=(2,))
        assert names_of(rest) == [name for name, _ in found[read:]]


# project_source


@promised(Promise.AT_HAND)
async def test_a_filter_is_asked_of_each_page_and_sees_its_columns(yard: Shelf) -> None:
    await yard.make(versioning=True)
    objects = [
        NewObject(
            f"{number:04}",
            b"",
            {"content_type": "text/plain" if number % 500 == 499 else "image/png"},
        )
        for number in range(2500)
    ]
    await yard.store.write_objects(BUCKET, objects)
    data = project_source(objects="contentType == 'text/plain' && customTime == customTime")[1]
    (range_,) = await Reading(yard, "project_source", data).split()
    assert names_of(await Reading(yard, "project_source", data).all(range_)) == []
    data = project_source(objects="!(contentType == 'image/png') && !temporaryHold")[1]
    reading = Reading(yard, "project_source", data)
    for size in (1, 2, 1000):
        found = await reading.all(range_, sizes=(size,), versions=True)
        assert names_of(found) == [f"{number:04}" for number in range(499, 2500, 500)]
        assert all(set(one.batch.columns) == {"content_type", "live"} for one in found)
        for place, selection in enumerate(found):
            rest = await reading.all(range_, selection.cursor)
            assert names_of(rest) == names_of(found[place + 1 :])
            assert selection.seen is not None
            assert selection.seen[-1] == selection.cursor["after"]


@promised(Promise.AT_HAND)
async def test_a_range_is_halved_by_the_names_that_a_filter_leaves_out(yard: Shelf) -> None:
    await yard.make()
    names = [f"{number:05}" for number in range(4200)]
    await yard.store.write_objects(BUCKET, [NewObject(one, b"") for one in names])
    reading = Reading(yard, "project_source", project_source(objects="size > 0")[1])
    (whole,) = await reading.split()
    selections = reading.read(whole)
    first = await anext(selections)
    assert (len(first.batch), first.cursor["after"]) == (0, "00999")
    halves = await reading.source.halve(reading.stores, BUCKET, whole, first, calls=4)
    assert halves.give is not None
    assert "00999" < halves.give["after"] < "03200"
    assert halves.keep["before"] == halves.give["after"] + "\0"


# manifest


async def test_rows_are_read_as_they_stand(yard: Shelf) -> None:
    """With and without generation, noncurrent, absent, repeated, of another bucket, refused."""
    await yard.make(versioning=True)
    (older,) = await write_all(yard, "a")
    newer, other = await write_all(yard, "a", "b")
    rows: list[Row] = [
        ("Bucket", "Name", "Generation"),
        (BUCKET, "a"),
        (BUCKET, "a", older),
        ("elsewhere", "a", "what?"),
        (BUCKET, "a", "what?"),
        (BUCKET, "b", other),
        (BUCKET, "b", 12345),
        (BUCKET, "never"),
        (BUCKET, ""),
        (BUCKET, "a"),
    ]
    await write_manifest(yard, "m.csv", rows)
    reading = Reading(yard, "manifest", {"bucket": LISTS, "name": "m.csv"})
    (range_,) = await reading.split()
    (selection,) = await reading.all(range_, versions=True)
    batch = selection.batch
    assert batch.names == ["a", "a", "b", "b", "never", "a", "m.csv line 5", "m.csv line 9"]
    assert batch.generations == [newer, older, other, ABSENT, ABSENT, newer, ABSENT, ABSENT]
    assert selection.pinned == [False, True, True, True, False, False, False, False]
    assert batch.columns["live"] == [True, False, True, False, False, True, False, False]
    assert batch.columns["content_type"] == [""] * 8
    assert set(selection.refused) == {6, 7}
    for index, failure in selection.refused.items():
        assert failure.code is Code.INVALID_ARGUMENT
        assert failure.message.startswith(f"Line {(5, 9)[index - 6]} of the manifest gs://lists/m")


async def test_batches_of_rows_of_which_some_are_refused(yard: Shelf) -> None:
    await yard.make()
    await write_all(yard, "a", "b", "c")
    rows: list[Row] = [
        (BUCKET,),
        (BUCKET, "a"),
        ("x",),
        ("x",),
        (BUCKET, "b"),
        (BUCKET, "c"),
        ("",),
    ]
    await write_manifest(yard, "m.csv", [*rows, ("y",)])
    reading = Reading(yard, "manifest", {"bucket": LISTS, "name": "m.csv"})
    (range_,) = await reading.split()
    for size in (1, 2, 3, 10):
        refused = 0
        found = []
        for selection in await reading.all(range_, sizes=(size,)):
            batch, cursor = selection.batch, selection.cursor
            assert selection.pinned is None
            found += batch.names[: len(batch) - len(selection.refused)]
            assert [batch.generations[i] for i in selection.refused] == [ABSENT] * len(
                selection.refused
            )
            refused += len(selection.refused)
        assert found == ["a", "b", "c"]
        assert refused == 4
        assert cursor == {"offset": range_["end"], "line": 9}


@pytest.mark.parametrize(
    ("location", "files"),
    [
        ("m/*.csv", ["m/.csv", "m/1.csv", "m/ab.x.csv"]),
        ("m/a*b.csv", []),
        ("m/ab*.x.csv", ["m/ab.x.csv"]),
        ("m/1.csv", ["m/1.csv"]),
        ("m/2.csv", []),
        ("m*.csv", []),
        ("m/d/*.csv", ["m/d/1.csv"]),
    ],
)
async def test_a_star_stands_for_a_part_of_the_files_name(
    yard: Shelf, location: str, files: list[str]
) -> None:
    await yard.make()
    for name in ("m/.csv", "m/1.csv", "m/1.csv.bak", "m/ab.x.csv", "m/d/1.csv", "m/1.tsv"):
        await write_manifest(yard, name, [(BUCKET, "a")])
    reading = Reading(yard, "manifest", {"bucket": LISTS, "name": location})
    if files:
        assert [range_["name"] for range_ in await reading.split()] == files
    else:
        with pytest.raises(NotFound, match=f"gs://{LISTS}/m") as error:
            await reading.split()
        assert location in error.value.message


async def test_a_manifest_may_be_empty_and_in_the_jobs_own_bucket(yard: Shelf) -> None:
    await yard.make()
    await yard.write("m.csv", b"")
    reading = Reading(yard, "manifest", {"bucket": BUCKET, "name": "m.csv"})
    (range_,) = await reading.split()
    assert await reading.all(range_) == []


async def test_a_manifest_in_a_bucket_that_does_not_exist(yard: Shelf) -> None:
    await yard.make()
    with pytest.raises(NotFound, match="nowhere"):
        await Reading(yard, "manifest", {"bucket": "nowhere", "name": "m.csv"}).split()


async def test_a_manifest_that_is_replaced_in_mid_job_ends_it(yard: Shelf) -> None:
    await yard.make()
    await write_manifest(yard, "m.csv", [(BUCKET, f"{i}") for i in range(10)])
    reading = Reading(yard, "manifest", {"bucket": LISTS, "name": "m.csv"})
    (range_,) = await reading.split()
    selection = await anext(reading.read(range_, sizes=(3,)))
    await write_manifest(yard, "m.csv", [(BUCKET, "other")])
    with pytest.raises(Error, match=r"gs://lists/m\.csv was replaced or deleted") as error:
        await reading.all(range_, selection.cursor)
    assert error.value.code is Code.NOT_FOUND


async def test_a_replaced_manifest_is_read_on_where_its_bucket_keeps_versions(yard: Shelf) -> None:
    await yard.make()
    await yard.store.update_bucket(LISTS, versioning=True)
    await write_manifest(yard, "m.csv", [(BUCKET, f"{i}") for i in range(10)])
    reading = Reading(yard, "manifest", {"bucket": LISTS, "name": "m.csv"})
    (range_,) = await reading.split()
    selection = await anext(reading.read(range_, sizes=(3,)))
    await write_manifest(yard, "m.csv", [(BUCKET, "other")])
    rest = await reading.all(range_, selection.cursor)
    assert names_of(rest) == [f"{i}" for i in range(3, 10)]
    assert len(await reading.split()) == 1, "a noncurrent file is no manifest of a new job"


@promised(Promise.AT_HAND)
async def test_a_large_manifest_is_read_in_its_pieces(yard: Shelf) -> None:
    """More than the 1 MiB that a store gives at a time, with a quoted newline here and there."""
    await yard.make()
    names = [f"{number:05}/{'x' * 60}{number % 97 or chr(10)}" for number in range(20_000)]
    await write_manifest(yard, "m.csv", [(BUCKET, name) for name in names])
    reading = Reading(yard, "manifest", {"bucket": LISTS, "name": "m.csv"})
    (range_,) = await reading.split()
    selections = await reading.all(range_, sizes=(1000,))
    assert names_of(selections) == names
    middle = selections[9].cursor
    assert names_of(await reading.all(range_, middle, sizes=(999,))) == names[10_000:]


@promised(Promise.AT_HAND)
async def test_a_manifest_may_be_cut_where_a_row_begins(yard: Shelf) -> None:
    await yard.make()
    names = [f"{number:05}" for number in range(20_000)]
    await write_manifest(yard, "m.csv", [(BUCKET, name) for name in names])
    reading = Reading(yard, "manifest", {"bucket": LISTS, "name": "m.csv"})
    (whole,) = await reading.split()
    bytes_a_row = whole["end"] // len(names)
    for rows in (0, 1, 5_000, len(names)):
        cut = rows * bytes_a_row
        halves = [whole | {"end": cut}, whole | {"start": cut, "line": rows + 1}]
        parts = [names_of(await reading.all(half)) for half in halves]
        assert list(map(len, parts)) == [rows, len(names) - rows]
        assert parts[0] + parts[1] == names

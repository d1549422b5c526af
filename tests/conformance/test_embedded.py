"""What the stores of our own promise beside the contract: see longshore.embedded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from longshore.embedded import Check, OneAtATime
from longshore.errors import Aborted, InvalidArgument, NotFound, PermissionDenied
from longshore.patch import Patch
from longshore.store import ABSENT, NewObject
from longshore.stores.local.contents import INLINE_MAX_BYTES
from longshore.stores.local.store import LocalStore
from longshore.stores.memory import MemoryStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock


@pytest.fixture(params=["local", "memory"])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    clock = TurnedClock()
    store = LocalStore(tmp_path, clock) if request.param == "local" else MemoryStore(clock)
    made = Shelf(store, clock)
    await made.make()
    yield made
    await store.close()


@pytest.fixture
def store(shelf: Shelf) -> OneAtATime:
    assert isinstance(shelf.store, LocalStore | MemoryStore)
    return shelf.store


def anything(generation: int, metageneration: int) -> None:
    """A check that has nothing against it."""


def only(wanted: tuple[int, int]) -> Check:
    """A check that lets nothing but ``wanted`` be changed."""

    def check(generation: int, metageneration: int) -> None:
        if (generation, metageneration) != wanted:
            raise Aborted(f"{generation}/{metageneration}")

    return check


@pytest.mark.parametrize("size", [0, 5, INLINE_MAX_BYTES + 1])
@pytest.mark.parametrize("from_file", [False, True])
async def test_what_is_put_is_given_back(
    shelf: Shelf, store: OneAtATime, tmp_path: Path, size: int, from_file: bool
) -> None:
    content = b"x" * size
    path = tmp_path / "content"
    path.write_bytes(content)
    new = NewObject("a", path if from_file else content, {"digests": "d", "content_type": "t/t"})
    columns = ("digests", "content_type", "live", "create_time_us")
    made = await store.put_object(BUCKET, new, check=anything, columns=columns)
    assert (made.names, made.sizes, made.metagenerations) == (["a"], [size], [1])
    assert made == await shelf.there("a", columns=columns)
    assert made.columns["digests"] == ["d"]
    assert await shelf.read("a") == content


async def test_what_may_be_put_is_decided_by_what_is_live(shelf: Shelf, store: OneAtATime) -> None:
    new = NewObject("a", b"1")
    first = await store.put_object(BUCKET, new, check=only((ABSENT, 0)))
    with pytest.raises(Aborted, match=f"{first.generations[0]}/1"):
        await store.put_object(BUCKET, NewObject("a", b"2"), check=only((ABSENT, 0)))
    assert await shelf.read("a") == b"1"
    await store.put_object(BUCKET, NewObject("a", b"3"), check=only((first.generations[0], 1)))
    assert await shelf.read("a") == b"3"


async def test_of_many_who_put_the_first_one_of_a_name_one_does(store: OneAtATime) -> None:
    puts = [
        store.put_object(BUCKET, NewObject("a", b"%d" % number), check=only((ABSENT, 0)))
        for number in range(20)
    ]
    done = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(not isinstance(one, Aborted) for one in done) == 1


async def test_what_keeps_an_object_from_being_put_is_raised(
    shelf: Shelf, store: OneAtATime
) -> None:
    await shelf.write("a", temporary_hold=True)
    with pytest.raises(PermissionDenied, match="Temporary hold"):
        await store.put_object(BUCKET, NewObject("a", b"2"), check=anything)
    with pytest.raises(Aborted):  # asked before the hold is looked at, as Cloud Storage does
        await store.put_object(BUCKET, NewObject("a", b"2"), check=only((ABSENT, 0)))
    with pytest.raises(InvalidArgument):
        await store.put_object(BUCKET, NewObject("", b"2"), check=anything)
    with pytest.raises(NotFound):
        await store.put_object("elsewhere", NewObject("a", b"2"), check=anything)


async def test_one_object_is_deleted_if_the_check_lets_it(shelf: Shelf, store: OneAtATime) -> None:
    generation = await shelf.write("a")
    with pytest.raises(Aborted):
        await store.delete_object(BUCKET, "a", ABSENT, check=only((generation, 2)))
    await store.delete_object(BUCKET, "a", ABSENT, check=only((generation, 1)))
    with pytest.raises(NotFound, match="No such object: shelf/a"):
        await store.delete_object(BUCKET, "a", ABSENT, check=anything)


async def test_a_named_version_is_deleted_for_good_and_the_live_one_archived(
    shelf: Shelf, store: OneAtATime
) -> None:
    await store.update_bucket(BUCKET, versioning=True)
    first, second = await shelf.write("a"), await shelf.write("a")
    await store.delete_object(BUCKET, "a", ABSENT, check=anything)
    assert await shelf.versions(versions=True) == [("a", second), ("a", first)]
    shelf.clock.turn(60)
    for generation in (first, second):
        deleted_us = await shelf.column("a", "delete_time_us", generation)
        assert first <= deleted_us < shelf.clock.now_us() - 59_000_000
        await store.delete_object(BUCKET, "a", generation, check=anything)
    assert await shelf.versions(versions=True) == []


async def test_one_object_is_patched_if_the_check_lets_it(shelf: Shelf, store: OneAtATime) -> None:
    generation = await shelf.write("a", digests="d")
    patch = Patch(temporary_hold=True)
    with pytest.raises(Aborted):
        await store.patch_object(BUCKET, "a", generation, patch=patch, check=only((generation, 2)))
    changed = await store.patch_object(
        BUCKET,
        "a",
        ABSENT,
        patch=patch,
        check=only((generation, 1)),
        columns=("temporary_hold", "digests"),
    )
    assert (changed.generations, changed.metagenerations) == ([generation], [2])
    assert changed.columns == {"temporary_hold": [True], "digests": ["d"]}
    with pytest.raises(NotFound):
        await store.patch_object(BUCKET, "b", ABSENT, patch=patch, check=anything)
    too_long = Patch(content_language="x" * 101)
    with pytest.raises(InvalidArgument):
        await store.patch_object(BUCKET, "a", ABSENT, patch=too_long, check=anything)


async def test_digests_stay_with_the_content(shelf: Shelf, store: OneAtATime) -> None:
    await shelf.write("a", digests="d")
    assert await shelf.rewrite("a") is None
    assert await shelf.column("a", "digests") == "d"
    await store.update_bucket(BUCKET, versioning=True)
    assert await shelf.rewrite("a", "ARCHIVE") is None
    assert await shelf.column("a", "digests") == "d"
    assert await shelf.column("a", "delete_time_us") == 0


async def test_a_bucket_is_changed_by_what_it_is(store: OneAtATime) -> None:
    for _ in range(2):
        changed = await store.change_bucket(
            BUCKET, lambda found: replace(found, attributes=found.attributes + "1")
        )
        assert await store.get_bucket(BUCKET) == changed
    assert changed.attributes == "11"
    with pytest.raises(InvalidArgument):
        await store.change_bucket(BUCKET, lambda it: replace(it, retention_period_seconds=-1))
    assert await store.get_bucket(BUCKET) == changed


async def test_a_bucket_is_discarded_with_what_is_held_in_it(
    shelf: Shelf, store: OneAtATime
) -> None:
    await shelf.write("a", temporary_hold=True)
    await store.discard_bucket(BUCKET)
    with pytest.raises(NotFound):
        await store.get_bucket(BUCKET)
    with pytest.raises(NotFound):
        await store.discard_bucket(BUCKET)
    await shelf.make()
    assert await shelf.names() == []

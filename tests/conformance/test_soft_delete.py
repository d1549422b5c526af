"""What is deleted where a bucket keeps it for a while: see longshore.embedded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longshore.embedded import OneAtATime
from longshore.errors import Aborted, InvalidArgument, NotFound, PermissionDenied
from longshore.patch import MapPatch
from longshore.store import ABSENT, NewObject
from longshore.stores.local.contents import INLINE_MAX_BYTES
from longshore.stores.local.store import LocalStore
from longshore.stores.memory import MemoryStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock, named
from tests.conformance.test_embedded import anything, only

KEPT_SECONDS = 604_800
LARGE = b"x" * (INLINE_MAX_BYTES + 1)


@pytest.fixture(params=["local", "memory"])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    clock = TurnedClock()
    store = LocalStore(tmp_path, clock) if request.param == "local" else MemoryStore(clock)
    made = Shelf(store, clock)
    await made.make(soft_delete_seconds=KEPT_SECONDS)
    yield made
    await store.close()


@pytest.fixture
def store(shelf: Shelf) -> OneAtATime:
    assert isinstance(shelf.store, LocalStore | MemoryStore)
    return shelf.store


async def deleted(store: OneAtATime, **range_: Any) -> list[tuple[str, int]]:
    """(name, generation) of all that can be restored."""
    pages = [page async for page in store.list_soft_deleted(BUCKET, **range_)]
    assert all(pages)
    return [row for page in pages for row in zip(page.names, page.generations, strict=True)]


async def restore(store: OneAtATime, name: str, generation: int, acl: str | None = None) -> int:
    made = await store.restore_object(BUCKET, name, generation, acl=acl, check=anything)
    return made.generations[0]


async def policy(store: OneAtATime, seconds: int) -> None:
    await store.change_bucket(BUCKET, lambda it: replace(it, soft_delete_seconds=seconds))


@pytest.mark.parametrize("content", [b"", b"cargo", LARGE])
async def test_what_is_deleted_is_nowhere_but_can_be_restored(
    shelf: Shelf, store: OneAtATime, content: bytes
) -> None:
    first = await shelf.write("a", content, content_type="t/t", digests="d")
    assert await shelf.delete("a") is None
    assert await shelf.versions(versions=True) == []
    assert (await shelf.there("a", "a", generations=[ABSENT, first])).generations == [ABSENT] * 2
    with pytest.raises(NotFound):
        await shelf.read("a", first)
    assert await shelf.delete("a", first, permanent=True)
    assert await deleted(store) == [("a", first)]
    second = await restore(store, "a", first)
    assert second > first
    assert await shelf.read("a") == content
    there = await shelf.there("a", columns=("content_type", "digests", "live", "delete_time_us"))
    assert (there.generations, there.metagenerations) == ([second], [1])
    assert there.columns == {
        "content_type": ["t/t"],
        "digests": ["d"],
        "live": [True],
        "delete_time_us": [0],
    }
    assert await deleted(store) == [("a", first)]  # a copy was made of it


async def test_a_version_says_when_it_was_deleted_and_until_when_it_is_kept(
    shelf: Shelf, store: OneAtATime
) -> None:
    generation = await shelf.write("a", custom_metadata='{"k":"v"}')
    shelf.clock.turn(60)
    before_us = shelf.clock.now_us()
    await shelf.delete("a")
    columns = ("soft_delete_time_us", "hard_delete_time_us", "live", "custom_metadata")
    found = await store.read_soft_deleted(BUCKET, "a", generation, columns=columns)
    (page,) = [page async for page in store.list_soft_deleted(BUCKET, columns=columns)]
    assert found == page
    assert (found.generations, found.sizes, found.columns["live"]) == ([generation], [5], [False])
    assert found.columns["custom_metadata"] == ['{"k":"v"}']
    soft_us, hard_us = (found.columns[name][0] for name in columns[:2])
    assert before_us <= soft_us <= shelf.clock.now_us()
    assert hard_us == soft_us + KEPT_SECONDS * 1_000_000
    for name, other in (("a", generation + 1), ("b", generation), ("a", ABSENT)):
        missing = await store.read_soft_deleted(BUCKET, name, other, columns=columns)
        assert missing.generations == [ABSENT]
    with pytest.raises(InvalidArgument):
        await store.read_soft_deleted(BUCKET, "a", generation, columns=("nothing",))


async def test_it_ends_by_the_clock_and_by_the_policy_of_its_delete(
    shelf: Shelf, store: OneAtATime
) -> None:
    first = await shelf.write("a", LARGE)
    await shelf.delete("a")
    await policy(store, 2 * KEPT_SECONDS)
    second = await shelf.write("b")
    await shelf.delete("b")
    await policy(store, 0)
    await shelf.write("c")
    await shelf.delete("c")
    shelf.clock.turn(KEPT_SECONDS - 60)
    assert await deleted(store) == [("a", first), ("b", second)]
    shelf.clock.turn(61)
    assert await deleted(store) == [("b", second)]
    assert (await store.read_soft_deleted(BUCKET, "a", first)).generations == [ABSENT]
    with pytest.raises(NotFound, match=f"No such soft-deleted object: shelf/a#{first}"):
        await restore(store, "a", first)
    shelf.clock.turn(KEPT_SECONDS)
    assert await deleted(store) == []


async def test_what_replaces_an_object_soft_deletes_it(shelf: Shelf, store: OneAtATime) -> None:
    generations = [await shelf.write("a", b"0")]
    assert not (await store.write_objects(BUCKET, [NewObject("a", b"1")])).failures
    generations += (await shelf.there("a")).generations
    made = await store.put_object(BUCKET, NewObject("a", LARGE), check=anything)
    generations += made.generations
    assert await shelf.rewrite("a") is None  # a job that changes the class
    assert await deleted(store) == [("a", one) for one in reversed(generations)]
    assert await shelf.read("a") == LARGE
    for generation, content in zip(generations, (b"0", b"1", LARGE), strict=True):
        await restore(store, "a", generation)
        assert await shelf.read("a") == content
    assert len(await shelf.versions(versions=True)) == 1


@pytest.mark.parametrize("content", [b"cargo", LARGE])
async def test_a_content_stays_for_as_long_as_anything_has_it(
    shelf: Shelf, store: OneAtATime, content: bytes
) -> None:
    first = await shelf.write("a", content)
    await shelf.rewrite("a")
    (second,) = (await shelf.there("a")).generations
    await policy(store, 0)
    assert await shelf.delete("a") is None  # for good, and what it was before is still kept
    assert await deleted(store) == [("a", first)]
    third = await restore(store, "a", first)
    assert third > second
    assert await shelf.read("a") == content


async def test_where_there_are_versions_those_are_kept_that_would_be_gone(
    shelf: Shelf, store: OneAtATime
) -> None:
    await store.update_bucket(BUCKET, versioning=True)
    first, second = await shelf.write("a", b"1"), await shelf.write("a", b"2")
    assert await shelf.rewrite("a") is None
    (third,) = (await shelf.there("a")).generations
    assert await deleted(store) == []
    assert await shelf.delete("a", first, permanent=True) is None
    assert await shelf.delete("a", third, permanent=True) is None
    assert await shelf.versions(versions=True) == [("a", second)]
    assert await deleted(store) == [("a", third), ("a", first)]
    fourth = await restore(store, "a", first)
    assert await shelf.read("a") == b"1"
    fifth = await restore(store, "a", third)
    assert await shelf.versions(versions=True) == [("a", fifth), ("a", fourth), ("a", second)]


async def test_a_job_soft_deletes_many_at_a_time(shelf: Shelf, store: OneAtATime) -> None:
    names = [f"{number:04d}" for number in range(30)]
    assert not (await store.write_objects(BUCKET, [NewObject(n, LARGE) for n in names])).failures
    batch = await shelf.there(*names)
    outcome = await store.delete_objects(BUCKET, batch, permanent=True)
    assert not outcome.failures
    rows = list(zip(batch.names, batch.generations, strict=True))
    for size in (7, 30, 1000):
        assert await deleted(store, page_size=size) == rows
    assert await deleted(store, prefix="000") == rows[:10]
    assert await deleted(store, after="0003", before="0006") == rows[4:6]
    again = await store.delete_objects(BUCKET, batch, permanent=False)
    assert len(again.failures) == 30


async def test_a_batch_that_names_an_object_twice_soft_deletes_it_once(
    shelf: Shelf, store: OneAtATime
) -> None:
    generation = await shelf.write("a")
    await shelf.write("b", temporary_hold=True)
    (held,) = (await shelf.there("b")).generations
    rows = [("a", generation), ("a", generation), ("b", held)]
    outcome = await store.delete_objects(BUCKET, named(*rows), permanent=False)
    assert sorted(outcome.failures) == [1, 2]
    assert await deleted(store) == [("a", generation)]
    assert await shelf.names() == ["b"]


async def test_many_versions_of_a_name_are_listed_newest_first_on_any_page(
    shelf: Shelf, store: OneAtATime
) -> None:
    rows = [("a", await shelf.write("a")) for _ in range(5)]
    rows = [*reversed(rows)]
    await shelf.delete("a")
    other = await shelf.write("b")
    await shelf.delete("b")
    for size in (1, 2, 3):
        assert await deleted(store, page_size=size) == [*rows, ("b", other)]
    assert await deleted(store, after="a", after_generation=rows[1][1]) == [
        *rows[2:],
        ("b", other),
    ]
    assert await deleted(store, after="a") == [("b", other)]


async def test_what_is_restored_is_asked_about_and_replaces_what_is_live(
    shelf: Shelf, store: OneAtATime
) -> None:
    first = await shelf.write("a", b"1")
    await shelf.delete("a")
    second = await shelf.write("a", b"2")
    for check in (only((ABSENT, 0)), only((second, 2))):
        with pytest.raises(Aborted):
            await store.restore_object(BUCKET, "a", first, acl=None, check=check)
    await shelf.patch("a", temporary_hold=True)
    with pytest.raises(PermissionDenied, match="Temporary hold"):
        await restore(store, "a", first)
    assert await shelf.read("a") == b"2"
    await shelf.patch("a", temporary_hold=False)
    await store.restore_object(
        BUCKET, "a", first, acl=None, check=only((second, 3)), columns=("live",)
    )
    assert await shelf.read("a") == b"1"
    assert await deleted(store) == [("a", second), ("a", first)]
    with pytest.raises(NotFound):
        await restore(store, "a", second + 1)
    with pytest.raises(NotFound):
        await store.restore_object("other", "a", first, acl=None, check=anything)


async def test_a_restored_object_is_new_in_its_bucket(shelf: Shelf, store: OneAtATime) -> None:
    first = await shelf.write("a", acl='{"allUsers":"READER"}', storage_class="ARCHIVE")
    await shelf.patch("a", contexts=MapPatch(updates={"k": "v"}))
    await shelf.delete("a")
    shelf.clock.turn(60)
    await restore(store, "a", first, acl="")
    assert await shelf.column("a", "create_time_us") >= first + 60_000_000
    assert await shelf.column("a", "contexts") == '{"k":"v"}'
    assert await shelf.column("a", "acl") == ""
    assert await shelf.column("a", "storage_class") == "ARCHIVE"
    await store.change_bucket(
        BUCKET, lambda it: replace(it, autoclass=True, default_event_based_hold=True)
    )
    await restore(store, "a", first)
    assert await shelf.column("a", "acl") == '{"allUsers":"READER"}'
    assert await shelf.column("a", "storage_class") == "STANDARD"
    assert await shelf.column("a", "event_based_hold") is True


async def test_soft_deleted_objects_do_not_keep_a_bucket(shelf: Shelf, store: OneAtATime) -> None:
    await shelf.write("a", LARGE)
    await shelf.delete("a")
    await store.delete_bucket(BUCKET)
    await shelf.make(soft_delete_seconds=KEPT_SECONDS)
    assert await deleted(store) == []


async def test_a_policy_of_less_than_nothing_is_refused(store: OneAtATime) -> None:
    with pytest.raises(InvalidArgument):
        await policy(store, -1)


@pytest.mark.parametrize("content", [b"cargo", LARGE])
@pytest.mark.parametrize("versioning", [False, True])
async def test_a_move_takes_all_of_an_object_with_it(
    shelf: Shelf, store: OneAtATime, content: bytes, versioning: bool
) -> None:
    await store.update_bucket(BUCKET, versioning=versioning)
    first = await shelf.write("a", content, acl='{"allUsers":"READER"}', content_type="t/t")
    await shelf.rewrite("a")  # where there are versions, two share a file by now
    (second,) = (await shelf.there("a")).generations
    replaced = await shelf.write("b", b"replaced")
    moved = await store.move_object(
        BUCKET,
        "a",
        "b",
        check_source=only((second, 1)),
        check=only((replaced, 1)),
        columns=("acl", "content_type", "storage_class"),
    )
    assert moved.names == ["b"]
    assert moved.columns == {
        "acl": ['{"allUsers":"READER"}'],
        "content_type": ["t/t"],
        "storage_class": ["COLDLINE"],
    }
    assert await shelf.names() == ["b"]
    assert await shelf.read("b") == content
    if versioning:
        rows = [("a", second), ("a", first), ("b", moved.generations[0]), ("b", replaced)]
        assert await shelf.versions(versions=True) == rows
        assert await deleted(store) == []
    else:
        assert await deleted(store) == [("a", first), ("b", replaced)]  # and not ("a", second)
    for name, generation in await shelf.versions(versions=True):
        if name == "a":
            assert await shelf.delete(name, generation, permanent=True) is None
    shelf.clock.turn(2 * KEPT_SECONDS)
    await shelf.write("c")
    await shelf.delete("c")  # what has been kept long enough goes
    assert await shelf.read("b") == content


async def test_a_move_is_refused_as_a_whole(shelf: Shelf, store: OneAtATime) -> None:
    a, b = await shelf.write("a", b"a"), await shelf.write("b", b"b")

    async def move(name: str = "a", to: str = "b", **checks: Any) -> None:
        await store.move_object(
            BUCKET, name, to, **{"check_source": anything, "check": anything, **checks}
        )

    with pytest.raises(Aborted):
        await move(check_source=only((a, 2)))
    with pytest.raises(Aborted):
        await move(check=only((ABSENT, 0)))
    with pytest.raises(InvalidArgument):
        await move(to="a")
    with pytest.raises(InvalidArgument):
        await move(to="")
    with pytest.raises(NotFound, match="No such object: shelf/c"):
        await move("c", check_source=only((a, 1)))
    for held, other in (("a", "b"), ("b", "a")):
        await shelf.patch(held, temporary_hold=True)
        with pytest.raises(PermissionDenied, match=f"shelf/{held}"):
            await move()
        await shelf.patch(held, temporary_hold=False)
        assert await shelf.read(other) == other.encode()
    assert await shelf.versions(versions=True) == [("a", a), ("b", b)]
    assert await deleted(store) == []


async def test_a_local_bucket_lets_go_of_what_was_kept(tmp_path: Path) -> None:
    clock = TurnedClock()

    def opened() -> Shelf:
        return Shelf(LocalStore(tmp_path, clock), clock)

    def files() -> int:
        return len(list(tmp_path.glob(f"{BUCKET}/*/content/*")))

    shelf = opened()
    assert isinstance(shelf.store, LocalStore)
    await shelf.make(soft_delete_seconds=KEPT_SECONDS)
    await shelf.write("a", LARGE)
    await shelf.rewrite("a")  # the file has two by now: one live, one soft-deleted
    await shelf.write("b", LARGE)
    await shelf.delete("b")
    clock.turn(KEPT_SECONDS + 1)
    await shelf.write("c", LARGE)
    await shelf.delete("c")  # whoever soft-deletes removes what has been kept long enough
    assert await shelf.read("a") == LARGE
    await policy(shelf.store, 0)
    await shelf.store.close()
    assert files() == 2
    clock.turn(KEPT_SECONDS + 1)
    shelf = opened()
    await shelf.write("d")  # and so does a process when it first writes
    assert await shelf.read("a") == LARGE
    await shelf.store.close()
    assert files() == 1

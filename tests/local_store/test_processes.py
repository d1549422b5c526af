"""Several processes, or several stores, on one bucket at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from longshore.errors import AlreadyExists, FailedPrecondition, NotFound
from longshore.store import Bucket, NewObject
from longshore.stores.local.store import MAX_OPEN, LocalStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock, pieces

FOLDER_OF_THE_TESTS = Path(__file__).parents[2]
PROCESSES, ROUNDS, SHARED = 4, 40, 50


def run(directory: Path, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.local_store.crowd", str(directory), str(number)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=FOLDER_OF_THE_TESTS,
    )


async def test_many_processes_write_to_one_bucket(tmp_path: Path) -> None:
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    await shelf.make()
    shared = [NewObject(f"shared/{n:02d}", b"x") for n in range(SHARED)]
    await shelf.store.write_objects(BUCKET, shared)
    crowd = [run(tmp_path, number) for number in range(PROCESSES)]
    for process in crowd:
        output, _ = await asyncio.to_thread(process.communicate)
        assert (process.returncode, output) == (0, "")
    batch = await shelf.there(*(new.name for new in shared))
    # Every patch of every process counted: none was lost.
    assert batch.metagenerations == [1 + PROCESSES * ROUNDS] * SHARED
    own = await shelf.versions(prefix="own/")
    assert len(own) == PROCESSES * ROUNDS
    assert len({generation for _, generation in own}) == len(own)
    await shelf.store.close()


async def test_two_stores_of_one_process_agree(tmp_path: Path) -> None:
    one, other = [Shelf(LocalStore(tmp_path), TurnedClock()) for _ in range(2)]
    await one.make()
    for round_ in range(20):
        await one.write("a", b"%d" % round_)
        assert await other.read("a") == b"%d" % round_
        await other.patch("a", content_type=f"{round_}")
        assert await one.column("a", "content_type") == f"{round_}"
    await one.store.close()
    await other.store.close()


async def test_rules_that_another_process_sets_hold_at_once(tmp_path: Path) -> None:
    one, other = [Shelf(LocalStore(tmp_path), TurnedClock()) for _ in range(2)]
    await one.make()
    await one.write("a")
    await other.store.update_bucket(BUCKET, retention_period_seconds=3600)
    failure = await one.delete("a")
    assert failure is not None
    await one.store.close()
    await other.store.close()


async def test_a_bucket_deleted_by_another_process_is_not_found(tmp_path: Path) -> None:
    one, other = [Shelf(LocalStore(tmp_path), TurnedClock()) for _ in range(2)]
    await one.make()
    await one.write("a")
    assert await other.names() == ["a"]
    await one.delete("a")
    await one.store.delete_bucket(BUCKET)
    with pytest.raises(NotFound):
        await other.names()
    with pytest.raises(NotFound):
        await other.write("b")
    assert list(tmp_path.iterdir()) == []
    await one.store.close()
    await other.store.close()


@pytest.mark.parametrize("size", [10, 50_000])
async def test_whoever_has_a_bucket_open_meets_its_successor(tmp_path: Path, size: int) -> None:
    one, other = [Shelf(LocalStore(tmp_path), TurnedClock()) for _ in range(2)]
    await one.make()
    await other.write("a", b"x" * size)
    await one.delete("a")
    await one.store.delete_bucket(BUCKET)
    await one.make(versioning=True)
    await one.write("new")
    assert await other.names() == ["new"]
    await other.write("b", b"y" * size)
    assert (await other.store.get_bucket(BUCKET)).versioning
    assert await one.names() == ["b", "new"]
    assert await one.read("b") == b"y" * size
    await other.store.close()
    assert await one.read("b") == b"y" * size
    await one.store.close()
    again = Shelf(LocalStore(tmp_path), TurnedClock())
    assert await again.names() == ["b", "new"]
    await again.store.close()


async def test_a_large_write_into_a_bucket_that_goes_is_not_found(tmp_path: Path) -> None:
    one, other = [Shelf(LocalStore(tmp_path), TurnedClock()) for _ in range(2)]
    await one.make()
    begun, deleted = asyncio.Event(), asyncio.Event()

    async def slow() -> object:
        yield b"x" * 50_000
        begun.set()
        await deleted.wait()
        yield b"x" * 50_000

    writing = asyncio.create_task(other.store.write_object(BUCKET, "a", slow()))  # type: ignore
    await begun.wait()
    await one.store.delete_bucket(BUCKET)
    await one.make()
    deleted.set()
    with pytest.raises(NotFound):
        await writing
    assert await one.names() == []
    (home,) = (tmp_path / BUCKET).iterdir()
    assert list((home / "content").iterdir()) == []
    await one.store.close()
    await other.store.close()


async def test_one_of_many_makes_a_bucket(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path) for _ in range(8)]
    made = await asyncio.gather(
        *(store.create_bucket(Bucket(name=BUCKET, create_time_us=0)) for store in stores),
        return_exceptions=True,
    )
    refused = [answer for answer in made if isinstance(answer, AlreadyExists)]
    assert len(refused) == 7
    assert {path.name for path in tmp_path.iterdir()} == {BUCKET}
    for store in stores:
        assert (await store.get_bucket(BUCKET)).name == BUCKET
        await store.close()


async def test_a_bucket_that_is_filled_while_it_is_deleted_is_either(tmp_path: Path) -> None:
    one, other = [Shelf(LocalStore(tmp_path), TurnedClock()) for _ in range(2)]
    for _ in range(10):
        await one.make()
        answers = await asyncio.gather(
            one.store.delete_bucket(BUCKET), other.write("a"), return_exceptions=True
        )
        outcomes = {type(answer) for answer in answers}
        if FailedPrecondition in outcomes:
            assert await one.names() == ["a"]
            await one.delete("a")
            await one.store.delete_bucket(BUCKET)
        else:
            assert NotFound in outcomes
    await one.store.close()
    await other.store.close()


async def test_a_deletion_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    await shelf.make()
    await shelf.store._write(BUCKET, _mark)  # type: ignore[attr-defined]
    await shelf.store.close()
    with pytest.raises(NotFound):
        await shelf.names()
    assert [bucket async for bucket in shelf.store.list_buckets()] == []
    await shelf.make()
    assert await shelf.names() == []
    assert {path.name for path in tmp_path.iterdir()} == {BUCKET}
    await shelf.store.close()


def _mark(transaction: object) -> None:
    transaction.connection.execute("UPDATE bucket SET deleted = 1")  # type: ignore[attr-defined]


async def test_what_is_left_of_a_removed_bucket_goes_with_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / ".removed-0123"
    left.mkdir()
    (left / "objects.sqlite").write_bytes(b"")
    store = LocalStore(tmp_path)
    assert [bucket async for bucket in store.list_buckets()] == []
    await store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
    assert {path.name for path in tmp_path.iterdir()} == {BUCKET}
    await store.close()


async def test_a_file_that_another_process_writes_is_not_swept(tmp_path: Path) -> None:
    one, other = [Shelf(LocalStore(tmp_path), TurnedClock()) for _ in range(2)]
    await one.make()
    begun, swept = asyncio.Event(), asyncio.Event()

    async def slow() -> object:
        yield b"x" * 50_000
        begun.set()
        await swept.wait()
        yield b"y" * 50_000

    writing = asyncio.create_task(one.store.write_object(BUCKET, "a", slow()))  # type: ignore
    await begun.wait()
    await other.store.write_object(BUCKET, "b", pieces(b"first write, so it sweeps"))
    swept.set()
    await writing
    assert await other.read("a") == b"x" * 50_000 + b"y" * 50_000
    await one.store.close()
    await other.store.close()


async def test_hundreds_of_buckets_do_not_stay_open(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    names = [f"bucket-{number:03d}" for number in range(60)]
    for name in names:
        await store.create_bucket(Bucket(name=name, create_time_us=0))
        await store.write_object(name, "a", pieces(b"x"))
    assert [bucket.name async for bucket in store.list_buckets()] == names
    assert len(threads()) <= 2 * MAX_OPEN
    await asyncio.gather(*(store.write_object(name, "b", pieces(b"x")) for name in names))
    for name in names:
        assert [page.names async for page in store.list_objects(name)] == [["a", "b"]]
    await store.close()
    assert threads() == []


def threads() -> list[str]:
    """The threads of open buckets: two each."""
    return [thread.name for thread in threading.enumerate() if "bucket-bucket-" in thread.name]

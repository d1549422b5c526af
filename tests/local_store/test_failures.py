"""What the disk may do to a bucket, and what the user is told."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from longshore.errors import DataLoss, FailedPrecondition, ResourceExhausted, Unavailable
from longshore.store import NewObject
from longshore.stores.local import bucket as bucket_module
from longshore.stores.local import schema
from longshore.stores.local.failures import translate
from longshore.stores.local.store import LocalStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock, pieces


async def bucket(directory: Path, content: bytes = b"cargo") -> Path:
    """The folder of a new bucket that is closed and has one object, called a."""
    shelf = Shelf(LocalStore(directory), TurnedClock())
    await shelf.make()
    await shelf.write("a", content)
    await shelf.store.close()
    (home,) = (directory / BUCKET).iterdir()
    return home


async def test_lost_content_is_data_loss(tmp_path: Path) -> None:
    home = await bucket(tmp_path, b"x" * 50_000)
    (file,) = (home / "content").iterdir()
    file.unlink()
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    with pytest.raises(DataLoss, match="'shelf/a' is missing"):
        await shelf.read("a")
    assert await shelf.delete("a") is None
    await shelf.store.close()


async def test_a_broken_database_is_data_loss(tmp_path: Path) -> None:
    home = await bucket(tmp_path)
    with (home / schema.DATABASE).open("r+b") as database:
        database.write(b"\xff" * 100)
    store = LocalStore(tmp_path)
    with pytest.raises(DataLoss, match="Restore the bucket"):
        await store.get_bucket(BUCKET)
    await store.close()


async def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    home = await bucket(tmp_path)
    with closing(sqlite3.connect(home / schema.DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 4")
    store = LocalStore(tmp_path)
    with pytest.raises(FailedPrecondition, match="version 4"):
        await store.get_bucket(BUCKET)
    await store.close()


def as_of_version(home: Path, version: int) -> None:
    """Take away what the tables did not have then."""
    with closing(sqlite3.connect(home / schema.DATABASE)) as connection:
        connection.execute("DROP INDEX object_file")
        connection.execute("DROP TABLE soft_deleted")
        lacking = {
            "bucket": ("location", "labels", "autoclass", "soft_delete_seconds", "attributes"),
            "object": ("digests", "delete_time_us"),
        }
        for table, columns in lacking.items():
            for column in columns * (version == 1):
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute(f"PRAGMA user_version = {version}")


@pytest.mark.parametrize("version", [1, 2])
async def test_a_database_of_an_older_version_gets_what_it_lacks(
    tmp_path: Path, version: int
) -> None:
    home = await bucket(tmp_path)
    as_of_version(home, version)
    store = LocalStore(tmp_path)
    before = await store.get_bucket(BUCKET)
    changed = replace(before, location="EU", soft_delete_seconds=60)
    assert await store.change_bucket(BUCKET, lambda found: changed) == changed
    shelf = Shelf(store, TurnedClock())
    assert await shelf.read("a") == b"cargo"
    generation = await shelf.write("large", b"x" * 100_000)
    assert await shelf.delete("large") is None
    assert await shelf.delete("a") is None
    await store.close()
    again = LocalStore(tmp_path)
    assert (await again.get_bucket(BUCKET)).location == "EU"
    deleted = [page.names async for page in again.list_soft_deleted(BUCKET)]
    assert deleted == [["a", "large"]]
    found = await again.read_soft_deleted(BUCKET, "large", generation)
    assert found.sizes == [100_000]
    await again.close()


async def test_a_full_disk_is_resource_exhausted(tmp_path: Path) -> None:
    home = await bucket(tmp_path)
    with closing(sqlite3.connect(home / schema.DATABASE)) as connection:
        connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as full:
            connection.execute("INSERT INTO inline_content VALUES (1, zeroblob(1000000))")
    error = translate(full.value, BUCKET)
    assert isinstance(error, ResourceExhausted)
    assert "Free some space" in error.message
    assert isinstance(translate(OSError(errno.ENOSPC, "full"), BUCKET), ResourceExhausted)
    assert isinstance(translate(OSError(errno.EIO, "bad"), BUCKET), Unavailable)


async def test_a_database_that_stays_busy_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    home = await bucket(tmp_path)
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    with closing(sqlite3.connect(home / schema.DATABASE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="busy"):
            await shelf.write("b")
        assert await shelf.read("a") == b"cargo"  # nobody who reads waits for a writer
        connection.execute("ROLLBACK")
    await shelf.write("b")
    await shelf.store.close()


async def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    home = await bucket(tmp_path)
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    with closing(sqlite3.connect(home / schema.DATABASE)) as connection:
        connection.execute(
            "CREATE TRIGGER deny BEFORE INSERT ON object BEGIN SELECT raise(FAIL, 'no'); END"
        )
        connection.commit()
        before = await shelf.there("a", columns=("checksum",))
        with pytest.raises(Exception, match="no"):
            await shelf.write("a", b"new")
        assert await shelf.there("a", columns=("checksum",)) == before
    await shelf.store.close()


async def test_space_of_deleted_objects_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "_VACUUM_SECONDS", -1.0)  # one step must do for so little
    home = await bucket(tmp_path)
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    for number in range(100):
        await shelf.write(f"{number}", b"x" * 16_000)
    await shelf.store.close()
    before = (home / schema.DATABASE).stat().st_size
    for number in range(100):
        await shelf.delete(f"{number}")
    await shelf.store.close()
    assert (home / schema.DATABASE).stat().st_size < before / 4


@pytest.mark.parametrize("many", [False, True])
async def test_a_write_that_is_cancelled_is_done_wholly_or_not(tmp_path: Path, many: bool) -> None:
    home = await bucket(tmp_path)
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    large = b"x" * 50_000
    with closing(sqlite3.connect(home / schema.DATABASE, isolation_level=None)) as other:
        for steps in range(40):
            if many:
                call = shelf.store.write_objects(BUCKET, [NewObject("b", large)] * 2)
            else:
                call = shelf.store.write_object(BUCKET, "b", pieces(large[:20_000], large[20_000:]))
            writing = asyncio.create_task(call)  # type: ignore[var-annotated,arg-type]
            for _ in range(steps):
                await asyncio.sleep(0)
            if steps % 2:
                other.execute("BEGIN IMMEDIATE")  # so that it is cancelled as it waits
                await asyncio.sleep(0.005)
            writing.cancel()
            await asyncio.sleep(0)
            if steps % 2:
                other.execute("ROLLBACK")
            await asyncio.gather(writing, return_exceptions=True)
            await shelf.write("later", b"")  # behind whatever is still being done
            if (await shelf.there("b")).sizes == [len(large)]:
                assert await shelf.read("b") == large
                await shelf.delete("b")
    await shelf.store.close()
    assert list((home / "content").iterdir()) == []


async def test_a_write_that_is_cancelled_as_it_commits_keeps_its_content(tmp_path: Path) -> None:
    home = await bucket(tmp_path)
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    large = b"x" * 50_000
    with closing(sqlite3.connect(home / schema.DATABASE, isolation_level=None)) as other:

        async def locking() -> AsyncIterator[bytes]:
            yield large
            other.execute("BEGIN IMMEDIATE")  # what comes after the content has to wait

        for patience in range(1, 200):
            writing = asyncio.create_task(shelf.store.write_object(BUCKET, "b", locking()))
            while not other.in_transaction:
                await asyncio.sleep(0)
            await asyncio.wait([writing], timeout=patience / 1000)
            writing.cancel()
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
            with pytest.raises(asyncio.CancelledError):
                await writing
            await shelf.write("later", b"")  # behind whatever is still being done
            if (await shelf.there("b")).sizes == [len(large)]:
                break
        else:
            raise AssertionError("no write was cancelled while it waited to commit")
    assert await shelf.read("b") == large
    await shelf.store.close()

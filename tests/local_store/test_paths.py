"""Names and paths: no name reaches a file outside the bucket, whatever it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longshore.errors import InvalidArgument, NotFound
from longshore.settings import StoreSettings
from longshore.store import Bucket, NewObject
from longshore.stores.local import open_store, schema
from longshore.stores.local.store import LocalStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock
from tests.conformance.test_store_reading import ODD_NAMES

LARGE = b"x" * 20_000


def files(directory: Path) -> set[str]:
    return {os.fspath(path.relative_to(directory)) for path in directory.rglob("*")}


async def test_no_object_name_becomes_a_path(tmp_path: Path) -> None:
    shelf = Shelf(LocalStore(tmp_path / "in" / "buckets"), TurnedClock())
    await shelf.make()
    (home,) = (tmp_path / "in" / "buckets" / BUCKET).iterdir()
    outside = files(tmp_path) - {os.fspath(home.relative_to(tmp_path))}
    for index, name in enumerate(ODD_NAMES):
        await shelf.write(name, LARGE if index % 2 else name.encode())
        await shelf.rewrite(name)
        await shelf.read(name)
    objects = [NewObject(name, LARGE) for name in ODD_NAMES]
    assert not (await shelf.store.write_objects(BUCKET, objects)).failures
    kept = files(tmp_path)
    inside = os.fspath(home.relative_to(tmp_path))
    new = {path for path in kept - outside if not path.startswith(inside)}
    assert new == set()
    numbers = {path.name for path in (home / "content").iterdir()}
    assert all(number.isascii() and number.isdigit() for number in numbers)
    for name in ODD_NAMES:
        await shelf.delete(name)
    await shelf.store.close()
    assert list((home / "content").iterdir()) == []
    assert {path for path in files(tmp_path) if not path.startswith(inside)} <= outside


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../out", "/etc", "a/../../out", ".new-x", "x\x00"]
)
async def test_no_bucket_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "out"
    outside.mkdir()
    store = LocalStore(tmp_path / "buckets")
    await store.create_bucket(Bucket(name="kept", create_time_us=0))
    before = files(tmp_path)
    with pytest.raises(InvalidArgument):
        await store.create_bucket(Bucket(name=name, create_time_us=0))
    for call in (store.get_bucket(name), store.delete_bucket(name)):
        with pytest.raises(NotFound):
            await call
    assert files(tmp_path) == before
    await store.close()


async def test_what_is_no_bucket_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / ".hidden").mkdir()
    before = files(tmp_path)
    store = LocalStore(tmp_path)
    assert [bucket async for bucket in store.list_buckets()] == []
    for name in ("notes", "file"):
        with pytest.raises(NotFound):
            await store.get_bucket(name)
        with pytest.raises(NotFound):
            await store.delete_bucket(name)
    assert files(tmp_path) == before


async def test_buckets_lie_where_the_settings_say(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    options: dict[str, dict[str, str]] = {"b": {}, "c": {"directory": os.fspath(elsewhere)}}
    for name, given in options.items():
        settings = StoreSettings(name=name, kind="local", options=given)
        store = open_store(settings, tmp_path / "data")
        await store.create_bucket(Bucket(name=name, create_time_us=0))
        await store.close()
    assert (tmp_path / "data" / "buckets" / "b").is_dir()
    assert (elsewhere / "c").is_dir()


async def test_every_folder_that_a_bucket_needs_is_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    sync = schema.sync_folder

    def noted(folder: Path) -> None:
        sync(folder)
        synced.append(folder)

    monkeypatch.setattr(schema, "sync_folder", noted)
    store = LocalStore(tmp_path / "far" / "away" / "buckets")
    await store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
    await store.close()
    assert {tmp_path, tmp_path / "far", tmp_path / "far" / "away"} <= set(synced)


def test_an_unknown_option_is_refused_and_the_nearest_named(tmp_path: Path) -> None:
    settings = StoreSettings(name="main", kind="local", options={"directroy": "x"})
    with pytest.raises(InvalidArgument, match=r"stores\.main\].* nearest known one is 'directory'"):
        open_store(settings, tmp_path)


@pytest.mark.parametrize("directory", [3, "", ["x"]])
def test_a_directory_is_a_path(tmp_path: Path, directory: object) -> None:
    settings = StoreSettings(name="main", kind="local", options={"directory": directory})
    with pytest.raises(InvalidArgument, match=r"'stores\.main\.directory' must be a path"):
        open_store(settings, tmp_path)

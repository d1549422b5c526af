"""What the S3 store does on Ceph beyond what every store does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from longshore.errors import (
    Code,
    FailedPrecondition,
    InvalidArgument,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from longshore.patch import MapPatch, Patch, dump_map
from longshore.settings import StoreSettings
from longshore.store import ABSENT, COLUMNS, UNSENT, Batch, Bucket, NewObject, TakesTurns
from longshore.stores import s3
from longshore.stores.s3.client import Call
from longshore.stores.s3.store import S3Store
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock, is_marker, on_ceph, pieces

if TYPE_CHECKING:
    from tests.services.ceph import Ceph

pytestmark = pytest.mark.services
MEBIBYTE = 1 << 20


@pytest.fixture
async def shelf(ceph: Ceph) -> AsyncIterator[Shelf]:
    """A store without a bucket."""
    store = on_ceph(ceph)
    yield Shelf(store, TurnedClock(), frozenset())
    await store.close()


async def locked(shelf: Shelf) -> None:
    """Make the bucket one whose objects can be held."""
    assert isinstance(shelf.store, S3Store)
    await shelf.store.create_bucket(Bucket(name=BUCKET, create_time_us=0), object_lock=True)


async def ask(shelf: Shelf, call: Call) -> bytes:
    assert isinstance(shelf.store, S3Store)
    return (await shelf.store._client.read(call)).body


async def all_versions(shelf: Shelf, **range_: Any) -> Batch:
    pages = shelf.store.list_objects(BUCKET, versions=True, columns=("live",), **range_)
    batch = Batch(names=[], generations=[], metagenerations=[], sizes=[], columns={"live": []})
    async for page in pages:
        batch = batch + page if batch.names else page
    return batch


async def next_second(shelf: Shelf) -> None:
    """Until what is written has a later time than what was written before."""
    second = int(time.time())
    while int(time.time()) == second:
        await shelf.write("the clock")


# Versions and delete markers


async def test_delete_markers_are_versions_without_content_and_go_for_good(shelf: Shelf) -> None:
    await shelf.make(versioning=True)
    for name in ("a", "b", "b"):
        await shelf.write(name)
    assert await shelf.delete("b") is None
    batch = await all_versions(shelf)
    assert batch.names == ["a", "b", "b", "b"]
    assert batch.columns["live"] == [True, False, False, False]
    markers = list(map(is_marker, batch.columns["version"]))
    assert sum(markers) == 1
    assert batch.sizes == [0 if marker else 5 for marker in markers]
    there = await shelf.there(*batch.names, generations=batch.generations, columns=tuple(COLUMNS))
    assert there.generations == batch.generations
    assert there.columns["live"] == batch.columns["live"]
    outcome = await shelf.store.delete_objects(BUCKET, batch, permanent=True)
    assert outcome.failures == {}
    assert (await all_versions(shelf)).names == []
    await shelf.store.delete_bucket(BUCKET)


async def test_generations_grow_from_second_to_second(shelf: Shelf) -> None:
    await shelf.make()
    first = await shelf.write("a")
    await next_second(shelf)
    assert await shelf.write("a") > first


async def test_a_version_stays_the_same_generation_when_it_is_tagged_and_held(
    shelf: Shelf,
) -> None:
    """Although Ceph then says that it is younger."""
    await locked(shelf)
    generation = await shelf.write("a")
    await next_second(shelf)
    change = Patch(temporary_hold=True, contexts=MapPatch(updates={"k": "v"}))
    batch = await shelf.there("a", columns=("temporary_hold", "contexts"))
    assert (await shelf.patch_objects(batch, change)).failures == {}
    for columns in ((), ("temporary_hold",)):
        now = await shelf.there("a", generations=[generation], columns=columns)
        assert now.generations == [generation]


async def test_a_listing_goes_on_behind_a_version_that_is_gone(shelf: Shelf) -> None:
    await shelf.make(versioning=True)
    for _ in range(3):
        await shelf.write("a")
        await next_second(shelf)
    await shelf.write("b")
    newest, middle, oldest = [one for name, one in await shelf.versions(versions=True, prefix="a")]
    assert newest > middle > oldest
    assert await shelf.delete("a", middle, permanent=True) is None
    rest = await shelf.versions(versions=True, after="a", after_generation=middle, before="c")
    assert [name for name, _ in rest] == ["a", "b"]
    assert rest[0] == ("a", oldest)


@pytest.mark.parametrize("page_size", [1, 2, 4, 1000])
async def test_versions_of_one_second_are_in_one_order_whatever_is_gone(
    shelf: Shelf, page_size: int
) -> None:
    """So that who goes on after one that is gone finds the rest, and nothing twice."""
    await shelf.make(versioning=True)
    for name in ("a", "b"):
        for _ in range(5):
            await shelf.write(name)
    everything = await shelf.versions(versions=True, page_size=page_size)
    assert everything == sorted(everything, key=lambda row: (row[0], -row[1]))
    for at in (0, 3, 6):
        name, generation = everything[at]
        assert await shelf.delete(name, generation, permanent=True) is None
        rest = await shelf.versions(
            versions=True, after=name, after_generation=generation, page_size=page_size
        )
        assert rest == everything[at + 1 :]


async def test_what_was_written_before_versions_were_kept_is_told_from_later_ones(
    shelf: Shelf,
) -> None:
    await shelf.make()
    old = await shelf.write("a", b"old")
    await shelf.store.update_bucket(BUCKET, versioning=True)
    new = await shelf.write("a", b"new")
    rows = [("a", generation) for generation in sorted((new, old), reverse=True)]
    assert await shelf.versions(versions=True) == rows
    there = await shelf.there("a", "a", generations=[old, new], columns=("live", "content_type"))
    assert (there.generations, there.columns["live"]) == ([old, new], [False, True])
    assert await shelf.read("a", old) == b"old"
    assert await shelf.delete("a", old, permanent=True) is None
    assert await shelf.versions(versions=True) == [("a", new)]


# Names


async def test_names_that_xml_cannot_have_are_listed_and_deleted(shelf: Shelf) -> None:
    await shelf.make(versioning=True)
    names = ["\x01", "a\x01b", "plain", "a b+c%d", "é&<>", "new\nline"]
    await shelf.store.write_objects(BUCKET, [NewObject(name, b"x") for name in names])
    for page_size in (1, 1000):
        assert await shelf.names(page_size=page_size) == sorted(names)
        assert await shelf.names(versions=True, page_size=page_size) == sorted(names)
    outcome = await shelf.store.delete_objects(BUCKET, await all_versions(shelf), permanent=True)
    assert outcome.failures == {}
    assert (await all_versions(shelf)).names == []


async def test_what_calls_are_tried_on_is_not_there_for_anybody(shelf: Shelf) -> None:
    await shelf.make()
    for name in (".longshore-probe/x", ".longshore-probd", ".longshore-probf", "a"):
        await shelf.write(name)
    left = [".longshore-probd", ".longshore-probf", "a"]
    assert await shelf.names() == left
    assert await shelf.names(versions=True) == left
    assert await shelf.names(prefix=".longshore-probe/") == []
    assert (await shelf.there(".longshore-probe/x")).generations == [ABSENT]


# What is written, and what protects it


async def test_every_column_of_a_new_object_has_its_value(shelf: Shelf) -> None:
    await locked(shelf)
    given: dict[str, Any] = {
        "temporary_hold": True,
        "content_type": "text/plain",
        "content_encoding": "gzip",
        "content_language": "en",
        "content_disposition": "inline",
        "cache_control": "no-store",
        "custom_time_us": 1,
        "retention": f"Unlocked@{(int(time.time()) + 1000) * 1_000_000}",
        "custom_metadata": dump_map({"k": "v", "a": "ü"}),
        "contexts": dump_map({"c": "d", "e f": "ü"}),
        "acl": dump_map({"allUsers": "READER"}),
        "storage_class": "NEARLINE",
        "kms_key": "testkey-1",
    }
    await shelf.write("a", **given)
    batch = await shelf.there("a", columns=tuple(COLUMNS))
    columns = {name: batch.columns[name][0] for name in COLUMNS}
    assert {name: columns[name] for name in given} == given
    assert (columns["live"], columns["event_based_hold"]) == (True, False)
    assert columns["create_time_us"] == columns["update_time_us"] > 0
    assert {name: type(value) for name, value in columns.items()} == dict(COLUMNS)
    listed = [page async for page in shelf.store.list_objects(BUCKET, columns=tuple(COLUMNS))]
    assert [{name: page.columns[name][0] for name in COLUMNS} for page in listed] == [columns]


async def test_held_and_retained_versions_stay_and_say_why_and_the_rest_goes(
    shelf: Shelf,
) -> None:
    await locked(shelf)
    names = [f"{index:04d}" for index in range(1200)]
    await shelf.store.write_objects(BUCKET, [NewObject(name, b"x") for name in names])
    until_us = (int(time.time()) + 1000) * 1_000_000
    await shelf.write("0100", temporary_hold=True)
    await shelf.write("1100", retention=f"Unlocked@{until_us}")
    batch = await all_versions(shelf)
    outcome = await shelf.store.delete_objects(BUCKET, batch, permanent=True)
    failed = {batch.names[index]: failure for index, failure in outcome.failures.items()}
    assert failed.keys() == {"0100", "1100"}
    assert {failure.code for failure in failed.values()} == {Code.PERMISSION_DENIED}
    assert "under active Temporary hold" in failed["0100"].message
    assert "retention" in failed["1100"].message
    assert await shelf.names(versions=True) == ["0100", "1100"]


async def test_a_hold_does_not_keep_a_delete_marker_from_being_laid(shelf: Shelf) -> None:
    await locked(shelf)
    generation = await shelf.write("a", temporary_hold=True)
    assert await shelf.delete("a") is None
    assert await shelf.names() == []
    assert await shelf.versions(versions=True) == [("a", generation)]


async def test_large_objects_are_written_in_parts_or_not_at_all(shelf: Shelf) -> None:
    await shelf.make()
    content = bytes(range(256)) * (20 * MEBIBYTE // 256) + b"the end"
    stream = pieces(*(content[at : at + 700_000] for at in range(0, len(content), 700_000)))
    await shelf.store.write_object(BUCKET, "a", stream, content_type="x/y")
    assert await shelf.read("a") == content
    assert await shelf.read("a", start=len(content) - 3) == b"end"
    assert await shelf.column("a", "content_type") == "x/y"

    async def broken() -> AsyncIterator[bytes]:
        yield content
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await shelf.store.write_object(BUCKET, "b", broken())
    assert await shelf.names() == ["a"]
    uploads = Call("ListMultipartUploads", "GET", BUCKET, query="uploads")
    assert b"<Upload>" not in await ask(shelf, uploads)


# Many and few


async def test_few_of_many_names_are_found_singly_and_many_by_listing(shelf: Shelf) -> None:
    await shelf.make()
    names = [f"{index:04d}" for index in range(3000)]
    await shelf.store.write_objects(BUCKET, [NewObject(name, b"x") for name in names])
    everything = (await shelf.there(*names)).generations
    sparse = names[::20]
    assert (await shelf.there(*sparse)).generations == everything[::20]
    mixed = [*names[:500], *(f"{name}-" for name in names[500:1000]), *names[2900:]]
    expected = [*everything[:500], *[ABSENT] * 500, *everything[2900:]]
    assert (await shelf.there(*mixed)).generations == expected
    columns = (await shelf.there(*names[:100], columns=("content_type",))).columns
    assert columns["content_type"] == [""] * 100


# What is refused


async def test_wrong_keys_say_what_to_check(ceph: Ceph) -> None:
    account = ceph.new_account()
    for access_key, secret_key, said in (
        ("nobody", account.secret_key, "does not know the access key"),
        (account.access_key, "wrong", "Check secret_key"),
    ):
        keys = {"access_key": access_key, "secret_key": secret_key, "endpoint": account.endpoint}
        settings = StoreSettings(name="ceph", kind="s3", options=keys)
        store = s3.open_store(settings, ceph.directory)
        with pytest.raises(Unauthenticated, match=said):
            await store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
        await store.close()


async def test_what_s3_has_not_is_refused(shelf: Shelf) -> None:
    for rule in ({"uniform_access": True}, {"default_event_based_hold": True}):
        with pytest.raises(Unimplemented):
            await shelf.make(**rule)
    with pytest.raises(InvalidArgument, match="whole days"):
        await shelf.make(retention_period_seconds=5)
    await shelf.make()
    with pytest.raises(FailedPrecondition):
        await shelf.store.update_bucket(BUCKET, retention_period_seconds=86400)
    assert (await shelf.store.get_bucket(BUCKET)).retention_period_seconds == 0
    with pytest.raises(FailedPrecondition):
        await shelf.write("a", temporary_hold=True)
    with pytest.raises(FailedPrecondition, match="Event-based"):
        await shelf.write("a", event_based_hold=True)
    for key in ("Capital", "a b", "goog-custom-time"):
        with pytest.raises(InvalidArgument):
            await shelf.write("a", custom_metadata=dump_map({key: "v"}))


async def test_a_bucket_retains_what_is_written_to_it(ceph: Ceph) -> None:
    store = on_ceph(ceph, probe_bucket="scratch")
    assert isinstance(store, S3Store)
    shelf = Shelf(store, TurnedClock(), frozenset())
    scratch = Bucket(name="scratch", create_time_us=0)
    await store.create_bucket(scratch, object_lock=True)
    made = await shelf.make(retention_period_seconds=2 * 86400)
    assert (made.retention_period_seconds, made.versioning) == (2 * 86400, True)
    await shelf.write("a")
    failure = await shelf.delete("a", (await shelf.there("a")).generations[0], permanent=True)
    assert failure is not None
    assert failure.code is Code.PERMISSION_DENIED
    await store.close()


async def test_a_gateway_that_is_gone_is_unavailable_and_then_serves_again(ceph: Ceph) -> None:
    with ceph.gateway() as gateway:
        store = on_ceph(ceph, endpoint=gateway.endpoint)
        await store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
        generation = await store.write_object(BUCKET, "a", pieces(b"cargo"))
        gateway.kill()
        with pytest.raises(Unavailable):
            await store.read_objects(BUCKET, ["a"], [ABSENT])
        gateway.start()
        assert (await store.read_objects(BUCKET, ["a"], [ABSENT])).generations == [generation]
        await store.close()


# Turns


class Counted:
    """Turns that say which requests were made, and permit no change once it is over."""

    at_once = 128

    def __init__(self) -> None:
        self.verbs: list[str] = []
        self.permits = True
        self.inside = 0

    def read(self, verb: str) -> CountedTurn:
        return CountedTurn(self, verb, permitted=True)

    def change(self, verb: str, objects: int = 1) -> CountedTurn:
        return CountedTurn(self, f"{verb} {objects}", permitted=self.permits)

    async def again(self, code: Code, tries: int) -> bool:
        return False


class CountedTurn:
    def __init__(self, turns: Counted, verb: str, *, permitted: bool) -> None:
        self._turns = turns
        self._verb = verb
        self.permitted = permitted

    async def __aenter__(self) -> CountedTurn:
        self._turns.verbs.append(self._verb)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def ended(self, code: Code | None) -> None:
        pass


async def test_every_request_has_its_turn(shelf: Shelf) -> None:
    await shelf.make()
    names = [f"{index:04d}" for index in range(1500)]
    await shelf.store.write_objects(BUCKET, [NewObject(name, b"x") for name in names])
    turns = Counted()
    assert isinstance(shelf.store, TakesTurns)
    store = shelf.store.by_turns(turns)
    pages = [page async for page in store.list_objects(BUCKET)]
    assert turns.verbs.count("ListObjectsV2") == 2
    batch = pages[0] + pages[1]
    for page in pages:
        assert (await store.delete_objects(BUCKET, page, permanent=False)).failures == {}
    assert [verb for verb in turns.verbs if verb.startswith("DeleteObjects")] == [
        "DeleteObjects 1000",
        "DeleteObjects 500",
    ]
    turns.permits = False
    outcome = await store.delete_objects(BUCKET, batch, permanent=False)
    assert outcome.failures == dict.fromkeys(range(1500), UNSENT)
    assert all(failure is UNSENT for failure in outcome.failures.values())

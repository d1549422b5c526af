"""Deaths and writers at just the moment that matters: what random seeds seldom meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from longshore.database import leases, shards
from longshore.errors import Code, Internal
from longshore.model import Counters, State
from longshore.patch import MapPatch, Patch
from longshore.store import ABSENT, Failure, Outcome
from tests.copying_store import CopyingStore
from tests.faults import Crash
from tests.house import BUCKET, House

PREFIX = ("prefix_list", {"prefixes": ["d/"]})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, "memory", batch=5)
    await house.open()
    for number in range(20):
        await house.write(f"d/{number:02d}", b"x" * 10)
    yield house
    await house.close()


def _die(house: House, where: str) -> Callable[[str], Any]:
    async def die(now: str) -> None:
        if now == where:
            house.fate.at_boundary = None
            house.fate.dead = True
            raise Crash(now)

    return die


async def test_a_cancel_after_a_crash_counts_what_was_done(house: House) -> None:
    job = await house.create(("delete_object", {"permanent": True}), PREFIX)
    house.fate.at_boundary = _die(house, "after delete_objects")
    assert not await house.run(job)
    await house.cancel(job)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert row.state == "CANCELED"
    assert counters.succeeded == len(house.mortal.journal) == 5


async def test_a_cancel_between_lock_and_lease_counts_what_was_done(house: House) -> None:
    """The next service has ended all leases and has no worker yet when the cancel comes."""
    job = await house.create(("delete_object", {"permanent": True}), PREFIX)
    house.fate.at_boundary = _die(house, "after delete_objects")
    assert not await house.run(job)
    await house.outside.write(leases.release)
    await house.cancel(job)
    row, _ = await house.job(job)
    assert row.state == "RUNNING", "its intent must be looked at first"
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert row.state == "CANCELED"
    assert counters.succeeded == len(house.mortal.journal) == 5


async def test_a_rewrite_is_told_from_an_upload_by_its_checksum(house: House) -> None:
    """Somebody uploads other bytes, in just the class that was wanted, while we are dead."""
    job = await house.create(
        ("rewrite_object", {"storage_class": "COLDLINE", "kms_key": ""}), PREFIX
    )
    house.fate.at_boundary = _die(house, "before rewrite_objects")
    assert not await house.run(job)
    await house.write("d/01", b"other", storage_class="COLDLINE")
    assert await house.run(job)
    _, (counters, _) = await house.job(job)
    assert counters.succeeded == 20
    assert counters.bytes_transformed == 190, "the upload needed no rewrite: it adds no bytes"


async def test_deltas_are_of_the_state_that_was_acted_upon(house: House) -> None:
    """Somebody sets the very context that is to be created, between announcement and act."""

    async def meddle(where: str) -> None:
        if where == "before patch_objects":
            house.fate.at_boundary = None
            there = await house.store.read_objects(BUCKET, ["d/02"], [ABSENT])
            theirs = Patch(contexts=MapPatch(updates={"team": "crane"}))
            await house.store.patch_objects(BUCKET, there, theirs)

    house.fate.at_boundary = meddle
    change = {"updates": {"team": "dock"}, "removals": [], "clear": False}
    job = await house.create(("update_object_custom_context", change), PREFIX)
    assert await house.run(job)
    _, (counters, _) = await house.job(job)
    assert (counters.contexts_created, counters.contexts_updated) == (19, 1)


async def test_a_delete_that_somebody_else_did_says_that_it_was_settled(house: House) -> None:
    async def meddle(where: str) -> None:
        if where == "before delete_objects":
            house.fate.at_boundary = None
            there = await house.store.read_objects(BUCKET, ["d/02"], [ABSENT])
            await house.store.delete_objects(BUCKET, there, permanent=True)

    house.fate.at_boundary = meddle
    job = await house.create(("delete_object", {"permanent": True}), PREFIX)
    assert await house.run(job)
    _, (counters, _) = await house.job(job)
    assert counters.succeeded == 20
    assert _settled(house, "DeleteObject") == ["d/02"]


async def test_an_object_judged_by_a_look_says_that_it_was_settled(house: House) -> None:
    """Of one object the store says, after it did it, that it does not know."""
    patch_objects = house.mortal.patch_objects

    class Vague:
        def __getattr__(self, name: str) -> Any:
            return getattr(house.mortal, name)

        async def patch_objects(self, bucket: str, batch: Any, *args: Any, **options: Any) -> Any:
            outcome = await patch_objects(bucket, batch, *args, **options)
            vague = [i for i, name in enumerate(batch.names) if name == "d/07"]
            unknown = dict.fromkeys(vague, Failure(Code.DEADLINE_EXCEEDED, "no idea"))
            return Outcome(failures={**outcome.failures, **unknown})

    house.stores._open["main"] = Vague()  # type: ignore[assignment]
    job = await house.create(("put_object_hold", {"temporary_hold": True}), PREFIX)
    assert await house.run(job)
    _, (counters, _) = await house.job(job)
    assert (counters.succeeded, len(house.mortal.journal)) == (20, 20)
    assert _settled(house, "PutObjectHold") == ["d/07"]


def _settled(house: House, member: str) -> list[str]:
    return [
        record[member]["objectMetadataBefore"]["gcsObject"]["objectKey"]
        for record in house.records()
        if record.get("settled")
    ]


@pytest.mark.parametrize("crash", [False, True], ids=["act", "settle"])
async def test_a_named_version_is_patched_when_it_was_made_noncurrent(
    house: House, crash: bool
) -> None:
    """Somebody deletes the live object, so that the version the manifest names is noncurrent."""
    await house.store.update_bucket(BUCKET, versioning=True)
    there = await house.store.read_objects(BUCKET, ["d/02"], [ABSENT])
    generation = there.generations[0]
    await house.write("list.csv", f"{BUCKET},d/02,{generation}\n".encode())

    async def meddle(where: str) -> None:
        if where == "before patch_objects":
            house.fate.at_boundary = None
            await house.store.delete_objects(BUCKET, there, permanent=False)
            if crash:
                house.fate.dead = True
                raise Crash(where)

    house.fate.at_boundary = meddle
    hold = ("put_object_hold", {"temporary_hold": True})
    job = await house.create(hold, ("manifest", {"bucket": BUCKET, "name": "list.csv"}))
    assert await house.run(job) is not crash
    assert not crash or await house.run(job)
    _, (counters, errors) = await house.job(job)
    assert (counters.succeeded, errors) == (1, {})
    columns = ("temporary_hold", "live")
    now = await house.store.read_objects(BUCKET, ["d/02"], [generation], columns=columns)
    assert now.columns == {"temporary_hold": [True], "live": [False]}


COPYING = ("put_metadata", {"content_type": "text/plain"})


def _copying(house: House) -> None:
    """Give the house, instead, a store that changes metadata by a copy, with the same objects."""
    store = CopyingStore(house.store._clock)  # type: ignore[attr-defined]
    store._buckets = house.store._buckets  # type: ignore[attr-defined]
    house.store = house.mortal._store = store


async def _versions(house: House, name: str) -> list[tuple[int, str, bool]]:
    columns = ("content_type", "live")
    pages = house.store.list_objects(BUCKET, prefix=name, versions=True, columns=columns)
    return [
        row
        async for page in pages
        for row in zip(page.generations, *map(page.columns.__getitem__, columns), strict=True)
    ]


@pytest.mark.parametrize("versioning", [False, True])
@pytest.mark.parametrize("named", [False, True], ids=["by prefix", "by generation"])
async def test_a_copy_of_ours_is_told_after_a_crash_and_not_made_again(
    house: House, named: bool, versioning: bool
) -> None:
    """By its state and its checksum, for it is of another generation."""
    _copying(house)
    await house.store.update_bucket(BUCKET, versioning=versioning)
    source: Any = PREFIX
    if named:
        listed = [row async for row in house.store.list_objects(BUCKET, prefix="d/")]
        rows = zip(listed[0].names, listed[0].generations, strict=True)
        lines = [f"{BUCKET},{name},{generation}" for name, generation in rows]
        await house.write("list.csv", "\n".join(lines).encode())
        source = ("manifest", {"bucket": BUCKET, "name": "list.csv"})
    job = await house.create(COPYING, source)
    house.fate.at_boundary = _die(house, "after patch_objects")
    assert not await house.run(job)
    assert await house.run(job)
    _, (counters, errors) = await house.job(job)
    assert (counters.succeeded, errors) == (20, {})
    assert len(house.mortal.journal) == 20
    for number in range(20):
        (new, *older) = await _versions(house, f"d/{number:02d}")
        assert new[1:] == ("text/plain", True)
        assert [old[1:] for old in older] == [("", False)] * versioning


async def test_what_somebody_else_made_is_no_copy_of_ours(house: House) -> None:
    """An upload in just the wanted state, while we are dead, of other bytes: a generation that the
    user named has been left, and any other needs nothing."""
    _copying(house)
    there = await house.store.read_objects(BUCKET, ["d/01"], [ABSENT])
    rows = [f"{BUCKET},d/01,{there.generations[0]}", f"{BUCKET},d/02", f"{BUCKET},d/03"]
    await house.write("list.csv", "\n".join(rows).encode())
    job = await house.create(COPYING, ("manifest", {"bucket": BUCKET, "name": "list.csv"}))
    house.fate.at_boundary = _die(house, "before patch_objects")
    assert not await house.run(job)
    await house.write("d/01", b"other", content_type="text/plain")
    await house.write("d/02", b"other", content_type="text/plain")
    assert await house.run(job)
    _, (counters, errors) = await house.job(job)
    assert counters.succeeded == 2
    assert {code: one.count for code, one in errors.items()} == {Code.FAILED_PRECONDITION: 1}
    assert [entry["name"] for entry in house.mortal.journal] == ["d/03"]


async def test_a_noncurrent_version_is_not_brought_back_by_a_copy(house: House) -> None:
    _copying(house)
    await house.store.update_bucket(BUCKET, versioning=True)
    there = await house.store.read_objects(BUCKET, ["d/02"], [ABSENT])
    await house.write("d/02", b"newer")
    await house.write("list.csv", f"{BUCKET},d/02,{there.generations[0]}\n".encode())
    job = await house.create(COPYING, ("manifest", {"bucket": BUCKET, "name": "list.csv"}))
    assert await house.run(job)
    _, (counters, errors) = await house.job(job)
    assert (counters.succeeded, set(errors)) == (0, {Code.FAILED_PRECONDITION})
    assert house.mortal.journal == []
    assert [row[2] for row in await _versions(house, "d/02")] == [True, False]


async def test_rows_that_name_nothing_share_no_fate(house: House) -> None:
    """One named generation is left by somebody while it is announced; another never was."""
    there = await house.store.read_objects(BUCKET, ["d/02"], [ABSENT])
    rows = [f"{BUCKET},d/02,{there.generations[0]}"]
    rows += [f"{BUCKET},d/{number:02d}" for number in range(10, 14)]
    rows += [f"{BUCKET},d/02,12345"]
    await house.write("list.csv", "\n".join(rows).encode())

    async def meddle(where: str) -> None:
        if where == "before patch_objects":
            house.fate.at_boundary = None
            await house.write("d/02", b"newer")

    house.fate.at_boundary = meddle
    hold = ("put_object_hold", {"temporary_hold": True})
    job = await house.create(hold, ("manifest", {"bucket": BUCKET, "name": "list.csv"}))
    assert await house.run(job)
    _, (counters, errors) = await house.job(job)
    assert (counters.total, counters.succeeded, counters.failed) == (6, 4, 2)
    assert {code: one.count for code, one in errors.items()} == {
        Code.FAILED_PRECONDITION: 1,
        Code.NOT_FOUND: 1,
    }


@pytest.mark.parametrize(
    "writer", ["checkpoint", "finish", "hand_back", "let_go", "finish_plan", "give_up", "renew"]
)
async def test_an_older_attempt_writes_nothing(house: House, writer: str) -> None:
    await house.create(("delete_object", {"permanent": True}), PREFIX)
    (old,) = await house.outside.write(leases.claim, "old", {}, 4, 1)
    await house.outside.write(leases.release)
    (new,) = await house.outside.write(leases.claim, "new", {}, 4, 1)
    assert new.attempt == old.attempt + 1
    counters = Counters(total=7)
    announcement = shards.Announcement(intent=None, cursor={}, found=1, bytes_found=1)
    arguments: dict[str, tuple[Any, ...]] = {
        "checkpoint": (old, counters, {}, announcement, 1),
        "finish": (old, counters, {}, State.SUCCEEDED, 1),
        "hand_back": (old, counters, {}),
        "let_go": (old,),
        "finish_plan": (old, [{}], "main", 1),
        "give_up": (old, Internal("no"), 1),
    }

    async def rows() -> Any:
        statement = text("SELECT * FROM shards")
        return await house.outside.read(lambda connection: connection.execute(statement).all())

    before = await rows()
    if writer == "renew":
        assert await house.outside.write(leases.renew, {old.id: old.attempt}) == frozenset()
    else:
        with pytest.raises(shards.LeaseLost):
            await house.outside.write(getattr(shards, writer), *arguments[writer])
    assert await rows() == before

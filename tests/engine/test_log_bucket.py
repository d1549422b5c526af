"""Logs of jobs in a bucket: a record for whatever is counted, whoever dies and whatever refuses."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from longshore.engine import carry
from longshore.errors import Error, PermissionDenied, Unavailable
from longshore.settings import LogSettings
from longshore.store import Bucket, Outcome
from tests.faults import Crash
from tests.house import House

OBJECTS = 12
HOLD = ("put_object_hold", {"temporary_hold": True})
EVERYTHING = ("prefix_list", {"prefixes": ["d/"]})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = await _open(tmp_path)
    yield house
    await house.close()


async def _open(directory: Path) -> House:
    house = House(directory)
    house.settings = replace(house.settings, logs=LogSettings(to="gs://logs/of/the harbour/"))
    await house.open()
    await house.store.create_bucket(Bucket(name="logs", create_time_us=0))
    for number in range(OBJECTS):
        await house.write(f"d/{number:02d}")
    return house


async def _objects(house: House) -> dict[str, bytes]:
    """The objects of the log, by name."""
    names = [n async for page in house.store.list_objects("logs") for n in page.names]
    return {
        name: b"".join([piece async for piece in house.store.read_bytes("logs", name)])
        for name in names
    }


async def _records(house: House) -> list[dict[str, Any]]:
    lines = b"".join((await _objects(house)).values()).splitlines()
    return [orjson.loads(line)["jsonPayload"] for line in lines]


async def _recorded(house: House) -> Counter[str]:
    """How many records each object has."""
    target = "PutObjectHold"
    return Counter(
        record[target]["objectMetadataBefore"]["gcsObject"]["objectKey"]
        for record in await _records(house)
    )


def _refuse(house: House, monkeypatch: pytest.MonkeyPatch, *errors: Error) -> list[str]:
    """Have the first writes to the log bucket fail, each with its error; gives the names tried."""
    write, left, tried = house.mortal.write_objects, list(errors), []

    async def refused(bucket: str, objects: Any) -> Outcome:
        tried.extend(new.name for new in objects)
        if left:
            raise left.pop(0)
        return await write(bucket, objects)  # type: ignore[no-any-return]

    monkeypatch.setattr(house.mortal, "write_objects", refused)
    return tried


async def test_a_batch_is_an_object_whose_name_says_whose_it_is(house: House) -> None:
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded) == ("SUCCEEDED", OBJECTS)
    objects = await _objects(house)
    assert len(objects) == 3  # of five at most
    shape = rf"of/the harbour/p/{row.job_id}/shard-\d+/\d{{8}}T\d{{6}}\.\d{{6}}Z-0001-[0-9a-f]{{8}}"
    for name, content in objects.items():
        assert re.fullmatch(rf"{shape}\.jsonl", name)
        assert content.endswith(b"\n")
    assert set((await _recorded(house)).values()) == {1}
    assert house.records() == []


async def test_whenever_it_dies_what_is_counted_has_a_record(house: House) -> None:
    """In each life somewhere else, the first time and then the second time it gets there."""
    verbs = ("write_objects", "checkpoint", "patch_objects")
    ends = [(f"{when} {what}", n) for n in (1, 2) for when in ("before", "after") for what in verbs]
    for number in range(OBJECTS, 80):
        await house.write(f"d/{number:02d}")
    left = 0

    async def die(where: str) -> None:
        nonlocal left
        left -= bool(ends) and where == ends[0][0]
        if ends and left == 0:
            house.fate.dead = True
            raise Crash(where)

    house.fate.at_boundary = die
    job, lives = await house.create(HOLD, EVERYTHING), 0
    while ends:
        left = ends[0][1]
        assert not await house.run(job)
        _, (counters, _) = await house.job(job)
        assert len(await _recorded(house)) >= counters.succeeded
        ends.pop(0)
        lives += 1
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded, lives) == ("SUCCEEDED", 80, 12)
    assert len(await _recorded(house)) == 80


async def test_what_passes_is_tried_again_at_once_under_another_name(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = _refuse(house, monkeypatch, Unavailable("busy"), Unavailable("busy"))
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    assert len(tried) == len(set(tried)) == 5
    assert set(await _objects(house)) == set(tried[2:])
    assert not any("settled" in record for record in await _records(house))


async def test_while_the_bucket_refuses_nothing_is_counted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = _refuse(house, monkeypatch, *[PermissionDenied("no such right")] * 4)
    seen = []

    async def look(where: str) -> None:
        if where == "before checkpoint" and len(tried) in range(1, 5):
            seen.append((await house.job(job))[1][0].succeeded)

    house.fate.at_boundary = look
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    assert not any(seen)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded) == ("SUCCEEDED", OBJECTS)
    assert len(await _recorded(house)) == OBJECTS


async def test_a_bucket_that_refuses_for_long_fails_the_job_and_is_named(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry, "PATIENCE_SECONDS", 5.0)
    _refuse(house, monkeypatch, *[PermissionDenied("no such right")] * 1_000)
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert row.state == "FAILED"
    assert re.search(r"gs://logs/of/the harbour/p/.* PERMISSION_DENIED: no such", row.error_message)
    assert counters.total == 5  # one batch was announced, and done


async def test_no_job_has_the_bucket_of_the_logs(house: House) -> None:
    """Each batch that it deletes would be another object there: it would have no end."""
    await house.store.create_bucket(Bucket(name="papers", create_time_us=0))
    assert not house.settings.may_use("p", "logs")
    assert house.settings.may_use("p", "papers")
    job = await house.create(("delete_object", {"permanent": False}), EVERYTHING, buckets=("logs",))
    async with asyncio.timeout(20):
        assert await house.run(job)
    row, _ = await house.job(job)
    assert row.state == "FAILED"
    assert "'logs', so no job may have it" in row.error_message

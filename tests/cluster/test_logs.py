"""Machines whose disks are lost, and the records of what they have counted."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from longshore.store import Bucket, Store
from tests.cluster.conftest import EVERYTHING, Start, end
from tests.cluster.harbour import Program
from tests.harbour import HOLD

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

OBJECTS = 4_000
LOGGED = {"loggingConfig": {"logActions": ["TRANSFORM"], "logActionStates": ["SUCCEEDED"]}}
BUCKET = "job-logs"


def test_what_is_counted_has_a_record_when_the_disk_is_lost(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a machine whose logs go to standard output, and of one with a bucket."""
    cluster = start(OBJECTS, machines=0, rate=800)
    asyncio.run(cluster.store.create_bucket(Bucket(name=BUCKET, create_time_us=0)))
    for to in ("stdout", f"gs://{BUCKET}/harbour"):
        monkeypatch.setenv("LONGSHORE_LOGS__TO", to)
        cluster.add_machine()
    printing, _ = cluster.machines
    operation = cluster.create(EVERYTHING, HOLD | LOGGED)
    cluster.until(lambda: len(_printed(printing)) > 500, 60, "print")
    cluster.until(lambda: len(_kept(cluster.store)) > 500, 60, "write to the bucket")
    for machine in cluster.machines:
        machine.kill()
        _lose_disk(cluster.directory / machine.name)
        machine.start()
    end(cluster, operation, OBJECTS)
    printed, kept = _printed(printing), _kept(cluster.store)
    assert len(printed) < OBJECTS
    assert len(kept) < OBJECTS
    assert len(printed | kept) == OBJECTS
    assert not list(cluster.directory.glob("worker-*/logs"))


def _lose_disk(data_dir: Path) -> None:
    """All but who it is: else its leases would have to be waited for."""
    who = (data_dir / "id").read_text()
    shutil.rmtree(data_dir)
    data_dir.mkdir()
    (data_dir / "id").write_text(who)


def _printed(machine: Program) -> set[str]:
    """The objects of which there are records among what a machine said, here all in one file."""
    return set(_objects(line for line in machine.log().splitlines() if line.startswith("{")))


def _kept(store: Store) -> set[str]:
    async def read() -> list[bytes]:
        pages = store.list_objects(BUCKET, prefix="harbour/local/")
        names = [name async for page in pages for name in page.names]
        return [piece for name in names async for piece in store.read_bytes(BUCKET, name)]

    return set(_objects(b"".join(asyncio.run(read())).splitlines()))


def _objects(lines: Any) -> Iterator[str]:
    for line in lines:
        with suppress(orjson.JSONDecodeError):  # half a line, of who was killed within it
            record = orjson.loads(line)["jsonPayload"]
            yield record["PutObjectHold"]["objectMetadataBefore"]["gcsObject"]["objectKey"]

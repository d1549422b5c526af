"""The real service, killed by SIGKILL again and again: the counters stay exact."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from longshore.store import Bucket, NewObject
from tests.crash.reckoning import reckon_delete, reckon_patch
from tests.service import Service, counters, stream

PREFIX = {"prefixList": {"includedObjectPrefixes": ["d/"]}}
DELETE = {"deleteObject": {"permanentObjectDeletionEnabled": True}}
CONTEXT = {"customContextUpdates": {"updates": {"team": {"value": "dock"}}}}
PATCHES: dict[str, dict[str, Any]] = {
    "hold": {"putObjectHold": {"temporaryHold": "SET"}},
    "metadata": {"putMetadata": {"contentType": "text/plain", "customMetadata": {"a": "1"}}},
    "contexts": {"updateObjectCustomContext": CONTEXT},
    "rewrite": {"rewriteObject": {"storageClass": "COLDLINE"}},
    "acls": {
        "setObjectAcls": {
            "accessControlsUpdates": {"grants": [{"entity": "allUsers", "role": "READER"}]}
        }
    },
}


class Harbour:
    """A service with a bucket ``b``: objects under ``d/``, and 50 under ``k/`` to be left alone."""

    def __init__(
        self, directory: Path, objects: int, rate: float, database: str | None = None
    ) -> None:
        self.gate = directory / "gate"
        self.gate.mkdir()
        self.objects = objects
        self.service = Service(directory, workers=2, rate=rate, gate=self.gate, database=database)
        self.random = random.Random(objects)
        self.kills = 0
        self._counted = 0
        asyncio.run(self._load())
        self.initial = self.service.listing("b", "d/")
        self.kept = self.service.listing("b", "k/", ("content_type", "contexts", "storage_class"))

    async def _load(self) -> None:
        store = self.service.store
        await store.create_bucket(Bucket(name="b", create_time_us=0))
        content = b"x" * 100
        new = (NewObject(name=f"d/{n:06d}", content=content) for n in range(self.objects))
        await store.write_objects("b", new)
        kept = (NewObject(name=f"k/{n}", content=content) for n in range(50))
        await store.write_objects("b", kept)

    def counters(self, operation: str) -> dict[str, int]:
        return counters(self.service.job_of(operation))

    def kill_at(self, point: str, announced: int, operation: str | None = None) -> None:
        """Kill the service while a worker stands at ``point``, and start it again."""
        reached, hold = self.gate / f"{point}.reached", self.gate / f"{point}.hold"
        self.service.until(reached.exists, 30, f"reach {point} with {announced} announced")
        if operation is not None:
            job = self.service.job_of(operation)
            assert job["state"] in {"QUEUED", "RUNNING"}
        self._kill()
        hold.unlink()
        reached.unlink()
        self.service.start()

    def hold(self, point: str, announced: int) -> None:
        (self.gate / f"{point}.hold").write_text(str(announced))

    def kill_after_progress(self, operation: str) -> None:
        """Kill the service once the counters have moved since the last kill, and start it again."""

        def progress() -> bool:
            job = self.service.job_of(operation)
            assert job["state"] in {"QUEUED", "RUNNING"}, "the job ended before it could be killed"
            now = counters(job)
            handled = now.get("succeededObjectCount", 0) + now.get("failedObjectCount", 0)
            moved = handled > self._counted
            self._counted = max(handled, self._counted)
            return moved

        self.service.until(progress, 30, "make progress")
        time.sleep(self.random.random() * 0.05)  # anywhere within a batch
        self._kill()
        self.service.start()

    def _kill(self) -> None:
        self.service.kill()
        self.kills += 1

    def assert_kept(self) -> None:
        now = self.service.listing("b", "k/", ("content_type", "contexts", "storage_class"))
        assert now == self.kept

    @contextmanager
    def meddler(self, wanted: bool) -> Iterator[None]:
        """Somebody else writes under ``d/`` meanwhile."""
        if not wanted:
            yield
            return
        process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "tests.crash.meddler", str(self.service.directory), "7", "200000"),
                *("b", "d/"),
            ]
        )
        journal = self.service.directory / "meddler.jsonl"
        self.service.until(journal.exists, 10, "begin to meddle")
        try:
            yield
        finally:
            assert process.poll() is None, "the meddler must have lived throughout"
            process.kill()
            process.wait()


@pytest.fixture
def harbour(
    tmp_path: Path, new_database: Callable[[], str | None]
) -> Iterator[Callable[[int, float], Harbour]]:
    made: list[Harbour] = []

    def make(objects: int, rate: float) -> Harbour:
        made.append(Harbour(tmp_path, objects, rate, new_database()))
        return made[-1]

    yield make
    for one in made:
        one.service.close()


@pytest.mark.parametrize(
    "meddled",
    [pytest.param(False, marks=pytest.mark.services), True],
    ids=["alone", "meddled"],
)
def test_delete_of_100000_killed_eight_times(
    harbour: Callable[[int, float], Harbour], meddled: bool
) -> None:
    at = harbour(100_000, 20_000)
    at.service.start()
    with at.meddler(meddled):
        at.hold("before-checkpoint", 0)
        operation = at.service.create("b", PREFIX, DELETE)
        at.kill_at("before-checkpoint", 0, operation)
        at.hold("after-act", 1_000)
        at.kill_at("after-act", 1_000, operation)
        for _ in range(4):
            at.kill_after_progress(operation)
        at.hold("after-act", 60_000)
        at.kill_at("after-act", 60_000, operation)
        last = 99_990 if not meddled else 97_000
        at.hold("after-act", last)  # alone, this is the last batch
        at.kill_at("after-act", last, operation)
        job = at.service.done(operation)
    assert at.kills == 8
    assert job["state"] == "SUCCEEDED"
    found = reckon_delete(at.service, job, at.initial, "d/")
    assert found.settled > 0
    if not meddled:
        counted = counters(job)
        assert counted["totalObjectCount"] == 100_000
        assert counted["succeededObjectCount"] == 100_000
        assert counted.get("failedObjectCount", 0) == 0
        assert at.service.listing("b", "d/") is None
    at.assert_kept()


@pytest.mark.parametrize(
    ("kind", "meddled"),
    [
        *(pytest.param(kind, False, marks=pytest.mark.services) for kind in PATCHES),
        *((kind, True) for kind in ("metadata", "contexts", "rewrite")),
    ],
)
def test_patches_and_rewrites_killed(
    harbour: Callable[[int, float], Harbour], kind: str, meddled: bool
) -> None:
    at = harbour(10_000, 8_000)
    at.service.start()
    with at.meddler(meddled):
        at.hold("after-act", 1_000)
        operation = at.service.create("b", PREFIX, PATCHES[kind])
        at.kill_at("after-act", 1_000, operation)
        at.kill_after_progress(operation)
        job = at.service.done(operation)
    assert job["state"] == "SUCCEEDED"
    found = reckon_patch(at.service, job, at.initial)
    assert found.settled > 0
    if not meddled:
        assert counters(job)["succeededObjectCount"] == 10_000
    at.assert_kept()


def _manifest(at: Harbour, names: list[str]) -> dict[str, Any]:
    lines = "bucket,name,generation\r\n" + "".join(f"b,{name}\r\n" for name in names)

    async def write() -> None:
        await at.service.store.create_bucket(Bucket(name="papers", create_time_us=0))
        await at.service.store.write_object("papers", "list/a.csv", stream(lines.encode()))

    asyncio.run(write())
    return {"manifest": {"manifestLocation": "gs://papers/list/*.csv"}}


def test_delete_by_manifest_with_absent_rows_killed(
    harbour: Callable[[int, float], Harbour],
) -> None:
    at = harbour(9_000, 8_000)
    names = [*at.initial.names, *(f"d/never-{n}" for n in range(1_000))]
    at.random.shuffle(names)
    source = _manifest(at, names)
    at.service.start()
    at.hold("after-act", 1_000)
    operation = at.service.create("b", source, DELETE)
    at.kill_at("after-act", 1_000, operation)
    at.kill_after_progress(operation)
    at.kill_after_progress(operation)
    job = at.service.done(operation)
    counted = counters(job)
    assert counted["totalObjectCount"] == 10_000
    assert counted["succeededObjectCount"] == 9_000
    assert counted["failedObjectCount"] == 1_000
    (summary,) = job["errorSummaries"]
    assert (summary["errorCode"], summary["errorCount"]) == ("NOT_FOUND", "1000")
    assert len(summary["errorLogEntries"]) == 5
    assert counted["totalBytesTransformed"] == 900_000
    assert at.service.listing("b", "d/") is None
    at.assert_kept()


def test_delete_by_manifest_with_repeated_rows_killed(
    harbour: Callable[[int, float], Harbour],
) -> None:
    at = harbour(9_900, 8_000)
    names = list(at.initial.names)
    names += at.random.sample(names, 100)
    at.random.shuffle(names)
    source = _manifest(at, names)
    at.service.start()
    operation = at.service.create("b", source, DELETE)
    at.kill_after_progress(operation)
    at.kill_after_progress(operation)
    job = at.service.done(operation)
    counted = counters(job)
    assert counted["totalObjectCount"] == len(names) == 10_000
    assert counted["succeededObjectCount"] + counted.get("failedObjectCount", 0) == 10_000
    summaries = job.get("errorSummaries", [])
    assert {one["errorCode"] for one in summaries} <= {"NOT_FOUND"}
    assert counted["totalBytesTransformed"] == 990_000
    assert at.service.listing("b", "d/") is None
    at.assert_kept()

"""The real service over a real emulator, killed by SIGKILL again and again: each object is changed
once, and counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from longshore.settings import StoreSettings
from longshore.testing import emulator
from tests.service import Service, counters

pytestmark = pytest.mark.services  # needs nothing, but takes its time

BUCKET = "quay"
PREFIX = {"prefixList": {"includedObjectPrefixes": ["d/"]}}
CONTEXT = {"customContextUpdates": {"updates": {"team": {"value": "dock"}}}}
COUNT = 500
RATE = 200.0
KILLS = 2


class Harbour:
    """A service whose objects are in an emulator."""

    def __init__(self, directory: Path, url: str) -> None:
        options = {"endpoint": url, "anonymous": True, "project": "port"}
        store = StoreSettings(name="main", kind="gs", buckets=("*",), options=options)
        self.service = Service(directory, workers=2, rate=RATE, store=store)
        self.http = httpx.Client(base_url=url)
        made = {"name": BUCKET, "versioning": {"enabled": True}}
        self.http.post("/storage/v1/b?project=port", json=made).raise_for_status()
        for name in (*(f"d/{number:04}" for number in range(COUNT)), "k/other"):
            upload = f"/upload/storage/v1/b/{BUCKET}/o"
            self.http.post(upload, params={"name": name}, content=b"x").raise_for_status()

    def versions(self, prefix: str) -> list[dict[str, Any]]:
        """Every version, as the API has it."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            asked = {"prefix": prefix, "versions": "true", "pageToken": token}
            page = self.http.get(f"/storage/v1/b/{BUCKET}/o", params=asked).json()
            found += page.get("items", [])
            token = page.get("nextPageToken", "")
            if not token:
                return found

    def survive(self, what: dict[str, Any]) -> dict[str, int]:
        """The counters of a job whose service was killed as often as that."""
        operation = self.service.create(BUCKET, PREFIX, what)
        for kill in range(1, KILLS + 1):
            self.service.until(self._has_done(operation, kill * COUNT // (KILLS + 2)), 60, "go on")
            assert self.service.job_of(operation)["state"] in ("QUEUED", "RUNNING")
            self.service.kill()
            self.service.start()
        job = self.service.done(operation)
        assert job["state"] == "SUCCEEDED"
        return counters(job)

    def _has_done(self, operation: str, least: int) -> Callable[[], bool]:
        return lambda: (
            counters(self.service.job_of(operation)).get("succeededObjectCount", 0) >= least
        )


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Harbour]:
    with emulator() as running:
        harbour = Harbour(tmp_path, running.url)
        yield harbour
        harbour.service.close()
        harbour.http.close()


def test_jobs_are_exact(harbour: Harbour) -> None:
    harbour.service.start()
    counted = harbour.survive({"updateObjectCustomContext": CONTEXT})
    assert counted["succeededObjectCount"] == counted["totalObjectCount"] == COUNT
    assert counted["objectCustomContextsCreated"] == COUNT
    found = harbour.versions("d/")
    assert len(found) == COUNT
    assert {one["contexts"]["custom"]["team"]["value"] for one in found} == {"dock"}
    assert {one["metageneration"] for one in found} == {"2"}

    counted = harbour.survive({"rewriteObject": {"storageClass": "COLDLINE"}})
    assert counted["succeededObjectCount"] == counted["totalObjectCount"] == COUNT
    found = harbour.versions("d/")
    assert len(found) == 2 * COUNT
    assert sum(one["storageClass"] == "COLDLINE" for one in found) == COUNT
    assert {one["contexts"]["custom"]["team"]["value"] for one in found} == {"dock"}

    counted = harbour.survive({"deleteObject": {}})
    assert counted["succeededObjectCount"] == counted["totalObjectCount"] == COUNT
    assert len(harbour.versions("d/")) == 2 * COUNT
    live = harbour.http.get(f"/storage/v1/b/{BUCKET}/o").json()["items"]
    assert [one["name"] for one in live] == ["k/other"]

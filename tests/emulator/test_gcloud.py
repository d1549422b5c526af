"""gcloud, unmodified, against the emulator: what a newcomer does, and what scripts do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from longshore.testing import Emulator
from tests.api.clients.programs import gcloud_environment
from tests.conftest import need

pytestmark = pytest.mark.services


class Storage:
    """``gcloud storage …`` on one emulator."""

    def __init__(self, emulated: Emulator, home: Path) -> None:
        self._environment = {
            **gcloud_environment(emulated.url, home),
            **emulated.environment,
            "LC_ALL": "C.UTF-8",
        }

    def run(self, *arguments: str) -> str:
        """What it prints; fails the test unless it succeeds."""
        done = self._done(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """What it says of an error."""
        done = self._done(*arguments)
        assert done.returncode == 1, done.stderr
        return done.stderr

    def _done(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["gcloud", "storage", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def read(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--format=json"))


@pytest.fixture(scope="module")
def gcloud(longshore_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    need("gcloud")
    return Storage(longshore_emulator, tmp_path_factory.mktemp("gcloud"))


@pytest.fixture(scope="module")
def bucket(gcloud: Storage) -> Iterator[str]:
    url = "gs://gcloud-bucket"
    gcloud.run("buckets", "create", url, "--location=eu", "--uniform-bucket-level-access")
    yield url
    gcloud.run("rm", "-r", url)
    assert gcloud.run("buckets", "list", "--format=value(name)").split() == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cargo")
    (made / "sub dir").mkdir()
    (made / "a.txt").write_text("hello")
    (made / "sub dir" / "ü.txt").write_text("below")
    (made / "large").write_bytes(bytes(range(256)) * 40_000)  # above 8 MiB: resumable
    return made


def test_buckets(gcloud: Storage, bucket: str) -> None:
    gcloud.run("buckets", "update", bucket, "--update-labels=a=b", "--default-event-based-hold")
    described = gcloud.read("buckets", "describe", bucket)
    assert (described["labels"], described["location"]) == ({"a": "b"}, "EU")
    assert described["default_event_based_hold"] is True
    gcloud.run("buckets", "update", bucket, "--clear-labels", "--no-default-event-based-hold")
    assert "labels" not in gcloud.read("buckets", "describe", bucket)
    assert "409" in gcloud.refused("buckets", "create", bucket)


def test_a_folder_goes_up_and_comes_down(
    gcloud: Storage, bucket: str, folder: Path, tmp_path: Path
) -> None:
    gcloud.run("cp", "-r", str(folder), f"{bucket}/up")
    listed = gcloud.run("ls", "-r", f"{bucket}/up/**").split("\n")[:-1]
    assert listed == [f"{bucket}/up/{name}" for name in ("a.txt", "large", "sub dir/ü.txt")]
    gcloud.run("cp", "-r", f"{bucket}/up", str(tmp_path))
    for name in ("a.txt", "large", "sub dir/ü.txt"):
        assert (tmp_path / "up" / name).read_bytes() == (folder / name).read_bytes()
    assert gcloud.run("ls", f"{bucket}/up/*.txt") == f"{bucket}/up/a.txt\n"
    assert gcloud.run("cat", f"{bucket}/up/a.txt") == "hello"
    gcloud.run("mv", f"{bucket}/up/a.txt", f"{bucket}/up/b.txt")
    gcloud.run("cp", f"{bucket}/up/b.txt", f"{bucket}/up/c.txt")
    gcloud.run("rsync", "-r", "--delete-unmatched-destination-objects", str(folder), f"{bucket}/up")
    assert gcloud.run("ls", "-r", f"{bucket}/up/**").split("\n")[:-1] == listed
    gcloud.run("rm", "-r", f"{bucket}/up")
    assert "matched no objects" in gcloud.refused("ls", f"{bucket}/up/**")


def test_objects_are_held_by_gcloud_and_by_a_job(
    gcloud: Storage, bucket: str, folder: Path
) -> None:
    gcloud.run("cp", str(folder / "a.txt"), f"{bucket}/held/a.txt")
    gcloud.run("objects", "update", f"{bucket}/held/a.txt", "--temporary-hold")
    gcloud.run("objects", "update", f"{bucket}/held/a.txt", "--update-custom-metadata=k=v")
    described = gcloud.read("objects", "describe", f"{bucket}/held/a.txt")
    assert (described["temporary_hold"], described["custom_fields"]) == (True, {"k": "v"})
    assert "under active Temporary hold" in gcloud.refused("rm", f"{bucket}/held/a.txt")
    gcloud.run("objects", "update", f"{bucket}/held/a.txt", "--no-temporary-hold")
    jobs = ("batch-operations", "jobs")
    prefix = (f"--bucket={bucket[5:]}", "--included-object-prefixes=held/")
    gcloud.run(*jobs, "create", "hold", *prefix, "--put-object-event-based-hold")
    wait(gcloud, "hold")
    assert "under active Event-Based hold" in gcloud.refused("rm", f"{bucket}/held/a.txt")
    gcloud.run(*jobs, "create", "free", *prefix, "--no-put-object-event-based-hold")
    wait(gcloud, "free")
    gcloud.run(*jobs, "create", "delete", *prefix, "--delete-object")
    wait(gcloud, "delete")
    assert "matched no objects" in gcloud.refused("ls", f"{bucket}/held/**")


def wait(gcloud: Storage, job: str) -> None:
    for _ in range(60):
        state = gcloud.read("batch-operations", "jobs", "describe", job)["state"]
        if state not in ("RUNNING", "QUEUED"):
            break
    assert state == "SUCCEEDED"


def test_what_was_deleted_is_listed_and_restored(
    gcloud: Storage, bucket: str, longshore_emulator: Emulator
) -> None:
    name = bucket.removeprefix("gs://")
    with httpx.Client(base_url=longshore_emulator.url, timeout=60) as http:

        def read() -> str:
            return http.get(f"/storage/v1/b/{name}/o/soft", params={"alt": "media"}).text

        for content in ("1", "2"):
            http.post(f"/upload/storage/v1/b/{name}/o?name=soft", content=content)
        gcloud.run("rm", f"{bucket}/soft")
        listed = gcloud.run("ls", "--soft-deleted", "-r", f"{bucket}/**").split()
        kept = [url for url in listed if url.startswith(f"{bucket}/soft#")]
        assert len(kept) == 2
        gcloud.run("restore", f"{bucket}/soft")
        assert read() == "2"
        gcloud.run("restore", kept[0])
        assert read() == "1"
        gcloud.run("buckets", "update", bucket, "--clear-soft-delete")
        policy = http.get(f"/storage/v1/b/{name}").json()["softDeletePolicy"]
        assert policy == {"retentionDurationSeconds": "0"}

"""gcloud, unmodified, against the emulator: what a newcomer does, and what scripts do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from longshore.testing import Emulator, emulator
from tests.api.clients.programs import gcloud_environment
from tests.conftest import need

pytestmark = pytest.mark.services


BATCH = ("batch-operations", "jobs")


class Storage:
    """``gcloud storage …`` on one emulator; a process takes about a second to start."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def but(self, **settings: str) -> Storage:
        """The same with other settings of its own, by their names below ``storage/``."""
        more = {f"CLOUDSDK_STORAGE_{name.upper()}": value for name, value in settings.items()}
        return Storage({**self._environment, **more})

    def asking(self) -> Storage:
        """The same that asks before it does what cannot be undone, and is told by ``given``."""
        return Storage({**self._environment, "CLOUDSDK_CORE_DISABLE_PROMPTS": "0"})

    def run(self, *arguments: str, given: str = "") -> str:
        """What it prints; fails the test unless it succeeds."""
        done = self._done(arguments, given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def together(self, *commands: Sequence[str]) -> list[str]:
        """What each prints, two running at a time: none needs what another one does."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda command: self.run(*command), commands))

    def refused(self, *arguments: str) -> str:
        """What it says of an error."""
        done = self._done(arguments)
        assert done.returncode == 1, done.stderr
        return done.stderr

    def read(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--format=json"))

    def _done(self, arguments: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["gcloud", "storage", *arguments],
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


def storage_of(emulator: Emulator, home: Path) -> Storage:
    need("gcloud")
    return Storage(
        {
            **gcloud_environment(emulator.url, home),
            **emulator.environment,
            "LC_ALL": "C.UTF-8",
        }
    )


@pytest.fixture(scope="module")
def gcloud(longshore_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return storage_of(longshore_emulator, tmp_path_factory.mktemp("gcloud"))


@pytest.fixture(scope="module")
def buckets(gcloud: Storage) -> Iterator[tuple[str, str]]:
    """Two; the tests of this module each use names of their own in them."""
    urls = ("gs://gcloud-one", "gs://gcloud-two")
    flags = ("--location=eu", "--uniform-bucket-level-access", "--enable-per-object-retention")
    gcloud.run("buckets", "create", *urls, *flags)
    yield urls
    gcloud.run("rm", "-r", *urls)
    assert gcloud.run("buckets", "list", "--format=value(name)").split() == []


@pytest.fixture(scope="module")
def bucket(buckets: tuple[str, str]) -> str:
    return buckets[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cargo")
    (made / "sub dir").mkdir()
    (made / "a.txt").write_text("hello")
    (made / "empty").touch()
    (made / "sub dir" / "ü.txt").write_text("below")
    (made / "large").write_bytes(bytes(range(256)) * 40_000)  # above 8 MiB: resumable
    (made / "many").mkdir()
    for number in range(100):
        (made / "many" / str(number)).write_text(str(number))
    return made


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_buckets(gcloud: Storage, folder: Path) -> None:
    url = "gs://gcloud-three"
    gcloud.run(
        "buckets", "create", url, "--default-storage-class=nearline", "--retention-period=1d"
    )
    flags = ("--update-labels=a=b", "--default-event-based-hold", "--versioning")
    gcloud.run("buckets", "update", url, *flags)
    described = gcloud.read("buckets", "describe", url)
    assert (described["labels"], described["location"]) == ({"a": "b"}, "US")
    assert described["default_event_based_hold"] is True
    assert described["versioning_enabled"] is True
    assert described["default_storage_class"] == "NEARLINE"
    assert described["retention_policy"]["retentionPeriod"] == "86400"
    flags = ("--clear-labels", "--no-default-event-based-hold", "--clear-retention-period")
    gcloud.run("buckets", "update", url, *flags)
    (listed,) = gcloud.read("buckets", "list", url)
    assert {"labels", "retention_policy"}.isdisjoint(listed)
    assert "HTTPError 409" in gcloud.refused("buckets", "create", url)

    for name in ("a.txt", "empty"):
        gcloud.run("cp", str(folder / name), f"{url}/versions")
    versions = gcloud.run("ls", "-a", f"{url}/versions").split()
    assert gcloud.run("cat", *versions) == "hello"  # and nothing, of the one after it
    gcloud.run("rm", "-r", url)
    assert "not found" in gcloud.refused("buckets", "delete", url)


def test_a_retention_policy_is_locked(gcloud: Storage) -> None:
    url = "gs://gcloud-locked"
    gcloud.run("buckets", "create", url, "--retention-period=1d")
    asked = gcloud.asking()
    asked.run("buckets", "update", url, "--lock-retention-period", given="y\n")
    assert "locked" in gcloud.refused("buckets", "update", url, "--clear-retention-period")
    gcloud.run("buckets", "delete", url)


def test_a_folder_goes_up_and_comes_down(
    gcloud: Storage, bucket: str, folder: Path, tmp_path: Path
) -> None:
    gcloud.run("cp", "-r", str(folder), f"{bucket}/up")
    there = sorted(f"{bucket}/up/{name}" for name in files(folder))
    everything, some, long, text, _ = gcloud.together(
        ["ls", "-r", f"{bucket}/up/**"],
        ["ls", f"{bucket}/up/m*/1?"],
        ["ls", "-l", f"{bucket}/up"],
        ["cat", f"{bucket}/up/a.txt", f"{bucket}/up/sub dir/*"],
        ["cp", "-r", f"{bucket}/up", str(tmp_path)],
    )
    assert everything.split("\n")[:-1] == there
    assert some.split() == [f"{bucket}/up/many/{number}" for number in range(10, 20)]
    assert re.search(r"^ +10240000  \S+Z  gs://gcloud-one/up/large$", long, re.MULTILINE)
    assert "TOTAL: 3 objects" in long
    assert text == "hellobelow"
    assert files(tmp_path / "up") == files(folder)
    gcloud.together(
        ["mv", f"{bucket}/up/many", f"{bucket}/up/moved"],
        ["cp", f"{bucket}/up/a.txt", f"{bucket}/up/b.txt"],
    )
    gcloud.run("rm", f"{bucket}/up/moved/1*", f"{bucket}/up/empty")
    assert len(gcloud.run("ls", "-r", f"{bucket}/up/**").split("\n")[:-1]) == len(there) - 11
    gcloud.run("rm", "-r", f"{bucket}/up")


def test_folders_are_kept_alike(
    gcloud: Storage, buckets: tuple[str, str], folder: Path, tmp_path: Path
) -> None:
    one, two = (f"{bucket}/alike" for bucket in buckets)
    rsync = ("rsync", "-r", "--delete-unmatched-destination-objects")
    gcloud.run(*rsync, str(folder), one)
    gcloud.together([*rsync, one, two], [*rsync, one, str(tmp_path)])
    assert files(tmp_path) == files(folder)
    (tmp_path / "many" / "1").unlink()
    (tmp_path / "a.txt").write_text("other")
    (tmp_path / "new").write_text("new")
    gcloud.run(*rsync, str(tmp_path), two)
    listed, text = gcloud.together(["ls", "-r", f"{two}/**"], ["cat", f"{two}/a.txt"])
    assert listed.split("\n")[:-1] == sorted(f"{two}/{name}" for name in files(tmp_path))
    assert text == "other"


def test_contents_go_their_several_ways(
    gcloud: Storage, bucket: str, folder: Path, tmp_path: Path
) -> None:
    large, text = str(folder / "large"), str(folder / "a.txt")
    in_parts = gcloud.but(
        parallel_composite_upload_enabled="True",
        parallel_composite_upload_threshold="1M",
        parallel_composite_upload_component_size="4M",
        sliced_object_download_threshold="1M",
        sliced_object_download_component_size="3M",
    )
    in_parts.run("cp", large, f"{bucket}/ways/large")
    in_parts.run("cp", f"{bucket}/ways/large", str(tmp_path))
    assert (tmp_path / "large").read_bytes() == (folder / "large").read_bytes()
    gcloud.run("cp", "-", f"{bucket}/ways/piped", given="from a pipe")
    ranged, *_ = gcloud.together(
        ["cat", "-r", "5-", f"{bucket}/ways/piped"],
        ["cp", "--gzip-in-flight-all", text, f"{bucket}/ways/in-flight"],
        ["cp", "-Z", "--storage-class=nearline", text, f"{bucket}/ways/packed"],
    )
    assert ranged == "a pipe"
    known = gcloud.read("objects", "list", f"{bucket}/ways/*")
    assert [(one["name"], one["size"]) for one in known[:2]] == [
        ("ways/in-flight", 5),
        ("ways/large", 10_240_000),
    ]
    assert known[1]["component_count"] == 3
    assert (known[2]["content_encoding"], known[2]["storage_class"]) == ("gzip", "NEARLINE")
    told = gcloud.refused("cp", "--if-generation-match=0", text, f"{bucket}/ways/packed")
    assert "HTTPError 412" in told


def test_objects(gcloud: Storage, bucket: str, folder: Path) -> None:
    url = f"{bucket}/objects"
    gcloud.run("cp", *(str(folder / "many" / name) for name in "123"), url + "/")
    update = ("objects", "update")
    gcloud.together(
        [*update, f"{url}/1", "--temporary-hold", "--update-custom-metadata=k=v,l=w"],
        [*update, f"{url}/2", "--event-based-hold", "--cache-control=no-store"],
        [*update, f"{url}/3", "--retain-until=2090-01-01T00:00:00Z", "--retention-mode=Unlocked"],
        ["objects", "compose", f"{url}/1", f"{url}/3", f"{url}/all"],
    )
    one, two, three, composed = gcloud.read("objects", "list", f"{url}/*")
    assert (one["temporary_hold"], one["custom_fields"]) == (True, {"k": "v", "l": "w"})
    assert (two["event_based_hold"], two["cache_control"]) == (True, "no-store")
    assert three["retention_settings"] == {
        "mode": "Unlocked",
        "retainUntilTime": "2090-01-01T00:00:00+00:00",
    }
    assert (composed["size"], composed["component_count"]) == (2, 2)
    told = gcloud.refused("rm", "--continue-on-error", f"{url}/*")
    assert "objects/1' is under active Temporary hold" in told
    assert "objects/2' is under active Event-Based hold" in told
    assert "objects/3' is subject to bucket's retention policy or object retention" in told
    sooner = (*update, f"{url}/3", "--retain-until=2080-01-01T00:00:00Z")
    assert "without overrideUnlockedRetention" in gcloud.refused(*sooner)
    gcloud.together(
        [*update, f"{url}/1", "--no-temporary-hold", "--update-custom-metadata=k=x"],
        [*update, f"{url}/2", "--no-event-based-hold", "--clear-cache-control"],
        [*update, f"{url}/3", "--clear-retention", "--override-unlocked-retention"],
    )
    described = gcloud.read("objects", "describe", f"{url}/1")
    assert described["custom_fields"] == {"k": "x", "l": "w"}
    gcloud.run("rm", f"{url}/*")


def test_jobs(gcloud: Storage, bucket: str, folder: Path) -> None:
    url = f"{bucket}/jobs"
    gcloud.run("cp", "-r", str(folder / "many"), url)
    source = f"--bucket={bucket[5:]}"
    prefix = "--included-object-prefixes=jobs/"
    gcloud.run(*BATCH, "create", "hold", source, prefix, "--put-object-event-based-hold")
    held = ended(gcloud, "hold")
    assert held["counters"]["succeededObjectCount"] == "100"
    assert "under active Event-Based hold" in gcloud.refused("rm", f"{url}/1")
    assert "JOB_FINISHED" in gcloud.refused(*BATCH, "cancel", "hold")

    manifest = f"bucket,name\n{bucket[5:]},jobs/1\n{bucket[5:]},jobs/2\n"
    gcloud.run("cp", "-", f"{bucket}/manifest.csv", given=manifest)
    manifest = f"--manifest-location={bucket}/manifest.csv"
    gcloud.run(
        *BATCH, "create", "some", source, manifest, "--put-metadata=k=v,Content-Type=text/csv"
    )
    assert ended(gcloud, "some")["counters"]["succeededObjectCount"] == "2"
    described = gcloud.read("objects", "describe", f"{url}/2")
    assert (described["custom_fields"], described["content_type"]) == ({"k": "v"}, "text/csv")

    gcloud.run(*BATCH, "create", "free", source, prefix, "--no-put-object-event-based-hold")
    ended(gcloud, "free")
    gcloud.run(*BATCH, "delete", "some")
    listed = gcloud.run(*BATCH, "list", "--format=value(name.basename(),state)")
    assert sorted(listed.split("\n")[:-1]) == ["free\tSUCCEEDED", "hold\tSUCCEEDED"]


def ended(gcloud: Storage, job: str, state: str = "SUCCEEDED") -> Any:
    """A job as it is when it has ended."""
    for _ in range(60):
        described = gcloud.read(*BATCH, "describe", job)
        if described["state"] not in ("RUNNING", "QUEUED"):
            break
    assert described["state"] == state
    return described


def test_a_job_that_runs_is_cancelled(tmp_path: Path) -> None:
    seed = tmp_path / "seed.json"
    objects = [{"name": f"cargo/{number:03}"} for number in range(500)]
    seed.write_text(json.dumps({"buckets": [{"name": "gcloud-slow", "objects": objects}]}))
    with emulator(seed=seed, max_objects_per_second=4) as slow:
        gcloud = storage_of(slow, tmp_path)
        source = ("--bucket=gcloud-slow", "--included-object-prefixes=cargo/")
        gcloud.run(*BATCH, "create", "hold", *source, "--put-object-temporary-hold")
        counters: dict[str, str] = {}
        while not int(counters.get("succeededObjectCount", 0)):
            described = gcloud.read(*BATCH, "describe", "hold")
            counters = described.get("counters", {})
        assert described["state"] == "RUNNING"
        gcloud.run(*BATCH, "cancel", "hold")
        cancelled = ended(gcloud, "hold", "CANCELED")
        listed = gcloud.read("objects", "list", "gs://gcloud-slow/cargo/*")
    held = sum(bool(one.get("temporary_hold")) for one in listed)
    assert 0 < held == int(cancelled["counters"]["succeededObjectCount"]) < len(listed) == 500


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

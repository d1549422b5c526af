"""A service that goes on from an older database: nothing is done twice, what is counted is true."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longshore.store import Bucket, NewObject
from tests.service import Service, counters

OBJECTS = 6_000
PREFIX = {"prefixList": {"includedObjectPrefixes": ["d/"]}}
DELETE = {"deleteObject": {"permanentObjectDeletionEnabled": True}}
CONTEXT = {"customContextUpdates": {"updates": {"team": {"value": "dock"}}}}


class Vault:
    """Backs the database of a service up, and puts it back, as docs/operating.md says."""

    def __init__(self, service: Service, request: pytest.FixtureRequest) -> None:
        self._service = service
        self._request = request
        self._file = service.directory / "backup"

    def back_up(self) -> None:
        if self._service.database is None:
            self._run(sys.executable, "-m", "longshore", "backup", str(self._file), *self._config())
        else:
            options = ("--format=custom", f"--file={self._file}")
            self._run(str(self._bin / "pg_dump"), *options, self._service.database)

    def restore(self) -> None:
        if self._service.database is None:
            words = ("restore", str(self._file), *self._config())
            self._run(sys.executable, "-m", "longshore", *words)
            return
        url = self._request.getfixturevalue("new_database")()
        options = ("--no-owner", "--single-transaction", f"--dbname={url}")
        self._run(str(self._bin / "pg_restore"), *options, str(self._file))
        text = self._service.config.read_text()
        self._service.config.write_text(text.replace(self._service.database, url))
        self._service.database = url

    def _config(self) -> tuple[str, str]:
        return ("--config", str(self._service.config))

    @property
    def _bin(self) -> Path:
        from tests.services.postgresql import binaries

        found = binaries()
        assert found is not None
        return found

    @staticmethod
    def _run(*words: str) -> None:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def service(tmp_path: Path, new_database: Callable[[], str | None]) -> Iterator[Service]:
    made = Service(tmp_path, rate=2_000, database=new_database())
    asyncio.run(_load(made))
    made.start()
    yield made
    made.close()


async def _load(service: Service) -> None:
    for bucket in ("gone", "kept"):
        await service.store.create_bucket(Bucket(name=bucket, create_time_us=0))
        new = (NewObject(name=f"d/{n:06d}", content=b"x" * 50) for n in range(OBJECTS))
        await service.store.write_objects(bucket, new)


def _done(service: Service, operation: str) -> int:
    return counters(service.job_of(operation)).get("succeededObjectCount", 0)


def test_an_older_database_goes_on_and_does_nothing_twice(
    service: Service, request: pytest.FixtureRequest
) -> None:
    vault = Vault(service, request)
    delete = service.create("gone", PREFIX, DELETE)
    patch = service.create("kept", PREFIX, {"updateObjectCustomContext": CONTEXT})
    jobs = (delete, patch)
    service.until(lambda: all(_done(service, job) > 500 for job in jobs), 60, "make progress")
    vault.back_up()
    then = [_done(service, job) for job in jobs]
    service.until(
        lambda: all(_done(service, job) > 1_000 + was for job, was in zip(jobs, then, strict=True)),
        60,
        "go on after the backup",
    )
    service.stop()
    left = len(service.listing("gone", "d/"))
    vault.restore()
    service.start()
    deleted, patched = (service.done(job, 90) for job in jobs)
    assert {job["state"] for job in (deleted, patched)} == {"SUCCEEDED"}
    # Every object of the patch is there to be looked at: each counts once, and was written once.
    assert counters(patched)["totalObjectCount"] == OBJECTS
    assert counters(patched)["succeededObjectCount"] == OBJECTS
    assert set(service.listing("kept", "d/").metagenerations) == {2}
    # Of the deletion, what went after the backup and was not announced in it is in no listing.
    counted = counters(deleted)
    assert counted["totalObjectCount"] == counted["succeededObjectCount"]
    assert left < counted["succeededObjectCount"] < OBJECTS
    assert service.listing("gone", "d/") is None
    settled = [one for one in service.records() if one.get("settled")]
    assert settled, "what was announced in the backup was looked at first"


def test_backup_and_restore_refuse_what_would_be_lost(service: Service, tmp_path: Path) -> None:
    if service.database is not None:
        refused = _cli("backup", str(tmp_path / "x"), "--config", str(service.config))
        assert "pg_dump" in refused.stderr
        return
    config = ("--config", str(service.config))
    file = tmp_path / "x.sqlite"
    assert _cli("backup", str(file), *config).returncode == 0
    again = _cli("backup", str(file), *config)
    assert (again.returncode, "exists" in again.stderr) == (1, True)
    busy = _cli("restore", str(file), *config)
    assert f"process {service.pid}" in busy.stderr
    service.stop()
    torn = tmp_path / "torn.sqlite"
    torn.write_bytes(file.read_bytes()[:5_000])
    for wrong in (torn, service.config, tmp_path / "none"):
        assert _cli("restore", str(wrong), *config).returncode == 1
    assert _cli("restore", str(file), *config).returncode == 0
    service.start()


def _cli(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "longshore", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

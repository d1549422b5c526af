"""The real service on a real PostgreSQL that restarts, and on one that another service has."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from longshore.database import schema
from tests.harbour import alive
from tests.runner.harbour import begin, end
from tests.service import PROJECT, Service

if TYPE_CHECKING:
    from tests.services.postgresql import Postgresql

pytestmark = pytest.mark.services

OBJECTS = 8_000


@pytest.fixture
def service(tmp_path: Path, postgresql: Postgresql) -> Iterator[Service]:
    made = Service(tmp_path, workers=2, rate=1_500, database=postgresql.new_database())
    made.fill(OBJECTS)
    made.start()
    yield made
    made.close()


def test_restarts_under_load_lose_nothing_and_double_nothing(
    service: Service, postgresql: Postgresql
) -> None:
    operation = begin(service)
    workers = service.workers()
    for mode in ("fast", "immediate"):
        before = service.done_by(operation)
        service.until(lambda: service.done_by(operation) > before, 30, "make progress")  # noqa: B023
        postgresql.stop(mode)
        try:
            refused = service.http.get(f"/v1/{operation}")
            assert refused.status_code == 503, refused.text
            assert refused.json()["error"]["status"] == "UNAVAILABLE"
            assert "127.0.0.1" in refused.json()["error"]["message"]
        finally:
            postgresql.start()
        service.until(
            lambda: service.http.get(f"/v1/{operation}").status_code == 200, 30, "answer again"
        )
    end(service, operation, OBJECTS)
    assert service.workers() == workers, "nobody had to be replaced"
    assert not any(record.get("settled") for record in service.records())


def test_a_connection_that_is_cut_again_and_again(service: Service, postgresql: Postgresql) -> None:
    """Each session is ended some fifty times, wherever it is: in the middle of a transaction, in
    its commit."""
    operation = begin(service)
    database = str(service.database).rpartition("/")[2]
    for _ in range(50):
        postgresql.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{database}' AND application_name = 'longshore'"
        )
        time.sleep(0.03)  # anywhere within a batch
    end(service, operation, OBJECTS)


def test_connections_stay_within_what_is_documented(
    service: Service, postgresql: Postgresql
) -> None:
    operation = begin(service)
    database = str(service.database).rpartition("/")[2]
    most = 0
    while not service.get(operation).get("done"):
        ((found,),) = postgresql.ask(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
        )
        most = max(most, found)
    assert 3 <= most <= 5 * (2 + 1) + 3


def test_a_second_service_elsewhere_is_refused_and_told_who_has_it(
    service: Service, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    second = Service(elsewhere, database=service.database)
    refused = subprocess.run(
        [sys.executable, "-m", "longshore", "serve", "--config", str(second.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    second.close()
    assert refused.returncode == 1
    assert f"longshore serve, process {service.pid} on " in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_lock_is_taken_anew_after_a_restart(service: Service, postgresql: Postgresql) -> None:
    database = str(service.database).rpartition("/")[2]
    holders = (
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'longshore serve%'"
        f" AND datname = '{database}'"
    )
    (before,) = postgresql.ask(holders)
    postgresql.ask(f"SELECT pg_terminate_backend({before[0]})")
    service.until(lambda: postgresql.ask(holders) not in ([], [before]), 30, "take the lock again")
    assert service.http.get("/healthz").status_code == 200


def test_leases_of_another_data_directory_end_by_standing_still(
    service: Service, tmp_path: Path
) -> None:
    """The machine of the first service is gone, its last word is a lease."""
    operation = begin(service)
    service.kill()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    second = Service(elsewhere, workers=1, lease_seconds=21, database=service.database)
    # The same objects, as two machines see the same buckets of a remote store.
    second.data_dir.mkdir()
    for entry in service.data_dir.iterdir():
        if entry.name not in {"id", "lock"}:
            (second.data_dir / entry.name).symlink_to(entry)
    began = time.monotonic()
    try:
        second.start()
        assert "taken_over=0" in second.log()
        # What was free goes on at once; the job ends no sooner than the last of the leases.
        end(second, operation, OBJECTS)
        assert time.monotonic() - began > 21
    finally:
        second.close()


def test_serve_refuses_a_schema_that_is_behind(
    service: Service, postgresql: Postgresql, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert service.http.get(f"/v1/{PROJECT}/jobs").status_code == 200
    config = ("--config", str(service.config))
    assert schema.HEAD in cli("database", "check", *config).stdout
    assert "already" in cli("database", "upgrade", *config).stdout
    orphans = service.workers()
    service.stop()
    assert not any(map(alive, orphans))
    database = str(service.database).rpartition("/")[2]
    postgresql.ask("UPDATE alembic_version SET version_num = '0000'", database)
    for words in (("serve",), ("database", "check")):
        refused = cli(*words, *config)
        assert refused.returncode == 1
        assert "longshore database upgrade" in refused.stderr
    postgresql.ask(f"UPDATE alembic_version SET version_num = '{schema.HEAD}'", database)
    service.start()


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "longshore", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run

"""How soon one machine's service does what every runner promises (conformance/test_runner.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harbour import HOLD, alive, counters
from tests.service import Service

ALL = {"prefixList": {"includedObjectPrefixes": ["d/"]}}


@pytest.fixture
def serve(
    tmp_path: Path, new_database: Callable[[], str | None]
) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(*, objects: int = 0, rate: float | None = None) -> Service:
        service = Service(tmp_path, rate=rate, database=new_database())
        made.append(service)
        service.fill(objects)
        service.start()
        return service

    yield make
    for one in made:
        one.close()


def test_a_running_job_is_cancelled_by_its_operation(serve: Callable[..., Service]) -> None:
    service = serve(objects=20_000, rate=5_000)
    operation = service.create("b", ALL, HOLD)
    service.until(
        lambda: counters(service.job_of(operation)).get("succeededObjectCount", 0) > 1_000,
        10,
        "make progress",
    )
    asked = time.monotonic()
    reply = service.http.post(f"/v1/{operation}:cancel")
    answered = time.monotonic()
    assert (reply.status_code, reply.json()) == (200, {})
    assert answered - asked < 1.0
    assert service.get(operation)["metadata"]["requestedCancellation"] is True
    # A quiet machine takes a tenth of a second; at this rate the job would go on for three more.
    service.until(lambda: service.get(operation)["done"], 2.0, "end the cancelled operation")
    ended = service.get(operation)
    assert ended["error"]["code"] == 1
    assert "response" not in ended
    job = service.job_of(operation)
    assert job["state"] == "CANCELED"
    held = service.listing("b", "d/", ("temporary_hold",)).columns["temporary_hold"]
    assert sum(held) == counters(job)["succeededObjectCount"] < 20_000
    assert counters(job).get("failedObjectCount", 0) == 0
    time.sleep(0.5)  # long enough for ten batches, had anything gone on
    assert service.job_of(operation) == job
    assert service.listing("b", "d/", ("temporary_hold",)).columns["temporary_hold"] == held
    for _ in range(2):  # again, on the finished operation: {} and nothing changes
        assert service.http.post(f"/v1/{operation}:cancel", json={}).json() == {}
    assert service.get(operation) == ended


def test_two_jobs_together_do_not_exceed_the_cap(serve: Callable[..., Service]) -> None:
    service = serve(objects=10_000, rate=5_000)
    service.until(lambda: service.http.get("/readyz").status_code == 200, 10, "be ready")
    began = time.monotonic()
    operations = [service.create("b", ALL, HOLD), service.create("b", ALL, HOLD)]
    jobs = list(map(service.done, operations))
    took = time.monotonic() - began
    assert [counters(job)["succeededObjectCount"] for job in jobs] == [10_000, 10_000]
    # Each job by itself would take 2 s. How near they come to the cap depends on the machine, so
    # that is tested in virtual time, in engine/test_limits.py; `done` sees that they end.
    assert took >= 20_000 / (1.05 * 5_000)


def test_after_sigkill_a_job_goes_on_within_a_second(serve: Callable[..., Service]) -> None:
    service = serve(objects=20_000, rate=4_000)
    operation = service.create("b", ALL, HOLD)
    service.until(
        lambda: counters(service.job_of(operation)).get("succeededObjectCount", 0) > 0,
        10,
        "make progress",
    )
    before = counters(service.job_of(operation))["succeededObjectCount"]
    orphans = service.workers()
    service.kill(workers=False)  # they die with their parent
    service.until(lambda: not any(map(alive, orphans)), 5.0, "lose its workers")
    started = service.start()
    assert started < 15.0
    again = time.monotonic()
    service.until(
        lambda: counters(service.job_of(operation))["succeededObjectCount"] > before + 200,
        10,
        "go on",
    )
    # Far less than a lease, so none is waited for; a quiet machine takes less than a second.
    assert time.monotonic() - again < 5.0
    job = service.done(operation)
    assert counters(job)["succeededObjectCount"] == 20_000


def test_sigterm_drains_and_the_next_service_goes_on(serve: Callable[..., Service]) -> None:
    service = serve(objects=8_000, rate=4_000)
    operation = service.create("b", ALL, HOLD)
    service.until(
        lambda: counters(service.job_of(operation)).get("succeededObjectCount", 0) > 0,
        10,
        "make progress",
    )
    workers = service.workers()
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 5.0
    assert not any(map(alive, workers))
    service.start()
    job = service.done(operation)
    assert counters(job)["succeededObjectCount"] == 8_000
    assert not any(record.get("settled") for record in service.records())

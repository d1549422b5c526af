"""The service as processes: the lock, starting again, orphans, and cancelling what runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longshore.store import Bucket, NewObject
from tests.service import PROJECT, Service, counters

HOLD = {"putObjectHold": {"temporaryHold": "SET"}}
ALL = {"prefixList": {"includedObjectPrefixes": ["d/"]}}


@pytest.fixture
def serve(
    tmp_path: Path, new_database: Callable[[], str | None]
) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(*, objects: int = 0, rate: float | None = None) -> Service:
        service = Service(tmp_path, rate=rate, database=new_database())
        made.append(service)
        asyncio.run(_load(service, objects))
        service.start()
        return service

    yield make
    for one in made:
        one.close()


async def _load(service: Service, objects: int) -> None:
    await service.store.create_bucket(Bucket(name="b", create_time_us=0))
    new = (NewObject(name=f"d/{number:06d}", content=b"x" * 50) for number in range(objects))
    await service.store.write_objects("b", new)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_running_job_is_cancelled_by_its_operation(serve: Callable[..., Service]) -> None:
    service = serve(objects=20_000, rate=5_000)
    operation = service.create("b", ALL, HOLD)
    service.until(
        lambda: counters(service.job_of(operation)).get("succeededObjectCount", 0) > 1_000,
        30,
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


def test_a_second_service_is_refused_and_names_the_first(serve: Callable[..., Service]) -> None:
    service = serve()
    second = subprocess.run(
        [sys.executable, "-m", "longshore", "serve", "--config", str(service.config)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert str(service.data_dir) in second.stderr
    assert f"process {service.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_after_sigkill_a_job_goes_on_within_a_second(serve: Callable[..., Service]) -> None:
    service = serve(objects=20_000, rate=4_000)
    operation = service.create("b", ALL, HOLD)
    service.until(
        lambda: counters(service.job_of(operation)).get("succeededObjectCount", 0) > 0,
        30,
        "make progress",
    )
    before = counters(service.job_of(operation))["succeededObjectCount"]
    orphans = service.workers()
    service.kill(workers=False)  # they die with their parent
    service.until(lambda: not any(map(_alive, orphans)), 5.0, "lose its workers")
    started = service.start()
    assert started < 15.0
    again = time.monotonic()
    service.until(
        lambda: counters(service.job_of(operation))["succeededObjectCount"] > before + 200,
        30,
        "go on",
    )
    # Far less than a lease, so none is waited for; a quiet machine takes less than a second.
    assert time.monotonic() - again < 5.0
    job = service.done(operation)
    assert counters(job)["succeededObjectCount"] == 20_000


def test_a_dead_worker_is_replaced(serve: Callable[..., Service]) -> None:
    service = serve(objects=8_000, rate=4_000)
    operation = service.create("b", ALL, HOLD)
    (worker,) = service.workers()
    os.kill(worker, signal.SIGKILL)
    job = service.done(operation)
    assert job["state"] == "SUCCEEDED"
    assert counters(job)["succeededObjectCount"] == 8_000
    assert service.workers() != [worker]


def test_sigterm_drains_and_the_next_service_goes_on(serve: Callable[..., Service]) -> None:
    service = serve(objects=8_000, rate=4_000)
    operation = service.create("b", ALL, HOLD)
    service.until(
        lambda: counters(service.job_of(operation)).get("succeededObjectCount", 0) > 0,
        30,
        "make progress",
    )
    workers = service.workers()
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 5.0
    assert not any(map(_alive, workers))
    service.start()
    job = service.done(operation)
    assert counters(job)["succeededObjectCount"] == 8_000
    assert not any(record.get("settled") for record in service.records())


def test_the_log_goes_with_its_job(serve: Callable[..., Service]) -> None:
    service = serve(objects=10)
    operation = service.create("b", ALL, HOLD)
    name = service.done(operation)["name"]
    assert len(service.records()) == 10
    assert service.http.delete(f"/v1/{name}").json() == {}
    service.until(lambda: not service.records(), 10, "remove the log")
    assert service.get(operation)["done"] is True


def test_one_failing_bucket_fails_the_job_and_the_others_run(
    serve: Callable[..., Service],
) -> None:
    service = serve(objects=100)
    operation = service.create(["missing", "b"], ALL, HOLD)
    job = service.done(operation)
    assert job["state"] == "FAILED"
    assert job["isMultiBucketJob"] is True
    assert counters(job)["succeededObjectCount"] == 100
    listed = service.get(f"{job['name']}/bucketOperations")["bucketOperations"]
    states = {one["bucketName"]: one["state"] for one in listed}
    assert states == {"missing": "FAILED", "b": "SUCCEEDED"}
    error = service.get(operation)["error"]
    assert error["code"] == 5
    assert "missing" in error["message"]


def test_jobs_wait_for_nobody_on_an_idle_service(serve: Callable[..., Service]) -> None:
    service = serve(objects=3)
    service.until(lambda: service.http.get("/readyz").status_code == 200, 10, "be ready")
    assert service.http.get("/readyz").json() == {"database": True, "workers": True}
    began = time.monotonic()
    job = service.done(service.create("b", ALL, HOLD))
    assert job["state"] == "SUCCEEDED"
    assert time.monotonic() - began < 5.0
    assert service.http.get(f"/v1/{PROJECT}/jobs").json()["jobs"][0]["name"] == job["name"]

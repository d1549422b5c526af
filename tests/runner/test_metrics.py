"""``/metrics`` of a real service with two workers."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from longshore.model import State
from tests.harbour import HOLD
from tests.runner.harbour import ALL, begin, end
from tests.service import Service

OBJECTS = 2_000
SUCCEEDED = 'longshore_objects_total{outcome="succeeded",transformation="put_object_hold"}'


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, workers=2, rate=2_000)
    service.fill(OBJECTS)
    service.start()
    yield service
    service.close()


def test_metrics_are_of_all_workers(service: Service) -> None:
    operation = begin(service)
    service.until(lambda: service.metrics()["longshore_workers"] == 2, 10, "count both workers")
    end(service, operation, OBJECTS)
    service.until(lambda: service.metrics().get(SUCCEEDED) == OBJECTS, 10, "count all objects")
    metrics = service.metrics()
    assert metrics["longshore_worker_starts_total"] == 2
    calls = 'longshore_store_call_seconds_count{code="OK",store="main",verb="patch_objects"}'
    assert 0 < metrics[calls] <= metrics["longshore_checkpoint_seconds_count"]
    assert metrics["longshore_checkpoint_seconds_sum"] > 0
    service.until(
        lambda: service.metrics()['longshore_jobs{state="SUCCEEDED"}'] == 1, 10, "count the job"
    )
    metrics = service.metrics()
    assert metrics['longshore_jobs{state="RUNNING"}'] == 0
    with sqlite3.connect(service.data_dir / "longshore.sqlite") as database:
        found = dict(database.execute("SELECT state, count(*) FROM shards GROUP BY state"))
    database.close()
    shards = {state: metrics[f'longshore_shards{{state="{state.value}"}}'] for state in State}
    assert shards == {state: found.get(state.value, 0) for state in State}
    assert shards[State.SUCCEEDED] > 0


def test_what_a_dead_worker_counted_stays_counted(service: Service) -> None:
    operation = begin(service)
    service.until(lambda: service.metrics().get(SUCCEEDED, 0) > 0, 10, "count objects")
    counted = service.metrics()[SUCCEEDED]
    for worker in service.workers():
        os.kill(worker, signal.SIGKILL)
    service.until(
        lambda: service.metrics().get('longshore_worker_deaths_total{reason="died"}') == 2,
        10,
        "bury both workers",
    )
    assert service.metrics()[SUCCEEDED] >= counted
    end(service, operation, OBJECTS)
    assert service.metrics()["longshore_worker_starts_total"] == 4


def test_the_page_is_what_prometheus_reads(service: Service) -> None:
    operation = begin(service)
    end(service, operation, OBJECTS)
    service.until(lambda: SUCCEEDED in service.metrics(), 10, "count objects")
    reply = service.http.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(reply.text)}
    assert families["longshore_jobs"].type == "gauge"
    assert families["longshore_objects"].type == "counter"
    latency = families["longshore_checkpoint_seconds"]
    assert latency.type == "histogram"
    buckets = [sample.value for sample in latency.samples if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    (count,) = (sample.value for sample in latency.samples if sample.name.endswith("_count"))
    assert buckets[-1] == count > 0
    for family in families.values():
        assert re.fullmatch(r"longshore_[a-z_]+", family.name)
        assert family.documentation


def test_shards_that_wait_say_why(service: Service) -> None:
    waiting = 'longshore_shards_waiting{reason="UNAVAILABLE",store="main"}'
    logs = service.data_dir / "logs"
    logs.write_bytes(b"a file where the logs' directory should be")
    operation = service.create("b", ALL, HOLD)
    service.until(lambda: service.metrics().get(waiting, 0) > 0, 30, "wait")
    assert service.job_of(operation)["state"] == "RUNNING"
    logs.unlink()
    end(service, operation, OBJECTS)
    service.until(lambda: service.metrics()[waiting] == 0, 10, "tell that nothing waits")

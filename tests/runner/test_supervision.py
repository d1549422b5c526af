"""Real workers that die, hang, and are asked to stop; bounds are generous, for busy machines."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from longshore.database import Database
from longshore.database.tables import shards
from longshore.settings import Settings
from longshore.supervisor import Supervisor
from tests.database.rows import claim, create, row
from tests.harbour import alive, state
from tests.runner.harbour import Serve, begin, end, suspend
from tests.service import Service

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

OBJECTS = 2_000
LEASE_SECONDS = 21.0


@pytest.fixture
def serve(tmp_path: Path, new_database: Callable[[], str | None]) -> Iterator[Serve]:
    made: list[Service] = []

    def make(*, objects: int = OBJECTS, rate: float = 1_000, logs: str = "files") -> Service:
        service = Service(
            tmp_path,
            workers=2,
            rate=rate,
            lease_seconds=LEASE_SECONDS,
            database=new_database(),
            logs=logs,
        )
        made.append(service)
        service.fill(objects)
        service.start()
        return service

    yield make
    for one in made:
        one.close()


def test_a_stopped_worker_is_ended_before_its_leases_and_others_go_on(serve: Serve) -> None:
    service = serve()
    operation = begin(service)
    victim, other = service.workers()
    suspend(victim)
    began = time.monotonic()
    service.until(lambda: not alive(victim), LEASE_SECONDS, "end the worker that hangs")
    assert time.monotonic() - began < LEASE_SECONDS
    end(service, operation, OBJECTS)
    assert alive(other)
    assert re.search(rf"worker hangs .*pid={victim} why=\"no heartbeat for 7.5 s\"", service.log())
    assert re.search(rf"worker died .*pid={victim} of=SIGKILL", service.log())
    metrics = service.metrics()
    assert metrics['longshore_worker_deaths_total{reason="hung"}'] == 1
    assert 'longshore_worker_deaths_total{reason="died"}' not in metrics


def test_workers_are_not_taken_for_hung_when_the_supervisor_stood_still(serve: Serve) -> None:
    service = serve()
    operation = begin(service)
    workers = service.workers()
    suspend(service.pid)
    service.until(lambda: state(service.pid) == "T", 10, "stand still")
    time.sleep(8)  # longer than a worker may be silent
    os.kill(service.pid, signal.SIGCONT)
    end(service, operation, OBJECTS)
    assert service.workers() == workers
    assert "worker hangs" not in service.log()


def test_a_worker_that_dies_young_is_replaced_with_growing_pauses(serve: Serve) -> None:
    service = serve(rate=400)
    operation = begin(service)
    steady = service.workers()[0]
    for deaths in range(1, 4):
        (victim,) = set(service.workers()) - {steady}
        os.kill(victim, signal.SIGKILL)
        service.until(
            lambda victim=victim: len(set(service.workers()) - {steady, victim}) == 1,
            30,
            f"replace the worker that died, number {deaths}",
        )
    pauses = re.findall(r"worker died .*of=SIGKILL .*restart_seconds=(\S+)", service.log())
    assert pauses == ["0.1", "0.2", "0.4"]
    assert service.workers()[0] == steady
    end(service, operation, OBJECTS)


def test_workers_end_with_their_parent_even_when_they_are_stopped(serve: Serve) -> None:
    service = serve()
    operation = begin(service)
    workers = service.workers()
    suspend(workers[0])
    service.kill(workers=False)
    began = time.monotonic()
    service.until(lambda: not any(map(alive, workers)), 10, "lose its workers")
    assert time.monotonic() - began < 2.0
    service.start()
    end(service, operation, OBJECTS)


def test_where_the_kernel_does_not_tell_the_pipe_says_that_the_parent_is_dead(
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path)
    asyncio.run(_create(settings))
    worker = subprocess.Popen(
        [sys.executable, "-m", "longshore.runners.local"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    data = pickle.dumps(("worker", os.getpid(), settings, None))
    worker.stdin.write(struct.pack("<I", len(data)) + data)
    worker.stdin.flush()
    for _ in range(4):  # its heart beats: it works, and goes on
        (length,) = struct.unpack("<I", worker.stdout.read(4))
        assert isinstance(orjson.loads(worker.stdout.read(length)), list)
    worker.stdin.close()
    assert worker.wait(10) == 1
    worker.stdout.close()


def test_what_killed_workers_counted_is_on_the_standard_output(serve: Serve) -> None:
    """And nothing else is there, nor any log of objects in files."""
    service = serve(logs="stdout")
    operation = begin(service)
    for _ in range(2):
        before = service.done_by(operation)
        os.kill(service.workers()[0], signal.SIGKILL)
        service.until(lambda before=before: service.done_by(operation) > before + 200, 60, "go on")
    end(service, operation, OBJECTS)
    recorded = set()
    for line in service.printed():
        with suppress(orjson.JSONDecodeError):  # half a line, of who was killed within it
            record = orjson.loads(line)["jsonPayload"]
            recorded.add(record["PutObjectHold"]["objectMetadataBefore"]["gcsObject"]["objectKey"])
    assert recorded == set(service.listing("b").names)
    assert service.records() == []


async def _create(settings: Settings) -> None:
    database = Database(settings.database_path)
    await database.create()
    await database.close()


def test_sigterm_drains_within_five_seconds_though_a_worker_does_not_answer(serve: Serve) -> None:
    service = serve()
    operation = begin(service)
    workers = service.workers()
    suspend(workers[0])
    began = time.monotonic()
    assert service.stop() == 0
    # 5 s on a quiet machine, 4 of which the worker is given.
    assert time.monotonic() - began < 8.0
    assert not any(map(alive, workers))
    assert "it did not hand back its shards within 4 s" in service.log()
    before = time.monotonic()
    service.start()
    moved = service.done_by(operation)
    service.until(lambda: service.done_by(operation) > moved, 30, "go on")
    assert time.monotonic() - before < LEASE_SECONDS  # nobody waited for the dead worker's leases
    end(service, operation, OBJECTS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_service_at_once(serve: Serve, number: signal.Signals) -> None:
    service = serve()
    operation = begin(service)
    workers = service.workers()
    suspend(workers[0])  # it would be waited for
    os.kill(service.pid, signal.SIGTERM)
    service.until(lambda: not alive(workers[1]), 10, "drain")
    assert alive(service.pid)
    os.kill(service.pid, number)
    assert service.wait(5) == -number
    service.until(lambda: not any(map(alive, workers)), 10, "lose its workers")
    assert "stopped at once" in service.log()
    service.start()
    end(service, operation, OBJECTS)


@pytest.mark.parametrize("drained", [False, True])
async def test_the_death_of_a_worker_is_counted_on_its_shards_but_in_a_drain(
    tmp_path: Path, drained: bool
) -> None:
    settings = Settings(data_dir=tmp_path)
    database = Database(settings.database_path)
    await database.create()
    await create(database)
    (leased,) = await claim(database, "the one")
    with (tmp_path / "lock").open("w") as lock:
        runner = Supervisor("longshore.runners.local", settings, database, lock.fileno())
        stop = asyncio.Event()
        running = asyncio.create_task(runner._run_one("the one", stop))
        while "the one" not in runner._children:
            await asyncio.sleep(0.01)
        if drained:
            stop.set()
        runner._children["the one"].process.kill()
        await running
    found = await row(database, shards)
    assert (found.id, found.owner, found.deaths) == (leased.id, None, 0 if drained else 1)
    await database.close()

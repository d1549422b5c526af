"""WaitOperation, and deletes of what is being cancelled: for one, for many, with every kind of
patience."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.longrunning import operations_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import select

from longshore.api import grpc_call, grpc_server, job_watch, wire
from longshore.api.by_size import BySize
from longshore.api.job_watch import JobWatch
from longshore.api.jobs import CANCELLING_WAIT_SECONDS, Jobs
from longshore.api.operations import WAIT_MAX_SECONDS, Operations
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database
from longshore.database.jobs import open_operations
from longshore.database.tables import jobs
from longshore.errors import FailedPrecondition, Unavailable
from tests.api.conftest import Clock, Project, Server
from tests.api.grpc.conftest import Both, raw

Operation = operations_pb2.Operation


def wait_request(name: str, seconds: float | None = None) -> Any:
    request = operations_pb2.WaitOperationRequest(name=name)
    if seconds is not None:
        request.timeout.FromNanoseconds(int(seconds * 1e9))
    return request


def waiting(
    channel: grpc.Channel, name: str, seconds: float | None = None, *, deadline: float | None = 60
) -> Future[bytes]:
    request = wait_request(name, seconds).SerializeToString()
    return raw(channel, f"{wire.OPERATIONS}/WaitOperation").future(request, timeout=deadline)


def test_many_wait_for_one_that_ends(channel: grpc.Channel, project: Project) -> None:
    name = project.create("j")["name"]
    calls = [waiting(channel, name, 60) for _ in range(20)]
    project.run("j", counters={"total": 1, "succeeded": 1})
    assert not any(call.done() for call in calls)
    project.finish("j")
    operations = [Operation.FromString(call.result(30)) for call in calls]
    assert all(one.done for one in operations)
    assert {one.WhichOneof("result") for one in operations} == {"response"}


def test_one_that_is_cancelled_over_rest(channel: grpc.Channel, project: Project) -> None:
    name = project.create("j")["name"]
    call = waiting(channel, name)
    project.ok("POST", f"{name}:cancel")
    assert Operation.FromString(call.result(30)).error.code == 1


def test_one_that_is_done(channel: grpc.Channel, project: Project) -> None:
    name = project.create("j")["name"]
    project.ok("POST", f"{name}:cancel")
    assert Operation.FromString(waiting(channel, name, 60).result(30)).done


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_the_timeout_ends_with_the_operation_as_it_is(
    channel: grpc.Channel, project: Project, seconds: float
) -> None:
    name = project.create("j")["name"]
    began = time.monotonic()
    operation = Operation.FromString(waiting(channel, name, seconds).result(30))
    assert time.monotonic() - began >= seconds
    assert (operation.name, operation.done) == (name, False)


def test_the_deadline_of_the_call_ends_it_in_time(channel: grpc.Channel, project: Project) -> None:
    """The client gets the operation, not DEADLINE_EXCEEDED."""
    name = project.create("j")["name"]
    for call in [waiting(channel, name, seconds, deadline=5) for seconds in (None, 60)]:
        operation = Operation.FromString(call.result(30))
        assert (operation.name, operation.done) == (name, False)


@pytest.mark.parametrize(
    ("asked", "remaining", "seconds"),
    [(None, 20, 19), (60, 20, 19), (60, 2, 1.8), (5, 20, 5), (60, None, 60), (60, -0.1, 0)],
)
def test_how_much_earlier_than_the_deadline(
    asked: float | None, remaining: float | None, seconds: float
) -> None:
    request = wait_request("o", asked)
    grpc_call.shorten(request, remaining)
    assert request.timeout.ToMicroseconds() == pytest.approx(seconds * 1e6, abs=1)


def test_one_that_is_deleted_meanwhile(channel: grpc.Channel, project: Project) -> None:
    name = project.create("j")["name"]
    call = waiting(channel, name, 60)
    project.ok("DELETE", name)
    with pytest.raises(grpc.RpcError) as gone:
        call.result(30)
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("name", "seconds", "code", "reason"),
    [
        ("projects/p/locations/global/operations/none", 60, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        ("projects/p/locations/moon/operations/none", 60, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        ("operations/none", None, "INVALID_ARGUMENT", "RESOURCE_NAME_INVALID"),
        ("projects/p/locations/global/none", 1, "INVALID_ARGUMENT", "RESOURCE_NAME_INVALID"),
        (
            "projects/p/locations/global/operations/none",
            -1,
            "INVALID_ARGUMENT",
            "TIMEOUT_INVALID",
        ),
    ],
)
def test_what_cannot_be_waited_for(
    channel: grpc.Channel, name: str, seconds: float | None, code: str, reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        waiting(channel, name, seconds).result(30)
    assert refused.value.code().name == code
    details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    assert reason.encode() in details


async def test_without_a_timeout_it_is_the_longest(server: Both, project: Project) -> None:
    """By a clock on which waiting takes no time."""
    clock = Clock()
    operations = Operations(server.database, clock, BySize())
    name = project.create("j")["name"]
    request = wire.message_class("google.longrunning.WaitOperationRequest")(name=name)
    waits: list[float] = []
    wait = clock.wait

    async def noted(event: asyncio.Event, seconds: float) -> bool:
        waits.append(seconds)
        return await wait(event, seconds)

    clock.wait = noted  # type: ignore[method-assign]
    assert not (await operations.wait_operation(request)).done
    request.timeout.seconds = 10**9
    assert not (await operations.wait_operation(request)).done
    assert [one for one in waits if one != job_watch.LOOK_SECONDS] == [WAIT_MAX_SECONDS] * 2


class Asked(Database):
    """Notes what it is asked, and is down for some questions."""

    def __init__(self, where: Path | str, *, down_for: int = 0) -> None:
        super().__init__(where)
        self.questions: list[Sequence[int]] = []
        self.writes = 0
        self._down_for = down_for

    async def read(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.questions.append(*args)
        if len(self.questions) <= self._down_for:
            raise Unavailable("The database is down.")
        return await super().read(function, *args, **kwargs)

    async def write(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        return await super().write(function, *args, **kwargs)


def row_of(server: Both, project: Project, job_id: str) -> int:
    mine = select(jobs.c.id).where(jobs.c.project == project.id, jobs.c.job_id == job_id)
    return int(server.write(lambda connection: connection.execute(mine).scalar_one()))


async def test_one_question_for_all_who_wait_and_none_for_nobody(
    server: Both, project: Project
) -> None:
    database = Asked(server.where)
    watch = JobWatch(database, SYSTEM_CLOCK, open_operations)
    names = [project.create(f"j{number}")["name"] for number in range(20)]
    rows = [row_of(server, project, f"j{number}") for number in range(20)]
    waiters = [asyncio.create_task(watch.ended(row, 60)) for row in rows for _ in range(5)]
    while len(database.questions) < 3:
        await asyncio.sleep(0.01)
    assert sorted(database.questions[1]) == rows
    for name in names:
        await asyncio.to_thread(project.ok, "POST", f"{name}:cancel")
    await asyncio.gather(*waiters)
    assert all(len(question) == len(set(question)) <= 20 for question in database.questions)
    await asyncio.sleep(2 * job_watch.LOOK_SECONDS)
    asked = len(database.questions)
    await asyncio.sleep(2 * job_watch.LOOK_SECONDS)
    assert len(database.questions) == asked
    await watch.ended(rows[0], 60)  # it looks again for whoever comes later
    await database.close()


async def test_who_waits_goes_on_when_the_database_was_down(server: Both, project: Project) -> None:
    database = Asked(server.where, down_for=2)
    watch = JobWatch(database, SYSTEM_CLOCK, open_operations)
    project.create("j")
    waiter = asyncio.create_task(watch.ended(row_of(server, project, "j"), 60))
    await asyncio.to_thread(project.ok, "POST", "/jobs/j:cancel")
    await waiter
    assert len(database.questions) >= 3
    await database.close()


@pytest.mark.parametrize("seen", [True, False])
async def test_deletes_that_wait_ask_one_question(
    server: Both, project: Project, seen: bool
) -> None:
    """Each writes when it comes and once the job has ended; whether the operation of a job is still
    to be seen makes no difference."""
    database = Asked(server.where)
    servicer = Jobs(database, SYSTEM_CLOCK, BySize(), lambda project, bucket: True)
    ids = [f"j{number}" for number in range(10)]
    for one in ids:
        operation = (await asyncio.to_thread(project.create, one))["name"]
        await asyncio.to_thread(project.run, one, counters={})
        await asyncio.to_thread(project.ok, "POST", f"{operation}:cancel")
        if not seen:
            await asyncio.to_thread(project.ok, "DELETE", operation)
    deletes = [asyncio.create_task(servicer.delete_job(delete_request(project, j))) for j in ids]
    while len(database.questions) < 4:
        await asyncio.sleep(0.01)
    assert database.writes == 10
    assert len(database.questions[-1]) == 10
    for one in ids:
        await asyncio.to_thread(project.finish, one, "CANCELED")
    await asyncio.gather(*deletes)
    assert database.writes == 20
    assert await asyncio.to_thread(project.ok, "GET", "/jobs") == {}
    await database.close()


async def test_a_delete_waits_five_seconds_for_a_cancelling_job(
    server: Both, project: Project
) -> None:
    """By a clock on which waiting takes no time."""
    clock = Clock()
    servicer = Jobs(server.database, clock, BySize(), lambda project, bucket: True)
    project.create("j")
    project.run("j", counters={})
    project.ok("POST", "/jobs/j:cancel")
    with pytest.raises(FailedPrecondition, match="being cancelled") as refused:
        await servicer.delete_job(delete_request(project, "j"))
    assert refused.value.reason == "JOB_NOT_FINISHED"
    assert clock.monotonic() >= CANCELLING_WAIT_SECONDS == 5


def delete_request(project: Project, job_id: str) -> Any:
    return wire.message_class(f"{wire.PACKAGE}.DeleteJobRequest")(name=project.job_name(job_id))


def test_waiters_in_two_loops(server: Both, project: Project) -> None:
    watch = JobWatch(server.database, SYSTEM_CLOCK, open_operations)
    project.create("j")
    row = row_of(server, project, "j")
    waiters = [
        asyncio.run_coroutine_threadsafe(watch.ended(row, 60), loop)
        for loop in (server.loop, server.grpc.loop)
    ]
    project.ok("POST", "/jobs/j:cancel")
    for waiter in waiters:
        waiter.result(30)


def test_the_end_of_the_server_ends_every_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc_server, "SHUTDOWN_SECONDS", 0.1)
    both = Both(tmp_path / "longshore.sqlite")
    both.start()
    try:
        with httpx.Client(base_url=both.url) as rest, grpc.insecure_channel(both.target) as channel:
            project = Project(both, rest)
            calls = [waiting(channel, project.create(f"j{n}")["name"], 60) for n in range(3)]
            health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            next(health)
            both.grpc.stop()
            for call in calls:
                with pytest.raises(grpc.RpcError) as ended:
                    call.result(30)
                codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                assert ended.value.code() in codes
    finally:
        Server.stop(both)
    assert not asyncio.all_tasks(both.grpc.loop)
    assert not caplog.records

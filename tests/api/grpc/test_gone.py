"""Clients that go away before they have their answer: that is logged, and nothing more."""

from __future__ import annotations

import json
import logging
import socket
import struct
import time
from collections.abc import Callable

import grpc
import pytest
from google.cloud import storagebatchoperations_v1 as sbo

from longshore.api import wire
from longshore.api.bodies import SMALL_MAX_BYTES
from tests.api.conftest import Project, delete_job
from tests.api.grpc.conftest import Both, raw

DELETE_JOB = f"{wire.SERVICE}/DeleteJob"


@pytest.fixture
def cancelling(project: Project) -> str:
    """A job that is being cancelled: its deletion waits for its end, for seconds."""
    project.create("j")
    project.run("j", counters={})
    project.ok("POST", "/jobs/j:cancel")
    return project.job_name("j")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def said(caplog: pytest.LogCaptureFixture, *words: str) -> bool:
    return any(all(word in record.getMessage() for word in words) for record in caplog.records)


def check_quiet(caplog: pytest.LogCaptureFixture) -> None:
    loud = [one for one in caplog.records if one.levelno > logging.INFO or one.exc_info]
    assert not loud


@pytest.mark.parametrize("reset", [False, True])
def test_over_rest_a_call_goes_on_to_its_end(
    server: Both,
    project: Project,
    cancelling: str,
    caplog: pytest.LogCaptureFixture,
    reset: bool,
) -> None:
    caplog.set_level(logging.INFO)
    with server.listening() as heard, socket.socket() as connection:
        connection.connect(("127.0.0.1", server.rest.port))
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(f"DELETE /v1/{cancelling} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: heard)
    project.finish("j", "CANCELED")
    until(lambda: said(caplog, "audit", "DeleteJob", "OK"))
    assert project.error("GET", "/jobs/j")["status"] == "NOT_FOUND"
    check_quiet(caplog)


@pytest.mark.parametrize("size_bytes", [100, SMALL_MAX_BYTES * 4])
def test_over_rest_a_request_that_was_not_sent_whole(
    server: Both, project: Project, caplog: pytest.LogCaptureFixture, size_bytes: int
) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_connection(("127.0.0.1", server.rest.port)) as connection:
        head = f"POST /v1/{project.parent}/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {size_bytes}"
        connection.sendall(f"{head}\r\n\r\n{{".encode() + b" " * (size_bytes // 2))
    until(lambda: said(caplog, "client_gone", f"/v1/{project.parent}/jobs"))
    assert said(caplog, "audit", "CreateJob", f"resource={project.parent} ", "status=CANCELLED")
    assert project.rows() == 0
    check_quiet(caplog)


@pytest.mark.parametrize("late", ["cancelled", "deadline", "channel closed"])
def test_over_grpc_a_call_is_cancelled(
    server: Both, project: Project, cancelling: str, caplog: pytest.LogCaptureFixture, late: str
) -> None:
    caplog.set_level(logging.INFO)
    request = sbo.DeleteJobRequest.serialize(sbo.DeleteJobRequest(name=cancelling))
    for _ in range(50):  # the first may be cancelled before the server has it
        with grpc.insecure_channel(server.target) as channel:
            patience = 0.2 if late == "deadline" else 30
            call = raw(channel, DELETE_JOB).future(request, timeout=patience)
            time.sleep(0.1)
            if late == "cancelled":
                call.cancel()
            if late == "deadline":
                assert call.exception(30).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if said(caplog, "client_gone", DELETE_JOB.replace("/", ".")):
            break
    else:
        pytest.fail("nothing says that the client is gone")
    until(lambda: said(caplog, "audit", "DeleteJob", "CANCELLED"))
    assert project.ok("GET", "/jobs/j")["state"] == "RUNNING"
    check_quiet(caplog)


def test_many_that_go_at_once(
    server: Both, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Whenever that is, a job is made whole or not at all, and the server goes on."""
    body = sbo.CreateJobRequest(parent=project.parent)
    body.job.bucket_list.buckets = [
        sbo.BucketList.Bucket(bucket="bucket-1", prefix_list=sbo.PrefixList())
    ]
    body.job.delete_object = sbo.DeleteObject()
    request = sbo.CreateJobRequest.serialize(body)
    with grpc.insecure_channel(server.target) as channel:
        create = raw(channel, f"{wire.SERVICE}/CreateJob")
        for number in range(40):
            call = create.future(request, timeout=30)
            time.sleep(number % 8 / 1000)
            call.cancel()
    data = json.dumps(delete_job()).encode()
    head = f"POST /v1/{project.parent}/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}"
    for _ in range(40):
        with socket.create_connection(("127.0.0.1", server.rest.port)) as connection:
            connection.sendall(f"{head}\r\n\r\n".encode() + data)
    project.create("last", delete_job())
    listed = project.ok("GET", "/jobs?pageSize=500")["jobs"]
    assert project.job_name("last") in [job["name"] for job in listed]
    for job in listed:
        assert len(project.ok("GET", f"{job['name']}/bucketOperations")["bucketOperations"]) == 1
    check_quiet(caplog)

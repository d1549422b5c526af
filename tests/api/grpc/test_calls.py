"""What goes over the wire: statuses with their details, bytes, limits, and fields of the future."""

from __future__ import annotations

import asyncio
import gzip
import logging
import queue
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.cloud import storagebatchoperations_v1 as sbo
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import update

from longshore.api import grpc_call, grpc_server, wire
from longshore.api.grpc_call import MESSAGE_MAX_BYTES
from longshore.api.status import to_status
from longshore.database.tables import jobs
from longshore.errors import InvalidArgument, Violation, invalid_field
from tests.api.conftest import Project, delete_job, details
from tests.api.grpc.conftest import Both, raw

GET_JOB = f"{wire.SERVICE}/GetJob"
CREATE_JOB = f"{wire.SERVICE}/CreateJob"
Code = grpc.StatusCode


def refused(channel: grpc.Channel, method: str, data: bytes) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refusal:
        raw(channel, method)(data, timeout=30)
    return refusal.value


def create_request(project: Project, job_id: str = "j") -> Any:
    request = wire.message_class(f"{wire.PACKAGE}.CreateJobRequest")(
        parent=project.parent, job_id=job_id
    )
    bucket = request.job.bucket_list.buckets.add(bucket="bucket-1")
    bucket.prefix_list.included_object_prefixes.append("tmp/")
    request.job.delete_object.SetInParent()
    return request


def test_an_error_has_the_details_that_rest_has(channel: grpc.Channel, project: Project) -> None:
    request = create_request(project, "Bad_Id")
    error = refused(channel, CREATE_JOB, request.SerializeToString())
    assert error.code() == Code.INVALID_ARGUMENT
    status = rpc_status.from_call(error)
    assert (status.code, status.message) == (3, error.details())
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    same = project.error("POST", "/jobs", params={"jobId": "Bad_Id"}, json=delete_job())
    assert same["message"] == error.details()
    of_rest = details(same)["ErrorInfo"]
    assert (info.reason, info.domain) == (of_rest["reason"], of_rest["domain"])


def test_bad_fields_are_told_apart(channel: grpc.Channel, project: Project) -> None:
    request = create_request(project)
    request.job.bucket_list.buckets.add(bucket="No Bucket").prefix_list.SetInParent()
    body = delete_job("bucket-1", "No Bucket")
    body["bucketList"]["buckets"][1]["prefixList"] = {}
    error = refused(channel, CREATE_JOB, request.SerializeToString())
    found = [error_details_pb2.BadRequest() for _ in rpc_status.from_call(error).details]
    assert [
        one
        for packed, bad in zip(rpc_status.from_call(error).details, found, strict=True)
        if packed.Unpack(bad)
        for one in [(violation.field, violation.description) for violation in bad.field_violations]
    ] == [
        (one["field"], one["description"])
        for one in details(project.error("POST", "/jobs", json=body))["BadRequest"][
            "fieldViolations"
        ]
    ]


def test_an_error_is_no_longer_than_a_client_takes(channel: grpc.Channel, project: Project) -> None:
    """Clients refuse more than 8 KiB of metadata, and then do not say what the error was."""
    for name in ("x" * 1_000_000, "ü" * 100_000):
        request = sbo.GetJobRequest.serialize(sbo.GetJobRequest(name=name))
        error = refused(channel, GET_JOB, request)
        assert error.code() == Code.INVALID_ARGUMENT, error
        assert error.details().startswith("Invalid ")
    request = create_request(project)
    for number in range(200):
        request.job.bucket_list.buckets.add(bucket=f"No Bucket {number} " + "é" * 300)
    error = refused(channel, CREATE_JOB, request.SerializeToString())
    assert error.code() == Code.INVALID_ARGUMENT, error
    assert rpc_status.from_call(error) is not None


def test_what_is_cut_off_an_error() -> None:
    violations = tuple(Violation(f"f[{n}]", "ä" * 200) for n in range(50))
    code, message, data = grpc_call.spelt(
        InvalidArgument("ü" * 5000, reason="WHY", metadata={"a": "b"}, violations=violations)
    )
    status = wire.Status.FromString(data)
    assert (code, status.message) == (Code.INVALID_ARGUMENT, message)
    assert message.endswith("ü...")
    bad = wire.BadRequest.FromString(status.details[1].value)
    assert 5 < len(bad.field_violations) < 50
    assert bad.field_violations[0].field == "f[0]"
    assert bad.field_violations[0].description.endswith("ä...")


@pytest.mark.parametrize("length", [1, 1000, 1500])
def test_nothing_is_cut_off_where_it_fits(length: int) -> None:
    error = invalid_field("f", "x" * length)
    code, message, data = grpc_call.spelt(error)
    assert (code, message) == (Code.INVALID_ARGUMENT, error.message)
    assert data == to_status(error).SerializeToString()


@pytest.mark.parametrize(
    ("method", "data"),
    [
        (GET_JOB, b"\xff\xff\xff"),
        (GET_JOB, b"\x0a\x02\xc3\x28"),  # a name that is no UTF-8
        (GET_JOB, b""),
        (GET_JOB, b"\x0a\x28projects/p/locations/global/jobs/\0abcdef"),
        (CREATE_JOB, b"\x1a\xff\x01"),
        (CREATE_JOB, b"\x0b" * 10_000),  # groups in groups
        (f"{wire.OPERATIONS}/WaitOperation", b"\x12\x05\x08\x01\xff\xff\xff"),
        (f"{wire.LOCATIONS}/ListLocations", b"\x18"),
    ],
)
def test_what_is_no_message(
    channel: grpc.Channel, method: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert refused(channel, method, data).code() == Code.INVALID_ARGUMENT
    assert not caplog.records


def test_what_is_no_method(channel: grpc.Channel) -> None:
    for method in (f"{wire.SERVICE}/Nothing", "no.Service/GetJob", f"{wire.OPERATIONS}/"):
        assert refused(channel, method, b"").code() == Code.UNIMPLEMENTED


def test_random_messages_are_refused_or_served(
    channel: grpc.Channel, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes of good requests with some of them changed: never an error of the server's."""
    dice = random.Random(5)
    whole = create_request(project, "")
    whole.job.description = "x"
    whole.job.create_time.seconds = 1
    whole.job.logging_config.log_actions.append(6)
    seed = whole.SerializeToString()
    codes = set()
    for _ in range(400):
        data = bytearray(seed)
        for _ in range(dice.choice((1, 1, 2, 5))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            raw(channel, CREATE_JOB)(bytes(data), timeout=30)
            codes.add(Code.OK)
        except grpc.RpcError as error:
            codes.add(error.code())
    assert codes <= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.UNIMPLEMENTED}
    assert codes >= {Code.OK, Code.INVALID_ARGUMENT}
    assert not caplog.records


def test_an_internal_error_is_logged_once_and_tells_the_client_nothing(
    server: Both, channel: grpc.Channel, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """The bug here is a job's row that nobody could have written."""
    project.create("j")
    broken = update(jobs).where(jobs.c.project == project.id).values(message=b"no zstd")
    server.write(lambda connection: connection.execute(broken))
    request = sbo.GetJobRequest(name=project.job_name("j"))
    with caplog.at_level(logging.ERROR):
        error = refused(channel, GET_JOB, sbo.GetJobRequest.serialize(request))
    assert error.code() == Code.INTERNAL
    assert "zstd" not in error.details().lower()
    assert not rpc_status.from_call(error).details
    (record,) = caplog.records
    assert record.exc_info is not None
    assert GET_JOB.replace("/", ".") in record.getMessage()


def test_announced_fields_are_neither_read_nor_written(
    channel: grpc.Channel, client: sbo.StorageBatchOperationsClient, project: Project
) -> None:
    request = create_request(project, "sent")
    request.job.set_object_acls.SetInParent()
    assert not request.job.HasField("delete_object")
    error = refused(channel, CREATE_JOB, request.SerializeToString())
    assert error.code() == Code.INVALID_ARGUMENT

    body: dict[str, Any] = {**delete_job(), "rewriteObject": {"storageClass": "NEARLINE"}}
    del body["deleteObject"]
    name = project.create("j", body)["name"]
    project.run("j", counters={"bytes_transformed": 9})
    shown = project.ok("GET", "/jobs/j")
    assert shown["counters"]["totalBytesTransformed"] == "9"
    assert shown["rewriteObject"] == {"storageClass": "NEARLINE"}
    project.finish("j")
    operation = client.get_operation(operations_pb2.GetOperationRequest(name=name))
    listed = client.list_operations(operations_pb2.ListOperationsRequest(name=project.parent))
    packed = [
        one for found in (operation, *listed.operations) for one in (found.metadata, found.response)
    ]
    messages = [
        sbo.Job.pb(client.get_job(name=project.job_name("j"))),
        *[
            sbo.BucketOperation.pb(part)
            for part in client.list_bucket_operations(parent=project.job_name("j"))
        ],
        *[sbo.OperationMetadata.pb().FromString(one.value) for one in packed[::2]],
        *[sbo.Job.pb().FromString(one.value) for one in packed[1::2]],
    ]
    assert len(messages) == 6
    for message in messages:
        size = message.ByteSize()
        message.DiscardUnknownFields()
        assert message.ByteSize() == size
    assert messages[0].HasField("rewrite_object")


def test_a_request_of_more_than_the_limit(channel: grpc.Channel) -> None:
    error = refused(channel, GET_JOB, bytes(MESSAGE_MAX_BYTES + 1))
    assert error.code() == Code.RESOURCE_EXHAUSTED
    assert str(MESSAGE_MAX_BYTES) in error.details()


def test_a_large_request_is_read_and_a_larger_reply_written(
    channel: grpc.Channel, project: Project
) -> None:
    request = create_request(project)
    prefixes = [f"{n:03}" + "x" * 990 for n in range(900)]
    for number in range(30):
        bucket = request.job.bucket_list.buckets.add(bucket=f"bucket-{number + 2}")
        bucket.prefix_list.included_object_prefixes.extend(prefixes)
    data = request.SerializeToString()
    assert MESSAGE_MAX_BYTES > len(data) > MESSAGE_MAX_BYTES * 3 // 4
    reply = raw(channel, CREATE_JOB)(data, timeout=60)
    assert len(reply) > len(data)
    project.run("j", counters={})
    project.finish("j")
    name = wire.Operation.FromString(reply).name
    request = operations_pb2.GetOperationRequest(name=name).SerializeToString()
    done = raw(channel, f"{wire.OPERATIONS}/GetOperation")(request, timeout=60)
    assert len(done) > MESSAGE_MAX_BYTES


def test_metadata_of_every_kind_is_taken(channel: grpc.Channel, project: Project) -> None:
    metadata = [("authorization", "Bearer x"), ("x-goog-user-project", "p"), ("x-bin", b"\xff\0")]
    request = sbo.ListJobsRequest.serialize(sbo.ListJobsRequest(parent=project.parent))
    assert raw(channel, f"{wire.SERVICE}/ListJobs")(request, metadata=metadata, timeout=30) == b""


def test_a_client_that_goes_away_leaves_no_trace(
    server: Both, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    name = project.create("j")["name"]
    request = operations_pb2.WaitOperationRequest(name=name).SerializeToString()
    for _ in range(3):
        with grpc.insecure_channel(server.target) as channel:
            call = raw(channel, f"{wire.OPERATIONS}/WaitOperation").future(request, timeout=30)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), server.grpc.loop).result(30)
            call.cancel()
    assert project.ok("GET", name)["done"] is False
    assert not caplog.records


def test_a_compressed_request(channel: grpc.Channel, project: Project) -> None:
    request = sbo.ListJobsRequest.serialize(sbo.ListJobsRequest(parent=project.parent))
    reply = raw(channel, f"{wire.SERVICE}/ListJobs")(
        request, compression=grpc.Compression.Gzip, timeout=30
    )
    assert reply == b""


def test_a_request_that_is_large_once_it_is_unpacked(channel: grpc.Channel) -> None:
    bomb = bytes(MESSAGE_MAX_BYTES * 2)
    assert len(gzip.compress(bomb)) < 1 << 20
    with pytest.raises(grpc.RpcError) as refusal:
        raw(channel, GET_JOB)(bomb, compression=grpc.Compression.Gzip, timeout=30)
    assert refusal.value.code() == Code.RESOURCE_EXHAUSTED


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """A server of three connections with two calls each."""
    monkeypatch.setitem(grpc_server._OPTIONS, "grpc.max_allowed_incoming_connections", 3)
    monkeypatch.setitem(grpc_server._OPTIONS, "grpc.max_concurrent_streams", 2)
    both = Both(tmp_path / "longshore.sqlite")
    both.start()
    yield both
    both.stop()


def test_no_more_connections_than_so_many(narrow: Both) -> None:
    """So that nobody can make grpc keep any number of requests, each of 32 MiB."""
    request = sbo.ListJobsRequest.serialize(
        sbo.ListJobsRequest(parent="projects/p/locations/global")
    )
    own = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(narrow.target, own) for _ in range(4)]
    for channel in channels[:3]:
        assert raw(channel, f"{wire.SERVICE}/ListJobs")(request, timeout=30) == b""
    assert refused(channels[3], f"{wire.SERVICE}/ListJobs", request).code() == Code.UNAVAILABLE
    channels[0].close()
    again = raw(channels[3], f"{wire.SERVICE}/ListJobs")
    assert again(request, timeout=60, wait_for_ready=True) == b""
    for channel in channels[1:]:
        channel.close()


def test_calls_beyond_the_limit_of_a_connection_wait_in_the_client(narrow: Both) -> None:
    """None is refused, be the connection new or not: each of these waits takes half a second."""
    with httpx.Client(base_url=narrow.url) as http:
        name = Project(narrow, http).create("j")["name"]
    request = operations_pb2.WaitOperationRequest(name=name)
    request.timeout.FromMilliseconds(500)
    data = request.SerializeToString()
    with grpc.insecure_channel(narrow.target) as channel:
        wait = raw(channel, f"{wire.OPERATIONS}/WaitOperation")
        for _ in range(2):
            began = time.monotonic()
            calls = [wait.future(data, timeout=60) for _ in range(6)]
            assert not any(wire.Operation.FromString(call.result()).done for call in calls)
            assert time.monotonic() - began >= 1.4


class Upload:
    """A call whose message is sent when somebody says so."""

    def __init__(self, channel: grpc.Channel, method: str, data: bytes) -> None:
        self._send = threading.Event()
        self._data = data
        self.call = channel.stream_unary(f"/{method}").future(self._requests(), timeout=60)

    def _requests(self) -> Iterator[bytes]:
        self._send.wait(60)
        yield self._data

    def send(self) -> bytes:
        self._send.set()
        return bytes(self.call.result())

    def refusal(self) -> tuple[grpc.StatusCode, str]:
        """How it ended without its message."""
        error = self.call.exception()
        self._send.set()
        return error.code(), error.details()


LIST_JOBS = f"{wire.SERVICE}/ListJobs"
NO_JOBS = sbo.ListJobsRequest.serialize(sbo.ListJobsRequest(parent="projects/no/locations/global"))


def test_large_messages_have_so_much_room_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "LARGE_BYTES", 1 << 20)
    both = Both(tmp_path / "longshore.sqlite")
    both.start()
    large = sbo.ListJobsRequest(parent="projects/no/locations/global", filter="x" * (600 << 10))
    larger = sbo.ListJobsRequest(parent="projects/no/locations/global", filter="x" * (2 << 20))
    with grpc.insecure_channel(both.target) as channel:
        for _ in range(3):  # each gives back what it had
            error = refused(channel, LIST_JOBS, sbo.ListJobsRequest.serialize(large))
            assert error.code() is Code.INVALID_ARGUMENT
            error = refused(channel, LIST_JOBS, sbo.ListJobsRequest.serialize(larger))
            assert error.code() is Code.RESOURCE_EXHAUSTED
            assert error.details().startswith("Too many requests of more than 262144 bytes at once")
            assert raw(channel, LIST_JOBS)(NO_JOBS, timeout=30) == b""
    both.stop()


def test_a_slow_message_counts_as_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for one: the second is cut off, and small ones do not wait for either."""
    monkeypatch.setattr(grpc_server, "LARGE_BYTES", MESSAGE_MAX_BYTES)
    monkeypatch.setattr(grpc_call, "SLOW_SECONDS", 0.05)
    both = Both(tmp_path / "longshore.sqlite")
    both.start()
    with grpc.insecure_channel(both.target) as channel:
        uploads = [Upload(channel, LIST_JOBS, NO_JOBS) for _ in range(2)]
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for one in uploads:
            one.call.add_done_callback(ended.put)
        cut = ended.get(timeout=60)
        first, second = sorted(uploads, key=lambda one: one.call is cut)
        assert second.refusal()[0] is Code.RESOURCE_EXHAUSTED
        assert raw(channel, LIST_JOBS)(NO_JOBS, timeout=30) == b""
        assert first.send() == b""
        assert Upload(channel, LIST_JOBS, NO_JOBS).send() == b""
    both.stop()


def test_a_message_that_takes_too_long_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_call, "BODY_SECONDS", 0.2)
    both = Both(tmp_path / "longshore.sqlite")
    both.start()
    with grpc.insecure_channel(both.target) as channel:
        assert Upload(channel, LIST_JOBS, NO_JOBS).refusal()[0] is Code.CANCELLED
        without = channel.stream_unary(f"/{LIST_JOBS}").future(iter(()), timeout=30)
        assert without.exception().code() is Code.INVALID_ARGUMENT
    both.stop()

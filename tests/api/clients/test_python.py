"""What Google's libraries for Python send, and what they make of the replies, transport by
transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import grpc
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import InvalidOperation
from google.cloud import storagebatchoperations_v1 as sbo
from google.cloud.location import locations_pb2
from google.longrunning import operations_pb2
from google.oauth2.credentials import Credentials

from longshore.api import wire
from longshore.api.auth import Auth
from longshore.api.auth.tokens import line_of, new_token
from longshore.clock import SYSTEM_CLOCK
from longshore.errors import Code
from longshore.model import ErrorSummary
from longshore.settings import AuthSettings, Settings
from tests.api.conftest import Project, delete_job
from tests.api.grpc.conftest import Both

Library = sbo.StorageBatchOperationsClient
REQUEST_ID = "3f2b0c1e-6d0a-4c9b-9d7e-0f4a5b6c7d8e"
ALT = "%24alt=json%3Benum-encoding%3Dint"
TOKEN = new_token()


def over_rest(url: str, **options: Any) -> Library:
    given = {"credentials": AnonymousCredentials(), **options}
    endpoint = {"api_endpoint": url, **given.pop("client_options", {})}
    if "api_key" in endpoint:
        del given["credentials"]
    return Library(transport="rest", client_options=endpoint, **given)


def over_grpc(channel: grpc.Channel) -> Library:
    transport = Library.get_transport_class("grpc")
    return Library(transport=transport(channel=channel, credentials=AnonymousCredentials()))


@pytest.fixture(params=["REST", "gRPC"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def library(server: Both, channel: grpc.Channel, transport: str) -> Iterator[Library]:
    if transport == "gRPC":
        yield over_grpc(channel)
    else:
        with over_rest(server.url) as made:
            yield made


def job(**fields: Any) -> sbo.Job:
    bucket = sbo.BucketList.Bucket(
        bucket="bucket-1", prefix_list=sbo.PrefixList(included_object_prefixes=["tmp/"])
    )
    given = {
        "delete_object": sbo.DeleteObject(permanent_object_deletion_enabled=False),
        "logging_config": sbo.LoggingConfig(log_actions=[6], log_action_states=[2]),
    }
    return sbo.Job(bucket_list=sbo.BucketList(buckets=[bucket]), **(fields or given))


class Sent(NamedTuple):
    """A call, and what it is on the wire; @ is the parent, ^ the operation, ~ the project."""

    call: Callable[[Library, str, str], Any]
    request: str
    params: str
    body: Any = None


SENT = {
    "create_job": Sent(
        lambda library, parent, _: library.create_job(parent=parent, job=job(), job_id="new"),
        f"POST @/jobs?jobId=new&{ALT}",
        "parent=@",
        {
            "bucketList": {
                "buckets": [
                    {"bucket": "bucket-1", "prefixList": {"includedObjectPrefixes": ["tmp/"]}}
                ]
            },
            "deleteObject": {},
            "loggingConfig": {"logActions": [6], "logActionStates": [2]},
        },
    ),
    "create_job without an id": Sent(
        lambda library, parent, _: library.create_job(
            sbo.CreateJobRequest(
                parent=parent,
                request_id=REQUEST_ID,
                job=job(put_object_hold=sbo.PutObjectHold(temporary_hold=1)),
            )
        ),
        f"POST @/jobs?requestId={REQUEST_ID}&jobId=&{ALT}",
        "parent=@",
        {
            "bucketList": {
                "buckets": [
                    {"bucket": "bucket-1", "prefixList": {"includedObjectPrefixes": ["tmp/"]}}
                ]
            },
            "putObjectHold": {"temporaryHold": 1},
        },
    ),
    "get_job": Sent(
        lambda library, parent, _: library.get_job(name=f"{parent}/jobs/j"),
        f"GET @/jobs/j?{ALT}",
        "name=@/jobs/j",
    ),
    "cancel_job": Sent(
        lambda library, parent, _: library.cancel_job(name=f"{parent}/jobs/j"),
        f"POST @/jobs/j:cancel?{ALT}",
        "name=@/jobs/j",
        {},
    ),
    "cancel_job with a request id": Sent(
        lambda library, parent, _: library.cancel_job(
            sbo.CancelJobRequest(name=f"{parent}/jobs/j", request_id=REQUEST_ID)
        ),
        f"POST @/jobs/j:cancel?{ALT}",
        "name=@/jobs/j",
        {"requestId": REQUEST_ID},
    ),
    "delete_job": Sent(
        lambda library, parent, _: library.delete_job(
            sbo.DeleteJobRequest(name=f"{parent}/jobs/ended", request_id=REQUEST_ID, force=True)
        ),
        f"DELETE @/jobs/ended?requestId={REQUEST_ID}&force=true&{ALT}",
        "name=@/jobs/ended",
    ),
    "list_jobs": Sent(
        lambda library, parent, _: list(
            library.list_jobs(
                sbo.ListJobsRequest(
                    parent=parent, filter="state:queued", page_size=5, order_by="name desc"
                )
            )
        ),
        f"GET @/jobs?filter=state%3Aqueued&pageSize=5&orderBy=name+desc&{ALT}",
        "parent=@",
    ),
    "list_bucket_operations": Sent(
        lambda library, parent, _: list(library.list_bucket_operations(parent=f"{parent}/jobs/j")),
        f"GET @/jobs/j/bucketOperations?{ALT}",
        "parent=@/jobs/j",
    ),
    "get_operation": Sent(
        lambda library, _, name: library.get_operation(
            operations_pb2.GetOperationRequest(name=name)
        ),
        "GET ^",
        "name=^",
    ),
    "list_operations": Sent(
        lambda library, parent, _: library.list_operations(
            operations_pb2.ListOperationsRequest(name=parent, filter="done=true", page_size=5)
        ),
        "GET @/operations?filter=done%3Dtrue&pageSize=5",
        "name=@",
    ),
    "cancel_operation": Sent(
        lambda library, _, name: library.cancel_operation(
            operations_pb2.CancelOperationRequest(name=name)
        ),
        "POST ^:cancel",
        "name=^",
        {},
    ),
    "delete_operation": Sent(
        lambda library, _, name: library.delete_operation(
            operations_pb2.DeleteOperationRequest(name=name)
        ),
        "DELETE ^",
        "name=^",
    ),
    "get_location": Sent(
        lambda library, parent, _: library.get_location(
            locations_pb2.GetLocationRequest(name=parent)
        ),
        "GET @",
        "name=@",
    ),
    "list_locations": Sent(
        lambda library, parent, _: library.list_locations(
            locations_pb2.ListLocationsRequest(name=parent.removesuffix("/locations/global"))
        ),
        "GET ~/locations",
        "name=~",
    ),
}


@pytest.mark.parametrize("case", SENT)
def test_what_is_sent_over_rest(server: Both, project: Project, case: str) -> None:
    """Numbers for enums wherever ``$alt`` says so; not for operations and locations."""
    sent = SENT[case]
    operation = project.create("j")["name"]
    project.create("ended")
    project.ok("POST", "/jobs/ended:cancel")
    with over_rest(server.url) as library, server.listening() as heard:
        sent.call(library, project.parent, operation)
    names = {"@": project.parent, "^": operation, "~": f"projects/{project.id}"}

    def named(text: str, before: str = "") -> str:
        for mark, name in names.items():
            text = text.replace(mark, before + name)
        return text

    (one,) = heard
    assert str(one) == named(sent.request, "/v1/")
    assert (json.loads(one.body) if one.body else None) == sent.body
    assert one.headers["content-type"] == "application/json"
    assert one.headers["x-goog-request-params"] == named(sent.params)
    assert one.headers["x-goog-api-client"].startswith("gl-python/")
    assert "authorization" not in one.headers


def test_what_a_future_sends_over_rest(server: Both, project: Project) -> None:
    """A cancel without a body, whose type is told all the same."""
    with over_rest(server.url) as library:
        future = library.create_job(parent=project.parent, job_id="j", job=job())
        name = future.operation.name
        with server.listening() as heard:
            assert not future.done()
            assert future.cancel()
            assert future.cancelled()
            assert not future.cancel()
    assert [str(one) for one in heard] == [
        f"GET /v1/{name}",
        f"GET /v1/{name}",
        f"POST /v1/{name}:cancel",
        f"GET /v1/{name}",
    ]
    cancel = heard[2]
    assert not cancel.body
    assert cancel.headers["content-length"] == "0"
    assert cancel.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"credentials": Credentials("tok")}, "authorization", "Bearer tok"),
        ({"client_options": {"api_key": "K"}}, "x-goog-api-key", "K"),
    ],
)
def test_credentials_are_sent_and_ignored(
    server: Both, project: Project, options: dict[str, Any], header: str, value: str
) -> None:
    project.create("j")
    with over_rest(server.url, **options) as library, server.listening() as heard:
        assert library.get_job(name=project.job_name("j")).name == project.job_name("j")
    (one,) = heard
    assert one.headers[header] == value


def test_an_endpoint_with_a_slash_behind_it(server: Both, project: Project) -> None:
    """The library sends //v1 then: another path, which is not there."""
    project.create("j")
    with (
        over_rest(f"{server.url}/") as library,
        server.listening() as heard,
        pytest.raises(exceptions.NotFound),
    ):
        library.get_job(name=project.job_name("j"))
    (one,) = heard
    assert one.path == f"//v1/{project.job_name('j')}"


class Calls(grpc.UnaryUnaryClientInterceptor):
    """Notes the calls that leave a channel."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []

    def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
        params = dict(details.metadata).get("x-goog-request-params", "")
        self.made.append((details.method, params))
        return proceed(details, request)


@pytest.mark.parametrize("case", SENT)
def test_what_is_called_over_grpc(channel: grpc.Channel, project: Project, case: str) -> None:
    """The method of the same name, and the same routing as over REST."""
    sent = SENT[case]
    operation = project.create("j")["name"]
    project.create("ended")
    project.ok("POST", "/jobs/ended:cancel")
    calls = Calls()
    sent.call(over_grpc(grpc.intercept_channel(channel, calls)), project.parent, operation)
    ((method, params),) = calls.made
    service, name = method.removeprefix("/").split("/")
    assert service in (wire.SERVICE, wire.OPERATIONS, wire.LOCATIONS)
    assert name == case.partition(" ")[0].title().replace("_", "")
    marks = {"@": project.parent, "^": operation, "~": f"projects/{project.id}"}
    for mark, value in marks.items():
        sent = sent._replace(params=sent.params.replace(mark, value))
    assert params == sent.params


MISSING = {
    Code.NOT_FOUND: ErrorSummary(
        code=Code.NOT_FOUND, count=1, samples=(("gs://bucket-1/tmp/x", "No such object"),)
    )
}


def test_an_operation_to_its_end(library: Library, project: Project) -> None:
    """Polls parse strictly: what is in an operation has nothing that the library lacks."""
    future = library.create_job(parent=project.parent, job_id="j", job=job())
    assert future.metadata.job.state == sbo.Job.State.QUEUED
    assert not future.done()
    project.run("j", counters={"total": 3, "failed": 1, "bytes_transformed": 9}, errors=MISSING)
    assert project.ok("GET", "/jobs/j")["counters"]["totalBytesTransformed"] == "9"
    assert not future.done()
    assert future.metadata.job.state == sbo.Job.State.RUNNING
    assert future.metadata.api_version == "v1"
    project.finish("j")
    ended = future.result(timeout=30)
    assert ended.state == sbo.Job.State.SUCCEEDED
    assert ended.counters.total_object_count == 3
    assert ended.error_summaries[0].error_code == Code.NOT_FOUND
    assert future.metadata.job == ended == library.get_job(name=ended.name)
    assert future.metadata.end_time == ended.complete_time
    listed = library.list_operations(operations_pb2.ListOperationsRequest(name=project.parent))
    assert [one.name for one in listed.operations] == [future.operation.name]


@pytest.mark.parametrize("announced", ["rewriteObject", "setObjectAcls"])
def test_announced_fields_in_operations(
    library: Library, transport: str, project: Project, announced: str
) -> None:
    """Those that the creator set are the creator's to see: over REST such a client can't."""
    body = delete_job()
    del body["deleteObject"]
    body[announced] = {
        "rewriteObject": {"storageClass": "NEARLINE"},
        "setObjectAcls": {"accessControlsUpdates": {"removeEntities": ["allUsers"]}},
    }[announced]
    name = project.create("j", body)["name"]
    request = operations_pb2.GetOperationRequest(name=name)
    if transport == "gRPC":
        assert library.get_operation(request).name == name
    else:
        with pytest.raises(Exception, match="no field named"):
            library.get_operation(request)
    assert library.get_job(name=project.job_name("j")).name == project.job_name("j")


def test_a_failed_operation(library: Library, project: Project) -> None:
    future = library.create_job(parent=project.parent, job_id="j", job=job())
    project.run("j", counters={})
    project.finish("j", "FAILED", "NOT_FOUND", "Bucket 'bucket-1' does not exist.")
    with pytest.raises(exceptions.NotFound, match="Bucket 'bucket-1' does not exist"):
        future.result(timeout=30)
    assert future.metadata.job.state == sbo.Job.State.FAILED


def test_cancel_of_a_future(library: Library, project: Project) -> None:
    future = library.create_job(parent=project.parent, job_id="j", job=job())
    project.run("j", counters={})
    assert future.cancel()
    assert not future.done()
    assert future.metadata.requested_cancellation
    project.finish("j", "CANCELED")
    with pytest.raises(exceptions.Cancelled):
        future.result(timeout=30)
    assert future.cancelled()
    assert not future.cancel()
    assert library.get_job(name=project.job_name("j")).state == sbo.Job.State.CANCELED


def test_a_future_of_asyncio(server: Both, project: Project) -> None:
    """It has no class for a cancelled operation but the general one."""
    Async = sbo.StorageBatchOperationsAsyncClient
    transport = Async.get_transport_class("grpc_asyncio")

    async def run() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            given = transport(channel=channel, credentials=AnonymousCredentials())
            client = Async(transport=given)
            first, second = [
                await client.create_job(parent=project.parent, job_id=job_id, job=job())
                for job_id in ("one", "two")
            ]
            assert not await first.done()
            assert await second.cancel()
            assert await second.cancelled()
            with pytest.raises(
                exceptions.GoogleAPICallError, match="1: The operation was cancelled"
            ):
                await second.result(timeout=30)
            await asyncio.to_thread(project.run, "one", counters={"total": 1})
            await asyncio.to_thread(project.finish, "one")
            assert (await first.result(timeout=30)).state == sbo.Job.State.SUCCEEDED
            with pytest.raises(exceptions.AlreadyExists):
                await client.create_job(parent=project.parent, job_id="one", job=job())

    asyncio.run_coroutine_threadsafe(run(), server.grpc.loop).result(60)


class Wrong(NamedTuple):
    """A call that is refused, and the class of the error: REST knows the status only."""

    call: Callable[[Library, Project], Any]
    over_rest: type[Exception]
    over_grpc: type[Exception]
    reason: str | None


WRONG = {
    "INVALID_ARGUMENT": Wrong(
        lambda library, project: library.create_job(
            parent=project.parent, job_id="Bad_Id", job=job()
        ),
        exceptions.BadRequest,
        exceptions.InvalidArgument,
        "JOB_ID_INVALID",
    ),
    "FAILED_PRECONDITION": Wrong(
        lambda library, project: library.delete_job(name=project.job_name("j")),
        exceptions.BadRequest,
        exceptions.FailedPrecondition,
        "JOB_NOT_FINISHED",
    ),
    "NOT_FOUND": Wrong(
        lambda library, project: library.get_job(name=project.job_name("none")),
        exceptions.NotFound,
        exceptions.NotFound,
        "RESOURCE_NOT_FOUND",
    ),
    "ALREADY_EXISTS": Wrong(
        lambda library, project: library.create_job(parent=project.parent, job_id="j", job=job()),
        exceptions.Conflict,
        exceptions.AlreadyExists,
        "RESOURCE_ALREADY_EXISTS",
    ),
    "UNIMPLEMENTED": Wrong(
        lambda library, project: library.list_operations(
            operations_pb2.ListOperationsRequest(name=project.parent, return_partial_success=True)
        ),
        exceptions.MethodNotImplemented,
        exceptions.MethodNotImplemented,
        None,
    ),
}


@pytest.mark.parametrize("status", WRONG)
def test_classes_of_errors(library: Library, transport: str, project: Project, status: str) -> None:
    project.create("j")
    wrong = WRONG[status]
    expected = wrong.over_rest if transport == "REST" else wrong.over_grpc
    with pytest.raises(exceptions.GoogleAPICallError) as caught:
        wrong.call(library, project)
    error = caught.value
    assert type(error) is expected
    assert error.reason == wrong.reason
    if transport == "REST":
        assert error.response.json()["error"]["status"] == status
    else:
        assert error.grpc_status_code.name == status
    assert wrong.reason is None or error.domain == "storagebatchoperations.googleapis.com"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    directory = tmp_path_factory.mktemp("guarded")
    file = directory / "tokens"
    file.touch(0o600)
    file.write_text(line_of(TOKEN, "viewer", None, []))
    roles = {"viewer": {"harbour": ("viewer",)}}
    auth = AuthSettings(mode=("tokens",), tokens_file=file, roles=roles)
    both = Both(directory / "l.sqlite", auth=Auth.fixed(Settings(auth=auth), SYSTEM_CLOCK))
    both.start()
    yield both
    both.stop()


def test_classes_of_errors_with_authentication(guarded: Both, transport: str) -> None:
    """A 401 makes Google's library for REST renew credentials that nobody can renew."""
    name = "projects/harbour/locations/global/jobs/none"
    with ExitStack() as stack:
        if transport == "REST":
            library = stack.enter_context(over_rest(guarded.url))
        else:
            channel = stack.enter_context(grpc.insecure_channel(guarded.target))
            library = over_grpc(channel)
        with pytest.raises(InvalidOperation if transport == "REST" else exceptions.Unauthenticated):
            library.get_job(name=name)
        token = [("authorization", f"Bearer {TOKEN}")]
        with pytest.raises(exceptions.NotFound):
            library.get_job(name=name, metadata=token)
        with pytest.raises(
            exceptions.PermissionDenied if transport == "gRPC" else exceptions.Forbidden
        ) as refused:
            library.cancel_job(name=name, metadata=token)
        assert refused.value.reason == "IAM_PERMISSION_DENIED"
        assert refused.value.domain == "googleapis.com"

"""Google's own gRPC clients, unmodified, against the server."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storagebatchoperations_v1 as sbo
from google.cloud.location import locations_pb2
from google.longrunning import operations_pb2

from tests.api.conftest import Project
from tests.api.grpc.conftest import Both
from tests.api.test_google_client import job

Client = sbo.StorageBatchOperationsClient
State = sbo.Job.State


def create(client: Client, project: Project, job_id: str = "j") -> object:
    return client.create_job(parent=project.parent, job_id=job_id, job=job())


def test_create_run_and_wait(client: Client, project: Project) -> None:
    future = create(client, project)
    assert future.metadata.job.state == State.QUEUED
    assert not future.done()
    project.run("j", counters={"total": 3, "succeeded": 3})
    project.finish("j")
    ended = future.result(timeout=30)
    assert (ended.state, ended.counters.succeeded_object_count) == (State.SUCCEEDED, 3)
    assert client.get_job(name=ended.name) == ended


def test_all_seven_methods(client: Client, project: Project) -> None:
    for job_id in "cab":
        create(client, project, job_id)
    request = sbo.ListJobsRequest(parent=project.parent, page_size=2, order_by="name desc")
    names = [one.name.rpartition("/")[2] for one in client.list_jobs(request=request)]
    assert names == ["c", "b", "a"]
    (part,) = client.list_bucket_operations(parent=project.job_name("a"))
    assert client.get_bucket_operation(name=part.name) == part
    assert client.cancel_job(name=project.job_name("a")) == sbo.CancelJobResponse()
    assert client.get_job(name=project.job_name("a")).state == State.CANCELED
    client.delete_job(name=project.job_name("a"))
    with pytest.raises(exceptions.NotFound) as missing:
        client.get_job(name=project.job_name("a"))
    assert missing.value.reason == "RESOURCE_NOT_FOUND"


def test_a_request_is_the_same_on_both_transports(client: Client, project: Project) -> None:
    request_id = str(uuid.uuid4())
    request = sbo.CreateJobRequest(parent=project.parent, job_id="j", request_id=request_id)
    request.job = sbo.Job(
        bucket_list=sbo.BucketList(
            buckets=[
                sbo.BucketList.Bucket(
                    bucket="bucket-1",
                    prefix_list=sbo.PrefixList(included_object_prefixes=["tmp/"]),
                )
            ]
        ),
        delete_object=sbo.DeleteObject(),
    )
    name = client.create_job(request=request).operation.name
    assert project.create("j", requestId=request_id)["name"] == name
    assert project.rows() == 1


def test_cancel_a_future(client: Client, project: Project) -> None:
    future = create(client, project)
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(exceptions.Cancelled):
        future.result(timeout=30)


def test_the_operations_mixin(client: Client, project: Project) -> None:
    name = create(client, project).operation.name
    listed = client.list_operations(operations_pb2.ListOperationsRequest(name=project.parent))
    assert [one.name for one in listed.operations] == [name]
    client.cancel_operation(operations_pb2.CancelOperationRequest(name=name))
    assert client.get_operation(operations_pb2.GetOperationRequest(name=name)).error.code == 1
    client.delete_operation(operations_pb2.DeleteOperationRequest(name=name))
    with pytest.raises(exceptions.NotFound):
        client.get_operation(operations_pb2.GetOperationRequest(name=name))


def test_the_locations_mixin(client: Client, project: Project) -> None:
    request = locations_pb2.ListLocationsRequest(name=f"projects/{project.id}")
    listed = client.list_locations(request)
    assert [one.location_id for one in listed.locations] == ["global"]
    got = client.get_location(locations_pb2.GetLocationRequest(name=project.parent))
    assert got == listed.locations[0]


def test_the_client_for_asyncio(server: Both, project: Project) -> None:
    """In the server's loop: a process may use grpc.aio in one only."""

    async def run() -> None:
        transport = sbo.StorageBatchOperationsAsyncClient.get_transport_class("grpc_asyncio")
        async with grpc.aio.insecure_channel(server.target) as channel:
            client = sbo.StorageBatchOperationsAsyncClient(
                transport=transport(channel=channel, credentials=AnonymousCredentials())
            )
            created = await client.create_job(parent=project.parent, job_id="j", job=job())
            assert created.metadata.job.state == State.QUEUED
            listed = [one.name async for one in await client.list_jobs(parent=project.parent)]
            assert listed == [project.job_name("j")]
            await client.cancel_job(name=listed[0])
            with pytest.raises(exceptions.GoogleAPICallError, match="1: The operation was cancel"):
                await created.result(timeout=30)
            with pytest.raises(exceptions.InvalidArgument) as bad:
                await client.get_job(name="jobs/j")
            assert bad.value.grpc_status_code == grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run_coroutine_threadsafe(run(), server.grpc.loop).result(60)

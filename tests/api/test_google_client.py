"""Google's own REST client, unmodified, against the server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storagebatchoperations_v1 as sbo
from google.cloud.location import locations_pb2
from google.longrunning import operations_pb2

from longshore.errors import Code
from longshore.model import ErrorSummary
from tests.api.conftest import Project, Server

State = sbo.Job.State


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[sbo.StorageBatchOperationsClient]:
    with sbo.StorageBatchOperationsClient(
        transport="rest",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": server.url},
    ) as client:
        yield client


def job(*buckets: str) -> sbo.Job:
    chosen = [
        sbo.BucketList.Bucket(
            bucket=name, prefix_list=sbo.PrefixList(included_object_prefixes=["tmp/"])
        )
        for name in buckets or ("bucket-1",)
    ]
    return sbo.Job(
        bucket_list=sbo.BucketList(buckets=chosen),
        delete_object=sbo.DeleteObject(permanent_object_deletion_enabled=False),
        logging_config=sbo.LoggingConfig(log_actions=[6], log_action_states=[1, 2]),
    )


def create(client: sbo.StorageBatchOperationsClient, project: Project, job_id: str = "j") -> object:
    return client.create_job(parent=project.parent, job_id=job_id, job=job())


def test_create_run_and_wait(client: sbo.StorageBatchOperationsClient, project: Project) -> None:
    future = create(client, project)
    assert future.metadata.job.state == State.QUEUED
    assert not future.done()
    summary = ErrorSummary(
        code=Code.NOT_FOUND, count=1, samples=(("gs://bucket-1/tmp/x", "No such object"),)
    )
    project.run(
        "j",
        counters={"total": 3, "succeeded": 2, "failed": 1, "bytes_transformed": 9},
        errors={Code.NOT_FOUND: summary},
    )
    assert not future.done()
    assert future.metadata.job.counters.total_object_count == 3
    project.finish("j")
    ended = future.result(timeout=30)
    assert ended.state == State.SUCCEEDED
    assert ended.counters.succeeded_object_count == 2
    assert ended.error_summaries[0].error_code == 5
    assert list(ended.logging_config.log_action_states) == [1, 2]
    assert future.metadata.end_time == ended.complete_time
    got = client.get_job(name=ended.name)
    assert got.state == State.SUCCEEDED
    assert got.counters == ended.counters


def test_create_without_an_id_and_with_a_request_id(
    client: sbo.StorageBatchOperationsClient, project: Project
) -> None:
    request = sbo.CreateJobRequest(parent=project.parent, job=job(), request_id=str(uuid.uuid4()))
    names = {client.create_job(request=request).operation.name for _ in range(2)}
    assert len(names) == 1


def test_lists(client: sbo.StorageBatchOperationsClient, project: Project) -> None:
    for job_id in "cab":
        create(client, project, job_id)
    request = sbo.ListJobsRequest(
        parent=project.parent, page_size=2, order_by="name desc", filter="state:queued"
    )
    names = [one.name.rpartition("/")[2] for one in client.list_jobs(request=request)]
    assert names == ["c", "b", "a"]
    parts = list(client.list_bucket_operations(parent=project.job_name("a")))
    assert [part.bucket_name for part in parts] == ["bucket-1"]
    assert parts[0].state == sbo.BucketOperation.State.QUEUED
    assert client.get_bucket_operation(name=parts[0].name) == parts[0]


def test_cancel_a_job(client: sbo.StorageBatchOperationsClient, project: Project) -> None:
    future = create(client, project)
    client.cancel_job(name=project.job_name("j"))
    with pytest.raises(exceptions.Cancelled):
        future.result(timeout=30)
    assert future.cancelled()
    assert future.metadata.requested_cancellation
    assert client.get_job(name=project.job_name("j")).state == State.CANCELED
    client.delete_job(name=project.job_name("j"))
    with pytest.raises(exceptions.NotFound) as missing:
        client.get_job(name=project.job_name("j"))
    assert missing.value.reason == "RESOURCE_NOT_FOUND"


def test_cancel_a_future(client: sbo.StorageBatchOperationsClient, project: Project) -> None:
    future = create(client, project)
    assert future.cancel()
    assert future.cancelled()
    assert not future.cancel()


def test_the_operations_mixin(client: sbo.StorageBatchOperationsClient, project: Project) -> None:
    name = create(client, project).operation.name
    listed = client.list_operations(operations_pb2.ListOperationsRequest(name=project.parent))
    assert [one.name for one in listed.operations] == [name]
    client.cancel_operation(operations_pb2.CancelOperationRequest(name=name))
    assert client.get_operation(operations_pb2.GetOperationRequest(name=name)).error.code == 1
    client.delete_operation(operations_pb2.DeleteOperationRequest(name=name))
    with pytest.raises(exceptions.NotFound):
        client.get_operation(operations_pb2.GetOperationRequest(name=name))
    assert client.get_job(name=project.job_name("j")).state == State.CANCELED


def test_the_locations_mixin(client: sbo.StorageBatchOperationsClient, project: Project) -> None:
    request = locations_pb2.ListLocationsRequest(name=f"projects/{project.id}")
    listed = client.list_locations(request)
    assert [one.location_id for one in listed.locations] == ["global"]
    got = client.get_location(locations_pb2.GetLocationRequest(name=project.parent))
    assert got == listed.locations[0]


def test_errors(client: sbo.StorageBatchOperationsClient, project: Project) -> None:
    create(client, project)
    with pytest.raises(exceptions.Conflict):
        create(client, project)
    with pytest.raises(exceptions.BadRequest) as bad:
        create(client, project, "Bad_Id")
    assert bad.value.reason == "JOB_ID_INVALID"
    assert bad.value.domain == "storagebatchoperations.googleapis.com"
    with pytest.raises(exceptions.BadRequest) as open_job:
        client.delete_job(name=project.job_name("j"))
    assert open_job.value.response.json()["error"]["status"] == "FAILED_PRECONDITION"
    with pytest.raises(exceptions.BadRequest):
        client.list_jobs(request=sbo.ListJobsRequest(parent=project.parent, filter="x="))


def test_announced_fields_stay_out_of_the_operations_of_others(
    client: sbo.StorageBatchOperationsClient, project: Project
) -> None:
    """A poll parses strictly: totalBytesTransformed there would break the client."""
    future = create(client, project)
    project.run("j", counters={"bytes_transformed": 9})
    project.finish("j")
    assert project.ok("GET", "/jobs/j")["counters"]["totalBytesTransformed"] == "9"
    assert future.result(timeout=30).state == State.SUCCEEDED

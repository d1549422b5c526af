"""The same over gRPC, for what the published messages have."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.cloud import storagebatchoperations_v1 as sbo
from google.longrunning import operations_pb2
from google.protobuf import json_format

from longshore.api import messages
from tests.api.conftest import Project
from tests.api.every_job import ANNOUNCED, TRANSFORMATIONS, jobs


def is_published(body: Any) -> bool:
    text = orjson.dumps(body).decode()
    return not any(f'"{field}"' in text for field in ANNOUNCED)


def only_configured(job: Any) -> Any:
    for field in messages.OUTPUT_ONLY:
        job.ClearField(field)
    return job


@pytest.mark.parametrize("transformation", [one for one in TRANSFORMATIONS if is_published(one)])
def test_what_is_created_comes_back_whole(
    client: sbo.StorageBatchOperationsClient, project: Project, transformation: dict[str, Any]
) -> None:
    sent = {}
    for number, body in enumerate(filter(is_published, jobs(project.id, transformation))):
        job = json_format.ParseDict(body, sbo.Job.pb()())
        request = sbo.CreateJobRequest(parent=project.parent, job_id=f"j{number}", job=job)
        sent[client.create_job(request=request).operation.name] = (f"j{number}", job)
    assert len(sent) >= 32
    listed = {job.name: job for job in client.list_jobs(parent=project.parent)}
    request = operations_pb2.ListOperationsRequest(name=project.parent, page_size=500)
    operations = client.list_operations(request).operations
    assert {operation.name for operation in operations} == sent.keys()
    for operation in operations:
        job_id, job = sent[operation.name]
        metadata = sbo.OperationMetadata.pb().FromString(operation.metadata.value)
        name = project.job_name(job_id)
        for found in (listed[name], client.get_job(name=name)):
            assert only_configured(sbo.Job.pb(found)) == job
        assert only_configured(metadata.job) == job

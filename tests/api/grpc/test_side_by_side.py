"""The same requests over both transports: the same code, text, reason and fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from google.protobuf import json_format
from sqlalchemy import update

from longshore.api import wire
from longshore.api.json_messages import to_json
from longshore.database.tables import shards
from tests.api.clients.drivers import METHODS, over_http
from tests.api.conftest import Project, delete_job
from tests.api.grpc.conftest import Both, raw

REQUEST_ID = "3f2b0c1e-6d0a-4c9b-9d7e-0f4a5b6c7d8e"


class Answer(NamedTuple):
    """``reply`` is JSON; where there is none, the rest says why."""

    code: str = "OK"
    message: str = ""
    details: Any = ()
    reply: Any = None


Ask = Callable[[str, Mapping[str, Any]], Answer]


def over_grpc(channel: grpc.Channel) -> Ask:
    def ask(name: str, request: Mapping[str, Any]) -> Answer:
        method = METHODS[name]
        message = wire.message_class(method.input_type.full_name)()
        json_format.ParseDict(dict(request), message, descriptor_pool=wire.POOL)
        call = raw(channel, f"{method.containing_service.full_name}/{name}")
        try:
            data = call(message.SerializeToString(), timeout=30)
        except grpc.RpcError as error:
            return refusal(error)
        reply = wire.message_class(method.output_type.full_name).FromString(data)
        return Answer(reply=to_json(reply))

    return ask


def refusal(error: grpc.RpcError) -> Answer:
    (found,) = (value for key, value in error.trailing_metadata() if key.endswith("details-bin"))
    status = wire.Status.FromString(found)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return Answer(error.code().name, status.message, [to_json(one) for one in status.details])


def over_rest(rest: httpx.Client) -> Ask:
    def ask(name: str, request: Mapping[str, Any]) -> Answer:
        verb, path, query, body = over_http(name, request)
        response = rest.request(verb, path, params=query, json=body)
        if response.status_code == 200:
            return Answer(reply=response.json())
        error = response.json()["error"]
        return Answer(error["status"], error["message"], error.get("details", []))

    return ask


def job(**fields: Any) -> dict[str, Any]:
    """A plain job with ``fields`` changed; None takes one away."""
    changed = {**delete_job(), **fields}
    return {name: value for name, value in changed.items() if value is not None}


def buckets(*names: str) -> dict[str, Any]:
    return delete_job(*names)["bucketList"]


ERRORS: list[tuple[str, dict[str, Any], str]] = [
    ("CreateJob", {"parent": "@", "jobId": "Bad_Id", "job": job()}, "JOB_ID_INVALID"),
    ("CreateJob", {"parent": "@", "jobId": "open", "job": job()}, "RESOURCE_ALREADY_EXISTS"),
    ("CreateJob", {"parent": "projects/p/locations/moon", "job": job()}, "RESOURCE_NOT_FOUND"),
    ("CreateJob", {"parent": "@", "job": job(bucketList=None)}, ""),
    ("CreateJob", {"parent": "@", "job": job(deleteObject=None)}, ""),
    ("CreateJob", {"parent": "@", "job": job(bucketList={"buckets": []})}, ""),
    ("CreateJob", {"parent": "@", "job": job(bucketList=buckets("A", "ok", "_"))}, ""),
    ("CreateJob", {"parent": "@", "job": job(bucketList=buckets("b", "b"))}, ""),
    ("CreateJob", {"parent": "@", "job": job(description="é" * 1000)}, ""),
    (
        "CreateJob",
        {"parent": "@", "job": job(loggingConfig={"logActions": [0]})},
        "LOGGING_CONFIG_INVALID",
    ),
    ("CreateJob", {"parent": "@", "job": job(), "requestId": "x"}, "REQUEST_ID_INVALID"),
    ("CreateJob", {"parent": "@", "job": job(), "requestId": REQUEST_ID}, "REQUEST_ID_REUSED"),
    ("GetJob", {"name": "@/jobs/none"}, "RESOURCE_NOT_FOUND"),
    ("ListJobs", {"parent": "@", "filter": "x ="}, ""),
    ("ListJobs", {"parent": "@", "filter": "nothing = 1"}, ""),
    ("ListJobs", {"parent": "@", "orderBy": "colour"}, ""),
    ("ListJobs", {"parent": "@", "pageToken": "x"}, ""),
    ("ListJobs", {"parent": "@", "pageSize": -1}, ""),
    ("CancelJob", {"name": "@/jobs/none"}, "RESOURCE_NOT_FOUND"),
    ("CancelJob", {"name": "@/jobs/ended"}, "JOB_FINISHED"),
    ("DeleteJob", {"name": "@/jobs/none"}, "RESOURCE_NOT_FOUND"),
    ("DeleteJob", {"name": "@/jobs/open"}, "JOB_NOT_FINISHED"),
    ("DeleteJob", {"name": "@/jobs/many"}, "FORCE_REQUIRED"),
    ("DeleteJob", {"name": "@/jobs/many", "force": True}, "JOB_NOT_FINISHED"),
    ("GetBucketOperation", {"name": "@/jobs/none/bucketOperations/x"}, "RESOURCE_NOT_FOUND"),
    ("GetBucketOperation", {"name": "@/jobs/open/bucketOperations/x"}, "RESOURCE_NOT_FOUND"),
    ("ListBucketOperations", {"parent": "@/jobs/none"}, "RESOURCE_NOT_FOUND"),
    ("ListBucketOperations", {"parent": "@/jobs/open", "orderBy": "x"}, ""),
    ("GetOperation", {"name": "@/operations/none"}, "RESOURCE_NOT_FOUND"),
    ("DeleteOperation", {"name": "@/operations/none"}, "RESOURCE_NOT_FOUND"),
    ("CancelOperation", {"name": "@/operations/none"}, "RESOURCE_NOT_FOUND"),
    ("ListOperations", {"name": "@", "returnPartialSuccess": True}, ""),
    ("ListOperations", {"name": "@", "filter": "done ="}, ""),
    ("GetLocation", {"name": "projects/p/locations/moon"}, "RESOURCE_NOT_FOUND"),
    ("ListLocations", {"name": "projects/p", "filter": "x"}, ""),
    ("ListLocations", {"name": "projects/p", "pageToken": "x"}, ""),
]


@pytest.fixture(scope="module")
def harbour(server: Both, rest: httpx.Client) -> Project:
    """A project with jobs in several states."""
    project = Project(server, rest)
    project.create("open", requestId=REQUEST_ID)
    project.create("many", delete_job("b-1", "b-2"))
    project.create("ended")
    project.run("ended", counters={})
    project.finish("ended")
    return project


@pytest.mark.parametrize(("method", "request_", "reason"), ERRORS)
def test_errors(
    channel: grpc.Channel,
    rest: httpx.Client,
    harbour: Project,
    method: str,
    request_: dict[str, Any],
    reason: str,
) -> None:
    named = {
        key: value.replace("@", harbour.parent) if isinstance(value, str) else value
        for key, value in request_.items()
    }
    answers = [ask(method, named) for ask in (over_grpc(channel), over_rest(rest))]
    assert answers[0] == answers[1]
    assert answers[0].code != "OK"
    reasons = [one["reason"] for one in answers[0].details if "reason" in one]
    assert not reason or reasons == [reason]


def test_every_method_has_an_error_here() -> None:
    assert {method for method, _, _ in ERRORS} == {
        name for name, method in METHODS.items() if wire.rule_of(method)
    }


def test_a_request_is_the_same_on_both(channel: grpc.Channel, project: Project) -> None:
    ask = over_grpc(channel)
    request = {"parent": project.parent, "jobId": "j", "requestId": REQUEST_ID, "job": job()}
    name = ask("CreateJob", request).reply["name"]
    assert project.create("j", requestId=REQUEST_ID)["name"] == name
    assert project.rows() == 1


@pytest.fixture(params=["gRPC", "REST"])
def ask(request: pytest.FixtureRequest, channel: grpc.Channel, rest: httpx.Client) -> Ask:
    return over_grpc(channel) if request.param == "gRPC" else over_rest(rest)


def lose_the_worker(server: Both) -> None:
    """As runners do when a worker is dead: its shards are free."""
    server.write(lambda connection: connection.execute(update(shards).values(owner=None)))


CANCELS: list[tuple[str, str, dict[str, Any]]] = [
    # how the job is before; what it is after; what its operation says then
    ("QUEUED", "CANCELED", {"done": True, "requestedCancellation": True}),
    ("RUNNING", "RUNNING", {"done": False, "requestedCancellation": True}),
    ("worker dead", "CANCELED", {"done": True, "requestedCancellation": True}),
    ("cancelling", "RUNNING", {"done": False, "requestedCancellation": True}),
    ("CANCELED", "CANCELED", {"done": True, "requestedCancellation": True}),
    ("SUCCEEDED", "SUCCEEDED", {"done": True, "requestedCancellation": False}),
    ("FAILED", "FAILED", {"done": True, "requestedCancellation": False}),
    ("job deleted", "", {"done": True, "requestedCancellation": False}),
]


@pytest.mark.parametrize(("before", "after", "says"), CANCELS)
def test_cancel_of_an_operation(
    server: Both, project: Project, ask: Ask, before: str, after: str, says: dict[str, Any]
) -> None:
    name = project.create("j")["name"]
    if before != "QUEUED" and before != "CANCELED":
        project.run("j", counters={})
    if before == "worker dead":
        lose_the_worker(server)
    if before in ("CANCELED", "cancelling"):
        project.ok("POST", "/jobs/j:cancel")
    if before in ("SUCCEEDED", "FAILED", "job deleted"):
        project.finish("j", "FAILED" if before == "FAILED" else "SUCCEEDED")
    if before == "job deleted":
        project.ok("DELETE", "/jobs/j")
    assert ask("CancelOperation", {"name": name}) == Answer(reply={})
    operation = ask("GetOperation", {"name": name}).reply
    requested = operation["metadata"].get("requestedCancellation", False)
    assert {"done": operation["done"], "requestedCancellation": requested} == says
    if after == "CANCELED":
        assert operation["error"]["code"] == 1
    if after:
        assert ask("GetJob", {"name": project.job_name("j")}).reply["state"] == after


@pytest.mark.parametrize("case", ["deleted", "other project", "unknown", "location"])
def test_cancel_of_no_operation(project: Project, ask: Ask, case: str) -> None:
    name = project.create("j")["name"]
    if case == "deleted":
        project.ok("DELETE", name)
    elif case == "other project":
        name = name.replace(project.id, "somebody")
    elif case == "unknown":
        name = f"{project.parent}/operations/none"
    else:
        name = name.replace("global", "moon")
    answer = ask("CancelOperation", {"name": name})
    assert (answer.code, answer.details[0]["reason"]) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert project.ok("GET", "/jobs/j")["state"] == "QUEUED"


def test_two_cancels_at_once(project: Project, ask: Ask) -> None:
    name = project.create("j")["name"]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask("CancelOperation", {"name": name}), range(8)))
    assert answers == [Answer(reply={})] * 8
    assert project.ok("GET", "/jobs/j")["state"] == "CANCELED"

"""The same requests over both transports: the same code, text, reason and fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from google.protobuf import json_format
from sqlalchemy import select, update

from longshore.api import wire
from longshore.api.json_messages import to_json
from longshore.database.tables import jobs, shards
from tests.api.clients.drivers import METHODS, OVER_HTTP, over_http
from tests.api.conftest import Project, delete_job
from tests.api.grpc.conftest import Both, raw
from tests.api.test_catalogue import CATALOGUE, REFUSED

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


class Wrong(NamedTuple):
    """A request that is refused: with which code, reason and fields. @ is the project's parent."""

    method: str
    request: dict[str, Any]
    code: str
    reason: str | None = None
    fields: tuple[str, ...] = ()


NAMES = {
    "CreateJob": ("parent", "@"),
    "GetJob": ("name", "@/jobs/open"),
    "ListJobs": ("parent", "@"),
    "CancelJob": ("name", "@/jobs/open"),
    "DeleteJob": ("name", "@/jobs/open"),
    "ListBucketOperations": ("parent", "@/jobs/open"),
    "GetBucketOperation": ("name", "@/jobs/open/bucketOperations/x"),
    "GetOperation": ("name", "@/operations/x"),
    "ListOperations": ("name", "@"),
    "CancelOperation": ("name", "@/operations/x"),
    "DeleteOperation": ("name", "@/operations/x"),
    "GetLocation": ("name", "@"),
}
LISTS = {**NAMES, "ListLocations": ("name", "projects/p")}
ZERO = "00000000-0000-0000-0000-000000000000"


def foreign(method: str, where: str) -> Wrong:
    """What is elsewhere, or nowhere, is not found."""
    field, name = NAMES[method]
    more = {"job": job()} if method == "CreateJob" else {}
    request = {field: name.replace("@", where), **more}
    return Wrong(method, request, "NOT_FOUND", "RESOURCE_NOT_FOUND")


def of_list(method: str, **arguments: Any) -> Wrong:
    """A list whose one argument is bad."""
    field, name = LISTS[method]
    (wrong,) = (re.sub("[A-Z]", lambda at: f"_{at[0].lower()}", one) for one in arguments)
    reason = f"{wrong.upper()}_INVALID"
    return Wrong(method, {field: name, **arguments}, "INVALID_ARGUMENT", reason, (wrong,))


def create(reason: str, *fields: str, code: str = "INVALID_ARGUMENT", **more: Any) -> Wrong:
    return Wrong("CreateJob", {"parent": "@", "job": job(), **more}, code, reason, fields)


def one_job(method: str, job_id: str, code: str, reason: str, **more: Any) -> Wrong:
    fields = ("request_id",) if reason == "REQUEST_ID_INVALID" else ()
    return Wrong(method, {"name": f"@/jobs/{job_id}", **more}, code, reason, fields)


ERRORS = [
    *(foreign(method, "projects/p/locations/moon") for method in NAMES),
    *(
        foreign(method, "projects/somebody/locations/global")
        for method in sorted(NAMES.keys() - {"CreateJob", "GetLocation"})
        if not method.startswith("List") or method == "ListBucketOperations"
    ),
    *(
        of_list(method, **wrong)
        for method in sorted(LISTS)
        if method.startswith("List")
        for wrong in (
            {"filter": "x ="},
            {"filter": "nothing = 1"},
            {"pageToken": "x"},
            {"pageSize": -1},
        )
    ),
    *(of_list(method, orderBy="colour") for method in ("ListJobs", "ListBucketOperations")),
    Wrong("ListOperations", {"name": "@", "returnPartialSuccess": True}, "UNIMPLEMENTED"),
    *(
        create(reason, field, jobId=job_id, job=body)
        for job_id, body, reason, field, _ in CATALOGUE
        if "projectSource" not in body
    ),
    create(
        "BUCKET_NAME_INVALID",
        "job.bucket_list.buckets[0].bucket",
        "job.bucket_list.buckets[2].bucket",
        job=job(bucketList=delete_job("A", "ok", "_")["bucketList"]),
    ),
    *(
        create("TRANSFORMATION_INVALID", field, job=job(deleteObject=None, **transformation))
        for transformation, field in REFUSED
        if "setObjectAcls" not in transformation
    ),
    create("RESOURCE_ALREADY_EXISTS", jobId="open", code="ALREADY_EXISTS"),
    create("REQUEST_ID_INVALID", "request_id", requestId="x"),
    create("REQUEST_ID_INVALID", "request_id", requestId=ZERO),
    create("REQUEST_ID_REUSED", requestId=REQUEST_ID),
    one_job("CancelJob", "none", "NOT_FOUND", "RESOURCE_NOT_FOUND"),
    one_job("CancelJob", "ended", "FAILED_PRECONDITION", "JOB_FINISHED"),
    one_job("CancelJob", "open", "INVALID_ARGUMENT", "REQUEST_ID_INVALID", requestId="x"),
    one_job("CancelJob", "open", "INVALID_ARGUMENT", "REQUEST_ID_INVALID", requestId=ZERO),
    one_job("DeleteJob", "none", "NOT_FOUND", "RESOURCE_NOT_FOUND"),
    one_job("DeleteJob", "open", "FAILED_PRECONDITION", "JOB_NOT_FINISHED"),
    one_job("DeleteJob", "many", "FAILED_PRECONDITION", "FORCE_REQUIRED"),
    one_job("DeleteJob", "many", "FAILED_PRECONDITION", "JOB_NOT_FINISHED", force=True),
    one_job("DeleteJob", "ended", "INVALID_ARGUMENT", "REQUEST_ID_INVALID", requestId="x"),
    one_job("DeleteJob", "ended", "INVALID_ARGUMENT", "REQUEST_ID_INVALID", requestId=ZERO),
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


@pytest.mark.parametrize("wrong", ERRORS, ids=lambda wrong: f"{wrong.method}-{wrong.reason}")
def test_errors(channel: grpc.Channel, rest: httpx.Client, harbour: Project, wrong: Wrong) -> None:
    request = {
        key: value.replace("@", harbour.parent) if isinstance(value, str) else value
        for key, value in wrong.request.items()
    }
    answers = [ask(wrong.method, request) for ask in (over_grpc(channel), over_rest(rest))]
    assert answers[0] == answers[1]
    told = answers[0]
    assert told.code == wrong.code
    assert [one["reason"] for one in told.details if "reason" in one] == [wrong.reason][
        : wrong.reason is not None
    ]
    violations = [one for part in told.details for one in part.get("fieldViolations", ())]
    assert tuple(one["field"] for one in violations) == wrong.fields
    if violations:
        assert told.message == "\n".join(one["description"] for one in violations)


@pytest.fixture(scope="module")
def down(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """A directory has taken the place of the database's file."""
    where = tmp_path_factory.mktemp("down") / "longshore.sqlite"
    both = Both(where)
    both.start()
    both.database._reader.close()
    both.database._writer.close()
    for file in where.parent.iterdir():
        file.unlink()
    where.mkdir()
    yield both
    both.stop()


REQUESTS: dict[str, dict[str, Any]] = {
    "CreateJob": {"parent": "@", "jobId": "j", "job": job()},
    "GetJob": {"name": "@/jobs/j"},
    "ListJobs": {"parent": "@"},
    "CancelJob": {"name": "@/jobs/j", "requestId": REQUEST_ID},
    "DeleteJob": {"name": "@/jobs/j", "force": True},
    "GetBucketOperation": {"name": "@/jobs/j/bucketOperations/b"},
    "ListBucketOperations": {"parent": "@/jobs/j"},
    "GetOperation": {"name": "@/operations/o"},
    "ListOperations": {"name": "@"},
    "CancelOperation": {"name": "@/operations/o"},
    "DeleteOperation": {"name": "@/operations/o"},
}


ANY_LOCATION = {"ListJobs", "ListOperations"}


@pytest.mark.parametrize("location", ["moon", "us-central1", "GLOBAL", "-"])
@pytest.mark.parametrize("method", [*REQUESTS, "GetLocation"])
def test_there_is_one_location(
    channel: grpc.Channel, rest: httpx.Client, harbour: Project, method: str, location: str
) -> None:
    """``-`` stands for it in the two lists to which gcloud sends that."""
    request = dict(REQUESTS.get(method, {"name": "@"}))
    request.pop("requestId", None)
    parent = f"projects/{harbour.id}/locations/{location}"
    for field in ("parent", "name"):
        if field in request:
            request[field] = request[field].replace("@", parent)
    answers = [ask(method, request) for ask in (over_grpc(channel), over_rest(rest))]
    assert answers[0] == answers[1]
    if location == "-" and method in ANY_LOCATION:
        assert answers[0].code == "OK"
        assert answers[0].reply
    else:
        assert (answers[0].code, answers[0].details[0]["reason"]) == (
            "NOT_FOUND",
            "RESOURCE_NOT_FOUND",
        )
        assert "the only location is 'global'" in answers[0].message


@pytest.mark.parametrize("project_id", ["123456789012", "example.com:mine", "a"])
def test_a_project_is_whatever_it_is_called(ask: Ask, project_id: str) -> None:
    """By id or by number, which are two names: nobody here knows whose number it is."""
    parent = f"projects/{project_id}/locations/global"
    ask("CreateJob", {"parent": parent, "jobId": "j", "job": job()})
    assert ask("GetJob", {"name": f"{parent}/jobs/j"}).reply["name"] == f"{parent}/jobs/j"
    assert len(ask("ListJobs", {"parent": parent}).reply["jobs"]) == 1
    (location,) = ask("ListLocations", {"name": f"projects/{project_id}"}).reply["locations"]
    assert location == {"name": parent, "locationId": "global"}


@pytest.mark.parametrize("method", REQUESTS)
def test_a_database_that_does_not_serve(
    down: Both, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """503 UNAVAILABLE: clients try again by themselves."""
    parent = "projects/p/locations/global"
    request = {
        key: value.replace("@", parent) if isinstance(value, str) else value
        for key, value in REQUESTS[method].items()
    }
    with httpx.Client(base_url=down.url) as rest, grpc.insecure_channel(down.target) as channel:
        answers = [ask(method, request) for ask in (over_grpc(channel), over_rest(rest))]
        pages = [rest.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")]
    assert answers[0] == answers[1]
    assert answers[0].code == "UNAVAILABLE"
    assert "unable to open database file" in answers[0].message
    assert pages == [503] * 3
    assert not [record for record in caplog.records if record.exc_info]


def test_every_method_has_an_error_here() -> None:
    assert {wrong.method for wrong in ERRORS} == OVER_HTTP


@pytest.mark.parametrize("method", sorted(NAMES))
def test_malformed_names(
    channel: grpc.Channel,
    rest: httpx.Client,
    project: Project,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    """Over REST they are another path, or none."""
    field, name = NAMES[method]
    good = name.replace("@", project.parent)
    ask = over_grpc(channel)
    for bad in ("", "jobs/j", f"{good}/", f"/{good}", good.replace("projects/", "projects//")):
        answer = ask(method, {field: bad})
        assert (answer.code, answer.reply) == ("INVALID_ARGUMENT", None), bad
        assert repr(bad)[:100] in answer.message
    verb, path, _, _ = over_http(method, {field: f"{good}/more"})
    response = rest.request(verb, path)
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
    assert not caplog.records


def test_a_request_is_the_same_on_both(channel: grpc.Channel, project: Project) -> None:
    ask = over_grpc(channel)
    request = {"parent": project.parent, "jobId": "j", "requestId": REQUEST_ID, "job": job()}
    name = ask("CreateJob", request).reply["name"]
    assert project.create("j", requestId=REQUEST_ID)["name"] == name
    assert project.rows() == 1


@pytest.fixture(params=["gRPC", "REST"])
def ask(request: pytest.FixtureRequest, channel: grpc.Channel, rest: httpx.Client) -> Ask:
    return over_grpc(channel) if request.param == "gRPC" else over_rest(rest)


def change_shards(server: Both, project: Project, **values: Any) -> None:
    mine = select(jobs.c.id).where(jobs.c.project == project.id).scalar_subquery()
    changed = update(shards).where(shards.c.job == mine).values(**values)
    server.write(lambda connection: connection.execute(changed))


PLANNED = {"range": {}, "store": "local"}
CANCELS: list[tuple[str, str, bool]] = [
    # how the job is before, how after, and whether its operation says that somebody asked for it
    ("QUEUED", "CANCELED", True),
    ("planning", "RUNNING", True),
    ("RUNNING", "RUNNING", True),
    ("worker dead while planning", "CANCELED", True),
    ("worker dead", "CANCELED", True),
    ("worker dead with something announced", "RUNNING", True),
    ("cancelling", "RUNNING", True),
    ("CANCELED", "CANCELED", True),
    ("SUCCEEDED", "SUCCEEDED", False),
    ("FAILED", "FAILED", False),
    ("job deleted", "", False),
]


def bring_about(server: Both, project: Project, before: str) -> None:
    if before not in ("QUEUED", "CANCELED"):
        project.run("j", counters={})
    if before in ("RUNNING", "worker dead", "cancelling"):
        change_shards(server, project, **PLANNED)
    if before.startswith("worker dead"):
        # As runners do when a worker is dead: its shards are free.
        change_shards(server, project, owner=None)
    if before.endswith("announced"):
        change_shards(server, project, **PLANNED, intent=b"to be settled")
    if before in ("CANCELED", "cancelling"):
        project.ok("POST", "/jobs/j:cancel")
    if before in ("SUCCEEDED", "FAILED", "job deleted"):
        project.finish("j", "FAILED" if before == "FAILED" else "SUCCEEDED")
    if before == "job deleted":
        project.ok("DELETE", "/jobs/j")


@pytest.mark.parametrize(("before", "after", "asked"), CANCELS)
def test_cancel_of_an_operation(
    server: Both, project: Project, ask: Ask, before: str, after: str, asked: bool
) -> None:
    name = project.create("j")["name"]
    bring_about(server, project, before)
    for _ in range(2):
        assert ask("CancelOperation", {"name": name}) == Answer(reply={})
    operation = ask("GetOperation", {"name": name}).reply
    assert operation["metadata"].get("requestedCancellation", False) is asked
    assert operation["done"] is (after != "RUNNING")
    if after == "CANCELED":
        assert operation["error"]["code"] == 1
    if after:
        assert ask("GetJob", {"name": project.job_name("j")}).reply["state"] == after


@pytest.mark.parametrize(("before", "after", "asked"), CANCELS)
def test_cancel_of_a_job(
    server: Both, project: Project, ask: Ask, before: str, after: str, asked: bool
) -> None:
    """As of its operation, but that what has ended otherwise, or is gone, is an error."""
    name = project.create("j")["name"]
    bring_about(server, project, before)
    for _ in range(2):
        answer = ask("CancelJob", {"name": project.job_name("j")})
        reasons = [one["reason"] for one in answer.details]
        if asked:
            assert answer == Answer(reply={})
        elif after:
            assert (answer.code, reasons) == ("FAILED_PRECONDITION", ["JOB_FINISHED"])
        else:
            assert (answer.code, reasons) == ("NOT_FOUND", ["RESOURCE_NOT_FOUND"])
    operation = ask("GetOperation", {"name": name}).reply
    assert operation["metadata"].get("requestedCancellation", False) is asked
    assert operation["done"] is (after != "RUNNING")
    if after:
        assert ask("GetJob", {"name": project.job_name("j")}).reply["state"] == after


BODIES: list[tuple[bytes, str | None]] = [
    (body, content_type)
    for body in (b"", b"{}", b" \n", b"\t{ }\r\n")
    for content_type in (None, "", "application/json", "application/json; charset=utf-8", "text/x")
]


@pytest.mark.parametrize(("body", "content_type"), BODIES)
@pytest.mark.parametrize("what", ["operation", "job"])
def test_bodies_of_a_cancel(
    project: Project, what: str, body: bytes, content_type: str | None
) -> None:
    operation = project.create("j")["name"]
    name = operation if what == "operation" else project.job_name("j")
    headers = {} if content_type is None else {"content-type": content_type}
    assert project.ok("POST", f"{name}:cancel", content=body, headers=headers) == {}
    assert project.ok("GET", operation)["error"]["code"] == 1


def test_a_name_in_the_body_of_a_cancel_must_be_that_of_the_path(project: Project) -> None:
    first, second = (project.create(job_id)["name"] for job_id in "ab")
    error = project.error("POST", f"{first}:cancel", json={"name": second})
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["details"][0]["fieldViolations"][0]["field"] == "name"
    assert [project.ok("GET", name)["done"] for name in (first, second)] == [False, False]
    assert project.ok("POST", f"{first}:cancel", json={"name": first}) == {}
    assert [project.ok("GET", name)["done"] for name in (first, second)] == [True, False]


@pytest.mark.parametrize(
    "body",
    [
        b'{"force": true}',
        b'{"requestId": "3f2b0c1e-6d0a-4c9b-9d7e-0f4a5b6c7d8e"}',
        b"[]",
        b"null",
        b"0",
        b'"x"',
        b"{} {}",
        b"{",
        b"x=1",
        b"\xff",
        b"\0",
    ],
)
def test_other_bodies_of_an_operation_s_cancel_are_refused(project: Project, body: bytes) -> None:
    name = project.create("j")["name"]
    error = project.error("POST", f"{name}:cancel", content=body)
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert project.ok("GET", name)["done"] is False


DELETES: list[tuple[str, int, bool, str]] = [
    # how the job is, of how many buckets, whether forced; the reason if it is refused
    ("QUEUED", 1, False, "JOB_NOT_FINISHED"),
    ("QUEUED", 1, True, "JOB_NOT_FINISHED"),
    ("RUNNING", 1, True, "JOB_NOT_FINISHED"),
    ("RUNNING", 2, False, "FORCE_REQUIRED"),
    ("CANCELED", 1, False, ""),
    ("CANCELED", 2, False, "FORCE_REQUIRED"),
    ("CANCELED", 2, True, ""),
    ("SUCCEEDED", 1, False, ""),
    ("SUCCEEDED", 1, True, ""),
    ("SUCCEEDED", 2, False, "FORCE_REQUIRED"),
    ("SUCCEEDED", 2, True, ""),
    ("FAILED", 1, False, ""),
    ("FAILED", 2, False, "FORCE_REQUIRED"),
]


@pytest.mark.parametrize(("state", "buckets_", "force", "reason"), DELETES)
def test_delete_of_a_job(
    project: Project, ask: Ask, state: str, buckets_: int, force: bool, reason: str
) -> None:
    operation = project.create("j", delete_job(*(f"b-{n}" for n in range(buckets_))))["name"]
    if state not in ("QUEUED", "CANCELED"):
        project.run("j", counters={})
    if state == "CANCELED":
        project.ok("POST", "/jobs/j:cancel")
    elif state in ("SUCCEEDED", "FAILED"):
        project.finish("j", state)
    before = project.ok("GET", operation)
    answer = ask("DeleteJob", {"name": project.job_name("j"), "force": force})
    if reason:
        assert (answer.code, answer.details[0]["reason"]) == ("FAILED_PRECONDITION", reason)
        assert project.ok("GET", "/jobs/j")["state"] == state
    else:
        assert answer == Answer(reply={})
        for gone in ("GetJob", "DeleteJob", "CancelJob"):
            assert ask(gone, {"name": project.job_name("j")}).code == "NOT_FOUND"
    assert project.ok("GET", operation) == before


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

"""The discovery document: against Google's own, and with a client that builds itself from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from googleapiclient import discovery as google
from googleapiclient import errors, http
from googleapiclient.discovery_cache import get_static_doc

from longshore.api import discovery
from tests.api.conftest import Project, Server, delete_job

ABOUT_GOOGLE = {
    "documentationLink",
    "icons",
    "mtlsRootUrl",
    "ownerDomain",
    "ownerName",
    "revision",
    "version_module",
}
"""What of Google's document is not about the API."""

NOT_SENT = {"ReconciliationOperationMetadata"}
"""What no method of the API sends or takes."""


def bare(value: Any) -> Any:
    """Without what the descriptors do not tell: descriptions, and which fields are only read."""
    if isinstance(value, list):
        return [bare(one) for one in value]
    if not isinstance(value, dict):
        return value
    told = {"description": str, "enumDescriptions": list, "readOnly": bool}
    return {
        name: bare(one) for name, one in value.items() if not isinstance(one, told.get(name, ()))
    }


def test_the_document_is_google_s() -> None:
    theirs = json.loads(get_static_doc("storagebatchoperations", "v1"))
    for name in ABOUT_GOOGLE:
        del theirs[name]
    for name in NOT_SENT:
        del theirs["schemas"][name]
    ours = discovery.document("https://storagebatchoperations.googleapis.com/")
    assert bare(ours) == bare(theirs)


@pytest.mark.parametrize(
    "path",
    [
        "/$discovery/rest?version=v1",
        "/%24discovery/rest?version=v1",
        "/$discovery/rest",
        "/discovery/v1/apis/storagebatchoperations/v1/rest",
    ],
)
def test_where_the_document_is(rest: httpx.Client, server: Server, path: str) -> None:
    document = rest.get(path).json()
    assert document["id"] == "storagebatchoperations:v1"
    assert document["rootUrl"] == document["baseUrl"] == f"{server.url}/"


def test_the_document_leads_to_where_it_was_found(rest: httpx.Client) -> None:
    for host in ("longshore.example:8080", "[::1]:80", "localhost"):
        document = rest.get("/$discovery/rest", headers={"host": host}).json()
        assert document["rootUrl"] == f"http://{host}/"
    for host in ("a b", "a/b", '"', "[x]"):
        assert rest.get("/$discovery/rest", headers={"host": host}).status_code == 400


def test_what_the_document_s_path_does_not_have(rest: httpx.Client) -> None:
    answer = rest.get("/$discovery/rest?version=v2")
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
    answer = rest.post("/$discovery/rest", content=b"{}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert rest.get("/discovery/v1/apis/storage/v1/rest").status_code == 404


@pytest.fixture(scope="module")
def client(rest: httpx.Client) -> Iterator[Any]:
    document = rest.get("/$discovery/rest?version=v1").text
    with google.build_from_document(document, http=http.build_http()) as built:
        yield built.projects().locations()


@pytest.fixture
def jobs(client: Any) -> Any:
    return client.jobs()


def refused(call: Callable[[], Any]) -> errors.HttpError:
    with pytest.raises(errors.HttpError) as caught:
        call()
    return caught.value


def test_a_built_client_creates_and_gets(client: Any, project: Project) -> None:
    operation = (
        client.jobs()
        .create(parent=project.parent, jobId="j", body=delete_job(), fields="name,metadata")
        .execute()
    )
    assert operation["metadata"]["job"]["name"] == project.job_name("j")
    job = client.jobs().get(name=project.job_name("j")).execute()
    assert job["bucketList"] == delete_job()["bucketList"]
    assert client.operations().get(name=operation["name"]).execute()["done"] is False
    part = client.jobs().bucketOperations().list(parent=project.job_name("j")).execute()
    [part] = part["bucketOperations"]
    assert client.jobs().bucketOperations().get(name=part["name"]).execute() == part


def test_a_built_client_lists_page_by_page(jobs: Any, project: Project) -> None:
    for number in range(5):
        project.create(f"j{number}")
    request = jobs.list(parent=project.parent, pageSize=2, orderBy="name desc")
    pages = []
    while request is not None:
        page = request.execute()
        pages.append([job["name"].rpartition("/")[2] for job in page["jobs"]])
        request = jobs.list_next(request, page)
    assert pages == [["j4", "j3"], ["j2", "j1"], ["j0"]]


def test_a_built_client_reads_pages_of_operations(client: Any, project: Project) -> None:
    made = {project.create(f"j{number}")["name"] for number in range(3)}
    operations = client.operations()
    request = operations.list(name=project.parent, pageSize=2)
    seen = []
    while request is not None:
        page = request.execute()
        seen += [one["name"] for one in page["operations"]]
        request = operations.list_next(request, page)
    assert set(seen) == made
    assert len(seen) == 3


def test_a_built_client_cancels_and_deletes(client: Any, project: Project) -> None:
    first, second = (project.create(job_id)["name"] for job_id in ("a", "b"))
    assert client.jobs().cancel(name=project.job_name("a"), body={}).execute() == {}
    assert client.operations().cancel(name=second).execute() == {}
    for name in (first, second):
        operation = client.operations().get(name=name).execute()
        assert (operation["done"], operation["error"]["code"]) == (True, 1)
    assert client.jobs().delete(name=project.job_name("a"), force=True).execute() == {}
    assert client.operations().delete(name=second).execute() == {}


def test_a_built_client_sees_locations(client: Any, project: Project) -> None:
    listed = client.list(name=f"projects/{project.id}", extraLocationTypes=["x", "y"]).execute()
    assert listed == {"locations": [client.get(name=project.parent).execute()]}


def test_a_built_client_reads_errors(jobs: Any, project: Project) -> None:
    body = {"x": 1, "dryRun": "maybe"}
    error = refused(lambda: jobs.create(parent=project.parent, jobId="j", body=body).execute())
    assert error.status_code == 400
    assert error.reason.startswith("Invalid JSON payload received. Unknown name \"x\" at 'job'")
    [bad_request] = error.error_details
    assert bad_request["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [one["field"] for one in bad_request["fieldViolations"]] == ["job", "job.dry_run"]
    error = refused(lambda: jobs.get(name=project.job_name("none")).execute())
    assert error.status_code == 404
    assert error.error_details[0]["reason"] == "RESOURCE_NOT_FOUND"
    project.create("j")
    error = refused(
        lambda: jobs.create(parent=project.parent, jobId="j", body=delete_job()).execute()
    )
    assert error.status_code == 409


def test_a_built_client_s_long_list_becomes_a_post(jobs: Any, project: Project) -> None:
    """More than 2,048 characters: it sends a form with X-HTTP-Method-Override."""
    project.create("j")
    long = f'state="QUEUED" OR name="{"x" * http.MAX_URI_LENGTH}"'
    request = jobs.list(parent=project.parent, filter=long)
    assert len(request.uri) > http.MAX_URI_LENGTH
    assert [job["name"] for job in request.execute()["jobs"]] == [project.job_name("j")]

"""What gcloud sends, word for word, and what it makes of the replies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import Code
from longshore.model import ErrorSummary
from tests.api.clients.programs import Gcloud
from tests.api.conftest import Heard, Project, delete_job
from tests.api.grpc.conftest import Both
from tests.conftest import need

pytestmark = pytest.mark.services
DELETE = ("--bucket=bucket-1", "--included-object-prefixes=tmp/", "--delete-object")
PREFIXES = {"prefixList": {"includedObjectPrefixes": ["tmp/"]}}
Run = Callable[..., str]
"""Runs a command of gcloud in the project; gives what it wrote, which went well."""


@pytest.fixture
def gcloud(server: Both, tmp_path: Path) -> Gcloud:
    need("gcloud")
    return Gcloud(server.url, tmp_path)


@pytest.fixture
def run(gcloud: Gcloud, project: Project) -> Run:
    def run(*arguments: str, **more: str) -> str:
        done = gcloud.run(*arguments, **{"CLOUDSDK_CORE_PROJECT": project.id, **more})
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def fails(gcloud: Gcloud, project: Project) -> Run:
    def fails(*arguments: str) -> str:
        done = gcloud.run(*arguments, CLOUDSDK_CORE_PROJECT=project.id)
        assert done.returncode == 1
        return done.stderr

    return fails


def test_the_life_of_a_job(run: Run, server: Both, project: Project) -> None:
    with server.listening() as heard:
        told = run("create", "purge-1", *DELETE, "--description=nightly")
        assert f"Created batch job: {project.job_name('purge-1')}" in told
        told = run("cancel", "purge-1")
        assert f"Canceled batch job: {project.job_name('purge-1')}" in told
        told = run("delete", "purge-1")
        assert f"Deleted batch job: {project.job_name('purge-1')}" in told
        assert "Listed 0 items." in run("list")
    jobs = f"/v1/{project.parent}/jobs"
    assert [str(one) for one in heard] == [
        f"POST {jobs}?alt=json&jobId=purge-1",
        f"POST {jobs}/purge-1:cancel?alt=json",
        f"DELETE {jobs}/purge-1?alt=json",
        f"GET {jobs}?alt=json&pageSize=500",
    ]
    create, cancel, delete, listing = heard
    assert json.loads(create.body) == {
        "bucketList": {"buckets": [{"bucket": "bucket-1", **PREFIXES}]},
        "deleteObject": {"permanentObjectDeletionEnabled": False},
        "description": "nightly",
    }
    assert json.loads(cancel.body) == {}
    assert not delete.body
    assert {one.headers["content-type"] for one in (create, cancel)} == {"application/json"}
    assert {one.headers["content-length"] for one in (delete, listing)} == {"0"}
    for one in heard:
        assert one.headers["accept"] == "application/json"
        assert one.headers["user-agent"].startswith("google-cloud-sdk gcloud/")
        assert "authorization" not in one.headers


LOGS = ("--log-actions=transform", "--log-action-states=succeeded,failed")
BODIES: dict[str, tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = {
    # flags, what of the bucket's entry they are, and the rest of the body
    "prefixes without their blanks": (
        ("--included-object-prefixes= a/, b/ ", "--delete-object"),
        {"prefixList": {"includedObjectPrefixes": ["a/", "b/"]}},
        {"deleteObject": {"permanentObjectDeletionEnabled": False}},
    ),
    "no prefix is every object": (
        (
            "--included-object-prefixes=",
            "--delete-object",
            "--enable-permanent-object-deletion",
        ),
        {"prefixList": {}},
        {"deleteObject": {"permanentObjectDeletionEnabled": True}},
    ),
    "a manifest and one hold": (
        ("--manifest-location=gs://lists/m*.csv", "--put-object-temporary-hold"),
        {"manifest": {"manifestLocation": "gs://lists/m*.csv"}},
        {"putObjectHold": {"temporaryHold": "SET"}},
    ),
    "both holds": (
        (
            "--included-object-prefixes=tmp/",
            "--no-put-object-temporary-hold",
            "--put-object-event-based-hold",
        ),
        PREFIXES,
        {"putObjectHold": {"temporaryHold": "UNSET", "eventBasedHold": "SET"}},
    ),
    "metadata: known keys in any case, and empty ones clear": (
        (
            "--included-object-prefixes=tmp/",
            "--put-metadata=Content-Type=,cache-CONTROL=no-store,Content-Disposition=inline,"
            "Content-Encoding=gzip,Content-Language=en,"
            "Custom-Time=2027-01-02T03:04:05Z,team=blue,old=,team=red",
        ),
        PREFIXES,
        {
            "putMetadata": {
                "contentType": "",
                "cacheControl": "no-store",
                "contentDisposition": "inline",
                "contentEncoding": "gzip",
                "contentLanguage": "en",
                "customTime": "2027-01-02T03:04:05Z",
                "customMetadata": {"team": "red", "old": ""},
            }
        },
    ),
    "metadata with another delimiter": (
        ("--included-object-prefixes=tmp/", "--put-metadata=^;^team=a,b;x=y"),
        PREFIXES,
        {"putMetadata": {"customMetadata": {"team": "a,b", "x": "y"}}},
    ),
    "a key, and logs": (
        (
            "--included-object-prefixes=tmp/",
            "--rewrite-object=kms-key=projects/p/locations/l/keyRings/r/cryptoKeys/k",
            *LOGS,
        ),
        PREFIXES,
        {
            "rewriteObject": {"kmsKey": "projects/p/locations/l/keyRings/r/cryptoKeys/k"},
            "loggingConfig": {
                "logActions": ["TRANSFORM"],
                "logActionStates": ["SUCCEEDED", "FAILED"],
            },
        },
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_what_create_sends_is_what_describe_shows(
    run: Run, server: Both, project: Project, case: str
) -> None:
    flags, selected, rest = BODIES[case]
    with server.listening() as heard:
        run("create", "j", "--bucket=bucket-1", *flags)
    (create,) = heard
    sent = json.loads(create.body)
    assert sent == {"bucketList": {"buckets": [{"bucket": "bucket-1", **selected}]}, **rest}
    described = json.loads(run("describe", "j", "--format=json"))
    assert described == project.ok("GET", "/jobs/j")
    if rest == {"deleteObject": {"permanentObjectDeletionEnabled": False}}:
        sent["deleteObject"] = {}  # a false that nobody can tell from absence
    assert {name: described[name] for name in sent} == sent


def test_describe_shows_what_gcloud_does_not_know(run: Run, project: Project) -> None:
    """Its own numbering of enums is wrong, so they must be names; unknown ones pass through."""
    job = {
        **delete_job(),
        "dryRun": True,
        "updateObjectCustomContext": {"customContextUpdates": {"keysToClear": ["k"]}},
    }
    del job["deleteObject"]
    project.create("j", job)
    errors = {
        code: ErrorSummary(code=code, count=1, samples=(("gs://bucket-1/x", "why"),))
        for code in (Code.UNAUTHENTICATED, Code.DATA_LOSS)
    }
    assert json.loads(run("describe", "j", "--format=json"))["state"] == "QUEUED"
    project.run("j", counters={"total": 2, "failed": 2}, errors=errors)
    described = json.loads(run("describe", "j", "--format=json"))
    assert described == project.ok("GET", "/jobs/j")
    codes = [one["errorCode"] for one in described["errorSummaries"]]
    assert codes == ["DATA_LOSS", "UNAUTHENTICATED"]


def page_requests(heard: list[Heard]) -> list[tuple[str, bool]]:
    """The size and whether there is a token, of each."""
    asked = [dict(one.parameters) for one in heard]
    assert all(set(one) <= {"alt", "pageSize", "pageToken"} for one in asked)
    return [(one["pageSize"], "pageToken" in one) for one in asked]


@pytest.mark.parametrize(
    ("flags", "names", "requests"),
    [
        (["--page-size=2"], "abcde", [("2", False), ("2", True), ("2", True)]),
        (["--page-size=2", "--limit=3"], "abc", [("2", False), ("1", True)]),
        (["--limit=2"], "ab", [("2", False)]),
        (["--filter=name~[bd]$", "--sort-by=~name"], "db", [("500", False)]),
    ],
)
def test_list(
    run: Run,
    server: Both,
    project: Project,
    flags: list[str],
    names: str,
    requests: list[tuple[str, bool]],
) -> None:
    """Filters and orders are gcloud's own: they are never sent."""
    for job_id in "abcde":
        project.create(job_id)
    with server.listening() as heard:
        listed = run("list", "--format=value(name)", *flags)
    assert page_requests(heard) == requests
    assert listed.split() == list(names)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["describe", "none"], ["NOT_FOUND: Resource '", "reason: RESOURCE_NOT_FOUND"]),
        (["cancel", "ended"], ["FAILED_PRECONDITION: Job '", "reason: JOB_FINISHED"]),
        (["delete", "open"], ["FAILED_PRECONDITION: Job '", "reason: JOB_NOT_FINISHED"]),
        (["create", "open", *DELETE], ["ALREADY_EXISTS: Resource '"]),
        (["create", "a:b", *DELETE], ["INVALID_ARGUMENT: ", "reason: JOB_ID_INVALID"]),
        (
            ["create", "new", *DELETE[:2], "--rewrite-object=foo=bar"],
            ["INVALID_ARGUMENT: ", "fieldViolations:", "field: job.rewrite_object"],
        ),
        (
            ["create", "new", "--bucket=No_Bucket", *DELETE[1:]],
            ["INVALID_ARGUMENT: ", "field: job.bucket_list.buckets[0].bucket"],
        ),
        (
            ["describe", "projects/p/locations/moon/jobs/j"],
            ["NOT_FOUND: Resource 'projects/p/locations/moon/jobs/j'"],
        ),
    ],
)
def test_errors_are_printed_with_their_details(
    fails: Run, server: Both, project: Project, command: list[str], told: list[str]
) -> None:
    """And sent once: what has a 5xx is tried five times, for half a minute."""
    project.create("open")
    project.create("ended")
    project.run("ended", counters={})
    project.finish("ended")
    with server.listening() as heard:
        printed = fails(*command)
    assert len(heard) == 1
    assert printed.startswith("ERROR: (gcloud.storage.batch-operations.jobs.")
    for text in told:
        assert text in printed
    assert "HTTPError" not in printed


def test_credentials_are_sent_and_ignored(
    gcloud: Gcloud, server: Both, project: Project, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("any text")
    with server.listening() as heard:
        done = gcloud.run(
            "list",
            f"--access-token-file={token}",
            "--billing-project=other",
            CLOUDSDK_CORE_PROJECT=project.id,
            CLOUDSDK_AUTH_DISABLE_CREDENTIALS="false",
        )
    assert done.returncode == 0, done.stderr
    (listing,) = heard
    assert listing.headers["authorization"] == "Bearer any text"
    assert listing.headers["x-goog-user-project"] == "other"


def test_a_project_with_a_domain(run: Run, server: Both, project: Project) -> None:
    """The colon of its name is sent as it is, and no verb."""
    mine = {"CLOUDSDK_CORE_PROJECT": f"example.com:{project.id}"}
    with server.listening() as heard:
        run("create", "j", *DELETE, **mine)
        run("cancel", "j", **mine)
        assert json.loads(run("describe", "j", "--format=json", **mine))["state"] == "CANCELED"
    parent = f"/v1/projects/example.com:{project.id}/locations/global"
    assert [one.path for one in heard] == [
        f"{parent}/jobs",
        f"{parent}/jobs/j:cancel",
        f"{parent}/jobs/j",
    ]


def test_no_project_at_all(gcloud: Gcloud, server: Both) -> None:
    """gcloud asks for the project "None" then, and gets an answer."""
    with server.listening() as heard:
        done = gcloud.run("list")
    assert done.returncode == 0
    assert "Listed 0 items." in done.stderr
    assert [one.path for one in heard] == ["/v1/projects/None/locations/global/jobs"]


def test_the_alpha_track_by_the_name_localhost(
    gcloud: Gcloud, server: Both, project: Project
) -> None:
    project.create("j")
    name = "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGEBATCHOPERATIONS"
    with server.listening() as heard:
        done = gcloud.run(
            "describe",
            project.job_name("j"),
            "--format=value(state)",
            track="alpha",
            CLOUDSDK_CORE_PROJECT="other",
            no_proxy="localhost",
            **{name: f"http://localhost:{server.rest.port}/"},
        )
    assert done.stdout == "QUEUED\n", done.stderr
    assert [str(one) for one in heard] == [f"GET /v1/{project.job_name('j')}?alt=json"]

"""Pages, tokens, orders and filters of the lists."""

from __future__ import annotations

from itertools import chain
from typing import Any

import httpx
import pytest

from longshore.api import listing
from tests.api.conftest import START_US, Project, Server, delete_job

MINUTE_US = 60_000_000
DESCRIPTIONS = {"a": r"Nightly sweep, 100% of C:\tmp", "b": "nightly SWEEP * [x]", "c": "Über_all"}


def names(reply: Any, key: str = "jobs") -> list[str]:
    return [one["name"].rpartition("/")[2] for one in reply.get(key, [])]


def pages(project: Project, path: str, key: str = "jobs", **params: Any) -> list[list[str]]:
    """Every page of a list, as the last parts of the names."""
    found = []
    token = None
    while token != "":
        reply = project.ok(
            "GET", path, params={**params, **({"pageToken": token} if token else {})}
        )
        found.append(names(reply, key))
        token = reply.get("nextPageToken", "")
    return found


@pytest.fixture(scope="module")
def fleet(server: Server, rest: httpx.Client) -> Project:
    """Jobs a to f, a minute apart but for the last two: b ran and succeeded, c failed, d was
    cancelled, e runs. Made once: its tests only look."""
    project = Project(server, rest)
    for index, job_id in enumerate("abcdef"):
        server.clock.time_us = START_US + min(index, 4) * MINUTE_US
        buckets = [f"bucket-{n}" for n in range(2 if job_id == "f" else 1)]
        said = {"description": DESCRIPTIONS[job_id]} if job_id in DESCRIPTIONS else {}
        project.create(job_id, {**delete_job(*buckets), "dryRun": job_id == "a", **said})
    for job_id in "bce":
        project.run(job_id, counters={"total": ord(job_id), "failed": 1})
    project.finish("b")
    project.finish("c", "FAILED", "NOT_FOUND", "no bucket")
    project.ok("POST", "/jobs/d:cancel")
    server.clock.time_us = START_US
    return project


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("", "abcdef"),
        ("name", "abcdef"),
        ("name desc", "fedcba"),
        ("create_time", "abcdef"),
        ("createTime desc", "fedcba"),
        (" create_time  desc , name ", "efdcba"),
        ("create_time asc,name desc", "abcdfe"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 4, 6, 7])
def test_orders_and_pages(fleet: Project, order_by: str, expected: str, size: int) -> None:
    found = pages(fleet, "/jobs", orderBy=order_by, pageSize=size)
    assert [len(page) for page in found[:-1]] == [size] * (len(found) - 1)
    assert "".join(chain(*found)) == expected


def test_sizes_are_coerced(fleet: Project) -> None:
    assert len(pages(fleet, "/jobs", pageSize=0)) == 1
    assert len(pages(fleet, "/jobs", pageSize=1_000_000)) == 1


def test_a_page_ends_early_where_jobs_are_large(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in "abcde":
        project.create(job_id)
    monkeypatch.setattr(listing, "PAGE_MAX_BYTES", 100)  # such a job has a bit less
    assert pages(project, "/jobs") == [["a", "b"], ["c", "d"], ["e"]]
    monkeypatch.setattr(listing, "PAGE_MAX_BYTES", 1)
    assert [len(page) for page in pages(project, "/jobs")] == [1] * 5


def test_the_size_may_change_between_pages_and_nothing_else(fleet: Project) -> None:
    first = {"pageSize": 2, "filter": "name:*", "orderBy": "name"}
    token = fleet.ok("GET", "/jobs", params=first)["nextPageToken"]
    more = {**first, "pageToken": token}
    assert names(fleet.ok("GET", "/jobs", params={**more, "pageSize": 3})) == ["c", "d", "e"]
    for change in ({"filter": ""}, {"filter": "NOT name:x"}, {"orderBy": "name desc"}):
        error = fleet.error("GET", "/jobs", params={**more, **change})
        assert error["status"] == "INVALID_ARGUMENT"
        assert "page_token" in error["message"]
    assert fleet.error("GET", "/operations", params={"pageToken": token})["code"] == 400
    every = fleet.parent.replace("/global", "/-") + "/jobs"
    assert fleet.error("GET", every, params=more)["code"] == 400
    assert fleet.ok("GET", every, params=first)["nextPageToken"] != token
    other = fleet.parent.replace(fleet.id, f"{fleet.id}-not") + "/jobs"
    assert fleet.error("GET", other, params=more)["code"] == 400


def test_a_token_that_was_tampered_with(fleet: Project) -> None:
    token = fleet.ok("GET", "/jobs", params={"pageSize": 2})["nextPageToken"]
    assert token.replace("-", "").replace("_", "").isalnum()
    for position in range(0, len(token), 5):
        changed = "A" if token[position] != "A" else "B"
        bad = token[:position] + changed + token[position + 1 :]
        assert fleet.error("GET", "/jobs", params={"pageSize": 2, "pageToken": bad})["code"] == 400


def test_inserts_do_not_disturb_the_pages(project: Project) -> None:
    for job_id in "abcd":
        project.create(job_id)
    first = project.ok("GET", "/jobs", params={"pageSize": 2})
    project.create("aa")
    project.create("cc")
    rest = project.ok("GET", "/jobs", params={"pageToken": first["nextPageToken"]})
    assert names(first) + names(rest) == ["a", "b", "c", "cc", "d"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abcdef"),
        ("state:canceled", "d"),
        ("state:failed", "c"),
        ("state = SUCCEEDED", "b"),
        ('state="running"', "e"),
        ("state != queued", "bcde"),
        ("NOT state:queued", "bcde"),
        ("-state:queued", "bcde"),
        ("state:failed OR state:canceled", "cd"),
        # OR binds tighter: this is state:queued AND (name:a OR name:f)
        ("state:queued AND name=a OR name=f", "af"),
        ("(state:queued AND name=a) OR name=e", "ae"),
        ("state:queued name=f", "f"),
        ("-(state:queued OR state:running)", "bcd"),
        ("name = 'c'", "c"),
        ('name = "*/jobs/c"', "c"),
        ('name = "[*]"', ""),
        (r'name = "\*"', ""),
        ("name > c AND name <= e", "de"),
        ("name != c", "abdef"),
        ("jobs", "abcdef"),
        ('"jobs/d"', "d"),
        ("create_time < 2026-09-01T00:01:00Z", "a"),
        ('createTime >= "2026-09-01T02:03:00.123456+02:00"', "def"),
        ("complete_time:*", "bcd"),
        ("NOT complete_time:*", "aef"),
        # An absent value makes a comparison false, and so its negation true.
        ("complete_time > 2026-09-01T00:00:03Z", "d"),
        ("NOT complete_time > 2026-09-01T00:00:03Z", "abcef"),
        ("complete_time != 2026-09-01T00:00:03Z", "bcd"),
        ("dry_run = true", "a"),
        ("dryRun:false", "bcdef"),
        ("is_multi_bucket_job = true", "f"),
        # Bare words: in any text, in any case of ASCII letters, with wildcards.
        ("nightly sweep", "ab"),
        ("SWEEP", "ab"),
        ("ber_ALL", "c"),
        ("überall", ""),
        ("night*sweep", "ab"),
        ("'100% of'", "a"),
        ("-nightly", "cdef"),
        # Comparisons of text are by case, and nothing but the star is special.
        ("description:sweep", "a"),
        ("description:SWEEP", "b"),
        ("description:'%'", "a"),
        ("description:'_'", "c"),
        ("description:'[x]'", "b"),
        (r'description:"C:\\tmp"', "a"),
        (r'description = "nightly SWEEP \* [x]"', "b"),
        (r'description = "nightly* \* [x]"', "b"),
        (r'description = "*\\tmp"', "a"),
        (r'description = "*\\*"', "a"),
        ('description = "*sweep*"', "a"),
        ('description != "*sweep*"', "bc"),
        ("description = nightly*", "b"),
        ("description:*", "abc"),
        ("NOT description:*", "def"),
        ("description > o", "c"),
        # One operator for several values.
        ("state:(failed OR canceled)", "cd"),
        ("state:(NOT queued -running)", "bcd"),
        ("name = (a OR (b c) OR 'd')", "ad"),
        ("dry_run:*", "a"),
        ("delete_object:*", "abcdef"),
        ("putMetadata:*", ""),
        ("NOT rewrite_object:*", "abcdef"),
        ("name = abc*", ""),
        ('name = "proj*"', "abcdef"),
        ('name = "projects/*/jobs/c"', "c"),
        ('name = "*c"', "c"),
        ('name = "b*x"', ""),
        ('name >= b name = "*" name != "*"', ""),
        ('name = "c*" OR name = "d"', "cd"),
        # Between two microseconds.
        ("create_time > 2026-09-01T00:01:00.123456001Z", "cdef"),
        ("create_time <= 2026-09-01T00:01:00.123456001Z", "ab"),
        ("create_time < 2026-09-01T00:01:00.123456001Z", "ab"),
        ("create_time = 2026-09-01T00:01:00.123456001Z", ""),
        ("create_time != 2026-09-01T00:01:00.123456001Z", "abcdef"),
        ("create_time = 2026-09-01T00:01:00.123456Z", "b"),
        ("create_time:2026-09-01t00:01:00.123456z", "b"),
        ("counters.total_object_count > 98", "ce"),
        ("counters.total_object_count:0", "adf"),
        ("counters.total_bytes_found > -1", "abcdef"),
        ("counters.totalObjectCount = 101", "e"),
        ("counters.failed_object_count=1 AND state=RUNNING", "e"),
    ],
)
def test_filters_of_jobs(fleet: Project, text: str, expected: str) -> None:
    for order_by, size in (("", 1), ("", 100), ("create_time", 2)):
        found = pages(fleet, "/jobs", filter=text, pageSize=size, orderBy=order_by)
        assert "".join(chain(*found)) == expected


def test_a_whole_name_in_a_filter(fleet: Project) -> None:
    for operator in ("=", ":"):
        text = f'name {operator} "{fleet.job_name("c")}"'
        assert names(fleet.ok("GET", "/jobs", params={"filter": text})) == ["c"]
    start = {"filter": f'name = "{fleet.job_name("c")}*"'}
    assert names(fleet.ok("GET", "/jobs", params=start)) == ["c"]
    other = 'name = "projects/other/locations/global/jobs/c"'
    assert names(fleet.ok("GET", "/jobs", params={"filter": other})) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("state", None),
        ("state=", 7),
        ("state:sunk", 1),
        ("state > FAILED", 1),
        ("nothing=1", 1),
        ("name=a AND", 11),
        ("AND name=a", 1),
        ("(name=a", 8),
        ("name=a)", 7),
        ("()", 2),
        ("name='a", 6),
        ("lower(name)", 1),
        ("create_time > timestamp('2026-01-01T00:00:00Z')", 15),
        ("state:(failed OR name=a)", 18),
        ("state:()", 8),
        ("delete_object = 1", 1),
        ("error_summaries.error_code:NOT_FOUND", 1),
        ("counters:total_object_count", 1),
        ("a.'b' = 1", 3),
        ("name:a:b", 7),
        ("NOT", 4),
        ("name=a OR", 10),
        ("-", 2),
        ("state:" + "(" * 33 + "failed" + ")" * 33, 39),
        ("create_time > yesterday", 1),
        ("dry_run = 3", 1),
        ("counters.total_object_count = many", 1),
        ("counters.total_object_count = 99999999999999999999", 1),
        ("'name' = a", 1),
        ("(" * 40 + "name=a" + ")" * 40, 33),
        (" OR ".join(["name=a"] * 101), 1001),
        ("x" * 10_001, None),
        ("é" * 5_001, None),
        ("(" * 9_000, 33),
    ],
)
def test_filters_that_are_refused(fleet: Project, text: str, where: int | None) -> None:
    reply = fleet.call("GET", "/jobs", params={"filter": text})
    if text == "state":  # a bare word, even if a field has that name
        assert reply.json() == {}
        return
    error = reply.json()["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    if where is not None:
        assert error["message"].startswith(f"Invalid filter at position {where}: ")


def test_bucket_operations(project: Project) -> None:
    buckets = [f"bucket-{letter}" for letter in "dcba"]
    project.create("j", delete_job(*buckets))
    path = "/jobs/j/bucketOperations"

    def listed(**params: Any) -> list[str]:
        found: list[str] = []
        token = None
        while token != "":
            more = {**params, **({"pageToken": token} if token else {})}
            reply = project.ok("GET", path, params=more)
            found += [one["bucketName"] for one in reply.get("bucketOperations", [])]
            token = reply.get("nextPageToken", "")
        return found

    assert listed(pageSize=3) == buckets
    gcloud = 'bucket_name="bucket-a" OR bucket_name="bucket-c"'
    assert listed(filter=gcloud) == ["bucket-c", "bucket-a"]
    assert listed(filter="bucketName:bucket-d state:queued") == ["bucket-d"]
    assert listed(filter="counters.total_object_count>0") == []
    ids = names(project.ok("GET", path), "bucketOperations")
    by_name = sorted(zip(ids, buckets, strict=True))
    assert listed(orderBy="name", pageSize=1) == [bucket for _, bucket in by_name]
    assert listed(filter=f'name="{project.job_name("j")}/bucketOperations/{ids[1]}"') == [
        buckets[1]
    ]


def test_operations(fleet: Project) -> None:
    everything = pages(fleet, "/operations", "operations", pageSize=4)
    assert [len(page) for page in everything] == [4, 2]
    assert list(chain(*everything)) == sorted(chain(*everything))

    def jobs(text: str) -> str:
        reply = fleet.ok("GET", "/operations", params={"filter": text})
        found = [one["metadata"]["job"]["name"] for one in reply.get("operations", [])]
        return "".join(sorted(name.rpartition("/")[2] for name in found))

    assert jobs("done=true") == "bcd"
    assert jobs("done:false") == "aef"
    assert jobs("NOT done=true") == "aef"
    assert jobs("metadata.requestedCancellation = true") == "d"
    assert jobs("metadata.create_time > 2026-09-01T00:02:00Z") == "cdef"
    assert jobs("metadata.end_time:*") == "bcd"
    assert jobs("metadata.job.state:running") == "e"
    assert jobs("metadata.job.state:(running OR queued)") == "aef"
    assert jobs("metadata.job.counters.totalObjectCount = 101") == "e"
    assert jobs("metadata.job.dry_run = true") == "a"
    assert jobs("metadata.job.isMultiBucketJob = true") == "f"
    assert jobs("metadata.job.description:*") == "abc"
    assert jobs("metadata.job.complete_time > 2026-09-01T00:00:03Z") == "d"
    assert jobs("metadata.job.schedule_time:*") == "bce"
    assert jobs("metadata.job.delete_object:*") == "abcdef"
    assert jobs("metadata.api_version = v1") == "abcdef"
    assert jobs(f'metadata.operation = "{fleet.parent}/operations/{everything[0][0]}"') != ""
    assert jobs("nightly") == "ab"
    assert jobs(f'metadata.job.name = "{fleet.job_name("e")}"') == "e"
    assert jobs(f'name = "{fleet.parent}/operations/{everything[0][0]}"') != ""


def test_locations_have_no_pages_and_no_filter(project: Project) -> None:
    path = f"projects/{project.id}/locations"
    assert len(project.ok("GET", path, params={"pageSize": 5, "filter": ""})["locations"]) == 1
    for bad in ({"pageSize": -1}, {"pageToken": "x"}, {"filter": "name=x"}):
        assert project.error("GET", path, params=bad)["status"] == "INVALID_ARGUMENT"

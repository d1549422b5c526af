"""What the engine finds in the database after the API's calls."""

from __future__ import annotations

from typing import Any

import orjson
import zstandard
from sqlalchemy import insert, select

from longshore.database.tables import bucket_operations, jobs, shards, sources
from tests.api.conftest import START_US, Project, Server, delete_job


def rows(server: Server, project: Project, table: Any) -> list[dict[str, Any]]:
    mine = select(jobs.c.id).where(jobs.c.project == project.id)
    key = table.c.id if table is jobs else table.c.job
    statement = select(table).where(key.in_(mine)).order_by(*table.primary_key)
    found = server.write(lambda connection: connection.execute(statement).mappings().all())
    return [dict(one) for one in found]


def test_a_new_job_is_plain_data_and_shards_to_plan(server: Server, project: Project) -> None:
    body = delete_job("bucket-1", "bucket-2")
    body["deleteObject"] = {"permanentObjectDeletionEnabled": True}
    body["bucketList"]["buckets"][1] = {
        "bucket": "bucket-2",
        "manifest": {"manifestLocation": "gs://lists/m.csv"},
    }
    body["loggingConfig"] = {"logActions": ["TRANSFORM"], "logActionStates": ["FAILED"]}
    project.create("j", {**body, "dryRun": True})
    (job,) = rows(server, project, jobs)
    assert {name: job[name] for name in ("state", "dry_run", "multi_bucket", "create_us")} == {
        "state": "QUEUED",
        "dry_run": True,
        "multi_bucket": True,
        "create_us": START_US,
    }
    assert (job["transformation_name"], job["transformation"]) == (
        "delete_object",
        {"permanent": True},
    )
    assert job["log_states"] == ["FAILED"]
    first, second = rows(server, project, bucket_operations)
    assert (first["bucket"], first["position"], first["state"]) == ("bucket-1", 0, "QUEUED")
    assert (first["source_name"], first["source"]) == ("prefix_list", 0)
    assert (second["bucket"], second["source_name"]) == ("bucket-2", "manifest")
    assert [one["data"] for one in rows(server, project, sources)] == [
        {"prefixes": ["tmp/"]},
        {"bucket": "lists", "name": "m.csv"},
    ]
    planning = rows(server, project, shards)
    assert [one["bucket_operation"] for one in planning] == [first["id"], second["id"]]
    for one in planning:
        assert (one["state"], one["range"], one["cursor"], one["intent"]) == (
            "QUEUED",
            None,
            {},
            None,
        )


def test_logging_needs_both_lists(server: Server, project: Project) -> None:
    for config in ({"logActions": ["TRANSFORM"]}, {"logActionStates": ["FAILED"]}):
        project.create("", {**delete_job(), "loggingConfig": config})
    assert [job["log_states"] for job in rows(server, project, jobs)] == [[], []]


def test_private_field_numbers_are_not_stored(server: Server, project: Project) -> None:
    grants = {"grants": [{"entity": "allUsers", "role": "READER"}]}
    bucket_list = delete_job()["bucketList"]
    acls = {"setObjectAcls": {"accessControlsUpdates": grants}}
    project.create("j", {"bucketList": bucket_list, **acls})
    (job,) = rows(server, project, jobs)
    assert job["transformation_name"] == "set_object_acls"
    stored = orjson.loads(zstandard.decompress(job["message"]))
    assert stored == {"bucketList": bucket_list, **acls}


def test_cancel_ends_what_has_not_begun_and_leaves_the_rest(
    server: Server, project: Project
) -> None:
    """A shard that runs hears it; one with an open intent has to be settled first."""
    project.create("j")
    project.run("j", counters={"total": 5, "succeeded": 5})
    (running,) = rows(server, project, shards)

    def add(connection: Any, **values: Any) -> None:
        shard = {name: running[name] for name in ("job", "bucket_operation")}
        connection.execute(insert(shards).values(**shard, range={}, cursor={}, **values))

    server.write(add, state="QUEUED")
    server.write(add, state="QUEUED", intent=b"open")
    project.ok("POST", "/jobs/j:cancel")
    states = [(one["state"], one["intent"]) for one in rows(server, project, shards)]
    assert states == [("RUNNING", None), ("CANCELED", None), ("QUEUED", b"open")]
    assert rows(server, project, jobs)[0]["cancel_us"] == START_US
    assert project.ok("GET", "/jobs/j")["state"] == "RUNNING"


def test_a_second_cancel_keeps_the_time_of_the_first(
    server: Server, project: Project, clock: Any
) -> None:
    project.create("j")
    project.run("j", counters={})
    project.ok("POST", "/jobs/j:cancel")
    clock.time_us = START_US + 5
    project.ok("POST", "/jobs/j:cancel")
    assert rows(server, project, jobs)[0]["cancel_us"] == START_US


def test_deleting_a_job_deletes_its_parts(server: Server, project: Project) -> None:
    project.create("j")
    project.ok("POST", "/jobs/j:cancel")
    project.ok("DELETE", "/jobs/j")
    assert rows(server, project, bucket_operations) == []
    assert rows(server, project, shards) == []
    assert rows(server, project, sources) == []
    assert len(rows(server, project, jobs)) == 1

"""``longshore jobs``, ``operations`` and ``bucket-operations`` against a real service."""

from __future__ import annotations

import asyncio
import re
import signal
import time

import pytest
import yaml

from longshore.store import Bucket, NewObject
from tests.cli.conftest import Cli
from tests.service import Service


@pytest.fixture
def stocked(cli, bucket, files):
    """A bucket with nine objects."""
    assert cli("objects", "import", files, bucket).code == 0
    return bucket


@pytest.fixture(scope="module")
def slow_service(tmp_path_factory):
    """A service of its own whose store is capped, with 2,000 objects in the bucket ``slow``."""
    service = Service(tmp_path_factory.mktemp("slow"), rate=500)

    async def stock():
        await service.store.create_bucket(Bucket(name="slow", create_time_us=0))
        new = (NewObject(f"{number:04d}", b"") for number in range(2000))
        await service.store.write_objects("slow", new)
        await service.store.close()

    asyncio.run(stock())
    service.start()
    yield service
    service.close()


@pytest.fixture
def slow(slow_service, cli, monkeypatch):
    """The same, as the server of the test's commands."""
    server = f"http://127.0.0.1:{slow_service.port}"
    monkeypatch.setenv("LONGSHORE_SERVER", server)
    cli.environment["LONGSHORE_SERVER"] = server
    return slow_service


def _create(cli: Cli, bucket: str, *words: str, job: str = "") -> list[str]:
    name = [job] if job else []
    return ["jobs", "create", *name, f"--bucket={bucket}", "--included-object-prefixes=", *words]


def test_a_job_finds_its_buckets_and_objects_by_filters(cli, stocked, files):
    """With the extra of the checker, in the API, and without it, in the workers."""
    project = cli.environment["LONGSHORE_PROJECT"]
    wanted = f"name == '{stocked}'"
    words = [f"--target-project={project}", f"--bucket-filters={wanted}", "--delete-object"]
    everything = [row["name"] for row in cli("objects", "list", stocked, "--format=json").json]
    chosen, *left = sorted(everything)
    objects = f"--object-filters=size < 0 || name == '{chosen}'"
    created = cli("jobs", "create", "filtered", *words, objects, "--wait")
    assert created.code == 0, created.err
    rest = [row["name"] for row in cli("objects", "list", stocked, "--format=json").json]
    assert sorted(rest) == left
    described = cli("jobs", "describe", "filtered", "--format=json").json
    assert described["projectSource"]["bucketFilters"] == {"expression": wanted}
    assert not described.get("isMultiBucketJob", False)
    (row,) = cli("jobs", "list").rows
    assert row[3] == wanted
    (part,) = cli("bucket-operations", "list", "--batch-job=filtered", "--format=json").json
    assert part["bucketName"] == stocked
    assert part["projectSource"] == described["projectSource"]
    refused = cli("jobs", "create", *words, "--object-filters=size > 'x'")
    assert refused.code == 1
    assert "object_filters: Line 1, column 6: found no matching overload" in refused.err


def test_a_job_is_created_awaited_described_listed_and_deleted(cli, stocked):
    create = _create(cli, f"gs://{stocked}", "--delete-object", "--wait", job="purge")
    created = cli(*create)
    project = cli.environment["LONGSHORE_PROJECT"]
    name = f"projects/{project}/locations/global/jobs/purge"
    assert created.code == 0
    assert created.err == f"Created batch job: {name}\n"
    last = created.out.splitlines()[-1]
    assert last.startswith("purge SUCCEEDED total=9 succeeded=9 failed=0 rate=")
    assert re.search(r" rate=\d+/s elapsed=\d+\.\ds$", last)
    assert cli("objects", "list", stocked).out == ""
    described = cli("jobs", "describe", "purge", "--format=json").json
    assert described["counters"]["succeededObjectCount"] == "9"
    assert cli("jobs", "describe", name, "--format=json").json == described
    assert yaml.safe_load(cli("jobs", "describe", "purge", "--format=yaml").out) == described
    plain = dict(cli("jobs", "describe", "purge").rows)
    assert plain["counters.totalObjectCount"] == "9"
    assert plain["bucketList.buckets[0].bucket"] == stocked
    (row,) = cli("jobs", "list").rows
    assert row[:7] == ["purge", "SUCCEEDED", "deleteObject", stocked, "9", "9", "0"]
    assert row[7] == described["createTime"]
    deleted = cli("jobs", "delete", "purge")
    assert (deleted.code, deleted.err) == (0, f"Deleted batch job: {name}\n")
    assert cli("jobs", "list", "--format=json").json == []
    gone = cli("jobs", "describe", "purge")
    assert gone.code == 1
    assert gone.err == f"longshore: NOT_FOUND: Resource '{name}' was not found.\n"


def test_without_wait_the_job_as_created_can_be_had(cli, stocked):
    created = cli(*_create(cli, stocked, "--delete-object", "--dry-run", "--format=json")).json
    assert created["dryRun"] is True
    job = created["name"].rpartition("/")[2]
    assert re.fullmatch(r"job-[0-9a-f-]{36}", job)
    assert cli("jobs", "watch", job, "--format=value(state, counters.totalObjectCount)").out == (
        "SUCCEEDED\t9\n"
    )
    assert "deleteObject (dry run)" in cli("jobs", "list").rows[0]
    assert len(cli("objects", "list", stocked).rows) == 9


def test_failed_objects_are_shown_and_do_not_fail_the_command(cli, stocked):
    assert cli(*_create(cli, stocked, "--put-object-temporary-hold", "--wait")).code == 0
    refused = cli(*_create(cli, stocked, "--delete-object", "--wait", "-q"))
    assert refused.code == 0
    last = refused.out.splitlines()[-1]
    assert "SUCCEEDED total=9 succeeded=0 failed=9" in last
    assert last.endswith("errors=PERMISSION_DENIED:9")


def test_a_job_that_fails_is_a_failure(cli):
    failed = cli(*_create(cli, "no-such-bucket", "--delete-object", "--wait", job="lost"))
    assert failed.code == 1
    assert " FAILED " in failed.out
    why = failed.err.splitlines()[-1]
    assert why.startswith("longshore: NOT_FOUND: ")
    assert "no-such-bucket" in why
    again = cli("jobs", "watch", "lost")
    assert (again.code, again.err) == (1, f"{why}\n")
    watched = cli("jobs", "watch", "lost", "--format=value(state)")
    assert (watched.code, watched.out) == (1, "FAILED\n")
    (operation,) = cli("operations", "list", "--format=value(name)").out.split()
    waited = cli("operations", "wait", operation, "--format=json")
    assert (waited.code, waited.err) == (1, f"{why}\n")
    assert '"error"' in waited.out


def test_lists_are_sorted_filtered_and_limited(cli, stocked):
    for job in ("b", "c", "a"):
        words = ["--wait", "--put-metadata=Content-Type=text/plain"]
        assert cli(*_create(cli, stocked, *words, job=job)).code == 0
    cli(*_create(cli, "no-such-bucket", "--delete-object", "--wait", job="d"))

    def listed(*words: str) -> list[str]:
        return [row[0] for row in cli("jobs", "list", *words).rows]

    assert listed() == ["d", "a", "c", "b"]
    assert listed("--sort-by=name") == ["a", "b", "c", "d"]
    assert listed("--sort-by=~name", "--limit=2") == ["d", "c"]
    assert listed("--filter=state:failed") == ["d"]
    assert len(cli("jobs", "list", "--format=json").json) == 4
    wrong = cli("jobs", "list", "--filter=state:(")
    assert wrong.code == 1
    assert "INVALID_ARGUMENT" in wrong.err
    assert cli("jobs", "list", "--sort-by=colour", "--format=json").code == 1


def test_operations_are_listed_described_awaited_and_deleted(cli, stocked):
    assert cli("operations", "list", "--format=json").json == []
    cli(*_create(cli, stocked, "--delete-object", job="purge"))
    (row,) = cli("operations", "list").rows
    assert row[2] == "purge"
    waited = cli("operations", "wait", row[0])
    assert waited.code == 0
    assert "purge SUCCEEDED total=9" in waited.out
    described = cli("operations", "describe", row[0], "--format=json").json
    assert described["done"] is True
    assert described["response"]["name"].endswith("/jobs/purge")
    done = ("operations", "list", "--filter=done=true", "--format=value(name)")
    assert cli(*done).out == f"{described['name']}\n"
    deleted = cli("operations", "delete", described["name"])
    assert (deleted.code, deleted.err) == (0, f"Deleted operation: {described['name']}\n")
    assert cli("operations", "describe", row[0]).code == 1
    assert cli("operations", "cancel", row[0]).code == 1
    assert cli("jobs", "describe", "purge").code == 0


def test_a_job_in_two_buckets_has_two_bucket_operations(cli, stocked):
    created = cli(
        *("jobs", "create", "both", f"--bucket-list=gs://{stocked},no-such-bucket"),
        *("--included-object-prefixes=logs/,x/", "--delete-object", "--wait"),
    )
    assert created.code == 1
    rows = cli("bucket-operations", "list", "both").rows
    assert [row[1:] for row in rows] == [
        [stocked, "SUCCEEDED", "4", "4", "0"],
        ["no-such-bucket", "FAILED", "0", "0", "0"],
    ]
    assert f"{stocked} and 1 more" in cli("jobs", "list").rows[0]
    found = cli("bucket-operations", "list", "--batch-job=both", "--format=json").json
    assert [one["bucketName"] for one in found] == [stocked, "no-such-bucket"]
    one = ("bucket-operations", "list", "--job=both", f"--filter=bucket_name={stocked}")
    assert len(cli(*one).rows) == 1
    by_id = cli("bucket-operations", "describe", rows[0][0], "--job=both", "--format=json").json
    assert by_id == found[0]
    full = cli("bucket-operations", "describe", by_id["name"], "--format=json").json
    assert full == found[0]
    assert cli("jobs", "delete", "both").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("bucket-operations", "list"),
        ("bucket-operations", "list", "a", "--job=a"),
        ("bucket-operations", "describe", "id"),
        ("jobs", "describe"),
        ("jobs", "list", "--limit=0"),
        ("jobs", "list", "--format=value()"),
        ("jobs", "create", "--bucket=b", "--included-object-prefixes=", "--colour"),
        ("jobs",),
        ("cargo",),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(cli, words):
    refused = cli(*words)
    assert refused.code == 2
    assert refused.out == "" or words == ("jobs",)
    assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "describe", ""),
        ("jobs", "delete", "a/b"),
        ("jobs", "cancel", "projects/p/locations/global/operations/o"),
        ("operations", "cancel", ""),
        ("bucket-operations", "describe", "a/b"),
        ("bucket-operations", "list", ""),
        ("jobs", "list", "--project=a/b"),
        ("jobs", "list", "--project="),
    ],
)
def test_what_is_no_name_is_never_sent(cli, words):
    refused = cli(*words, "--server=http://127.0.0.1:1")
    assert refused.code == 1
    assert "INVALID_ARGUMENT: Invalid" in refused.err


def test_what_the_server_refuses_is_one_line_and_code_1(cli, stocked):
    refused = cli(*_create(cli, stocked, "--delete-object", job="Upper"))
    assert refused.code == 1
    assert refused.err.startswith("longshore: INVALID_ARGUMENT: ")
    assert refused.err.count("\n") == 1
    create = _create(cli, stocked, "--delete-object", "--wait", job="once")
    assert cli(*create).code == 0
    assert "ALREADY_EXISTS" in cli(*create).err
    assert "FAILED_PRECONDITION" in cli("jobs", "cancel", "once").err


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("http://127.0.0.1:1", "longshore serve"),
        ("127.0.0.1:8080", "expected a URL"),
        ("http://[", "expected a URL"),
    ],
)
def test_a_server_that_is_not_there_is_named(cli, server, says):
    refused = cli("jobs", "list", f"--server={server}")
    assert refused.code == 1
    assert refused.out == ""
    assert server in refused.err
    assert says in refused.err


def test_a_running_job_is_canceled_by_its_name_or_its_operation(cli, slow):
    patch = "--put-metadata=Content-Type=text/plain"
    for collection in ("jobs", "operations"):
        created = cli(*_create(cli, "slow", patch, "--format=json"), f"--project={collection}")
        assert created.code == 0
        ids = cli(collection, "list", f"--project={collection}", "--format=value(name)").out.split()
        cancelled = cli(collection, "cancel", ids[0])
        assert (cancelled.code, cancelled.out) == (0, "")
        assert ids[0] in cancelled.err
        watched = cli("jobs", "watch", created.json["name"])
        assert watched.code == 1
        assert " CANCELED " in watched.out.splitlines()[-1]


def test_watching_outlives_the_service_and_ends_with_ctrl_c(cli, slow):
    patch = "--put-metadata=Content-Type=text/html"
    assert cli(*_create(cli, "slow", patch, job="long")).code == 0
    impatient = cli.start("jobs", "watch", "long")
    lines = iter(impatient.stdout.readline, "")
    assert any(line.startswith("long RUNNING total=") for line in lines)
    impatient.send_signal(signal.SIGINT)
    out, err = impatient.communicate(timeout=10)
    assert impatient.returncode == 130
    assert "Traceback" not in err
    patient = cli.start("jobs", "watch", "long")
    patient.stdout.readline()
    slow.kill()
    time.sleep(0.2)  # long enough for it to ask, and to find nobody
    slow.start()
    out, err = patient.communicate(timeout=30)
    assert (patient.returncode, err) == (0, "")
    assert "long SUCCEEDED total=2000 succeeded=2000 failed=0" in out.splitlines()[-1]

"""Jobs as big as jobs can be: nobody else waits while they are checked, made and printed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, Text, cast, func, select, type_coerce

from longshore.api import json_messages, messages, replies, validation, wire
from longshore.api.listing import PAGE_MAX_BYTES
from longshore.database.tables import jobs, sources
from longshore.errors import InvalidArgument
from tests.api.conftest import Project, Server, delete_job

InLoop = Callable[[Callable[[], Any]], tuple[Any, set[str]]]
PRINTER = replies.of_message.__code__
HEAVY = {module.__file__ for module in (messages, validation)}
PREFIXES = [f"prefix/{number:04}/" for number in range(1000)]
PREFIXES_OF_ALL = [f"log/{number:04}/" for number in range(1000)]
GREATEST_JOB = {
    "bucketList": {
        "buckets": [
            {
                "bucket": f"bucket-{number}",
                "prefixList": {"includedObjectPrefixes": PREFIXES_OF_ALL},
            }
            for number in range(1000)
        ]
    },
    "deleteObject": {},
}
BIG_JOB = {
    "bucketList": {
        "buckets": [
            {"bucket": f"bucket-{number}", "prefixList": {"includedObjectPrefixes": PREFIXES}}
            for number in range(200)
        ]
    },
    "deleteObject": {},
}
WRONG_JOB = delete_job() | {
    "deleteObject": None,
    "updateObjectCustomContext": {
        "customContextUpdates": {"keysToClear": [f"key-{number}" for number in range(200_000)]}
    },
    "description": "x" * 1025,
}


@pytest.fixture
def in_loop(server: Server) -> Iterator[InLoop]:
    """Makes a call; gives its reply and the heavy functions that the server's loop was seen in."""
    loop_thread = server.do(_thread_id())
    with ThreadPoolExecutor(1) as caller:

        def watch(call: Callable[[], Any]) -> tuple[Any, set[str]]:
            seen = set()
            reply = caller.submit(call)
            while not reply.done():
                frame = sys._current_frames().get(loop_thread)
                while frame is not None:
                    code = frame.f_code
                    if code.co_filename in HEAVY or code is PRINTER:
                        seen.add(code.co_qualname)
                    frame = frame.f_back
                wait([reply], 0.001)
            return reply.result(), seen

        yield watch


async def _thread_id() -> int:
    return threading.get_ident()


def test_nobody_waits_for_a_big_job(project: Project, in_loop: InLoop) -> None:
    operation, seen = in_loop(lambda: project.create("big", BIG_JOB))
    assert seen == set()
    for path in ("/jobs/big", "/jobs", "/jobs/big/bucketOperations", "/operations"):
        reply, seen = in_loop(lambda path=path: project.ok("GET", path))
        assert seen == set(), path
        assert "prefix/0999/" in str(reply)
    reply, seen = in_loop(lambda: project.ok("GET", operation["name"]))
    assert seen == set()
    assert reply == operation


def test_a_thousand_buckets_with_the_same_thousand_prefixes(
    server: Server, project: Project
) -> None:
    """12 MB of JSON, kept in 100 kB: the list once, what its creator wrote compressed."""
    body = orjson.dumps(GREATEST_JOB)
    assert len(body) > 12_000_000
    project.ok("POST", "/jobs?jobId=j&fields=name", content=body)
    assert server.write(_kept_bytes, project.id) < 100_000
    parts, sizes, query = 0, [], "pageSize=500"
    while query:
        reply = project.call("GET", f"/jobs/j/bucketOperations?prettyPrint=false&{query}")
        page = reply.json()
        assert page["bucketOperations"][-1]["prefixList"] == {
            "includedObjectPrefixes": PREFIXES_OF_ALL
        }
        parts += len(page["bucketOperations"])
        sizes.append(len(reply.content))
        token = page.get("nextPageToken")
        query = token and f"pageSize=500&pageToken={token}"
    assert parts == 1000
    assert max(sizes) < PAGE_MAX_BYTES
    # One more, and a page of jobs would be longer.
    project.create("k")
    listed = project.ok("GET", "/jobs?fields=nextPageToken,jobs.name")
    assert [job["name"] for job in listed["jobs"]] == [project.job_name("j")]
    assert listed["nextPageToken"]
    reply = project.ok("GET", "/jobs/j?fields=bucketList.buckets.bucket")
    assert len(reply["bucketList"]["buckets"]) == 1000


def _kept_bytes(connection: Connection, project: str) -> int:
    """How much the database keeps of a project's jobs, as far as it has no bound."""
    of_jobs = select(func.sum(func.length(jobs.c.message))).where(jobs.c.project == project)
    data = func.length(cast(type_coerce(sources.c.data, Text), Text))
    of_sources = select(func.sum(data)).join(jobs).where(jobs.c.project == project)
    return sum(connection.execute(one).scalar_one() for one in (of_jobs, of_sources))


def test_nobody_waits_for_a_big_refusal(project: Project, in_loop: InLoop) -> None:
    error, seen = in_loop(lambda: project.error("POST", "/jobs", json=WRONG_JOB))
    assert seen == set()
    assert error["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "transformation",
    [
        {
            "updateObjectCustomContext": {
                "customContextUpdates": {
                    "updates": {f"key-{number}": {} for number in range(30_000)},
                    "keysToClear": [f"old-{number}" for number in range(30_000)],
                }
            }
        },
        {
            "setObjectAcls": {
                "accessControlsUpdates": {
                    "grants": [{"entity": "allUsers", "role": "READER"}] * 30_000,
                    "removeEntities": ["allAuthenticatedUsers"] * 30_000,
                }
            }
        },
    ],
)
def test_a_check_costs_no_square(transformation: dict[str, Any]) -> None:
    """Of these lists: half a minute of CPU, instead of half a second."""
    job = wire.Job()
    body = delete_job() | {"deleteObject": None} | transformation
    json_messages.read(body, job, "", json_messages.Problems())
    begin = time.thread_time()
    with suppress(InvalidArgument):  # the grants are repeated
        validation.new_job("p", "j", job)
    assert time.thread_time() - begin < 5

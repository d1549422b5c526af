"""The same request several times at the same instant: one takes effect, all get its answer.

Over two servers of one database and both transports of one of them, and after a restart.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database
from tests.api.conftest import Project, Server, delete_job
from tests.api.grpc.conftest import Both
from tests.api.grpc.test_side_by_side import Answer, Ask, over_grpc, over_rest

AT_ONCE = 4
"""How often each way in is used."""


@pytest.fixture(scope="module")
def ways(server: Both, channel: grpc.Channel) -> Iterator[list[Ask]]:
    """Each with connections of its own."""
    other = Server(Database(server.where), SYSTEM_CLOCK)
    other.start()
    with (
        httpx.Client(base_url=server.url, timeout=30, trust_env=False) as here,
        httpx.Client(base_url=other.url, timeout=30, trust_env=False) as there,
    ):
        yield [over_grpc(channel), over_rest(here), over_rest(there)]
    other.stop()


def at_once(ways: list[Ask], method: str, requests: list[dict[str, Any]]) -> list[Answer]:
    """What comes of ``requests`` over every way, all at the same instant."""
    calls = [(way, request) for request in requests for way in ways for _ in range(AT_ONCE)]
    instant = threading.Barrier(len(calls))

    def call(way: Ask, request: dict[str, Any]) -> Answer:
        instant.wait(30)
        return way(method, request)

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(call, *zip(*calls, strict=True)))


@pytest.mark.parametrize("job_id", ["j", ""])
def test_creates(ways: list[Ask], project: Project, job_id: str) -> None:
    request = {"parent": project.parent, "jobId": job_id, "job": delete_job()}
    request["requestId"] = str(uuid.uuid4())
    answers = at_once(ways, "CreateJob", [request])
    assert {answer.code for answer in answers} == {"OK"}
    assert len({answer.reply["name"] for answer in answers}) == 1
    assert len({str(answer.reply["metadata"]["job"]) for answer in answers}) == 1
    assert project.rows() == 1


def test_creates_of_other_content(ways: list[Ask], project: Project) -> None:
    """Whoever is first has its job; those who ask for the other one are refused."""
    request_id = str(uuid.uuid4())
    requests = [
        {"parent": project.parent, "jobId": one, "job": delete_job(), "requestId": request_id}
        for one in ("a", "b")
    ]
    answers = at_once(ways, "CreateJob", requests)
    created = {answer.reply["name"] for answer in answers if answer.reply}
    refused = [answer for answer in answers if not answer.reply]
    assert len(created) == 1
    assert len(refused) == len(ways) * AT_ONCE
    for answer in refused:
        assert (answer.code, answer.details[0]["reason"]) == (
            "INVALID_ARGUMENT",
            "REQUEST_ID_REUSED",
        )
    assert project.rows() == 1


def test_creates_of_one_id_without_request_ids(ways: list[Ask], project: Project) -> None:
    request = {"parent": project.parent, "jobId": "j", "job": delete_job()}
    codes = [answer.code for answer in at_once(ways, "CreateJob", [request])]
    assert sorted(codes) == ["ALREADY_EXISTS"] * (len(codes) - 1) + ["OK"]


def test_cancels(ways: list[Ask], project: Project) -> None:
    project.create("j")
    request = {"name": project.job_name("j"), "requestId": str(uuid.uuid4())}
    assert set(map(str, at_once(ways, "CancelJob", [request]))) == {str(Answer(reply={}))}
    assert project.ok("GET", "/jobs/j")["state"] == "CANCELED"


def test_deletes(ways: list[Ask], project: Project) -> None:
    project.create("j")
    project.ok("POST", "/jobs/j:cancel")
    request = {"name": project.job_name("j"), "requestId": str(uuid.uuid4())}
    assert set(map(str, at_once(ways, "DeleteJob", [request]))) == {str(Answer(reply={}))}
    assert project.ok("GET", "/jobs") == {}
    del request["requestId"]
    assert {one.code for one in at_once(ways, "DeleteJob", [request])} == {"NOT_FOUND"}


def test_after_a_restart(database_at: Path | str) -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    answers = []
    for _ in range(2):
        server = Server(Database(database_at), SYSTEM_CLOCK)
        server.start()
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as rest:
            ask = over_rest(rest)
            job = {"parent": "projects/p/locations/global", "jobId": "j", "job": delete_job()}
            name = {"name": "projects/p/locations/global/jobs/j"}
            created = ask("CreateJob", {**job, "requestId": ids[0]})
            answers.append(created.reply["name"])
            assert ask("CancelJob", {**name, "requestId": ids[1]}) == Answer(reply={})
            assert ask("DeleteJob", {**name, "requestId": ids[2]}) == Answer(reply={})
            assert ask("GetJob", name).code == "NOT_FOUND"
            assert ask("CreateJob", {**job, "jobId": "k", "requestId": ids[0]}).code == (
                "INVALID_ARGUMENT"
            )
        server.stop()
    assert answers[0] == answers[1]

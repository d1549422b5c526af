"""What Google's client for Node sends, and how its errors look."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.api.clients.drivers import Client
from tests.api.clients.programs import Node
from tests.api.conftest import Project, delete_job
from tests.api.grpc.conftest import Both

pytestmark = pytest.mark.services


@pytest.fixture
def node(callers: Callable[[str], Client]) -> Node:
    found = callers("Node")
    assert isinstance(found, Node)
    return found


def test_what_is_sent(node: Node, server: Both, project: Project) -> None:
    """Neither alt nor $alt, so enums are names; a cancel without a body has no content type."""
    name = project.job_name("j")
    body = {**delete_job(), "loggingConfig": {"logActions": [6], "logActionStates": ["FAILED"]}}
    with server.listening() as heard:
        created = node.ask(
            "CreateJob", {"parent": project.parent, "jobId": "j", "requestBody": body}
        )
        got = node.ask("GetJob", {"name": name, "fields": "state,loggingConfig"})
        cancelled = node.ask("CancelJob", {"name": name})
        again = node.ask("CancelOperation", {"name": created["data"]["name"]})
        deleted = node.ask("DeleteJob", {"name": name, "force": True})
    assert got["data"] == {
        "state": "QUEUED",
        "loggingConfig": {"logActions": ["TRANSFORM"], "logActionStates": ["FAILED"]},
    }
    assert [one["data"] for one in (cancelled, again, deleted)] == [{}] * 3
    assert [str(one) for one in heard] == [
        f"POST /v1/{project.parent}/jobs?jobId=j",
        f"GET /v1/{name}?fields=state%2CloggingConfig",
        f"POST /v1/{name}:cancel",
        f"POST /v1/{created['data']['name']}:cancel",
        f"DELETE /v1/{name}?force=true",
    ]
    for cancel in heard[2:4]:
        assert cancel.headers["content-length"] == "0"
        assert "content-type" not in cancel.headers
    assert all(one.headers["x-goog-api-client"].startswith("gdcl/") for one in heard)


def test_an_error_has_the_status_and_the_text(node: Node, project: Project) -> None:
    told = node.ask("GetJob", {"name": project.job_name("none")})["error"]
    envelope = told["data"]["error"]
    assert (told["code"], told["status"]) == (404, 404)
    assert told["message"] == envelope["message"]
    assert envelope["status"] == "NOT_FOUND"
    assert envelope["details"][0]["reason"] == "RESOURCE_NOT_FOUND"

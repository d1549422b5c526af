"""How people cancel by hand."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.api.conftest import Project
from tests.api.grpc.conftest import Both
from tests.conftest import need


@pytest.mark.parametrize(
    ("flags", "taken"),
    [
        (["--request", "POST"], True),
        (["--data", ""], True),
        (["--json", "{}"], True),
        (["--request", "POST", "--header", "transfer-encoding: chunked", "--data", ""], True),
        (["--data", "{}"], False),
    ],
)
def test_cancel(server: Both, project: Project, flags: list[str], taken: bool) -> None:
    """Without a content type, what is sent as data is a form: parameters, and no JSON."""
    need("curl")
    operation = project.create("j")["name"]
    url = f"{server.url}/v1/{operation}:cancel"
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", *flags, url]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    reply = json.loads(done.stdout)
    if taken:
        assert reply == {}
    else:
        assert reply["error"]["message"].startswith("Invalid JSON payload received. Unknown name")
    assert project.ok("GET", operation)["done"] is taken

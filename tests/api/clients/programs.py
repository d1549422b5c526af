"""Clients that are programs: Node's googleapis, and gcloud."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.api.clients.drivers import RESOURCES, Client, Refused, Request, refuse
from tests.services import npm

HERE = Path(__file__).parent / "node"
GCLOUD_METHODS = frozenset({"ListJobs", "GetJob", "CreateJob", "CancelJob", "DeleteJob"})


@contextmanager
def node(cache: Path, url: str) -> Iterator[Node]:
    """Node's client, which builds itself from our discovery document; its packages are kept in
    ``cache``."""
    modules = npm.installed(HERE, cache)
    environment = {
        **os.environ,
        "NODE_PATH": str(modules),
        "NO_PROXY": "127.0.0.1",
    }
    command = ["node", str(HERE / "client.js"), f"{url}/$discovery/rest?version=v1"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Node(process)
        process.stdin.close()
        assert process.wait(30) == 0


class Node(Client):
    """One process for all calls: a line of JSON for each, and one back."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, method: str, request: Request) -> Any:
        given = dict(request)
        if method == "CreateJob":
            given["requestBody"] = given.pop("job", None)
        if method == "CancelJob":
            name = given.pop("name")
            given = {"name": name, **({"requestBody": given} if given else {})}
        answer = self.ask(method, given)
        if "error" in answer:
            told = answer["error"]
            error = told["data"]["error"]
            assert (told["message"], told["code"]) == (error["message"], error["code"])
            refuse(error)
        return answer["data"]

    def ask(self, method: str, given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        path = ["projects", "locations", *RESOURCES[method].split(".")]
        self._process.stdin.write(json.dumps({"path": path, "given": given}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def gcloud_environment(url: str, home: Path) -> dict[str, str]:
    """What leads gcloud to ``url``, and to nobody else; its files are in ``home``."""
    return {
        **{name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ},
        "HOME": str(home),
        "CLOUDSDK_CONFIG": str(home / "gcloud"),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGEBATCHOPERATIONS": f"{url}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "true",
        "no_proxy": "127.0.0.1",
    }


class Gcloud(Client):
    """A process for each call; ``run`` for what is no method."""

    def __init__(self, url: str, home: Path) -> None:
        self._environment = gcloud_environment(url, home)

    def run(
        self, *arguments: str, track: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """``gcloud [track] storage batch-operations jobs``; ``environment`` is added to its own."""
        tracks = [track] if track else []
        return subprocess.run(
            ["gcloud", *tracks, "storage", "batch-operations", "jobs", *arguments],
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def call(self, method: str, request: Request) -> Any:
        if method == "CreateJob":
            project = request["parent"].split("/")[1]
            done = self._done("create", request["jobId"], *_flags(request["job"]), project=project)
            (name,) = re.findall(r"^Created batch job: (.+)$", done.stderr, re.MULTILINE)
            return {"metadata": {"job": {"name": name}}}
        if method == "GetJob":
            return json.loads(self._done("describe", request["name"], "--format=json").stdout)
        verb = {"CancelJob": "cancel", "DeleteJob": "delete"}[method]
        done = self._done(verb, request["name"])
        assert done.stderr.rstrip().endswith(f"ed batch job: {request['name']}")
        return {}

    def pages(self, method: str, request: Request) -> list[list[str]]:
        """One page: it reads all of them itself, and neither sorts nor filters on the server."""
        assert method == "ListJobs"
        size = f"--page-size={request['pageSize']}"
        sort = ["--sort-by=~name"] if request.get("orderBy") == "name desc" else []
        project = request["parent"].split("/")[1]
        done = self._done("list", size, *sort, "--format=json", project=project)
        return [[job["name"] for job in json.loads(done.stdout)]]

    def _done(self, *arguments: str, project: str = "unused") -> subprocess.CompletedProcess[str]:
        done = self.run(*arguments, CLOUDSDK_CORE_PROJECT=project)
        if done.returncode == 0:
            return done
        found = re.search(r"ERROR: \([\w.-]+\) (?P<code>[A-Z_]+): (?P<text>.*)", done.stderr)
        assert found is not None, done.stderr
        reason = re.search(r"^  reason: ([A-Z_]+)$", done.stderr, re.MULTILINE)
        raise Refused(found["code"], reason[1] if reason else "", found["text"])


def _flags(job: Any) -> list[str]:
    """Flags of a job that deletes below prefixes, and logs."""
    (bucket,) = job["bucketList"]["buckets"]
    assert "deleteObject" in job
    flags = [
        f"--bucket={bucket['bucket']}",
        "--included-object-prefixes=" + ",".join(bucket["prefixList"]["includedObjectPrefixes"]),
        "--delete-object",
    ]
    if "loggingConfig" in job:
        logging = job["loggingConfig"]
        flags.append("--log-actions=" + ",".join(logging["logActions"]).lower())
        flags.append("--log-action-states=" + ",".join(logging["logActionStates"]).lower())
    return flags

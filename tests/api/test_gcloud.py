"""gcloud's ``storage batch-operations jobs``, where gcloud is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Project, Server

pytestmark = pytest.mark.skipif(
    shutil.which("gcloud") is None, reason="gcloud is not on PATH: it is not a package of pip"
)
Gcloud = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def gcloud(server: Server, project: Project, tmp_path: Path) -> Gcloud:
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ},
        "HOME": str(tmp_path),
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGEBATCHOPERATIONS": f"{server.url}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": project.id,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "true",
        "no_proxy": "127.0.0.1",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["gcloud", "storage", "batch-operations", "jobs", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def described(gcloud: Gcloud, job_id: str) -> Any:
    done = gcloud("describe", job_id, "--format=json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_life_of_a_job(gcloud: Gcloud, project: Project) -> None:
    done = gcloud(
        "create",
        "purge-1",
        "--bucket=bucket-1",
        "--included-object-prefixes=tmp/,old/",
        "--delete-object",
        "--log-actions=transform",
        "--log-action-states=succeeded,failed",
        "--description=nightly",
    )
    assert done.returncode == 0, done.stderr
    assert f"Created batch job: {project.job_name('purge-1')}" in done.stderr
    assert described(gcloud, "purge-1") == project.ok("GET", "/jobs/purge-1")
    done = gcloud("list", "--format=value(name,state)")
    assert done.stdout.split() == ["purge-1", "QUEUED"]
    done = gcloud("delete", "purge-1")
    assert done.returncode == 1
    assert "FAILED_PRECONDITION" in done.stderr
    done = gcloud("cancel", "purge-1")
    assert done.returncode == 0, done.stderr
    assert described(gcloud, "purge-1")["state"] == "CANCELED"
    done = gcloud("delete", "purge-1")
    assert done.returncode == 0, done.stderr
    done = gcloud("describe", "purge-1")
    assert done.returncode == 1
    assert project.job_name("purge-1") in done.stderr


def test_what_create_sends(gcloud: Gcloud, project: Project) -> None:
    done = gcloud(
        "create",
        "meta",
        "--bucket=bucket-1",
        "--included-object-prefixes=",
        "--put-metadata=Content-Type=,Cache-Control=no-store,team=blue,old=",
    )
    assert done.returncode == 0, done.stderr
    job = project.ok("GET", "/jobs/meta")
    assert job["bucketList"]["buckets"] == [{"bucket": "bucket-1", "prefixList": {}}]
    assert job["putMetadata"] == {
        "contentType": "",
        "cacheControl": "no-store",
        "customMetadata": {"team": "blue", "old": ""},
    }
    done = gcloud(
        "create",
        "hold",
        "--bucket=bucket-1",
        "--manifest-location=gs://lists/m*.csv",
        "--put-object-temporary-hold",
    )
    assert done.returncode == 0, done.stderr
    assert project.ok("GET", "/jobs/hold")["putObjectHold"] == {"temporaryHold": "SET"}
    done = gcloud(
        "create", "Bad_Id", "--bucket=bucket-1", "--included-object-prefixes=a", "--delete-object"
    )
    assert done.returncode == 1
    assert "INVALID_ARGUMENT" in done.stderr
    assert "JOB_ID_INVALID" in done.stderr

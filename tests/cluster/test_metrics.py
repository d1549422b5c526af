"""``/metrics`` of a machine that has workers and no API."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from longshore.api.auth.tokens import line_of, new_token
from tests.cluster.harbour import Program
from tests.services.postgresql import Postgresql

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]

TOKEN = new_token()
SECONDS = 60.0


@pytest.fixture
def machine(tmp_path: Path, postgresql: Postgresql) -> Iterator[Program]:
    """One with a worker, which looks for a scheduler that never comes."""
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(line_of(TOKEN, "prometheus", None, ()))
    keys = {
        "data_dir": str(tmp_path / "data"),
        "database": postgresql.new_database(),
        "runner": "dask",
        "workers": 1,
        "dask.scheduler": "tcp://127.0.0.1:1",
        "auth.mode": "tokens",
        "auth.tokens_file": str(tokens),
    }
    config = tmp_path / "l.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    config.write_text("\n".join([*lines, "[auth.roles.prometheus]", '"*" = "viewer"']))
    command = [sys.executable, "-m", "longshore", "worker", "--config", str(config)]
    program = Program(
        "worker", [*command, "--metrics-listen=127.0.0.1:0"], tmp_path / "worker.log", {}
    )
    program.start()
    yield program
    program.close()


def until(program: Program, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (answer := found()):
        assert program.running(), program.log()
        assert time.monotonic() < deadline, program.log()
        time.sleep(0.05)
    return answer


def test_a_machine_of_workers_shows_what_they_measured_and_is_no_api(machine: Program) -> None:
    url = re.compile(r" serving metrics=(http://127\.0\.0\.1:\d+)/metrics")
    base = until(machine, lambda: url.search(machine.log()))[1]
    with httpx.Client(
        base_url=base, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False
    ) as http:

        def page() -> list[str]:
            reply = http.get("/metrics")
            assert reply.status_code == 200, reply.text
            return reply.text.splitlines()

        until(machine, lambda: "longshore_workers 1.0" in page())
        assert not [line for line in page() if line.startswith("longshore_jobs")]
        assert httpx.get(f"{base}/metrics", trust_env=False).status_code == 401
        assert httpx.get(f"{base}/healthz", trust_env=False).text == "ok\n"
        assert http.get("/readyz").json() == {"database": True, "workers": True}
        for path in ("/v1/projects/p/locations/global/jobs", "/$discovery/rest", "/"):
            assert http.get(path).status_code == 404
        (worker,) = machine.children()
        os.kill(worker, signal.SIGKILL)
        until(machine, lambda: 'longshore_worker_deaths_total{reason="died"} 1.0' in page())
        until(machine, lambda: "longshore_worker_starts_total 2.0" in page())

"""``longshore serve`` starts with good settings, and says in one line why it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from google.cloud.location import locations_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.cli.conftest import Cli
from tests.service import PROJECT, Service

OF_OTHERS = {
    *("dask", "distributed", "tornado", "psycopg", "longshore.runners.dask"),
    *("botocore", "aiohttp", "lxml", "jwt", "cel_expr_python", "google.auth"),
}
"""What is for clusters, for other stores and for other settings."""

SERVE = """
import json, sys
import longshore.cli

longshore.cli.run(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
"""


def _refused(cli: Cli, directory: Path, settings: str, *words: str) -> str:
    config = directory / "wrong.toml"
    config.write_text(settings)
    ended = cli.process("serve", f"--config={config}", f"--data-dir={directory / 'data'}", *words)
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('kind = "locl"', "There is no 'locl' in longshore/stores; it has: gs, local,"),
        ('kind = "local"\ndirectry = "x"', "'directry' in [stores.wrong]: the nearest known one"),
        ('kind = "local"\ndirectory = 3', "'stores.wrong.directory' must be a path, not 3."),
    ],
)
def test_a_wrong_store_is_refused_before_it_is_needed(cli, tmp_path, settings, says):
    line = _refused(cli, tmp_path, f"[stores.wrong]\n{settings}\n", "--listen=127.0.0.1:0")
    assert line.startswith("longshore: ")
    assert says in line


@pytest.mark.parametrize(
    ("flag", "name", "listen"),
    [
        ("--listen", "rest", "0.0.0.0:0"),
        ("--listen", "rest", "[::]:0"),
        ("--listen", "rest", "example.org:80"),
        ("--grpc-listen", "grpc", "0.0.0.0:0"),
    ],
)
def test_an_address_that_others_reach_is_refused(cli, tmp_path, flag, name, listen):
    line = _refused(cli, tmp_path, "", f"{flag}={listen}")
    assert f"{name}.listen is '{listen}'" in line
    assert "no authentication" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flag", ["--listen", "--grpc-listen"])
def test_a_port_that_is_taken_is_named(cli, tmp_path, service: Service, flag):
    taken = f"127.0.0.1:{service.port if flag == '--listen' else service.grpc_port()}"
    others = [f"{other}=127.0.0.1:0" for other in ("--listen", "--grpc-listen") if other != flag]
    line = _refused(cli, tmp_path, "", f"{flag}={taken}", *others)
    assert f"Cannot listen on {taken}: Address already in use. Choose another" in line
    assert f"address with {flag}." in line


def test_a_second_service_is_refused_and_names_the_first(cli, service: Service):
    ended = cli.process("serve", f"--config={service.config}")
    assert ended.code == 1
    assert str(service.data_dir) in ended.err
    assert f"process {service.pid}" in ended.err
    assert "Traceback" not in ended.err


def test_grpc_is_served_where_the_log_says(service: Service):
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port()}") as channel:
        request = locations_pb2.GetLocationRequest(name=PROJECT).SerializeToString()
        get_location = channel.unary_unary("/google.cloud.location.Locations/GetLocation")
        location = locations_pb2.Location.FromString(get_location(request, timeout=30))
    assert location.name == PROJECT


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_emulator/reset"),
        ("POST", "/_emulator/faults"),
        ("POST", "/_emulator/clock"),
        ("POST", "/_emulator/seed"),
        ("GET", "/_emulator/clock"),
        ("GET", "/storage/v1/b"),
        ("POST", "/batch/storage/v1"),
    ],
)
def test_nothing_of_the_emulator_is_served(service: Service, method, path):
    body = {"forwardSeconds": 1} if method == "POST" else None
    url = f"http://127.0.0.1:{service.port}{path}"
    assert httpx.request(method, url, json=body, trust_env=False).status_code == 404


def test_it_ends_in_time_while_somebody_waits_over_grpc(tmp_path):
    """The call is cut off; the end is as clean as ever."""
    service = Service(tmp_path)
    service.start()
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port()}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        assert service.stop() == 0
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert "Traceback" not in service.log()
    service.close()


def test_one_machine_loads_nothing_of_what_others_need(tmp_path):
    listens = [f"--{name}=127.0.0.1:0" for name in ("listen", "grpc-listen")]
    words = ["serve", f"--data-dir={tmp_path}", "--workers=1", *listens]
    command = [sys.executable, "-c", SERVE, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=tmp_path, text=True) as serving:
        try:
            assert any("worker started" in line for line in serving.stderr)
        finally:
            serving.terminate()
        loaded, _ = serving.communicate(timeout=30)
    modules = set(json.loads(loaded))
    assert {"longshore.runners.local", "longshore.api.rest"} <= modules
    assert not {
        one for one in modules if any(f"{one}.".startswith(f"{other}.") for other in OF_OTHERS)
    }

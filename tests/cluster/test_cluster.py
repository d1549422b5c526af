"""What a cluster does beyond what every runner promises (conformance/test_runner.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from tests.cluster.conftest import EVERYTHING, OBJECTS, Start, end
from tests.harbour import HOLD, counters, prefixes
from tests.services.ceph import missing

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


def test_a_machine_that_is_lost_is_not_waited_for_longer_than_its_leases(start: Start) -> None:
    cluster = start(machines=2, workers=1, rate=1_000, lease_seconds=4)
    operation = cluster.create(EVERYTHING, HOLD)
    cluster.until(lambda: cluster.done_by(operation) > 500, 60, "make progress")
    cluster.machines[0].kill()
    end(cluster, operation)


def test_shards_run_on_without_scheduler_and_coordinator(start: Start) -> None:
    cluster = start(services=2, machines=1, workers=2, rate=1_000)
    operation = cluster.create(EVERYTHING, HOLD)
    cluster.until(lambda: cluster.done_by(operation) > 500, 60, "make progress")
    cluster.scheduler.kill()
    before = cluster.done_by(operation)
    cluster.until(lambda: cluster.done_by(operation) > before + 1_000, 30, "go on")
    cluster.scheduler.start()
    end(cluster, operation)
    assert "shard left" not in cluster.machines[0].log()


def test_a_cancel_reaches_every_worker(start: Start) -> None:
    cluster = start(machines=2, workers=2, rate=1_000)
    operation = cluster.create(EVERYTHING, HOLD)
    cluster.until(lambda: cluster.done_by(operation) > 500, 60, "make progress")
    cluster.cancel(operation)
    job = cluster.done(operation, 20)
    assert job["state"] == "CANCELED"
    held = cluster.held()
    assert counters(job)["succeededObjectCount"] == held < OBJECTS
    time.sleep(1)
    assert cluster.held() == held


def test_a_machine_that_is_asked_to_end_hands_back_what_it_carries(start: Start) -> None:
    cluster = start(machines=2, workers=1, rate=1_000)
    operation = cluster.create(EVERYTHING, HOLD)
    cluster.until(lambda: cluster.done_by(operation) > 500, 60, "make progress")
    began = time.monotonic()
    assert cluster.machines[0].stop() == 0
    assert time.monotonic() - began < 10
    end(cluster, operation)


def test_a_machine_that_comes_gets_its_part(start: Start, tmp_path: Path) -> None:
    """Also of shards that are carried already: they are halved."""
    cluster = start(machines=1, workers=1, rate=500, shards_at_once=8)
    operation = cluster.create(["d/"], HOLD)
    cluster.until(lambda: cluster.done_by(operation) > 100, 60, "make progress")
    added = cluster.add_machine()
    place = re.compile(r"worker started worker=(\S+)")
    cluster.until(lambda: place.search(added.log()), 30, "start")
    owner = place.search(added.log())
    assert owner is not None
    cluster.until(lambda: cluster.carried().get(owner[1], 0) > 0, 30, "get a shard")
    end(cluster, operation)


def test_a_later_job_does_not_wait_for_one_that_has_all_places(start: Start) -> None:
    """A shard of the first is handed back, which alone would take twenty seconds more."""
    cluster = start(machines=1, workers=1, shards_at_once=2, limits={"b": 100.0})
    cluster.fill(100, bucket="later")
    first = cluster.create(EVERYTHING, HOLD)
    cluster.until(lambda: cluster.done_by(first) > 0, 60, "make progress")
    second = cluster.create_job({"later": prefixes()}, HOLD)
    job = cluster.done(second, 15)
    assert counters(job)["succeededObjectCount"] == cluster.held("later") == 100
    assert not cluster.get(first).get("done")
    cluster.cancel(first)
    job = cluster.done(first)
    assert job["state"] == "CANCELED", (job, cluster.logs())
    assert counters(job)["succeededObjectCount"] == cluster.held()


def test_a_scheduler_with_settings_of_its_own_is_not_used(start: Start) -> None:
    cluster = start(objects=8, rules=None)
    says = re.compile(r"scheduler not used .*distributed\.scheduler\.allowed-failures = 3")
    cluster.until(lambda: says.search(cluster.services[0].log()), 30, "complain")


def test_with_certificates_nobody_else_is_heard(start: Start, tmp_path: Path) -> None:
    from distributed import Client
    from distributed.security import Security

    certificates = make_certificates(tmp_path / "certificates")
    strangers = make_certificates(tmp_path / "strangers")
    cluster = start(machines=1, workers=1, certificates=certificates)
    end(cluster, cluster.create(EVERYTHING, HOLD))
    stranger = Security(
        require_encryption=True,
        tls_ca_file=str(certificates / "ca.pem"),
        tls_client_cert=str(strangers / "own.pem"),
        tls_client_key=str(strangers / "key.pem"),
    )
    plain = cluster.scheduler_address.replace("tls://", "tcp://")
    for address, security in ((cluster.scheduler_address, stranger), (plain, None)):
        with pytest.raises(OSError):
            Client(address, security=security, timeout=3)


def test_blows_to_every_kind_of_process(request: pytest.FixtureRequest) -> None:
    """A few of what `make chaos-cluster` deals, with short leases; it has its own cluster. Goes
    without Ceph where that is not installed, but for CI."""
    storm = [sys.executable, "-m", "tests.cluster.chaos", "--blows", "20", "--objects", "8000"]
    storm += ["--lease-seconds", "2", "--stop-seconds", "5"]
    if not missing() or os.environ.get("CI") == "true":
        storm += ["--ceph", str(request.getfixturevalue("ceph").shared)]
    ended = subprocess.run(storm, capture_output=True, text=True, check=False, timeout=280)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def make_certificates(directory: Path) -> Path:
    """A certificate for this machine, of a CA for nothing else."""
    authority = trustme.CA()
    directory.mkdir()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    own = authority.issue_cert("127.0.0.1", "localhost")
    own.private_key_pem.write_to_path(directory / "key.pem")
    for number, blob in enumerate(own.cert_chain_pems):
        blob.write_to_path(directory / "own.pem", append=number > 0)
    return directory

"""The log of a job: shape, which outcomes, half lines, rotation, and safe directories."""

from __future__ import annotations

import resource
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.engine import log_files
from longshore.engine.action_log import ActionLog
from longshore.engine.intent import NEEDED, Intent
from longshore.engine.log_files import Files, folder_of
from longshore.errors import Code
from longshore.model import Counters, Shard
from longshore.settings import LogSettings
from longshore.store import Failure

INTENT = Intent(
    names=["a/1", 'b "quoted"\n', "c"], generations=[11, 12, 13], sizes=[0] * 3, flags=[NEEDED] * 3
)
FAILURES = {1: Failure(Code.PERMISSION_DENIED, "held")}


def _shard(states: frozenset[str], *, project: str = "p") -> Shard:
    return Shard(
        id=7,
        job=1,
        bucket_operation=1,
        attempt=1,
        project=project,
        job_id="job-1",
        bucket="b",
        store="local",
        source=("prefix_list", {}),
        transformation=("delete_object", {}),
        dry_run=False,
        log_states=states,
        range={},
        cursor={},
        intent=None,
        counters=Counters(),
    )


def _log(directory: Path, states: set[str], limits: LogSettings | None = None) -> ActionLog:
    shard = _shard(frozenset(states))
    return ActionLog(Files(directory, limits or LogSettings(), shard), shard)


async def _write(directory: Path, states: set[str]) -> ActionLog:
    log = _log(directory, states)
    await log.write(INTENT, FAILURES, {2}, now_us=1_795_000_000_123_456, settled=())
    return log


def _entries(directory: Path) -> list[dict[str, object]]:
    paths = sorted(directory.glob("*/*/*.jsonl"))
    return [orjson.loads(line) for path in paths for line in path.read_bytes().splitlines()]


async def test_a_record_has_the_shape_of_cloud_loggings(tmp_path: Path) -> None:
    log = await _write(tmp_path, {"SUCCEEDED", "FAILED"})
    await log.write(INTENT, {}, {0, 1}, now_us=1_795_000_000_123_456, settled={2})
    log.close()
    done, failed, settled = _entries(tmp_path)
    service = "storagebatchoperations.googleapis.com"
    assert done == {
        "severity": "INFO",
        "timestamp": "2026-11-18T11:06:40.123456000Z",
        "logName": f"projects/p/logs/{service}%2Ftransform_activity",
        "resource": {
            "type": f"{service}/Job",
            "labels": {
                "job_id": "job-1",
                "location": "global",
                "resource_container": "projects/p",
            },
        },
        "jsonPayload": {
            "@type": "type.googleapis.com/"
            "google.cloud.storagebatchoperations.logging.TransformActivityLog",
            "completeTime": "2026-11-18T11:06:40.123456000Z",
            "status": {"statusCode": "OK"},
            "DeleteObject": {
                "objectMetadataBefore": {
                    "gcsObject": {"bucket": "b", "objectKey": "a/1", "generation": "11"}
                }
            },
        },
    }
    assert failed["severity"] == "ERROR"
    assert failed["jsonPayload"]["status"] == {  # type: ignore[index]
        "errorMessage": "held",
        "errorType": "PERMISSION_DENIED",
        "statusCode": "PERMISSION_DENIED",
    }
    assert settled["jsonPayload"]["settled"] is True  # type: ignore[index]
    assert "settled" not in done["jsonPayload"]


@pytest.mark.parametrize(("states", "lines"), [({"FAILED"}, 1), ({"SUCCEEDED"}, 1), (set(), 0)])
async def test_only_the_wanted_outcomes_are_written(
    tmp_path: Path, states: set[str], lines: int
) -> None:
    log = await _write(tmp_path, states)
    log.close()
    assert len(_entries(tmp_path)) == lines


async def test_a_half_line_of_a_crash_goes_before_the_next_is_written(tmp_path: Path) -> None:
    (await _write(tmp_path, {"SUCCEEDED"})).close()
    (path,) = tmp_path.glob("*/*/*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"severity":"INFO","time')
    (await _write(tmp_path, {"SUCCEEDED"})).close()
    assert len(_entries(tmp_path)) == 2


async def test_a_full_disk_is_told_once_and_the_next_run_goes_on(tmp_path: Path) -> None:
    (await _write(tmp_path, {"SUCCEEDED"})).close()
    (path,) = tmp_path.glob("*/*/*.jsonl")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = _log(tmp_path, {"SUCCEEDED"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            await log.write(INTENT, FAILURES, {2}, now_us=0, settled=())
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (await _write(tmp_path, {"SUCCEEDED"})).close()
    assert len(_entries(tmp_path)) == 2


async def test_files_rotate_and_the_oldest_go(tmp_path: Path) -> None:
    limits = LogSettings(max_file_bytes=1_000, max_shard_bytes=5_000)
    log = _log(tmp_path, {"SUCCEEDED"}, limits)
    for number in range(60):
        one = Intent(names=[f"n{number:02d}"], generations=[1], sizes=[0], flags=bytes([NEEDED]))
        await log.write(one, {}, set(), now_us=0, settled=())
    log.close()
    files = sorted(tmp_path.glob("*/*/*.jsonl"))
    assert 2 <= len(files) <= 5
    assert sum(path.stat().st_size for path in files) <= 5_000 + 1_500
    text = b"".join(path.read_bytes() for path in files)
    assert b'"n59"' in text
    assert b'"n00"' not in text
    assert set(log_files.shards_with_logs(tmp_path)) == {7}
    log_files.remove(log_files.shards_with_logs(tmp_path)[7])
    assert list(tmp_path.glob("*/*/*")) == []


@pytest.mark.parametrize("project", ["..", ".", "a b", "example.com:p", "%2e%2e", "ü", "-x"])
def test_no_project_leads_out_of_the_directory(tmp_path: Path, project: str) -> None:
    place = tmp_path / folder_of(project, "job")
    assert place.resolve().parent.parent == tmp_path.resolve()
    assert place.parent.name not in {".", ".."}


def test_every_project_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """However long its id becomes by being quoted."""
    projects = ["船" * 128, "船" * 127 + "舟", "%" * 128, "x" * 128]
    for project in projects:
        (tmp_path / folder_of(project, "j" * 128)).mkdir(parents=True)
    assert len(list(tmp_path.iterdir())) == len(projects)


@given(names=st.lists(st.text(alphabet='a",\\\n é\u2028', min_size=1, max_size=9), min_size=1))
def test_records_that_are_made_together_are_those_made_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    intent = Intent(
        names=names, generations=list(range(len(names))), sizes=[0] * len(names), flags=[0]
    )
    log = _log(tmp_path_factory.mktemp("logs"), {"SUCCEEDED"})
    everything = range(len(names))
    prefix = log._prefix("now", None)
    one_by_one = b"".join(log._records(intent, everything, {}, (), "now", settled=()))
    assert log._alike(intent, everything, prefix) == one_by_one
    assert one_by_one.count(b"\n") == len(names)

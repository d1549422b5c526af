"""gcs_expected.yaml against longshore's emulator and driver, and against an emulator by others."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
import pytest
import yaml
from gcp_storage_emulator.server import create_server

from longshore.errors import Code
from longshore.stores.gs import failures
from longshore.stores.memory import MemoryStore
from tests.conformance import gcs_live
from tests.conformance.expected_answers import (
    ELSEWHERE,
    HERE,
    SETTINGS,
    Entry,
    Service,
    document,
    entries,
    replay,
)
from tests.conformance.shelf import TurnedClock
from tests.gs.emulated import serving

MINIMUM = 80
_buckets = itertools.count(1)


def test_every_entry_has_evidence_and_a_name_of_its_own() -> None:
    sources = document()["sources"].keys()
    assert len(entries()) >= MINIMUM
    assert [name for name, count in Counter(e.name for e in entries()).items() if count > 1] == []
    for entry in [*entries(), *map(_reason, document()["reasons"])]:
        cited = [source for piece in entry.evidence for source in piece]
        assert cited, entry.name
        assert set(cited) <= sources, entry.name
        assert all(text for piece in entry.evidence for text in piece.values()), entry.name
        assert entry.needs.keys() <= SETTINGS.keys() | ELSEWHERE.keys(), entry.name


def _reason(reason: Mapping[str, object]) -> Entry:
    name = f"{reason['status']} {reason['reason']} {reason['message']}"
    return Entry(name=name, request={}, reply={}, evidence=reason["evidence"])  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def emulator(folder: Path, clock: TurnedClock) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(MemoryStore(clock), clock, folder) as url,
        httpx.AsyncClient(
            transport=gcs_live.Patient(0), base_url=url, headers=gcs_live.AS_STORED, timeout=60
        ) as http,
    ):
        yield http


async def _made(entry: Entry, http: httpx.AsyncClient) -> str:
    """A bucket as the entry needs it; "" where the service does not have such buckets yet."""
    name = f"expected-{next(_buckets)}"
    query = {"project": "port"}
    if entry.setting("object_retention"):
        query["enableObjectRetention"] = "true"
    made = await http.post("/storage/v1/b", params=query, json=entry.bucket(name))
    if made.status_code == 501:
        return ""
    assert made.status_code == 200, made.text
    return name


async def test_the_emulator_answers_as_expected(tmp_path: Path) -> None:
    """Where an entry says that the emulator answers otherwise, it does."""
    wrong: dict[str, list[str]] = {}
    clock = TurnedClock()
    async with emulator(tmp_path, clock) as http:

        async def forward(seconds: float) -> None:
            clock.turn(seconds)

        for entry in entries():
            bucket = await _made(entry, http)
            if not bucket:
                assert entry.setting("soft_delete"), (
                    entry.name
                )  # the one setting that may be missing
                continue
            service = Service(
                http=http,
                bucket=bucket,
                prefix="dir/",
                now=lambda: datetime.fromtimestamp(clock.now_us() / 1_000_000, UTC),
                forward=forward,
            )
            differences = await replay(entry, service)
            if bool(differences) != bool(entry.emulator):
                wrong[entry.name] = differences or [f"no more: {entry.emulator}"]
    assert wrong == {}


def _service_by_others() -> Mapping[str, str]:
    """Why that emulator answers otherwise, by the names of entries."""
    reasons = yaml.safe_load((HERE / "gcs_elsewhere.yaml").read_bytes())
    return {name: reason for reason, names in reasons.items() for name in names}


@pytest.mark.services  # of which it is none, but slow
async def test_another_emulator_answers_as_expected_but_for_what_is_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """gcp-storage-emulator knows no settings of buckets, so that only what needs none is replayed:
    what it answers otherwise is in gcs_elsewhere.yaml, and nothing else is."""
    caplog.set_level("CRITICAL", "gcp_storage_emulator")
    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    host, port = server._api._httpd.socket.getsockname()
    otherwise: set[str] = set()
    replayed = [entry for entry in entries() if not any(entry.needs.values())]
    try:
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=gcs_live.AS_STORED, timeout=60
        ) as http:
            for entry in replayed:
                service = Service(http=http, bucket=await _made(entry, http), prefix="dir/")
                if await replay(entry, service):
                    otherwise.add(entry.name)
    finally:
        server.stop()
    listed = _service_by_others()
    assert otherwise == listed.keys()
    assert listed.keys() <= {entry.name for entry in replayed}


@pytest.mark.parametrize(
    "reason", document()["reasons"], ids=lambda one: f"{one['status']}-{one['reason']}"
)
def test_the_driver_takes_a_refusal_for_what_it_is(reason: Mapping[str, str]) -> None:
    error = {
        "code": reason["status"],
        "message": reason["message"],
        "errors": [{"reason": reason["reason"], "domain": "global", "message": reason["message"]}],
    }
    said = failures.error_for(
        int(reason["status"]), orjson.dumps({"error": error}), "objects.delete", "b", "o"
    )
    assert said.code == Code[reason["code"]]
    assert reason.get("hint", "") in said.message


def test_the_driver_knows_no_reason_without_evidence() -> None:
    assert failures._BY_REASON.keys() <= {one["reason"] for one in document()["reasons"]}


async def test_a_replay_on_a_bucket_skips_by_name_and_leaves_the_bucket_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `make gcs-live` does, with the emulator in place of Cloud Storage."""
    async with emulator(tmp_path, TurnedClock()) as http:
        theirs = {"name": "theirs", "softDeletePolicy": {"retentionDurationSeconds": "0"}}
        await http.post("/storage/v1/b", params={"project": "p"}, json=theirs)
        at = "/storage/v1/b/theirs/o"
        await http.post(
            f"/upload{at}", params={"uploadType": "media", "name": "a"}, content=b"mine"
        )
        before = (await http.get(at, params={"versions": True})).json()
        await http.post("/_emulator/faults", json={"method": "PATCH", "status": 429, "count": 3})
        answered_otherwise = await gcs_live.run(http, "theirs")
        after = (await http.get(at, params={"versions": True})).json()
    assert after == before
    said: dict[str, list[str]] = {"ok": [], "DIFFERS": [], "SKIPPED": []}
    for line in capsys.readouterr().out.splitlines():
        word, _, rest = line.partition("  ")
        if word:
            said[word].append(rest)
    skipped = dict(line.split(": needs ") for line in said["SKIPPED"])
    unfit = {entry.name for entry in entries() if any(entry.needs.values())}
    differ = {entry.name for entry in entries() if entry.emulator} - unfit
    assert skipped.keys() == unfit
    assert skipped["a versioned bucket keeps what is deleted"] == "versioning"
    assert "clock" in skipped["after its period an object can be deleted"]
    assert set(said["DIFFERS"]) == answered_otherwise == differ
    assert set(said["ok"]) == {entry.name for entry in entries()} - unfit - differ

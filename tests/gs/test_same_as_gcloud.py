"""What the store sends is what ``gcloud storage`` sends for the same act. Where the store says what
is to change, gcloud says all that the object is to have, as it has just read it."""

from __future__ import annotations

import asyncio
import datetime
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longshore.patch import MapPatch, Patch, Retention
from longshore.store import Batch
from longshore.stores.gs.store import GsStore
from tests.conftest import need
from tests.gs.asking import BUCKET, PROJECT, an_object, said, store_at
from tests.gs.recorder import Answered, Recorder, Request, recording

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

NAME = "päck/a b+&%.txt"
UNTIL = datetime.datetime(2040, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
IF_IT_IS = "--if-generation-match=7"
SEEN = Batch(names=[NAME], generations=[7], metagenerations=[3], sizes=[5])


def answer(request: Request) -> Answered:
    if request.method == "DELETE":
        return Answered(204, b"")
    kept = {"metadata": {"old": "1"}, "contentType": "text/plain", "cacheControl": "no-store"}
    source = an_object(NAME, etag="CAc=", **kept)
    if "/rewriteTo/" in request.path:
        done = {"totalBytesRewritten": "5", "objectSize": "5", "done": True}
        return said({"kind": "storage#rewriteResponse", **done, "resource": source})
    return said(source)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    need("gcloud")
    with recording(answer) as recorder:
        yield recorder


async def gcloud(recorder: Recorder, home: Path, *arguments: str) -> Request:
    """The request by which ``gcloud storage`` changes something."""
    settings = {
        "API_ENDPOINT_OVERRIDES_STORAGE": f"{recorder.url}/",
        "AUTH_DISABLE_CREDENTIALS": "true",
        "COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CONFIG": str(home / "gcloud"),
        "CORE_CHECK_GCE_METADATA": "false",
        "CORE_DISABLE_PROMPTS": "1",
        "CORE_DISABLE_USAGE_REPORTING": "true",
        "CORE_PROJECT": PROJECT,
        "STORAGE_PROCESS_COUNT": "1",
        "STORAGE_THREAD_COUNT": "1",
    }
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ},
        **{f"CLOUDSDK_{name}": value for name, value in settings.items()},
        "HOME": str(home),
        "no_proxy": "127.0.0.1",
    }
    done = await asyncio.to_thread(
        subprocess.run,
        ["gcloud", "storage", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (change,) = [one for one in recorder.taken() if one.method != "GET"]
    return change


async def ours(recorder: Recorder, act: Any) -> Request:
    async with store_at(recorder.url) as store:
        assert (await act(store)).failures == {}
    (change,) = [one for one in recorder.taken() if one.method != "GET"]
    return change


def same(one: Request, other: Request, *parameters: str) -> None:
    """Both are about the same object, under the same conditions."""
    assert (one.method, one.path) == (other.method, other.path)
    for name in parameters:
        assert one.parameters[name] == other.parameters[name]


async def test_hold(recorder: Recorder, tmp_path: Path) -> None:
    def act(store: GsStore) -> Any:
        return store.patch_objects(BUCKET, SEEN, Patch(temporary_hold=True))

    mine = await ours(recorder, act)
    arguments = ("objects", "update", f"gs://{BUCKET}/{NAME}", "--temporary-hold", IF_IT_IS)
    theirs = await gcloud(recorder, tmp_path, *arguments)
    same(mine, theirs, "ifGenerationMatch")
    assert mine.json.items() <= theirs.json.items()


async def test_metadata_and_retention(recorder: Recorder, tmp_path: Path) -> None:
    until = Retention(mode="Unlocked", until_us=int(UNTIL.timestamp()) * 1_000_000)
    patch = Patch(custom_metadata=MapPatch(updates={"k": "v"}), retention=until)
    mine = await ours(recorder, lambda store: store.patch_objects(BUCKET, SEEN, patch))
    theirs = await gcloud(
        recorder,
        tmp_path,
        *("objects", "update", f"gs://{BUCKET}/{NAME}", IF_IT_IS),
        *("--update-custom-metadata=k=v", "--retention-mode=Unlocked"),
        f"--retain-until={UNTIL.isoformat()}",
    )
    same(mine, theirs, "ifGenerationMatch")
    assert theirs.json["metadata"] == {"old": "1", **mine.json["metadata"]}
    retentions = [one.json["retention"] for one in (mine, theirs)]
    assert {one["mode"] for one in retentions} == {"Unlocked"}
    times = [datetime.datetime.fromisoformat(one["retainUntilTime"]) for one in retentions]
    assert times == [UNTIL, UNTIL]


async def test_rewrite(recorder: Recorder, tmp_path: Path) -> None:
    """Both say again what the object is to keep, since a copy has no more than that."""

    def act(store: GsStore) -> Any:
        return store.rewrite_objects(BUCKET, SEEN, storage_class="NEARLINE")

    mine = await ours(recorder, act)
    arguments = ("objects", "update", f"gs://{BUCKET}/{NAME}", "--storage-class=NEARLINE", IF_IT_IS)
    theirs = await gcloud(recorder, tmp_path, *arguments)
    same(mine, theirs, "ifGenerationMatch")
    assert mine.json == {
        "storageClass": "NEARLINE",
        "metadata": {"old": "1"},
        "contentType": "text/plain",
        "cacheControl": "no-store",
    }
    assert mine.json.items() <= theirs.json.items()


async def test_delete(recorder: Recorder, tmp_path: Path) -> None:
    mine = await ours(recorder, lambda store: store.delete_objects(BUCKET, SEEN, permanent=False))
    theirs = await gcloud(recorder, tmp_path, "rm", f"gs://{BUCKET}/{NAME}", IF_IT_IS)
    same(mine, theirs, "ifGenerationMatch")
    assert (mine.body, theirs.body) == (b"", b"")

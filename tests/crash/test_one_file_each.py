"""A transformation is one file: taken away its jobs are refused by name, put back they run."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import longshore
from longshore.store import Bucket, NewObject
from tests.service import PROJECT, Service

JOBS = {
    "rewrite_object": {"rewriteObject": {"storageClass": "COLDLINE"}},
    "delete_object": {"deleteObject": {}},
}


async def _load(service: Service) -> None:
    await service.store.create_bucket(Bucket(name="b", create_time_us=0))
    await service.store.write_objects("b", [NewObject(name="d/1", content=b"x")])


def test_a_transformation_is_one_file(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    installed = Path(longshore.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    package = shutil.copytree(installed, sources / "longshore", ignore=ignored)
    service = Service(tmp_path, sources=sources)
    asyncio.run(_load(service))
    file = package / "transformations" / "rewrite_object.py"
    text = file.read_text()
    file.unlink()
    try:
        service.start()
        bucket = {"bucket": "b", "prefixList": {}}
        body = {"bucketList": {"buckets": [bucket]}, **JOBS["rewrite_object"]}
        refused = service.http.post(f"/v1/{PROJECT}/jobs", json=body)
        assert 400 <= refused.status_code < 500  # gcloud repeats whatever is answered with a 5xx
        assert "rewrite_object" in refused.json()["error"]["message"]
        assert service.get(f"{PROJECT}/jobs").get("jobs", []) == []
        file.write_text(text)
        rewritten = service.create("b", {"prefixList": {}}, JOBS["rewrite_object"])
        assert service.done(rewritten)["counters"]["succeededObjectCount"] == "1"
        deleted = service.create("b", {"prefixList": {}}, JOBS["delete_object"])
        assert service.done(deleted)["counters"]["succeededObjectCount"] == "1"
    finally:
        service.close()

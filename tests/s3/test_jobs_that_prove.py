"""Jobs on services of many makers: what is not proven is refused before an object is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from longshore.database import proofs
from longshore.errors import Code
from longshore.proof import Effect
from longshore.stores.s3.client import Service
from longshore.stores.s3.features import Feature
from longshore.stores.s3.scratch import PREFIX
from longshore.transport.http import Reply
from tests.house import BUCKET, House
from tests.s3.asking import client_of, contents, leftovers, options_of
from tests.services.s3_servers import S3Server

DELETE = ("delete_object", {"permanent": False})
EVERYTHING = ("prefix_list", {"prefixes": [""]})
SECONDS = 100.0


@pytest.fixture
def client(rclone: S3Server) -> Any:
    """Of a service with one bucket, which has nothing but what is rclone's to destroy."""
    client = client_of(rclone)
    client.create_bucket(Bucket=BUCKET)
    for name in ("a", "b c", f"{PREFIX}mine"):
        client.put_object(Bucket=BUCKET, Key=name, Body=b"precious")
    yield client
    for name, _ in contents(client, BUCKET):
        client.delete_object(Bucket=BUCKET, Key=name)
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture
async def house(rclone: S3Server, client: Any, tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, "s3", options=options_of(rclone), speed=1.0)
    await house.outside.create()
    yield house
    await house.close()


async def test_a_job_deletes_what_it_finds_and_nothing_below_the_prefix(
    house: House, client: Any
) -> None:
    job = await house.create(DELETE, EVERYTHING)
    assert await house.run(job, seconds=SECONDS)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.total, counters.succeeded) == ("SUCCEEDED", 2, 2)
    assert [name for name, _ in contents(client, BUCKET)] == [f"{PREFIX}mine"]
    known = await house.outside.read(proofs.known, house.store.endpoint, 0)
    effects = {proof.call: proof.effect for proof in known}
    assert effects[Feature.DELETE] is Effect.WORKS
    assert effects[Feature.DELETE_ETAG] is Effect.IGNORED
    (note,) = [one["message"] for one in house.records() if "message" in one]
    assert "conditions of deletes have no effect" in note


async def test_what_a_service_destroys_is_refused_and_nothing_touched(
    house: House, client: Any
) -> None:
    before = contents(client, BUCKET)
    contexts = {"updates": {"a": "b"}, "removals": [], "clear": False}
    for what, call in (
        (("put_object_hold", {"temporary_hold": True}), "PutObjectLegalHold"),
        (("update_object_custom_context", contexts), "PutObjectTagging"),
    ):
        job = await house.create(what, EVERYTHING)
        assert await house.run(job, seconds=SECONDS)
        row, (counters, _) = await house.job(job)
        assert (row.state, row.error_code, counters.total) == ("FAILED", "UNIMPLEMENTED", 0)
        assert f"{call} replaces the content of the object" in row.error_message
    assert contents(client, BUCKET) == before


async def test_a_late_delete_takes_what_was_uploaded_meanwhile_and_the_log_has_said_so(
    house: House, client: Any
) -> None:
    """A known limit (docs/stores.md): this service obeys no condition of a delete, and keeps no
    versions."""
    service: Service = house.store._client.service  # type: ignore[attr-defined]
    send = service.send

    async def late(call: Any) -> Reply:
        if call.verb == "DeleteObjects":
            (note,) = [one["message"] for one in house.records() if "message" in one]
            assert "replaces just before it is deleted is gone with its new content" in note
            client.put_object(Bucket=BUCKET, Key="a", Body=b"newer")
        return await send(call)

    service.send = late  # type: ignore[method-assign]
    job = await house.create(DELETE, EVERYTHING)
    assert await house.run(job, seconds=SECONDS)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded, counters.failed) == ("SUCCEEDED", 2, 0)
    assert [name for name, _ in contents(client, BUCKET)] == [f"{PREFIX}mine"]


async def test_a_manifest_finds_nothing_below_the_prefix(house: House, client: Any) -> None:
    rows = "\n".join(f'{BUCKET},"{name}"' for name in ("a", f"{PREFIX}mine"))
    client.put_object(Bucket=BUCKET, Key="list.csv", Body=rows.encode())
    manifest = ("manifest", {"bucket": BUCKET, "name": "list.csv"})
    job = await house.create(("put_metadata", {"content_type": "text/y"}), manifest)
    assert await house.run(job, seconds=SECONDS)
    row, (counters, errors) = await house.job(job)
    print(errors)
    assert (row.state, counters.succeeded, counters.failed) == ("SUCCEEDED", 1, 1)
    assert errors.keys() == {Code.NOT_FOUND}
    assert client.get_object(Bucket=BUCKET, Key=f"{PREFIX}mine")["Body"].read() == b"precious"


async def test_a_bucket_that_retains_all_takes_a_probe_bucket(
    moto: S3Server, tmp_path: Path
) -> None:
    """Without one the job fails before it has touched anything; and what a hold is worth stands in
    the log of the one that does not."""
    client = client_of(moto)
    names = [f"{kind}-{uuid4().hex}" for kind in ("retains", "probe")]
    for name in names:
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    retains, probe = names
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket=retains, ObjectLockConfiguration=lock)
    client.put_object(Bucket=retains, Key="a", Body=b"precious")
    before = contents(client, retains)
    for probes, state in (({}, "FAILED"), ({"probe_bucket": probe}, "SUCCEEDED")):
        options = {**options_of(moto), **probes}
        house = House(tmp_path / state, "s3", options=options, speed=1.0)
        await house.outside.create()
        what = ("put_object_hold", {"temporary_hold": True})
        job = await house.create(what, EVERYTHING, buckets=(retains,))
        assert await house.run(job, seconds=SECONDS)
        row, (counters, _) = await house.job(job)
        assert row.state == state
        if state == "FAILED":
            assert (row.error_code, counters.total) == ("FAILED_PRECONDITION", 0)
            assert "set stores.main.probe_bucket" in row.error_message
            assert contents(client, retains) == before
        else:
            assert (counters.total, counters.succeeded) == (1, 1)
            (note,) = [one["message"] for one in house.records() if "message" in one]
            assert "protects a version, not its name" in note
            assert leftovers(client, probe) == []
        await house.close()
    client.close()


async def test_the_last_tags_stay_where_a_service_cannot_take_them_away(
    moto: S3Server, tmp_path: Path
) -> None:
    """It answers 500, which would be waited for."""
    client, bucket = client_of(moto), f"tags-{uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    for name in ("bare", "tagged"):
        client.put_object(Bucket=bucket, Key=name, Body=b"x", Tagging="a=1&b=2")
    client.delete_object_tagging(Bucket=bucket, Key="bare")
    house = House(tmp_path, "s3", options=options_of(moto), speed=1.0)
    await house.outside.create()
    clear = {"updates": {}, "removals": [], "clear": True}
    what = ("update_object_custom_context", clear)
    job = await house.create(what, EVERYTHING, buckets=(bucket,))
    assert await house.run(job, seconds=SECONDS)
    row, (counters, errors) = await house.job(job)
    assert (row.state, counters.succeeded, errors.keys()) == ("SUCCEEDED", 1, {Code.UNIMPLEMENTED})
    assert len(client.get_object_tagging(Bucket=bucket, Key="tagged")["TagSet"]) == 2
    await house.close()
    client.close()

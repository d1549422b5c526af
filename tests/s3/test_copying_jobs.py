"""Whole jobs that copy objects on Ceph, and die: one new version of each object, counted once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from longshore.errors import Code
from longshore.stores.s3.client import Service
from longshore.transport.http import Reply
from tests.faults import Crash
from tests.house import BUCKET, House
from tests.s3.asking import client_of, options_of, versions_of

if TYPE_CHECKING:
    from tests.services.ceph import Ceph

pytestmark = pytest.mark.services

NAMES = [f"d/{number:02d} ä+%" for number in range(45)]
PREFIX = ("prefix_list", {"prefixes": ["d/"]})
MANIFEST = ("manifest", {"bucket": BUCKET, "name": "list.csv"})
METADATA = ("put_metadata", {"content_type": "text/y", "custom_metadata": {"new": "1"}})
CHANGES = ("CopyObject", "PutObjectTagging", "PutObjectLegalHold", "DeleteObjects")
CRASHES = 20
SECONDS = 120.0


class Port:
    """A house on Ceph with a bucket that locks; its store's process dies at drawn requests."""

    def __init__(self, ceph: Ceph, directory: Path, seed: int) -> None:
        account = ceph.new_account()
        options = options_of(account)
        self.house = House(directory, "s3", batch=2, options=options, speed=10.0)
        self.s3: Any = client_of(account)
        self.s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        self.random = Random(seed)
        self.deaths = 0
        self._changes_to_live = 0
        self._under_way: set[asyncio.Task[Reply]] = set()
        service: Service = self.house.store._client.service  # type: ignore[attr-defined]
        self._send = service.send
        service.send = self.send  # type: ignore[method-assign]

    async def send(self, call: Any) -> Reply:
        """Send a request, or die before or after it. What has been sent takes effect before
        anything else is begun, as it does unless a network holds it back."""
        fate = self.house.fate
        fate.check()
        dies = ""
        if call.verb in CHANGES:
            self._changes_to_live -= 1
            if self._changes_to_live == 0:
                dies = self.random.choice(("before", "after"))
        if dies == "before":
            await self._die()
        task = asyncio.create_task(self._send(call))
        self._under_way.add(task)
        reply = await asyncio.shield(task)
        self._under_way.discard(task)
        if dies == "after":
            await self._die()
        fate.check()
        return reply

    async def _die(self) -> None:
        self.house.fate.dead = True
        self.deaths += 1
        await asyncio.gather(*self._under_way, return_exceptions=True)
        raise Crash("at a request")

    def put(self, name: str, **metadata: Any) -> str:
        body = f"content of {name}".encode()
        put = self.s3.put_object(Bucket=BUCKET, Key=name, Body=body, **metadata)
        return str(put["VersionId"])

    def versions(self) -> dict[str, list[str]]:
        """The ids of each object's versions, the newest first."""
        found: dict[str, list[str]] = {}
        for one in versions_of(self.s3, BUCKET, "d/"):
            assert not one.marker
            found.setdefault(one.name, []).append(one.version_id)
        return found

    async def live_through(self, job: int) -> Any:
        """Start the service until the job has come to its end; gives its counters and errors."""
        ended = False
        while not ended:
            self._changes_to_live = self.random.randrange(1, 3) if self.deaths < CRASHES else 0
            ended = await self.house.run(job, seconds=SECONDS)
        row, counts = await self.house.job(job)
        assert row.state == "SUCCEEDED"
        return counts


@pytest.fixture
async def port(ceph: Ceph, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Port]:
    port = Port(ceph, tmp_path, seed=sum(request.node.name.encode()))
    await port.house.outside.create()
    yield port
    port.house.fate.dead = False
    port.s3.close()
    await port.house.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("named", [False, True], ids=["by prefix", "by generation"])
async def test_after_twenty_deaths_each_object_has_one_new_version(port: Port, named: bool) -> None:
    before = {name: port.put(name, Metadata={"old": "1"}) for name in NAMES}
    source = PREFIX
    if named:
        pages = port.house.store.list_objects(BUCKET, prefix="d/")
        rows = [
            f'{BUCKET},"{name}",{generation}'
            async for page in pages
            for name, generation in zip(page.names, page.generations, strict=True)
        ]
        port.put("list.csv")
        port.s3.put_object(Bucket=BUCKET, Key="list.csv", Body="\n".join(rows).encode())
        source = MANIFEST
    job = await port.house.create(METADATA, source)
    counters, errors = await port.live_through(job)
    assert port.deaths == CRASHES
    assert (counters.total, counters.succeeded, errors) == (len(NAMES), len(NAMES), {})
    now = port.versions()
    assert now.keys() == before.keys()
    assert {name: ids[1:] for name, ids in now.items()} == {n: [v] for n, v in before.items()}
    for name in NAMES:
        head = port.s3.head_object(Bucket=BUCKET, Key=name)
        assert (head["ContentType"], head["Metadata"]) == ("text/y", {"old": "1", "new": "1"})


@pytest.mark.timeout(300)
async def test_contexts_are_counted_once_by_whoever_died_setting_them(port: Port) -> None:
    for name in NAMES:
        port.put(name, Tagging="old=1&stays=2")
    change = {"updates": {"new": "1", "stays": "3"}, "removals": ["old"], "clear": False}
    job = await port.house.create(("update_object_custom_context", change), PREFIX)
    counters, errors = await port.live_through(job)
    assert port.deaths == CRASHES
    assert (counters.succeeded, errors) == (len(NAMES), {})
    assert counters.contexts_created == len(NAMES)
    assert counters.contexts_updated == len(NAMES)
    assert counters.contexts_deleted == len(NAMES)
    assert {len(ids) for ids in port.versions().values()} == {1}
    for name in NAMES:
        tags = port.s3.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"new": "1", "stays": "3"}


async def test_hold_metadata_release_and_delete_for_good(port: Port) -> None:
    names = NAMES[:15]
    for name in names:
        port.put(name, CacheControl="no-store", Metadata={"old": "1"}, Tagging="team=dock")
    house, count = port.house, len(names)

    async def run(what: tuple[str, dict[str, Any]]) -> Any:
        counters, errors = await port.live_through(await house.create(what, PREFIX))
        return counters.succeeded, {code: one.count for code, one in errors.items()}

    port.deaths = CRASHES  # nobody dies
    delete = ("delete_object", {"permanent": True})
    assert await run(("put_object_hold", {"temporary_hold": True})) == (count, {})
    assert await run(delete) == (0, {Code.PERMISSION_DENIED: count})
    assert await run(METADATA) == (count, {})
    assert {len(ids) for ids in port.versions().values()} == {2}
    for name in names:
        head = port.s3.head_object(Bucket=BUCKET, Key=name)
        assert (head["ContentType"], head["CacheControl"]) == ("text/y", "no-store")
        assert (head["Metadata"], head["ObjectLockLegalHoldStatus"]) == (
            {"old": "1", "new": "1"},
            "ON",
        )
        tags = port.s3.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"]
        assert tags == [{"Key": "team", "Value": "dock"}]
    assert await run(("put_object_hold", {"temporary_hold": False})) == (count, {})
    assert await run(delete) == (2 * count, {})
    assert port.versions() == {}

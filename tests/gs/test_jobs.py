"""Whole jobs over the emulator, whose workers die: each object is changed, and counted, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from longshore.errors import Code
from longshore.patch import Patch, dump_map
from longshore.store import ABSENT
from longshore.stores.gs.client import Call, Service
from longshore.stores.gs.targets import quoted
from longshore.stores.memory import MemoryStore
from longshore.transport.http import Reply
from tests.conformance.shelf import pieces
from tests.faults import Crash
from tests.gs.asking import PROJECT
from tests.gs.emulated import serving
from tests.house import BUCKET, FastClock, House

NAMES = [f"d/{number:02d} ä+%" for number in range(30)]
HELD = NAMES[7]
PREFIX = ("prefix_list", {"prefixes": ["d/"]})
CONTEXTS = ("update_object_custom_context", {"updates": {"k": "v"}, "removals": [], "clear": False})
ACLS = ("set_object_acls", {"grants": {"allUsers": "READER"}, "removals": []})
CHANGES = ("objects.delete", "objects.patch", "objects.rewrite")
DEATHS = 6
SECONDS = 60.0
COLUMNS = (
    *("temporary_hold", "content_type", "custom_metadata", "contexts", "acl", "storage_class"),
)


class Quay:
    """A house on the emulator, whose worker dies at drawn requests. ``kept`` is what the emulator
    has its objects in."""

    def __init__(self, url: str, kept: MemoryStore, directory: Path, seed: int) -> None:
        options = {"endpoint": url, "anonymous": True, "project": PROJECT}
        self.house = House(directory, "gs", batch=4, options=options, speed=10.0)
        self.kept = kept
        self.deaths = 0
        self.meddle: Callable[[Call], Awaitable[None]] | None = None
        """What somebody else does before each request that changes objects."""
        self._random = Random(seed)
        self._changes_to_live = 0
        self._under_way: set[asyncio.Task[Reply]] = set()
        service: Service = self.house.store._client.service  # type: ignore[attr-defined]
        self._send = service.send
        service.send = self.send  # type: ignore[method-assign]

    async def send(self, call: Call, token: str = "") -> Reply:
        """Send a request, or die before or after it; what has been sent takes effect."""
        fate = self.house.fate
        fate.check()
        dies = ""
        if call.verb in CHANGES:
            if self.meddle is not None:
                await self.meddle(call)
            self._changes_to_live -= 1
            if self._changes_to_live == 0:
                dies = self._random.choice(("before", "after"))
        if dies == "before":
            await self._die()
        task = asyncio.create_task(self._send(call, token))
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

    async def live_through(self, what: tuple[str, dict[str, Any]]) -> Any:
        """Start the service until a job has come to its end: (total, succeeded, failed by code,
        counters)."""
        job = await self.house.create(what, PREFIX)
        self.deaths = 0
        ended = False
        while not ended:
            self._changes_to_live = self._random.randrange(1, 3) if self.deaths < DEATHS else 0
            ended = await self.house.run(job, seconds=SECONDS)
        row, (counters, errors) = await self.house.job(job)
        assert row.state == "SUCCEEDED"
        assert self.deaths == DEATHS
        failed = {code: one.count for code, one in errors.items()}
        return counters.total, counters.succeeded, failed, counters

    async def there(self) -> dict[str, dict[str, Any]]:
        """The columns of what there is, by name."""
        found = {}
        async for page in self.kept.list_objects(BUCKET, columns=COLUMNS):
            for index, name in enumerate(page.names):
                found[name] = {column: page.columns[column][index] for column in COLUMNS}
                found[name]["generation"] = page.generations[index]
                found[name]["metageneration"] = page.metagenerations[index]
        return found


@pytest.fixture
async def quay(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Quay]:
    clock = FastClock(10.0)
    kept = MemoryStore(clock)
    arriving = tmp_path / "arriving"
    arriving.mkdir()
    async with serving(kept, clock, arriving) as url:
        quay = Quay(url, kept, tmp_path / "house", sum(request.node.name.encode()))
        await quay.house.open()
        for name in NAMES:
            metadata = {"content_type": "a/b", "custom_metadata": dump_map({"old": "1"})}
            await kept.write_object(BUCKET, name, pieces(name.encode()), **metadata)
        yield quay
        quay.house.fate.dead = False
        await quay.house.close()


async def test_patches(quay: Quay) -> None:
    count = len(NAMES)
    before = await quay.there()
    for what, column, wanted in (
        (("put_object_hold", {"temporary_hold": True}), "temporary_hold", True),
        (
            ("put_metadata", {"content_type": "x/y", "custom_metadata": {"new": "2", "old": ""}}),
            "custom_metadata",
            dump_map({"new": "2"}),
        ),
    ):
        assert (await quay.live_through(what))[:3] == (count, count, {})
        now = await quay.there()
        assert {name: one[column] for name, one in now.items()} == dict.fromkeys(NAMES, wanted)
    assert {name: one["generation"] for name, one in now.items()} == {
        name: one["generation"] for name, one in before.items()
    }
    assert {one["metageneration"] for one in now.values()} == {3}


async def test_contexts_are_counted_once(quay: Quay) -> None:
    count = len(NAMES)
    *counts, counters = await quay.live_through(CONTEXTS)
    assert counts == [count, count, {}]
    assert counters.contexts_created == count
    assert {one["contexts"] for one in (await quay.there()).values()} == {dump_map({"k": "v"})}


async def test_rewrites_make_one_generation(quay: Quay) -> None:
    count = len(NAMES)
    await quay.kept.update_bucket(BUCKET, versioning=True)
    archive = ("rewrite_object", {"storage_class": "ARCHIVE", "kms_key": ""})
    assert (await quay.live_through(archive))[:3] == (count, count, {})
    assert {one["storage_class"] for one in (await quay.there()).values()} == {"ARCHIVE"}
    versions = [
        name async for page in quay.kept.list_objects(BUCKET, versions=True) for name in page.names
    ]
    assert len(versions) == 2 * count


async def test_deletes_leave_what_is_held(quay: Quay) -> None:
    count = len(NAMES)
    await quay.kept.write_object(BUCKET, HELD, pieces(b"x"), temporary_hold=True)
    await quay.kept.write_object(BUCKET, "other", pieces(b"x"))
    counts = (await quay.live_through(("delete_object", {"permanent": False})))[:3]
    assert counts == (count, count - 1, {Code.PERMISSION_DENIED: 1})
    assert (await quay.there()).keys() == {HELD, "other"}


@pytest.mark.parametrize(("times", "given_up"), [(5, 0), (99, 1)])
@pytest.mark.parametrize(
    ("what", "column", "wanted"),
    [
        (CONTEXTS, "contexts", dump_map({"k": "v"})),
        (ACLS, "acl", dump_map({"allUsers": "READER"})),
    ],
    ids=("contexts", "acls"),
)
async def test_what_others_keep_changing_is_read_again_five_times_and_never_written_over(
    quay: Quay,
    what: tuple[str, dict[str, Any]],
    column: str,
    wanted: str,
    times: int,
    given_up: int,
) -> None:
    moving, tries = quoted(NAMES[0]).encode(), 0

    async def meddle(call: Call) -> None:
        nonlocal tries
        if moving not in call.path.encode() + call.body:
            return
        tries += 1
        if tries <= times:
            batch = await quay.kept.read_objects(BUCKET, [NAMES[0]], [ABSENT])
            change = Patch(content_language=f"x-{tries}")
            assert (await quay.kept.patch_objects(BUCKET, batch, change)).failures == {}

    quay.meddle = meddle
    job = await quay.house.create(what, PREFIX)
    assert await quay.house.run(job, seconds=SECONDS)
    _, (counters, errors) = await quay.house.job(job)
    count = len(NAMES)
    assert (counters.total, counters.succeeded) == (count, count - given_up)
    assert list(errors) == [Code.ABORTED] * given_up
    if column == "contexts":
        assert counters.contexts_created == count - given_up
    found = [name for name, one in (await quay.there()).items() if one[column] == wanted]
    assert found == NAMES[given_up:]
    assert tries == 6

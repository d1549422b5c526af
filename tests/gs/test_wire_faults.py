"""Whole jobs over the emulator and a wire that cuts, halves, delays and doubles: what comes of each
object, and what is counted, stays exact."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from longshore.patch import dump_map
from longshore.stores.memory import MemoryStore
from tests.conformance.shelf import pieces
from tests.gs.asking import PROJECT
from tests.gs.emulated import serving as emulator
from tests.house import BUCKET, FastClock, House
from tests.s3.wire import SHARE, Fault, Message, Wire
from tests.transport.server import serving

pytestmark = pytest.mark.services  # needs nothing, but takes its time

NAMES = [f"d/{number:02d} ä+%" for number in range(60)]
PREFIX = ("prefix_list", {"prefixes": ["d/"]})
SECONDS = 60.0
FAULTS = [
    *(Fault.DELAYS, Fault.CUTS_BEFORE, Fault.CUTS_AFTER, Fault.ABANDONS, Fault.HALVES),
    *(Fault.RESETS, Fault.DOUBLES),
]
"""Those that nobody has to wait for."""
MAX_SPOILT = 6
"""So that no object runs out of tries."""


class GoogleWire(Wire):
    """Spoils requests of many calls, and single changes."""

    def _fault_of(self, request: Message) -> Fault | None:
        method, target, _ = request.first_line.split(" ")
        changes = b"\r\nPATCH " in request.body or b"\r\nDELETE " in request.body
        changes = changes or b"/rewriteTo/" in request.body or "/rewriteTo/" in target
        if method == "GET" or not (changes or method in ("PATCH", "DELETE")):
            return None
        drawn = not self.spoilt or self._random.random() < SHARE
        if self.fault is None or not drawn or self.spoilt == MAX_SPOILT:
            return None
        self.spoilt += 1
        return self.fault


class Port:
    """A house at the end of the wire; ``kept`` is what the emulator has its objects in."""

    def __init__(self, house: House, kept: MemoryStore, wire: GoogleWire) -> None:
        self.house = house
        self.kept = kept
        self.wire = wire

    async def done(self, what: tuple[str, dict[str, Any]], fault: Fault) -> Any:
        """The counters and errors of a job, some of whose requests were spoilt so."""
        job = await self.house.create(what, PREFIX)
        self.wire.fault = fault
        assert await self.house.run(job, seconds=SECONDS)
        assert self.wire.spoilt
        row, counts = await self.house.job(job)
        assert row.state == "SUCCEEDED"
        return counts

    async def column(self, column: str) -> dict[str, Any]:
        pages = self.kept.list_objects(BUCKET, columns=(column,))
        return {
            name: value
            async for page in pages
            for name, value in zip(page.names, page.columns[column], strict=True)
        }


@asynccontextmanager
async def port_at(directory: Path, seed: int) -> AsyncIterator[Port]:
    clock = FastClock(10.0)
    kept = MemoryStore(clock)
    async with emulator(kept, clock, directory) as url:
        wire = GoogleWire(url, "", seed)
        async with serving(wire.serve) as server:
            options = {
                "endpoint": f"http://127.0.0.1:{server.port}",
                "anonymous": True,
                "project": PROJECT,
            }
            house = House(directory / "house", "gs", batch=10, options=options, speed=10.0)
            await house.open()
            for name in NAMES:
                await kept.write_object(BUCKET, name, pieces(name.encode()))
            try:
                yield Port(house, kept, wire)
            finally:
                await house.close()


@pytest.fixture
async def port(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Port]:
    async with port_at(tmp_path, sum(request.node.name.encode())) as port:
        yield port


@pytest.mark.parametrize("fault", FAULTS)
async def test_contexts(port: Port, fault: Fault) -> None:
    change = {"updates": {"k": "v"}, "removals": [], "clear": False}
    counters, errors = await port.done(("update_object_custom_context", change), fault)
    count = len(NAMES)
    assert (counters.total, counters.succeeded, errors) == (count, count, {})
    assert counters.contexts_created == count
    assert await port.column("contexts") == dict.fromkeys(NAMES, dump_map({"k": "v"}))


@pytest.mark.parametrize("fault", FAULTS)
async def test_rewrites(port: Port, fault: Fault) -> None:
    await port.kept.update_bucket(BUCKET, versioning=True)
    what = ("rewrite_object", {"storage_class": "ARCHIVE", "kms_key": ""})
    counters, errors = await port.done(what, fault)
    count = len(NAMES)
    assert (counters.total, counters.succeeded, errors) == (count, count, {})
    assert await port.column("storage_class") == dict.fromkeys(NAMES, "ARCHIVE")
    pages = port.kept.list_objects(BUCKET, versions=True)
    assert sum([len(page) async for page in pages]) == 2 * count


@pytest.mark.parametrize("fault", FAULTS)
async def test_deletes(port: Port, fault: Fault) -> None:
    await port.kept.write_object(BUCKET, "other", pieces(b"x"))
    counters, errors = await port.done(("delete_object", {"permanent": True}), fault)
    count = len(NAMES)
    assert (counters.total, counters.succeeded, errors) == (count, count, {})
    assert list(await port.column("storage_class")) == ["other"]

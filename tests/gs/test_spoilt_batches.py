"""Whole jobs over the emulator, the replies to whose requests of many calls are not as they should
be: parts lost, doubled, renamed, out of order, cut. What nobody knows is looked at."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from longshore.patch import dump_map
from longshore.stores.memory import MemoryStore
from tests.conformance.shelf import pieces
from tests.gs.asking import PROJECT
from tests.gs.emulated import serving as emulator
from tests.house import BUCKET, FastClock, House
from tests.s3.wire import Fault, Message, Wire
from tests.transport.server import serving

pytestmark = pytest.mark.services  # needs nothing, but takes its time

NAMES = [f"d/{number:02d}" for number in range(60)]
PREFIX = ("prefix_list", {"prefixes": ["d/"]})
BATCH = 20
CONTEXTS = ("update_object_custom_context", {"updates": {"k": "v"}, "removals": [], "clear": False})
REWRITE = ("rewrite_object", {"storage_class": "ARCHIVE", "kms_key": ""})
DELETE = ("delete_object", {"permanent": True})
_ID = re.compile(rb"(?i)content-id: <response-(\d+)@longshore>\r\n")
Spoil = Callable[[list[bytes], Random], list[bytes]]


def lost(parts: list[bytes], random: Random) -> list[bytes]:
    """The replies to some calls, done or not, are not there."""
    return [part for part in parts if random.random() < 0.7]


def all_lost(parts: list[bytes], random: Random) -> list[bytes]:
    return []


def doubled(parts: list[bytes], random: Random) -> list[bytes]:
    """Some come twice, and the second time as a refusal."""
    refused = [re.sub(rb"HTTP/1.1 \d+", b"HTTP/1.1 403", part) for part in parts]
    return parts + random.sample(refused, len(parts) // 3)


def nameless(parts: list[bytes], random: Random) -> list[bytes]:
    """Some do not say which call they are the reply to."""
    return [_ID.sub(b"", part) if random.random() < 0.3 else part for part in parts]


def renamed(parts: list[bytes], random: Random) -> list[bytes]:
    """Some are the reply to a call that nobody made."""
    other = b"Content-ID: <response-9\\1@longshore>\r\n"
    return [_ID.sub(other, part) if random.random() < 0.3 else part for part in parts]


def shuffled(parts: list[bytes], random: Random) -> list[bytes]:
    return random.sample(parts, len(parts))


def later(parts: list[bytes], random: Random) -> list[bytes]:
    """Some say that the service has too much to do, though it has done what was asked."""
    return [
        re.sub(rb"HTTP/1.1 \d+", random.choice((b"HTTP/1.1 429", b"HTTP/1.1 503")), part)
        if random.random() < 0.3
        else part
        for part in parts
    ]


def cut(parts: list[bytes], random: Random) -> list[bytes]:
    """The last ones are not there, nor the end of the one before them."""
    keep = random.randrange(len(parts))
    return [*parts[:keep], parts[keep][: len(parts[keep]) // 2]]


SPOILS = (lost, all_lost, doubled, nameless, renamed, shuffled, later, cut)


class Spoiler(Wire):
    """Spoils the replies to some of the requests that make many changes."""

    spoil: Spoil | None = None
    most = 3
    """So that no object runs out of tries."""

    def _fault_of(self, request: Message) -> Fault | None:
        return None

    def _passed(self, request: Message, reply: Message) -> Message:
        changes = any(one in request.body for one in (b"\r\nPATCH ", b"\r\nDELETE ", b"\r\nPOST "))
        if self.spoil is None or not changes or self.spoilt == self.most:
            return reply
        match = re.search(rb"(?i)boundary=\"?([^\";\r\n]+)", reply.head)
        if match is None:
            return reply
        self.spoilt += 1
        between = b"--" + match[1] + b"\r\n"
        parts = reply.body.rpartition(b"--" + match[1] + b"--")[0].split(between)[1:]
        assert len(parts) > 1
        spoilt = type(self).spoil(parts, self._random)  # type: ignore[misc]
        end = b"" if type(self).spoil is cut else b"--" + match[1] + b"--\r\n"
        body = b"".join(between + part for part in spoilt) + end
        length = b"content-length: %d\r\n" % len(body)
        return Message(re.sub(rb"(?i)content-length: \d+\r\n", length, reply.head), body)


@asynccontextmanager
async def port_at(directory: Path, spoil: Spoil) -> AsyncIterator[tuple[House, MemoryStore, Wire]]:
    clock = FastClock(10.0)
    kept = MemoryStore(clock)
    async with emulator(kept, clock, directory) as url:
        kind = type("Spoiling", (Spoiler,), {"spoil": staticmethod(spoil)})
        wire = kind(url, "", sum(spoil.__name__.encode()))
        async with serving(wire.serve) as server:
            options = {
                "endpoint": f"http://127.0.0.1:{server.port}",
                "anonymous": True,
                "project": PROJECT,
            }
            house = House(directory / "house", "gs", batch=BATCH, options=options, speed=10.0)
            await house.open()
            for name in NAMES:
                await kept.write_object(BUCKET, name, pieces(name.encode()))
            try:
                yield house, kept, wire
            finally:
                await house.close()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        *((spoil, CONTEXTS) for spoil in SPOILS),
        *((spoil, REWRITE) for spoil in (lost, doubled, later, cut)),
        *((spoil, DELETE) for spoil in (all_lost, nameless, renamed, later)),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else one.__name__,
)
async def test_what_is_done_and_counted_is_exact(
    tmp_path: Path, spoil: Spoil, what: tuple[str, dict[str, Any]]
) -> None:
    async with port_at(tmp_path, spoil) as (house, kept, wire):
        await kept.update_bucket(BUCKET, versioning=True)
        job = await house.create(what, PREFIX)
        assert await house.run(job, seconds=60.0)
        assert wire.spoilt == Spoiler.most
        row, (counters, errors) = await house.job(job)
        count = len(NAMES)
        assert (row.state, counters.total, counters.succeeded, errors) == (
            *("SUCCEEDED", count, count),
            {},
        )
        columns = ("contexts", "storage_class")
        pages = [page async for page in kept.list_objects(BUCKET, columns=columns, versions=True)]
        found = {name: [] for name in NAMES}
        for page in pages:
            rows = zip(page.names, page.metagenerations, *page.columns.values(), strict=True)
            for name, *rest in rows:
                found[name].append(rest)
        if what is CONTEXTS:
            assert counters.contexts_created == count
            once = [[2, dump_map({"k": "v"}), "STANDARD"]]
        elif what is REWRITE:
            once = [[1, "", "ARCHIVE"], [1, "", "STANDARD"]]
        else:
            once = []
        assert found == dict.fromkeys(NAMES, once)

"""Ranges that are halved while they run: nothing is lost or doubled, and the work is even."""

from __future__ import annotations

import random
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.source import Range, Selection
from longshore.sources.prefix_list import PrefixList
from longshore.store import PAGE_SIZE, Batch

MANY = 100_000
WORKERS = 4


class Names:
    """A bucket of names, as sources see one; counts its listings."""

    def __init__(self, names: list[str]) -> None:
        self.names = sorted(set(names))
        self.calls = 0

    def for_bucket(self, bucket: str) -> Names:
        return self

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        after: str = "",
        before: str | None = None,
        page_size: int = PAGE_SIZE,
        **options: Any,
    ) -> AsyncIterator[Batch]:
        at = max(bisect_right(self.names, after), bisect_left(self.names, prefix))
        while True:
            self.calls += 1
            page = []
            for name in self.names[at : at + page_size]:
                if not name.startswith(prefix) or (before is not None and name >= before):
                    break
                page.append(name)
            at += len(page)
            zeros = [0] * len(page)
            yield Batch(names=page, generations=zeros, metagenerations=zeros, sizes=zeros)
            if len(page) < page_size:
                return


class Shard:
    """A range on its way: a page at a time."""

    def __init__(self, bucket: Names, range_: Range) -> None:
        self.bucket = bucket
        self.range = range_
        self.after = range_["after"]
        self.seen: list[str] = []
        self.last: Batch | None = None
        self.pages = 0
        self.looks = 4.0
        self.owner: int | None = None
        self.done = False

    async def read_a_page(self) -> None:
        listing = self.bucket.list_objects(
            "b", prefix=self.range["prefix"], after=self.after, before=self.range["before"]
        )
        self.last = await anext(listing)
        self.pages += 1
        self.looks += 1 / 16
        self.seen += self.last.names
        self.done = len(self.last) < PAGE_SIZE
        if not self.done:
            self.after = self.last.names[-1]

    async def halve(self, source: PrefixList) -> Shard | None:
        if self.last is None or self.looks < 1:
            return None
        last = Selection(batch=self.last, cursor={})
        keep, give, calls = await source.halve(
            self.bucket, "b", self.range, last, calls=min(2, int(self.looks))
        )
        self.looks -= calls
        self.range = keep
        if give is None:
            return None
        self.looks = 4.0
        return Shard(self.bucket, give)


def _digits(choose: random.Random, number: int) -> str:
    return f"archive/2026/part-000000000000{number:09d}.gz"


def _folders(choose: random.Random, number: int) -> str:
    return f"{number:07d}/object"


def _uuids(choose: random.Random, number: int) -> str:
    return str(uuid.UUID(int=choose.getrandbits(128)))


def _skewed(choose: random.Random, number: int) -> str:
    return f"{'a' if number % 100 else 'z'}/{choose.getrandbits(60):x}"


def _times(choose: random.Random, number: int) -> str:
    return f"2026-{1 + number // 9000:02d}-{1 + number // 300 % 28:02d}/{choose.getrandbits(40):x}"


def _chinese(choose: random.Random, number: int) -> str:
    return f"{chr(0x4E00 + choose.randrange(3000))}{choose.getrandbits(60):x}"


@pytest.mark.parametrize("kind", [_digits, _folders, _uuids, _skewed, _times, _chinese])
async def test_workers_are_evenly_busy(kind: Callable[[random.Random, int], str]) -> None:
    choose = random.Random(7)
    bucket = Names([f"d/{kind(choose, number)}" for number in range(MANY)])
    source = PrefixList(prefixes=("d/",))
    shards = [Shard(bucket, {"prefix": "d/", "after": "", "before": None})]
    busy = [0] * WORKERS
    while any(not shard.done for shard in shards):
        for worker in range(WORKERS):
            mine = [one for one in shards if one.owner in {worker, None} and not one.done]
            if mine:
                mine[0].owner = worker
                await mine[0].read_a_page()
                busy[worker] += 1
                continue
            running = [one for one in shards if not one.done and one.looks >= 1]
            if running:
                asked = min(running, key=lambda one: one.pages)
                if (new := await asked.halve(source)) is not None:
                    shards.append(new)
    assert sum(len(shard.seen) for shard in shards) == len(bucket.names)
    assert {name for shard in shards for name in shard.seen} == set(bucket.names)
    assert max(busy) / (sum(busy) / WORKERS) <= 1.25, busy
    pages = -(-len(bucket.names) // PAGE_SIZE)
    assert bucket.calls <= 1.1 * pages + 4 * len(shards)


TEXT = st.text(st.sampled_from("ab/0~\x00\x7fé\U0010ffff"), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(TEXT, min_size=1, max_size=60),
    prefix=st.sampled_from(["", "a", "é"]),
    cuts=st.lists(st.integers(0, 5), max_size=8),
)
async def test_the_ranges_are_always_the_whole_and_disjoint(
    names: list[str], prefix: str, cuts: list[int]
) -> None:
    """Also where a few names are taken for a page, so that cuts are made at every chance."""
    bucket = Names([name for name in names if name])
    ranges: list[Range] = [{"prefix": prefix, "after": "", "before": None}]

    async def names_of(range_: Range) -> list[str]:
        found: list[str] = []
        listing = bucket.list_objects(
            "b", prefix=prefix, after=range_["after"], before=range_["before"]
        )
        async for page in listing:
            found += page.names
        return found

    source = PrefixList(prefixes=(prefix,), worth_names=1)
    for cut in cuts:
        at = cut % len(ranges)
        inside = await names_of(ranges[at])
        if not inside:
            continue
        read = inside[: 1 + cut % 3]
        zeros = [0] * len(read)
        batch = Batch(names=read, generations=zeros, metagenerations=zeros, sizes=zeros)
        last = Selection(batch=batch, cursor={})
        keep, give, calls = await source.halve(bucket, "b", ranges[at], last, calls=3)
        assert calls <= 3
        ranges[at] = keep
        if give is not None:
            assert give["after"] >= read[-1]
            ranges.append(give)
    found = [name for range_ in ranges for name in await names_of(range_)]
    assert sorted(found) == [name for name in bucket.names if name.startswith(prefix)]


async def test_what_was_halved_any_number_of_times_can_be_kept() -> None:
    """A database keeps ranges as JSON, with numbers of 64 bits: the last part of a job that a
    thousand workers share was given away again and again."""
    bucket = Names([_digits(random.Random(3), number) for number in range(20_000)])
    source = PrefixList(prefixes=("",))
    shard = Shard(bucket, {"prefix": "", "after": "", "before": None})
    await shard.read_a_page()
    for _ in range(100):
        given = await shard.halve(source)
        assert given is not None
        orjson.dumps(given.range)
        # As if there were as many names behind the cut as there were before.
        shard.range = {**given.range, "after": ""}

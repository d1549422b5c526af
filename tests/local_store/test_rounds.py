"""Reads of one bucket that come together are answered together, each with its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from longshore.clock import SYSTEM_CLOCK
from longshore.errors import NotFound
from longshore.stores.local import folder
from longshore.stores.local.bucket import OpenBucket
from longshore.stores.local.failures import Gone
from longshore.stores.local.store import LocalStore
from longshore.stores.local.transaction import Transaction
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[OpenBucket]:
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    await shelf.make()
    await shelf.store.close()
    made = OpenBucket(BUCKET, folder.find(tmp_path, BUCKET), SYSTEM_CLOCK)
    yield made
    await made.close()


def name(transaction: Transaction) -> str:
    return transaction.bucket.name


def refuse(transaction: Transaction) -> str:
    raise NotFound("no such thing")


class Held:
    """The bucket's thread is at a read until ``free`` is called."""

    def __init__(self, opened: OpenBucket) -> None:
        self._begun, self._ends = threading.Event(), threading.Event()
        self.read = asyncio.create_task(opened.read(self._wait))

    async def begun(self) -> None:
        await asyncio.to_thread(self._begun.wait, 30)

    def free(self) -> None:
        self._ends.set()

    def _wait(self, transaction: Transaction) -> str:
        self._begun.set()
        self._ends.wait(30)
        return "waited"


async def test_each_has_its_own_answer(opened: OpenBucket) -> None:
    held = Held(opened)
    await held.begun()
    works = [name, refuse, name, refuse, name]
    reads = [asyncio.create_task(opened.read(work)) for work in works]
    await asyncio.sleep(0)  # they have asked
    assert not any(read.done() for read in reads)
    reads[2].cancel()
    held.free()
    answers = await asyncio.gather(held.read, *reads, return_exceptions=True)
    assert [type(answer) for answer in answers] == [
        *(str, str, NotFound, asyncio.CancelledError, NotFound, str),
    ]
    assert await opened.read(name) == BUCKET


async def test_who_has_asked_is_answered_before_the_bucket_is_closed(opened: OpenBucket) -> None:
    held = Held(opened)
    await held.begun()
    reads = [asyncio.create_task(opened.read(name)) for _ in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(opened.close())
    await asyncio.sleep(0)
    held.free()
    assert await asyncio.gather(held.read, *reads) == ["waited", BUCKET, BUCKET, BUCKET]
    await closing
    with pytest.raises(Gone):
        await opened.read(name)

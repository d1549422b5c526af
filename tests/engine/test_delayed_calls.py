"""A call that the network delays arrives when nobody waits for it any more (docs/stores.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import Unavailable
from longshore.store import ABSENT
from tests.house import House

DELETE = ("delete_object", {"permanent": True})
EVERYTHING = ("prefix_list", {"prefixes": [""]})


class Delaying:
    """A store whose first call to delete is under way when its connection breaks: ``arrive``
    delivers it. ``preconditions``: whether generations go with a call."""

    def __init__(self, store: Any, *, preconditions: bool) -> None:
        self._store = store
        self._preconditions = preconditions
        self.arrive: Callable[[], Awaitable[Any]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def capabilities(self) -> Any:
        return replace(self._store.capabilities, preconditions=self._preconditions)

    async def delete_objects(self, bucket: str, batch: Any, *, permanent: bool) -> Any:
        if self.arrive is not None:
            return await self._store.delete_objects(bucket, batch, permanent=permanent)

        async def arrive() -> Any:
            called = batch
            if not self._preconditions:  # then whatever is live under each name is meant
                called = await self._store.read_objects(
                    bucket, batch.names, [ABSENT] * len(batch), columns=("live",)
                )
            return await self._store.delete_objects(bucket, called, permanent=permanent)

        self.arrive = arrive
        raise Unavailable("the connection broke")


@pytest.fixture(params=["memory", "local"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, request.param, batch=20)
    await house.open()
    for number in range(20):
        await house.write(f"d/{number:03d}")
    yield house
    await house.close()


async def _deleted_once_more(house: House, *, preconditions: bool) -> list[str]:
    """What is left when a job has deleted all, somebody has written one name anew, and then the
    job's first call arrives."""
    delaying = Delaying(house.mortal, preconditions=preconditions)
    house.stores._open["main"] = delaying  # type: ignore[assignment]
    job = await house.create(DELETE, EVERYTHING)
    assert await house.run(job)
    row, (counters, _) = await house.job(job)
    assert (row.state, counters.succeeded, counters.failed) == ("SUCCEEDED", 20, 0)
    await house.write("d/007", b"new cargo")
    assert delaying.arrive is not None
    await delaying.arrive()
    return await house.names()


async def test_with_a_generation_it_has_no_effect(house: House) -> None:
    assert await _deleted_once_more(house, preconditions=True) == ["d/007"]


async def test_without_one_it_hits_what_was_written_since(house: House) -> None:
    """No engine can take back what is on its way: this is what docs/stores.md warns of."""
    assert await _deleted_once_more(house, preconditions=False) == []

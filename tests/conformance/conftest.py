from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from longshore.stores.memory import MemoryStore
from tests.conformance.shelf import (
    EVERY_PROMISE,
    PROMISES,
    STORES,
    Shelf,
    TurnedClock,
    on_ceph,
)
from tests.gs.emulated import emulated


@pytest.fixture(params=[*STORES, "gs", pytest.param("ceph", marks=pytest.mark.services)])
async def bare(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    """A store of each kind, without a bucket."""
    clock = TurnedClock()
    promises = PROMISES.get(request.param, EVERY_PROMISE)
    for mark in request.node.iter_markers("promised"):
        for promise in mark.args:
            if promise not in promises:
                pytest.skip(f"{request.param} does not promise that {promise.value}")
    if request.param == "gs":
        async with emulated(MemoryStore(clock), clock, tmp_path) as store:
            yield Shelf(store, clock, promises)
        return
    if request.param == "ceph":
        store = on_ceph(request.getfixturevalue("ceph"))
    else:
        store = STORES[request.param](tmp_path, clock)
    yield Shelf(store, clock, promises)
    await store.close()


@pytest.fixture
async def shelf(bare: Shelf) -> Shelf:
    """A store of each kind, with a bucket without rules."""
    await bare.make()
    return bare


@pytest.fixture
async def versioned(bare: Shelf) -> Shelf:
    """A store of each kind, with a bucket that keeps versions."""
    await bare.make(versioning=True)
    return bare

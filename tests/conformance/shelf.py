"""A store under test with one bucket, and short words for what the tests of stores do.

Another store is one line in STORES. What the contract leaves open is a Promise: a test that needs
one says so, and runs on the stores that make it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from longshore.clock import Clock, SystemClock
from longshore.patch import Patch
from longshore.settings import StoreSettings
from longshore.store import ABSENT, Batch, Bucket, Failure, Outcome, Store
from longshore.stores import s3
from longshore.stores.local.store import LocalStore
from longshore.stores.memory import MemoryStore

if TYPE_CHECKING:
    from tests.services.ceph import Ceph

BUCKET = "shelf"


class Promise(Enum):
    """What Cloud Storage promises beyond the contract, and S3 does not; docs/stores.md says what
    follows for users."""

    GENERATION_PER_WRITE = "every write has a generation of its own, a time in microseconds"
    METAGENERATION = "every change of metadata is counted"
    IN_PLACE = "a change of metadata keeps the generation"
    HOLDS_NAMES = "a hold keeps its object live: nobody replaces or deletes it"
    HOLDS_ANYWHERE = "any object of any bucket can be held and retained"
    BUCKET_RULES = "buckets have rules for holds, for access, and for retention by the second"
    STAYS_NONCURRENT = "a noncurrent version never becomes live again"
    VERSIONING_OFF = "where versions are no longer kept, a delete takes the live one for good"
    ANY_NAME = "every character can be in a name"
    DOTS = 'an object can be called "." and ".."'
    LINES = "a name can have line breaks"
    ANY_KEY = "whatever a key of encryption is called, it is there"
    ANY_GRANT = "anybody can have any role"
    LONG_CONTEXTS = "contexts have 256 characters"
    TURNED_CLOCK = "its clock is the test's"
    AT_HAND = "a hundred thousand calls take no time"


promised = pytest.mark.promised
EVERY_PROMISE = frozenset(Promise)
PROMISES: Mapping[str, frozenset[Promise]] = {
    "ceph": frozenset({Promise.DOTS, Promise.LINES}),
    "gs": EVERY_PROMISE - {Promise.ANY_NAME, Promise.DOTS, Promise.LINES, Promise.AT_HAND},
}
"""What those stores promise that do not promise everything."""

STORES: Mapping[str, Callable[[Path, Clock], Store]] = {
    "local": LocalStore,
    "memory": lambda _directory, clock: MemoryStore(clock),
}


def on_ceph(ceph: Ceph, **more: str) -> Store:
    """The store of an account of its own, so that every test may call its bucket BUCKET; ``more``
    are options."""
    account = ceph.new_account()
    options = {
        "endpoint": account.endpoint,
        "access_key": account.access_key,
        "secret_key": account.secret_key,
        **more,
    }
    return s3.open_store(StoreSettings(name="ceph", kind="s3", options=options), ceph.directory)


def is_marker(address: Sequence[Any]) -> bool:
    """Whether what is addressed so is a delete marker: it has no ETag."""
    return address[1:2] == ("",)


class TurnedClock(SystemClock):
    """The machine's clock, which a test may turn forward."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.ahead_us

    def turn(self, seconds: float) -> None:
        self.ahead_us += int(seconds * 1_000_000)


class Shelf:
    """The bucket BUCKET in ``store``."""

    def __init__(
        self, store: Store, clock: TurnedClock, promises: Set[Promise] = EVERY_PROMISE
    ) -> None:
        self.store = store
        self.clock = clock
        self.promises = promises

    async def make(self, bucket: str = BUCKET, **rules: Any) -> Bucket:
        return await self.store.create_bucket(Bucket(name=bucket, create_time_us=0, **rules))

    async def write(
        self, name: str, content: bytes = b"cargo", bucket: str = BUCKET, **metadata: Any
    ) -> int:
        return await self.store.write_object(bucket, name, pieces(content), **metadata)

    async def read(self, name: str, generation: int = ABSENT, start: int = 0) -> bytes:
        stream = self.store.read_bytes(BUCKET, name, generation, start=start)
        return b"".join([piece async for piece in stream])

    async def there(
        self, *names: str, generations: Sequence[int] | None = None, columns: Sequence[str] = ()
    ) -> Batch:
        generations = generations or [ABSENT] * len(names)
        return await self.store.read_objects(BUCKET, names, generations, columns=columns)

    async def column(self, name: str, column: str, generation: int = ABSENT) -> Any:
        batch = await self.there(name, generations=[generation], columns=(column,))
        assert batch.generations != [ABSENT]
        return batch.columns[column][0]

    async def names(self, **range_: Any) -> list[str]:
        return [name for name, _ in await self.versions(**range_)]

    async def versions(
        self, *, delete_markers: bool = False, **range_: Any
    ) -> list[tuple[str, int]]:
        """(name, generation) of all that a listing gives; ``delete_markers``, which only S3 has,
        where asked for."""
        found = []
        async for page in self.store.list_objects(BUCKET, **range_):
            rows = zip(page.names, page.generations, strict=True)
            addresses = page.columns.get("version", [()] * len(page))
            found += [
                row
                for row, to in zip(rows, addresses, strict=True)
                if delete_markers or not is_marker(to)
            ]
        return found

    async def empty(self) -> None:
        """Delete all versions, and delete markers, for good."""
        async for page in self.store.list_objects(BUCKET, versions=True):
            outcome = await self.store.delete_objects(BUCKET, page, permanent=True)
            assert not outcome.failures

    async def patch_objects(self, batch: Batch, patch: Patch, **options: Any) -> Outcome:
        """Patch; skips the test on a store that says that it cannot."""
        if missing := patch.changes().keys() - self.store.capabilities.patch_columns:
            pytest.skip(f"this store cannot change {', '.join(sorted(missing))}")
        return await self.store.patch_objects(BUCKET, batch, patch, **options)

    async def rewrite_objects(self, batch: Batch, **options: str) -> Outcome:
        """Rewrite; skips the test on a store that says that it cannot."""
        if not self.store.capabilities.rewrite:
            pytest.skip("this store cannot rewrite")
        return await self.store.rewrite_objects(BUCKET, batch, **options)

    async def patch(self, name: str, generation: int = ABSENT, **changes: Any) -> Failure | None:
        """Patch the version that is there."""
        batch = await self.there(name, generations=[generation], columns=("live",))
        outcome = await self.patch_objects(batch, Patch(**changes))
        return outcome.failures.get(0)

    async def delete(
        self, name: str, generation: int = ABSENT, *, permanent: bool = False
    ) -> Failure | None:
        """Delete the version that is there."""
        batch = await self.there(name, generations=[generation])
        outcome = await self.store.delete_objects(BUCKET, batch, permanent=permanent)
        return outcome.failures.get(0)

    async def rewrite(self, name: str, storage_class: str = "COLDLINE") -> Failure | None:
        """Rewrite the live object."""
        batch = await self.there(name)
        outcome = await self.rewrite_objects(batch, storage_class=storage_class)
        return outcome.failures.get(0)


def named(*rows: tuple[str, int], **columns: list[Any]) -> Batch:
    """A batch that names (name, generation)."""
    return Batch(
        names=[name for name, _ in rows],
        generations=[generation for _, generation in rows],
        metagenerations=columns.pop("metagenerations", [1] * len(rows)),
        sizes=[0] * len(rows),
        columns=columns,
    )


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece

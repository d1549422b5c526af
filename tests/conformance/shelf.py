"""A store under test with one bucket, and short words for what the tests of stores do.

Another store is one line in STORES.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longshore.clock import Clock, SystemClock
from longshore.patch import Patch
from longshore.settings import StoreSettings
from longshore.store import ABSENT, Batch, Bucket, Failure, Store
from longshore.stores import s3
from longshore.stores.local.store import LocalStore
from longshore.stores.memory import MemoryStore

if TYPE_CHECKING:
    from tests.services.ceph import Ceph

BUCKET = "shelf"

STORES: Mapping[str, Callable[[Path, Clock], Store]] = {
    "local": LocalStore,
    "memory": lambda _directory, clock: MemoryStore(clock),
}


def on_ceph(ceph: Ceph) -> Store:
    """The store of an account of its own, so that every test may call its bucket BUCKET."""
    account = ceph.new_account()
    options = {
        "endpoint": account.endpoint,
        "access_key": account.access_key,
        "secret_key": account.secret_key,
    }
    return s3.open_store(StoreSettings(name="ceph", kind="s3", options=options), ceph.directory)


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

    def __init__(self, store: Store, clock: TurnedClock) -> None:
        self.store = store
        self.clock = clock

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

    async def versions(self, **range_: Any) -> list[tuple[str, int]]:
        """(name, generation) of all that a listing gives."""
        pages = self.store.list_objects(BUCKET, **range_)
        return [
            row async for page in pages for row in zip(page.names, page.generations, strict=True)
        ]

    async def patch(self, name: str, generation: int = ABSENT, **changes: Any) -> Failure | None:
        """Patch the version that is there."""
        batch = await self.there(name, generations=[generation], columns=("live",))
        outcome = await self.store.patch_objects(BUCKET, batch, Patch(**changes))
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
        outcome = await self.store.rewrite_objects(BUCKET, batch, storage_class=storage_class)
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

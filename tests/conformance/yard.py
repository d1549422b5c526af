"""A bucket in a store of each kind, for the suites of sources and transformations.

Another store is one line: its kind, in KINDS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from longshore.settings import Settings, StoreSettings
from longshore.store import ABSENT, Batch, Bucket, Store, Stores

KINDS = ("memory", "local")
BUCKET = "yard"


class Yard:
    """The bucket BUCKET, and whatever else a test makes, in a fresh store."""

    def __init__(self, kind: str, directory: Path) -> None:
        main = StoreSettings(name="main", kind=kind, buckets=("*",))
        self.stores = Stores(Settings(data_dir=directory, stores={"main": main}))
        self.store: Store = self.stores.for_bucket(BUCKET)

    async def make(self, bucket: str = BUCKET, **rules: Any) -> None:
        await self.store.create_bucket(Bucket(name=bucket, create_time_us=0, **rules))

    async def write(
        self, name: str, content: bytes = b"cargo", *, bucket: str = BUCKET, **metadata: Any
    ) -> int:
        async def pieces() -> AsyncIterator[bytes]:
            yield content

        return await self.store.write_object(bucket, name, pieces(), **metadata)

    async def write_all(self, *names: str, **metadata: Any) -> list[int]:
        return [await self.write(name, name.encode(), **metadata) for name in names]

    async def read(
        self, names: list[str], generations: list[int] | None = None, *, columns: tuple[str, ...]
    ) -> Batch:
        generations = generations or [ABSENT] * len(names)
        return await self.store.read_objects(BUCKET, names, generations, columns=columns)

    async def delete(self, *names: str, permanent: bool = False) -> None:
        batch = await self.read(list(names), columns=("live",))
        outcome = await self.store.delete_objects(BUCKET, batch, permanent=permanent)
        assert not outcome.failures

    async def names(self, *, versions: bool = False) -> list[tuple[str, int]]:
        """Every object there is, with its generation."""
        pages = self.store.list_objects(BUCKET, versions=versions)
        return [
            row async for page in pages for row in zip(page.names, page.generations, strict=True)
        ]

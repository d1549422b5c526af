"""The contract of store.Store over the JSON API of Cloud Storage."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

from longshore.patch import Patch
from longshore.store import (
    ABSENT,
    PAGE_SIZE,
    Batch,
    Bucket,
    Capabilities,
    NewObject,
    Outcome,
    Turns,
)
from longshore.stores.gs import (
    buckets,
    deleting,
    listing,
    patching,
    reading,
    rewriting,
    writing,
)
from longshore.stores.gs.client import Client

CAPABILITIES = Capabilities(
    patch_columns=patching.PATCHED,
    versions=True,
    rewrite=True,
    preconditions=True,
    # "Cloud Storage detects such contention and automatically redistributes the load on the
    # affected index range": docs.cloud.google.com/storage/docs/request-rate.
    by_range=True,
)


class GsStore:
    """The buckets of Cloud Storage. Its views by turns share its connections."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._capabilities = replace(CAPABILITIES, ramp=client.service.settings.ramp)

    def by_turns(self, turns: Turns) -> GsStore:
        """The same store, each of whose requests waits for its turn."""
        return GsStore(self._client.by_turns(turns))

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def list_objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        after: str = "",
        after_generation: int | None = None,
        before: str | None = None,
        versions: bool = False,
        columns: Sequence[str] | None = (),
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[Batch]:
        """Pages; soft-deleted objects are never among them."""
        names = listing.Range(prefix, after, after_generation if versions else None, before)
        return listing.pages(
            self._client,
            bucket,
            names,
            versions=versions,
            columns=columns,
            page_size=page_size,
        )

    async def read_objects(
        self,
        bucket: str,
        names: Sequence[str],
        generations: Sequence[int],
        *,
        columns: Sequence[str] = (),
    ) -> Batch:
        """What is there now, position by position."""
        return await reading.there(self._client, bucket, names, generations, columns)

    def read_bytes(
        self, bucket: str, name: str, generation: int = ABSENT, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        """The content; raises Aborted if it goes while it is read."""
        return reading.content(self._client, bucket, name, generation, start)

    async def write_object(
        self, bucket: str, name: str, content: AsyncIterable[bytes], **metadata: Any
    ) -> int:
        """Create or replace the live object and give its generation."""
        return await writing.write(self._client, bucket, name, content, metadata)

    async def write_objects(self, bucket: str, objects: Iterable[NewObject]) -> Outcome:
        """Create or replace many objects, some at a time."""
        return await writing.write_many(self._client, bucket, objects)

    async def delete_objects(self, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
        """Delete each (name, generation); a soft-delete policy of the bucket holds all the same."""
        return await deleting.delete(self._client, bucket, batch, permanent=permanent)

    async def patch_objects(
        self, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool = False
    ) -> Outcome:
        """Change metadata."""
        return await patching.patch_objects(
            self._client, bucket, batch, patch, match_metageneration=match_metageneration
        )

    async def rewrite_objects(
        self, bucket: str, batch: Batch, *, storage_class: str = "", kms_key: str = ""
    ) -> Outcome:
        """Copy each live object onto itself, with all of its metadata."""
        return await rewriting.rewrite_objects(
            self._client, bucket, batch, storage_class=storage_class, kms_key=kms_key
        )

    def list_buckets(self) -> AsyncIterator[Bucket]:
        """Every bucket of the project in the settings, by name."""
        return buckets.listed(self._client)

    async def get_bucket(self, bucket: str) -> Bucket:
        """The bucket's rules."""
        return await buckets.get(self._client, bucket)

    async def create_bucket(self, bucket: Bucket) -> Bucket:
        """Make a bucket; raises AlreadyExists."""
        return await buckets.create(self._client, bucket)

    async def update_bucket(self, bucket: str, **changes: Any) -> Bucket:
        """Change rules."""
        return await buckets.update(self._client, bucket, changes)

    async def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket; raises FailedPrecondition if it is not."""
        await buckets.delete(self._client, bucket)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.service.close()

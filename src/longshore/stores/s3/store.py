"""The contract of store.Store over the S3 protocol."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from longshore.patch import Patch
from longshore.proof import Finding, Proof
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
from longshore.stores.s3 import buckets, deleting, listing, patching, reading, targets, writing
from longshore.stores.s3.client import Call, Client
from longshore.stores.s3.failures import failure_of
from longshore.stores.s3.patching import MOVING, PATCHED, READS
from longshore.stores.s3.proving import Proving
from longshore.transport.http import Reply


class S3Store:
    """The buckets of one S3 service. Its views by turns share its connections."""

    def __init__(self, client: Client) -> None:
        self._client = client
        settings, verdicts = client.service.settings, client.service.verdicts
        self._proving = Proving(self._ask, verdicts, settings.name, settings.probe_bucket or "")

    def by_turns(self, turns: Turns) -> S3Store:
        """The same store, each of whose requests waits for its turn."""
        return S3Store(self._client.by_turns(turns))

    @property
    def endpoint(self) -> str:
        """The service that proofs are about."""
        return self._client.service.settings.endpoint.url

    async def prove(
        self, bucket: str, acts: Mapping[str, str], known: Sequence[Proof]
    ) -> list[Finding]:
        """As ``proof.MustProve.prove``; what nobody has asked it for is proven when it is first
        done."""
        return await self._proving.prove(bucket, self._in_its_words(acts), known)

    async def _refused(self, bucket: str, batch: Batch, acts: Mapping[str, str]) -> Outcome | None:
        """What becomes of ``batch`` where the service must not be asked for ``acts``."""
        error = await self._proving.refusal(bucket, self._in_its_words(acts))
        if error is None:
            return None
        return Outcome(failures=dict.fromkeys(range(len(batch)), failure_of(error)))

    def _in_its_words(self, acts: Mapping[str, str]) -> Mapping[str, str]:
        """``acts`` with the key as the service calls it; raises FailedPrecondition if the settings
        do not say."""
        if (key := acts.get("kms_key")) is None:
            return acts
        return {**acts, "kms_key": patching.service_key(self._client, key)}

    async def _ask(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] = MappingProxyType({}),
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes = b"",
    ) -> Reply:
        call = Call("Trial", method, bucket, key, targets.query(query), headers, body)
        return await self._client.ask(call)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            patch_columns=PATCHED,
            copied_columns=MOVING,
            patch_reads=READS,
            versions=True,
            rewrite=True,
            preconditions=False,
        )

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
        """Pages. With ``versions`` delete markers are among them, of size 0 and not live; within a
        name they go by generation, which is newest first but for those of one second."""
        return listing.pages(
            self._client,
            bucket,
            listing.Range(prefix, after, before),
            after_generation=after_generation,
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
        """The content; raises Aborted if it is large and is replaced meanwhile."""
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
        """Delete each (name, generation)."""
        act = "delete_permanently" if permanent else "delete"
        if refused := await self._refused(bucket, batch, {act: ""}):
            return refused
        return await deleting.delete(self._client, bucket, batch, permanent=permanent)

    async def patch_objects(
        self, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool = False
    ) -> Outcome:
        """Change metadata: most of it by a copy."""
        if refused := await self._refused(bucket, batch, dict.fromkeys(patch.changes(), "")):
            return refused
        batch = await reading.addressed(self._client, bucket, batch)
        return await patching.patch_objects(
            self._client, bucket, batch, patch, match_metageneration=match_metageneration
        )

    async def rewrite_objects(
        self, bucket: str, batch: Batch, *, storage_class: str = "", kms_key: str = ""
    ) -> Outcome:
        """Copy each live object onto itself."""
        key = patching.service_key(self._client, kms_key)
        wanted = {"storage_class": storage_class, "kms_key": key}
        acts = {act: value for act, value in wanted.items() if value}
        if refused := await self._refused(bucket, batch, acts):
            return refused
        batch = await reading.addressed(self._client, bucket, batch)
        return await patching.rewrite_objects(
            self._client, bucket, batch, storage_class=storage_class, kms_key=key
        )

    def list_buckets(self) -> AsyncIterator[Bucket]:
        """Every bucket that the keys' owner has, by name."""
        return buckets.listed(self._client)

    async def get_bucket(self, bucket: str) -> Bucket:
        """The bucket's rules; its time is 0."""
        return await buckets.get(self._client, bucket)

    async def create_bucket(self, bucket: Bucket, *, object_lock: bool = False) -> Bucket:
        """Make a bucket; raises AlreadyExists. With ``object_lock``, or a retention, its objects
        can be held and retained, for which it keeps versions."""
        return await buckets.create(self._client, bucket, object_lock=object_lock)

    async def update_bucket(self, bucket: str, **changes: Any) -> Bucket:
        """Change rules."""
        return await buckets.update(self._client, bucket, changes)

    async def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket; raises FailedPrecondition if it is not."""
        await buckets.delete(self._client, bucket)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.service.close()

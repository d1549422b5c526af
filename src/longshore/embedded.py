"""What the stores of our own can do beside the contract of store.Store.

A front end with Cloud Storage's own API needs it: each of its calls is about one object, and may
come with preconditions that hold at the moment of the change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from longshore.patch import Patch
from longshore.store import Batch, Bucket, NewObject, Store

Check = Callable[[int, int], None]
"""Is given the generation and metageneration of what is there (ABSENT, 0: nothing); raises what
forbids to go on."""


class OneAtATime(Store, Protocol):
    """A store that also looks at one object, asks whether to go on, and changes it, all in one
    step; nobody comes between. Whatever keeps a change from being made is raised."""

    async def put_object(
        self, bucket: str, new: NewObject, *, check: Check, columns: Sequence[str] = ()
    ) -> Batch:
        """Create or replace the live object, which ``check`` is asked about; gives the new one."""

    async def delete_object(self, bucket: str, name: str, generation: int, *, check: Check) -> None:
        """Delete the live object for ABSENT, as a plain delete does; else that version for good."""

    async def patch_object(
        self,
        bucket: str,
        name: str,
        generation: int,
        *,
        patch: Patch,
        check: Check,
        columns: Sequence[str] = (),
    ) -> Batch:
        """Change the metadata of a version, or of the live object for ABSENT; gives it as it is
        then."""

    async def change_bucket(self, bucket: str, change: Callable[[Bucket], Bucket]) -> Bucket:
        """Give a bucket the rules that ``change`` makes of those that it has."""

    async def discard_bucket(self, bucket: str) -> None:
        """Remove a bucket with everything in it, whatever holds or retains it."""

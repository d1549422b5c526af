"""What the stores of our own can do beside the contract of store.Store.

A front end with Cloud Storage's own API needs it: each of its calls is about one object, and may
come with preconditions that hold at the moment of the change.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from longshore.patch import Patch
from longshore.store import PAGE_SIZE, Batch, Bucket, NewObject, Store

Check = Callable[[int, int], None]
"""Is given the generation and metageneration of what is there (ABSENT, 0: nothing); raises what
forbids to go on."""


class OneAtATime(Store, Protocol):
    """A store that also looks at one object, asks whether to go on, and changes it, all in one
    step; nobody comes between. Whatever keeps a change from being made is raised.

    Where a bucket has ``soft_delete_seconds``, what is deleted or replaced for good, by whatever
    method, is out of everybody's sight, but can be restored for so long.
    """

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

    async def move_object(
        self,
        bucket: str,
        name: str,
        to: str,
        *,
        check_source: Check,
        check: Check,
        columns: Sequence[str] = (),
    ) -> Batch:
        """Give a live object another name, and a new generation; ``check`` is asked about what has
        that name. The old one goes as in a plain delete, but is never soft-deleted."""

    def list_soft_deleted(
        self,
        bucket: str,
        *,
        prefix: str = "",
        after: str = "",
        after_generation: int | None = None,
        before: str | None = None,
        columns: Sequence[str] = (),
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[Batch]:
        """Pages as of ``list_objects`` with versions, of what was deleted and can be restored;
        ``columns`` by the names of object_rules.SOFT_DELETED_COLUMNS."""

    async def read_soft_deleted(
        self, bucket: str, name: str, generation: int, *, columns: Sequence[str] = ()
    ) -> Batch:
        """One of them; ABSENT if it is not there."""

    async def restore_object(
        self,
        bucket: str,
        name: str,
        generation: int,
        *,
        acl: str | None,
        check: Check,
        columns: Sequence[str] = (),
    ) -> Batch:
        """Make a copy of a soft-deleted object live, with another ACL if there is one given;
        ``check`` is asked about what is live, which goes as if it were replaced. Raises NotFound.
        """

    async def change_bucket(self, bucket: str, change: Callable[[Bucket], Bucket]) -> Bucket:
        """Give a bucket the rules that ``change`` makes of those that it has."""

    async def discard_bucket(self, bucket: str) -> None:
        """Remove a bucket with everything in it, whatever holds or retains it."""

"""A store and a database that die where they are told to, and remember what was really done.

Both wrap the real thing. A *boundary* is a moment at which a process can die with something else to
be found afterwards: before and after a write of the database, before and after a call that changes
objects. Once dead, nothing gets through until the house is started again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from longshore.database import Database
from longshore.patch import load_map


class Crash(BaseException):
    """The process is dead: no handler of the engine may see this as a failure."""


class Fate:
    """Counts boundaries and kills at the planned ones; others may act at boundaries, too."""

    def __init__(self) -> None:
        self.boundaries = 0
        self.dead = False
        self.deaths: list[str] = []
        self.crash_at: set[int] = set()
        self.at_boundary: Callable[[str], Awaitable[None]] | None = None

    async def boundary(self, where: str) -> None:
        self.check()
        self.boundaries += 1
        if self.boundaries in self.crash_at:
            self.dead = True
            self.deaths.append(where)
            raise Crash(where)
        if self.at_boundary is not None:
            await self.at_boundary(where)

    def check(self) -> None:
        if self.dead:
            raise Crash("already dead")


class MortalDatabase(Database):
    """The real database of a process that may die before or after each transaction."""

    def __init__(self, path: Any, fate: Fate) -> None:
        super().__init__(path)
        self._fate = fate

    async def read(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self._fate.check()
        return await super().read(function, *args, **kwargs)

    async def write(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        name = function.__name__
        await self._fate.boundary(f"before {name}")
        answer = await super().write(function, *args, **kwargs)
        await self._fate.boundary(f"after {name}")
        return answer

    async def jot(self, quick: Any, thorough: Any, *args: Any, **kwargs: Any) -> Any:
        name = thorough.__name__
        await self._fate.boundary(f"before {name}")
        answer = await super().jot(quick, thorough, *args, **kwargs)
        await self._fate.boundary(f"after {name}")
        return answer


class MortalStore:
    """A real store whose caller may die around each act; keeps a journal of what took effect."""

    def __init__(self, store: Any, fate: Fate) -> None:
        self._store = store
        self._fate = fate
        self.journal: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        self._fate.check()
        return getattr(self._store, name)

    async def delete_objects(self, bucket: str, batch: Any, **options: Any) -> Any:
        return await self._act("delete_objects", bucket, batch, **options)

    async def patch_objects(self, bucket: str, batch: Any, patch: Any, **options: Any) -> Any:
        return await self._act("patch_objects", bucket, batch, patch, **options)

    async def rewrite_objects(self, bucket: str, batch: Any, **options: Any) -> Any:
        return await self._act("rewrite_objects", bucket, batch, **options)

    async def write_objects(self, bucket: str, objects: Any) -> Any:
        """Of the engine: the log of a job."""
        await self._fate.boundary("before write_objects")
        outcome = await self._store.write_objects(bucket, objects)
        await self._fate.boundary("after write_objects")
        return outcome

    async def _act(self, verb: str, bucket: str, batch: Any, *args: Any, **options: Any) -> Any:
        await self._fate.boundary(f"before {verb}")
        columns = ("contexts", "live")
        before = await self._store.read_objects(
            bucket, batch.names, batch.generations, columns=columns
        )
        outcome = await getattr(self._store, verb)(bucket, batch, *args, **options)
        after = await self._store.read_objects(
            bucket, batch.names, batch.generations, columns=columns
        )
        for index, name in enumerate(batch.names):
            if index not in outcome.failures:
                entry = {
                    "name": name,
                    "generation": batch.generations[index],
                    "size": before.sizes[index],
                }
                old = load_map(before.columns["contexts"][index])
                new = load_map(after.columns["contexts"][index])
                entry["created"] = len(new.keys() - old.keys())
                entry["deleted"] = len(old.keys() - new.keys())
                entry["updated"] = sum(old[key] != new[key] for key in old.keys() & new.keys())
                self.journal.append(entry)
        await self._fate.boundary(f"after {verb}")
        return outcome

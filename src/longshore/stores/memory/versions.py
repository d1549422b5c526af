"""The versions in a bucket of the memory store, and how each is changed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any
from zlib import crc32

from longshore import object_rules as rules
from longshore.clock import Clock
from longshore.embedded import Check
from longshore.errors import InvalidArgument
from longshore.patch import MapPatch, Patch
from longshore.store import ABSENT, PAGE_SIZE, Bucket, Failure, NewObject


@dataclass(slots=True, kw_only=True, eq=False)
class Version:
    """One version of an object, or with nothing but a name the want of one."""

    name: str
    generation: int = ABSENT
    metageneration: int = 0
    size: int = 0
    content: bytes = b""
    live: bool = False
    retained_from_us: int = 0
    temporary_hold: bool = False
    event_based_hold: bool = False
    content_type: str = ""
    content_encoding: str = ""
    content_language: str = ""
    content_disposition: str = ""
    cache_control: str = ""
    custom_time_us: int = 0
    retention: str = ""
    custom_metadata: str = ""
    contexts: str = ""
    acl: str = ""
    storage_class: str = ""
    kms_key: str = ""
    checksum: str = ""
    create_time_us: int = 0
    update_time_us: int = 0
    digests: str = ""
    delete_time_us: int = 0
    soft_delete_time_us: int = 0
    hard_delete_time_us: int = 0


_guard = attrgetter(*rules.Guard._fields)


class MemoryBucket:
    """Versions by name: the live ones, and the noncurrent ones with the newest first."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self.rules = bucket
        self.clock = clock
        self.live: dict[str, Version] = {}
        self.noncurrent: dict[str, list[Version]] = {}
        self._names: list[str] = []
        self._sorted = True
        self._last_number = 0
        self._soft_deleted: dict[str, list[Version]] = {}
        self._ends: list[tuple[int, int, str]] = []

    def names_from(self, start: str) -> Iterator[str]:
        """Names in order, ``start`` being the first possible; some may have no version left.

        Code points and the bytes of UTF-8 have the same order.
        """
        known = len(self.live) + len(self.noncurrent)
        if not self._sorted or len(self._names) > 2 * known + PAGE_SIZE:
            self._names = sorted({*self.live, *self.noncurrent})
            self._sorted = True
        names = self._names
        return (names[i] for i in range(bisect_left(names, start), len(names)))

    def live_versions(self, name: str) -> Sequence[Version]:
        """The live version of a name, if there is one."""
        live = self.live.get(name)
        return () if live is None else (live,)

    def versions(self, name: str) -> Sequence[Version]:
        """The versions of a name, the newest first."""
        return (*self.live_versions(name), *self.noncurrent.get(name, ()))

    def find(self, name: str, generation: int) -> Version | None:
        """One version, or for ABSENT the live one."""
        live = self.live.get(name)
        if generation == ABSENT or (live is not None and live.generation == generation):
            return live
        found = (v for v in self.noncurrent.get(name, ()) if v.generation == generation)
        return next(found, None)

    def soft_deleted_names(self, start: str) -> Iterator[str]:
        """Names in order of what was deleted and can be restored, ``start`` being the first
        possible."""
        self._expire()
        names = sorted(self._soft_deleted)
        return (names[i] for i in range(bisect_left(names, start), len(names)))

    def soft_deleted_versions(self, name: str) -> Sequence[Version]:
        """The soft-deleted versions of a name, the newest first."""
        found = self._soft_deleted.get(name, [])
        return sorted(found, key=attrgetter("generation"), reverse=True)

    def find_soft_deleted(self, name: str, generation: int) -> Version | None:
        """One of them."""
        self._expire()
        found = (v for v in self._soft_deleted.get(name, ()) if v.generation == generation)
        return next(found, None)

    def checked(self, name: str, generation: int, check: Check) -> Version:
        """One version, or for ABSENT the live one; raises NotFound, or what ``check`` raises."""
        version = self.find(name, generation)
        if version is None:
            raise rules.error_of(rules.missing(self.path(name), live=False))
        check(version.generation, version.metageneration)
        return version

    def ask(self, name: str, check: Check) -> None:
        """Raises what ``check`` raises of the live object of a name, or of there being none."""
        there = self.live.get(name)
        check(*(there.generation, there.metageneration) if there else (ABSENT, 0))

    def write(self, new: NewObject) -> int | Failure:
        """Create or replace the live object: its generation, or why not."""
        try:
            rules.check_name(new.name)
            data = new.content if isinstance(new.content, bytes) else new.content.read_bytes()
        except InvalidArgument as error:
            return Failure(error.code, error.message)
        except OSError as error:
            return rules.unreadable(str(new.content), error)
        now_us = self.clock.now_us()
        columns = rules.new_object(self.rules, new.metadata, now_us)
        before = self.live.get(new.name)
        if before is not None and (failure := self._retire(before)):
            return failure
        version = Version(
            name=new.name,
            size=len(data),
            content=data,
            checksum=f"{crc32(data):08x}",
            live=True,
            **columns,
        )
        return self._add(version, now_us)

    def rewrite(self, version: Version, storage_class: str, kms_key: str) -> Failure | None:
        """Replace a live version by a copy with another class or key; or what forbids that."""
        new = copy(version)
        failure = self._retire(version)
        if failure is None:
            new.storage_class = storage_class or new.storage_class
            new.kms_key = kms_key or new.kms_key
            new.event_based_hold = self.rules.default_event_based_hold and not new.retention
            self._add(new, self.clock.now_us())
        return failure

    def delete(self, version: Version, *, permanent: bool) -> Failure | None:
        """Delete a version; or what forbids that."""
        if not permanent:
            return self._retire(version)
        failure = self._refuse_removal(version, archived=False)
        if failure is not None:
            return failure
        if version.live:
            del self.live[version.name]
        else:
            self.noncurrent[version.name].remove(version)
            if not self.noncurrent[version.name]:
                del self.noncurrent[version.name]
        self._keep(version)
        return None

    def restore(self, deleted: Version, acl: str | None) -> Failure | None:
        """Make a copy of a soft-deleted version live; or what protects the one that is."""
        new = copy(deleted)
        new.soft_delete_time_us = new.hard_delete_time_us = 0
        if acl is not None:
            new.acl = acl
        return self._put_copy(new)

    def move(self, version: Version, name: str) -> Failure | None:
        """Give a live version another name; or what forbids that."""
        new = copy(version)
        new.name = name
        failure = self._refuse_removal(version, archived=self.rules.versioning)
        failure = failure or self._put_copy(new)
        if failure is None:
            self._take_away(version)
        return failure

    def _put_copy(self, new: Version) -> Failure | None:
        before = self.live.get(new.name)
        failure = self._retire(before) if before is not None else None
        if failure is None:
            new.live = True
            new.delete_time_us = 0
            new.event_based_hold = self.rules.default_event_based_hold and not new.retention
            if self.rules.autoclass:
                new.storage_class = "STANDARD"
            self._add(new, self.clock.now_us())
        return failure

    def change(self, patch: Patch) -> Callable[[Version], Failure | None]:
        """A function that makes the change in a version, or gives what forbids it."""
        now_us = self.clock.now_us()
        refused = rules.refuse_patch(self.rules, patch, now_us)
        if refused is not None:
            return lambda _version: refused
        changes = patch.changes()
        names = (*changes, *rules.CHANGE_COLUMNS)
        values_of = attrgetter(*names)
        # Only a change of these columns can be forbidden by what the object is like.
        judged = not changes.keys().isdisjoint(rules.CHANGE_COLUMNS)
        allowed: set[tuple[Any, ...]] = set()
        set_ = _setter(changes)

        def change(version: Version) -> Failure | None:
            if judged and (values := values_of(version)) not in allowed:
                before = dict(zip(names, values, strict=True))
                after = rules.apply_changes(before, changes)
                path, override = self.path(version.name), patch.override_unlocked_retention
                if failure := rules.refuse_change(path, before, after, override=override):
                    return failure
                allowed.add(values)
            was_held = version.event_based_hold
            set_(version)
            if was_held and not version.event_based_hold:
                version.retained_from_us = now_us
            version.metageneration += 1
            version.update_time_us = now_us
            return None

        return change

    def path(self, name: str) -> str:
        """How messages call an object."""
        return f"{self.rules.name}/{name}"

    def _add(self, version: Version, now_us: int) -> int:
        self._last_number = max(self._last_number + 1, now_us)
        version.generation = self._last_number
        version.metageneration = 1
        version.retained_from_us = version.create_time_us = version.update_time_us = now_us
        self.live[version.name] = version
        if not self._names or version.name > self._names[-1]:
            self._names.append(version.name)
        elif self._sorted:
            at = bisect_left(self._names, version.name)
            self._sorted = self._names[at] == version.name
        return version.generation

    def _retire(self, live: Version) -> Failure | None:
        failure = self._refuse_removal(live, archived=self.rules.versioning)
        if failure is None and not self._take_away(live):
            self._keep(live)
        return failure

    def _take_away(self, live: Version) -> bool:
        """Let the live version of a name be none any more; whether it stays as a noncurrent one."""
        del self.live[live.name]
        if self.rules.versioning:
            live.live = False
            live.delete_time_us = self.clock.now_us()
            self.noncurrent.setdefault(live.name, []).insert(0, live)
        return self.rules.versioning

    def _keep(self, deleted: Version) -> None:
        """Keep what was deleted for as long as the bucket says."""
        if not self.rules.soft_delete_seconds:
            return
        self._expire()
        now_us = self.clock.now_us()
        deleted.live = False
        deleted.soft_delete_time_us = now_us
        deleted.hard_delete_time_us = now_us + self.rules.soft_delete_seconds * 1_000_000
        self._soft_deleted.setdefault(deleted.name, []).append(deleted)
        heappush(self._ends, (deleted.hard_delete_time_us, deleted.generation, deleted.name))

    def _expire(self) -> None:
        """Forget what has been kept long enough."""
        now_us = self.clock.now_us()
        while self._ends and self._ends[0][0] <= now_us:
            _, generation, name = heappop(self._ends)
            left = [one for one in self._soft_deleted[name] if one.generation != generation]
            self._soft_deleted[name] = left
            if not left:
                del self._soft_deleted[name]

    def _refuse_removal(self, version: Version, *, archived: bool) -> Failure | None:
        period = self.rules.retention_period_seconds
        held = version.temporary_hold or version.event_based_hold or version.retention
        if not held and not period:
            return None
        guard = rules.Guard(*_guard(version))
        path = self.path(version.name)
        return rules.refuse_removal(path, guard, period, self.clock.now_us(), archived=archived)


def _setter(changes: Mapping[str, Any]) -> Callable[[Version], None]:
    plain = [(name, value) for name, value in changes.items() if not isinstance(value, MapPatch)]
    maps = [(name, value) for name, value in changes.items() if isinstance(value, MapPatch)]
    known: dict[tuple[str, str], str] = {}

    def set_(version: Version) -> None:
        for name, value in plain:
            setattr(version, name, value)
        for name, change in maps:
            text = getattr(version, name)
            if (name, text) not in known:
                known[name, text] = change.apply(text)
            setattr(version, name, known[name, text])

    return set_

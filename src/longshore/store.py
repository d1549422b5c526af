"""The contract of an object store, and which store serves which bucket.

A store speaks in *batches*, which are columns: at a microsecond an object nothing on the way may
make a Python object per object. Failure of one object is a value in an Outcome; an exception means
that the call as a whole failed. A store never retries: the engine does, in one place.
"""

from __future__ import annotations

import fnmatch
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, runtime_checkable

from longshore import extensions
from longshore.errors import Code, InvalidArgument
from longshore.patch import Patch
from longshore.settings import Ramp, Settings, StoreSettings, specificity

PAGE_SIZE = 1000
PAGE_BYTES = 96 << 10
"""About how much of names and of texts in columns a page may hold. Where they are long it has fewer
objects, so what a shard keeps in memory does not depend on them."""
ABSENT = 0
"""The generation of an object that is not there; real generations are positive."""

COLUMNS: Mapping[str, type] = {
    "temporary_hold": bool,
    "event_based_hold": bool,
    "content_type": str,
    "content_encoding": str,
    "content_language": str,
    "content_disposition": str,
    "cache_control": str,
    "custom_time_us": int,
    "retention": str,
    "custom_metadata": str,
    "contexts": str,
    "acl": str,
    "storage_class": str,
    "kms_key": str,
    "checksum": str,
    "live": bool,
    "create_time_us": int,
    "update_time_us": int,
}
"""Every column that can be asked for, with its type. "" and 0 stand for "not set"; maps are text as
of ``patch.dump_map``, retention as of ``patch.Retention.dump``; ``checksum`` is of the content and
is compared only with itself: one that another begins with may be of the same; ``live`` is False for
a noncurrent version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Objects as columns of equal length, in the order of the names' UTF-8 bytes if listed.

    ``generations[i]`` is ABSENT where nothing was found; the other columns hold zero values there.
    ``columns`` has what was asked for, by the names of COLUMNS. A store may add columns of
    its own, which tell it which version is meant when the batch comes back.
    """

    names: list[str]
    generations: list[int]
    metagenerations: list[int]
    sizes: list[int]
    columns: Mapping[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def __add__(self, other: Batch) -> Batch:
        """The objects of both; columns that only one of them has are left out."""
        return Batch(
            names=self.names + other.names,
            generations=self.generations + other.generations,
            metagenerations=self.metagenerations + other.metagenerations,
            sizes=self.sizes + other.sizes,
            columns={
                name: self.columns[name] + other.columns[name]
                for name in self.columns.keys() & other.columns.keys()
            },
        )

    def pick(self, indexes: Sequence[int]) -> Batch:
        """The objects at ``indexes``, in that order."""
        return Batch(
            names=[self.names[i] for i in indexes],
            generations=[self.generations[i] for i in indexes],
            metagenerations=[self.metagenerations[i] for i in indexes],
            sizes=[self.sizes[i] for i in indexes],
            columns={name: [c[i] for i in indexes] for name, c in self.columns.items()},
        )


class NewObject(NamedTuple):
    """An object to be written: ``content`` is the bytes, or the file that has them.

    ``metadata``: columns to set, by the names of COLUMNS.
    """

    name: str
    content: bytes | Path
    metadata: Mapping[str, Any] = {}


class Failure(NamedTuple):
    """Why one object was not done.

    Two codes have a meaning for the engine: ABORTED says that the object is not (or no longer) of
    the generation or metageneration that the call named, while its name still has a live object;
    NOT_FOUND that there is no such object. Refusals by a hold or a retention are PERMISSION_DENIED.
    ``wait_seconds``: the object itself has been changed too often, and may be no sooner than then.
    """

    code: Code
    message: str
    wait_seconds: float = 0.0


UNSENT = Failure(Code.CANCELLED, "The shard was to stop before this was sent.")
"""What an object has failed with whose request was never sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened to the objects of a batch: all are done but ``failures``, which go by index."""

    failures: Mapping[int, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a service can do; what it cannot is refused before an object is touched.

    ``patch_columns``: the columns a Patch may change; ``copied_columns``: those of them whose
    change may make a new generation, and is made in live versions only; ``patch_reads``: those that
    cost a request an object to know, so that a patch of them sees for itself what an object still
    needs. ``preconditions``: whether a call that names a generation has no effect on any other.
    ``by_range``: whether what has too much to do is a range of names, and others are as quick as
    ever; ``ramp``: how fast changes may become more, None: as fast as they are taken.
    """

    patch_columns: frozenset[str]
    versions: bool
    rewrite: bool
    preconditions: bool
    copied_columns: frozenset[str] = frozenset()
    patch_reads: frozenset[str] = frozenset()
    by_range: bool = False
    ramp: Ramp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, its rules, and what else its store knows of it.

    ``retention_period_seconds`` 0: no policy. ``location`` "", ``soft_delete_seconds`` 0: not known
    or none; ``labels`` is text as of ``patch.dump_map``; ``attributes`` is what who made the bucket
    wants to be kept with it.
    """

    name: str
    create_time_us: int
    versioning: bool = False
    retention_period_seconds: int = 0
    uniform_access: bool = False
    default_event_based_hold: bool = False
    location: str = ""
    labels: str = ""
    autoclass: bool = False
    soft_delete_seconds: int = 0
    attributes: str = ""


class Store(Protocol):
    """An object-storage service. Every method raises NotFound if the bucket does not exist,
    Unavailable if the service does not answer, and an errors.Error for anything else."""

    @property
    def capabilities(self) -> Capabilities:
        """What the service can do, the same for all of its buckets."""

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
        """Pages of at most ``page_size`` objects, and about PAGE_BYTES, whose names start with
        ``prefix``, lie after ``after`` and before ``before``, in the order of their UTF-8 bytes.

        Live objects only, or with ``versions`` all, newest first within a name; then
        ``after_generation`` goes on inside the name ``after``, with its older versions.

        With ``columns`` None, who only counts says that nothing but names and sizes will be looked
        at, and with ``versions`` generations: where the others cost something, they may be made up.
        """

    async def read_objects(
        self,
        bucket: str,
        names: Sequence[str],
        generations: Sequence[int],
        *,
        columns: Sequence[str] = (),
    ) -> Batch:
        """What is there now, position by position: the given generation (noncurrent ones too), or
        the live object where ABSENT was given. Names may repeat."""

    def read_bytes(
        self, bucket: str, name: str, generation: int = ABSENT, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        """The content from byte ``start`` on, in pieces of at most 1 MiB; raises NotFound."""

    async def write_object(
        self, bucket: str, name: str, content: AsyncIterable[bytes], **metadata: Any
    ) -> int:
        """Create or replace the live object and give its generation.

        ``metadata``: columns to set, by the names of COLUMNS. Raises PermissionDenied where a hold
        or retention protects the object that is there.
        """

    async def write_objects(self, bucket: str, objects: Iterable[NewObject]) -> Outcome:
        """Create or replace many objects, as fast as the service can; failures go by position.

        No file's content is in memory as a whole. The caller decides how many it hands over at a
        time, for its progress.
        """

    async def delete_objects(self, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
        """Delete each (name, generation): the live version (a versioned bucket keeps it as
        noncurrent), or with ``permanent`` just that version, live or not, for good."""

    async def patch_objects(
        self, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool = False
    ) -> Outcome:
        """Change the metadata of each (name, generation), or with ``match_metageneration`` only
        where the metageneration is the batch's as well. The generation stays, unless the patch
        changes one of ``capabilities.copied_columns``."""

    async def rewrite_objects(
        self, bucket: str, batch: Batch, *, storage_class: str = "", kms_key: str = ""
    ) -> Outcome:
        """Copy each live (name, generation) onto itself with another class or key ("": keeps its
        own). Makes a new generation."""

    def list_buckets(self) -> AsyncIterator[Bucket]:
        """Every bucket, by name."""

    async def get_bucket(self, bucket: str) -> Bucket:
        """The bucket's rules."""

    async def create_bucket(self, bucket: Bucket) -> Bucket:
        """Make a bucket; raises AlreadyExists."""

    async def update_bucket(self, bucket: str, **changes: Any) -> Bucket:
        """Change rules, by the names of Bucket's fields."""

    async def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket; raises FailedPrecondition if it is not."""

    async def close(self) -> None:
        """Let go of connections and files."""


class Turn(Protocol):
    """A request's turn: ``async with`` waits for it. Inside, nothing may be sent unless
    ``permitted``: else each of its objects has failed as UNSENT."""

    permitted: bool

    async def __aenter__(self) -> Turn: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def ended(self, code: Code | None) -> None:
        """What the reply, if it is no errors.Error that leaves the block, says of the service:
        UNAVAILABLE or RESOURCE_EXHAUSTED that it has too much to do."""


class Turns(Protocol):
    """Where the requests of one user of a store wait for their turn, each by the verb of the
    service that it calls."""

    @property
    def at_once(self) -> int:
        """How many requests may be under way now, at least 1: who has more of them ready does well
        to hold them back, since to wait for a turn costs more than to have it."""

    def read(self, verb: str) -> Turn:
        """The turn of a request that changes nothing; always permitted."""

    def change(self, verb: str, objects: int = 1) -> Turn:
        """The turn of a request that changes so many objects. What raises on entering was not
        sent."""

    async def again(self, code: Code, tries: int) -> bool:
        """Whether a request that changes nothing, and has failed so often, the last time with
        ``code``, is to be made again: now, since this has waited long enough."""


@runtime_checkable
class TakesTurns(Protocol):
    """A store whose calls come to many requests."""

    def by_turns(self, turns: Turns) -> Store:
        """The same store, each of whose requests waits for its turn; to be used for one bucket."""


class BucketStores(Protocol):
    """Something that has the store of each bucket."""

    def for_bucket(self, bucket: str) -> Store:
        """The store that serves ``bucket``."""


class Stores:
    """Which configured store serves a bucket; opens each when it is first needed.

    Patterns are shell patterns; the most specific match (the longest without its wildcards) wins.
    What matches nothing goes to the store named "local", which needs no configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, Store] = {}

    def name_for(self, bucket: str) -> str:
        """The name of the store that serves ``bucket``; raises InvalidArgument on a tie."""
        matches: dict[str, int] = {}
        for name, store in self._settings.stores.items():
            for pattern in store.buckets:
                if fnmatch.fnmatchcase(bucket, pattern):
                    matches[name] = max(matches.get(name, -1), specificity(pattern))
        if not matches:
            return "local"
        best = max(matches.values())
        winners = sorted(name for name, weight in matches.items() if weight == best)
        if len(winners) > 1:
            raise InvalidArgument(
                f"Bucket {bucket!r} is claimed by the stores {' and '.join(winners)} with equally"
                " specific patterns; make one of their `buckets` patterns longer."
            )
        return winners[0]

    def settings_of(self, name: str) -> StoreSettings:
        """The settings of a store; the embedded one exists without any."""
        return self._settings.stores.get(name) or StoreSettings(name=name, kind="local")

    def for_bucket(self, bucket: str) -> Store:
        """The store that serves ``bucket``."""
        return self.open(self.name_for(bucket))

    def open(self, name: str) -> Store:
        """The store of that name in the settings, or the embedded one."""
        if name not in self._open:
            settings = replace(self.settings_of(name), call_seconds=self._settings.call_seconds)
            module = extensions.load("stores", settings.kind)
            data_dir: Path = self._settings.data_dir
            self._open[name] = module.open_store(settings, data_dir)
        return self._open[name]

    def prepare(self) -> None:
        """Import what the stores in the settings are made of, for which else the first job that
        needs one waits."""
        for settings in self._settings.stores.values():
            extensions.load("stores", settings.kind)

    def names(self) -> list[str]:
        """All stores there are, the embedded one included."""
        return sorted({*self._settings.stores, "local"})

    async def close(self) -> None:
        """Close what was opened."""
        for store in self._open.values():
            await store.close()

"""The words of longshore as values: states and their transitions, counters, errors, a shard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from longshore.errors import Code, Internal

FORMAT = 1
"""What must be known to carry a shard on: the names of sources and transformations and the plain
data of these, ranges, cursors, intents. This longshore reads rows of this format and of those
before, and makes all that it touches rows of this one."""

SAMPLES_PER_CODE = 5
"""How many objects an error summary names for each code (the API's limit)."""


class State(Enum):
    """The state of a job, a bucket operation or a shard.

    Mapped to the wire by name: the numbers of Job.State and BucketOperation.State differ.
    """

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    @property
    def open(self) -> bool:
        """Whether there is anything left to do."""
        return bool(TRANSITIONS[self])


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELED: frozenset(),
}
OPEN_STATES = tuple(state.value for state in State if TRANSITIONS[state])


def change(before: State, after: State) -> State:
    """``after``, if that may follow ``before``; raises Internal otherwise, having changed nothing.

    A shard that is handed back stays RUNNING: what ends is its lease.
    """
    if after not in TRANSITIONS[before]:
        raise Internal(f"Illegal transition from {before.value} to {after.value}.")
    return after


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What has been counted; of a shard, a bucket operation or a job."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    bytes_found: int = 0
    bytes_transformed: int = 0
    contexts_created: int = 0
    contexts_deleted: int = 0
    contexts_updated: int = 0

    @property
    def done(self) -> int:
        """How many objects are done with, well or badly."""
        return self.succeeded + self.failed

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            **{name: getattr(self, name) + getattr(other, name) for name in COUNTER_NAMES}
        )


COUNTER_NAMES = tuple(Counters.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """How often a code was counted, and at most SAMPLES_PER_CODE (object uri, message) of it."""

    code: Code
    count: int
    samples: tuple[tuple[str, str], ...] = ()


Errors = Mapping[Code, ErrorSummary]
"""Error summaries by code."""


def merge_errors(many: Iterable[Errors]) -> dict[Code, ErrorSummary]:
    """The sum of the counts, with the first samples of each code."""
    merged: dict[Code, ErrorSummary] = {}
    for errors in many:
        for code, summary in errors.items():
            before = merged.get(code, ErrorSummary(code=code, count=0))
            merged[code] = ErrorSummary(
                code=code,
                count=before.count + summary.count,
                samples=(before.samples + summary.samples)[:SAMPLES_PER_CODE],
            )
    return merged


def dump_errors(errors: Errors) -> dict[str, Any]:
    """Error summaries as plain data for a JSON column."""
    return {
        code.name: {"count": one.count, "samples": [list(sample) for sample in one.samples]}
        for code, one in errors.items()
    }


def load_errors(data: Mapping[str, Any] | None) -> dict[Code, ErrorSummary]:
    """The error summaries behind a JSON column."""
    return {
        Code[name]: ErrorSummary(
            code=Code[name],
            count=one["count"],
            samples=tuple((uri, message) for uri, message in one["samples"]),
        )
        for name, one in (data or {}).items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A shard as its lease gives it to a worker: all that is needed to carry it on.

    ``range`` and ``store`` None: the work is to plan the bucket operation; ``bucket`` "" as well:
    first to find the job's buckets. ``source`` and
    ``transformation`` are (name of the extension, its plain data). ``log_states``: which outcomes
    are logged. ``deaths``: how many workers have died in a row while they carried it, since it last
    got on.
    """

    id: int
    job: int
    bucket_operation: int
    attempt: int
    project: str
    job_id: str
    bucket: str
    store: str | None
    source: tuple[str, Mapping[str, Any]]
    transformation: tuple[str, Mapping[str, Any]]
    dry_run: bool
    log_states: frozenset[str]
    range: Mapping[str, Any] | None
    cursor: Mapping[str, Any]
    intent: bytes | None
    counters: Counters
    errors: Errors = field(default_factory=dict)
    deaths: int = 0

"""Structured events, one line each (``time level event key=value …``) to standard error; and what
is measured, as numbers that a runner adds up over its processes.

Measuring is for each call, batch or checkpoint, never for each object: it costs about a
microsecond. It belongs to the thread of the event loop.
"""

from __future__ import annotations

import logging
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

_logger = logging.getLogger("longshore")


def set_up(level: int = logging.INFO) -> None:
    """Send events to standard error; call it once per process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _logger.handlers = [handler]
    _logger.setLevel(level)
    _logger.propagate = False


def event(name: str, **fields: Any) -> None:
    """Something worth a line has happened. Never pass a token or an object's content."""
    _logger.info("%s", _line(name, fields))


def warning(name: str, **fields: Any) -> None:
    """Something went wrong and longshore goes on; the fields say what an operator can do."""
    _logger.warning("%s", _line(name, fields))


def failure(name: str, **fields: Any) -> None:
    """The same with the traceback of the exception being handled: a bug or a broken machine."""
    _logger.error("%s", _line(name, fields), exc_info=True)


def _line(name: str, fields: dict[str, Any]) -> str:
    return " ".join([name, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: Any) -> str:
    text = str(value)
    quote = not text or any(character in text for character in ' "=\n\r\t')
    return orjson.dumps(text).decode() if quote else text


class Kind(Enum):
    """How the numbers of several processes become one, and what is left of a dead one's."""

    COUNTER = "counter"
    """Only grows; the sum, the dead included."""
    HISTOGRAM = "histogram"
    """Likewise: the sum of all seconds, then how many were in each of BUCKETS and above."""
    GAUGE = "gauge"
    """What is so now; the sum over the living."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Something that is measured: a series of numbers for each combination of its labels."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()


BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of a histogram's buckets, in seconds."""

CALLS = Metric(
    name="store_call_seconds",
    kind=Kind.HISTOGRAM,
    about="How long calls to stores took, by their outcome: OK or a canonical code.",
    labels=("store", "verb", "code"),
)
CHECKPOINTS = Metric(
    name="checkpoint_seconds",
    kind=Kind.HISTOGRAM,
    about="How long checkpoints took, from the shard's point of view.",
)
OBJECTS = Metric(
    name="objects",
    kind=Kind.COUNTER,
    about="Objects that were counted: succeeded or failed.",
    labels=("transformation", "outcome"),
)
LIMITS = Metric(
    name="limit",
    kind=Kind.GAUGE,
    about="What the limiter of a bucket now allows, of what its limit says; of all workers.",
    labels=("store", "bucket", "limit"),
)
WAITING = Metric(
    name="shards_waiting",
    kind=Kind.GAUGE,
    about="Shards that wait for something that failed to work again, by the failure's code.",
    labels=("store", "reason"),
)
WORKERS = Metric(name="workers", kind=Kind.GAUGE, about="Workers that are up.")
WORKER_STARTS = Metric(name="worker_starts", kind=Kind.COUNTER, about="Workers that were started.")
WORKER_DEATHS = Metric(
    name="worker_deaths",
    kind=Kind.COUNTER,
    about="Workers that ended without being asked to, because they hung or for another reason.",
    labels=("reason",),
)
METRICS = {
    metric.name: metric
    for metric in (
        *(CALLS, CHECKPOINTS, OBJECTS, LIMITS, WAITING),
        *(WORKERS, WORKER_STARTS, WORKER_DEATHS),
    )
}

Series = tuple[str, ...]
"""A metric's name and the values of its labels."""
Numbers = list[float]
"""One number; of a histogram, as Kind says. Of a gauge that is gone: none."""


def count_call(store: str, verb: str, code: str, seconds: float) -> None:
    """A call to a store has returned: ``code`` is OK or the name of a canonical code."""
    _observe((CALLS.name, store, verb, code), seconds)


def count_objects(transformation: str, outcome: str, number: int) -> None:
    """So many objects of a batch were counted as ``outcome``: succeeded or failed."""
    _add((OBJECTS.name, transformation, outcome), number)


def observe_checkpoint(seconds: float) -> None:
    """A checkpoint was confirmed."""
    _observe((CHECKPOINTS.name,), seconds)


def set_limit(store: str, bucket: str, limit: str, allowed: float | None) -> None:
    """What this process's limiter now allows, such as 12 calls at once of the ``limit``
    "concurrency"; None: the limiter is gone."""
    _set((LIMITS.name, store, bucket, limit), [] if allowed is None else [allowed])


@contextmanager
def waiting(store: str, reason: str) -> Iterator[None]:
    """While this lasts, one more shard waits, because of ``reason``: a canonical code's name."""
    series = (WAITING.name, store, reason)
    _add(series, 1)
    try:
        yield
    finally:
        _add(series, -1)


def count_worker_up() -> None:
    """This process is a worker, and has begun to look for shards."""
    _set((WORKERS.name,), [1.0])


def count_worker_start() -> None:
    """A worker was started."""
    _add((WORKER_STARTS.name,), 1)


def count_worker_death(reason: str) -> None:
    """A worker ended without being asked to: it hung, or died."""
    _add((WORKER_DEATHS.name, reason), 1)


_own: dict[Series, Numbers] = {}
_changed: set[Series] = set()


def _add(series: Series, amount: float) -> None:
    _set(series, [_own.get(series, (0.0,))[0] + amount])


def _set(series: Series, numbers: Numbers) -> None:
    _own[series] = numbers
    _changed.add(series)


def _observe(series: Series, seconds: float) -> None:
    numbers = _own.get(series)
    if numbers is None:
        numbers = _own[series] = [0.0] * (len(BUCKETS) + 2)
    numbers[0] += seconds
    numbers[1 + bisect_left(BUCKETS, seconds)] += 1
    _changed.add(series)


Changes = Iterable[tuple[Sequence[str], Sequence[float]]]
"""Series with the numbers that they have now."""


def changes() -> Changes:
    """The series of this process that changed since the last time, ready for JSON."""
    changed = [(series, list(_own[series])) for series in _changed]
    for series, numbers in changed:
        if not numbers:
            del _own[series]
    _changed.clear()
    return changed


class Totals:
    """What the processes of a service have measured together, this one included."""

    def __init__(self) -> None:
        self._living: dict[str, dict[Series, Numbers]] = {}
        self._dead: dict[Series, Numbers] = {}

    def update(self, process: str, changes: Changes) -> None:
        """Take the ``changes()`` of another process."""
        mine = self._living.setdefault(process, {})
        for series, numbers in changes:
            if numbers:
                mine[tuple(series)] = list(numbers)
            else:
                mine.pop(tuple(series), None)

    def bury(self, process: str) -> None:
        """A process has ended: keep what it counted, forget how it was."""
        counted = self._living.pop(process, {}).items()
        _sum(self._dead, ((key, value) for key, value in counted if not _is_gauge(key)))

    def now(self) -> Mapping[Series, Numbers]:
        """The sums."""
        sums: dict[Series, Numbers] = {}
        for one in (self._dead, *self._living.values(), _own):
            _sum(sums, one.items())
        return sums


def _is_gauge(series: Series) -> bool:
    return METRICS[series[0]].kind is Kind.GAUGE


def _sum(into: dict[Series, Numbers], more: Iterable[tuple[Series, Numbers]]) -> None:
    for series, numbers in more:
        if numbers:
            before = into.get(series) or [0.0] * len(numbers)
            into[series] = [a + b for a, b in zip(before, numbers, strict=True)]

"""The page of ``/metrics``: what all processes of the service have measured, and what the database
says, in the text format of Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from longshore.clock import Clock
from longshore.database import Database
from longshore.database.census import Census, census
from longshore.model import State
from longshore.telemetry import BUCKETS, METRICS, Kind, Numbers, Series

_KEPT_SECONDS = 1.0
_KEPT_TIMES = 20
"""A census is used for so many times as long as it took, so that scrapes cost at most a twentieth
of a core, however large the database is."""

_BOUNDS = [*map(str, BUCKETS), "+Inf"]


class MetricsPage:
    """Renders the page, with numbers of the database that are at most a little old."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        measured: Callable[[], Mapping[Series, Numbers]],
    ) -> None:
        """``measured``: the totals over all processes, at any time."""
        self._database = database
        self._clock = clock
        self._measured = measured
        self._counting = asyncio.Lock()
        self._census: Census | None = None
        self._good_until = 0.0

    async def __call__(self) -> bytes:
        """The page as it is now."""
        async with self._counting:
            counted = self._census
            if counted is None or self._clock.monotonic() > self._good_until:
                began = self._clock.monotonic()
                counted = self._census = await self._database.read(census)
                now = self._clock.monotonic()
                self._good_until = now + max(_KEPT_SECONDS, _KEPT_TIMES * (now - began))
        return generate_latest(_Page(_families(counted, self._measured())))


def page_of(measured: Mapping[Series, Numbers]) -> bytes:
    """The page of a process that leaves what the database says to others."""
    return generate_latest(_Page(_measured(measured)))


class _Page(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(counted: Census, measured: Mapping[Series, Numbers]) -> Iterator[Metric]:
    yield _by_state("jobs", "Jobs, by state.", counted.jobs)
    yield _by_state("shards", "Shards of the jobs that are kept, by state.", counted.shards)
    yield from _measured(measured)


def _measured(measured: Mapping[Series, Numbers]) -> Iterator[Metric]:
    for metric in METRICS.values():
        series = {key: numbers for key, numbers in measured.items() if key[0] == metric.name}
        kind = _KINDS[metric.kind]
        family = kind(f"longshore_{metric.name}", metric.about, labels=metric.labels)
        for (_, *labels), numbers in sorted(series.items()):
            _add(family, labels, numbers)
        yield family


_KINDS = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


def _add(
    family: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily,
    labels: list[str],
    numbers: Numbers,
) -> None:
    if isinstance(family, HistogramMetricFamily):
        seconds, *counts = numbers
        buckets = list(zip(_BOUNDS, accumulate(counts), strict=True))
        family.add_metric(labels, buckets=buckets, sum_value=seconds)
    else:
        family.add_metric(labels, numbers[0])


def _by_state(name: str, about: str, counts: Mapping[State, int]) -> Metric:
    family = GaugeMetricFamily(f"longshore_{name}", about, labels=["state"])
    for state, number in counts.items():
        family.add_metric([state.value], number)
    return family

"""How far a cluster scales: a small model of its bottlenecks, with costs that were measured.

    python -m bench.scaling_model [--plots docs/scaling] [--check]

It lives through a job step by step: shards are dealt, and halved until every worker has enough, and
are carried at the rate of whatever gives least: the workers' cores, the calls that may be under
way, the store, the listings, PostgreSQL. ``--check`` plays the runs of bench.scaling, which were
measured; ``--plots`` draws (it needs matplotlib). Without either: the tables of docs/scaling.md.
What each number is from stands beside it. Those of stores are what their makers say, or assumed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

BATCH = 1_000
"""Objects of a checkpoint."""
STEP_SECONDS = 0.05
G, T = 10**9, 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a transformation costs on a store, an object."""

    name: str
    worker_us: float
    """CPU of a worker's process."""
    calls: float
    writes: float
    """How many the store counts."""
    at_once: float = BATCH
    """How many calls of a batch may be under way together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """What a service takes, and how long it does."""

    name: str
    call_seconds: float
    list_seconds: float
    """For a page of 1,000 names."""
    writes_per_second: float = math.inf
    """Of one range of names."""
    ranges: int = 1
    """Into how many the service has split the bucket, or how many buckets there are."""
    double_seconds: float = math.inf
    """After which it takes twice as many; from then on again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Its machines and what its parts cost, in seconds of CPU unless said."""

    workers: int
    shards_at_once: int = 4
    shards_wanted: int = 2
    """With fewer than these a worker is given halves of others' shards."""
    calls_at_once: int = 64
    """Under way of a worker."""
    calls_used: float = 0.89
    """Of these, on average: the end of a batch has fewer. bench.scaling, one worker."""
    settle_seconds: float = 0.0
    """For which parts of a cap lie idle, all in all, where more than one worker has shards: it
    grows for one only when others are sure to know that theirs is less. bench.scaling, two."""
    database_cores: int = 1
    checkpoint_seconds: float = 375e-6
    """Of PostgreSQL, for a batch. bench.checkpoints."""
    wal_bytes: float = 12_800
    """bench.checkpoints, half an hour."""
    look_seconds: float = 0.0
    """Of PostgreSQL, each second, for a worker that is there."""
    idle_seconds: float = 0.0
    """Of a worker's core, each second, for being there."""
    dealt_per_second: float = 1_390.0
    halved_per_second: float = 1_000.0
    """Whatever the number of workers: the coordinator asks for as many as are idle in one statement
    of some 35 ms, among 64,000 that are carried. bench.dealing."""
    halving_seconds: float = 1.0
    """From when a worker has nothing to do to when it carries half of another's shard."""
    start_seconds: float = 0.5
    """From the creation of a job to its first batch."""
    end_seconds: float = 0.3
    """From when the last shards are nearly done to the job's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a job."""

    seconds: float
    rate: float
    """Objects a second, once all workers are at work."""
    bottleneck: str
    worker_core_hours: float
    database_core_hours: float
    wal_bytes: float


def limits(act: Act, store: Store, cluster: Cluster, shards: float, age: float) -> dict[str, float]:
    """Objects a second that each part allows, while ``shards`` are carried, ``age`` seconds into
    the job."""
    workers = min(cluster.workers, shards)
    calls = min(workers * cluster.calls_at_once * cluster.calls_used, shards * act.at_once)
    doublings = min(30, int(age / store.double_seconds))
    writes = store.writes_per_second * store.ranges * 2.0**doublings
    database = max(1e-9, cluster.database_cores - cluster.look_seconds * cluster.workers)
    return {
        "workers' cores": workers * (1.0 - cluster.idle_seconds) / act.worker_us * 1e6,
        "calls under way": calls / act.calls / store.call_seconds if act.calls else math.inf,
        "the store": writes / act.writes if act.writes else math.inf,
        "listings": shards * 1_000 / store.list_seconds,
        "PostgreSQL": database / cluster.checkpoint_seconds * BATCH,
    }


def play(act: Act, store: Store, cluster: Cluster, objects: float, planned: int = 1) -> Result:
    """A job over so many objects, whose source splits into ``planned`` ranges."""
    begun = min(planned, cluster.workers * cluster.shards_at_once)
    wanted = max(begun, cluster.workers * min(cluster.shards_wanted, cluster.shards_at_once))
    clock, left, shards = cluster.start_seconds, float(objects), 0.0
    if cluster.workers > 1:
        clock += cluster.settle_seconds
    allowed: dict[str, float] = {}
    while left > 1e-6:
        if shards < begun:
            shards = min(begun, max(1.0, shards + cluster.dealt_per_second * STEP_SECONDS))
        elif shards < wanted:
            # Each that is carried gives a half away, at the end of a batch.
            halves = min(shards / cluster.halving_seconds, cluster.halved_per_second)
            shards = min(wanted, shards + halves * STEP_SECONDS)
        allowed = limits(act, store, cluster, shards, clock)
        rate = min(allowed.values())
        step = STEP_SECONDS
        if shards >= wanted:  # nothing changes until the store takes more
            step = left / rate
            if store.double_seconds < math.inf:
                step = min(step, store.double_seconds - clock % store.double_seconds + 1e-6)
        step = min(step, left / rate)
        left -= rate * step
        clock += step
    clock += cluster.end_seconds
    batches = objects / BATCH * cluster.checkpoint_seconds
    return Result(
        seconds=clock,
        rate=min(allowed.values()),
        bottleneck=min(allowed, key=allowed.__getitem__),
        worker_core_hours=cluster.workers * clock / 3600,
        database_core_hours=(batches + cluster.look_seconds * cluster.workers * clock) / 3600,
        wal_bytes=objects / BATCH * cluster.wal_bytes,
    )


# What was measured (bench/README.md); the stores' figures are assumed, and said to be.
S3_METADATA = Act(name="metadata on S3", worker_us=202.0, calls=2.0, writes=1.0)
S3_DELETE = Act(name="delete on S3", worker_us=4.7, calls=0.001, writes=1.0, at_once=1)
GCS_HOLD = Act(name="hold on Cloud Storage", worker_us=7.3, calls=0.01, writes=1.0, at_once=10)
ACTS = (S3_METADATA, S3_DELETE, GCS_HOLD)
STORES = {
    S3_METADATA.name: Store(
        name="S3, 30 ms a call",
        call_seconds=0.030,
        list_seconds=0.15,
        writes_per_second=3_500,
        ranges=100,
    ),
    S3_DELETE.name: Store(
        name="S3, 300 ms a call",
        call_seconds=0.30,
        list_seconds=0.15,
        writes_per_second=3_500,
        ranges=100,
    ),
    GCS_HOLD.name: Store(
        name="Cloud Storage, 500 ms a batch of 100",
        call_seconds=0.5,
        list_seconds=0.15,
        writes_per_second=1_000,
        double_seconds=1_200,
    ),
}
"""S3 takes 3,500 writes a second of a prefix, and splits busy ones; Cloud Storage takes 1,000 at
first and twice as many each 20 minutes."""
CLUSTER = Cluster(
    workers=1, calls_at_once=256, database_cores=8, look_seconds=0.0024, idle_seconds=0.023
)
WORKERS = (10, 32, 100, 320, 1_000)
CORE_HOUR_DOLLARS = 0.05
"""Assumed, for a core with 2 to 4 GB of memory."""
UNLIMITED = {"writes_per_second": math.inf, "double_seconds": math.inf}


def needed(act: Act, store: Store, objects: float, hours: float) -> int | None:
    """The fewest workers that are done in time."""
    few = 1
    while play(act, store, replace(CLUSTER, workers=few), objects).seconds > hours * 3600:
        few += 1
        if few > 2_000:
            return None
    return few


def tables() -> Iterator[str]:
    """Those of docs/scaling.md."""
    yield (
        "| act | workers | objects a second | gives least | 1 G | 1 T | core-hours for 1 G | $"
        " | WAL for 1 T |"
    )
    yield "|---" * 9 + "|"
    for act in ACTS:
        for workers in WORKERS:
            cluster = replace(CLUSTER, workers=workers)
            short, long = (play(act, STORES[act.name], cluster, objects) for objects in (G, T))
            hours = short.worker_core_hours + CLUSTER.database_cores * short.seconds / 3600
            yield (
                f"| {act.name} | {workers:,} | {short.rate:,.0f} | {short.bottleneck}"
                f" | {_time(short.seconds)} | {_time(long.seconds)} | {hours:,.0f}"
                f" | {hours * CORE_HOUR_DOLLARS:,.0f} | {long.wal_bytes / T:.0f} TB |"
            )
    yield ""
    for act in ACTS:
        store = STORES[act.name]
        free = replace(store, **UNLIMITED)
        yield (
            f"{act.name}: 1 G objects in 3 hours with {needed(act, store, G, 3)} workers"
            f" ({needed(act, free, G, 3)} if the store had no limit)"
        )


def _large(objects: float) -> str:
    return f"{objects / T:g} T" if objects >= T else f"{objects / G:g} G"


def _time(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


_SLOW = Store(name="stub, 30 ms", call_seconds=0.030, list_seconds=0.030)
_CAPPED = Cluster(workers=1, calls_at_once=8, settle_seconds=0.3, idle_seconds=0.020)
MEASURED: tuple[tuple[str, Act, Store, Cluster, int, int, float], ...] = tuple(
    (name, S3_METADATA, _SLOW, replace(_CAPPED, workers=workers), objects, planned, seconds)
    for name, workers, objects, planned, seconds in (
        ("calibrates", 1, 2_000, 2, 17.7),
        ("calibrates", 2, 4_000, 4, 18.0),
        ("checks", 4, 8_000, 8, 18.5),
        ("checks", 8, 16_000, 16, 19.0),
    )
)
"""What bench.scaling measured; the first two set ``calls_used`` and ``settle_seconds``."""


def check() -> Iterator[str]:
    """The model against the real runs."""
    yield "| run | workers | objects | measured, s | model, s | off by | what gives least |"
    yield "|---|---|---|---|---|---|---|"
    for name, act, store, cluster, objects, planned, seconds in MEASURED:
        result = play(act, store, cluster, objects, planned)
        yield (
            f"| {name} | {cluster.workers} | {objects:,} | {seconds:.1f} | {result.seconds:.1f}"
            f" | **{result.seconds / seconds - 1:+.0%}** | {result.bottleneck} |"
        )


def draw(folder: Path) -> None:
    """The plots, as SVG."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"svg.hashsalt": "longshore", "font.size": 9, "axes.grid": True})
    _draw_rates(plt, folder / "rates.svg")
    _draw_times(plt, folder / "times.svg")
    _draw_check(plt, folder / "check.svg")


def _figure(plt: Any, across: str, up: str, title: str) -> Any:
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up, title=title)
    axes.grid(which="major", alpha=0.3)
    return figure, axes


def _draw_rates(plt: Any, file: Path) -> None:
    figure, axes = _figure(
        plt, "worker processes", "objects a second", "Rate of one job, stores without limits"
    )
    workers = [round(10 ** (n / 10)) for n in range(31)]
    near = {"call_seconds": 1e-9, "list_seconds": 1e-9}
    for number, act in enumerate(ACTS):
        store = replace(STORES[act.name], **UNLIMITED)
        for how, line in ((store, "-"), (replace(store, **near), ":")):
            rates = [play(act, how, replace(CLUSTER, workers=n), 10 * T).rate for n in workers]
            label = act.name + (", by the cores alone" if line == ":" else "")
            width = 1 + number if line == "-" else 1  # two lie upon each other
            axes.plot(workers, rates, line, color=f"C{number}", label=label, linewidth=width)
            axes.lines[-1].set_zorder(5 - number)
    one = BATCH / CLUSTER.checkpoint_seconds
    for cores in (1, 8):
        axes.axhline(one * cores, color="grey", linestyle=":", linewidth=1)
        what = "one core, by its CPU" if cores == 1 else f"{cores} cores, inferred"
        axes.annotate(f"PostgreSQL on {what}", (1, one * cores * 1.1), color="grey", fontsize=8)
    axes.axhline(G / 3 / 3600, color="black", linestyle="--", linewidth=1)
    axes.annotate("1 G objects in 3 hours", (60, G / 3 / 3600 * 0.7), fontsize=8)
    axes.legend(loc="lower right", fontsize=7)
    figure.savefig(file, metadata={"Date": None})


def _draw_times(plt: Any, file: Path) -> None:
    figure, axes = _figure(
        plt, "worker processes", "hours", "How long a job takes, with what stores take"
    )
    workers = [round(10 ** (n / 10)) for n in range(31)]
    for number, act in enumerate(ACTS):
        for objects, line in ((G, "-"), (T, "--")):
            hours = [
                play(act, STORES[act.name], replace(CLUSTER, workers=n), objects).seconds / 3600
                for n in workers
            ]
            label = f"{act.name}, {_large(objects)}"
            axes.plot(workers, hours, line, color=f"C{number}", label=label)
    axes.axhline(3, color="black", linestyle=":", linewidth=1)
    axes.annotate("3 hours", (1.1, 3.3), fontsize=8)
    axes.legend(fontsize=7, ncols=3, loc="upper right")
    figure.savefig(file, metadata={"Date": None})


def _draw_check(plt: Any, file: Path) -> None:
    figure, axes = _figure(plt, "measured, s", "model, s", "The model against real clusters")
    axes.set(xscale="linear", yscale="linear")
    points = [(one[-1], play(*one[1:6]).seconds) for one in MEASURED]
    axes.plot(*zip(*points, strict=True), "o", label="a run, and its workers")
    for one, (across, up) in zip(MEASURED, points, strict=True):
        axes.annotate(f"  {one[3].workers}", (across, up), fontsize=8)
    most = max(one[-1] for one in MEASURED) * 1.2
    axes.plot([0, most], [0, most], color="black", linewidth=1, label="as measured")
    axes.fill_between([0, most], [0, most * 0.85], [0, most * 1.15], alpha=0.15, label="15 %")
    axes.legend()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--plots", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    if given.plots:
        draw(given.plots)
    else:
        print("\n".join(check() if given.check else tables()))


if __name__ == "__main__":
    main()

"""``longshore worker`` and ``longshore cluster``: many machines with one database."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from longshore.cli import output
from longshore.cli.options import ConfigOption, DataDirOption, read_settings
from longshore.cli.output import Column, FormatOption, Row, field
from longshore.errors import FailedPrecondition
from longshore.settings import Settings, load

if TYPE_CHECKING:
    from longshore.database.census import Carried, Standing

WORKER_EXAMPLE = "Example: [bold]longshore worker --config cluster.toml --workers 8[/]"
STATUS_EXAMPLE = "Example: [bold]longshore cluster status --config cluster.toml --seconds 10[/]"
PATIENCE_SECONDS = 5.0
ID_CHARACTERS = 8
"""How much of a machine's id people see."""

app = typer.Typer(
    no_args_is_help=True,
    help="A cluster of many machines: how it is, and Dask's settings for it.",
    epilog=STATUS_EXAMPLE,
)

STATUS_COLUMNS = (
    Column("MACHINE", lambda row: row["machine"][:ID_CHARACTERS], plain=field("machine")),
    Column("WORKER", field("worker")),
    Column("SHARDS", lambda row: output.number(row["shards"]), right=True),
    Column("STILL", lambda row: output.number(row["still"]), right=True),
    Column("OLDEST", lambda row: _age(row["oldestCheckpointSeconds"]), right=True),
    Column("OBJECTS/S", lambda row: output.number(row["objectsPerSecond"]), right=True),
    Column("OF STORES", lambda row: _kinds(row["planning"], row["stores"]), folds=True),
)


def worker(
    config: ConfigOption = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="What this machine alone keeps; overrides `data_dir` of the settings.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Processes that run shards. Default: one a core."
        ),
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(
            "--metrics-listen",
            metavar="HOST:PORT",
            help="Where /metrics, /healthz and /readyz listen; overrides `metrics.listen`. Default:"
            " nowhere.",
        ),
    ] = None,
) -> int:
    """Keep workers of a cluster on this machine, until SIGTERM or Ctrl-C.

    They run the jobs of every service whose settings name the same database and the same
    `dask.scheduler`, and come and go as they like.
    """
    from longshore import app as service

    flags = {"data_dir": data_dir, "workers": workers, "metrics.listen": metrics_listen}
    return service.work(load(config, os.environ, flags))


@app.command("status", epilog=STATUS_EXAMPLE)
def status(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            metavar="N",
            min=0.1,
            help="How long to look. Default: a second more than a lease goes unrenewed.",
        ),
    ] = None,
    format_: FormatOption = "table",
) -> None:
    """Show who coordinates, which workers carry what, and how fast it goes.

    All is read from the database, twice, so it works whatever else is down, and for a service on
    one machine as well. What moved between the two looks lives. A shard whose lease stood still is
    one of a worker that hangs, has died, or can't reach the database: workers renew each within a
    tenth of `lease_seconds`, and a coordinator beats once a second. What waits for newer workers
    was made by a version whose shards none of the workers present can read.

    How many workers are present is what the coordinator sees at the scheduler; those without a
    shard are not listed. The rate of a worker is that of the shards which it carried at both looks;
    the rate of all is of all. OLDEST is how long ago the last checkpoint was of that shard whose
    is the oldest, by the clocks of its worker and of this machine: one that lives and makes none
    waits for its store.
    """
    import asyncio

    settings = read_settings(config, data_dir)
    looking = settings.lease_seconds / 10 + 1 if seconds is None else seconds
    with _patience(looking):
        row = asyncio.run(_looked(settings, looking))
    if format_ == "table" and sys.stdout.isatty():
        _show(row)
    else:
        output.write_one(format_, row)


def _patience(seconds: float) -> AbstractContextManager[object]:
    """Tells on a terminal why nothing is to be seen yet."""
    if not sys.stderr.isatty():
        return nullcontext()
    return output.console(stderr=True).status(f"looking for {seconds:g} s")


async def _looked(settings: Settings, seconds: float) -> Row:
    """Looks twice, and compares."""
    import asyncio

    from longshore.clock import SYSTEM_CLOCK
    from longshore.database import Database, schema
    from longshore.database.census import standing

    if settings.database is None and not settings.database_path.exists():
        raise FailedPrecondition(f"There is no database {settings.database_path} yet.")
    database = Database.open(settings, patience_seconds=PATIENCE_SECONDS)
    try:
        await database.read(schema.check)
        before = await database.read(standing)
        began = SYSTEM_CLOCK.monotonic()
        await asyncio.sleep(seconds)
        now = await database.read(standing, before)
        return compared(before, now, SYSTEM_CLOCK.monotonic() - began, SYSTEM_CLOCK.now_us())
    finally:
        await database.close()


def compared(before: Standing, now: Standing, seconds: float, now_us: int) -> Row:
    """What can be said after two looks, so many seconds apart, the second of them at ``now_us``."""
    from longshore.model import State

    workers = list(_workers(before, now, seconds, now_us))
    done = sum(max(0, number - before.done.get(job, 0)) for job, number in now.done.items())
    return {
        "lookedSeconds": round(seconds, 1),
        "coordinator": _coordinator(before, now),
        "present": _present(now),
        "jobs": {
            "running": now.jobs.get(State.RUNNING, 0),
            "queued": now.jobs.get(State.QUEUED, 0),
        },
        "shards": {
            "carried": len(now.carried),
            "waiting": now.waiting,
            "unread": now.unread,
            "still": sum(worker["still"] for worker in workers),
            "oldestCheckpointSeconds": _oldest(now.carried, now_us),
        },
        "objectsPerSecond": round(done / seconds, 1),
        "workers": workers,
    }


def _coordinator(before: Standing, now: Standing) -> Row | None:
    """Whose place it is; None where there never was one, as with `runner = "local"`."""
    if now.seat is None:
        return None
    owner = now.seat.owner
    beats = owner is not None and now.seat != before.seat
    return {"owner": owner, "term": now.seat.term, "beats": beats}


def _present(now: Standing) -> Row | None:
    """The workers that the coordinator saw last; None where there never was one."""
    if now.seat is None:
        return None
    return {"workers": now.present.workers, "placesOfEachStore": now.present.places}


class _Pair(NamedTuple):
    """A shard as it is now, and as the same lease was before, if it is that old."""

    now: Carried
    before: Carried | None


def _oldest(carried: Iterable[Carried], now_us: int) -> float | None:
    """How long ago that one of them counted which has waited longest; None: none has yet."""
    times = [one.checkpoint_us for one in carried if one.checkpoint_us is not None]
    return round(max(0, now_us - min(times)) / 1e6, 1) if times else None


def _workers(
    before: Standing, now: Standing, seconds: float, now_us: int
) -> Iterator[Mapping[str, Any]]:
    old = {(one.owner, one.shard, one.attempt): one for one in before.carried}
    found: dict[str, list[_Pair]] = {}
    for one in now.carried:
        pair = _Pair(one, old.get((one.owner, one.shard, one.attempt)))
        found.setdefault(one.owner, []).append(pair)
    for owner, pairs in sorted(found.items()):
        machine, _, worker = owner.rpartition("/")
        stores = Counter(pair.now.store for pair in pairs if pair.now.store is not None)
        done = sum(pair.now.done - pair.before.done for pair in pairs if pair.before is not None)
        yield {
            "machine": machine,
            "worker": worker,
            "shards": len(pairs),
            "planning": len(pairs) - stores.total(),
            "stores": dict(sorted(stores.items())),
            "still": sum(pair.now == pair.before for pair in pairs),
            "oldestCheckpointSeconds": _oldest([pair.now for pair in pairs], now_us),
            "objectsPerSecond": round(done / seconds, 1),
        }


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:g} s" if seconds < 100 else f"{output.number(seconds)} s"


def _kinds(planning: int, stores: Mapping[str, int]) -> str:
    kinds = [f"{store}:{output.number(shards)}" for store, shards in stores.items()]
    if planning:
        kinds.append(f"planning:{output.number(planning)}")
    return ", ".join(kinds)


def _show(row: Row) -> None:
    """The picture for people."""
    jobs, shards = row["jobs"], row["shards"]
    still = f", {output.number(shards['still'])} of them stood still" if shards["still"] else ""
    unread = shards["unread"]
    newer = f", {output.number(unread)} of them for newer workers" if unread else ""
    output.write_one(
        "table",
        {
            "coordinator": _place(row["coordinator"]),
            **_crew(row["coordinator"], row["present"]),
            "jobs": f"{output.number(jobs['running'])} running,"
            f" {output.number(jobs['queued'])} queued",
            "shards": f"{output.number(shards['carried'])} carried{still},"
            f" {output.number(shards['waiting'])} waiting{newer}",
            **_checkpoints(shards),
            "rate": f"{output.number(row['objectsPerSecond'])} objects/s",
            "looked for": f"{row['lookedSeconds']:g} s",
        },
    )
    sys.stdout.write("\n" if row["workers"] else "\nNo worker carries a shard.\n")
    sys.stdout.flush()
    if not row["workers"]:
        return
    with output.Writer("table", STATUS_COLUMNS) as writer:
        writer.write_all(row["workers"])


def _checkpoints(shards: Row) -> Row:
    if not shards["carried"]:
        return {}
    oldest = shards["oldestCheckpointSeconds"]
    return {"checkpoints": "none yet" if oldest is None else f"the oldest {_age(oldest)} ago"}


def _place(coordinator: Row | None) -> str:
    if coordinator is None:
        return "none: no cluster has used this database"
    term = f"term {coordinator['term']}"
    if coordinator["owner"] is None:
        return f"nobody now, after {term}"
    machine, _, name = coordinator["owner"].rpartition("/")
    beats = "beating" if coordinator["beats"] else "its beat stood still"
    return f"{name} on {machine[:ID_CHARACTERS]}, {term}, {beats}"


def _crew(coordinator: Row | None, present: Row | None) -> Row:
    if coordinator is None or present is None:
        return {}
    places = output.number(present["placesOfEachStore"])
    last = "" if coordinator["beats"] else ", when the coordinator looked last"
    crew = f"{output.number(present['workers'])} present, with places for {places} shards"
    return {"workers": f"{crew} of each store{last}"}


@app.command("settings", epilog="Example: [bold]longshore cluster settings[/]")
def settings() -> int:
    """Print where Dask's own settings for such a cluster are.

    Its scheduler needs them: `DASK_CONFIG=$(longshore cluster settings) dask scheduler`.
    """
    with as_file(files("longshore.runners.dask") / "rules.yaml") as path:
        typer.echo(path)
    return 0

"""``longshore buckets``: the buckets of the configured stores, without any server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longshore.cli import output
from longshore.cli.options import ConfigOption, DataDirOption, bucket_name, with_stores
from longshore.cli.output import Column, FormatOption, Row, field

if TYPE_CHECKING:
    from longshore.store import Bucket, Stores

app = typer.Typer(
    no_args_is_help=True,
    help="Buckets of the configured stores; works while the service runs, and without it.",
    epilog="Example: [bold]longshore buckets create photos --versioning[/]",
)

COLUMNS = (
    Column("BUCKET", field("name"), folds=True),
    Column("STORE", field("store"), style="dim"),
    output.time_column("CREATED", "timeCreated"),
    Column("VERSIONING", lambda row: "yes" if row["versioning"] else ""),
    Column("RETENTION", lambda row: _retention(row["retentionPeriodSeconds"])),
    Column("ACCESS", lambda row: "uniform" if row["uniformAccess"] else ""),
    Column("HOLD", lambda row: "event-based" if row["defaultEventBasedHold"] else ""),
)

BucketArgument = Annotated[
    str, typer.Argument(metavar="BUCKET", callback=bucket_name, help="B or gs://B.")
]
VersioningOption = Annotated[
    bool | None,
    typer.Option("--versioning/--no-versioning", help="Keep what is deleted or replaced."),
]
RetentionOption = Annotated[
    str | None,
    typer.Option(
        "--retention-period",
        metavar="DURATION",
        help="No object is deleted or replaced before this age: 30d, 12h, 45m, 90s; 0 for none.",
    ),
]
UniformAccessOption = Annotated[
    bool | None,
    typer.Option(
        "--uniform-bucket-level-access/--no-uniform-bucket-level-access",
        "--uniform-access/--no-uniform-access",
        help="Access is the bucket's alone: objects have no ACLs.",
    ),
]
HoldOption = Annotated[
    bool | None,
    typer.Option(
        "--default-event-based-hold/--no-default-event-based-hold",
        help="New objects begin with an event-based hold.",
    ),
]

_DURATION = re.compile(r"(\d{1,9})([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """Seconds in ``90``, ``90s``, ``45m``, ``12h`` or ``30d``; anything else is a usage error."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise typer.BadParameter(f"{text!r} is no duration such as 30d, 12h, 45m or 90s.")
    return int(match[1]) * _SECONDS[match[2]]


def to_row(bucket: Bucket, store: str) -> Row:
    """A bucket as the output shows it."""
    return {
        "name": bucket.name,
        "store": store,
        "timeCreated": output.rfc3339(bucket.create_time_us),
        "versioning": bucket.versioning,
        "retentionPeriodSeconds": bucket.retention_period_seconds,
        "uniformAccess": bucket.uniform_access,
        "defaultEventBasedHold": bucket.default_event_based_hold,
    }


@app.command(
    "create", epilog="Example: [bold]longshore buckets create logs --retention-period=30d[/]"
)
def create(
    bucket: BucketArgument,
    versioning: VersioningOption = None,
    retention_period: RetentionOption = None,
    uniform_access: UniformAccessOption = None,
    default_event_based_hold: HoldOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = "table",
) -> None:
    """Create a bucket, in the store that its name is mapped to.

    With --format other than table, the bucket is written.
    """
    rules = _rules(versioning, retention_period, uniform_access, default_event_based_hold)

    async def use(stores: Stores) -> Row:
        from longshore.clock import SYSTEM_CLOCK
        from longshore.store import Bucket

        wanted = Bucket(name=bucket, create_time_us=SYSTEM_CLOCK.now_us(), **rules)
        made = await stores.for_bucket(bucket).create_bucket(wanted)
        return to_row(made, stores.name_for(bucket))

    output.write_changed(f"Created bucket: {bucket}", format_, with_stores(config, data_dir, use))


@app.command("list", epilog="Example: [bold]longshore buckets list --format='value(name)'[/]")
def list_(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = "table",
) -> None:
    """List the buckets of every configured store."""

    async def use(stores: Stores) -> list[Row]:
        rows = []
        for name in stores.names():
            async for bucket in stores.open(name).list_buckets():
                if stores.name_for(bucket.name) == name:
                    rows.append(to_row(bucket, name))
        return sorted(rows, key=lambda row: str(row["name"]))

    rows = with_stores(config, data_dir, use)
    with output.Writer(format_, COLUMNS) as writer:
        writer.write_all(rows)


@app.command("describe", epilog="Example: [bold]longshore buckets describe photos[/]")
def describe(
    bucket: BucketArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = "table",
) -> None:
    """Show a bucket and its rules."""

    async def use(stores: Stores) -> Row:
        found = await stores.for_bucket(bucket).get_bucket(bucket)
        return to_row(found, stores.name_for(bucket))

    output.write_one(format_, with_stores(config, data_dir, use))


@app.command("update", epilog="Example: [bold]longshore buckets update photos --no-versioning[/]")
def update(
    bucket: BucketArgument,
    versioning: VersioningOption = None,
    retention_period: RetentionOption = None,
    uniform_access: UniformAccessOption = None,
    default_event_based_hold: HoldOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = "table",
) -> None:
    """Change a bucket's rules; what is not given stays.

    With --format other than table, the bucket is written.
    """
    rules = _rules(versioning, retention_period, uniform_access, default_event_based_hold)
    if not rules:
        raise typer.BadParameter("Say what to change: give at least one rule.")

    async def use(stores: Stores) -> Row:
        changed = await stores.for_bucket(bucket).update_bucket(bucket, **rules)
        return to_row(changed, stores.name_for(bucket))

    output.write_changed(f"Updated bucket: {bucket}", format_, with_stores(config, data_dir, use))


@app.command("delete", epilog="Example: [bold]longshore buckets delete photos[/]")
def delete(
    bucket: BucketArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete an empty bucket."""

    async def use(stores: Stores) -> None:
        await stores.for_bucket(bucket).delete_bucket(bucket)

    with_stores(config, data_dir, use)
    output.say(f"Deleted bucket: {bucket}")


def _rules(
    versioning: bool | None,
    retention_period: str | None,
    uniform_access: bool | None,
    default_event_based_hold: bool | None,
) -> dict[str, Any]:
    rules = {
        "versioning": versioning,
        "retention_period_seconds": None
        if retention_period is None
        else parse_duration(retention_period),
        "uniform_access": uniform_access,
        "default_event_based_hold": default_event_based_hold,
    }
    return {name: value for name, value in rules.items() if value is not None}


def _retention(seconds: int) -> str:
    if not seconds:
        return ""
    unit = next(unit for unit in "dhms" if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"

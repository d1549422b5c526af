"""``longshore objects``: the objects of the configured stores, without any server."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longshore.cli import output
from longshore.cli.options import (
    ConfigOption,
    DataDirOption,
    bucket_name,
    read_settings,
    split_url,
    with_stores,
)
from longshore.cli.output import Column, FormatOption, Row, field
from longshore.errors import BY_CODE, NotFound

if TYPE_CHECKING:
    from longshore.store import Batch, Stores

app = typer.Typer(
    no_args_is_help=True,
    help="Objects of the configured stores; works while the service runs, and without it.",
    epilog="Example: [bold]longshore objects import ./photos my-bucket/photos/[/]",
)


def _holds(row: Row) -> str:
    held: Sequence[tuple[str, str]] = (
        ("temporaryHold", "temporary"),
        ("eventBasedHold", "event-based"),
    )
    return ", ".join(word for field_, word in held if row.get(field_))


COLUMNS = (
    Column("NAME", field("name"), folds=True),
    Column("SIZE", lambda row: output.size(row["size"]), right=True, plain=field("size")),
    output.time_column("UPDATED", "updated"),
    Column("GENERATION", field("generation"), right=True, style="dim", extra=True),
    Column("HOLDS", _holds),
    Column("CLASS", field("storageClass"), style="dim", extra=True),
)
VERSION_COLUMNS = (*COLUMNS, Column("LIVE", lambda row: "" if row["live"] else "noncurrent"))

ObjectArgument = Annotated[
    str, typer.Argument(metavar="BUCKET/NAME", help="The object: B/NAME or gs://B/NAME.")
]
GenerationOption = Annotated[
    int, typer.Option("--generation", metavar="N", help="This version; default: the live one.")
]

_FIELDS: Mapping[str, str] = {
    "content_type": "contentType",
    "content_encoding": "contentEncoding",
    "content_language": "contentLanguage",
    "content_disposition": "contentDisposition",
    "cache_control": "cacheControl",
    "custom_time_us": "customTime",
    "retention": "retention",
    "custom_metadata": "metadata",
    "contexts": "contexts",
    "acl": "acl",
    "storage_class": "storageClass",
    "kms_key": "kmsKeyName",
    "checksum": "checksum",
    "create_time_us": "timeCreated",
    "update_time_us": "updated",
    "temporary_hold": "temporaryHold",
    "event_based_hold": "eventBasedHold",
    "live": "live",
}
"""Column of a store → field shown, spelt as Cloud Storage spells it."""


def to_rows(batch: Batch, bucket: str) -> list[dict[str, Any]]:
    """The objects of a batch as the output shows them; what is not set is left out."""
    rows = []
    for index, name in enumerate(batch.names):
        row: dict[str, Any] = {
            "name": name,
            "bucket": bucket,
            "generation": str(batch.generations[index]),
            "metageneration": str(batch.metagenerations[index]),
            "size": str(batch.sizes[index]),
        }
        for column, shown in _FIELDS.items():
            value = batch.columns[column][index]
            if value or isinstance(value, bool):
                row[shown] = _value(column, value)
        rows.append(row)
    return rows


@app.command("list", epilog="Example: [bold]longshore objects list my-bucket --prefix=logs/[/]")
def list_(
    bucket: Annotated[
        str, typer.Argument(metavar="BUCKET", callback=bucket_name, help="B or gs://B.")
    ],
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="PREFIX", help="Only names that begin with it.")
    ] = "",
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="Noncurrent versions too.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = "table",
) -> None:
    """List objects in the order of their names' bytes."""

    async def use(stores: Stores) -> None:
        pages = stores.for_bucket(bucket).list_objects(
            bucket, prefix=prefix, versions=all_versions, columns=tuple(_FIELDS)
        )
        columns = VERSION_COLUMNS if all_versions else COLUMNS
        with output.Writer(format_, columns) as writer:
            await writer.write_pages(_rows(pages, bucket, limit))

    with_stores(config, data_dir, use)


@app.command("describe", epilog="Example: [bold]longshore objects describe my-bucket/a.txt[/]")
def describe(
    url: ObjectArgument,
    generation: GenerationOption = 0,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = "table",
) -> None:
    """Show everything that is known of an object."""
    bucket, name = _object(url)

    async def use(stores: Stores) -> Row:
        batch = await _read(stores, bucket, name, generation)
        return to_rows(batch, bucket)[0]

    output.write_one(format_, with_stores(config, data_dir, use))


@app.command("cat", epilog="Example: [bold]longshore objects cat my-bucket/a.txt | less[/]")
def cat(
    url: ObjectArgument,
    generation: GenerationOption = 0,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Write an object's content to the standard output."""
    bucket, name = _object(url)

    async def use(stores: Stores) -> None:
        store = stores.for_bucket(bucket)
        async for piece in store.read_bytes(bucket, name, generation):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    with_stores(config, data_dir, use)


@app.command("delete", epilog="Example: [bold]longshore objects delete my-bucket/a.txt[/]")
def delete(
    url: ObjectArgument,
    generation: GenerationOption = 0,
    all_versions: Annotated[
        bool,
        typer.Option("--all-versions", help="Every version of it, live or not, for good."),
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete one object; for many, create a job.

    In a versioned bucket the live version becomes noncurrent. With --generation that version is
    deleted for good, with --all-versions all are.
    """
    bucket, name = _object(url)
    if generation and all_versions:
        raise typer.BadParameter("Give --generation or --all-versions, not both.")

    async def use(stores: Stores) -> None:
        store = stores.for_bucket(bucket)
        batches = [await _read(stores, bucket, name, generation)] if not all_versions else []
        if all_versions:
            only_it = store.list_objects(bucket, prefix=name, before=f"{name}\0", versions=True)
            batches = [page async for page in only_it]
            if not batches:
                raise NotFound(f"No such object: gs://{bucket}/{name}.")
        for batch in batches:
            permanent = all_versions or generation != 0
            outcome = await store.delete_objects(bucket, batch, permanent=permanent)
            for failure in outcome.failures.values():
                raise BY_CODE[failure.code](failure.message)

    with_stores(config, data_dir, use)
    output.say(f"Deleted object: gs://{bucket}/{name}")


@app.command("import", epilog="Example: [bold]longshore objects import ./photos my-bucket/p/[/]")
def import_(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A directory."),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="BUCKET[/PREFIX]",
            help="Each file becomes PREFIX and its path below DIR; B/ is no prefix.",
        ),
    ],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> int:
    """Copy the files of a directory into a bucket.

    Objects that are there are replaced. Symbolic links are not followed, and the data directory of
    the service is passed over. A file whose name is not UTF-8, or that cannot be read, is refused
    by name; the others are imported, and the exit code is 1.
    """
    from longshore.cli.importing import import_directory

    bucket, prefix = split_url(target)
    leave_out = read_settings(config, data_dir).data_dir

    async def use(stores: Stores) -> int:
        store = stores.for_bucket(bucket)
        done = await import_directory(store, directory, bucket, prefix, leave_out=leave_out)
        return 1 if done.refused else 0

    return with_stores(config, data_dir, use)


async def _rows(
    pages: AsyncIterator[Batch], bucket: str, limit: int | None
) -> AsyncIterator[list[dict[str, Any]]]:
    left = limit
    async for page in pages:
        rows = to_rows(page, bucket)
        yield rows if left is None else rows[:left]
        if left is not None:
            left -= len(rows)
            if left <= 0:
                return


async def _read(stores: Stores, bucket: str, name: str, generation: int) -> Batch:
    store = stores.for_bucket(bucket)
    batch = await store.read_objects(bucket, [name], [generation], columns=tuple(_FIELDS))
    if not batch.generations[0]:
        version = f" of generation {generation}" if generation else ""
        raise NotFound(f"No such object{version}: gs://{bucket}/{name}.")
    return batch


def _object(url: str) -> tuple[str, str]:
    bucket, name = split_url(url)
    if not name:
        raise typer.BadParameter(f"{url!r} names no object: expected BUCKET/NAME.")
    return bucket, name


def _value(column: str, value: Any) -> Any:
    if column.endswith("_us"):
        return output.rfc3339(value)
    if column in ("custom_metadata", "contexts", "acl"):
        from longshore.patch import load_map

        return load_map(value)
    if column == "retention":
        from longshore.patch import Retention

        retention = Retention.load(value)
        return retention and {
            "mode": retention.mode,
            "retainUntilTime": output.rfc3339(retention.until_us),
        }
    return value

"""``longshore bucket-operations``: the parts of a job, one for each of its buckets."""

from __future__ import annotations

from typing import Annotated

import typer

from longshore.cli import output, rows
from longshore.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_SERVER,
    FilterOption,
    LimitOption,
    ProjectOption,
    ServerOption,
    connect,
    limited,
)
from longshore.cli.output import Column, FormatOption, field

app = typer.Typer(
    no_args_is_help=True,
    help="Bucket operations: a job's part in each of its buckets.",
    epilog="Example: [bold]longshore bucket-operations list purge[/]",
)

COLUMNS = (
    Column("BUCKET OPERATION", rows.identifier, style="dim", folds=True),
    Column("BUCKET", field("bucketName"), folds=True),
    Column("STATE", field("state")),
    *rows.COUNTERS,
)

JobOption = Annotated[
    str | None,
    typer.Option("--batch-job", "--job", metavar="JOB", help="Its job: the id, or the full name."),
]


@app.command("list", epilog="Example: [bold]longshore bucket-operations list purge[/]")
def list_(
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="The job; or give --batch-job.")
    ] = None,
    job_option: JobOption = None,
    filter_: FilterOption = "",
    limit: LimitOption = None,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> None:
    """List the bucket operations of a job, in the order of its buckets."""
    given = [text for text in (job, job_option) if text is not None]
    if len(given) != 1:
        raise typer.BadParameter("Name one job: JOB or --batch-job.")
    with connect(server, project) as client, output.Writer(format_, COLUMNS) as writer:
        parent = client.name("jobs", given[0])
        found = client.list("bucketOperations", parent, filter=filter_)
        writer.write_all(limited(found, limit))


@app.command(
    "describe", epilog="Example: [bold]longshore bucket-operations describe ID --job=purge[/]"
)
def describe(
    bucket_operation: Annotated[
        str,
        typer.Argument(
            metavar="BUCKET_OPERATION",
            help="Its full name projects/…/bucketOperations/ID, or its id with --batch-job.",
        ),
    ],
    job: JobOption = None,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> None:
    """Show a job's part in one bucket: its counters and its errors."""
    if job is None and "/" not in bucket_operation:
        raise typer.BadParameter("Name its job with --batch-job, or give its full name.")
    with connect(server, project) as client:
        parent = client.name("jobs", job) if job is not None else ""
        name = client.name("bucketOperations", bucket_operation, parent)
        output.write_one(format_, client.get(name))

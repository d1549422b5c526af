"""``longshore operations``: the long-running operations of jobs on a server."""

from __future__ import annotations

from typing import Annotated, Any

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
from longshore.cli.output import Column, FormatOption, Row, field

app = typer.Typer(
    no_args_is_help=True,
    help="Long-running operations: each is the progress and the end of one job.",
    epilog="Example: [bold]longshore operations list --filter='done=false'[/]",
)

COLUMNS = (
    Column("OPERATION", rows.identifier, folds=True),
    Column("STATE", field("metadata", "job", "state")),
    Column("JOB", lambda row: rows.base_name(row["metadata"]["job"]["name"]), folds=True),
    output.time_column("CREATED", "metadata", "createTime"),
)

OperationArgument = Annotated[
    str,
    typer.Argument(
        metavar="OPERATION", help="Its id, or its full name projects/…/operations/OPERATION."
    ),
]


@app.command("list", epilog="Example: [bold]longshore operations list --filter='done=false'[/]")
def list_(
    filter_: FilterOption = "",
    limit: LimitOption = None,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> None:
    """List the project's operations, in the order of their creation."""
    with connect(server, project) as client, output.Writer(format_, COLUMNS) as writer:
        writer.write_all(limited(client.list("operations", filter=filter_), limit))


@app.command(
    "describe", epilog="Example: [bold]longshore operations describe OPERATION --format=json[/]"
)
def describe(
    operation: OperationArgument,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> None:
    """Show an operation: whether it is done, its job, and the error it ended with."""
    with connect(server, project) as client:
        output.write_one(format_, client.get(client.name("operations", operation)))


@app.command("wait", epilog="Example: [bold]longshore operations wait OPERATION[/]")
def wait(
    operation: OperationArgument,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> None:
    """Show the progress of an operation until it is done.

    The exit code is 1 if it ended with an error. With --format other than table, only the
    operation is written, once it is done.
    """
    from longshore.cli.watching import follow, raise_error

    with connect(server, project) as client:
        name = client.name("operations", operation)
        shown = format_ == "table"
        follow(lambda: _job(client.get(name)), quiet=not shown)
        ended = client.get(name)
    if not shown:
        output.write_one(format_, ended)
    raise_error(ended)


@app.command("cancel", epilog="Example: [bold]longshore operations cancel OPERATION[/]")
def cancel(
    operation: OperationArgument,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
) -> None:
    """Ask an operation to stop; it soon ends with code 1, CANCELLED. A finished one stays."""
    with connect(server, project) as client:
        name = client.name("operations", operation)
        client.cancel(name)
        output.say(f"Canceled operation: {name}")


@app.command("delete", epilog="Example: [bold]longshore operations delete OPERATION[/]")
def delete(
    operation: OperationArgument,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
) -> None:
    """Remove an operation from the list; its job stays, and goes on if it runs."""
    with connect(server, project) as client:
        name = client.name("operations", operation)
        client.delete(name)
        output.say(f"Deleted operation: {name}")


def _job(operation: Row) -> dict[str, Any]:
    job: dict[str, Any] = operation["metadata"]["job"]
    return job

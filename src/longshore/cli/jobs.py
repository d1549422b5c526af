"""``longshore jobs``: batch jobs on a server, with the flags of gcloud."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from longshore.cli import output, rows
from longshore.cli.flags import JobFlags, takes_job_flags
from longshore.cli.job_message import to_job
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

if TYPE_CHECKING:
    from longshore.cli.client import Client

app = typer.Typer(
    no_args_is_help=True,
    help="Batch jobs: what to do to which objects of which buckets.",
    epilog="Example: [bold]longshore jobs create --bucket=photos --included-object-prefixes=tmp/"
    " --delete-object --wait[/]",
)

COLUMNS = (
    Column("JOB", rows.identifier, folds=True),
    Column("STATE", field("state")),
    Column("DOES", rows.deed, plain=rows.transformation, extra=True),
    Column("BUCKET", rows.buckets, folds=True),
    *rows.COUNTERS,
    output.time_column("CREATED", "createTime"),
)

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, or its full name projects/…/jobs/JOB.")
]


@app.command(
    "create",
    epilog="Example: [bold]longshore jobs create purge --bucket=photos"
    " --included-object-prefixes=tmp/,cache/ --delete-object --wait[/]",
)
@takes_job_flags
def create(
    flags: JobFlags,
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="An id for it; default: the server makes one.")
    ] = "",
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show its progress until it has ended.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Ask nothing before objects are deleted.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> int:
    """Create a job; the server runs it in the background.

    Give the objects (--bucket with prefixes or a manifest), and one transformation. Before a job
    that deletes, a terminal is asked for a confirmation; a script is not.
    With --format other than table, the job is written: as created, or with --wait as it ended.

    With --wait the exit code is 1 unless the job SUCCEEDED. Objects that failed are shown; a job
    with such objects still ends as SUCCEEDED.
    """
    message = to_job(flags)
    if flags.delete_object and not flags.dry_run and not quiet and not _confirm():
        output.say("Nothing was created.")
        return 1
    with connect(server, project) as client:
        operation = client.create_job(job, message)
        name = operation["metadata"]["job"]["name"]
        output.say(f"Created batch job: {name}")
        if wait:
            return _code(_follow(client, name, format_))
        if format_ != "table":
            output.write_one(format_, client.get(name))
    return 0


@app.command("list", epilog="Example: [bold]longshore jobs list --filter='state:failed'[/]")
def list_(
    filter_: FilterOption = "",
    sort_by: Annotated[
        str,
        typer.Option(
            "--sort-by", metavar="FIELD", help="name or create_time; ~FIELD is the other way."
        ),
    ] = "~create_time",
    limit: LimitOption = None,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> None:
    """List the project's jobs, the newest first."""
    order = f"{sort_by[1:]} desc" if sort_by.startswith("~") else sort_by
    with connect(server, project) as client, output.Writer(format_, COLUMNS) as writer:
        writer.write_all(limited(client.list("jobs", filter=filter_, orderBy=order), limit))


@app.command("describe", epilog="Example: [bold]longshore jobs describe purge --format=yaml[/]")
def describe(
    job: JobArgument,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> None:
    """Show a job: what it does, its counters, and its errors with some objects of each kind."""
    with connect(server, project) as client:
        output.write_one(format_, client.get(client.name("jobs", job)))


@app.command("watch", epilog="Example: [bold]longshore jobs watch purge[/]")
def watch(
    job: JobArgument,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
    format_: FormatOption = "table",
) -> int:
    """Show a job's progress until it has ended.

    The exit code is 1 unless the job SUCCEEDED. Objects that failed are shown; a job with such
    objects still ends as SUCCEEDED. Ctrl-C ends the watching, not the job.
    With --format other than table, only the job is written, once it has ended.
    """
    with connect(server, project) as client:
        ended = _follow(client, client.name("jobs", job), format_)
    return _code(ended)


@app.command("cancel", epilog="Example: [bold]longshore jobs cancel purge[/]")
def cancel(
    job: JobArgument,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
) -> None:
    """Ask a job to stop; what it has done stays done, and it soon ends as CANCELED."""
    with connect(server, project) as client:
        name = client.name("jobs", job)
        client.cancel(name)
        output.say(f"Canceled batch job: {name}")


@app.command("delete", epilog="Example: [bold]longshore jobs delete purge[/]")
def delete(
    job: JobArgument,
    server: ServerOption = DEFAULT_SERVER,
    project: ProjectOption = DEFAULT_PROJECT,
) -> None:
    """Remove a job that has ended from the list, with its bucket operations and its logs.

    Nothing is asked, and no object is touched. A job that runs must be canceled first.
    """
    with connect(server, project) as client:
        name = client.name("jobs", job)
        client.delete(name, force="true")
        output.say(f"Deleted batch job: {name}")


def _follow(client: Client, name: str, format_: str) -> Row:
    """The job, once it has ended; progress as a picture or in lines if nothing else is wanted.

    Raises the error of its operation, which says what a Job cannot: why it did not succeed.
    """
    from longshore.cli.watching import follow, raise_error

    shown = format_ == "table"
    try:
        ended = follow(lambda: client.get(name), quiet=not shown)
    except KeyboardInterrupt:
        output.say(f"The job goes on; see it again with: longshore jobs watch {name}")
        raise
    if not shown:
        output.write_one(format_, ended)
    if ended["state"] != "SUCCEEDED":
        parent = name.partition("/jobs/")[0]
        for operation in client.list("operations", parent, filter=f'metadata.job.name="{name}"'):
            raise_error(operation)
    return ended


def _code(ended: Row) -> int:
    return 0 if ended["state"] == "SUCCEEDED" else 1


def _confirm() -> bool:
    """Whether objects shall be deleted; asked where there is somebody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    return typer.confirm("This job will delete objects. Create it?", default=True, err=True)

"""``longshore demo``: the whole story in half a minute, with every figure checked."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from longshore.cli import demo_service, rows
from longshore.cli.flags import JobFlags
from longshore.cli.job_message import to_job
from longshore.errors import Error, Internal

if TYPE_CHECKING:
    from rich.console import Console

    from longshore.cli.client import Client

EXAMPLE = "Example: [bold]longshore demo[/]"

FILES = {"logs": 12_000, "photos": 6_000, "legal": 2_000}
TOTAL = sum(FILES.values())
RATE = 3_000
"""Objects per second in the second bucket: its jobs must last, also where everything is slow."""

JOB_SECONDS = 120.0
_Json = Mapping[str, Any]


def demo(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            metavar="DIR",
            help="Work in this empty directory and leave it behind. Default: a temporary one.",
        ),
    ] = None,
) -> int:
    """Start a service, import 20,000 objects, and change them in bulk while you watch.

    Every figure is read from the API and, independently, from the bucket itself. The exit status
    is 1 if any of them is not what it must be.
    """
    # The service must not outlive the demo, however that is ended.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise typer.BadParameter(f"{directory} is not empty: the demo needs it for itself.")
        return _Demo(directory.resolve()).run()
    with tempfile.TemporaryDirectory(prefix="longshore-demo-") as temporary:
        return _Demo(Path(temporary)).run()


@dataclass(slots=True, kw_only=True)
class _Told:
    """A job of the story: what must be read of it in the end, and whether all was right so far.

    ``expected``: its state and its counters; a counter that is not in it may be anything.
    """

    what: str
    name: str
    seconds: float
    expected: Mapping[str, Any]
    checks: list[bool] = field(default_factory=list)


class _Demo:
    """The story: a service in ``directory``, two buckets, six jobs."""

    def __init__(self, directory: Path) -> None:
        from longshore.cli.client import Client
        from longshore.cli.output import console
        from longshore.settings import load

        self._directory = directory
        self._out: Console = console()
        self._told: list[_Told] = []
        self._chapter = 0
        self._config = demo_service.write_settings(directory, "pier", RATE)
        self._settings = load(self._config, {}, {})
        self._client: Client = Client(f"http://{self._settings.rest.listen}", "local")
        self._service = demo_service.DemoService(
            self._config, directory / "serve.log", self._client
        )
        self._began = time.monotonic()

    def run(self) -> int:
        """Tell it; gives the exit status."""
        try:
            self._load()
            self._dry_run()
            self._hold()
            self._metadata()
            self._delete()
            self._cancel()
            self._crash()
            return self._end()
        except Error as error:
            self._out.print("[bold red]The demo stopped:[/]", end=" ")
            self._out.print(error.message, markup=False)
            self._out.print(self._service.log(), style="dim", markup=False)
            return 1
        finally:
            self._client.close()
            self._service.stop()

    def _load(self) -> None:
        self._title(f"A service, and {TOTAL:,} small files in each of two buckets")
        cargo = self._directory / "cargo"
        for folder, count in FILES.items():
            (cargo / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (cargo / folder / f"{number:05d}.txt").write_bytes(b"cargo %05d\n" % number)
        self._service.start()
        self._say(f"serving on {self._settings.rest.listen}, data in {self._settings.data_dir}")
        for bucket in ("harbour", "pier"):
            self._command("buckets", "create", bucket)
            seconds = self._command("objects", "import", str(cargo), bucket)
            self._say(f"{TOTAL:,} files imported into {bucket} in {seconds:.1f} s")

    def _dry_run(self) -> None:
        self._title("A dry run: what would a delete of everything do?")
        flags = JobFlags(
            bucket="harbour", included_object_prefixes="", delete_object=True, dry_run=True
        )
        told = self._job("dry run of a delete", flags, total=TOTAL)
        self._check(told, "would be deleted", "total", self._count("harbour"))

    def _hold(self) -> None:
        self._title("A hold on everything under legal/")
        flags = JobFlags(
            bucket="harbour", included_object_prefixes="legal/", put_object_temporary_hold=True
        )
        told = self._job("hold", flags, total=FILES["legal"], succeeded=FILES["legal"])
        self._check(told, "held", "succeeded", self._count("harbour", "temporary_hold"))

    def _metadata(self) -> None:
        self._title("New metadata for everything under photos/")
        flags = JobFlags(
            bucket="harbour",
            included_object_prefixes="photos/",
            put_metadata="Cache-Control=max-age=3600,by=demo",
        )
        told = self._job("metadata", flags, total=FILES["photos"], succeeded=FILES["photos"])
        changed = self._count("harbour", "cache_control", "max-age=3600".__eq__)
        self._check(told, "changed", "succeeded", changed)

    def _delete(self) -> None:
        self._title("Delete everything: what is held is refused, the rest goes")
        held = FILES["legal"]
        flags = JobFlags(bucket="harbour", included_object_prefixes="", delete_object=True)
        told = self._job("delete", flags, total=TOTAL, succeeded=TOTAL - held, failed=held)
        left = self._count("harbour")
        self._check(told, "deleted", "succeeded", TOTAL - left)
        self._check(told, "refused", "failed", left)
        refused = 0
        for summary in self._client.get(told.name).get("errorSummaries", ()):
            entry = summary["errorLogEntries"][0]
            self._say(f"{summary['errorCode']} {entry['objectUri']}", style="yellow")
            self._say(entry["errorDetails"][0], style="yellow")
            refused += int(summary["errorCount"]) * (summary["errorCode"] == "PERMISSION_DENIED")
        told.checks.append(refused == held)

    def _cancel(self) -> None:
        self._title(f"A job cancelled while it runs (this bucket is capped at {RATE:,} a second)")
        began = time.monotonic()
        operation = self._create(
            JobFlags(
                bucket="pier",
                included_object_prefixes="",
                put_metadata="Content-Type=text/x-cargo",
            )
        )
        self._watch(operation, until=TOTAL // 5)
        self._show_command("operations", "cancel", "OPERATION")
        asked = time.monotonic()
        self._client.cancel(operation)
        job = self._watch(operation)
        took = time.monotonic() - asked
        error = self._client.get(operation).get("error", {})
        self._say(
            f"{job['state']} after {took:.2f} s; its operation ends with code {error.get('code')}"
        )
        told = self._tell("metadata, cancelled", job, began, state="CANCELED")
        time.sleep(0.5)  # long enough for many more batches, if anything still ran
        changed = self._count("pier", "content_type", "text/x-cargo".__eq__)
        told.expected = {**told.expected, "succeeded": rows.count(job, "succeeded")}
        self._check(told, "changed, and no more since", "succeeded", changed)
        told.checks.append(0 < changed < TOTAL and error.get("code") == 1)

    def _crash(self) -> None:
        self._title("The service killed by SIGKILL in the middle of a delete, twice")
        began = time.monotonic()
        operation = self._create(
            JobFlags(bucket="pier", included_object_prefixes="", delete_object=True)
        )
        for part in (0.2, 0.5):
            self._watch(operation, until=int(TOTAL * part))
            counted = rows.count(self._job_of(operation), "succeeded")
            self._service.kill()
            self._say(f"$ kill -9, with {counted:,} of {TOTAL:,} counted", style="bold red")
            seconds = self._service.start()
            self._say(f"started again, answering after {seconds:.1f} s; the job goes on by itself")
        job = self._watch(operation)
        told = self._tell("delete, 2 kills", job, began, total=TOTAL, succeeded=TOTAL)
        left = self._count("pier")
        self._check(told, "deleted", "succeeded", TOTAL - left)
        self._check(told, "failed", "failed", left)

    def _title(self, text: str) -> None:
        self._chapter += 1
        self._out.print()
        self._out.print(f"[bold cyan]{self._chapter}[/]  [bold]{text}[/]")

    def _say(self, text: str, style: str = "dim", ending: str = "") -> None:
        """Write a line, indented; where it has to be broken, the parts end with ``ending``."""
        parts = textwrap.wrap(
            text,
            self._out.width - 5 - len(ending),
            break_on_hyphens=False,
            break_long_words=False,
        )
        whole = f"{ending}\n     ".join(parts)
        self._out.print(f"   {whole}", style=style, markup=False, soft_wrap=True)

    def _show_command(self, *words: str) -> None:
        self._say(f"$ longshore {' '.join(words)}", style="cyan", ending=" \\")

    def _command(self, *words: str) -> float:
        """Run a command of longshore as a person would; gives the seconds it took."""
        self._show_command(*words)
        began = time.monotonic()
        command = [sys.executable, "-m", "longshore", *words, "--config", str(self._config)]
        with subprocess.Popen(  # noqa: S603
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=demo_service.environment(),
        ) as process:
            try:
                _, complaint = process.communicate()
            except BaseException:
                process.kill()
                process.wait()  # ``with`` does not after Ctrl-C, and it may still write
                raise
        if process.returncode:
            raise Internal(f"`longshore {' '.join(words)}` failed: {complaint.strip()}")
        return time.monotonic() - began

    def _job(self, what: str, flags: JobFlags, **expected: Any) -> _Told:
        """Create a job and watch it to its end."""
        began = time.monotonic()
        job = self._watch(self._create(flags), total=expected["total"])
        return self._tell(what, job, began, **expected)

    def _create(self, flags: JobFlags) -> str:
        """Create a job, showing the command that does the same; gives its operation's name."""
        self._show_command("jobs", "create", *flags.words())
        return str(self._client.create_job("", to_job(flags))["name"])

    def _job_of(self, operation: str) -> _Json:
        name = self._client.get(operation)["metadata"]["job"]["name"]
        return self._client.get(str(name))

    def _watch(self, operation: str, *, total: int = TOTAL, until: int | None = None) -> _Json:
        """Show progress until the operation is done, or ``until`` objects are; gives the job."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("  "),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
        )
        deadline = time.monotonic() + JOB_SECONDS
        hidden = not self._out.is_terminal
        with Progress(*columns, console=self._out, transient=True, disable=hidden) as progress:
            bar = progress.add_task("", total=total, state="")
            while time.monotonic() < deadline:
                operation_done = self._client.get(operation)["done"]
                job = self._job_of(operation)
                done = rows.count(job, "succeeded") + rows.count(job, "failed")
                progress.update(bar, completed=done, state=job["state"])
                if operation_done or (until is not None and done >= until):
                    return job
                time.sleep(0.02)
        raise Internal(f"{operation} was not done after {JOB_SECONDS:.0f} seconds.")

    def _tell(
        self, what: str, job: _Json, began: float, state: str = "SUCCEEDED", **expected: Any
    ) -> _Told:
        """Remember a job that has ended; counters that nothing is said of must be 0."""
        if state == "SUCCEEDED":
            expected = {"succeeded": 0, "failed": 0, **expected}
        told = _Told(
            what=what,
            name=job["name"],
            seconds=time.monotonic() - began,
            expected={"state": state, **expected},
        )
        self._told.append(told)
        return told

    def _check(self, told: _Told, what: str, figure: str, seen: int) -> None:
        """Compare what the API counts with what is to be seen in the bucket."""
        counted = rows.count(self._client.get(told.name), figure)
        expected = told.expected[figure]
        right = counted == seen == expected
        told.checks.append(right)
        sign = "[bold green]✓[/]" if right else f"[bold red]✗ expected {expected:,}:[/]"
        self._out.print(
            f"   {sign} {what}: the API says [bold]{counted:,}[/], the bucket [bold]{seen:,}[/]"
        )

    def _count(
        self, bucket: str, column: str = "live", wanted: Callable[[Any], bool] = bool
    ) -> int:
        """How many objects of a bucket have such a value in a column, read from the store."""
        import asyncio

        from longshore.store import Stores

        async def count() -> int:
            stores = Stores(self._settings)
            try:
                pages = stores.for_bucket(bucket).list_objects(bucket, columns=(column,))
                return sum([sum(map(wanted, page.columns[column])) async for page in pages])
            finally:
                await stores.close()

        return asyncio.run(count())

    def _end(self) -> int:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        from longshore.cli.output import STATE_STYLES

        table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
        for heading in ("job", "state", "total", "succeeded", "failed", "seconds", "agrees"):
            side: Literal["left", "right"] = "left" if heading in {"job", "state"} else "right"
            table.add_column(heading, justify=side, no_wrap=True)
        all_right = True
        for told in self._told:
            job = self._client.get(told.name)
            counters = {name: rows.count(job, name) for name in ("total", "succeeded", "failed")}
            read = {"state": job["state"], **counters}
            right = all(told.checks) and told.expected.items() <= read.items()
            all_right = all_right and right
            figures = [f"{figure:,}" for figure in counters.values()]
            agrees = "[green]yes[/]" if right else "[bold red]NO[/]"
            state = f"[{STATE_STYLES[job['state']]}]{job['state']}[/]"
            table.add_row(told.what, state, *figures, f"{told.seconds:.1f}", agrees)
        self._title("What the API remembers")
        self._out.print(table)
        if not all_right:
            self._out.print("[bold red]Some figure is wrong: this is a bug of longshore.[/]")
            return 1
        seconds = time.monotonic() - self._began
        self._out.print(f"[bold green]Every figure is right.[/] ({seconds:.0f} seconds)")
        self._out.print(_NEXT.format(longshore=_program()), soft_wrap=True)
        return 0


def _program() -> str:
    """What to type for this very ``longshore``."""
    path = Path(sys.executable).with_name("longshore")
    found = shutil.which("longshore")
    if not path.exists() or (found and path.samefile(found)):
        return "longshore"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


_NEXT = """
To go on by yourself:

   [cyan]{longshore} serve[/]   [dim]# keeps its data in ./longshore-data[/]

and in another terminal:

   [cyan]{longshore} buckets create my-bucket[/]
   [cyan]{longshore} objects import DIRECTORY my-bucket[/]
   [cyan]{longshore} jobs create --help[/]
   [cyan]{longshore} jobs list[/]"""

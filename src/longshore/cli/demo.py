"""``longshore demo``: the whole story in half a minute, with every figure checked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from longshore.errors import Error, Internal, Unavailable

if TYPE_CHECKING:
    from rich.console import Console

    from longshore.cli.client import Client

EXAMPLE = "Example: [bold]longshore demo[/]"

FILES = {"logs": 12_000, "photos": 6_000, "legal": 2_000}
TOTAL = sum(FILES.values())
RATE = 5_000
START_SECONDS = 15.0
JOB_SECONDS = 60.0
_Json = Mapping[str, Any]


def demo(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            metavar="DIR",
            help="Work here and leave it behind. Default: a temporary one.",
        ),
    ] = None,
) -> int:
    """Start a service, import 20,000 objects, and change them in bulk while you watch.

    Every figure is read from the API and, independently, from the bucket itself. The exit status
    is 1 if any of them is not what it must be.
    """
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        return _Demo(directory).run()
    with tempfile.TemporaryDirectory(prefix="longshore-demo-") as temporary:
        return _Demo(Path(temporary)).run()


@dataclass(slots=True, kw_only=True)
class _Told:
    """A job of the story, for the table at the end."""

    what: str
    job: _Json
    seconds: float
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
        self._final: dict[str, _Json] = {}
        self._chapter = 0
        port = _free_port()
        self._config = directory / "longshore.toml"
        # The second store is capped, or its jobs would be over before anybody saw them.
        self._config.write_text(
            f'data_dir = "{directory}/data"\n'
            f'[rest]\nlisten = "127.0.0.1:{port}"\n'
            f'[stores.slow]\nkind = "local"\nbuckets = ["pier"]\n'
            f'directory = "{directory}/slow"\nmax_objects_per_second = {RATE}\n'
        )
        self._settings = load(self._config, {}, {})
        self._client: Client = Client(f"http://127.0.0.1:{port}", "local")
        self._service = _Service(self._config, directory / "serve.log", self._client)
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
            self._final = {one.what: self._client.get(one.job["name"]) for one in self._told}
        except Error as error:
            self._out.print(f"[bold red]The demo stopped:[/] {error.message}")
            self._out.print(self._service.log(), style="dim", markup=False)
            return 1
        finally:
            self._service.kill()
            self._client.close()
        return self._end()

    def _load(self) -> None:
        self._title("A service, and 20,000 small files in a bucket")
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
        what = {"dryRun": True, "deleteObject": {}}
        told = self._job("dry run of a delete", "harbour", what, "--delete-object --dry-run")
        self._check(told, "would be deleted", "total", self._count("harbour"), TOTAL)

    def _hold(self) -> None:
        self._title("A hold on everything under legal/")
        what = {"putObjectHold": {"temporaryHold": "SET"}}
        told = self._job("hold", "harbour", what, "--put-object-temporary-hold", "legal/")
        held = self._count("harbour", "temporary_hold")
        self._check(told, "held", "succeeded", held, FILES["legal"])

    def _metadata(self) -> None:
        self._title("New metadata for everything under photos/")
        what = {"putMetadata": {"cacheControl": "max-age=3600", "customMetadata": {"by": "demo"}}}
        flags = "--put-metadata=Cache-Control=max-age=3600,by=demo"
        told = self._job("metadata", "harbour", what, flags, "photos/")
        changed = self._count("harbour", "cache_control", "max-age=3600".__eq__)
        self._check(told, "changed", "succeeded", changed, FILES["photos"])

    def _delete(self) -> None:
        self._title("Delete everything: what is held is refused, the rest goes")
        told = self._job("delete", "harbour", {"deleteObject": {}}, "--delete-object")
        left = self._count("harbour")
        self._check(told, "deleted", "succeeded", TOTAL - left, TOTAL - FILES["legal"])
        self._check(told, "refused", "failed", left, FILES["legal"])
        summary = told.job["errorSummaries"][0]
        entry = summary["errorLogEntries"][0]
        self._say(f"{summary['errorCode']} {entry['objectUri']}", style="yellow")
        self._say(entry["errorDetails"][0], style="yellow")

    def _cancel(self) -> None:
        self._title(f"A job cancelled while it runs (this bucket is capped at {RATE:,} a second)")
        what = {"putMetadata": {"contentType": "text/x-cargo"}}
        began = time.monotonic()
        operation = self._create("pier", what, "--put-metadata=Content-Type=text/x-cargo")
        self._watch(operation, until=TOTAL // 4)
        self._say("$ longshore operations cancel OPERATION", style="cyan")
        asked = time.monotonic()
        self._client.cancel(operation)
        job = self._watch(operation)
        took = time.monotonic() - asked
        error = self._client.get(operation)["error"]
        self._say(
            f"{job['state']} after {took:.2f} s; its operation ends with code {error['code']}"
        )
        told = self._tell("metadata, cancelled", job, time.monotonic() - began)
        time.sleep(0.5)  # long enough for ten more batches, if anything still ran
        again = _figure(self._client.get(str(job["name"])), "succeeded")
        changed = self._count("pier", "content_type", "text/x-cargo".__eq__)
        self._check(told, "changed, and no more since", "succeeded", changed, again)
        told.checks.append(0 < changed < TOTAL and job["state"] == "CANCELED" and took < 1)

    def _crash(self) -> None:
        self._title("The service killed by SIGKILL in the middle of a delete, twice")
        began = time.monotonic()
        operation = self._create("pier", {"deleteObject": {}}, "--delete-object")
        for part in (0.25, 0.6):
            self._watch(operation, until=int(TOTAL * part))
            counted = _figure(self._job_of(operation), "succeeded")
            self._service.kill()
            self._say(f"$ kill -9, with {counted:,} of {TOTAL:,} counted", style="bold red")
            seconds = self._service.start()
            self._say(f"started again, answering after {seconds:.1f} s; the job goes on by itself")
        job = self._watch(operation)
        told = self._tell("delete, 2 kills", job, time.monotonic() - began)
        left = self._count("pier")
        self._check(told, "deleted", "succeeded", TOTAL - left, TOTAL)
        self._check(told, "failed", "failed", left, 0)

    def _title(self, text: str) -> None:
        self._chapter += 1
        self._out.print()
        self._out.print(f"[bold cyan]{self._chapter}[/]  [bold]{text}[/]")

    def _say(self, text: str, style: str = "dim") -> None:
        self._out.print(f"   {text}", style=style, markup=False, soft_wrap=True)

    def _command(self, *words: str) -> float:
        """Run a command of longshore as a person would; gives the seconds it took."""
        self._say(f"$ longshore {' '.join(words)}", style="cyan")
        began = time.monotonic()
        command = [sys.executable, "-m", "longshore", *words, "--config", str(self._config)]
        ended = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, env=_environment()
        )
        if ended.returncode:
            raise Internal(f"`longshore {' '.join(words)}` failed: {ended.stderr.strip()}")
        return time.monotonic() - began

    def _job(self, told: str, bucket: str, what: _Json, flags: str, prefix: str = "") -> _Told:
        """Create a job and watch it to its end."""
        began = time.monotonic()
        expected = FILES.get(prefix.rstrip("/"), TOTAL)
        job = self._watch(self._create(bucket, what, flags, prefix), expected=expected)
        return self._tell(told, job, time.monotonic() - began)

    def _create(self, bucket: str, what: _Json, flags: str, prefix: str = "") -> str:
        """Create a job, showing the command that would; gives its operation's name."""
        source = f"--bucket={bucket} --included-object-prefixes={prefix}"
        self._say(f"$ longshore jobs create {source} {flags}", style="cyan")
        chosen = {"prefixList": {"includedObjectPrefixes": [prefix]}}
        body = {"bucketList": {"buckets": [{"bucket": bucket, **chosen}]}, **what}
        return str(self._client.create_job("", body)["name"])

    def _job_of(self, operation: str) -> _Json:
        name = self._client.get(operation)["metadata"]["job"]["name"]
        return self._client.get(str(name))

    def _watch(self, operation: str, *, expected: int = TOTAL, until: int | None = None) -> _Json:
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
            bar = progress.add_task("", total=expected, state="")
            while time.monotonic() < deadline:
                operation_done = self._client.get(operation)["done"]
                job = self._job_of(operation)
                done = _figure(job, "succeeded") + _figure(job, "failed")
                progress.update(bar, completed=done, state=job["state"])
                if operation_done or (until is not None and done >= until):
                    return job
                time.sleep(0.02)
        raise Internal(f"{operation} was not done after {JOB_SECONDS:.0f} seconds.")

    def _tell(self, what: str, job: _Json, seconds: float) -> _Told:
        told = _Told(what=what, job=job, seconds=seconds)
        self._told.append(told)
        return told

    def _check(self, told: _Told, what: str, figure: str, seen: int, expected: int) -> None:
        """Compare what the API counted with what is to be seen in the bucket."""
        counted = _figure(told.job, figure)
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
        for told in self._told:
            job = self._final[told.what]
            figures = [f"{_figure(job, name):,}" for name in ("total", "succeeded", "failed")]
            agrees = "[green]yes[/]" if all(told.checks) else "[bold red]NO[/]"
            state = f"[{STATE_STYLES[job['state']]}]{job['state']}[/]"
            table.add_row(told.what, state, *figures, f"{told.seconds:.1f}", agrees)
        self._title("What the API remembers")
        self._out.print(table)
        right = all(all(told.checks) for told in self._told)
        seconds = time.monotonic() - self._began
        if right:
            self._out.print(f"[bold green]Every figure is right.[/] ({seconds:.0f} seconds)")
            self._out.print(_NEXT, soft_wrap=True)
        else:
            self._out.print("[bold red]Some figure is wrong: this is a bug of longshore.[/]")
        return 0 if right else 1


_NEXT = """
To go on by yourself:

   [cyan]longshore serve[/]   [dim]# keeps its data in ./longshore-data[/]
   [cyan]longshore buckets create my-bucket[/]
   [cyan]longshore objects import DIRECTORY my-bucket[/]
   [cyan]longshore jobs create --bucket=my-bucket --included-object-prefixes= --delete-object[/]
   [cyan]longshore jobs list[/]"""


class _Service:
    """``longshore serve`` as a process that can be killed and started again."""

    def __init__(self, config: Path, log: Path, client: Client) -> None:
        self._command = [sys.executable, "-m", "longshore", "serve", "--config", str(config)]
        self._log = log
        self._client = client
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it, and wait until it answers; gives the seconds that took."""
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                self._command, stdout=log, stderr=log, env=_environment()
            )
        while time.monotonic() - began < START_SECONDS:
            if self._process.poll() is not None:
                break
            try:
                list(self._client.list("jobs"))
            except Unavailable:
                time.sleep(0.02)
            else:
                return time.monotonic() - began
        raise Unavailable("The service did not start.")

    def kill(self) -> None:
        """SIGKILL; its workers die with it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def log(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self._log.read_text().splitlines()[-20:]) if self._log.exists() else ""


def _environment() -> dict[str, str]:
    """This process's environment without settings of longshore: the demo has its own."""
    return {key: text for key, text in os.environ.items() if not key.startswith("LONGSHORE_")}


def _figure(job: _Json, name: str) -> int:
    """``total``, ``succeeded`` or ``failed`` of a job's counters."""
    return int(job.get("counters", {}).get(f"{name}ObjectCount", 0))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

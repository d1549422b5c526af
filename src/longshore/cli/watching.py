"""Following a job to its end: ``jobs watch``, ``jobs create --wait``, ``operations wait``.

On a terminal a picture that is drawn again and again; in a pipe a line now and then.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from longshore.cli import output, rows
from longshore.cli.output import Row
from longshore.errors import BY_CODE, Code, Unavailable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

FIRST_POLL_SECONDS = 0.05
POLL_SECONDS = 0.5
LINE_SECONDS = 2.0
RATE_SECONDS = 3.0
PATIENCE_SECONDS = 60.0
"""How long a server that has answered before may be silent: jobs live on when it is restarted."""

Show = Callable[[Row, float], None]


def follow(read_job: Callable[[], Row], *, quiet: bool = False) -> Row:
    """The job once it has ended; until then its progress is shown, unless ``quiet``.

    Raises Unavailable if the server has not answered for PATIENCE_SECONDS, or never.
    """
    job = read_job()
    rate = _Rate()
    pause = FIRST_POLL_SECONDS
    heard = time.monotonic()
    with _display(quiet) as show:
        while True:
            show(job, rate.of(job))
            if job["state"] in rows.ENDED:
                return job
            time.sleep(pause)
            pause = min(pause * 1.5, POLL_SECONDS)
            try:
                job = read_job()
                heard = time.monotonic()
            except Unavailable:
                if time.monotonic() - heard > PATIENCE_SECONDS:
                    raise


def raise_error(operation: Row) -> None:
    """Raises the errors.Error that the operation ended with, if it did: why its job FAILED."""
    error = operation.get("error")
    if error:
        raise BY_CODE[Code(error["code"])](error.get("message", ""))


class _Rate:
    """Objects per second: of the last seconds while a job runs, over all when it has ended."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def of(self, job: Row) -> float:
        """The rate, now that the job looks like this."""
        done = rows.count(job, "succeeded") + rows.count(job, "failed")
        if job["state"] in rows.ENDED:
            return done / max(rows.elapsed_seconds(job), 0.001)
        now = time.monotonic()
        self._samples.append((now, done))
        while now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        began, before = self._samples[0]
        return (done - before) / max(now - began, 0.001)


@contextmanager
def _display(quiet: bool) -> Iterator[Show]:
    if quiet:
        yield lambda job, rate: None
    elif not sys.stdout.isatty():
        yield _Lines().show
    else:
        from rich.live import Live

        with Live(console=output.console(), auto_refresh=False) as live:
            yield lambda job, rate: live.update(_picture(job, rate), refresh=True)


class _Lines:
    """One line for each new state, and every few seconds while something moves."""

    def __init__(self) -> None:
        self._state = ""
        self._counters: Row = {}
        self._next = 0.0

    def show(self, job: Row, rate: float) -> None:
        """Write a line if it is time for one."""
        now = time.monotonic()
        moved = job.get("counters") != self._counters and now >= self._next
        if job["state"] == self._state and not moved:
            return
        self._state, self._counters = job["state"], job.get("counters", {})
        self._next = now + LINE_SECONDS
        counts = " ".join(
            f"{name}={rows.count(job, name)}" for name in ("total", "succeeded", "failed")
        )
        line = f"{rows.identifier(job)} {job['state']} {counts} rate={rate:.0f}/s"
        line += f" elapsed={rows.elapsed_seconds(job):.1f}s"
        errors = job.get("errorSummaries", ())
        if errors:
            codes = (f"{error['errorCode']}:{error['errorCount']}" for error in errors)
            line += f" errors={','.join(codes)}"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _picture(job: Row, rate: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    picture = Table.grid(padding=(0, 2))
    picture.add_column(style="dim", no_wrap=True)
    picture.add_column(overflow="fold")
    for label, value in _facts(job, rate):
        picture.add_row(label, value if isinstance(value, Text) else Text(output.printable(value)))
    for error in job.get("errorSummaries", ()):
        number = output.number(error["errorCount"])
        picture.add_row("", Text.assemble((error["errorCode"], "yellow"), f" {number}"))
        for entry in error.get("errorLogEntries", ())[:1]:
            why = " ".join((f"{entry['objectUri']}:", *entry.get("errorDetails", ())))
            picture.add_row("", Text(output.printable(why), style="dim"))
    return picture


def _facts(job: Row, rate: float) -> Iterator[tuple[str, Text | str]]:
    from rich.text import Text

    yield "job", Text(rows.identifier(job), style="bold")
    yield "state", Text(job["state"], style=output.STATE_STYLES.get(job["state"], ""))
    yield "does", rows.transformation(job)
    yield "in", f"{rows.buckets(job)}: {rows.source(job)}"
    yield "found", output.number(rows.count(job, "total"))
    if job.get("dryRun"):
        yield "bytes", output.size(job.get("counters", {}).get("totalBytesFound"))
    else:
        yield "succeeded", output.number(rows.count(job, "succeeded"))
        failed = rows.count(job, "failed")
        yield "failed", Text(output.number(failed), style="bold red" if failed else "")
        yield "rate", f"{rate:,.0f}/s"
    yield "elapsed", rows.duration(rows.elapsed_seconds(job))

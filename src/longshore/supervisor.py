"""Workers as processes of this machine, kept alive by the one that started them.

A worker is ``python -m MODULE``, the module that knows where its shards come from: a fresh
interpreter that imports neither Google's types nor the command line (40 MB rather than 75). It
inherits the lock on the data directory and dies with its parent: by PDEATHSIG on Linux, elsewhere
when the pipe to its standard input ends.

It is handed its settings over that pipe, and over the one from its standard output it sends a
heartbeat from its event loop: a frame of JSON with what it has measured since the one before. Where
logs of objects go to standard output, it inherits its parent's besides, and uses nothing else then.
"""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import pickle
import signal
import struct
import sys
import threading
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import orjson
from sqlalchemy import Connection

from longshore import data_dir, telemetry
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database, leases
from longshore.engine.lease_watch import LeaseWatch
from longshore.engine.log_output import STANDARD_OUTPUT
from longshore.errors import Unavailable
from longshore.runner import Duties, nothing_else
from longshore.settings import STDOUT, Settings
from longshore.telemetry import Numbers, Series

HEARTBEAT_SECONDS = 0.5
START_SECONDS = 60.0
"""How long a worker may take until its first heartbeat; it has no lease before."""
MIN_PATIENCE_SECONDS = 3.0
"""How long an event loop may stand still where leases are short: it does while it imports."""
DRAIN_SECONDS = 4.0
"""How long a worker may take to hand its shards back; the whole service ends within 5 s."""
_WATCH_SECONDS = 1.0
_MAX_BACK_OFF_SECONDS = 10.0
_LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8


class _Child:
    """A worker's process, as its supervisor sees it."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.ready = False
        self.silent_looks = 0
        self.hung = False

    def kill(self, **why: object) -> None:
        """End a worker that hangs, by the signal that also ends a stopped process."""
        if not self.hung and self.process.returncode is None:
            self.hung = True
            telemetry.warning("worker hangs", worker=self.name, pid=self.process.pid, **why)
            with suppress(ProcessLookupError):
                self.process.kill()

    def epitaph(self) -> str:
        """How it ended."""
        code = self.process.returncode or 0
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


class Supervisor:
    """Keeps ``settings.workers`` processes, from when it is run; a ``runner.Runner``."""

    def __init__(
        self,
        module: str,
        settings: Settings,
        database: Database,
        lock_fd: int,
        *,
        judges_leases: bool = True,
    ) -> None:
        """``module``: what a worker's process runs. ``judges_leases``: whether this ends leases
        that have stood still, of whatever worker; one process for each database does."""
        self._module = module
        self._judges_leases = judges_leases
        self._settings = settings
        self._database = database
        self._lock_fd = lock_fd
        self._place = data_dir.identity(settings.data_dir)
        self._children: dict[str, _Child] = {}
        self._totals = telemetry.Totals()
        self._leases = LeaseWatch(SYSTEM_CLOCK, settings.lease_seconds)

    def ready(self) -> bool:
        """Whether every worker has begun to look for shards."""
        ready = sum(child.ready for child in self._children.values())
        return ready == self._settings.workers

    def measured(self) -> Mapping[Series, Numbers]:
        """What this process and all workers, the dead included, have measured together."""
        return self._totals.now()

    async def run(self, stop: asyncio.Event, alone: Duties = nothing_else) -> None:
        """Keep the workers running until ``stop`` is set, then have them hand back their shards."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._settings.workers):
                group.create_task(self._keep(number, stop))
            group.create_task(self._watch_hearts(stop))
            if self._judges_leases:
                group.create_task(self._watch_leases(stop))
            group.create_task(alone(stop))

    async def _keep(self, number: int, stop: asyncio.Event) -> None:
        """Run one worker after the other, with growing pauses while they die young."""
        deaths = 0
        while not stop.is_set():
            name = f"{self._place}/worker-{number}-{uuid.uuid4().hex[:12]}"
            began = SYSTEM_CLOCK.monotonic()
            child = await self._run_one(name, stop)
            if stop.is_set():
                return
            lived = SYSTEM_CLOCK.monotonic() - began
            deaths = 0 if lived > 2 * _MAX_BACK_OFF_SECONDS else deaths + 1
            pause = min(_MAX_BACK_OFF_SECONDS, 0.1 * 2 ** (deaths - 1)) if deaths else 0.0
            telemetry.count_worker_death("hung" if child.hung else "died")
            telemetry.warning(
                "worker died",
                worker=name,
                pid=child.process.pid,
                of=child.epitaph(),
                lived_seconds=round(lived, 1),
                restart_seconds=pause,
            )
            await SYSTEM_CLOCK.wait(stop, pause)

    async def _run_one(self, name: str, stop: asyncio.Event) -> _Child:
        with _output(self._settings) as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=(self._lock_fd, output) if output else (self._lock_fd,),
            )
        child = self._children[name] = _Child(name, process)
        try:
            await self._hand_over(child, output)
            telemetry.count_worker_start()
            telemetry.event("worker started", worker=name, pid=process.pid)
            ended = asyncio.create_task(self._follow(child))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not ended.done():
                await _drain(child, ended)
            return child
        finally:
            if process.returncode is None:
                child.kill(why="it did not end in time")
                await process.wait()
            del self._children[name]
            self._totals.bury(name)
            # Reaped, and only now: nothing of this worker can reach a store any more. A service
            # that is to stop leaves the rest to the next one, and has ended the worker itself.
            end = leases.release if stop.is_set() else leases.bury
            while not await self._release(name, end) and not stop.is_set():
                await SYSTEM_CLOCK.wait(stop, _WATCH_SECONDS)

    async def _release(self, name: str, end: Callable[[Connection, str], int]) -> bool:
        """End the leases of a dead worker; False: the database is down."""
        try:
            await self._database.write(end, name)
        except Unavailable as error:
            telemetry.warning("database failed", while_releasing=name, why=error)
            return False
        return True

    async def _follow(self, child: _Child) -> None:
        """Take in heartbeats until the worker has died."""
        if child.process.stdout is not None:
            with suppress(asyncio.IncompleteReadError):  # it died, perhaps in mid-sentence
                while True:
                    changes = orjson.loads(await _frame(child.process.stdout))
                    self._totals.update(child.name, changes)
                    child.silent_looks = 0
                    child.ready = True
        await child.process.wait()

    async def _hand_over(self, child: _Child, output: int | None) -> None:
        data = pickle.dumps((child.name, os.getpid(), self._settings, output))
        if child.process.stdin is not None:
            with suppress(ConnectionError):  # it died at once; following it tells
                child.process.stdin.write(_LENGTH.pack(len(data)) + data)
                await child.process.stdin.drain()

    async def _watch_hearts(self, stop: asyncio.Event) -> None:
        """End workers whose event loop stands still, long before their leases could run out unless
        these are very short.

        Silence is counted in looks of ours rather than by a clock: if it was this process that
        stood still, nobody is taken for hung.
        """
        sending = self._settings.lease_seconds - self._settings.call_seconds
        patience = max(MIN_PATIENCE_SECONDS, sending / 2)
        while not await SYSTEM_CLOCK.wait(stop, HEARTBEAT_SECONDS):
            for child in self._children.values():
                child.silent_looks += 1
                silent = child.silent_looks * HEARTBEAT_SECONDS
                if silent > (patience if child.ready else START_SECONDS):
                    child.kill(why=f"no heartbeat for {silent:g} s")

    async def _watch_leases(self, stop: asyncio.Event) -> None:
        """End workers whose heart beats, but one of whose leases has stood still for all its time.

        Judged here alone, by one monotonic clock. The worker stopped sending well before: its own
        deadline lies a call's timeout earlier.
        """
        while not await SYSTEM_CLOCK.wait(stop, _WATCH_SECONDS):
            try:
                held = await self._database.read(leases.leases)
            except Unavailable as error:
                telemetry.warning("database failed", while_watching="leases", why=error)
                self._leases.forget()
                continue
            for lease in self._leases.expired(held):
                await self._end(lease)

    async def _end(self, lease: leases.Lease) -> None:
        """End the worker that lets a lease stand still; if there is none, end the lease itself.

        PostgreSQL may commit a dead worker's last transaction after its leases were ended, and a
        service elsewhere may have left leases that only time can end.
        """
        child = self._children.get(lease.owner)
        if child is not None:
            child.kill(why=f"the lease on shard {lease.shard} ran out")
        else:
            await self._release(lease.owner, leases.release)


@contextmanager
def _output(settings: Settings) -> Iterator[int | None]:
    """The standard output of this process, for a child to inherit, if logs go there. The child's
    own is the pipe of its heart."""
    if settings.logs.to != STDOUT:
        yield None
        return
    output = os.dup(STANDARD_OUTPUT)
    try:
        yield output
    finally:
        os.close(output)


async def _frame(stream: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    return await stream.readexactly(length)


async def _drain(child: _Child, ended: asyncio.Task[None]) -> None:
    """Have a worker hand back its shards, if it does so in time."""
    with suppress(ProcessLookupError):
        child.process.terminate()
    await asyncio.wait({ended}, timeout=DRAIN_SECONDS)
    if not ended.done():
        child.kill(why=f"it did not hand back its shards within {DRAIN_SECONDS:g} s")
        await ended


class Heart:
    """Sends a frame of what was measured with each beat, from the event loop: when that stands
    still, so does the heart."""

    def __init__(self, output: int) -> None:
        """``output``: the descriptor of a pipe that the supervisor reads."""
        os.set_blocking(output, False)
        self._output = output
        self._unsent = b""

    def start(self) -> None:
        """Beat from now on, for as long as the running event loop runs."""
        self.beat()
        asyncio.get_running_loop().call_later(HEARTBEAT_SECONDS, self.start)

    def beat(self) -> None:
        """Send what has changed, or the rest of the last frame if the supervisor does not read."""
        if not self._unsent:
            frame = orjson.dumps(telemetry.changes())
            self._unsent = _LENGTH.pack(len(frame)) + frame
        with suppress(
            BlockingIOError, BrokenPipeError
        ):  # a dead supervisor is dealt with elsewhere
            while self._unsent:
                self._unsent = self._unsent[os.write(self._output, self._unsent) :]


def be_a_worker(work: Callable[[str, Settings, Heart], Coroutine[Any, Any, None]]) -> None:
    """The body of a worker's process: do ``work``, as the worker of that name."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which drains us
    _keep_one_heap()
    stdin = io.FileIO(0, closefd=False)
    (length,) = _LENGTH.unpack(_read(stdin, _LENGTH.size))
    # From our own parent, over a pipe that nobody else can write to.
    name, parent, settings, output = pickle.loads(_read(stdin, length))  # noqa: S301
    if os.getppid() != parent:
        return  # the parent died before it could be watched
    threading.Thread(target=_exit_at_end, args=(stdin,), daemon=True).start()
    heart = Heart(os.dup(STANDARD_OUTPUT))
    sys.stdout = sys.stderr
    if output is None:
        os.dup2(2, STANDARD_OUTPUT)  # nothing but the heart may write to the supervisor
    else:
        os.dup2(output, STANDARD_OUTPUT)  # and nothing but logs of objects where these go
        os.close(output)
    telemetry.set_up()
    _run(work(name, settings, heart))


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` on an event loop of its own: uvloop's, where that is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _keep_one_heap() -> None:
    """Have all threads share the main heap. glibc would give each its own, which it never returns;
    there is nothing to gain by that where one thread runs Python at a time."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def _read(stdin: io.FileIO, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = stdin.read(size - len(data))
        if not piece:
            raise SystemExit(1)  # the parent died while it spoke
        data += piece
    return bytes(data)


def _exit_at_end(stdin: io.FileIO) -> None:
    # Unbuffered: a lock on a buffer would be in the way of the interpreter's own end.
    while stdin.read(1):
        pass
    os._exit(1)

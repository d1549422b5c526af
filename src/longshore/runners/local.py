"""Workers as processes of this machine, kept alive by the service's own process.

A worker is ``python -m longshore.runners.local``: a fresh interpreter that imports neither Google's
types nor the command line (40 MB rather than 75). It inherits the lock on the data directory and
dies with its parent: by PDEATHSIG on Linux, elsewhere when the pipe to its standard input ends.
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
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from longshore import telemetry
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database, shards
from longshore.database.shards import Lease
from longshore.engine.worker import Worker
from longshore.errors import Error
from longshore.settings import Settings
from longshore.store import Stores

DRAIN_SECONDS = 5.0
_WATCH_SECONDS = 1.0
_MAX_BACK_OFF_SECONDS = 10.0
_LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1


def start(settings: Settings, database: Database, lock_fd: int) -> LocalRunner:
    """A runner that keeps ``settings.workers`` processes; they begin when it is run."""
    return LocalRunner(settings, database, lock_fd)


class LocalRunner:
    """The supervisor of this machine's workers."""

    def __init__(self, settings: Settings, database: Database, lock_fd: int) -> None:
        self._settings = settings
        self._database = database
        self._lock_fd = lock_fd
        self._processes: dict[str, Process] = {}
        self._ready: set[str] = set()
        self._since: dict[Lease, float] = {}  # that a lease was first seen just as it is

    def ready(self) -> bool:
        """Whether every worker has begun to look for shards."""
        return len(self._ready) == self._settings.workers

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the workers running until ``stop`` is set, then have them hand back their shards."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._settings.workers):
                group.create_task(self._keep(number, stop))
            group.create_task(self._watch(stop))

    async def _keep(self, number: int, stop: asyncio.Event) -> None:
        """Run one worker after the other, with growing pauses while they die young."""
        deaths = 0
        while not stop.is_set():
            name = f"worker-{number}-{uuid.uuid4().hex[:12]}"
            began = SYSTEM_CLOCK.monotonic()
            code = await self._run_one(name, stop)
            if stop.is_set():
                return
            lived = SYSTEM_CLOCK.monotonic() - began
            deaths = 0 if lived > 2 * _MAX_BACK_OFF_SECONDS else deaths + 1
            pause = min(_MAX_BACK_OFF_SECONDS, 0.1 * 2 ** (deaths - 1)) if deaths else 0.0
            telemetry.warning("worker died", worker=name, exit=code, restart_seconds=pause)
            await SYSTEM_CLOCK.wait(stop, pause)

    async def _run_one(self, name: str, stop: asyncio.Event) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "longshore.runners.local",
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=(self._lock_fd,),
        )
        try:
            await self._hand_over(process, name)
            self._processes[name] = process
            telemetry.event("worker started", worker=name, pid=process.pid)
            ended = asyncio.create_task(self._wait(process, name))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not ended.done():
                await _end(process)
            return await ended
        finally:
            self._processes.pop(name, None)
            self._ready.discard(name)
            if process.returncode is None:
                process.kill()
                await process.wait()
            # Reaped, and only now: nothing of this worker can reach a store any more.
            await self._release(name)

    async def _release(self, name: str) -> None:
        """End the leases of a dead worker, however long the database takes to answer."""
        while True:
            try:
                await self._database.write(shards.release, name)
            except SQLAlchemyError as error:
                telemetry.warning("database failed", while_releasing=name, why=error)
                await asyncio.sleep(_WATCH_SECONDS)
            else:
                return

    async def _wait(self, process: Process, name: str) -> int:
        """The exit status, in the end; on the way the worker's one sign that it is ready."""
        if process.stdout is not None and await process.stdout.read(1):
            self._ready.add(name)
        return await process.wait()

    async def _hand_over(self, process: Process, name: str) -> None:
        data = pickle.dumps((name, os.getpid(), self._settings))
        if process.stdin is not None:
            with suppress(ConnectionError):  # it died at once; waiting for it tells
                process.stdin.write(_LENGTH.pack(len(data)) + data)
                await process.stdin.drain()

    async def _watch(self, stop: asyncio.Event) -> None:
        """End workers that hang: a lease of theirs has stood still for its whole time.

        Judged here alone, by one monotonic clock. The worker stopped sending well before: its own
        deadline lies a call's timeout earlier.
        """
        while not await SYSTEM_CLOCK.wait(stop, _WATCH_SECONDS):
            try:
                leases = await self._database.read(shards.leases)
            except SQLAlchemyError as error:
                telemetry.warning("database failed", while_watching=len(self._since), why=error)
                continue
            now = SYSTEM_CLOCK.monotonic()
            self._since = {lease: self._since.get(lease, now) for lease in leases}
            for lease, since in self._since.items():
                if now - since > self._settings.lease_seconds:
                    self._kill(lease)

    def _kill(self, lease: Lease) -> None:
        process = self._processes.get(lease.owner)
        if process is not None and process.returncode is None:
            telemetry.warning("worker hangs", worker=lease.owner, pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), DRAIN_SECONDS)


def main() -> None:
    """The body of a worker process."""
    _die_with_parent()
    stdin = io.FileIO(0, closefd=False)
    (length,) = _LENGTH.unpack(_read(stdin, _LENGTH.size))
    # From our own parent, over a pipe that nobody else can write to.
    name, parent, settings = pickle.loads(_read(stdin, length))  # noqa: S301
    if os.getppid() != parent:
        return  # the parent died before it could be watched
    threading.Thread(target=_exit_at_end, args=(stdin,), daemon=True).start()
    telemetry.set_up()
    asyncio.run(_work(name, settings))


async def _work(name: str, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which drains us
    database = Database(settings.database_path)
    stores = Stores(settings)
    os.write(1, b".")  # ready
    try:
        await Worker(name, settings, database, stores, SYSTEM_CLOCK).run(stop)
    except Error as error:
        telemetry.warning("worker ends", worker=name, why=error)
        raise SystemExit(1) from error
    finally:
        await stores.close()
        await database.close()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


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


if __name__ == "__main__":
    main()

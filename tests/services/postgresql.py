"""A PostgreSQL of the tests' own: made in a temporary directory, started, broken, stopped."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

OLDEST = 15
_databases = itertools.count(1)


def binaries() -> Path | None:
    """The directory of the newest PostgreSQL that is new enough; Debian keeps them off the PATH."""
    found: dict[int, Path] = {}
    places = [*Path("/usr/lib/postgresql").glob("*/bin")]
    on_path = shutil.which("postgres")
    if on_path:
        places.append(Path(on_path).resolve().parent)
    for place in places:
        if (place / "initdb").exists():
            told = subprocess.run(
                [place / "postgres", "--version"], capture_output=True, text=True, check=True
            )
            version = re.search(r"(\d+)", told.stdout)
            assert version is not None, told.stdout
            found[int(version[1])] = place
    newest = max(found, default=0)
    return found[newest] if newest >= OLDEST else None


class Postgresql:
    """A server on a free port of 127.0.0.1 that trusts whoever comes."""

    def __init__(self, bin_dir: Path) -> None:
        self._bin = bin_dir
        self.directory = Path(tempfile.mkdtemp(prefix="longshore-pg-"))
        # It refuses to run as root, and trusts only its own user's files.
        self._as = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(self.directory, "nobody")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        # A collation that orders names unlike their bytes, to find who relies on the database's.
        collation = ("--locale-provider=icu", "--icu-locale=en")
        self._run(
            "initdb", "--auth=trust", "--username=longshore", "--encoding=UTF8", *collation, "-N"
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as, self._bin / program, "-D", self.directory / "data", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.directory,
            timeout=60,
        )

    def start(self) -> None:
        # fsync only matters to machines that lose power.
        options = f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-o", options, "-l", str(self.directory / "log"))

    def stop(self, mode: str = "fast") -> None:
        """``mode``: "fast" ends every connection, "immediate" is as good as a crash."""
        self._run("pg_ctl", "stop", "-w", "-m", mode)

    def suspend(self) -> None:
        """SIGSTOP for all of its processes."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, number)

    def close(self) -> None:
        if (self.directory / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        # Hundreds of databases are a hundred thousand files, for which nobody waits.
        os.posix_spawnp("rm", ["rm", "-rf", "--", str(self.directory)], os.environ)

    def url(self, database: str, port: int | None = None) -> str:
        return f"postgresql://longshore@127.0.0.1:{port or self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"longshore_{next(_databases)}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def ask(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running() -> Iterator[Postgresql | None]:
    """A running server; None where none is installed."""
    bin_dir = binaries()
    if bin_dir is None:
        yield None
        return
    server = Postgresql(bin_dir)
    try:
        server.start()
        yield server
    finally:
        server.close()

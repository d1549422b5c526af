"""S3 servers that get things wrong, each in a process of its own on a free port of 127.0.0.1.

moto enforces object locks and ignores some conditions. rclone takes every request that it does not
know for a plain PUT, and so replaces an object's bytes. s3rver answers with errors of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.services import npm

S3RVER = Path(__file__).parent / "s3rver"
PATIENCE_SECONDS = 60.0


class S3Server(NamedTuple):
    """Where it is, and the one account that it has."""

    endpoint: str
    access_key: str
    secret_key: str


@contextmanager
def moto(directory: Path) -> Iterator[S3Server]:
    """moto's, with buckets in its memory; any keys will do."""
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, directory, port):
        yield S3Server(f"http://127.0.0.1:{port}", "test", "testsecret")


@contextmanager
def rclone(directory: Path) -> Iterator[S3Server]:
    """rclone's, with buckets as folders below ``directory``; it checks signatures."""
    port, buckets = _free_port(), directory / "buckets"
    buckets.mkdir()
    command = [
        *(str(Path(sys.executable).with_name("rclone")), "--config=", "serve", "s3", str(buckets)),
        *(f"--addr=127.0.0.1:{port}", "--auth-key=test,testsecret"),
    ]
    with _running(command, directory, port):
        yield S3Server(f"http://127.0.0.1:{port}", "test", "testsecret")


@contextmanager
def s3rver(directory: Path, cache: Path) -> Iterator[S3Server]:
    """s3rver, whose packages npm keeps in ``cache``."""
    port, buckets = _free_port(), directory / "buckets"
    buckets.mkdir()
    program = npm.installed(S3RVER, cache) / "s3rver" / "bin" / "s3rver.js"
    command = [
        *("node", str(program), "--directory", str(buckets)),
        *("--address", "127.0.0.1", "--port", str(port)),
    ]
    with _running(command, directory, port):
        yield S3Server(f"http://127.0.0.1:{port}", "S3RVER", "S3RVER")


@contextmanager
def _running(command: list[str], directory: Path, port: int) -> Iterator[None]:
    # Where the kernel can do that, nothing survives tests that are killed.
    dies = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*dies, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1"},
        )
    try:
        _wait(process, port, log)
        yield
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it answers, whatever it answers."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None, f"It has ended:\n{log.read_text(errors='replace')}"
        assert time.monotonic() < end, f"No answer:\n{log.read_text(errors='replace')}"
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            except urllib.error.HTTPError as refused:
                refused.close()
            return
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

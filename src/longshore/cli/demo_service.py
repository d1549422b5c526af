"""The service of the demo: a process that can be killed and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from longshore.errors import Unavailable

if TYPE_CHECKING:
    from longshore.cli.client import Client

START_SECONDS = 60.0
STOP_SECONDS = 30.0
"""Limits for a machine in trouble; a second is usual."""


def write_settings(directory: Path, slow_bucket: str, rate: float) -> Path:
    """A settings file for a service on a free port; the store of ``slow_bucket`` is capped."""
    path = directory / "longshore.toml"
    data, slow = (
        json.dumps(str(directory / name), ensure_ascii=False) for name in ("data", "slow")
    )
    path.write_text(
        f"data_dir = {data}\n"
        f'[rest]\nlisten = "127.0.0.1:{_free_port()}"\n'
        '[grpc]\nlisten = "127.0.0.1:0"\n'
        f'[stores.slow]\nkind = "local"\nbuckets = ["{slow_bucket}"]\n'
        f"directory = {slow}\nmax_objects_per_second = {rate}\n"
    )
    return path


def environment() -> dict[str, str]:
    """This process's environment without settings of longshore: the demo has its own."""
    return {key: text for key, text in os.environ.items() if not key.startswith("LONGSHORE_")}


class DemoService:
    """``longshore serve`` with the settings in ``config``, writing to ``log``."""

    def __init__(self, config: Path, log: Path, client: Client) -> None:
        self._command = [sys.executable, "-m", "longshore", "serve", "--config", str(config)]
        self._log = log
        self._client = client
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it, and wait until it answers; gives the seconds that took.

        Raises Unavailable if it ends instead, or does not answer for START_SECONDS.
        """
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                stdout=log,
                stderr=log,
                env=environment(),
                process_group=0,  # Ctrl-C is for the demo, which then ends the service in peace
            )
        while time.monotonic() - began < START_SECONDS and self._process.poll() is None:
            try:
                list(self._client.list("jobs"))
            except Unavailable:
                time.sleep(0.02)
            else:
                return time.monotonic() - began
        raise Unavailable("The service did not start.")

    def kill(self) -> None:
        """SIGKILL; its workers die with it."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it in peace, its workers too, so that nobody writes to its directory any more."""
        try:
            self._signal(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(STOP_SECONDS)

    def log(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self._log.read_text().splitlines()[-20:]) if self._log.exists() else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

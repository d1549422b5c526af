"""Stores that are no directory of this machine: how each machine reaches one, and what its journal
says that they have asked of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import httpx

from longshore.settings import StoreSettings
from tests.cluster.harbour import FOLDERS, START_SECONDS, Program
from tests.cluster.leases import Sent
from tests.service import free_port

FIRST_ADDRESS = 10
"""Machine 0 asks the emulator at 127.0.0.10, machine 1 at 127.0.0.11, …."""


class Elsewhere(Protocol):
    """A store with one bucket."""

    name: str
    bucket: str

    def settings(self, machine: int | None = None) -> StoreSettings:
        """How a machine reaches it; None: the tests themselves."""

    def taken(self) -> list[Sent]:
        """What has changed objects since this was last asked. Returns once nothing that was sent
        before can come any more."""


class Emulated:
    """Our own Cloud Storage, tests/cluster/remote.py."""

    name, bucket = "remote", "r"

    def __init__(self, port: int) -> None:
        self._port = port

    def settings(self, machine: int | None = None) -> StoreSettings:
        options = {"endpoint": self._url(machine or 0), "anonymous": True}
        return StoreSettings(name=self.name, kind="gs", buckets=(self.bucket,), options=options)

    def _url(self, machine: int) -> str:
        return f"http://127.0.0.{FIRST_ADDRESS + machine}:{self._port}"

    def taken(self) -> list[Sent]:
        calls = httpx.post(f"{self._url(0)}/journal", timeout=60).json()
        return [
            Sent(came, int(address.rpartition(".")[2]) - FIRST_ADDRESS, names, came)
            for came, address, names in calls
        ]


@contextmanager
def emulated(directory: Path, objects: int) -> Iterator[Emulated]:
    """A running one with so many objects in its bucket."""
    port = free_port()
    command = [sys.executable, "-m", "tests.cluster.remote", str(port), Emulated.bucket]
    log = directory / "remote.log"
    program = Program("remote", [*command, str(objects), str(FOLDERS)], log, {})
    program.start()
    deadline = time.monotonic() + 2 * START_SECONDS
    store = Emulated(port)
    try:
        while True:
            try:
                store.taken()
                break
            except httpx.TransportError:
                assert program.running(), program.log()
                assert time.monotonic() < deadline, "the remote store does not begin"
                time.sleep(0.1)
        yield store
    finally:
        program.close()

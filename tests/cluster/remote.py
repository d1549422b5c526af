"""A service of objects that keeps a journal of what it was asked to change, when, and by whom.

    python -m tests.cluster.remote PORT BUCKET OBJECTS FOLDERS

It is the emulator, on all addresses of this machine: who asks is told by the address that was asked
(machine 0 asks 127.0.0.10, machine 1 asks 127.0.0.11, …). ``POST /journal`` gives the lines since
it was last asked: the time, the address, and the objects that a request was about.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from longshore.api.server import make_server
from longshore.clock import SYSTEM_CLOCK
from longshore.emulator.app import EmulatorApp
from longshore.emulator.control import Clock, Control
from longshore.emulator.faults import Faults
from longshore.emulator.verbs import Backend
from longshore.store import Bucket, NewObject
from longshore.stores.memory import MemoryStore

ANY = "0.0.0.0"
CHANGING = ("PATCH ", "DELETE ", "POST ")


class Journal:
    """An ASGI app before another one."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lines: list[tuple[float, str, list[str]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/journal":
            lines, self._lines = self._lines, []
            body = orjson.dumps(lines)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
            return
        came, about = time.time(), bytearray(f"{scope['method']} {scope['path']}".encode())

        async def overheard() -> Any:
            message = await receive()
            about.extend(b"\n" + message.get("body", b""))
            return message

        try:
            await self._app(scope, overheard, send)
        finally:
            if names := _changed(about.decode()):
                self._lines.append((came, scope["server"][0], names))


def _changed(about: str) -> list[str]:
    """The objects that the lines of a request are about which change one."""
    return [
        line.split(" ")[1].partition("/o/")[2].partition("?")[0].replace("%2F", "/")
        for line in about.splitlines()
        if line.startswith(CHANGING) and "/o/" in line
    ]


async def _serve(port: int, bucket: str, objects: int, folders: int) -> None:
    async def nothing_else(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope["path"])

    async def forget_jobs() -> None:
        raise AssertionError

    store = MemoryStore(SYSTEM_CLOCK)
    await store.create_bucket(Bucket(name=bucket, create_time_us=0))
    new = (
        NewObject(name=f"d/{number % folders}/{number:07d}", content=b"cargo")
        for number in range(objects)
    )
    await store.write_objects(bucket, new)
    control = Control(clock=Clock(), faults=Faults(), forget_jobs=forget_jobs)
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        backend = Backend(store=store, clock=SYSTEM_CLOCK, folder=Path(folder))
        app = Journal(EmulatorApp(backend, nothing_else, control))
        await make_server(app, ANY, port).serve()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))

"""The emulator for tests: as a context, and as a fixture of pytest.

pytest finds the fixture ``longshore_emulator`` by itself where longshore is installed;
docs/emulator.md shows how both are used.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from longshore.emulator.service import Options

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A running emulator.

    ``url``: of REST, without a slash at its end; ``grpc``: HOST:PORT; ``environment``: the
    variables that lead clients here.
    """

    url: str
    grpc: str
    environment: Mapping[str, str]

    def reset(self) -> None:
        """Forget buckets with all that is held in them, jobs, uploads and faults; the clock is the
        machine's again."""
        with closing(HTTPConnection(self.url.removeprefix("http://"), timeout=60)) as connection:
            connection.request("POST", "/_emulator/reset")
            reply = connection.getresponse()
            if reply.status != HTTPStatus.NO_CONTENT:
                raise RuntimeError(f"The emulator was not reset: {reply.read().decode()}")


@contextmanager
def emulator(
    data: Path | None = None,
    seed: Path | None = None,
    *,
    max_objects_per_second: float | None = None,
) -> Iterator[Emulator]:
    """An emulator in a thread of this process, on free ports of 127.0.0.1; in memory, or in the
    directory ``data``; with what the file ``seed`` describes. All jobs together do no more than
    ``max_objects_per_second``. It ends with the ``with``."""
    from longshore.emulator.service import Options

    options = Options(
        port=0,
        grpc_port=0,
        data=data,
        seed=seed,
        max_objects_per_second=max_objects_per_second,
    )
    running = _Thread(options)
    running.start()
    try:
        yield running.told()
    finally:
        running.stop()


@pytest.fixture(scope="session")
def longshore_emulator() -> Iterator[Emulator]:
    """An emulator in memory, one for all tests of a session."""
    with emulator() as running:
        yield running


class _Thread(threading.Thread):
    """The thread with the event loop of an emulator, so that clients that block can call it."""

    def __init__(self, options: Options) -> None:
        super().__init__(name="longshore-emulator", daemon=True)
        self._options = options
        self._news: SimpleQueue[Emulator | BaseException] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    def run(self) -> None:
        """Run until ``stop``."""
        try:
            asyncio.run(self._run())
        except BaseException as error:  # whoever waits for the start is told
            self._news.put(error)

    async def _run(self) -> None:
        from longshore.emulator import service

        self._loop = asyncio.get_running_loop()
        async with service.running(self._options) as ports:
            host = self._options.host
            self._news.put(
                Emulator(
                    url=f"http://{host}:{ports.rest}",
                    grpc=f"{host}:{ports.grpc}",
                    environment=service.environment(host, ports),
                )
            )
            await self._ended.wait()

    def told(self) -> Emulator:
        """Where it listens; raises what kept it from starting."""
        news = self._news.get(timeout=START_SECONDS)
        if isinstance(news, BaseException):
            raise news
        return news

    def stop(self) -> None:
        """End it; raises what it has failed with."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended already, and its loop is closed
                self._loop.call_soon_threadsafe(self._ended.set)
        self.join()
        if not self._news.empty():
            news = self._news.get()
            if isinstance(news, BaseException):
                raise news

"""The real API on a real socket and a real database, once per session.

It runs in a thread with a loop of its own, so that blocking clients (Google's, gcloud) can call it.
Tests keep apart by their project, and simulate the engine's progress with SQL.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from sqlalchemy import Connection, func, select, update

from longshore import telemetry
from longshore.api.auth import Auth
from longshore.api.certificates import Certificates
from longshore.api.methods import Methods
from longshore.api.rest import App
from longshore.api.server import RestServer, make_server
from longshore.database import Database
from longshore.database.rollup import counters_of_bucket_operations, fold, lock_job, roll_up
from longshore.database.tables import bucket_operations, jobs, shards
from longshore.metrics import MetricsPage
from longshore.model import Errors, dump_errors

START_US = 1_788_220_800_123_456  # 2026-09-01T00:00:00.123456Z
_projects = itertools.count(1)


class Clock:
    """Stands still until told otherwise; waiting takes no time but moves the monotonic clock."""

    def __init__(self) -> None:
        self.time_us = START_US
        self.while_waiting: Callable[[], Awaitable[None]] | None = None
        self._monotonic = 0.0

    def now_us(self) -> int:
        return self.time_us

    def monotonic(self) -> float:
        return self._monotonic

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        self._monotonic += seconds
        if self.while_waiting is not None:
            await self.while_waiting()
        return event.is_set()


@dataclass(slots=True, kw_only=True)
class Heard:
    """A request as it arrived; ``path`` and ``query`` as they were escaped."""

    verb: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytearray = field(default_factory=bytearray)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True)

    def __str__(self) -> str:
        return f"{self.verb} {self.path}" + (f"?{self.query}" if self.query else "")


class ListeningApp(App):
    """The app, which keeps what clients send while somebody listens."""

    heard: list[Heard] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.heard is None:
            return await super().__call__(scope, receive, send)
        one = Heard(
            verb=scope["method"],
            path=scope["raw_path"].decode(),
            query=scope["query_string"].decode(),
            headers={name.decode(): value.decode() for name, value in scope["headers"]},
        )
        self.heard.append(one)

        async def received() -> Any:
            message = await receive()
            one.body += message.get("body", b"")
            return message

        return await super().__call__(scope, received, send)


class Server:
    """The running API, and what a test may do behind its back."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        auth: Auth | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.parts = {"workers": True}
        metrics = MetricsPage(database, clock, telemetry.Totals().now)
        self.methods = Methods(database, clock, auth)
        self._app = ListeningApp(self.methods, database, self._ready, metrics)
        self.rest: RestServer = make_server(self._app, "127.0.0.1", 0, certificates)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest.port}"

    def start(self) -> None:
        self._thread.start()
        self.do(self.database.create())

    def stop(self) -> None:
        self.rest.should_exit = True
        self._thread.join()

    @contextmanager
    def listening(self) -> Iterator[list[Heard]]:
        """The requests that arrive within, over REST."""
        heard: list[Heard] = []
        self._app.heard = heard
        yield heard
        self._app.heard = None

    def do(self, work: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    def write(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.do(self.database.write(function, *args, **kwargs))

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        await self.rest.serve()
        await self.database.close()

    async def _ready(self) -> Mapping[str, bool]:
        return self.parts


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str | None]
) -> Iterator[Server]:
    where = new_database() or tmp_path_factory.mktemp("api") / "longshore.sqlite"
    running = Server(Database(where), Clock())
    running.start()
    yield running
    running.stop()


@pytest.fixture
def clock(server: Server) -> Iterator[Clock]:
    yield server.clock
    server.clock.time_us = START_US
    server.clock.while_waiting = None


@pytest.fixture(scope="session")
def rest(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


class Project:
    """One project of the server: what its user does over REST and the engine by SQL."""

    def __init__(self, server: Server, rest: httpx.Client) -> None:
        self.id = f"project-{next(_projects)}"
        self.parent = f"projects/{self.id}/locations/global"
        self._server = server
        self._rest = rest

    def job_name(self, job_id: str) -> str:
        return f"{self.parent}/jobs/{job_id}"

    def call(self, verb: str, path: str, **options: Any) -> httpx.Response:
        """``path`` is relative to the parent if it begins with "/", else a resource's name."""
        url = f"/v1/{self.parent}{path}" if path.startswith("/") else f"/v1/{path}"
        return self._rest.request(verb, url, **options)

    def ok(self, verb: str, path: str, **options: Any) -> Any:
        response = self.call(verb, path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def error(self, verb: str, path: str, **options: Any) -> dict[str, Any]:
        response = self.call(verb, path, **options)
        assert response.status_code >= 400, response.text
        error: dict[str, Any] = response.json()["error"]
        assert error["code"] == response.status_code
        return error

    def create(self, job_id: str, job: Mapping[str, Any] | None = None, **params: str) -> Any:
        params = {"jobId": job_id, **params}
        return self.ok("POST", "/jobs", params=params, json=job or delete_job())

    def run(
        self, job_id: str, *, counters: Mapping[str, int], errors: Errors | None = None
    ) -> None:
        """As the engine does: the job's shards run and have counted ``counters`` each."""
        self._server.write(_run, self.id, job_id, counters, errors or {}, START_US + 1)

    def finish(
        self, job_id: str, state: str = "SUCCEEDED", code: str | None = None, message: str = ""
    ) -> None:
        """As the engine does: the job's shards end."""
        error = {"error_code": code, "error_message": message} if code else {}
        self._server.write(_finish, self.id, job_id, state, error, START_US + 2_000_000)

    def finisher(self, job_id: str, state: str) -> Callable[[], Awaitable[None]]:
        """The same for the server's own loop, while it waits; does it once."""
        database = self._server.database
        todo = [(self.id, job_id, state, {}, START_US + 2_000_000)]

        async def finish() -> None:
            if todo:
                await database.write(_finish, *todo.pop())

        return finish

    def rows(self) -> int:
        """How many jobs the database has of this project, deleted ones included."""
        count = select(func.count()).select_from(jobs).where(jobs.c.project == self.id)
        return int(self._server.write(lambda connection: connection.execute(count).scalar_one()))


@pytest.fixture
def project(server: Server, rest: httpx.Client) -> Project:
    return Project(server, rest)


def delete_job(*buckets: str) -> dict[str, Any]:
    """The body of a plain job."""
    chosen = [
        {"bucket": name, "prefixList": {"includedObjectPrefixes": ["tmp/"]}}
        for name in buckets or ("bucket-1",)
    ]
    return {"bucketList": {"buckets": chosen}, "deleteObject": {}}


def details(error: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The error's details by the last part of their type."""
    return {one["@type"].rpartition(".")[2]: one for one in error.get("details", [])}


def _row_id(connection: Connection, project: str, job_id: str) -> int:
    mine = select(jobs.c.id).where(
        jobs.c.project == project, jobs.c.job_id == job_id, jobs.c.job_delete_us.is_(None)
    )
    return int(connection.execute(mine).scalar_one())


def _run(
    connection: Connection,
    project: str,
    job_id: str,
    counters: Mapping[str, int],
    errors: Errors,
    now_us: int,
) -> None:
    job = _row_id(connection, project, job_id)
    open_jobs = update(jobs).where(jobs.c.id == job)
    connection.execute(open_jobs.values(state="RUNNING", schedule_us=now_us))
    parts = update(bucket_operations).where(bucket_operations.c.job == job)
    connection.execute(parts.values(state="RUNNING", start_us=now_us))
    connection.execute(
        update(shards)
        .where(shards.c.job == job)
        .values(state="RUNNING", owner="worker", errors=dump_errors(errors), **counters)
    )


def _finish(
    connection: Connection,
    project: str,
    job_id: str,
    state: str,
    error: Mapping[str, str],
    now_us: int,
) -> None:
    job = _row_id(connection, project, job_id)
    lock_job(connection, job)
    parts = select(bucket_operations.c.id).where(bucket_operations.c.job == job)
    ids = connection.scalars(parts).all()
    for part, totals in counters_of_bucket_operations(connection, ids).items():
        fold(connection, part, totals)
    ended = update(shards).where(shards.c.job == job)
    connection.execute(ended.values(state=state, owner=None, **error))
    roll_up(connection, job, now_us)

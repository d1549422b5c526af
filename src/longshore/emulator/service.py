"""The emulator as a process: options become a running service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml
from sqlalchemy import Connection

from longshore import app, extensions, telemetry
from longshore.api.auth import Auth
from longshore.api.grpc_server import GrpcServer
from longshore.api.methods import Methods
from longshore.api.rest import App
from longshore.api.server import make_server
from longshore.data_dir import DataDirLock
from longshore.database import Database, tables
from longshore.embedded import OneAtATime
from longshore.emulator.app import EmulatorApp
from longshore.emulator.control import Clock, Control, sow
from longshore.emulator.faults import Faults
from longshore.emulator.refusals import Lacking, Refused
from longshore.emulator.verbs import Backend
from longshore.emulator.worker import InProcess
from longshore.errors import InvalidArgument
from longshore.housekeeping import end_what_is_old, record_ends
from longshore.metrics import MetricsPage
from longshore.settings import AuthSettings, ListenSettings, Settings, StoreSettings
from longshore.store import Store, Stores

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only a folder of our own in it is used
_STORE = "local"
_ARRIVING = "arriving"
_PROJECT = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where the emulator listens, and where it keeps everything; ``data`` None: in memory, and
    nowhere once it ends. Port 0 is a free one. ``seed``: a file, YAML or JSON, with buckets and
    objects to begin with; see ``control.sow``. ``serve_anyone``: ``host`` may be an address that
    others can reach. ``max_objects_per_second``: no more are done by all jobs together."""

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int = 8081
    data: Path | None = None
    seed: Path | None = None
    serve_anyone: bool = False
    max_objects_per_second: float | None = None


class Ports(NamedTuple):
    """Where it does listen."""

    rest: int
    grpc: int


class OneStore(Stores):
    """One store for every bucket, which front end and worker share."""

    def __init__(self, settings: Settings, store: Store) -> None:
        super().__init__(settings)
        self._store = store

    def open(self, name: str) -> Store:
        """The store."""
        return self._store


def run(options: Options) -> int:
    """Run the emulator until SIGTERM or SIGINT; gives the exit status.

    Raises FailedPrecondition where another service has the data directory or a port.
    """
    telemetry.set_up()
    return asyncio.run(_run(options))


async def _run(options: Options) -> int:
    stop = asyncio.Event()
    async with running(options) as ports:
        app.stop_by_signals(stop)
        sys.stdout.write(welcome(options, ports))
        sys.stdout.flush()
        await stop.wait()
        telemetry.event("stopping")
    return 0


def environment(host: str, ports: Ports) -> Mapping[str, str]:
    """The variables that lead clients to the emulator; docs/emulator.md says which one reads
    which."""
    url = _url(host, ports)
    return {
        "STORAGE_EMULATOR_HOST": url,
        "GOOGLE_CLOUD_PROJECT": _PROJECT,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{url}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGEBATCHOPERATIONS": f"{url}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": _PROJECT,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "LONGSHORE_SERVER": url,
    }


def _url(host: str, ports: Ports) -> str:
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{ports.rest}"  # noqa: S104


_WELCOME = """\
# Cloud Storage, and batch operations on what is in it: {url}
# Batch operations by gRPC: {host}:{grpc}
# Buckets, objects and jobs are kept {kept}.
#
# Paste this into another shell:

{exports}

# Then these need no account, no key and no other setting:
#
#   gcloud   gcloud storage buckets create gs://cargo
#            gcloud storage batch-operations jobs list
#   Python   storage.Client()
#   Node     new Storage()
#   Go       storage.NewClient(ctx, storage.WithJSONReads())
#   Java     StorageOptions.newBuilder().setHost(System.getenv("STORAGE_EMULATOR_HOST"))
#                .setCredentials(NoCredentials.getInstance()).build().getService()
#
# The rest is in docs/emulator.md: gcsfs, rclone, pytest, faults, what is missing.
# Ctrl-C ends it.
"""


def welcome(options: Options, ports: Ports) -> str:
    """What is printed once it listens: lines for a shell, and for who reads them."""
    variables = environment(options.host, ports)
    return _WELCOME.format(
        url=_url(options.host, ports),
        host=options.host,
        grpc=ports.grpc,
        kept="in memory, until it ends" if options.data is None else f"in {options.data}",
        exports="\n".join(f"export {name}={value}" for name, value in variables.items()),
    )


@asynccontextmanager
async def running(options: Options) -> AsyncIterator[Ports]:
    """A running emulator; it has ended when this has."""
    with _home(options.data) as home:
        settings = Settings(
            data_dir=home,
            workers=1,
            auth=AuthSettings(dangerously_serve_anyone=options.serve_anyone),
            rest=ListenSettings(listen=f"{options.host}:{options.port}"),
            grpc=ListenSettings(listen=f"{options.host}:{options.grpc_port}"),
            stores={
                _STORE: StoreSettings(
                    name=_STORE,
                    kind="memory" if options.data is None else "local",
                    max_objects_per_second=options.max_objects_per_second,
                )
            },
        )
        app.require_authentication(settings)
        lock = DataDirLock(home)
        database = Database.open(settings, patience_seconds=app.PATIENCE_SECONDS)
        try:
            async with _serving(settings, database, options.seed) as ports:
                yield ports
        finally:
            await database.close()
            lock.close()


@contextlib.contextmanager
def _home(data: Path | None) -> Iterator[Path]:
    """Where the jobs are, and what is arriving: of an emulator in memory that ends with it."""
    if data is not None:
        yield data
        return
    folder = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="longshore-emulator-", dir=folder) as home:
        yield Path(home)


@asynccontextmanager
async def _serving(
    settings: Settings, database: Database, seed: Path | None
) -> AsyncIterator[Ports]:
    await app.take_over(settings, database)
    clock = Clock()
    module = extensions.load("stores", settings.stores[_STORE].kind)
    store: OneAtATime = module.open_store(settings.stores[_STORE], settings.data_dir, clock)
    try:
        folder = settings.data_dir / _ARRIVING
        folder.mkdir(exist_ok=True)
        for left in folder.iterdir():  # by an emulator that was killed
            left.unlink()
        backend = Backend(store=store, clock=clock, folder=folder)
        if seed is not None:
            await _sow(backend, seed)
        async with _listening(settings, database, backend, clock) as ports:
            yield ports
    finally:
        await store.close()


@asynccontextmanager
async def _listening(
    settings: Settings, database: Database, backend: Backend, clock: Clock
) -> AsyncIterator[Ports]:
    runner = InProcess(settings, database, OneStore(settings, backend.store), clock)
    methods = Methods(database, clock, Auth.fixed(settings, clock))

    async def ready() -> Mapping[str, bool]:
        return {"workers": runner.ready()}

    async def forget_jobs() -> None:
        await database.write(_forget_jobs)

    control = Control(clock=clock, faults=Faults(), forget_jobs=forget_jobs)
    metrics = MetricsPage(database, clock, runner.measured)
    both = EmulatorApp(backend, App(methods, database, ready, metrics), control)
    with app.listening(settings.rest, "--port"):
        server = make_server(both, *settings.rest.address)
    grpc = GrpcServer(methods, *settings.grpc.address, None)
    with app.listening(settings.grpc, "--grpc-port"):
        await asyncio.to_thread(grpc.start)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(runner.run(stop))
        group.create_task(app.sweep_logs(settings, database, stop))
        group.create_task(end_what_is_old(settings.retention, database, clock, stop))
        group.create_task(record_ends(database, clock, stop))
        group.create_task(server.serve())
        group.create_task(grpc.run(stop))
        try:
            yield Ports(server.port, grpc.port)
        finally:
            stop.set()
            server.should_exit = True


async def _sow(backend: Backend, seed: Path) -> None:
    """Raises InvalidArgument for what is no seed."""
    try:
        loaded = yaml.safe_load(await asyncio.to_thread(seed.read_bytes))
        await sow(backend, {} if loaded is None else loaded)
    except (Refused, Lacking, yaml.YAMLError) as error:
        raise InvalidArgument(f"{seed} is no seed: {error}") from error


def _forget_jobs(connection: Connection) -> None:
    """Remove every row of the database but the secrets, which page tokens of clients hang on. A
    worker that carries one of the jobs finds its lease gone."""
    for table in reversed(tables.metadata.sorted_tables):
        if table is not tables.keys:
            connection.execute(table.delete())

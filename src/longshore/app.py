"""The composition root: settings become a running service."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from longshore import extensions, telemetry
from longshore.api.auth import Auth
from longshore.api.certificates import Certificates
from longshore.api.grpc_server import GrpcServer
from longshore.api.methods import Methods
from longshore.api.rest import App, Pages
from longshore.api.server import RestServer, make_server
from longshore.clock import SYSTEM_CLOCK
from longshore.data_dir import DataDirLock, identity
from longshore.database import Database, jobs, leases, schema
from longshore.database.service_lock import ServiceLock
from longshore.engine import log_files
from longshore.errors import FailedPrecondition, Unavailable
from longshore.housekeeping import end_what_is_old, record_ends
from longshore.metrics import MetricsPage, page_of
from longshore.runner import Nobody, Runner
from longshore.settings import ListenSettings, Settings
from longshore.store import Stores

LOCAL, NONE = "local", "none"
PATIENCE_SECONDS = 5.0
"""How long a request waits for a database that is down before it fails with UNAVAILABLE."""
_SWEEP_SECONDS = 5.0
_ALONE_SECONDS = 1.0


def serve(read: Callable[[], Settings], file: Path | None) -> int:
    """Run the service until SIGTERM or SIGINT; gives the exit status.

    The settings are those that ``read`` gives, who may do what again whenever ``file`` changes.
    Raises FailedPrecondition where another service has the data directory or a port, and for an
    address that others can reach if there is no authentication. Raises the error of a store, of
    certificates or of rules whose settings are wrong.
    """
    settings = read()
    telemetry.set_up()
    require_authentication(settings)
    auth = Auth.of(settings, SYSTEM_CLOCK, file=file, read=read)
    lock = DataDirLock(settings.data_dir)
    try:
        return asyncio.run(_serve(settings, lock, auth))
    finally:
        lock.close()


async def _serve(settings: Settings, lock: DataDirLock, auth: Auth) -> int:
    await _try_stores(settings)
    certificates = Certificates.of(settings.tls)
    alone = _service_lock(settings)
    database = Database.open(settings, patience_seconds=PATIENCE_SECONDS)
    try:
        released = await take_over(settings, database)
        runner = _runner(settings, database, lock.fd)

        async def ready() -> Mapping[str, bool]:
            return {"workers": runner.ready()}

        async def duties(over: asyncio.Event) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(end_what_is_old(settings.retention, database, SYSTEM_CLOCK, over))
                group.create_task(record_ends(database, SYSTEM_CLOCK, over))

        metrics = MetricsPage(database, SYSTEM_CLOCK, runner.measured)
        methods = Methods(database, SYSTEM_CLOCK, auth)
        app = App(methods, database, ready, metrics)
        with listening(settings.rest, "--listen"):
            server = make_server(app, *settings.rest.address, certificates)
        grpc = GrpcServer(methods, *settings.grpc.address, certificates)
        with listening(settings.grpc, "--grpc-listen"):
            await asyncio.to_thread(grpc.start)
        stop = asyncio.Event()
        stop_by_signals(stop)
        telemetry.event(
            "serving",
            rest=f"{'https' if certificates else 'http'}://{settings.rest.at(server.port)}",
            grpc=settings.grpc.at(grpc.port),
            taken_over=released,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(runner.run(stop, duties))
            group.create_task(sweep_logs(settings, database, stop))
            group.create_task(server.serve())
            group.create_task(grpc.run(stop))
            if alone is not None:
                group.create_task(_stay_alone(alone, stop))
            await stop.wait()
            telemetry.event("stopping")
            server.should_exit = True
    finally:
        await database.close()
        if alone is not None:
            alone.close()
    return 0


def work(settings: Settings) -> int:
    """Keep workers of a cluster on this machine until SIGTERM or SIGINT; gives the exit status.

    Raises FailedPrecondition where the runner has no workers of its own, or another process has the
    data directory or the port of the metrics, and for an address of these that others can reach if
    there is no authentication; what the database and the stores raise.
    """
    telemetry.set_up()
    if settings.metrics.listen:
        _require_authentication(settings, "metrics", settings.metrics)
    lock = DataDirLock(settings.data_dir)
    try:
        return asyncio.run(_work(settings, lock))
    finally:
        lock.close()


async def _work(settings: Settings, lock: DataDirLock) -> int:
    await _try_stores(settings)
    shared = _service_lock(settings, "longshore worker")
    database = Database.open(settings, patience_seconds=PATIENCE_SECONDS)
    try:
        runner = _workers(settings, database, lock.fd)
        pages = _pages(settings, database, runner)
        await take_over(settings, database)
        stop = asyncio.Event()
        stop_by_signals(stop)
        async with asyncio.TaskGroup() as group:
            group.create_task(runner.run(stop))
            group.create_task(sweep_logs(settings, database, stop))
            if shared is not None:
                group.create_task(_stay_alone(shared, stop))
            if pages is not None:
                group.create_task(pages.serve())
                await stop.wait()
                pages.should_exit = True
    finally:
        await database.close()
        if shared is not None:
            shared.close()
    return 0


def _workers(settings: Settings, database: Database, lock_fd: int) -> Runner:
    module = None if settings.runner == NONE else extensions.load("runners", settings.runner)
    workers = getattr(module, "workers", None)
    if workers is None:
        raise FailedPrecondition(
            f"runner is {settings.runner!r}, which knows no workers of other machines: set"
            ' runner = "dask", and what [dask] needs.'
        )
    runner: Runner = workers(settings, database, lock_fd)
    return runner


def _pages(settings: Settings, database: Database, runner: Runner) -> RestServer | None:
    """What serves the metrics of a machine's workers, to whom a service would show its own; None:
    nobody has asked for it."""
    listen = settings.metrics
    if not listen.listen:
        return None

    async def ready() -> Mapping[str, bool]:
        return {"workers": runner.ready()}

    async def metrics() -> bytes:
        return page_of(runner.measured())

    methods = Methods(database, SYSTEM_CLOCK, Auth.fixed(settings, SYSTEM_CLOCK))
    certificates = Certificates.of(settings.tls)
    with listening(listen, "--metrics-listen"):
        server = make_server(
            Pages(methods, database, ready, metrics), *listen.address, certificates
        )
    scheme = "https" if certificates else "http"
    telemetry.event("serving", metrics=f"{scheme}://{listen.at(server.port)}/metrics")
    return server


def _service_lock(settings: Settings, name: str = "longshore serve") -> ServiceLock | None:
    if settings.database is None:
        return None
    shared = settings.runner != LOCAL
    return ServiceLock(settings.database, schema.HEAD, shared=shared, name=name, again=schema.check)


def _runner(settings: Settings, database: Database, lock_fd: int) -> Runner:
    if settings.runner == NONE:
        return Nobody()
    started: Runner = extensions.load("runners", settings.runner).start(settings, database, lock_fd)
    return started


async def take_over(settings: Settings, database: Database) -> int:
    """Make the schema ready, and end the leases of workers that are known to be dead: all of them
    in a database that lies in the locked data directory, else those of services in there. What a
    service on another machine has left ends once it has stood still for ``lease_seconds``."""
    if settings.database is None:
        done = await database.write(schema.upgrade)
        if done.before not in (None, done.after):
            telemetry.event("database upgraded", before=done.before, after=done.after)
        return await database.write(leases.release)
    await database.create()
    await database.read(schema.check)
    return await database.write(leases.release, prefix=f"{identity(settings.data_dir)}/")


async def _stay_alone(lock: ServiceLock, stop: asyncio.Event) -> None:
    """Take the lock anew after the database's restart; stop if another service was faster, or the
    schema has left this one behind meanwhile."""
    while not await SYSTEM_CLOCK.wait(stop, _ALONE_SECONDS):
        try:
            ours = await asyncio.to_thread(lock.keep)
        except Unavailable as error:
            telemetry.warning("service lock lost", why=error)
            continue
        except FailedPrecondition as error:
            telemetry.warning("database upgraded", why=error, action="stopping")
            stop.set()
            return
        if not ours:
            telemetry.warning("another service has the database", action="stopping")
            stop.set()


@contextlib.contextmanager
def listening(listen: ListenSettings, flag: str) -> Iterator[None]:
    """Raises FailedPrecondition, naming the ``flag``, where an address cannot be had."""
    try:
        yield
    except OSError as error:
        raise FailedPrecondition(
            f"Cannot listen on {listen.listen}: {error.strerror}. Choose another address"
            f" with {flag}."
        ) from error


def stop_by_signals(stop: asyncio.Event) -> None:
    """Have SIGTERM and SIGINT set ``stop``."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, number, stop)


def _stop(number: int, stop: asyncio.Event) -> None:
    """The first signal drains; the second ends this process just as it would end any other, and
    the workers with it. Whatever happens then is what a crash leaves behind: nothing is lost."""
    if stop.is_set():
        telemetry.warning("stopped at once", signal=signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    stop.set()


async def _try_stores(settings: Settings) -> None:
    """Open every store once: only workers use them, and that is late to hear of a wrong setting."""
    stores = Stores(settings)
    try:
        for name in stores.names():
            stores.open(name)
    finally:
        await stores.close()


async def sweep_logs(settings: Settings, database: Database, stop: asyncio.Event) -> None:
    """Remove the logs of deleted jobs, now and every few seconds."""
    while True:
        try:
            found = await asyncio.to_thread(log_files.shards_with_logs, settings.logs_dir)
            kept = await database.read(jobs.existing_shards, list(found))
            paths = [path for shard, files in found.items() if shard not in kept for path in files]
            await asyncio.to_thread(log_files.remove, paths)
        except (OSError, Unavailable) as error:
            telemetry.warning("logs not swept", directory=settings.logs_dir, why=error)
        if await SYSTEM_CLOCK.wait(stop, _SWEEP_SECONDS):
            return


def require_authentication(settings: Settings) -> None:
    """Raises FailedPrecondition if anybody could reach a listener, and do as they like; warns where
    tokens could be read on their way."""
    for name, listen in (("rest", settings.rest), ("grpc", settings.grpc)):
        _require_authentication(settings, name, listen)


def _require_authentication(settings: Settings, name: str, listen: ListenSettings) -> None:
    if _is_loopback(listen):
        return
    if not settings.auth.on and not settings.auth.dangerously_serve_anyone:
        raise FailedPrecondition(
            f"{name}.listen is {listen.listen!r}, which others can reach, and there is no"
            " authentication: set auth.mode, or listen on 127.0.0.1 and put a proxy that"
            " authenticates in front."
        )
    if settings.auth.on and settings.tls.certificate is None:
        telemetry.warning(
            "tokens can be read on their way",
            listener=f"{name}.listen = {listen.listen!r}",
            action="set [tls], or let only a proxy with TLS reach it",
        )


def _is_loopback(listen: ListenSettings) -> bool:
    host, _ = listen.address
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

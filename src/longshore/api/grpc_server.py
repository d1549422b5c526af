"""The gRPC server: the methods in the published messages, reflection and health.

It has a thread and an event loop of its own, the only one of the process that may use grpc.aio: in
one loop with REST it would get a turn only when that has nothing else to do.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
from grpc_health.v1 import (  # type: ignore[import-untyped]
    health,
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection,
    reflection_pb2,
    reflection_pb2_grpc,
)

from longshore import telemetry
from longshore.api import wire
from longshore.api.bodies import Room
from longshore.api.certificates import Certificates, Loaded
from longshore.api.grpc_call import LARGE_BYTES, MESSAGE_MAX_BYTES, Call, Registrar
from longshore.api.methods import Methods

T = TypeVar("T")

CONNECTIONS = 2000
CALLS_OF_CONNECTION = 100
"""As many as Google's front end takes; more wait in the client."""
CONNECT_SECONDS = 10
IDLE_SECONDS = 300
SHUTDOWN_SECONDS = 3.0
_PORT_PAUSE_SECONDS = 0.01

_OPTIONS = {
    "grpc.max_receive_message_length": MESSAGE_MAX_BYTES,
    "grpc.max_send_message_length": -1,
    "grpc.max_allowed_incoming_connections": CONNECTIONS,
    "grpc.max_concurrent_streams": CALLS_OF_CONNECTION,
    # Else a call counts until the server has forgotten it, of which its client knows nothing: that
    # sends the next one too early, and gets UNAVAILABLE instead of waiting for its turn.
    "grpc.http.overload_protection": 0,
    "grpc.so_reuseport": 0,  # else a second service would share the port in silence
    "grpc.server_handshake_timeout_ms": CONNECT_SECONDS * 1000,
    "grpc.max_connection_idle_ms": IDLE_SECONDS * 1000,
    "grpc.keepalive_time_ms": 60_000,  # notices clients whose machine has vanished
    "grpc.keepalive_timeout_ms": 20_000,
}


class GrpcServer:
    """The server of the methods at ``host``:``port`` (0: a free one, which ``port`` then tells),
    with TLS where there are certificates."""

    def __init__(
        self, methods: Methods, host: str, port: int, certificates: Certificates | None = None
    ) -> None:
        self.port = port
        self._methods = methods
        self._host = host
        self._certificates = certificates
        self._health = health.aio.HealthServicer()
        self._server: Any = None
        self._anew: set[asyncio.Task[None]] = set()
        self.loop = asyncio.new_event_loop()
        """Whatever of grpc.aio this process uses must run here."""
        self._thread = threading.Thread(target=self.loop.run_forever, name="grpc", daemon=True)

    def start(self) -> None:
        """Listen and serve. Raises OSError if the address is taken."""
        try:
            _try_address(self._host, self.port)
            self._thread.start()
            self._do(self._start())
        except BaseException:
            self._end_loop()
            raise

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, and then answer what is under way for a moment more."""
        try:
            await stop.wait()
        finally:
            await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """End what ``start`` began: calls under way get SHUTDOWN_SECONDS to end."""
        self._do(self._stop())
        self._end_loop()

    def _end_loop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
        self.loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def _start(self) -> None:
        self.loop.set_exception_handler(self._failed)
        self._server = await self._started()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A request whose path is no UTF-8 ends the whole server of grpc.aio (1.85), by an error
        that nobody catches: then another one takes over its port."""
        if isinstance(context.get("exception"), UnicodeDecodeError):
            telemetry.warning("gRPC begins anew", why="a request's path was no UTF-8")
            task = loop.create_task(self._begin_anew(self._server))
            self._anew.add(task)
            task.add_done_callback(self._anew.discard)
        else:
            loop.default_exception_handler(context)

    async def _begin_anew(self, ended: Any) -> None:
        while self._server is ended:
            try:
                self._server = await self._started()
            except RuntimeError:  # the other has not yet let go of the port
                await asyncio.sleep(_PORT_PAUSE_SECONDS)
        await ended.stop(SHUTDOWN_SECONDS)

    async def _started(self) -> Any:
        server = grpc.aio.server(options=list(_OPTIONS.items()))
        names = self._add_methods(server)
        others = Registrar(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, others)
        reflected = reflection.aio.ReflectionServicer(
            [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], pool=_reflected_pool()
        )
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, others)
        for name in ["", *names]:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"{host}:{self.port}"
        if self._certificates is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, _credentials(self._certificates))
        await server.start()
        return server

    def _add_methods(self, server: Any) -> list[str]:
        handlers: dict[str, dict[str, Any]] = defaultdict(dict)
        room = Room(LARGE_BYTES)
        for method in wire.methods():
            # Without a deserializer and a serializer: Call does both, in a thread where it must.
            handlers[method.containing_service.full_name][method.name] = (
                grpc.stream_unary_rpc_method_handler(Call(method, self._methods, room).answer)
            )
        for name, service in handlers.items():
            generic = grpc.method_handlers_generic_handler(name, service)
            server.add_generic_rpc_handlers((generic,))
        return list(handlers)

    async def _stop(self) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(SHUTDOWN_SECONDS)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.loop.shutdown_default_executor()


def _credentials(certificates: Certificates) -> Any:
    """Credentials of which each handshake has what the files have then."""

    def configuration(loaded: Loaded) -> Any:
        return grpc.ssl_server_certificate_configuration(
            ((loaded.key, loaded.certificate),), loaded.client_ca
        )

    last = certificates.current()

    def changed() -> Any:
        nonlocal last
        now = certificates.current()
        if now is last:
            return None
        last = now
        return configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        configuration(last), changed, require_client_authentication=last.client_ca is not None
    )


def _try_address(host: str, port: int) -> None:
    """Raises OSError, which says more than grpc's own error, if nobody can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _reflected_pool() -> Any:
    """What reflection tells: the published messages and the services beside them."""
    pool = wire.published_pool()
    for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool

"""Requests over our own HTTP/1.1 connections: a sixth of what aiohttp costs.

A connection carries one request at a time and is kept; the one used last is used next, so that
what is not needed grows old and is closed. No request has a timer: one sweep looks at them all.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections import deque
from functools import cache, partial

from longshore.errors import DeadlineExceeded, Unavailable
from longshore.transport.connection import Connection
from longshore.transport.endpoint import Endpoint, Limits
from longshore.transport.http import Reply, Request, Unreached, head_of
from longshore.transport.tls import Tls

_SWEEPS = 20
"""How many times within the shortest limit it is looked at."""

_TRUSTED_SECONDS = 0.05
"""How long a connection is idle before it is asked whether it has ended."""

_RESOLVED_SECONDS = 30.0


class LeanTransport:
    """A Transport: see http.py. Belongs to the event loop that first sends."""

    def __init__(self, endpoint: Endpoint, *, max_connections: int, limits: Limits) -> None:
        self._endpoint = endpoint
        self._authority = endpoint.authority
        self._limits = limits
        self._free = max_connections
        """How many more connections there may be."""
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._attempts: set[asyncio.Timeout] = set()
        """Those that are connecting."""
        self._waiting: deque[tuple[float, asyncio.Future[Connection | None]]] = deque()
        """Until when, and for a connection; None is leave to make one."""
        self._closed = False
        _keep_blocks()
        self._sweeper: asyncio.TimerHandle | None = None
        self._addresses: list[str] = []
        self._resolved_at = -math.inf
        self._resolving = asyncio.Lock()

    async def send(self, request: Request) -> Reply:
        data = head_of(request, self._authority) + request.body
        now = asyncio.get_running_loop().time()
        deadline = now + self._limits.reply_seconds
        connection = self._from_idle(now) or await self._connection(deadline)
        future = connection.start(data, head_only=request.method == "HEAD", deadline=deadline)
        try:
            return await future
        except BaseException:
            connection.abandon(future)
            raise

    async def close(self) -> None:
        self._closed = True
        for attempt in self._attempts:
            if not attempt.expired():
                attempt.reschedule(0)
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(self._unreached("closed"))
        ending = [*self._open]
        for connection in ending:
            connection.fail(Unavailable(f"{self._endpoint.url}: closed."))
        for connection in ending:
            await connection.ended.wait()
        if self._sweeper is not None:
            self._sweeper.cancel()

    # Which connection.

    def _from_idle(self, now: float) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < _TRUSTED_SECONDS or connection.quiet():
                return connection
            connection.drop()
        return None

    async def _connection(self, deadline: float) -> Connection:
        """A new one, or where there are as many as there may be, the first that is ready."""
        while True:
            if self._closed:
                raise self._unreached("closed")
            if self._free:
                self._free -= 1
                return await self._connect(deadline)
            waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
            self._waiting.append((deadline, waiter))
            self._watch()
            try:
                connection = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    self._hand_on(waiter.result())
                raise
            if connection is None:
                return await self._connect(deadline)
            if connection.alive:
                return connection

    def _hand_on(self, connection: Connection | None) -> None:
        """Give a connection, or leave to make one, to who waits longest, else keep it."""
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self._free += 1
        else:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)

    def _gone(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._hand_on(None)

    # Connecting.

    async def _connect(self, deadline: float) -> Connection:
        """A new connection, for which there is leave."""
        connection = None
        latest = min(deadline, asyncio.get_running_loop().time() + self._limits.connect_seconds)
        attempt = asyncio.timeout_at(latest)
        try:
            async with attempt:
                self._attempts.add(attempt)
                connection = await self._reach(latest)
        except TimeoutError as error:
            how = "closed" if self._closed else "no connection in time"
            raise self._unreached(how) from error
        finally:
            self._attempts.discard(attempt)
            if connection is None:
                self._hand_on(None)
            else:
                self._open.add(connection)
        if self._closed:
            connection.drop()
            raise self._unreached("closed")
        self._watch()
        return connection

    async def _reach(self, latest: float) -> Connection:
        """A connection to the first address that takes one; each has its share of the time."""
        failed: Exception | None = None
        try:
            addresses = await self._resolve()
        except (OSError, UnicodeError) as error:
            raise self._unreached(f"no address of it is found: {error}") from error
        for number, address in enumerate(addresses):
            seconds = (latest - asyncio.get_running_loop().time()) / (len(addresses) - number)
            try:
                async with asyncio.timeout(seconds):
                    return await self._open_to(address)
            except OSError as error:
                failed = error
            self._forget(address)
        raise self._unreached(f"no connection: {failed or 'it has no address'}") from failed

    async def _open_to(self, address: str) -> Connection:
        loop, endpoint = asyncio.get_running_loop(), self._endpoint
        connection = Connection(endpoint.url, self._limits, self._hand_on, self._gone)
        context = endpoint.tls()
        if context is None:
            await loop.create_connection(lambda: connection, address, endpoint.port)
        else:
            make = partial(Tls, context, endpoint.host, connection)
            transport, tls = await loop.create_connection(make, address, endpoint.port)
            try:
                await tls.shaken
            except asyncio.CancelledError:
                transport.abort()
                raise
        if not connection.alive:
            raise ConnectionError("it ended at once")
        return connection

    async def _resolve(self) -> list[str]:
        """The addresses of the host, in turn a different one first."""
        async with self._resolving:
            now = asyncio.get_running_loop().time()
            if not self._addresses or now - self._resolved_at > _RESOLVED_SECONDS:
                found = await asyncio.get_running_loop().getaddrinfo(
                    self._endpoint.host, self._endpoint.port, type=socket.SOCK_STREAM
                )
                self._addresses = [*dict.fromkeys(str(address[0]) for *_, address in found)]
                self._resolved_at = now
            self._addresses = self._addresses[1:] + self._addresses[:1]
            return self._addresses

    def _forget(self, address: str) -> None:
        """Does not answer: not tried again before the host is looked up again."""
        self._addresses = [known for known in self._addresses if known != address]

    # Time.

    def _watch(self) -> None:
        if self._sweeper is None:
            self._sweep()

    def _sweep(self) -> None:
        """End what takes too long, and what nobody needs."""
        loop, limits = asyncio.get_running_loop(), self._limits
        now = loop.time()
        for connection in [*self._open]:
            if connection.busy and connection.deadline < now:
                text = f"{self._endpoint.url}: no whole reply within {limits.reply_seconds:g} s."
                connection.fail(DeadlineExceeded(text))
        for deadline, waiter in self._waiting:
            if deadline < now and not waiter.done():
                waiter.set_exception(self._unreached("no connection was free in time"))
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        while self._idle and now - self._idle[0].idle_since > limits.idle_seconds:
            self._idle[0].drop()
        self._sweeper = None
        if self._open or self._waiting:
            seconds = min(limits.reply_seconds, limits.idle_seconds) / _SWEEPS
            self._sweeper = loop.call_later(seconds, self._sweep)

    def _unreached(self, how: str) -> Unreached:
        return Unreached(f"{self._endpoint.url}: {how}.")


@cache
def _keep_blocks() -> None:
    """Make the allocator keep blocks of up to 1 MiB. asyncio's event loop reads into 256 kB at a
    time, which glibc else takes from the kernel and gives back for every reply; it learns what is
    worth keeping from the largest such block that was ever freed."""
    block = bytearray(1 << 20)
    del block

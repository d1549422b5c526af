"""Requests by aiohttp, for proxies and for servers that our own connections do not suit."""

from __future__ import annotations

import asyncio
import io

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from longshore.errors import DeadlineExceeded, Unavailable
from longshore.transport.endpoint import Endpoint, Limits
from longshore.transport.http import WITH_BODY, Reply, Request, Unreached, head_of

_OURS = ("accept", "accept-encoding", "content-type", "user-agent")
"""Headers that are sent where the request has them, and not made up."""

_STREAMED_BYTES = 1 << 20
"""What aiohttp would rather read as a file."""


class _Request(aiohttp.ClientRequest):
    """A request that refuses a connection on which a server has spoken unasked: aiohttp would take
    what it said for the reply."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is None or conn.protocol.should_close:
            raise aiohttp.ClientConnectionError("the server spoke unasked")
        return await super().send(conn)


class AiohttpTransport:
    """A Transport: see http.py."""

    def __init__(
        self, endpoint: Endpoint, *, max_connections: int, limits: Limits, proxy: str | None
    ) -> None:
        self._endpoint = endpoint
        self._max_connections = max_connections
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None
        self._proxy = proxy
        self._under_way: set[asyncio.Timeout] = set()
        self._closed = False

    async def send(self, request: Request) -> Reply:
        if self._closed:
            raise Unreached(f"{self._endpoint.url}: closed.")
        if self._session is None:
            self._session = self._open()
        limit = asyncio.timeout(self._limits.reply_seconds)
        try:
            async with limit:
                self._under_way.add(limit)
                return await self._exchange(self._session, request)
        except aiohttp.ConnectionTimeoutError as error:
            raise Unreached(f"{self._endpoint.url}: no connection in time.") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreached(f"{self._endpoint.url}: no connection: {error}.") from error
        except TimeoutError as error:
            if self._closed:
                raise self._broken("closed") from error
            seconds = self._limits.reply_seconds
            raise DeadlineExceeded(
                f"{self._endpoint.url}: no whole reply within {seconds:g} s."
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(str(error) or type(error).__name__) from error
        finally:
            self._under_way.discard(limit)

    async def close(self) -> None:
        self._closed = True
        for limit in self._under_way:
            if not limit.expired():
                limit.reschedule(0)
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        """Needs a running event loop, which there need not be when a store is opened."""
        limits = self._limits
        tls = self._endpoint.tls()
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections,
                keepalive_timeout=limits.idle_seconds,
                ssl=True if tls is None else tls,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=limits.connect_seconds,
                ceil_threshold=limits.connect_seconds + 1,  # not rounded up
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_OURS,
            auto_decompress=False,
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            middlewares=(self._once,),
            request_class=_Request,
        )

    async def _exchange(self, session: aiohttp.ClientSession, request: Request) -> Reply:
        method, target, headers, body = request
        head_of(request, self._endpoint.authority)  # only to refuse what can't be sent
        own = [("host", self._endpoint.authority)]
        if not body and method in WITH_BODY:
            own.append(("content-length", "0"))
        async with session.request(
            method,
            URL(self._endpoint.url + target, encoded=True),
            headers=[*own, *headers],
            data=_data(body),
            allow_redirects=False,
            proxy=self._proxy,
        ) as response:
            if response.status < 200:
                response.close()
                raise self._broken("a reply in another protocol")
            received = tuple(
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in response.raw_headers
            )
            pieces, size = [], 0
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > self._limits.body_bytes:
                    response.close()
                    raise self._broken(f"a reply of more than {self._limits.body_bytes} bytes")
                pieces.append(piece)
            return Reply(response.status, received, b"".join(pieces))

    async def _once(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Lets no error through that aiohttp takes for leave to send an idempotent request again:
        a self-copy that comes twice makes two versions."""
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise  # it was not sent even once
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise self._broken(str(error) or "the connection ended") from error

    def _broken(self, how: str) -> Unavailable:
        return Unavailable(f"{self._endpoint.url}: {how}.")


def _data(body: bytes) -> bytes | io.BytesIO | None:
    if len(body) > _STREAMED_BYTES:
        return io.BytesIO(body)
    return body or None

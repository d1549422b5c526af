"""Open the transport of a kind; a kind's module is imported when it is first asked for."""

from __future__ import annotations

from longshore.errors import InvalidArgument
from longshore.stores.s3.endpoint import Endpoint, Limits
from longshore.stores.s3.http import Transport

KINDS = ("lean", "aiohttp")


def open_transport(
    endpoint: Endpoint,
    *,
    kind: str = "lean",
    max_connections: int = 256,
    limits: Limits | None = None,
    proxy: str | None = None,
) -> Transport:
    """A transport to ``endpoint`` by our own connections ("lean") or by "aiohttp", which can
    go through a ``proxy``. It connects when something is sent, and belongs to the event loop that
    first sends. Raises InvalidArgument if ``ca_file`` can't be loaded."""
    limits = limits or Limits()
    endpoint.tls()
    if kind == "lean" and proxy is None:
        from longshore.stores.s3.lean import LeanTransport

        return LeanTransport(endpoint, max_connections=max_connections, limits=limits)
    if kind == "aiohttp":
        from longshore.stores.s3.aiohttp_transport import AiohttpTransport

        return AiohttpTransport(
            endpoint, max_connections=max_connections, limits=limits, proxy=proxy
        )
    if kind in KINDS:
        raise InvalidArgument('The transport "lean" knows no proxy; "aiohttp" does.')
    raise InvalidArgument(f"There is no transport {kind!r}; there are: {', '.join(KINDS)}.")

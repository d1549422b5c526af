"""HTTP/1.1 requests to one server, many at a time, for the stores that are services.

``open_transport`` gives the transport of a kind, whose module is imported when it is first asked
for. The contract of all kinds is in ``http``.
"""

from __future__ import annotations

from longshore.errors import InvalidArgument
from longshore.transport.endpoint import Endpoint, Limits
from longshore.transport.http import Transport

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
        from longshore.transport.lean import LeanTransport

        return LeanTransport(endpoint, max_connections=max_connections, limits=limits)
    if kind == "aiohttp":
        from longshore.transport.aiohttp_transport import AiohttpTransport

        return AiohttpTransport(
            endpoint, max_connections=max_connections, limits=limits, proxy=proxy
        )
    if kind in KINDS:
        raise InvalidArgument('The transport "lean" knows no proxy; "aiohttp" does.')
    raise InvalidArgument(f"There is no transport {kind!r}; there are: {', '.join(KINDS)}.")

"""Where requests go, how its certificate is checked, and what a request may take."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from longshore.errors import InvalidArgument

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server, by scheme, host and port. Certificates are checked against ``ca_file``, else
    against those that the machine trusts."""

    scheme: str
    host: str
    port: int
    ca_file: Path | None = None
    dangerously_skip_tls_verification: bool = False

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        ca_file: Path | None = None,
        dangerously_skip_tls_verification: bool = False,
    ) -> Endpoint:
        """The endpoint of ``https://host[:port]`` or ``http://host[:port]``; raises InvalidArgument
        for any other URL."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme)
        except ValueError as error:
            raise InvalidArgument(f"The endpoint {url!r} is no URL: {error}.") from error
        rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
        if port is None or not parts.hostname or rest:
            raise InvalidArgument(
                f"The endpoint {url!r} is not https://HOST[:PORT] or http://HOST[:PORT]."
            )
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port,
            ca_file=ca_file,
            dangerously_skip_tls_verification=dangerously_skip_tls_verification,
        )

    @property
    def authority(self) -> str:
        """Host and port as the ``host`` header has them, which is also what is signed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}"

    def tls(self) -> ssl.SSLContext | None:
        """The context of TLS, one per process for the same checks; None for http."""
        if self.scheme == "http":
            return None
        return _context(self.ca_file, self.dangerously_skip_tls_verification)


@cache
def _context(ca_file: Path | None, unchecked: bool) -> ssl.SSLContext:
    """Kept, since it takes tens of milliseconds to load what a machine trusts."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(
            f"The certificates of ca_file {str(ca_file)!r} can't be loaded: {error}."
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    if unchecked:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may take. ``reply_seconds`` is from ``send`` to the last byte of the reply,
    waiting and connecting included; with what a timer may be late it stays below the settings'
    ``call_seconds``, after which no call may have an effect."""

    connect_seconds: float = 6.0
    reply_seconds: float = 9.0
    idle_seconds: float = 4.0
    """How long a connection is kept without use: servers commonly close theirs after 5 s or more,
    and a request that meets the close would fail."""
    head_bytes: int = 64 << 10
    body_bytes: int = 16 << 20

    @classmethod
    def within(cls, call_seconds: float) -> Limits:
        """Those of requests that have no effect after so many seconds."""
        return cls(connect_seconds=0.6 * call_seconds, reply_seconds=0.9 * call_seconds)

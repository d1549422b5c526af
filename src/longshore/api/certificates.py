"""The certificates of both transports, read again when their files change."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any, NamedTuple

from longshore import telemetry
from longshore.errors import FailedPrecondition
from longshore.settings import TlsSettings


class Loaded(NamedTuple):
    """What the files had: their bytes, and a context with the same."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


class Certificates:
    """What ``[tls]`` names. Each handshake asks for it; looking at the files costs microseconds.

    Files that do not fit together, as between the replacement of one and the other, are told of
    once, and what was there before stays in use.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Raises FailedPrecondition where a file can't be read or they do not fit together."""
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._lock = threading.Lock()
        self._seen = self._stamps()
        try:
            self._loaded = self._load()
        except OSError as error:
            files = ", ".join(str(file) for file in (certificate, key, client_ca) if file)
            raise FailedPrecondition(f"Cannot use the files of [tls], {files}: {error}.") from error

    @classmethod
    def of(cls, settings: TlsSettings) -> Certificates | None:
        """None where there is to be no TLS."""
        if settings.certificate is not None and settings.key is not None:
            return cls(settings.certificate, settings.key, settings.client_ca)
        if settings != TlsSettings():
            raise FailedPrecondition("[tls] needs both, its certificate and its key.")
        return None

    def current(self) -> Loaded:
        """What the files have now, or had when they last fitted together; never raises."""
        with self._lock:
            stamps = self._stamps()
            if stamps != self._seen:
                self._seen = stamps
                try:
                    self._loaded = self._load()
                except OSError as error:
                    telemetry.warning(
                        "certificate not read", file=self._certificate, kept="the last", why=error
                    )
                else:
                    telemetry.event("certificate read", file=self._certificate)
            return self._loaded

    def context(self) -> ssl.SSLContext:
        """A server's context, each of whose handshakes has what the files have then."""
        context = self._loaded.context
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self.current().context

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        """What changes when a file does."""
        return [_stamp(file) for file in (self._certificate, self._key, self._client_ca) if file]

    def _load(self) -> Loaded:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A session that is resumed would be one with a certificate or a client of before.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(self._certificate, self._key, password="")
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return Loaded(
            self._certificate.read_bytes(),
            self._key.read_bytes(),
            None if self._client_ca is None else self._client_ca.read_bytes(),
            context,
        )


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size

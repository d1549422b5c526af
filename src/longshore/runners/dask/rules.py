"""What must hold of a cluster: its settings, and those of Dask in it."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import dask.config
import yaml
from distributed.security import Security

from longshore import telemetry
from longshore.errors import FailedPrecondition
from longshore.settings import DaskSettings, Settings

RULES: Final = Path(__file__).with_suffix(".yaml")
"""Settings of Dask that this relies on, for the scheduler and the workers."""
FIND_SECONDS: Final = 2.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def apply() -> None:
    """Have Dask follow the rules in this process, and say no more than what needs attention."""
    dask.config.update(dask.config.config, _rules())
    logging.getLogger("distributed").setLevel(logging.WARNING)
    # What it says of connections that fail, with a traceback each, is said by whoever asked.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)


def wanted(address: str) -> Mapping[str, Any]:
    """What the scheduler at ``address`` must be set to, by names with dots."""
    plain = address.startswith("tcp://")
    return {
        name: value
        for name, value in _leaves(_rules())
        if ".worker." not in name and not (plain and name.endswith("require-encryption"))
    }


def _rules() -> Mapping[str, Any]:
    rules: Mapping[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return rules


def _leaves(table: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{above}{key}"
        found += _leaves(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found


def require_cluster(settings: Settings) -> None:
    """Raises FailedPrecondition unless there is a database that a cluster can share, and a
    scheduler that nobody else can use."""
    cluster = settings.dask
    if settings.database is None:
        raise FailedPrecondition(
            'runner = "dask" needs PostgreSQL, which all of the cluster share: set database.'
        )
    scheme, host = _parts(cluster)
    if scheme not in ("tls", "tcp") or not host:
        raise FailedPrecondition(
            f"dask.scheduler is {cluster.scheduler!r}; it must be like"
            ' "tls://scheduler.example:8786".'
        )
    if scheme == "tcp" and host not in _LOOPBACK and not cluster.dangerously_trust_network:
        raise FailedPrecondition(
            f"dask.scheduler is {cluster.scheduler}: without TLS whoever reaches a port of the"
            " cluster runs code in it. Use tls:// with dask.ca, dask.certificate and dask.key."
        )
    if scheme == "tls" and None in (cluster.ca, cluster.certificate, cluster.key):
        raise FailedPrecondition("A tls:// scheduler needs dask.ca, dask.certificate and dask.key.")
    if scheme == "tls" and cluster.key is not None:
        _look_at(cluster.key)


def _look_at(key: Path) -> None:
    """Complain of a key that others can read: with it they run code in all of the cluster. That it
    cannot be read at all is said by whoever reads it."""
    with suppress(OSError):
        mode = key.stat().st_mode
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            telemetry.warning(
                "key open to others", file=key, mode=oct(stat.S_IMODE(mode)), wanted="0o600"
            )


def _parts(cluster: DaskSettings) -> tuple[str, str]:
    scheme, _, place = cluster.scheduler.partition("://")
    return scheme, place.rpartition(":")[0].strip("[]")


async def find(cluster: DaskSettings) -> None:
    """Raises ConnectionError unless somebody listens where the scheduler should be.

    Dask, where it finds nobody, tries again after pauses that double, which soon are longer than a
    scheduler takes to be there again.
    """
    port = cluster.scheduler.rpartition(":")[2]
    try:
        async with asyncio.timeout(FIND_SECONDS):
            _, writer = await asyncio.open_connection(_parts(cluster)[1], port)
    except OSError as error:  # a timeout is one
        raise ConnectionError(f"nobody answers at {cluster.scheduler}: {error}") from error
    writer.close()


def listens_on(cluster: DaskSettings) -> str | None:
    """The address that a worker listens on; None: any, with TLS or where the network is trusted.

    A worker of Dask runs whatever is sent to its port.
    """
    scheme, host = _parts(cluster)
    return host if scheme == "tcp" and not cluster.dangerously_trust_network else None


def security(cluster: DaskSettings) -> Security:
    """With which certificates a process of the cluster talks to the others."""
    files = {}
    encrypted = cluster.scheduler.startswith("tls://")
    if encrypted:
        files["tls_ca_file"] = str(cluster.ca)
        for role in ("client", "worker"):
            files[f"tls_{role}_cert"] = str(cluster.certificate)
            files[f"tls_{role}_key"] = str(cluster.key)
    return Security(require_encryption=encrypted, **files)  # type: ignore[no-untyped-call]

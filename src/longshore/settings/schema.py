"""The schema of the settings: every key, its type and its default."""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from longshore.errors import InvalidArgument

Texts = str | tuple[str, ...]
"""One text or a list of texts; always a tuple once it is read."""
NO_AUTHENTICATION = "none"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
EVERY_PROJECT = "*"
MAX_CALL_SECONDS = 10.0
FILES, STDOUT = "files", "stdout"
_GS = "gs://"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")
_PREFIX_MAX = 256
"""Characters: behind it come a project and a job, and an object's name has 1,024 bytes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """Where a listener binds: ``HOST:PORT``."""

    listen: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; port 0 takes a free one, an IPv6 host stands in brackets.

        Raises InvalidArgument for anything else.
        """
        host, _, port = self.listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
            raise InvalidArgument(
                f"{self.listen!r} is no address to listen on: expected HOST:PORT,"
                " such as 127.0.0.1:8080 or [::1]:8080."
            )
        return host, int(port)

    def at(self, port: int) -> str:
        """The same with the port that was taken."""
        return f"{self.listen.rpartition(':')[0]}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Files in PEM, of both listeners: the certificate with its chain, its key, and whose
    certificates every client must have (None: clients need none). Without the first, no TLS."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Where the logs of objects go: to "files" of the data directory, to "stdout", or, as
    gs://BUCKET/PREFIX, to a bucket of whatever store. Limits in bytes, of one file and of all files
    of a shard."""

    to: str = FILES
    max_file_bytes: int = 64 << 20
    max_shard_bytes: int = 1 << 30

    @property
    def bucket(self) -> str:
        """The bucket that they go to; "" if they go elsewhere."""
        return self.to.removeprefix(_GS).partition("/")[0] if self.to.startswith(_GS) else ""

    @property
    def prefix(self) -> str:
        """With what all names there begin: "", or a text with a slash at its end."""
        folder = self.to.removeprefix(_GS).partition("/")[2].removesuffix("/")
        return f"{folder}/" if folder else ""

    def check(self) -> None:
        """Raises InvalidArgument where ``to`` says nothing that can be done."""
        if self.to in (FILES, STDOUT):
            return
        parts = self.prefix.split("/")[:-1]
        fine = _BUCKET.fullmatch(self.bucket) and self.to.isprintable()
        if not fine or not {"", ".", ".."}.isdisjoint(parts) or len(self.prefix) > _PREFIX_MAX:
            raise InvalidArgument(
                f"logs.to is {self.to!r}; it must be {FILES!r}, {STDOUT!r}, or a bucket, with a"
                " folder or without, like gs://job-logs/harbour: of whatever kind of store."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """How old an open job may become before it is cancelled, and how long it is kept, with its
    operation, once it has ended; in days."""

    max_job_days: float = 14.0
    keep_days: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What may be asked of a store or a bucket at most, by all workers together. ``concurrency``
    counts calls that are under way."""

    max_objects_per_second: float | None = None
    max_requests_per_second: float | None = None
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """How soon a service may be asked for more that must move objects to more servers first.

    A bucket takes ``writes_per_second`` at once. It may be asked for twice what it has taken for
    ``prove_seconds`` without a refusal and without getting slow, and where it did refuse some, for
    twice as much every ``double_seconds``.
    """

    writes_per_second: float
    double_seconds: float
    prove_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings(Caps):
    """One ``[stores.NAME]``; its caps are of all its buckets together, ``limits`` those of each
    bucket by pattern. ``options`` are the keys that only this kind of store knows."""

    name: str
    kind: str
    buckets: tuple[str, ...] = ()
    limits: Mapping[str, Caps] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold secrets
    call_seconds: float = MAX_CALL_SECONDS
    """``Settings.call_seconds``, for the one who opens it; not a key."""

    def caps_of(self, bucket: str) -> Caps:
        """The caps of one bucket: each from the most specific pattern that matches and sets it, of
        equally specific ones the lowest."""
        found: dict[str, Any] = {}
        for pattern, caps in self.limits.items():
            if fnmatch.fnmatchcase(bucket, pattern):
                for cap in fields(caps):
                    if (value := getattr(caps, cap.name)) is not None:
                        best = (specificity(pattern), -value)
                        found[cap.name] = max(found.get(cap.name, best), best)
        return Caps(**{name: -value for name, (_, value) in found.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """Whose tokens are taken: those that ``issuer`` signed with a key of its JWKS, for one of
    ``audience``. The keys come from ``jwks_url`` or ``jwks_file``."""

    issuer: str = ""
    audience: tuple[str, ...] = ()
    jwks_url: str | None = None
    jwks_file: Path | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    principal: str = "sub"
    """The claim that says who it is: one that users cannot choose themselves."""
    scope: str = CLOUD_PLATFORM
    """What a token's scopes must have; "": the audience is enough."""
    leeway_seconds: float = 60.0
    """By how much the issuer's clock may differ from ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """How callers prove who they are, and what each may do: ``roles`` has, by principal and by
    project ("*": every project), names of roles and permissions."""

    mode: Texts = (NO_AUTHENTICATION,)
    tokens_file: Path | None = None
    oidc: OidcSettings = OidcSettings()
    roles: Mapping[str, Mapping[str, Texts]] = field(default_factory=dict)
    dangerously_serve_anyone: bool = False
    """Listen on any address without authentication."""

    @property
    def on(self) -> bool:
        """Whether callers must say who they are."""
        return NO_AUTHENTICATION not in self.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """One ``[projects.NAME]``: the buckets that its jobs may use, by patterns."""

    buckets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DaskSettings:
    """Where ``runner = "dask"`` finds its scheduler, and the files in PEM with which all of the
    cluster know each other: whose certificates count, this process's own, and its key."""

    scheduler: str = ""
    """Its address: tls://HOST:PORT."""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    dangerously_trust_network: bool = False
    """Take a tcp:// address that is not of this machine: whoever reaches a port runs code there."""


def specificity(pattern: str) -> int:
    """How much a pattern of buckets says: its length without wildcards."""
    return sum(character not in "*?[]" for character in pattern)


def cores() -> int:
    """How many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Paths are as given, relative to the working directory."""

    data_dir: Path = Path("longshore-data")
    database: str | None = field(default=None, repr=False)  # may hold a password
    runner: str = "local"
    """In which processes shards run: "local", workers of this machine; "dask", those of a cluster;
    "none", what other services of the same database run."""
    dask: DaskSettings = DaskSettings()
    workers: int = field(default_factory=cores)
    shards_at_once: int = 4
    """How many shards of one store a worker carries at the same time, and how many it plans: this
    bounds its memory, and keeps a slow store from holding up the others."""
    lease_seconds: float = 30.0
    rest: ListenSettings = ListenSettings(listen="127.0.0.1:8080")
    grpc: ListenSettings = ListenSettings(listen="127.0.0.1:8081")
    metrics: ListenSettings = ListenSettings(listen="")
    """Of a machine of a cluster that has workers and no API; "": nowhere."""
    tls: TlsSettings = TlsSettings()
    logs: LogSettings = LogSettings()
    retention: RetentionSettings = RetentionSettings()
    stores: Mapping[str, StoreSettings] = field(default_factory=dict)
    auth: AuthSettings = AuthSettings()
    projects: Mapping[str, ProjectSettings] = field(default_factory=dict)

    @property
    def call_seconds(self) -> float:
        """The longest that a call of a store may still take effect once it was sent. Nothing that
        changes objects is sent so late in a lease that it could do so after the lease's end."""
        return min(MAX_CALL_SECONDS, self.lease_seconds / 3)

    def may_use(self, project: str, bucket: str) -> bool:
        """Whether jobs of ``project`` may read or change anything in ``bucket``: objects and
        manifests.

        What ``[projects]`` says of the project, else of "*"; else all buckets without
        authentication, and none with it. Nobody the one that logs go to.
        """
        if bucket and bucket == self.logs.bucket:
            return False
        rules = self.projects.get(project) or self.projects.get(EVERY_PROJECT)
        if rules is None:
            return not self.auth.on
        return any(fnmatch.fnmatchcase(bucket, pattern) for pattern in rules.buckets)

    @property
    def database_path(self) -> Path:
        """The file of the service's own SQLite database, where no other is set."""
        return self.data_dir / "longshore.sqlite"

    @property
    def logs_dir(self) -> Path:
        """Where jobs' logs of objects lie."""
        return self.data_dir / "logs"

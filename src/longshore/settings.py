"""Settings: defaults < TOML file < environment < flags, and every unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENVIRONMENT_PREFIX = "LONGSHORE_"
DEFAULT_FILE = "longshore.toml"
NOT_SETTINGS = frozenset({"CONFIG", "SERVER", "PROJECT"})
"""Variables with our prefix that are flags of the command line rather than settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """Where a listener binds: ``HOST:PORT``."""

    listen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Limits of a job's log of objects, in bytes: of one file, and of all files of a shard."""

    max_file_bytes: int = 64 << 20
    max_shard_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """One ``[stores.NAME]``. ``options`` are the keys that only this kind of store knows."""

    name: str
    kind: str
    buckets: tuple[str, ...] = ()
    max_objects_per_second: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Paths are as given, relative to the working directory."""

    data_dir: Path = Path("longshore-data")
    workers: int = 1
    lease_seconds: float = 30.0
    rest: ListenSettings = ListenSettings(listen="127.0.0.1:8080")
    grpc: ListenSettings = ListenSettings(listen="127.0.0.1:8081")
    logs: LogSettings = LogSettings()
    stores: Mapping[str, StoreSettings] = field(default_factory=dict)

    @property
    def database_path(self) -> Path:
        """The file of the service's own SQLite database."""
        return self.data_dir / "longshore.sqlite"

    @property
    def logs_dir(self) -> Path:
        """Where jobs' logs of objects lie."""
        return self.data_dir / "logs"

"""The embedded store: buckets in a folder, each an SQLite database and a folder of large contents.

It has Cloud Storage's semantics (object_rules), answers a write once it is safe from a power cut,
and may be used by many processes at once. Options in the settings: ``directory``.
"""

from __future__ import annotations

from pathlib import Path

from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.errors import InvalidArgument
from longshore.settings import StoreSettings, check_options
from longshore.stores.local.store import LocalStore

OPTIONS = ("directory",)


def open_store(settings: StoreSettings, data_dir: Path, clock: Clock = SYSTEM_CLOCK) -> LocalStore:
    """The store of the buckets in the option ``directory``, by default ``data_dir/buckets``.

    Raises InvalidArgument for an option that it does not know, or that is no path.
    """
    check_options(settings, OPTIONS)
    directory = settings.options.get("directory", str(data_dir / "buckets"))
    if not isinstance(directory, str) or not directory:
        raise InvalidArgument(
            f"Setting 'stores.{settings.name}.directory' must be a path, not {directory!r}."
        )
    return LocalStore(Path(directory), clock)

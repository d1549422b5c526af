"""The embedded store: buckets in a folder, each an SQLite database and a folder of large contents.

It has Cloud Storage's semantics (object_rules), answers a write once it is safe from a power cut,
and may be used by many processes at once. Options in the settings: ``directory``.
"""

from __future__ import annotations

from pathlib import Path

from longshore.object_rules import check_known
from longshore.settings import StoreSettings
from longshore.store import Store
from longshore.stores.local.store import LocalStore

OPTIONS = ("directory",)


def open_store(settings: StoreSettings, data_dir: Path) -> Store:
    """The store of the buckets in the option ``directory``, by default ``data_dir/buckets``.

    Raises InvalidArgument for an option that it does not know.
    """
    for option in settings.options:
        check_known(f"option of the local store {settings.name!r}", option, OPTIONS)
    directory = settings.options.get("directory", data_dir / "buckets")
    return LocalStore(Path(directory))

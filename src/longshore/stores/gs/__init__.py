"""Cloud Storage over its JSON API: ``kind = "gs"``. What its settings may say is in ``options``."""

from __future__ import annotations

from pathlib import Path

from longshore.settings import StoreSettings
from longshore.store import Store
from longshore.stores.gs.client import Client, Service
from longshore.stores.gs.credentials import token_source
from longshore.stores.gs.options import read_options
from longshore.stores.gs.store import GsStore


def open_store(settings: StoreSettings, data_dir: Path) -> Store:
    """The store of the service that the settings name; nothing is sent yet. Raises InvalidArgument
    for settings that cannot be."""
    options = read_options(settings)
    return GsStore(Client(Service(options, token_source(options))))

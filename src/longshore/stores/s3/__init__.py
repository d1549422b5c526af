"""Any service that speaks S3: ``kind = "s3"``. What its settings may say is in ``options``."""

from __future__ import annotations

from pathlib import Path

from longshore.settings import StoreSettings
from longshore.store import Store
from longshore.stores.s3.client import Client, Service
from longshore.stores.s3.credentials import FixedCredentials, find_credentials
from longshore.stores.s3.options import read_options
from longshore.stores.s3.store import S3Store


def open_store(settings: StoreSettings, data_dir: Path) -> Store:
    """The store of the service that the settings name; nothing is sent yet. Raises InvalidArgument
    for settings that cannot be."""
    options = read_options(settings)
    keys = options.credentials
    credentials = FixedCredentials(keys) if keys else find_credentials(options.profile)
    return S3Store(Client(Service(options, credentials)))

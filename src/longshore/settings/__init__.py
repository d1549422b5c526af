"""Settings: the dataclasses of ``schema`` say what can be set, ``reading`` makes them of files,
variables and flags."""

from longshore.settings.reading import check_options, file_of, load
from longshore.settings.schema import (
    CLOUD_PLATFORM,
    EVERY_PROJECT,
    AuthSettings,
    Caps,
    DaskSettings,
    ListenSettings,
    LogSettings,
    OidcSettings,
    ProjectSettings,
    Ramp,
    RetentionSettings,
    Settings,
    StoreSettings,
    TlsSettings,
    cores,
    specificity,
)

__all__ = [
    "CLOUD_PLATFORM",
    "EVERY_PROJECT",
    "AuthSettings",
    "Caps",
    "DaskSettings",
    "ListenSettings",
    "LogSettings",
    "OidcSettings",
    "ProjectSettings",
    "Ramp",
    "RetentionSettings",
    "Settings",
    "StoreSettings",
    "TlsSettings",
    "check_options",
    "cores",
    "file_of",
    "load",
    "specificity",
]

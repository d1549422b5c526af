"""Settings: the dataclasses of ``schema`` say what can be set, ``reading`` makes them of files,
variables and flags."""

from longshore.settings.reading import check_options, load
from longshore.settings.schema import (
    Caps,
    ListenSettings,
    LogSettings,
    RetentionSettings,
    Settings,
    StoreSettings,
    cores,
    specificity,
)

__all__ = [
    "Caps",
    "ListenSettings",
    "LogSettings",
    "RetentionSettings",
    "Settings",
    "StoreSettings",
    "check_options",
    "cores",
    "load",
    "specificity",
]

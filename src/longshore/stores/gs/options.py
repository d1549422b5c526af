"""What ``[stores.NAME]`` of kind "gs" may say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from longshore.settings import Ramp, StoreSettings, check_options
from longshore.transport.endpoint import Endpoint, Limits
from longshore.transport.given import ENDPOINT_OPTIONS, TRANSPORT_OPTIONS, Given

GOOGLE = "https://storage.googleapis.com"
EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"
_PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
OPTIONS = (
    *ENDPOINT_OPTIONS,
    *TRANSPORT_OPTIONS,
    *("anonymous", "key_file", "user_project", "project"),
    *("initial_writes_per_second", "double_seconds", "prove_seconds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GsSettings:
    """A store of Cloud Storage as it is configured, checked.

    ``anonymous``: no tokens are sent. ``key_file`` None: tokens are had as Google's own tools have
    them. ``user_project``: who pays for what is read of buckets whose requester pays. ``project``:
    whose buckets are listed, and whose a new one is. ``ramp``: how fast changes may become more.
    """

    name: str
    endpoint: Endpoint
    anonymous: bool = False
    key_file: Path | None = None
    user_project: str | None = None
    project: str | None = None
    transport: str = "lean"
    proxy: str | None = None
    limits: Limits = field(default_factory=Limits)
    ramp: Ramp | None = None


def read_options(
    settings: StoreSettings, environment: Mapping[str, str] = os.environ
) -> GsSettings:
    """The settings of a store of kind "gs"; raises InvalidArgument, naming the key, for a value
    that can't be.

    Without an ``endpoint``, STORAGE_EMULATOR_HOST says where an emulator is, as it does to Google's
    clients, and tokens are then sent only if a ``key_file`` is named: an emulator has no use for
    them, and whoever listens there should not have them.
    """
    check_options(settings, OPTIONS)
    given = Given(settings)
    emulator = None if given.has("endpoint") else environment.get(EMULATOR_VARIABLE)
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    endpoint = given.endpoint(emulator or GOOGLE)
    key_file = given.text("key_file")
    anonymous = given.flag("anonymous")
    if anonymous and key_file:
        raise given.wrong("key_file", "left out where anonymous is true")
    if emulator and not key_file and not given.has("anonymous"):
        anonymous = True
    if endpoint.scheme == "http" and not anonymous and not _is_here(endpoint.host):
        # Whoever reads a token on its way may do what it allows.
        raise given.wrong("endpoint", "https:// unless anonymous is true")
    transport, proxy = given.transport()
    return GsSettings(
        name=settings.name,
        endpoint=endpoint,
        anonymous=anonymous,
        key_file=Path(key_file) if key_file else None,
        user_project=given.text("user_project"),
        project=given.text("project") or environment.get(_PROJECT_VARIABLE) or None,
        transport=transport,
        proxy=proxy,
        limits=given.limits,
        ramp=_ramp(given, none=anonymous),
    )


def _ramp(given: Given, *, none: bool) -> Ramp | None:
    """What docs.cloud.google.com/storage/docs/request-rate asks for: a bucket takes about 1,000
    writes a second to begin with, and not more than twice as many 20 minutes later. Nothing of it
    holds for emulators, to which no tokens are sent, unless the settings say so."""
    first = given.number("initial_writes_per_second", 0 if none else 1000)
    double_seconds = given.number("double_seconds", 1200)
    prove_seconds = given.number("prove_seconds", 10)
    if not (double_seconds and prove_seconds):
        key = "prove_seconds" if double_seconds else "double_seconds"
        raise given.wrong(key, "more than 0")
    if not first:
        return None
    return Ramp(writes_per_second=first, double_seconds=double_seconds, prove_seconds=prove_seconds)


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")

"""What the table of a store in the settings says, and how to complain of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from longshore.errors import InvalidArgument
from longshore.settings import StoreSettings
from longshore.transport.endpoint import Endpoint, Limits

ENDPOINT_OPTIONS = ("endpoint", "ca_file", "dangerously_skip_tls_verification")
TRANSPORT_OPTIONS = ("transport", "proxy")
_TRANSPORTS = ("lean", "aiohttp")


class Given:
    """The options of a store. Raises InvalidArgument, naming the key, for a value that can't be;
    secrets are in no message."""

    def __init__(self, settings: StoreSettings) -> None:
        self._name = settings.name
        self._options = settings.options
        self.limits = Limits.within(settings.call_seconds)

    def has(self, key: str) -> bool:
        return key in self._options

    def get(self, key: str) -> Any:
        return self._options.get(key)

    def wrong(self, key: str, expected: str) -> InvalidArgument:
        return InvalidArgument(f"Setting 'stores.{self._name}.{key}' must be {expected}.")

    def text(self, key: str) -> str | None:
        """A text that is not empty; None if it is not set."""
        value = self._options.get(key)
        if value is not None and not isinstance(value, str):
            # The value stays unsaid: it may be a secret. An environment variable is read as TOML.
            raise self.wrong(key, "a text; where an environment variable has it, put it in quotes")
        if value == "":
            raise self.wrong(key, "left out or say something, but is empty")
        return value

    def choice(self, key: str, known: tuple[str, ...], default: str) -> str:
        value = self.text(key) or default
        if value not in known:
            raise self.wrong(key, f"{' or '.join(map(repr, known))}, not {value!r}")
        return value

    def flag(self, key: str) -> bool:
        value = self._options.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, f"true or false, not {value!r}")
        return value

    def number(self, key: str, default: float) -> float:
        """A number that is not negative, and not without end."""
        value = self._options.get(key, default)
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not known or not 0 <= value < math.inf:
            raise self.wrong(key, f"a number that is not negative, not {value!r}")
        return float(value)

    def endpoint(self, default: str) -> Endpoint:
        """Where requests go: to ``default`` unless the settings say otherwise."""
        ca_file = self.text("ca_file")
        unchecked = self.flag("dangerously_skip_tls_verification")
        if ca_file and unchecked:
            raise self.wrong("ca_file", "left out where dangerously_skip_tls_verification is true")
        url = self.text("endpoint") or default
        self._check_url("endpoint", url)
        endpoint = Endpoint.parse(
            url,
            ca_file=Path(ca_file) if ca_file else None,
            dangerously_skip_tls_verification=unchecked,
        )
        if endpoint.scheme == "http" and (ca_file or unchecked):
            key = "ca_file" if ca_file else "dangerously_skip_tls_verification"
            raise self.wrong(
                key, "left out where the endpoint is http://, which has no certificate"
            )
        endpoint.tls()  # Raises for certificates that can't be loaded, before anything is sent.
        return endpoint

    def transport(self) -> tuple[str, str | None]:
        """The kind of transport, and its proxy if there is one."""
        proxy = self.text("proxy")
        if proxy is not None:
            self._check_url("proxy", proxy)
        kind = self.choice("transport", _TRANSPORTS, "aiohttp" if proxy else "lean")
        if proxy and kind != "aiohttp":
            raise self.wrong(
                "transport", '"aiohttp" where there is a proxy: no other knows proxies'
            )
        return kind, proxy

    def _check_url(self, key: str, url: str) -> None:
        """Raises InvalidArgument for what is no ``http(s)://HOST[:PORT]``."""
        if "@" in url:
            # The value stays unsaid: what stands before the @ is a secret.
            raise self.wrong(
                key, "without user and password; credentials of the store have keys of their own"
            )
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known or parts.path not in ("", "/") or parts.query or parts.fragment or "\\" in url:
            raise self.wrong(key, f"https://HOST[:PORT] or http://HOST[:PORT], not {url!r}")

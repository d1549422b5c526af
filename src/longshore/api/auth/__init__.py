"""Who calls, and what each caller may do.

A caller is identified by a bearer token: one of the tokens file (``tokens``), or a JWT of an OpenID
provider (``oidc``, with the keys of ``jwks``). What it may do say the ``rules``. The refusals are
those of Google's front end (``refusals``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from longshore.api.auth import refusals
from longshore.api.auth.caller import Caller
from longshore.api.auth.rules import Rules
from longshore.api.auth.tokens import TokensFile
from longshore.api.auth.watched import Watched
from longshore.clock import Clock
from longshore.errors import FailedPrecondition, PermissionDenied
from longshore.settings import CLOUD_PLATFORM, EVERY_PROJECT, AuthSettings, Settings

ANYONE = Caller("anonymous", frozenset({CLOUD_PLATFORM}))
"""Who calls where there is no authentication."""
TOKEN_MAX_CHARACTERS = 16 << 10
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Issuer(Protocol):
    """Knows the tokens of one kind."""

    async def identify(self, token: str, method: str) -> Caller | None:
        """Whose token it is; None if it is none of this issuer's. Raises Unauthenticated for one
        that is its own and not good any more, Unavailable if that can't be found out now."""


class Auth:
    """Authentication by the modes of the settings, and rules that may change while it lasts."""

    def __init__(self, issuers: Sequence[Issuer], rules: Watched[Rules], *, on: bool) -> None:
        self._issuers = issuers
        self._rules = rules
        self._on = on

    @staticmethod
    def of(
        settings: Settings, clock: Clock, *, file: Path | None, read: Callable[[], Settings]
    ) -> Auth:
        """As ``settings`` say; the rules are read again with ``read`` whenever ``file`` changes.

        Raises InvalidArgument for wrong rules, and for a file of tokens or keys that can't be read.
        """
        rules = Watched("rules", file, lambda: Rules(read()), clock)
        return Auth(_issuers(settings.auth, clock), rules, on=settings.auth.on)

    @staticmethod
    def fixed(settings: Settings, clock: Clock) -> Auth:
        """The same with rules that stay as they are."""
        return Auth.of(settings, clock, file=None, read=lambda: settings)

    async def identify(self, headers: Mapping[str, str], method: str) -> Caller:
        """Who calls. Raises Unauthenticated, or Unavailable if that can't be found out now;
        PermissionDenied for a page of another site, which needs no token where nobody does."""
        if not self._on:
            if _is_foreign(headers):
                raise PermissionDenied(
                    "Pages of other sites may not call this service: it asks for no tokens."
                )
            return ANYONE
        header = headers.get("authorization", "").strip()
        if not header:
            raise refusals.credentials_missing(method, key="x-goog-api-key" in headers)
        scheme, _, token = header.partition(" ")
        token = token.strip()
        usable = len(token) <= TOKEN_MAX_CHARACTERS and _TOKEN.fullmatch(token)
        if scheme.lower() == "bearer" and usable:
            for issuer in self._issuers:
                if caller := await issuer.identify(token, method):
                    return caller
        raise refusals.bad_credentials(method)

    def check_scope(self, caller: Caller, method: str) -> None:
        """Raises PermissionDenied if the caller's token is not for this service."""
        if CLOUD_PLATFORM not in caller.scopes:
            raise refusals.scope_insufficient(method)

    def authorize(self, caller: Caller, permission: str, project: str, resource: str) -> None:
        """Raises PermissionDenied unless the caller has that permission in the project, whether
        the resource exists or not."""
        if self._on and not self._rules.now().permits(caller.principal, permission, project):
            raise refusals.permission_denied(permission, resource)

    def authorize_everywhere(self, caller: Caller, permission: str) -> None:
        """The same for every project."""
        self.authorize(caller, permission, EVERY_PROJECT, f"projects/{EVERY_PROJECT}")

    def may_use(self, project: str, bucket: str) -> bool:
        """Whether jobs of that project may use that bucket."""
        return self._rules.now().settings.may_use(project, bucket)


def _is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser sends this for a page that did not come from here."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")


def _issuers(settings: AuthSettings, clock: Clock) -> list[Issuer]:
    issuers: list[Issuer] = []
    if "tokens" in settings.mode and settings.tokens_file is not None:
        issuers.append(TokensFile(settings.tokens_file, clock))
    if "oidc" in settings.mode:
        # It brings in cryptography, some 20 MB that others need not carry.
        if find_spec("jwt") is None:
            raise FailedPrecondition(
                "auth.mode has \"oidc\", which needs PyJWT: pip install 'longshore[oidc]'."
            )
        from longshore.api.auth.oidc import Oidc

        issuers.append(Oidc(settings.oidc, clock))
    return issuers

"""Tokens that an OpenID provider signed: JWTs, of which PyJWT checks signature and claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

from longshore.api.auth import refusals
from longshore.api.auth.caller import Caller, is_principal
from longshore.api.auth.jwks import ALGORITHMS, FetchedKeys, FileKeys, Key, KeySource
from longshore.clock import Clock
from longshore.errors import InvalidArgument
from longshore.settings import CLOUD_PLATFORM, OidcSettings


class Oidc:
    """The tokens of one provider; raises InvalidArgument for settings that can't work."""

    def __init__(self, settings: OidcSettings, clock: Clock) -> None:
        if unknown := sorted(set(settings.algorithms) - ALGORITHMS):
            raise InvalidArgument(
                f"auth.oidc.algorithms has {unknown[0]!r}, which is none of"
                f" {', '.join(sorted(ALGORITHMS))}."
            )
        self._settings = settings
        self._keys: KeySource
        if settings.jwks_file is not None:
            self._keys = FileKeys(settings.jwks_file, clock)
        else:
            self._keys = FetchedKeys(settings.jwks_url or "", clock)

    async def identify(self, token: str, method: str) -> Caller | None:
        """Whose token it is; None: it is no JWT. Raises Unauthenticated for a JWT that is not
        good, Unavailable if the provider's keys can't be had."""
        if token.count(".") != 2:
            return None
        key = await self._key(token, method)
        try:
            claims = jwt.decode(
                token,
                key.public,
                # By the settings and the key, never by what the token says of itself.
                algorithms=sorted(key.algorithms.intersection(self._settings.algorithms)),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise refusals.bad_credentials(method, expired=True) from error
        # The others: times that are no times, which only a provider could have signed.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise refusals.bad_credentials(method) from error
        return self._caller(claims, method)

    async def _key(self, token: str, method: str) -> Key:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError as error:
            raise refusals.bad_credentials(method) from error
        key = await self._keys.find(kid) if isinstance(kid, str) else None
        if key is None or not key.algorithms.intersection(self._settings.algorithms):
            raise refusals.bad_credentials(method)
        return key

    def _caller(self, claims: Mapping[str, Any], method: str) -> Caller:
        name = self._settings.principal
        principal = claims.get(name)
        # An address that its owner never confirmed may be anybody's.
        confirmed = name != "email" or claims.get("email_verified") is True
        if not isinstance(principal, str) or not is_principal(principal) or not confirmed:
            raise refusals.bad_credentials(method)
        scopes = _scopes(claims)
        if not self._settings.scope or self._settings.scope in scopes:
            return Caller(principal, scopes | {CLOUD_PLATFORM})
        return Caller(principal, scopes - {CLOUD_PLATFORM})


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Of ``scope`` (RFC 9068: words) or ``scp`` (as others write it: words or a list)."""
    given = claims.get("scope", claims.get("scp", ""))
    words = given.split() if isinstance(given, str) else given
    return frozenset(one for one in words if isinstance(one, str)) if words else frozenset()

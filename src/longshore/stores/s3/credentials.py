"""Who signs the requests to an S3 store: keys from the settings, from AWS's usual places, or from a
service that gives keys for a while.

Variables and plain files are read here. All else (roles, single sign-on, services on the network,
programs) is botocore's, which is imported only then: it costs a worker 20 MB.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.errors import FailedPrecondition, Unauthenticated, Unavailable
from longshore.transport.renewal import Renewed

NOT_RENEWED = "s3_keys_not_renewed"
_NOT_PLAIN = ("role_", "sso_", "web_identity")
"""With what the keys of a profile begin that say more than access keys, and come before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Keys of S3, of which nothing is ever shown."""

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


class CredentialSource(Protocol):
    """Where the keys come from that are good now."""

    async def get(self) -> Credentials:
        """The keys to sign with: the same object until there are others.

        Raises Unauthenticated if there are none, and Unavailable if what gives them does not
        answer.
        """


class FixedCredentials:
    """Keys that never change."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def get(self) -> Credentials:
        return self._credentials


def find_credentials(
    profile: str | None = None,
    environment: Mapping[str, str] = os.environ,
    clock: Clock = SYSTEM_CLOCK,
) -> CredentialSource:
    """Where AWS's own tools would find keys: of ``profile`` if it is given, else in the variables
    first, then of the profile that they name or the default one."""
    keys = None if profile else _in_variables(environment)
    keys = keys or _in_files(profile, environment)
    if keys:
        return FixedCredentials(keys)
    # botocore gets others 15 minutes before its keys end.
    return Renewed(_Chain(profile), NOT_RENEWED, clock)


def _in_variables(environment: Mapping[str, str]) -> Credentials | None:
    access_key = environment.get("AWS_ACCESS_KEY_ID")
    secret_key = environment.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key or environment.get("AWS_CREDENTIAL_EXPIRATION"):
        return None
    token = environment.get("AWS_SECURITY_TOKEN") or environment.get("AWS_SESSION_TOKEN")
    return Credentials(access_key=access_key, secret_key=secret_key, session_token=token or "")


def _in_files(profile: str | None, environment: Mapping[str, str]) -> Credentials | None:
    """The keys of a profile that has nothing else to find keys by."""
    default = environment.get("AWS_DEFAULT_PROFILE") or environment.get("AWS_PROFILE") or "default"
    name = profile or default
    keys = _sections(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    config = _sections(environment.get("AWS_CONFIG_FILE") or "~/.aws/config")
    found = keys.get(name, {})
    said = {*found, *config.get(f"profile {name}", {}), *config.get(name, {})}
    token_file = not profile and environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if token_file or any(key.startswith(_NOT_PLAIN) for key in said):
        return None
    access_key, secret_key = found.get("aws_access_key_id"), found.get("aws_secret_access_key")
    if not access_key or not secret_key:
        return None
    token = found.get("aws_security_token") or found.get("aws_session_token")
    return Credentials(access_key=access_key, secret_key=secret_key, session_token=token or "")


def _sections(path: str) -> Mapping[str, Mapping[str, str]]:
    """A file's sections; none of a file that is not there or that is none of ours to explain."""
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    return {name: dict(parser.items(name)) for name in parser.sections()}


class _Chain:
    """What botocore finds. Its exceptions are not passed on: they quote what programs said."""

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._found: Any = None

    def load(self) -> Credentials:
        try:
            from botocore import exceptions, session
        except ModuleNotFoundError as error:
            raise FailedPrecondition(
                "The store has no access_key, and none is in AWS's variables or files; roles and"
                " other sources need botocore: pip install 'longshore[s3]'."
            ) from error
        passing = (
            *(exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError),
            *(exceptions.ConnectionError, exceptions.HTTPClientError),
        )
        try:
            if self._found is None:
                self._found = session.Session(profile=self._profile).get_credentials()
            keys = self._found.get_frozen_credentials() if self._found else None
        except passing as error:
            raise Unavailable(f"{self._where} can't be had just now: {_name(error)}.") from None
        except exceptions.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            kind = Unavailable if status >= 500 or status == 429 else Unauthenticated
            raise kind(f"{self._where} were refused: {_name(error)}.") from None
        except (exceptions.BotoCoreError, ValueError, OSError) as error:
            raise Unauthenticated(f"{self._where} can't be had: {_name(error)}.") from None
        if keys is None or not keys.access_key or not keys.secret_key:
            raise Unauthenticated(
                f"{self._where} are nowhere: set access_key and secret_key, or use AWS's variables"
                " or files."
            )
        return Credentials(
            access_key=keys.access_key, secret_key=keys.secret_key, session_token=keys.token or ""
        )

    def lasts(self) -> bool:
        return not hasattr(self._found, "refresh_needed")

    def has_ended(self) -> bool:
        return not self.lasts() and bool(self._found.refresh_needed(refresh_in=0))

    @property
    def _where(self) -> str:
        return f"The keys of the profile {self._profile!r}" if self._profile else "Keys for S3"


def _name(error: Exception) -> str:
    return type(error).__name__

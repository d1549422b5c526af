"""Who signs the requests to an S3 store: fixed keys, or those that botocore finds and renews."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Keys of S3, of which nothing is ever shown."""

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


class CredentialSource(Protocol):
    """Where the keys come from that are good now."""

    async def get(self) -> Credentials:
        """The keys to sign with: the same object until there are others. Raises Unauthenticated
        if there are none."""


class FixedCredentials:
    """Keys that never change."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def get(self) -> Credentials:
        return self._credentials

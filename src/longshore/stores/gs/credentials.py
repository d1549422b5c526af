"""What proves to Cloud Storage who asks: tokens as google-auth has them, which is imported only
where there are some."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.errors import FailedPrecondition, Unauthenticated, Unavailable
from longshore.stores.gs.options import GsSettings
from longshore.transport.renewal import Renewed

T = TypeVar("T")

SCOPES = ("https://www.googleapis.com/auth/devstorage.full_control",)
"""What the tokens are good for: without full control nobody reads or changes ACLs."""
ANSWER_SECONDS = 5.0
WAIT_SECONDS = 8.0
NOT_RENEWED = "gs_token_not_renewed"


class TokenSource(Protocol):
    """Where the token comes from that is good now."""

    async def get(self) -> str:
        """The value of the ``authorization`` header; "": none is sent. Raises Unauthenticated if
        there is none, Unavailable if what gives it does not answer."""

    async def instead_of(self, refused: str) -> str | None:
        """Another than ``refused``, which was not taken; None: no other can be had. Raises as
        ``get`` does."""


class NoToken:
    """For emulators, and for what everybody may read."""

    async def get(self) -> str:
        return ""

    async def instead_of(self, refused: str) -> str | None:
        return None


class Tokens:
    """Tokens of google-auth, one for all who ask at the same time. Nobody waits for one longer than
    WAIT_SECONDS, so that whoever is to stop does."""

    def __init__(self, settings: GsSettings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._source = GoogleTokens(settings)
        self._renewed = Renewed(self._source, NOT_RENEWED, clock)

    async def get(self) -> str:
        return await self._soon(self._renewed.get())

    async def instead_of(self, refused: str) -> str | None:
        return await self._soon(self._renewed.instead_of(refused, self._source.discard))

    async def _soon(self, token: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await token
        except TimeoutError:
            raise self._source.silent(f"nothing within {WAIT_SECONDS:g} seconds") from None


def token_source(settings: GsSettings) -> TokenSource:
    """Tokens as the settings say; nothing is read or asked yet."""
    if settings.anonymous:
        return NoToken()
    return Tokens(settings)


class GoogleTokens:
    """Tokens of google-auth: of a file if the settings name one, else wherever Application Default
    Credentials are found, workload identity among it. Its exceptions are not passed on: they quote
    what others said, and that may be a secret.

    google-auth has another token nearly four minutes before one ends, and says by ``token_state``
    whether it is time.
    """

    def __init__(self, settings: GsSettings) -> None:
        self._settings = settings
        self._found: Any = None
        self._discarded = False

    def discard(self) -> None:
        """The token is not taken, though it has not ended: ``load`` is to get another."""
        self._discarded = True

    def load(self) -> str:
        try:
            from google.auth import exceptions
            from google.auth.credentials import TokenState
        except ModuleNotFoundError as error:
            raise FailedPrecondition(
                "Tokens for Cloud Storage need google-auth: pip install 'longshore[gs]'; an"
                " emulator needs none: set anonymous = true."
            ) from error
        try:
            if self._found is None:
                self._found = self._find()
            if self._discarded or self._found.token_state is not TokenState.FRESH:
                self._found.refresh(_prompt())
                self._discarded = False
        except exceptions.GoogleAuthError as error:
            silence = error.__cause__ if isinstance(error, exceptions.RefreshError) else error
            silent = isinstance(silence, exceptions.TransportError) and not _is_missing(silence)
            if silent or getattr(error, "retryable", False):
                raise self.silent(_name(error)) from None
            raise Unauthenticated(
                f"{self._where} can't be had: {_name(error)}. Set key_file, or use Application"
                " Default Credentials."
            ) from None
        except (OSError, ValueError) as error:
            raise Unauthenticated(f"{self._where} can't be had: {_name(error)}.") from None
        return f"Bearer {self._found.token}"

    def silent(self, what: str) -> Unavailable:
        """The error of what should give tokens, and does not just now, for ``what`` it says."""
        module = type(self._found).__module__
        who = "the metadata server" if ".compute_engine." in module else "the server of tokens"
        return Unavailable(f"{self._where} can't be had just now: {who} gives none ({what}).")

    def _find(self) -> Any:
        """Credentials of google-auth, which have no token yet."""
        if self._settings.key_file is None:
            return _default()
        from google.oauth2 import service_account

        # A file of another kind may send whoever uses it to any address: google-auth asks that
        # it be named as Application Default Credentials are, by GOOGLE_APPLICATION_CREDENTIALS.
        of_file: Any = service_account.Credentials
        return of_file.from_service_account_file(str(self._settings.key_file), scopes=SCOPES)

    def lasts(self) -> bool:
        return self._found is not None and self._found.expiry is None

    def has_ended(self) -> bool:
        from google.auth.credentials import TokenState

        if self._found is None or self._discarded:
            return True
        return bool(self._found.token_state is TokenState.INVALID)

    @property
    def _where(self) -> str:
        key_file = self._settings.key_file
        return f"Tokens by the key file {key_file}" if key_file else "Tokens for Cloud Storage"


def _default() -> Any:
    """The Application Default Credentials, with scopes that they get only afterwards: whoever has
    some is asked by google-auth for the name of a project, which for workload identity is a call
    to another service, two minutes long where that cannot be reached, and of no use here."""
    import google.auth
    from google.auth.credentials import with_scopes_if_required

    found, _ = google.auth.default()
    scoped: Any = with_scopes_if_required
    return scoped(found, SCOPES)


def _is_missing(error: Exception) -> bool:
    """Whether a metadata server has answered that its machine has no service account."""
    return any(getattr(said, "status", None) == 404 for said in error.args)


def _prompt() -> Any:
    """What google-auth is to make its requests with: two minutes, which it waits else, are long."""
    from google.auth.transport.requests import Request

    class Prompt(Request):
        def __call__(self, url: str, *more: Any, **named: Any) -> Any:
            ask: Any = super().__call__
            return ask(url, *more, **{"timeout": ANSWER_SECONDS, **named})

    return Prompt()


def _name(error: Exception) -> str:
    return type(error).__name__

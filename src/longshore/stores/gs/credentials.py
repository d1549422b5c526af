"""What proves to Cloud Storage who asks: tokens as google-auth has them, which is imported only
where there are some."""

from __future__ import annotations

from typing import Any, Protocol

from longshore.errors import FailedPrecondition, Unauthenticated, Unavailable
from longshore.stores.gs.options import GsSettings
from longshore.transport.renewal import Renewed

SCOPES = ("https://www.googleapis.com/auth/devstorage.full_control",)
"""What the tokens are good for: without full control nobody reads or changes ACLs."""
NOT_RENEWED = "gs_token_not_renewed"


class TokenSource(Protocol):
    """Where the token comes from that is good now."""

    async def get(self) -> str:
        """The value of the ``authorization`` header; "": none is sent. Raises Unauthenticated if
        there is none, Unavailable if what gives it does not answer."""


class NoToken:
    """For emulators, and for what everybody may read."""

    async def get(self) -> str:
        return ""


def token_source(settings: GsSettings) -> TokenSource:
    """Tokens as the settings say; nothing is read or asked yet."""
    if settings.anonymous:
        return NoToken()
    return Renewed(GoogleTokens(settings), NOT_RENEWED)


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

    def load(self) -> str:
        try:
            from google.auth import exceptions
            from google.auth.credentials import TokenState
            from google.auth.transport.requests import Request
        except ModuleNotFoundError as error:
            raise FailedPrecondition(
                "Tokens for Cloud Storage need google-auth: pip install 'longshore[gs]'; an"
                " emulator needs none: set anonymous = true."
            ) from error
        try:
            if self._found is None:
                self._found = self._find()
            if self._found.token_state is not TokenState.FRESH:
                self._found.refresh(Request())
        except exceptions.GoogleAuthError as error:
            if getattr(error, "retryable", False) or isinstance(error, exceptions.TransportError):
                raise Unavailable(f"{self._where} can't be had just now: {_name(error)}.") from None
            raise Unauthenticated(
                f"{self._where} can't be had: {_name(error)}. Set key_file, or use Application"
                " Default Credentials."
            ) from None
        except (OSError, ValueError) as error:
            raise Unauthenticated(f"{self._where} can't be had: {_name(error)}.") from None
        return f"Bearer {self._found.token}"

    def _find(self) -> Any:
        """Credentials of google-auth, which have no token yet."""
        import google.auth

        if self._settings.key_file is None:
            found, _ = google.auth.default(scopes=SCOPES)
            return found
        from google.oauth2 import service_account

        # A file of another kind may send whoever uses it to any address: google-auth asks that
        # it be named as Application Default Credentials are, by GOOGLE_APPLICATION_CREDENTIALS.
        of_file: Any = service_account.Credentials
        return of_file.from_service_account_file(str(self._settings.key_file), scopes=SCOPES)

    def lasts(self) -> bool:
        return self._found is not None and self._found.expiry is None

    def has_ended(self) -> bool:
        from google.auth.credentials import TokenState

        return self._found is None or self._found.token_state is TokenState.INVALID

    @property
    def _where(self) -> str:
        key_file = self._settings.key_file
        return f"Tokens by the key file {key_file}" if key_file else "Tokens for Cloud Storage"


def _name(error: Exception) -> str:
    return type(error).__name__

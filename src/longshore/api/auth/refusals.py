"""What a caller is told who may not call: the words of Google's front end (reference 8.3)."""

from __future__ import annotations

from longshore.errors import PermissionDenied, Unauthenticated

SERVICE = "storagebatchoperations.googleapis.com"
MISSING = "CREDENTIALS_MISSING"
UNSUPPORTED = "ACCESS_TOKEN_TYPE_UNSUPPORTED"
EXPIRED = "ACCESS_TOKEN_EXPIRED"
SCOPE = "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
PERMISSION = "IAM_PERMISSION_DENIED"

REASONS = frozenset({MISSING, UNSUPPORTED, EXPIRED, SCOPE, PERMISSION})
"""Of the front end rather than of the service: their domain is another."""

_EXPECTED = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. See"
    " https://developers.google.com/identity/sign-in/web/devconsole-project."
)


def credentials_missing(method: str, *, key: bool) -> Unauthenticated:
    """For a call without a token; ``key``: with an API key, which says nothing of who calls."""
    text = f"Request is missing required authentication credential. {_EXPECTED}"
    if key:
        text = (
            "API keys are not supported by this API. Expected OAuth2 access token or other"
            " authentication credentials that assert a principal."
        )
    return Unauthenticated(text, reason=MISSING, metadata=_call(method))


def bad_credentials(method: str, *, expired: bool = False) -> Unauthenticated:
    """For a token that nobody knows, or that has expired; the reason is all that is told."""
    return Unauthenticated(
        f"Request had invalid authentication credentials. {_EXPECTED}",
        reason=EXPIRED if expired else UNSUPPORTED,
        metadata=_call(method),
    )


def scope_insufficient(method: str) -> PermissionDenied:
    """For a token that is for something else."""
    return PermissionDenied(
        "Request had insufficient authentication scopes.", reason=SCOPE, metadata=_call(method)
    )


def permission_denied(permission: str, resource: str) -> PermissionDenied:
    """For a caller who may not do this; says the same whether the resource exists or not."""
    return PermissionDenied(
        f"Permission '{permission}' denied on resource '{resource}' (or it may not exist).",
        reason=PERMISSION,
        metadata={"permission": permission, "resource": resource},
    )


def _call(method: str) -> dict[str, str]:
    return {"service": SERVICE, "method": method}

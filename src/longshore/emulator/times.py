"""Times as Cloud Storage prints them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text(us: int) -> str:
    """RFC 3339 to the millisecond, as the times that Cloud Storage itself sets."""
    return f"{_of(us):%Y-%m-%dT%H:%M:%S}.{us // 1000 % 1000:03d}Z"


def exact_text(us: int) -> str:
    """RFC 3339 with the digits that a user's time has."""
    fraction = f".{us % 1_000_000:06d}".rstrip("0").rstrip(".")
    return f"{_of(us):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _of(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)

"""Times in a request: RFC 3339 text to microseconds."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.errors import InvalidArgument
from longshore.patch import parse_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1970-01-01T00:00:00.0000019Z", 1),
        ("2024-02-29T12:34:56.1234567Z", 1_709_210_096_123_456),
        ("2024-02-29T12:34:56.123456789Z", 1_709_210_096_123_456),
        ("1969-12-31T23:59:59.9Z", -100_000),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T18:30:00-05:30", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
    ],
)
def test_times(text: str, time_us: int) -> None:
    assert parse_time(text) == time_us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00:00Z",
        "2024-01-01T00:00Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00,5Z",
        "2024-01-01T00:00:00.1234567890Z",
        "2024-01-01T00:00:00+0100",
        "2024-01-01T00:00:00+25:00",
        "2024-01-01T00:00:00+01:60",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2024-W01-1T00:00:00Z",
        "20240101T000000Z",
        "2024-01-01T00:00:00Z\n",
        " 2024-01-01T00:00:00Z",
        "٢٠٢٤-01-01T00:00:00Z",
        "1704067200",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_time(text)


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(min_value=-23 * 60 - 59, max_value=23 * 60 + 59),
)
def test_whatever_the_standard_library_writes_is_read(time: datetime, offset: int) -> None:
    try:
        local = time.astimezone(timezone(timedelta(minutes=offset)))
    except OverflowError:
        return
    wanted = (time - EPOCH) // timedelta(microseconds=1)
    assert parse_time(local.isoformat(timespec="microseconds")) == wanted

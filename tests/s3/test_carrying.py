"""What a copy must say again: of heads such as AWS gives them, which no server here does."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from longshore.errors import FailedPrecondition, InvalidArgument
from longshore.patch import MapPatch, load_map
from longshore.stores.s3.carrying import (
    Change,
    columns_of,
    lock_headers,
    lowered,
    refuse_archived,
    refuse_event_hold,
    said_by,
    tags_of,
)
from longshore.stores.s3.heads import Head
from longshore.transport.http import Reply

NOW_US = 1_800_000_000_000_000
PATH = "bucket/object"
PLAIN = {
    "etag": '"0123456789abcdef0123456789abcdef"',
    "content-length": "5",
    "last-modified": "Wed, 25 Nov 2026 20:07:43 GMT",
    "content-type": "text/x",
}


def head(**headers: str) -> Head:
    """An object whose head has these as well; their names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(Reply(200, tuple((PLAIN | named).items()), b""))


def copied(found: Head, asked: dict[str, str] | None = None, **columns: Any) -> dict[str, str]:
    """What the copy says that changes ``columns``, and the class or key that is ``asked`` for."""
    change = Change(columns, **(asked or {}))
    said = change.of(said_by(found, PATH), PATH)
    return said | lock_headers(change.locks(found, PATH), NOW_US)


def test_whatever_was_said_is_said_again() -> None:
    headers = {
        "content_type": "text/y",
        "content_encoding": "gzip",
        "content_language": "de",
        "content_disposition": "inline",
        "cache_control": "no-store",
        "expires": "Tue, 01 Jan 2030 00:00:00 GMT",
        "x_amz_website_redirect_location": "/there",
        "x_amz_storage_class": "STANDARD_IA",
        "x_amz_meta_a": "1",
        "x_amz_meta_goog_custom_time": "2030-01-01T00:00:00.5Z",
        "x_amz_object_lock_legal_hold": "ON",
        "x_amz_object_lock_mode": "COMPLIANCE",
        "x_amz_object_lock_retain_until_date": "2030-01-01T00:00:00Z",
        "x_amz_server_side_encryption": "aws:kms",
        "x_amz_server_side_encryption_aws_kms_key_id": "arn:aws:kms:key/k",
        "x_amz_server_side_encryption_bucket_key_enabled": "true",
    }
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    assert copied(head(**headers)) == said


def test_of_what_is_not_said_nothing_is() -> None:
    assert copied(head()) == {"content-type": "text/x"}
    assert copied(head(content_type="binary/octet-stream")) == {}


def test_a_retention_that_is_over_is_none_to_give() -> None:
    was = {
        "x_amz_object_lock_mode": "GOVERNANCE",
        "x_amz_object_lock_retain_until_date": "2020-01-01T00:00:00Z",
    }
    assert copied(head(**was)) == {"content-type": "text/x"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"storage_class": "STANDARD"}, {}),
        ({"storage_class": "GLACIER_IR"}, {"x-amz-storage-class": "GLACIER_IR"}),
        (
            {"kms_key": "other"},
            {
                "x-amz-storage-class": "STANDARD_IA",
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "other",
            },
        ),
    ],
)
def test_what_is_asked_for_replaces_what_was(asked: dict[str, str], said: dict[str, str]) -> None:
    encrypted = {"x-amz-server-side-encryption": "AES256"} | said
    found = head(x_amz_storage_class="STANDARD_IA", x_amz_server_side_encryption="AES256")
    assert copied(found, asked) == {"content-type": "text/x"} | encrypted | said


def test_a_checksum_is_asked_for_by_the_algorithm_that_was_used() -> None:
    said = copied(head(x_amz_checksum_sha256="abc=", x_amz_checksum_type="FULL_OBJECT"))
    assert said["x-amz-checksum-algorithm"] == "SHA256"


def test_what_stays_goes_as_it_came() -> None:
    """AWS answers text beyond ASCII in words of MIME, and takes it so."""
    found = head(
        x_amz_meta_word="=?UTF-8?B?w7Y=?=",
        x_amz_meta_raw="ö".encode().decode("latin-1"),
        x_amz_meta_gone="1",
    )
    assert load_map(columns_of(found)["custom_metadata"]) == {"word": "ö", "raw": "ö", "gone": "1"}
    change = lowered(MapPatch(updates={"New": "ü"}, removals=frozenset({"GONE"})))
    assert copied(found, custom_metadata=change) == {
        "content-type": "text/x",
        "x-amz-meta-word": "=?UTF-8?B?w7Y=?=",
        "x-amz-meta-raw": "ö",
        "x-amz-meta-new": "ü",
    }


@pytest.mark.parametrize("name", ["x_amz_meta_a", "content_disposition", "expires"])
def test_bytes_that_would_not_survive_are_refused(name: str) -> None:
    with pytest.raises(FailedPrecondition, match="UTF-8"):
        copied(head(**{name: "f\xfcr"}))


@pytest.mark.parametrize(
    "columns",
    [
        {"content_type": "text/x", "cache_control": "ö", "content_language": ""},
        {"custom_metadata": MapPatch(updates={"word": "ö", "a": ""}, removals=frozenset({"b"}))},
        {"custom_metadata": MapPatch(updates={"word": "ö", "a": ""}, clear=True)},
        {"custom_metadata": MapPatch(updates={}, removals=frozenset({"goog-custom-time"}))},
        {"custom_time_us": 1_893_456_000_000_000},
    ],
)
def test_what_is_so_already_is_not_said_otherwise(columns: dict[str, Any]) -> None:
    found = head(
        cache_control="=?UTF-8?B?w7Y=?=",
        x_amz_meta_word="=?UTF-8?B?w7Y=?=",
        x_amz_meta_a="",
        x_amz_meta_goog_custom_time="2030-01-01T00:00:00Z",
    )
    assert copied(found, **columns) == said_by(found, PATH)


def test_the_custom_time_is_no_custom_metadata() -> None:
    time = {"x_amz_meta_goog_custom_time": "2030-01-01T00:00:00Z"}
    found = head(**time, x_amz_meta_a="1")
    kept = {"content-type": "text/x", "x-amz-meta-goog-custom-time": "2030-01-01T00:00:00Z"}
    assert copied(found, custom_metadata=MapPatch(updates={}, clear=True)) == kept
    with pytest.raises(InvalidArgument, match="goog-custom-time"):
        copied(found, custom_metadata=MapPatch(updates={"goog-custom-time": "x"}))
    later = copied(found, custom_time_us=1_893_456_000_500_000)
    assert later["x-amz-meta-goog-custom-time"] == "2030-01-01T00:00:00.500000Z"
    with pytest.raises(InvalidArgument, match="moved later only"):
        copied(found, custom_time_us=1)


def test_a_key_may_be_named_by_its_id() -> None:
    found = head(
        x_amz_server_side_encryption="aws:kms",
        x_amz_server_side_encryption_aws_kms_key_id="arn:aws:kms:eu:1:key/k",
        x_amz_server_side_encryption_bucket_key_enabled="true",
    )
    assert copied(found, {"kms_key": "k"}) == said_by(found, PATH)
    assert "x-amz-server-side-encryption-bucket-key-enabled" not in copied(found, {"kms_key": "z"})


def test_metadata_has_room_for_two_kilobytes() -> None:
    most = {"a": "x" * 2046, "b": ""}
    assert copied(head(), custom_metadata=MapPatch(updates=most))["x-amz-meta-b"] == ""
    with pytest.raises(InvalidArgument, match="2050 bytes"):
        copied(head(), custom_metadata=MapPatch(updates=most | {"b": "12"}))
    with pytest.raises(InvalidArgument, match="bytes"):
        copied(head(x_amz_meta_a=most["a"]), custom_time_us=NOW_US)
    # What a more generous server has taken stays as long as it is not added to.
    large = head(x_amz_meta_a="x" * 3000)
    assert copied(large, content_type="text/z")["x-amz-meta-a"] == "x" * 3000


@pytest.mark.parametrize(
    ("headers", "archived"),
    [
        ({}, False),
        ({"x_amz_storage_class": "STANDARD_IA"}, False),
        ({"x_amz_storage_class": "GLACIER_IR"}, False),
        ({"x_amz_storage_class": "GLACIER"}, True),
        ({"x_amz_storage_class": "DEEP_ARCHIVE", "x_amz_restore": 'ongoing-request="true"'}, True),
        (
            {
                "x_amz_storage_class": "DEEP_ARCHIVE",
                "x_amz_restore": 'ongoing-request="false", expiry-date="Fri, 21 Dec 2029"',
            },
            False,
        ),
        (
            {
                "x_amz_storage_class": "INTELLIGENT_TIERING",
                "x_amz_archive_status": "ARCHIVE_ACCESS",
            },
            True,
        ),
    ],
)
def test_what_is_archived_must_be_restored_first(headers: dict[str, str], archived: bool) -> None:
    if archived:
        with pytest.raises(FailedPrecondition, match="restore it first"):
            refuse_archived(head(**headers), PATH)
    else:
        refuse_archived(head(**headers), PATH)


@pytest.mark.parametrize(("shown", "held"), [({}, False), ("OFF", False), ("ON", True)])
def test_what_is_held_until_an_event_would_not_be_after_a_copy(shown: Any, held: bool) -> None:
    found = head(**({"x_amz_object_lock_event_hold": shown} if shown else {}))
    with pytest.raises(FailedPrecondition, match="event hold") if held else nullcontext():
        refuse_event_hold(found, PATH)


def test_tags_are_counted_where_the_store_counts_them() -> None:
    assert (tags_of(head()), tags_of(head(x_amz_tagging_count="3"))) == (0, 3)

"""What HEAD says of an object."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from longshore.stores.s3 import markup
from longshore.stores.s3.heads import Head
from longshore.transport.http import Reply


def head(**headers: str) -> Head:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(Reply(200, [*said.items()], b""))


@pytest.mark.parametrize("second", [0, 1, 86_399, 951_782_400, 1_795_637_589, 4_102_444_799])
def test_a_date_is_its_second(second: int) -> None:
    assert head(last_modified=formatdate(second, usegmt=True)).version.modified == second


@pytest.mark.parametrize(
    "date", ["Wed, 25 Nov 2026 10:20:30 +0000", "Wed, 25 Nov 2026 12:20:30 +0200"]
)
def test_a_date_that_is_spelt_otherwise(date: str) -> None:
    assert head(last_modified=date).version.modified == 1_795_602_030


def test_a_key_is_called_as_who_asks_calls_it() -> None:
    key = {"x_amz_server_side_encryption_aws_kms_key_id": "arn:1"}
    seen = head(**key)
    assert [seen.columns({})["kms_key"], seen.columns({"arn:1": "projects/p"})["kms_key"]] == [
        "arn:1",
        "projects/p",
    ]


def test_columns_that_somebody_changes_are_no_one_else_s() -> None:
    seen = head(cache_control="no-cache")
    seen.columns({})["cache_control"] = "changed"
    assert seen.columns({})["cache_control"] == "no-cache"


@pytest.mark.parametrize(
    "text",
    [
        "<R><A>1 &amp; 2</A><B/></R>",
        '<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><A>1 &lt; 2</A><A></A></R>\n',
        '<R a="b"><A>1</A></R>',
        "<R><A><B>1</B></A></R>",
    ],
)
def test_a_root_with_texts_is_what_lxml_reads(text: str) -> None:
    assert markup.read_plain(text) == markup.read_any(text.encode())


@pytest.mark.parametrize("text", ["<R><A>1</B></R>", "<R><A>&lost;</A></R>", "<R><A>1</A></R><R/>"])
def test_what_is_no_root_with_texts_is_not_read_as_one(text: str) -> None:
    assert markup.read_plain(text) is None

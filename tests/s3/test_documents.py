"""The documents of tags and grants."""

from __future__ import annotations

import pytest

from longshore.errors import Unimplemented
from longshore.stores.s3.documents import (
    Acl,
    Grant,
    access_control_policy,
    grant_headers,
    read_acl,
    tagging,
    with_roles,
    wrong_tags,
)
from longshore.stores.s3.heads import acl as acl_column
from longshore.stores.s3.heads import tags as tags_column

GROUPS = "http://acs.amazonaws.com/groups/global"
OWNER = Grant("id", "me", "FULL_CONTROL")
FRIEND = Grant("id", 'a"<friend>&', "READ_ACP")
EVERYBODY = Grant("uri", f"{GROUPS}/AllUsers", "READ")
EVERYBODY_ACP = Grant("uri", f"{GROUPS}/AllUsers", "READ_ACP")
USERS = Grant("uri", f"{GROUPS}/AuthenticatedUsers", "FULL_CONTROL")


def test_an_acl_is_read_as_it_was_written() -> None:
    acl = Acl("me", [OWNER, FRIEND, EVERYBODY, USERS])
    body = access_control_policy(acl)
    assert read_acl(body) == acl
    assert acl_column(body) == '{"allAuthenticatedUsers":"OWNER","allUsers":"READER"}'


def test_only_the_groups_whose_role_changes_lose_what_they_had() -> None:
    acl = Acl("me", [OWNER, FRIEND, EVERYBODY, EVERYBODY_ACP, USERS])
    before = {"allUsers": "READER", "allAuthenticatedUsers": "OWNER"}
    without_users = with_roles(acl, before, {"allUsers": "READER"})
    assert without_users.grants == [OWNER, FRIEND, EVERYBODY, EVERYBODY_ACP]
    owned = with_roles(acl, before, {"allUsers": "OWNER", "allAuthenticatedUsers": "OWNER"})
    assert owned.grants == [OWNER, FRIEND, USERS, EVERYBODY._replace(permission="FULL_CONTROL")]


def test_a_new_object_is_granted_what_another_has() -> None:
    assert grant_headers(Acl("me", [OWNER])) == {}
    assert grant_headers(Acl("me", [OWNER, EVERYBODY, Grant("id", "you", "READ")])) == {
        "x-amz-grant-full-control": 'id="me"',
        "x-amz-grant-read": f'uri="{GROUPS}/AllUsers", id="you"',
    }


def test_a_grantee_that_cannot_be_named_again_is_refused() -> None:
    body = access_control_policy(Acl("me", [OWNER])).replace(b"ID>me</ID>", b"EmailAddress>x@y</E>")
    with pytest.raises(Unimplemented):
        read_acl(body.replace(b"</E>", b"</EmailAddress>"))


def test_tags_are_read_as_they_were_written() -> None:
    tags = {"team": "dock 1", "ü:/=+-@_.": "", "a": "b=c&d"}
    assert tags_column(tagging(tags)) == '{"a":"b=c&d","team":"dock 1","ü:/=+-@_.":""}'


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({}, ""),
        ({str(number): "" for number in range(10)}, ""),
        ({str(number): "" for number in range(11)}, "11 contexts"),
        ({"ü" * 128: "ö" * 256}, ""),
        ({"a" * 129: ""}, "too long"),
        ({"a": "b" * 257}, "too long"),
        ({"": "b"}, "too long"),
        ({"a b.:/=+-@_": "東京 1"}, ""),
        ({"a": "b\n"}, "character"),
        ({"a&b": "c"}, "character"),
        ({"AWS:a": "b"}, "AWS's own"),
    ],
)
def test_what_no_tag_can_be_is_said(tags: dict[str, str], why: str) -> None:
    said = wrong_tags(tags)
    assert (why in said) if why else (said == "")

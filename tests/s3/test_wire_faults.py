"""Whole jobs on Ceph over a wire that cuts, halves, delays and doubles: what comes of each object,
how often it was changed, and what is counted, stays exact."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.house import BUCKET, House
from tests.s3.asking import client_of, options_of, versions_of
from tests.s3.wire import LATE, TIMES, Fault, Wire, bad_wire

if TYPE_CHECKING:
    from tests.services.ceph import Ceph

pytestmark = pytest.mark.services

COUNT = 60
PREFIX = "d/"
NAMES = [f"{PREFIX}{number:02d} ä+%" for number in range(COUNT)]
SOURCE = ("prefix_list", {"prefixes": [PREFIX]})
SECONDS = 240.0
TAGS = {"team": "dock"}
EVERYONE = "http://acs.amazonaws.com/groups/global/AllUsers"
MAY_DOUBLE = (Fault.DOUBLES, Fault.ABANDONS)
"""What may make more than one version, whatever the client does: it is sent twice, or done after
the client has looked and found it undone."""


class Case(NamedTuple):
    """A transformation, how an object looks after it, and how many versions it makes of each."""

    what: tuple[str, dict[str, Any]]
    looks: Callable[[Bucket, str, Any], Any] | None
    """Of the bucket, a name and its HEAD."""
    wanted: Any
    new_versions: int = 0
    new_markers: int = 0


class Bucket:
    """A bucket with Object Lock, as boto3 sees it, not over the wire."""

    def __init__(self, s3: Any) -> None:
        self.s3 = s3
        s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)

    def fill(self, *, held: bool) -> None:
        """Objects with all that may be lost; ``held``: every third is."""
        for number, name in enumerate(NAMES):
            hold = {"ObjectLockLegalHoldStatus": "ON"} if held and number % 3 == 0 else {}
            self.s3.put_object(
                Bucket=BUCKET,
                Key=name,
                Body=content(name),
                CacheControl="no-store",
                Metadata={"old": "1"},
                Tagging="team=dock",
                **hold,
            )

    def held_behind(self) -> list[str]:
        """Noncurrent versions, of those that were held at first, which still are."""
        return [
            one.name
            for one in versions_of(self.s3, BUCKET, PREFIX)
            if not one.live
            and one.name in NAMES[::3]
            and self.head(one.name, VersionId=one.version_id).get("ObjectLockLegalHoldStatus")
            == "ON"
        ]

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many versions, and how many markers, there are of each name."""
        versions, markers = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
        for one in versions_of(self.s3, BUCKET, PREFIX):
            (markers if one.marker else versions)[one.name] += 1
        return versions, markers

    def tags(self, name: str) -> dict[str, str]:
        tags = self.s3.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in tags}

    def head(self, name: str, **which: str) -> Any:
        return self.s3.head_object(Bucket=BUCKET, Key=name, **which)

    def public(self, name: str) -> list[str]:
        grants = self.s3.get_object_acl(Bucket=BUCKET, Key=name)["Grants"]
        return [one["Permission"] for one in grants if one["Grantee"].get("URI") == EVERYONE]


def content(name: str) -> bytes:
    return f"content of {name}".encode()


def _metadata(bucket: Bucket, name: str, head: Any) -> Any:
    return head["ContentType"], head["Metadata"], head.get("StorageClass", "STANDARD")


MD5 = {name: md5(content(name), usedforsecurity=False).hexdigest() for name in NAMES}
CASES = {
    "delete": Case(("delete_object", {"permanent": False}), None, None, new_markers=1),
    "delete for good": Case(("delete_object", {"permanent": True}), None, None, new_versions=-1),
    "hold": Case(
        ("put_object_hold", {"temporary_hold": True}),
        lambda bucket, name, head: head["ObjectLockLegalHoldStatus"],
        "ON",
    ),
    "release": Case(
        ("put_object_hold", {"temporary_hold": False}),
        lambda bucket, name, head: head.get("ObjectLockLegalHoldStatus", "OFF"),
        "OFF",
    ),
    "retention": Case(
        ("put_metadata", {"retention": "Unlocked@1893456000000000"}),
        lambda bucket, name, head: (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]),
        ("GOVERNANCE", datetime(2030, 1, 1, tzinfo=UTC)),
    ),
    "metadata": Case(
        ("put_metadata", {"content_type": "text/y", "custom_metadata": {"new": "1"}}),
        _metadata,
        ("text/y", {"old": "1", "new": "1"}, "STANDARD"),
        new_versions=1,
    ),
    "contexts": Case(
        (
            "update_object_custom_context",
            {"updates": {"new": "1"}, "removals": ["team"], "clear": False},
        ),
        lambda bucket, name, head: bucket.tags(name),
        {"new": "1"},
    ),
    "ACL": Case(
        ("set_object_acls", {"grants": {"allUsers": "READER"}, "removals": []}),
        lambda bucket, name, head: bucket.public(name),
        ["READ"],
    ),
    "rewrite": Case(
        ("rewrite_object", {"storage_class": "COLDLINE", "kms_key": ""}),
        _metadata,
        ("binary/octet-stream", {"old": "1"}, "COLDLINE"),
        new_versions=1,
    ),
}
COUNTED_CONTEXTS = ("contexts_created", "contexts_deleted", "contexts_updated")


@asynccontextmanager
async def opened(
    ceph: Ceph, tmp_path: Path, seed: str
) -> AsyncIterator[tuple[House, Wire, Bucket]]:
    account = ceph.new_account()
    s3 = client_of(account)
    async with bad_wire(account.endpoint, PREFIX, sum(seed.encode())) as wire:
        options = options_of(account._replace(endpoint=wire.endpoint))
        house = House(tmp_path, "s3", batch=10, options=options, speed=10.0)
        await house.outside.create()
        try:
            yield house, wire, Bucket(s3)
        finally:
            await house.close()
            s3.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("case", "fault"),
    [
        pytest.param(case, fault, id=f"{case}, {fault.name}")
        for case in CASES
        for fault in Fault
        if fault not in LATE or case == "metadata"
    ],
)
async def test_counts_and_states_are_exact(
    ceph: Ceph, tmp_path: Path, case: str, fault: Fault
) -> None:
    what, looks, wanted, new_versions, new_markers = CASES[case]
    async with opened(ceph, tmp_path, f"{case} {fault}") as (house, wire, bucket):
        makes_copies = new_versions > 0
        bucket.fill(held=makes_copies or case == "release")
        wire.fault = fault
        job = await house.create(what, SOURCE)
        assert await house.run(job, seconds=SECONDS)
        row, (counters, errors) = await house.job(job)
        assert (row.state, errors) == ("SUCCEEDED", {})
        assert (counters.total, counters.succeeded, counters.failed) == (COUNT, COUNT, 0)
        assert wire.spoilt
        contexts = [getattr(counters, name) for name in COUNTED_CONTEXTS]
        assert contexts == ([COUNT, COUNT, 0] if case == "contexts" else [0, 0, 0])
        versions, markers = bucket.counts()
        twice = fault in MAY_DOUBLE
        for found, at_first, new in ((versions, 1, new_versions), (markers, 0, new_markers)):
            exact = {at_first + new}
            if twice and new > 0:
                exact |= {at_first + times * new for times in range(2, 2 + TIMES)}
            assert set(found.values()) <= exact
        if looks is None:
            assert await house.names(PREFIX) == []
            return
        for number, name in enumerate(NAMES):
            head = bucket.head(name)
            assert looks(bucket, name, head) == wanted
            # The ETag of content that was written in one piece is its MD5.
            assert (head["CacheControl"], head["ETag"]) == ("no-store", f'"{MD5[name]}"')
            held = case == "hold" or (makes_copies and number % 3 == 0)
            assert head.get("ObjectLockLegalHoldStatus", "OFF") == ("ON" if held else "OFF"), name
            if case != "contexts":
                assert bucket.tags(name) == TAGS, name
        if makes_copies:
            assert bucket.held_behind() == []

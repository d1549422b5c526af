"""Corner cases of object locks, on moto, which enforces them: what stays, what goes, and why."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import Code
from longshore.patch import Patch, Retention
from longshore.settings import StoreSettings
from longshore.store import ABSENT, Failure, Outcome, Store
from longshore.stores import s3
from tests.s3.asking import client_of, leftovers, options_of, versions_of
from tests.services.s3_servers import S3Server

NAME = "a b+cü"
DAY_US = 86_400_000_000
_buckets = (f"locks-{number}" for number in itertools.count(1))


class Locker:
    """A bucket that locks; changed by the store, and looked at by boto3."""

    def __init__(self, moto: S3Server, directory: Path) -> None:
        self.s3: Any = client_of(moto)
        self.bucket, self.probe_bucket = next(_buckets), next(_buckets)
        for bucket in (self.bucket, self.probe_bucket):
            self.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        options = {**options_of(moto), "probe_bucket": self.probe_bucket}
        settings = StoreSettings(name="moto", kind="s3", options=options)
        self.store: Store = s3.open_store(settings, directory)

    def put(self, name: str = NAME, **metadata: Any) -> str:
        put = self.s3.put_object(Bucket=self.bucket, Key=name, Body=b"cargo", **metadata)
        return str(put["VersionId"])

    def head(self, **version: str) -> dict[str, Any]:
        return dict(self.s3.head_object(Bucket=self.bucket, Key=NAME, **version))

    async def patch(self, **changes: Any) -> Failure | None:
        """Change the live object; gives why not."""
        batch = await self.store.read_objects(self.bucket, [NAME], [ABSENT], columns=("live",))
        outcome = await self.store.patch_objects(self.bucket, batch, Patch(**changes))
        return outcome.failures.get(0)

    async def delete_all(self) -> tuple[int, Outcome]:
        """Delete all versions for good; gives how many there were."""
        pages = self.store.list_objects(self.bucket, versions=True)
        async for page in pages:
            return len(page), await self.store.delete_objects(self.bucket, page, permanent=True)
        return 0, Outcome()

    async def refusal(self) -> str:
        """Why the one version that there is can't be deleted for good."""
        count, outcome = await self.delete_all()
        assert count == 1
        assert outcome.failures[0].code is Code.PERMISSION_DENIED
        return outcome.failures[0].message

    def left(self) -> list[str]:
        return [one.version_id for one in versions_of(self.s3, self.bucket)]


@pytest.fixture
async def locker(moto: S3Server, tmp_path: Path) -> AsyncIterator[Locker]:
    locker = Locker(moto, tmp_path)
    yield locker
    await locker.store.close()
    assert leftovers(locker.s3, locker.probe_bucket) == []
    locker.s3.close()


def until(days: float, mode: str = "Unlocked") -> Retention:
    second = int(time.time()) * 1_000_000
    return Retention(mode=mode, until_us=second + int(days * DAY_US))


async def test_locked_is_compliance_and_is_only_lengthened(locker: Locker) -> None:
    """moto would let anybody shorten it; we do not ask."""
    locker.put()
    assert await locker.patch(retention=until(2, "Locked")) is None
    assert locker.head()["ObjectLockMode"] == "COMPLIANCE"
    for override in (False, True):
        for wanted in (until(1, "Locked"), until(3, "Unlocked"), None):
            failure = await locker.patch(retention=wanted, override_unlocked_retention=override)
            assert failure is not None
            assert failure.code is Code.PERMISSION_DENIED
    longer = until(3, "Locked")
    assert await locker.patch(retention=longer) is None
    assert locker.head()["ObjectLockRetainUntilDate"].timestamp() * 1e6 == longer.until_us


async def test_the_right_to_bypass_is_never_used_to_delete(locker: Locker) -> None:
    version = locker.put()
    assert await locker.patch(retention=until(1)) is None
    assert locker.head()["ObjectLockMode"] == "GOVERNANCE"
    assert "object retention" in await locker.refusal()
    assert locker.left() == [version]
    which = {"Bucket": locker.bucket, "Key": NAME, "VersionId": version}
    locker.s3.delete_object(**which, BypassGovernanceRetention=True)  # who asks for it may


async def test_what_is_held_and_retained_is_let_go_by_both(locker: Locker) -> None:
    locker.put()
    end = time.time() + 3
    soon = Retention(mode="Unlocked", until_us=int(end) * 1_000_000)
    assert await locker.patch(temporary_hold=True) is None
    assert await locker.patch(retention=soon) is None
    assert "hold" in await locker.refusal()
    while time.time() < end:
        await asyncio.sleep(0.1)
    # Its retention is over, and its hold is not.
    assert "hold" in await locker.refusal()
    assert await locker.patch(temporary_hold=False) is None
    assert (await locker.delete_all()) == (1, Outcome())
    assert locker.left() == []


async def test_a_marker_over_what_is_held_goes_and_that_is_live_again(locker: Locker) -> None:
    held, free = locker.put(), locker.put("free")
    assert await locker.patch(temporary_hold=True) is None
    locker.s3.delete_object(Bucket=locker.bucket, Key=NAME)
    assert {free, held} < set(locker.left())
    count, outcome = await locker.delete_all()
    assert count == 3
    assert [failure.code for failure in outcome.failures.values()] == [Code.PERMISSION_DENIED]
    assert locker.left() == [held]
    assert locker.head()["ObjectLockLegalHoldStatus"] == "ON"


@pytest.mark.parametrize("days", [1, 30])
async def test_a_copy_is_retained_as_long_as_its_object_and_its_bucket_say(
    locker: Locker, days: int
) -> None:
    """In a bucket that retains whatever is written, so that trials take place in another one."""
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 10}}
    locker.s3.put_object_lock_configuration(
        Bucket=locker.bucket,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
    )
    own = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    before = locker.put(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=own)
    assert await locker.patch(content_type="text/y") is None
    head = locker.head()
    assert (head["VersionId"] != before, head["ContentType"]) == (True, "text/y")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", own)
    assert locker.head(VersionId=before)["ObjectLockRetainUntilDate"] == own

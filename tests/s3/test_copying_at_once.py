"""Copies by a service that keeps tags and takes holds, as AWS does and moto shows: one step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from longshore.errors import DeadlineExceeded, ResourceExhausted, Unavailable, Unimplemented
from longshore.stores.s3 import copying
from longshore.stores.s3.attached import Named
from longshore.stores.s3.client import Client, Traits
from longshore.stores.s3.copying import Change, Copier
from longshore.stores.s3.failures import Unsent
from longshore.transport import open_transport
from longshore.transport.endpoint import Endpoint
from longshore.transport.http import Reply, Request
from tests.s3.asking import client_of, service_of, versions_of
from tests.s3.test_copying import Stopping
from tests.services.ceph import free_port
from tests.services.s3_servers import S3Server

NAME = "a b+cü"
PROVEN = Traits(locks=True, takes_tags=True, keeps_tags=True, takes_locks=True)
FORGETFUL = Traits(locks=True, takes_tags=True)
CHANGE = Change({"content_type": "text/y"})


class Locker:
    """A bucket that locks, on a server; what is sent to it is listed."""

    def __init__(self, server: S3Server) -> None:
        self.service = service_of(server)
        self.s3 = client_of(server)
        self.bucket = f"locker-{uuid4().hex}"
        self.s3.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)
        self.sent: list[str] = []
        self.meddle: Callable[[Any], Awaitable[Reply]] | None = None
        """Sends what is a CopyObject, in our place."""
        self._send = self.service.send
        self.service.send = self.send  # type: ignore[method-assign]

    async def send(self, call: Any) -> Reply:
        self.sent.append(call.verb)
        if self.meddle is not None and call.verb == "CopyObject":
            return await self.meddle(call)
        return await self.forward(call)

    async def forward(self, call: Any) -> Reply:
        return await self._send(call)

    def put(self, **metadata: Any) -> Named:
        put = self.s3.put_object(Bucket=self.bucket, Key=NAME, Body=b"cargo", **metadata)
        return Named(put["VersionId"], 0)

    def look(self, **version: str) -> dict[str, Any]:
        return dict(self.s3.head_object(Bucket=self.bucket, Key=NAME, **version))

    async def copy(self, named: Named, traits: Traits, turns: Any = None) -> list[str]:
        self.sent.clear()
        await Copier(Client(self.service, turns), self.bucket, traits).copy(NAME, named, CHANGE)
        return self.sent


@pytest.fixture
async def locker(moto: S3Server) -> AsyncIterator[Locker]:
    locker = Locker(moto)
    yield locker
    await locker.service.close()
    locker.s3.close()


async def test_an_object_that_hangs_on_nothing_takes_three_requests(locker: Locker) -> None:
    named = locker.put(ContentType="text/x", Metadata={"a": "1"})
    assert await locker.copy(named, PROVEN) == ["HeadObject", "GetObjectAcl", "CopyObject"]
    now = locker.look()
    assert (now["ContentType"], now["Metadata"]) == ("text/y", {"a": "1"})


@pytest.mark.parametrize("traits", [PROVEN, FORGETFUL], ids=["proven", "forgetful"])
async def test_a_lock_and_tags_go_with_the_copy(locker: Locker, traits: Traits) -> None:
    until = datetime(2100, 1, 1, tzinfo=UTC)
    named = locker.put(Tagging="a=1", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
    locker.s3.put_object_legal_hold(Bucket=locker.bucket, Key=NAME, LegalHold={"Status": "ON"})
    sent = await locker.copy(named, traits)
    now, before = locker.look(), locker.look(VersionId=named.version_id)
    assert now["VersionId"] != named.version_id
    assert (now["ObjectLockMode"], now["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until)
    assert (now["ObjectLockLegalHoldStatus"], before["ObjectLockLegalHoldStatus"]) == ("ON", "OFF")
    assert before["ObjectLockMode"] == "GOVERNANCE"
    tags = locker.s3.get_object_tagging(Bucket=locker.bucket, Key=NAME)["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}]
    # What the copy has is not given to it again; the hold of the version behind it is released.
    assert "PutObjectTagging" not in sent
    assert sent.count("PutObjectLegalHold") == 1
    assert ("GetObjectTagging" in sent) == (not traits.keeps_tags)


async def test_a_copy_that_was_not_sent_is_not_looked_for(locker: Locker) -> None:
    """Though it would lose the tags: an outage is no loss of data."""
    named = locker.put(Tagging="a=1")
    nobody = open_transport(Endpoint.parse(f"http://127.0.0.1:{free_port()}"))
    locker.meddle = lambda call: nobody.send(Request("PUT", "/"))
    with pytest.raises(Unavailable, match="no connection"):
        await locker.copy(named, FORGETFUL)
    assert locker.sent[-1] == "CopyObject"
    await nobody.close()


@pytest.mark.parametrize("how", ["plain", "may lose tags", "stopped"])
async def test_a_copy_that_takes_longer_than_anybody_waits_is_waited_for(
    locker: Locker, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would be made for nothing, and be a version too many."""
    monkeypatch.setattr(copying, "SLOW_SECONDS", 0.05)
    monkeypatch.setattr(copying, "SLOWEST_BYTES_PER_SECOND", 1)  # five seconds for "cargo"
    late: list[asyncio.Task[Reply]] = []

    async def copy_late(call: Any) -> Reply:
        await asyncio.sleep(1)
        return await locker.forward(call)

    async def drag(call: Any) -> Reply:
        late.append(asyncio.create_task(copy_late(call)))
        raise DeadlineExceeded("No whole reply within 9 s.")

    named = locker.put(**({"Tagging": "a=1"} if how == "may lose tags" else {}))
    locker.meddle = drag
    traits = FORGETFUL if how == "may lose tags" else PROVEN
    if how == "stopped":
        with pytest.raises(Unsent):
            await locker.copy(named, traits, Stopping("CopyObject"))
        assert not late[0].done()
        await late[0]
    else:
        assert (await locker.copy(named, traits)).count("CopyObject") == 1
    assert len(list(versions_of(locker.s3, locker.bucket))) == 2
    assert locker.look()["ContentType"] == "text/y"


async def test_what_was_not_seen_to_work_is_not_tried_on_a_user_s_object(locker: Locker) -> None:
    """Neither tags that a copy may lose are put back by a call that nobody knows, nor is an object
    made of parts."""
    named = locker.put(Tagging="a=1")
    for traits, why in (
        (Traits(locks=True), "lose its tags"),
        (replace(PROVEN, copy_bytes=4), "parts of an object"),
        (replace(PROVEN, copy_bytes=4, finds_parts=True), "parts of an object"),
    ):
        with pytest.raises(Unimplemented, match=why):
            await locker.copy(named, traits)
        assert set(locker.sent) <= {"HeadObject", "GetObjectTagging", "GetObjectAcl"}


async def test_what_hangs_on_the_content_stays(locker: Locker) -> None:
    """Of what no Ceph of the tests copies: checksums and encryption."""
    said = {
        "ChecksumAlgorithm": "SHA256",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "arn:aws:kms:us-east-1:1:key/k",
        "StorageClass": "STANDARD_IA",
        "WebsiteRedirectLocation": "/elsewhere",
    }
    named = locker.put(**said)
    before = locker.look(ChecksumMode="ENABLED")
    assert {"ChecksumSHA256", "SSEKMSKeyId", "StorageClass"} <= before.keys()
    await locker.copy(named, PROVEN)
    after = locker.look(ChecksumMode="ENABLED")
    assert after["VersionId"] != before["VersionId"]
    for name in (*said.keys() - {"ChecksumAlgorithm"}, "ChecksumSHA256", "ETag"):
        assert after[name] == before[name], name


async def test_an_error_in_a_reply_that_says_ok_is_no_copy(locker: Locker) -> None:
    """The service has to begin its reply before it knows."""
    named = locker.put()

    async def fail(call: Any) -> Reply:
        return Reply(200, (), b"\n \n<Error><Code>SlowDown</Code><Message>Later.</Message></Error>")

    locker.meddle = fail
    with pytest.raises(ResourceExhausted, match="Later"):
        await locker.copy(named, PROVEN)
    assert locker.look()["VersionId"] == named.version_id

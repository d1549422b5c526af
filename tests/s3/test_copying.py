"""Changes of metadata on a real Ceph: nothing that was there is lost, and nothing is done twice.

What the store did is looked at by boto3, which shares no code with it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from longshore.errors import Code, FailedPrecondition, Unavailable
from longshore.patch import MapPatch, Patch, Retention
from longshore.store import ABSENT, UNSENT, Batch, Outcome
from longshore.stores.s3 import attached, copying, patching, reading
from longshore.stores.s3.client import Client, Traits
from longshore.stores.s3.failures import Unsent
from longshore.stores.s3.features import Feature
from longshore.transport.http import Reply
from tests.s3.asking import client_of, prove, service_of, versions_of

if TYPE_CHECKING:
    from tests.services.ceph import Ceph

pytestmark = pytest.mark.services

LOCKED, PLAIN = "locked", "plain"
NAME = "a b+cü/&<>?.txt"
EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"
MEBIBYTE = 1 << 20
_OF_PARTS = ("UploadPartCopy", "CompleteMultipartUpload")
LARGE = bytes(range(256)) * (12 * MEBIBYTE // 256) + b"the end"
EVERYTHING = {
    "ContentType": "text/x",
    "CacheControl": "no-store",
    "ContentDisposition": "inline",
    "ContentEncoding": "gzip",
    "ContentLanguage": "de",
    "Expires": datetime(2031, 1, 1, tzinfo=UTC),
    "Metadata": {"old": "1", "other": "2"},
    "WebsiteRedirectLocation": "/elsewhere",
    "StorageClass": "COLDLINE",
}
TAGS = {"team": "dock 1", "tide": "höch"}


class Harbour:
    """Two buckets, one of which locks; changed by the store, and looked at by boto3."""

    def __init__(self, account: Any) -> None:
        self.service = service_of(account)
        prove(self.service, Feature.TAGGING, Feature.PART_COPY)
        self.client = Client(self.service)
        self.s3: Any = client_of(account)
        self.s3.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        self.s3.create_bucket(Bucket=PLAIN)

    def put(self, bucket: str, name: str = NAME, body: bytes = b"cargo", **metadata: Any) -> None:
        self.s3.put_object(Bucket=bucket, Key=name, Body=body, **metadata)

    def put_everything(self, bucket: str, body: bytes = b"cargo") -> None:
        self.put(bucket, body=body, **EVERYTHING)
        tags = [{"Key": key, "Value": value} for key, value in TAGS.items()]
        self.s3.put_object_tagging(Bucket=bucket, Key=NAME, Tagging={"TagSet": tags})
        acl = self.s3.get_object_acl(Bucket=bucket, Key=NAME)
        public = {"Grantee": {"Type": "Group", "URI": EVERYBODY}, "Permission": "READ"}
        self.s3.put_object_acl(
            Bucket=bucket,
            Key=NAME,
            AccessControlPolicy={"Owner": acl["Owner"], "Grants": [*acl["Grants"], public]},
        )

    def take_parts(self, bucket: str) -> None:
        """From now on, 8 MiB are too large for one request."""
        traits = Traits(locks=bucket == LOCKED, copy_bytes=8 * MEBIBYTE, part_bytes=5 * MEBIBYTE)
        self.service.traits[bucket] = traits, math.inf

    def hold(self, held: bool = True, name: str = NAME) -> None:
        status = {"Status": "ON" if held else "OFF"}
        self.s3.put_object_legal_hold(Bucket=LOCKED, Key=name, LegalHold=status)

    def all_of(self, bucket: str, name: str = NAME) -> dict[str, Any]:
        """Everything that S3 tells of the live object."""
        head = self.s3.head_object(Bucket=bucket, Key=name)
        names = {
            *("ContentType", "CacheControl", "ContentDisposition", "ContentEncoding"),
            *("ContentLanguage", "ExpiresString", "Metadata", "WebsiteRedirectLocation"),
            *("StorageClass", "ContentLength", "ServerSideEncryption", "SSEKMSKeyId"),
            *("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus"),
        }
        found = {key: head[key] for key in sorted(names & head.keys())}
        # boto3 takes for Latin-1 what is UTF-8.
        pairs = head["Metadata"].items()
        found["Metadata"] = {key: value.encode("latin-1").decode() for key, value in pairs}
        tags = self.s3.get_object_tagging(Bucket=bucket, Key=name)["TagSet"]
        found["tags"] = {tag["Key"]: tag["Value"] for tag in tags}
        grants = self.s3.get_object_acl(Bucket=bucket, Key=name)["Grants"]
        found["grants"] = sorted(
            (one["Grantee"].get("URI", one["Grantee"].get("ID")), one["Permission"])
            for one in grants
        )
        found["content"] = self.s3.get_object(Bucket=bucket, Key=name)["Body"].read()
        return found

    def versions(self, bucket: str, name: str = NAME) -> list[str]:
        """The ids of an object's versions, the newest first."""
        listed = list(versions_of(self.s3, bucket, name))
        assert not any(one.marker for one in listed)
        return [one.version_id for one in listed]

    async def there(self, bucket: str, *names: str, columns: Sequence[str] = ()) -> Batch:
        return await reading.there(
            self.client, bucket, names or [NAME], [ABSENT] * (len(names) or 1), (*columns, "live")
        )

    async def patch(
        self, bucket: str, patch: Patch, *names: str, batch: Batch | None = None, **options: Any
    ) -> Outcome:
        batch = batch or await self.there(bucket, *names, columns=tuple(patch.changes()))
        return await patching.patch_objects(self.client, bucket, batch, patch, **options)

    async def rewrite(self, bucket: str, storage_class: str = "", kms_key: str = "") -> Outcome:
        batch = await self.there(bucket)
        return await patching.rewrite_objects(
            self.client,
            bucket,
            batch,
            storage_class=storage_class,
            kms_key=kms_key,
        )


@pytest.fixture
async def harbour(ceph: Ceph) -> AsyncIterator[Harbour]:
    harbour = Harbour(ceph.new_account())
    yield harbour
    harbour.s3.close()
    await harbour.service.close()


def failed(outcome: Outcome) -> dict[int, Code]:
    return {index: failure.code for index, failure in outcome.failures.items()}


CHANGE = Patch(
    content_type="text/y",
    custom_metadata=MapPatch(updates={"New": "ä é", "old": "3"}, removals=frozenset({"gone"})),
)
CLEAR = MapPatch(updates={}, clear=True)
CHANGED = {"ContentType": "text/y", "Metadata": {"new": "ä é", "old": "3", "other": "2"}}


@pytest.mark.parametrize("bucket", [PLAIN, LOCKED])
async def test_a_change_of_metadata_loses_nothing(harbour: Harbour, bucket: str) -> None:
    harbour.put_everything(bucket)
    harbour.put(bucket, "a%41b", **EVERYTHING)
    before = harbour.all_of(bucket)
    assert {"tags", "grants", "ExpiresString", "StorageClass"} <= before.keys()
    assert before["tags"] == TAGS
    assert not (await harbour.patch(bucket, CHANGE)).failures
    assert harbour.all_of(bucket) == before | CHANGED
    assert not (await harbour.patch(bucket, CHANGE, "a%41b")).failures
    assert harbour.all_of(bucket, "a%41b")["ContentType"] == "text/y"
    # Once more: there is nothing to do, so nothing is sent, and no version made.
    made = harbour.versions(bucket)
    assert len(made) == (2 if bucket == LOCKED else 1)
    assert not (await harbour.patch(bucket, CHANGE)).failures
    assert harbour.versions(bucket) == made


@pytest.mark.parametrize("bucket", [PLAIN, LOCKED])
async def test_what_is_too_large_for_one_request_is_copied_in_parts(
    harbour: Harbour, bucket: str
) -> None:
    harbour.take_parts(bucket)
    harbour.put_everything(bucket, LARGE)
    if bucket == LOCKED:
        harbour.hold()
    before = harbour.all_of(bucket)
    send, all_sent, parts = harbour.service.send, asyncio.Event(), 0

    async def in_parallel(call: Any) -> Any:
        nonlocal parts
        if call.verb == "UploadPartCopy":
            parts += 1
            if parts == 3:
                all_sent.set()
            await asyncio.wait_for(all_sent.wait(), 60)
        return await send(call)

    harbour.service.send = in_parallel  # type: ignore[method-assign]
    assert not (await harbour.patch(bucket, CHANGE)).failures
    assert harbour.all_of(bucket) == before | CHANGED
    assert "Uploads" not in harbour.s3.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize(
    ("verb", "how"),
    [
        *((verb, how) for verb in _OF_PARTS for how in ("refused", "cancelled", "unsent")),
        ("UploadPartCopy", "overwritten"),
    ],
)
async def test_a_copy_in_parts_that_fails_leaves_none_behind(
    harbour: Harbour, verb: str, how: str
) -> None:
    harbour.take_parts(PLAIN)
    harbour.put(PLAIN, body=LARGE)
    before = harbour.all_of(PLAIN)
    batch = await harbour.there(PLAIN, columns=tuple(CHANGE.changes()))
    send = harbour.service.send
    met = asyncio.Event()

    async def meddle(call: Any) -> Any:
        if call.verb == verb and not met.is_set():
            met.set()
            if how == "refused":
                return Reply(503, (), b"<Error><Code>SlowDown</Code></Error>")
            if how == "unsent":
                raise Unsent(UNSENT.message)
            if how == "overwritten":
                harbour.put(PLAIN, body=b"newer")
            else:
                await asyncio.sleep(0.1)
                raise Unavailable("The connection ended.")
        return await send(call)

    harbour.service.send = meddle  # type: ignore[method-assign]
    patching = asyncio.create_task(harbour.patch(PLAIN, CHANGE, batch=batch))
    await met.wait()
    if how == "cancelled":
        patching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patching
    else:
        codes = {"refused": Code.RESOURCE_EXHAUSTED, "overwritten": Code.ABORTED}
        outcome = await patching
        assert failed(outcome) == {0: codes.get(how, Code.CANCELLED)}
        assert (outcome.failures[0] is UNSENT) == (how == "unsent")
    assert "Uploads" not in harbour.s3.list_multipart_uploads(Bucket=PLAIN)
    if how == "overwritten":
        assert harbour.all_of(PLAIN)["content"] == b"newer"
    else:
        assert harbour.all_of(PLAIN) == before


async def test_parts_are_not_copied_of_an_object_of_a_similar_name(harbour: Harbour) -> None:
    """Ceph decodes the name of what a part is copied from twice."""
    harbour.take_parts(PLAIN)
    harbour.put(PLAIN, "a%41b", body=LARGE)
    harbour.put(PLAIN, "aAb", body=LARGE[::-1])
    before = harbour.all_of(PLAIN, "a%41b")
    assert failed(await harbour.patch(PLAIN, CHANGE, "a%41b")) == {0: Code.UNIMPLEMENTED}
    assert harbour.all_of(PLAIN, "a%41b") == before


async def test_a_hold_moves_with_its_object_until_it_is_released(harbour: Harbour) -> None:
    """Hold, change the metadata, release, delete for good: nothing of it stays."""
    harbour.put(LOCKED)
    assert not (await harbour.patch(LOCKED, Patch(temporary_hold=True))).failures
    assert not (await harbour.patch(LOCKED, CHANGE)).failures
    new, old = harbour.versions(LOCKED)
    with pytest.raises(ClientError, match="AccessDenied"):
        harbour.s3.delete_object(Bucket=LOCKED, Key=NAME, VersionId=new)
    assert harbour.all_of(LOCKED)["ObjectLockLegalHoldStatus"] == "ON"
    harbour.s3.delete_object(Bucket=LOCKED, Key=NAME, VersionId=old)
    assert not (await harbour.patch(LOCKED, Patch(temporary_hold=False))).failures
    harbour.s3.delete_object(Bucket=LOCKED, Key=NAME, VersionId=new)
    assert harbour.versions(LOCKED) == []


async def test_a_retention_is_carried_over_and_stays_behind_too(harbour: Harbour) -> None:
    harbour.put(LOCKED)
    until = Retention(mode="Unlocked", until_us=4_102_444_800_123_456)
    assert not (await harbour.patch(LOCKED, Patch(retention=until))).failures
    column = ("retention",)
    assert (await harbour.there(LOCKED, columns=column)).columns["retention"] == [until.dump()]
    assert not (await harbour.patch(LOCKED, CHANGE)).failures
    assert (await harbour.there(LOCKED, columns=column)).columns["retention"] == [until.dump()]
    for version in harbour.versions(LOCKED):
        with pytest.raises(ClientError, match="AccessDenied"):
            harbour.s3.delete_object(Bucket=LOCKED, Key=NAME, VersionId=version)
        harbour.s3.delete_object(
            Bucket=LOCKED, Key=NAME, VersionId=version, BypassGovernanceRetention=True
        )


async def test_an_unlocked_retention_is_shortened_only_with_the_right_to(harbour: Harbour) -> None:
    harbour.put(LOCKED)
    later = Retention(mode="Unlocked", until_us=4_102_444_800_000_000)
    sooner = Retention(mode="Unlocked", until_us=4_102_444_000_000_000)
    assert not (await harbour.patch(LOCKED, Patch(retention=later))).failures
    refused = await harbour.patch(LOCKED, Patch(retention=sooner))
    assert failed(refused) == {0: Code.PERMISSION_DENIED}
    allowed = Patch(retention=sooner, override_unlocked_retention=True)
    assert not (await harbour.patch(LOCKED, allowed)).failures
    now = await harbour.there(LOCKED, columns=("retention",))
    assert now.columns["retention"] == [sooner.dump()]


async def test_a_bucket_without_a_lock_says_so(harbour: Harbour) -> None:
    harbour.put(PLAIN)
    for patch in (
        Patch(temporary_hold=True),
        Patch(retention=Retention(mode="Locked", until_us=4_102_444_800_000_000)),
    ):
        outcome = await harbour.patch(PLAIN, patch)
        assert failed(outcome) == {0: Code.FAILED_PRECONDITION}
        assert "Object Lock" in outcome.failures[0].message


async def test_an_event_based_hold_is_never_a_legal_hold(harbour: Harbour) -> None:
    harbour.put(LOCKED)
    outcome = await harbour.patch(LOCKED, Patch(event_based_hold=True))
    assert failed(outcome) == {0: Code.FAILED_PRECONDITION}
    assert "ObjectLockLegalHoldStatus" not in harbour.all_of(LOCKED)


async def test_only_the_named_generation_is_changed(harbour: Harbour) -> None:
    """By a copy, and in place."""
    for patch in (CHANGE, Patch(contexts=MapPatch(updates={"a": "b"}))):
        harbour.put(PLAIN, body=b"old")
        harbour.put(PLAIN, "gone")
        batch = await harbour.there(PLAIN, NAME, "gone", columns=tuple(patch.changes()))
        harbour.put(PLAIN, body=b"newer")
        harbour.s3.delete_object(Bucket=PLAIN, Key="gone")
        before = harbour.all_of(PLAIN)
        outcome = await harbour.patch(PLAIN, patch, batch=batch)
        assert failed(outcome) == {0: Code.ABORTED, 1: Code.NOT_FOUND}
        assert harbour.all_of(PLAIN) == before


async def test_what_is_overwritten_between_look_and_copy_is_left_alone(harbour: Harbour) -> None:
    """Ceph knows the condition by a name of its own."""
    harbour.put(PLAIN, body=b"old")
    send = harbour.service.send

    async def meddle(call: Any) -> Any:
        if call.verb == "CopyObject":
            harbour.put(PLAIN, body=b"newer", Metadata={"newer": "1"})
        return await send(call)

    batch = await harbour.there(PLAIN, columns=tuple(CHANGE.changes()))
    harbour.service.send = meddle  # type: ignore[method-assign]
    assert failed(await harbour.patch(PLAIN, CHANGE, batch=batch)) == {0: Code.ABORTED}
    assert harbour.all_of(PLAIN)["Metadata"] == {"newer": "1"}


async def test_a_noncurrent_version_is_not_copied_back(harbour: Harbour) -> None:
    harbour.put(LOCKED, body=b"old")
    named = await harbour.there(LOCKED)
    harbour.put(LOCKED, body=b"newer")
    batch = await reading.there(
        harbour.client,
        LOCKED,
        [NAME],
        named.generations,
        (*CHANGE.changes(), "live"),
    )
    assert batch.columns["live"] == [False]
    outcome = await harbour.patch(LOCKED, CHANGE, batch=batch)
    assert failed(outcome) == {0: Code.FAILED_PRECONDITION}
    assert harbour.all_of(LOCKED)["content"] == b"newer"


async def test_a_custom_time_is_no_metadata_and_never_goes_back(harbour: Harbour) -> None:
    harbour.put(PLAIN, Metadata={"a": "1"})
    columns = ("custom_time_us", "custom_metadata")
    for time_us, code in ((5_000_001, None), (4_000_000, Code.INVALID_ARGUMENT), (6_000_000, None)):
        outcome = await harbour.patch(PLAIN, Patch(custom_time_us=time_us))
        assert failed(outcome) == ({0: code} if code else {})
    now = await harbour.there(PLAIN, columns=columns)
    assert now.columns["custom_time_us"] == [6_000_000]
    assert now.columns["custom_metadata"] == ['{"a":"1"}']
    assert harbour.all_of(PLAIN)["Metadata"]["goog-custom-time"] == "1970-01-01T00:00:06Z"


@pytest.mark.parametrize(
    "updates",
    [{"a": "x" * 2100}, {"a b": "1"}, {"a": "1\n2"}, {"a": " 1"}, {"é": "1"}],
    ids=["too large", "space in a key", "two lines", "space before", "key not ASCII"],
)
async def test_metadata_that_s3_cannot_hold_is_refused(
    harbour: Harbour, updates: dict[str, str]
) -> None:
    harbour.put(PLAIN, Metadata={"old": "1"})
    outcome = await harbour.patch(PLAIN, Patch(custom_metadata=MapPatch(updates=updates)))
    assert failed(outcome) == {0: Code.INVALID_ARGUMENT}
    assert harbour.all_of(PLAIN)["Metadata"] == {"old": "1"}


@pytest.mark.parametrize(
    ("updates", "left"),
    [
        ({"new": "1", "team": "crane"}, {"new": "1", "team": "crane", "tide": "höch"}),
        ({f"k{number}": "v" for number in range(9)}, None),
        ({"a": "v" * 257}, None),
        ({"a" * 129: "v"}, None),
        ({"a": "what?"}, None),
        ({"aws:a": "b"}, None),
    ],
)
async def test_contexts_are_tags_and_all_of_them_or_none(
    harbour: Harbour, updates: dict[str, str], left: dict[str, str] | None
) -> None:
    harbour.put_everything(PLAIN)
    harbour.put(PLAIN, "bare")
    patch = Patch(contexts=MapPatch(updates=updates))
    outcome = await harbour.patch(PLAIN, patch, match_metageneration=True)
    assert failed(outcome) == ({} if left else {0: Code.INVALID_ARGUMENT})
    assert harbour.all_of(PLAIN)["tags"] == (left or TAGS)
    assert not (
        await harbour.patch(PLAIN, Patch(contexts=CLEAR), match_metageneration=True)
    ).failures
    assert harbour.all_of(PLAIN)["tags"] == {}


async def test_contexts_that_moved_are_looked_at_again(harbour: Harbour) -> None:
    harbour.put(PLAIN)
    patch = Patch(contexts=MapPatch(updates={"a": "1"}))
    batch = await harbour.there(PLAIN, columns=("contexts",))
    harbour.s3.put_object_tagging(
        Bucket=PLAIN, Key=NAME, Tagging={"TagSet": [{"Key": "b", "Value": "2"}]}
    )
    outcome = await harbour.patch(PLAIN, patch, batch=batch, match_metageneration=True)
    assert failed(outcome) == {0: Code.ABORTED}
    assert harbour.all_of(PLAIN)["tags"] == {"b": "2"}


async def test_an_acl_keeps_its_other_grants(harbour: Harbour) -> None:
    harbour.put(PLAIN)
    private = harbour.all_of(PLAIN)["grants"]
    grant = Patch(acl=MapPatch(updates={"allUsers": "READER", "allAuthenticatedUsers": "OWNER"}))
    assert not (await harbour.patch(PLAIN, grant)).failures
    grants = harbour.all_of(PLAIN)["grants"]
    assert set(private) < set(grants)
    assert (EVERYBODY, "READ") in grants
    assert len(grants) == 3
    now = await harbour.there(PLAIN, columns=("acl",))
    assert now.columns["acl"] == ['{"allAuthenticatedUsers":"OWNER","allUsers":"READER"}']
    revoke = Patch(acl=MapPatch(updates={}, removals=frozenset({"allUsers"})))
    assert not (await harbour.patch(PLAIN, revoke)).failures
    assert len(harbour.all_of(PLAIN)["grants"]) == 2
    # A copy keeps what there is.
    assert not (await harbour.patch(PLAIN, CHANGE)).failures
    assert len(harbour.all_of(PLAIN)["grants"]) == 2


@pytest.mark.parametrize("bucket", [PLAIN, LOCKED])
async def test_a_rewrite_changes_the_class_and_nothing_else(harbour: Harbour, bucket: str) -> None:
    harbour.put_everything(bucket)
    before = harbour.all_of(bucket)
    assert not (await harbour.rewrite(bucket, "NEARLINE")).failures
    assert harbour.all_of(bucket) == before | {"StorageClass": "NEARLINE"}
    made = harbour.versions(bucket)
    assert not (await harbour.rewrite(bucket, "NEARLINE")).failures
    assert harbour.versions(bucket) == made
    assert failed(await harbour.rewrite(bucket, "NONE_SUCH")) == {0: Code.INVALID_ARGUMENT}
    assert harbour.versions(bucket) == made


async def test_a_key_that_the_store_ignores_is_no_success(harbour: Harbour) -> None:
    """This Ceph answers 200 to a copy under a key, and makes one under none."""
    harbour.put(PLAIN)
    outcome = await harbour.rewrite(PLAIN, kms_key="testkey-1")
    assert failed(outcome) == {0: Code.FAILED_PRECONDITION}
    assert "testkey-1" in outcome.failures[0].message
    with pytest.raises(FailedPrecondition, match="kms_keys"):
        patching.service_key(harbour.client, "projects/p/locations/l/keyRings/r/cryptoKeys/k")


async def test_what_cannot_be_copied_stays_as_it_is(harbour: Harbour) -> None:
    """This Ceph copies nothing that is encrypted."""
    harbour.put(PLAIN, ServerSideEncryption="aws:kms", SSEKMSKeyId="testkey-1")
    before = harbour.all_of(PLAIN)
    assert failed(await harbour.patch(PLAIN, CHANGE)) == {0: Code.UNIMPLEMENTED}
    assert harbour.all_of(PLAIN) == before


@pytest.mark.parametrize(
    "how", ["away for long", "met by another", "never again", "forbidden", "gone"]
)
async def test_what_a_copy_has_lost_is_put_back_if_it_takes_several_times(
    harbour: Harbour, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(attached, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(attached, "OUTAGE_SECONDS", 0.2)
    harbour.put_everything(PLAIN)
    send, tries = harbour.service.send, 0

    async def meddle(call: Any) -> Any:
        nonlocal tries
        if call.verb == "PutObjectTagging":
            tries += 1
            if how == "never again" or (how == "away for long" and tries <= attached.TRIES):
                raise Unavailable("The connection ended.")
            if how == "met by another" and tries < 4:
                return Reply(409, (), b"<Error><Code>OperationAborted</Code></Error>")
            if how == "forbidden":
                return Reply(403, (), b"<Error><Code>AccessDenied</Code></Error>")
            if how == "gone":
                harbour.s3.delete_object(Bucket=PLAIN, Key=NAME)
        return await send(call)

    harbour.service.send = meddle  # type: ignore[method-assign]
    outcome = await harbour.patch(PLAIN, CHANGE)
    if how == "gone":
        assert failed(outcome) == {0: Code.NOT_FOUND}
        return
    if how in ("away for long", "met by another"):
        after = {"away for long": attached.TRIES + 1, "met by another": 4}
        assert (outcome.failures, tries) == ({}, after[how])
        assert harbour.all_of(PLAIN)["tags"] == TAGS
    else:
        assert failed(outcome) == {0: Code.DATA_LOSS}
        assert str(TAGS) in outcome.failures[0].message
        assert tries > attached.TRIES if how == "never again" else tries == 1


@pytest.mark.parametrize("bucket", [PLAIN, LOCKED])
async def test_tags_that_somebody_else_gives_in_an_outage_are_not_overwritten(
    harbour: Harbour, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "FRESH_SECONDS", 0.0)
    harbour.put_everything(bucket)
    send, other = harbour.service.send, [{"Key": "team", "Value": "pier"}]

    async def meddle(call: Any) -> Any:
        if call.verb == "PutObjectTagging":
            harbour.s3.put_object_tagging(Bucket=bucket, Key=NAME, Tagging={"TagSet": other})
            raise Unavailable("The connection ended.")
        return await send(call)

    harbour.service.send = meddle  # type: ignore[method-assign]
    assert not (await harbour.patch(bucket, CHANGE)).failures
    assert harbour.all_of(bucket)["tags"] == {"team": "pier"}


@pytest.mark.parametrize("bucket", [PLAIN, LOCKED])
@pytest.mark.parametrize("how", ["reply lost", "cancelled", "never sent"])
async def test_a_copy_of_which_nobody_heard_has_lost_nothing(
    harbour: Harbour, bucket: str, how: str
) -> None:
    harbour.put_everything(bucket)
    if bucket == LOCKED:
        harbour.hold()
    before, sent, send = harbour.all_of(bucket), asyncio.Event(), harbour.service.send

    async def meddle(call: Any) -> Any:
        if call.verb != "CopyObject":
            return await send(call)
        reply = None if how == "never sent" else await send(call)
        sent.set()
        if how == "cancelled":
            await asyncio.sleep(0)
            return reply
        raise Unavailable("The connection ended.")

    harbour.service.send = meddle  # type: ignore[method-assign]
    patching = asyncio.create_task(harbour.patch(bucket, CHANGE))
    await sent.wait()
    if how == "cancelled":
        patching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patching
    else:
        codes = {0: Code.UNAVAILABLE} if how == "never sent" else {}
        assert failed(await patching) == codes
    assert harbour.all_of(bucket) == (before if how == "never sent" else before | CHANGED)


class Stopping:
    """Turns of a shard that is to stop once a request with one of ``verbs`` was sent."""

    permitted = True
    at_once = 128

    def __init__(self, *verbs: str) -> None:
        self._verbs = verbs
        self.stopped = not verbs

    def read(self, verb: str) -> Stopping:
        self.permitted = True
        return self

    def change(self, verb: str, objects: int = 1) -> Stopping:
        self.permitted = not self.stopped
        self.stopped = self.stopped or verb in self._verbs
        return self

    async def again(self, code: Code, tries: int) -> bool:
        return False

    def ended(self, code: Code | None) -> None:
        """Nobody learns from it."""

    async def __aenter__(self) -> Stopping:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


async def test_a_shard_that_is_to_stop_begins_nothing_and_ends_what_it_began(
    harbour: Harbour,
) -> None:
    harbour.put_everything(LOCKED)
    harbour.hold()
    before, client = harbour.all_of(LOCKED), harbour.client
    harbour.client = client.by_turns(Stopping())
    for patch in (CHANGE, Patch(temporary_hold=False), Patch(contexts=CLEAR)):
        assert (await harbour.patch(LOCKED, patch)).failures == {0: UNSENT}
    assert harbour.all_of(LOCKED) == before
    harbour.client = client.by_turns(Stopping("CopyObject"))
    assert not (await harbour.patch(LOCKED, CHANGE)).failures
    assert harbour.all_of(LOCKED) == before | CHANGED
    (_, old) = harbour.versions(LOCKED)
    harbour.s3.delete_object(Bucket=LOCKED, Key=NAME, VersionId=old)  # nothing holds it


async def test_an_upload_that_a_stop_cuts_short_is_aborted(harbour: Harbour) -> None:
    harbour.take_parts(PLAIN)
    harbour.put(PLAIN, body=LARGE)
    before = harbour.all_of(PLAIN)
    harbour.client = harbour.client.by_turns(Stopping("UploadPartCopy"))
    assert (await harbour.patch(PLAIN, CHANGE)).failures == {0: UNSENT}
    assert harbour.all_of(PLAIN) == before
    assert "Uploads" not in harbour.s3.list_multipart_uploads(Bucket=PLAIN)

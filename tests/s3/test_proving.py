"""What is proven of real services, at no user's cost."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from longshore.errors import Code, Unavailable
from longshore.proof import Effect, Proof
from longshore.stores.s3 import scratch
from longshore.stores.s3.features import Feature, Verdicts
from longshore.stores.s3.proving import ACTS, Proving
from longshore.transport.http import Reply
from tests.s3.asking import Asking, client_of, contents, leftovers, versions_of
from tests.services.s3_servers import S3Server

WORKS, IGNORED = Effect.WORKS, Effect.IGNORED
REFUSED, DESTROYS = Effect.REFUSED, Effect.DESTROYS
_names = (f"proving-{number}" for number in itertools.count(1))

EVERYTHING = {**dict.fromkeys((*ACTS, "event_based_hold"), ""), "kms_key": "testkey-1"}

EXPECTED: dict[str, dict[str, Effect]] = {
    "moto": {
        Feature.DELETE: WORKS,
        Feature.DELETE_QUIET: IGNORED,
        Feature.DELETE_ETAG: IGNORED,
        Feature.DELETE_IF_MATCH: WORKS,
        Feature.DELETE_VERSION: WORKS,
        Feature.DELETE_LOCKED: WORKS,
        Feature.LEGAL_HOLD: WORKS,
        Feature.RETENTION: WORKS,
        Feature.RETENTION_GUARD: IGNORED,
        Feature.COPY: WORKS,
        Feature.COPY_IF_MATCH: IGNORED,
        Feature.COPY_TAGS: WORKS,
        Feature.COPY_LOCKS: REFUSED,
        Feature.PART_COPY: WORKS,
        Feature.PART_COPY_NAMES: WORKS,
        Feature.TAGGING: WORKS,
        Feature.UNTAGGING: REFUSED,
        Feature.ACL_READ: WORKS,
        Feature.ACL: IGNORED,
        f"{Feature.COPY_CLASS} STANDARD_IA": WORKS,
        Feature.COPY_KMS: IGNORED,
    },
    "rclone": {
        Feature.DELETE: WORKS,
        Feature.DELETE_QUIET: WORKS,
        Feature.DELETE_ETAG: IGNORED,
        Feature.DELETE_IF_MATCH: IGNORED,
        Feature.LEGAL_HOLD: DESTROYS,
        Feature.RETENTION: DESTROYS,
        Feature.COPY: WORKS,
        Feature.COPY_IF_MATCH: IGNORED,
        Feature.COPY_TAGS: REFUSED,
        Feature.PART_COPY: DESTROYS,
        Feature.PART_COPY_NAMES: DESTROYS,
        Feature.TAGGING: DESTROYS,
        Feature.ACL_READ: IGNORED,
        Feature.ACL: DESTROYS,
        f"{Feature.COPY_CLASS} STANDARD_IA": IGNORED,
        Feature.COPY_KMS: IGNORED,
    },
    "s3rver": {
        Feature.DELETE: WORKS,
        Feature.DELETE_QUIET: IGNORED,
        Feature.DELETE_ETAG: IGNORED,
        Feature.DELETE_IF_MATCH: IGNORED,
        Feature.LEGAL_HOLD: REFUSED,
        Feature.RETENTION: REFUSED,
        Feature.COPY: DESTROYS,  # y+ is taken for y%2B
        Feature.TAGGING: WORKS,
        Feature.UNTAGGING: WORKS,
        Feature.ACL: REFUSED,
        f"{Feature.COPY_CLASS} STANDARD_IA": WORKS,
        Feature.COPY_KMS: IGNORED,
    },
    "ceph": {
        Feature.DELETE: WORKS,
        Feature.DELETE_QUIET: WORKS,
        Feature.DELETE_ETAG: IGNORED,
        Feature.DELETE_IF_MATCH: IGNORED,
        Feature.DELETE_VERSION: WORKS,
        Feature.DELETE_LOCKED: WORKS,
        Feature.LEGAL_HOLD: WORKS,
        Feature.RETENTION: WORKS,
        Feature.RETENTION_GUARD: WORKS,
        Feature.COPY: WORKS,
        Feature.COPY_IF_MATCH: WORKS,
        Feature.COPY_TAGS: IGNORED,
        Feature.COPY_LOCKS: IGNORED,
        Feature.PART_COPY: WORKS,
        Feature.PART_COPY_NAMES: DESTROYS,
        Feature.TAGGING: WORKS,
        Feature.UNTAGGING: WORKS,
        Feature.ACL_READ: WORKS,
        Feature.ACL: WORKS,
        f"{Feature.COPY_CLASS} NEARLINE": WORKS,
        Feature.COPY_KMS: IGNORED,
    },
}
"""What each service was seen to do, in a bucket that has all that it offers."""

REFUSED_ACTS: dict[str, set[str]] = {
    "moto": {"acl", "kms_key", "event_based_hold"},
    "rclone": {
        *("temporary_hold", "retention", "contexts", "acl"),
        *("storage_class", "kms_key", "event_based_hold"),
    },
    "s3rver": {
        *("temporary_hold", "retention", "acl", "event_based_hold"),
        *(act for act, features in ACTS.items() if Feature.COPY in features.needs),
    },
    "ceph": {"kms_key", "event_based_hold"},
}
"""What therefore may not be done there."""

everywhere = pytest.mark.parametrize(
    "name",
    [
        *("moto", "rclone"),
        pytest.param("s3rver", marks=pytest.mark.services),
        pytest.param("ceph", marks=pytest.mark.services),
    ],
)


class Place:
    """A service, and one bucket of it with users' objects."""

    def __init__(self, server: S3Server, *, locks: bool) -> None:
        self.client = client_of(server)
        self.ask = Asking(server)
        self.locks = locks
        self.bucket = self.new_bucket()

    def new_bucket(self, *, default_retention: bool = False) -> str:
        bucket = next(_names)
        options = {"ObjectLockEnabledForBucket": True} if self.locks else {}
        self.client.create_bucket(Bucket=bucket, **options)
        if default_retention:
            rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
            self.client.put_object_lock_configuration(
                Bucket=bucket,
                ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
            )
        return bucket

    def fill(self) -> None:
        """Objects with all that may hang on them, as far as the service takes it."""
        for name in ("a", "b c+%ü", ".longshore-probes", f"{scratch.PREFIX}mine", "twice", "gone"):
            self.client.put_object(
                Bucket=self.bucket,
                Key=name,
                Body=name.encode() * 100,
                ContentType="text/plain",
                CacheControl="no-store",
                Metadata={"owner": "somebody"},
            )
        self.client.put_object(Bucket=self.bucket, Key="twice", Body=b"again")
        if self.locks:
            self.client.delete_object(Bucket=self.bucket, Key="gone")
            self.client.put_object_legal_hold(
                Bucket=self.bucket, Key="a", LegalHold={"Status": "ON"}
            )
            self.client.put_object_tagging(
                Bucket=self.bucket, Key="a", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]}
            )

    def proving(self, probe_bucket: str = "") -> Proving:
        """One that knows nothing yet."""
        self.verdicts = Verdicts()
        return Proving(self.ask, self.verdicts, "main", probe_bucket)

    async def close(self) -> None:
        self.client.close()
        await self.ask.close()


@pytest.fixture
async def place(name: str, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    server = request.getfixturevalue(name)
    if name == "ceph":
        server = S3Server(*server.new_account())
    place = Place(server, locks=name in ("moto", "ceph"))
    yield place
    await place.close()


def acts_of(name: str) -> dict[str, str]:
    return {**EVERYTHING, "storage_class": "NEARLINE" if name == "ceph" else "STANDARD_IA"}


@everywhere
async def test_verdicts_are_right_and_users_objects_as_they_were(name: str, place: Place) -> None:
    place.fill()
    before = contents(place.client, place.bucket)
    assert len(before) >= 6
    findings = await place.proving().prove(place.bucket, acts_of(name), [])
    proofs = {proof.call: proof for one in findings for proof in one.proofs}
    assert {call: proof.effect for call, proof in proofs.items()} == EXPECTED[name]
    assert all(proof.why for proof in proofs.values() if proof.effect is not WORKS)
    refused = {one.act: one.refusal for one in findings if one.refusal is not None}
    assert set(refused) == REFUSED_ACTS[name]
    assert refused.pop("event_based_hold").code is Code.FAILED_PRECONDITION
    assert {one.code for one in refused.values()} == {Code.UNIMPLEMENTED}
    if name == "rclone":
        assert refused["temporary_hold"].message == (
            "On this service PutObjectLegalHold replaces the content of the object by the"
            " request's."
        )
    assert contents(place.client, place.bucket) == before
    assert leftovers(place.client, place.bucket) == [f"{scratch.PREFIX}mine"]
    assert any("GOVERNANCE" in one for one in place.ask.said)
    assert not any("COMPLIANCE" in one for one in place.ask.said)  # nobody could remove it


@pytest.mark.parametrize("name", ["moto", pytest.param("ceph", marks=pytest.mark.services)])
async def test_a_bucket_that_keeps_everything_is_never_written_to(name: str, place: Place) -> None:
    keeps = place.new_bucket(default_retention=True)
    hold = {"temporary_hold": ""}
    (found,) = await place.proving().prove(keeps, hold, [])
    assert found.refusal is not None
    assert found.refusal.code is Code.FAILED_PRECONDITION
    assert "set stores.main.probe_bucket" in found.refusal.message
    assert not found.proofs
    proving = place.proving(probe_bucket=place.bucket)
    (found,) = await proving.prove(keeps, hold, [])
    assert found.refusal is None
    assert place.verdicts.works(Feature.LEGAL_HOLD)
    assert contents(place.client, keeps) == {}
    assert leftovers(place.client, place.bucket) == []
    assert {bucket for method, bucket, _ in place.ask.requests if method != "GET"} == {place.bucket}


@pytest.mark.parametrize("name", ["moto"])
async def test_locks_are_a_buckets_own(name: str, place: Place) -> None:
    """What the service can is known from another bucket; this one can't."""
    place.locks = False
    without = place.new_bucket()
    proving = place.proving(probe_bucket=place.bucket)
    for bucket, code in ((place.bucket, None), (without, Code.FAILED_PRECONDITION)):
        (found,) = await proving.prove(bucket, {"temporary_hold": ""}, [])
        assert (found.refusal and found.refusal.code) == code
        assert [proof.effect for proof in found.proofs] == [WORKS]
    assert "has no object lock" in str(found.refusal)


@pytest.mark.parametrize("name", ["rclone"])
async def test_what_is_known_of_this_server_is_not_tried_again(name: str, place: Place) -> None:
    proving, acts = place.proving(), {"delete": "", "temporary_hold": ""}
    place.ask.server = "one"
    first = await proving.prove(place.bucket, acts, [])
    known = [proof for one in first for proof in one.proofs]
    assert {proof.server for proof in known} == {"one"}
    place.ask.requests.clear()
    assert [one.proofs for one in await proving.prove(place.bucket, acts, known)] == [
        one.proofs for one in first
    ]
    assert {method for method, _, _ in place.ask.requests} == {"GET"}
    assert {key for _, _, key in place.ask.requests} == {""}
    place.ask.server = "another"
    again = await proving.prove(place.bucket, acts, known)
    assert {proof.server for one in again for proof in one.proofs} == {"another"}


@pytest.mark.parametrize("name", ["rclone"])
async def test_a_store_is_used_only_as_far_as_it_is_proven(name: str, place: Place) -> None:
    proving = place.proving()
    assert not place.verdicts.works(Feature.DELETE_QUIET)
    assert await proving.refusal(place.bucket, {"delete": ""}) is None
    assert place.verdicts.works(Feature.DELETE_QUIET)
    assert not place.verdicts.works(Feature.DELETE_ETAG)
    place.ask.requests.clear()
    assert await proving.refusal(place.bucket, {"delete": ""}) is None
    assert not place.ask.requests
    refusal = await proving.refusal(place.bucket, {"delete": "", "contexts": ""})
    assert "PutObjectTagging replaces the content" in str(refusal)
    assert place.verdicts.works(Feature.DELETE_QUIET)


def test_what_another_server_or_another_effect_makes_of_what_was_cleared() -> None:
    proof = Proof(Feature.DELETE, WORKS, "", "one")
    verdicts = Verdicts()
    for learnt, still_cleared in (
        ({}, True),
        ({Feature.ACL: proof._replace(call=Feature.ACL)}, True),
        ({Feature.DELETE: proof._replace(time_us=1)}, True),
        ({Feature.DELETE: proof._replace(effect=DESTROYS)}, False),
        ({Feature.ACL: proof._replace(call=Feature.ACL, server="another")}, False),
    ):
        verdicts.learn({Feature.DELETE: proof})
        verdicts.cleared = {("bucket", "delete", "")}
        verdicts.learn(learnt)
        assert bool(verdicts.cleared) == still_cleared, learnt
    assert verdicts.works(Feature.ACL)
    assert not verdicts.works(Feature.DELETE)


@pytest.mark.parametrize("name", ["moto"])
async def test_two_who_prove_at_once_do_not_disturb_each_other(name: str, place: Place) -> None:
    acts = {"delete_permanently": "", "temporary_hold": ""}
    found = await asyncio.gather(*(place.proving().prove(place.bucket, acts, []) for _ in range(3)))
    assert found[0] == found[1] == found[2]
    assert all(one.refusal is None for one in found[0])
    assert contents(place.client, place.bucket) == {}


@pytest.mark.parametrize("name", ["moto"])
async def test_what_a_crash_left_behind_is_removed_a_day_later(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = f"{scratch.PREFIX}{'0' * 32}/3"
    for key in (left, f"{scratch.PREFIX}mine", f"{scratch.PREFIX}{'0' * 32}/three"):
        place.client.put_object(Bucket=place.bucket, Key=key, Body=b"x")
    place.client.put_object_legal_hold(Bucket=place.bucket, Key=left, LegalHold={"Status": "ON"})
    proving, acts = place.proving(), {"delete": ""}
    await proving.prove(place.bucket, acts, [])
    assert len(leftovers(place.client, place.bucket)) == 3
    monkeypatch.setattr(scratch, "_OLD", timedelta(days=-1))
    await proving.prove(place.bucket, acts, [])
    assert sorted(leftovers(place.client, place.bucket)) == [
        f"{scratch.PREFIX}{'0' * 32}/three",
        f"{scratch.PREFIX}mine",
    ]


@pytest.mark.parametrize("name", ["moto"])
async def test_what_was_tried_on_is_removed_beside_a_page_of_others(
    name: str, place: Place
) -> None:
    """By a service whose pages are short."""
    for number in range(20):
        key = f"{scratch.PREFIX}0{number}"  # before most of ours
        place.client.put_object(Bucket=place.bucket, Key=key, Body=b"")

    async def in_short_pages(*words: str, **more: Any) -> Reply:
        if "prefix" in more.get("query", {}):
            more["query"] = {**more["query"], "max-keys": "20"}
        return await place.ask(*words, **more)

    proving = Proving(in_short_pages, Verdicts(), "main")
    (found,) = await proving.prove(place.bucket, {"delete_permanently": ""}, [])
    assert found.refusal is None
    assert len({one.name for one in versions_of(place.client, place.bucket)}) == 20


@pytest.mark.parametrize("name", ["moto"])
@pytest.mark.parametrize("failures", [2, 1_000])
async def test_what_was_tried_on_is_removed_or_told_of_where_listing_fails(
    name: str, place: Place, failures: int, caplog: pytest.LogCaptureFixture
) -> None:
    left = failures

    async def fails(*words: str, **more: Any) -> Reply:
        nonlocal left
        if "versions" in more.get("query", {}) and left:
            left -= 1
            return Reply(500, [], b"<Error><Code>InternalError</Code></Error>")
        return await place.ask(*words, **more)

    proving = Proving(fails, Verdicts(), "main")
    (found,) = await proving.prove(place.bucket, {"delete_permanently": ""}, [])
    assert found.refusal is None
    told = "scratch objects left" in caplog.text
    there = list(versions_of(place.client, place.bucket)) != []
    assert (told, there) == ((False, False) if failures == 2 else (True, True))


@pytest.mark.parametrize("name", ["moto"])
async def test_a_service_that_looks_at_one_lock_and_deletes_all_is_found_out(
    name: str, place: Place
) -> None:
    """As versitygw's sources once had it: where the first retention was over, it looked no more."""

    async def lax(*words: str, **more: Any) -> Reply:
        named = re.findall(b"<Key>(.*?)</Key><VersionId>(.*?)<", more.get("body", b""))
        which = [
            {"Bucket": place.bucket, "Key": key.decode(), "VersionId": version.decode()}
            for key, version in named
        ]
        if len(which) > 1:
            until = place.client.head_object(**which[0]).get("ObjectLockRetainUntilDate")
            if until is not None and until < datetime.now(UTC):
                for one in which:
                    place.client.put_object_legal_hold(**one, LegalHold={"Status": "OFF"})
        return await place.ask(*words, **more)

    proving = Proving(lax, Verdicts(), "main")
    (found,) = await proving.prove(place.bucket, {"delete_permanently": ""}, [])
    assert found.refusal is not None
    assert "deletes what is held" in found.refusal.message


@pytest.mark.parametrize("name", ["moto"])
async def test_an_upload_that_a_trial_began_does_not_stay(name: str, place: Place) -> None:
    async def breaks(*words: str, **more: Any) -> Reply:
        if "partNumber" in more.get("query", {}):
            raise Unavailable("The connection ended.")
        return await place.ask(*words, **more)

    with pytest.raises(Unavailable):
        await Proving(breaks, Verdicts(), "main").prove(place.bucket, {"content_type": ""}, [])
    assert ("POST", place.bucket) in {request[:2] for request in place.ask.requests}
    assert leftovers(place.client, place.bucket) == []


@pytest.mark.services
@pytest.mark.parametrize("name", ["ceph"])
async def test_who_may_not_write_proves_nothing(name: str, place: Place) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:PutObject",
                "Resource": f"arn:aws:s3:::{place.bucket}/*",
            }
        ],
    }
    place.client.put_bucket_policy(Bucket=place.bucket, Policy=json.dumps(policy))
    (found,) = await place.proving().prove(place.bucket, {"delete": ""}, [])
    assert found.refusal is not None
    assert found.refusal.code is Code.PERMISSION_DENIED
    assert place.bucket in found.refusal.message
    assert not found.proofs

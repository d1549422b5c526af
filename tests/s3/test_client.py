"""What becomes of a reply: errors by S3's words and by status, other regions, half answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from longshore.errors import Code, Error, Internal, NotFound
from longshore.store import Batch
from longshore.stores.s3 import buckets, deleting, heads, listing
from longshore.stores.s3.client import LANES, Call, Client
from longshore.stores.s3.failures import translate
from longshore.stores.s3.features import Feature
from longshore.stores.s3.versions import fingerprint, is_same
from longshore.transport.http import Reply
from tests.s3.asking import prove, service_of
from tests.services.s3_servers import S3Server
from tests.transport.server import Peer, Received, serving


def error(word: str, said: str = "Because.", more: str = "") -> bytes:
    return f"<Error><Code>{word}</Code><Message>{said}</Message>{more}</Error>".encode()


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def connected(answers: Callable[[Received], bytes]) -> AsyncIterator[Client]:
    """A client of a server that gives these answers."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.send(answers(await peer.request()))

    async with serving(script) as server:
        there = S3Server(f"http://127.0.0.1:{server.port}", "key", "secret")
        client = Client(service_of(there))
        yield client
        await client.service.close()


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (403, error("AccessDenied"), Code.PERMISSION_DENIED, "GetObject of the object 'b/k'"),
        (403, error("SignatureDoesNotMatch"), Code.UNAUTHENTICATED, "Check secret_key"),
        (403, error("InvalidAccessKeyId"), Code.UNAUTHENTICATED, "check access_key"),
        (403, error("RequestTimeTooSkewed"), Code.UNAUTHENTICATED, "clock"),
        (403, error("InvalidObjectState"), Code.FAILED_PRECONDITION, "restore it first"),
        (403, error("QuotaExceeded"), Code.FAILED_PRECONDITION, "quota"),
        (404, error("NoSuchKey"), Code.NOT_FOUND, "No such object: b/k"),
        (404, error("NoSuchBucket"), Code.NOT_FOUND, "The specified bucket does not exist: 'b'"),
        (404, b"", Code.NOT_FOUND, "No such object: b/k"),
        (412, error("PreconditionFailed"), Code.ABORTED, "PreconditionFailed"),
        (409, error("OperationAborted"), Code.ABORTED, "OperationAborted"),
        (503, error("SlowDown"), Code.RESOURCE_EXHAUSTED, "SlowDown"),
        (429, b"", Code.RESOURCE_EXHAUSTED, "status 429"),
        (503, b"<html>busy</html>", Code.UNAVAILABLE, "status 503"),
        (500, error("InternalError"), Code.UNAVAILABLE, "InternalError"),
        (200, error("InternalError"), Code.UNAVAILABLE, "InternalError"),
        (400, error("RequestTimeout"), Code.UNAVAILABLE, "RequestTimeout"),
        (400, error("KMS.DisabledException"), Code.FAILED_PRECONDITION, "KMS.Disabled"),
        (400, error("EntityTooLarge"), Code.INVALID_ARGUMENT, "EntityTooLarge"),
        (501, error("NotImplemented"), Code.UNIMPLEMENTED, "NotImplemented"),
        (302, b"", Code.FAILED_PRECONDITION, "status 302"),
        (403, b"<Error><Code>half", Code.PERMISSION_DENIED, "status 403"),
    ],
)
def test_refusals_are_errors_by_what_s3_says(
    status: int, body: bytes, code: Code, said: str
) -> None:
    found = translate(Reply(status, (), body), "GetObject", "b", "k")
    assert found.code is code
    assert said in found.message


async def test_an_error_in_a_reply_that_says_ok_is_an_error_and_content_is_not() -> None:
    body = b'<?xml version="1.0"?>\n' + error("SlowDown")
    async with connected(lambda _: answer(body)) as client:
        with pytest.raises(Error) as refused:
            await client.change(Call("CopyObject", "PUT", "bucket", "k"))
        assert refused.value.code is Code.RESOURCE_EXHAUSTED
        assert (await client.read(Call("GetObject", "GET", "bucket", "k"))).body == body


@pytest.mark.parametrize(
    "elsewhere",
    [
        answer(status="301 Moved", x_amz_bucket_region="eu-x"),
        answer(error("PermanentRedirect", more="<Region>eu-x</Region>"), "301 Moved"),
        answer(error("AuthorizationHeaderMalformed", more="<Region>eu-x</Region>"), "400 Bad"),
    ],
)
async def test_a_request_goes_to_the_region_that_the_service_names_once(elsewhere: bytes) -> None:
    asked: list[str] = []

    def answers(request: Received) -> bytes:
        (scope,) = re.findall(
            r"Credential=key/\d+/([^/]+)/", dict(request.headers)["authorization"]
        )
        asked.append(scope)
        return answer(b"done") if scope == "eu-x" and "/bucket" in request.line else elsewhere

    async with connected(answers) as client:
        for _ in range(2):
            reply = await client.read(Call("GetObject", "GET", "bucket", "k"))
            assert reply.body == b"done"
        assert asked == ["us-east-1", "eu-x", "eu-x"]
        with pytest.raises(Error):
            await client.read(Call("GetObject", "GET", "elsewhere", "k"))
        assert asked[3:] == ["us-east-1", "eu-x"]


@pytest.mark.parametrize("region", ["evil.example/", "a" * 64, "us-east-1", ""])
async def test_what_is_no_other_region_is_not_followed(region: str) -> None:
    asked: list[str] = []

    def answers(request: Received) -> bytes:
        asked.append(request.line)
        return answer(status="301 Moved", x_amz_bucket_region=region)

    async with connected(answers) as client:
        with pytest.raises(Error):
            await client.read(Call("GetObject", "GET", "bucket", "k"))
    assert len(asked) == 1


@pytest.mark.parametrize("bucket", ["a/b", "..", "UP", "a b", "a\x00b", "a?b"])
async def test_what_no_bucket_is_called_is_not_sent(bucket: str) -> None:
    async with connected(lambda _: answer()) as client:
        with pytest.raises(NotFound):
            await client.read(Call("GetBucketVersioning", "GET", bucket, query="versioning"))


def deleted(*names: str) -> bytes:
    entries = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
    return f"<DeleteResult>{entries}</DeleteResult>".encode()


THREE = Batch(
    names=["a", "b", "c"],
    generations=[1, 1, 1],
    metagenerations=[1, 1, 1],
    sizes=[1, 1, 1],
    columns={"version": [("", "etag", 1)] * 3},
)


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (deleted("a", "b", "c"), {}),
        (deleted("a", "c"), dict.fromkeys(range(3), Code.UNAVAILABLE)),
        (deleted("a", "b", "c")[:-5], dict.fromkeys(range(3), Code.UNAVAILABLE)),
        (b"", dict.fromkeys(range(3), Code.UNAVAILABLE)),
        (b"<html></html>", dict.fromkeys(range(3), Code.UNAVAILABLE)),
        (error("SlowDown"), dict.fromkeys(range(3), Code.RESOURCE_EXHAUSTED)),
        (
            deleted("a", "c").replace(
                b"</DeleteResult>",
                b"<Error><Key>b</Key><Code>AccessDenied</Code><Message>No.</Message></Error>"
                b"</DeleteResult>",
            ),
            {1: Code.PERMISSION_DENIED},
        ),
        (
            b"<DeleteResult><Error><Key>b</Key><Code>InternalError</Code></Error></DeleteResult>",
            dict.fromkeys(range(3), Code.UNAVAILABLE),
        ),
    ],
)
async def test_what_a_reply_does_not_say_of_a_delete_is_not_known(
    body: bytes, failed: dict[int, Code]
) -> None:
    async with connected(lambda _: answer(body)) as client:
        outcome = await deleting.delete(client, "bucket", THREE, permanent=False)
    assert {index: failure.code for index, failure in outcome.failures.items()} == failed


async def test_a_refusal_that_names_no_version_is_that_of_the_one_not_deleted() -> None:
    """As moto writes them. Where a version is named, no ETag is: AWS knows not both."""
    bodies: list[bytes] = []
    reply = (
        b"<DeleteResult><Deleted><Key>a</Key><VersionId>2</VersionId></Deleted><Error><Key>a</Key>"
        b"<Code>AccessDenied</Code><Message>No.</Message></Error></DeleteResult>"
    )

    def answers(request: Received) -> bytes:
        if "versioning" in request.line:
            status = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            return answer(status)
        if "delete" not in request.line:
            return answer(error("ObjectLockConfigurationNotFoundError"), "404 Not Found")
        bodies.append(request.body)
        return answer(reply)

    two = replace(THREE.pick([0, 0]), columns={"version": [("1", "etag", 1), ("2", "etag", 1)]})
    async with connected(answers) as client:
        prove(client.service, Feature.DELETE_ETAG)
        outcome = await deleting.delete(client, "bucket", two, permanent=True)
    assert {i: failure.code for i, failure in outcome.failures.items()} == {
        0: Code.PERMISSION_DENIED
    }
    assert (b"<VersionId>2</VersionId>" in bodies[0], b"<ETag>" in bodies[0]) == (True, False)


@pytest.mark.parametrize("proven", [False, True])
async def test_conditions_and_quiet_replies_are_asked_for_where_proven(proven: bool) -> None:
    bodies: list[bytes] = []

    def answers(request: Received) -> bytes:
        bodies.append(request.body)
        return answer(b"<DeleteResult></DeleteResult>" if proven else deleted("a", "b", "c"))

    async with connected(answers) as client:
        if proven:
            prove(client.service, Feature.DELETE_ETAG, Feature.DELETE_QUIET)
        outcome = await deleting.delete(client, "bucket", THREE, permanent=False)
    assert outcome.failures == {}
    (body,) = bodies
    assert body.count(b'<ETag>"etag"</ETag>') == (3 if proven else 0)
    assert (b"<Quiet>true</Quiet>" in body) is proven


async def test_a_listing_out_of_order_is_refused() -> None:
    entry = (
        "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
        "<ETag>e</ETag><Size>1</Size></Contents>"
    )
    entries = "".join(map(entry.format, "bac"))
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"

    def answers(request: Received) -> bytes:
        if "versioning" in request.line:
            return answer(b"<VersioningConfiguration></VersioningConfiguration>")
        return answer(page.encode())

    async with connected(answers) as client:
        pages = listing.pages(
            client,
            "bucket",
            listing.Range(),
            after_generation=None,
            versions=False,
            columns=(),
            page_size=1000,
        )
        with pytest.raises(Internal, match="in the order of names"):
            await anext(pages)


async def test_a_service_that_knows_no_versions_has_none() -> None:
    async with connected(lambda _: answer(error("NotImplemented"), "501 No")) as client:
        assert not await buckets.keeps_versions(client, "bucket")


async def test_lanes_are_few_and_the_first_error_ends_them() -> None:
    running = most = done = 0

    async def work(item: int) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if item == 5000:
            raise NotFound("enough")
        done += 1

    async with connected(lambda _: answer(b"")) as client:
        await client.in_lanes(range(1000), work)
        assert (most, done) == (LANES, 1000)
        with pytest.raises(NotFound, match="enough"):
            await client.in_lanes(range(4000, 100_000), work)
        assert done < 3000
        assert running <= LANES
        await client.in_lanes((), work)


async def test_there_are_as_many_lanes_as_turns() -> None:
    turns = SimpleNamespace(at_once=3)
    running, seen = 0, []

    async def work(item: int) -> None:
        nonlocal running
        running += 1
        seen.append(running)
        turns.at_once = {20: 10, 60: 1, 90: 5}.get(item, turns.at_once)
        await asyncio.sleep(0)
        running -= 1

    async with connected(lambda _: answer(b"")) as client:
        await client.by_turns(cast(Any, turns)).in_lanes(range(120), work)
    assert len(seen) == 120
    assert max(seen[:20]) == 3
    assert max(seen[20:60]) == 10
    assert set(seen[75:90]) == {1}
    assert max(seen[90:]) == 5


def test_generations_grow_by_the_second_and_are_told_by_ids_then_by_content() -> None:
    assert fingerprint("", "e", 5, 1) == fingerprint("null", "e", 5, 1)
    assert fingerprint("", "e", 5, 1) < fingerprint("", "a", 6, 1)
    assert fingerprint("", "e", 5, 1) != fingerprint("", "e", 5, 2)
    assert fingerprint("v1", "e", 5, 1) != fingerprint("v2", "e", 5, 1)
    assert 0 < fingerprint("v1", "e", 2**33 - 1, 1) < 2**63
    younger = fingerprint("v1", "e", 9, 1)
    assert is_same(fingerprint("v1", "e", 5, 1), "v1", younger)
    assert not is_same(fingerprint("v2", "e", 5, 1), "v1", younger)
    assert not is_same(fingerprint("", "e", 5, 1), "", fingerprint("", "e", 9, 1))
    assert not is_same(0, "v1", younger)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("plain", "plain"),
        ("ü".encode().decode("latin-1"), "ü"),
        ("\xfc", "ü"),
        ("=?UTF-8?B?w7w=?=", "ü"),
        ("=?UTF-8?Q?a_=C3=BC?=", "a ü"),
        ("=?nothing?B?w7w=?=", "=?nothing?B?w7w=?="),
    ],
)
def test_texts_in_headers_are_read_however_they_were_written(sent: str, text: str) -> None:
    assert heads.text(sent) == text


def test_a_head_becomes_columns() -> None:
    headers = [
        ("content-length", "7"),
        ("etag", '"d41d8cd98f00b204e9800998ecf8427e"'),
        ("last-modified", "Wed, 25 Nov 2026 20:30:11 GMT"),
        ("content-type", "binary/octet-stream"),
        ("x-amz-meta-k", "v"),
        ("x-amz-meta-goog-custom-time", "2030-01-01T00:00:00Z"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-object-lock-retain-until-date", "2030-01-01T00:00:00.000Z"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "arn:key"),
    ]
    columns = heads.Head(Reply(200, headers, b"")).columns({"arn:key": "projects/p"})
    assert columns["content_type"] == ""
    assert columns["custom_metadata"] == '{"k":"v"}'
    assert columns["custom_time_us"] == 1893456000000000
    assert columns["retention"] == "Locked@1893456000000000"
    assert columns["temporary_hold"] is True
    assert columns["kms_key"] == "projects/p"
    assert columns["storage_class"] == "STANDARD"
    other = [(name, value.replace("d41d", "a41d")) for name, value in headers]
    same = heads.Head(Reply(200, other, b"")).columns({})["checksum"]
    assert columns["checksum"] == same, "an ETag says nothing where a key encrypts"
    plain = heads.Head(Reply(200, other[:-1], b"")).columns({})["checksum"]
    assert plain != same
    assert columns["create_time_us"] == 1795638611000000

"""What the store sends is what Google's own client sends for the same act: method, path, query and
body, but for what only says how the reply is written."""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
from google.cloud.storage import blob as library

from longshore.patch import MapPatch, Patch, Retention
from longshore.store import Batch, Bucket
from longshore.stores.gs.store import GsStore
from tests.conformance.shelf import pieces
from tests.gs.asking import (
    BUCKET,
    an_object,
    google_at,
    parts_of,
    refused,
    said,
    store_at,
    together,
)
from tests.gs.recorder import Answered, Recorder, Request, recording

NAME = "päck/a b+?&#%.txt"
_OF_REPLIES = {"prettyPrint", "fields", "alt", "projection", "maxResults"}
UNTIL = datetime.datetime(2040, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


class Sent(NamedTuple):
    method: str
    path: str
    parameters: dict[str, str]
    body: Any


def sent(request: Request) -> Sent:
    parameters = {
        name: {"True": "true"}.get(value, value)  # Python's spelling, which the service takes too
        for name, value in request.parameters.items()
        if name not in _OF_REPLIES
    }
    body = request.json
    if body and "acl" in body:
        body["acl"].sort(key=lambda grant: grant["entity"])
    return Sent(request.method, request.path, parameters, body)


def answer(request: Request) -> Answered:
    """As if there were NAME, of generation 7."""
    if request.path == "/batch/storage/v1":
        calls = parts_of(request)
        return together(request, *[(200, an_object(NAME, done=True))] * len(calls))
    if request.method == "DELETE":
        return Answered(204, b"")
    if request.path.endswith("/acl"):
        return said({"items": []})
    if "/rewriteTo/" in request.path:
        done = {"totalBytesRewritten": "5", "objectSize": "5", "done": True}
        return said({**done, "resource": an_object(NAME)})
    if request.path.endswith("/o"):
        return said({"items": []} if request.method == "GET" else an_object(NAME))
    if "/o/" in request.path:
        return said(an_object(NAME, metadata={"old": "1"}, contentType="text/plain"))
    return said({"name": BUCKET, "timeCreated": "2026-11-26T10:00:00Z"})


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recording(answer) as recorder:
        yield recorder


@pytest.fixture
async def store(recorder: Recorder) -> AsyncIterator[GsStore]:
    async with store_at(recorder.url) as store:
        recorder.taken()
        yield store


def mine(recorder: Recorder) -> list[Request]:
    """What the store has sent: Google's client looks at buckets in the background, and may do so
    when nobody waits for it any more."""
    return [one for one in recorder.taken() if "x-goog-api-client" not in one.headers]


async def theirs(recorder: Recorder, act: Callable[[library.Blob], Any]) -> Request:
    """The last request that Google's client sends for ``act`` upon the object."""

    def run() -> None:
        client = google_at(recorder.url)
        act(client.bucket(BUCKET).blob(NAME))
        client.close()

    await asyncio.to_thread(run)
    looks = ("GET", f"/storage/v1/b/{BUCKET}")
    return [one for one in recorder.taken() if (one.method, one.path) != looks][-1]


def seen(**columns: list[Any]) -> Batch:
    """The object as it was listed."""
    return Batch(names=[NAME], generations=[7], metagenerations=[3], sizes=[5], columns=columns)


@pytest.mark.parametrize("permanent", [False, True])
async def test_delete(recorder: Recorder, store: GsStore, permanent: bool) -> None:
    await store.delete_objects(BUCKET, seen(), permanent=permanent)
    (ours,) = mine(recorder)

    def act(blob: library.Blob) -> None:
        if permanent:
            blob.bucket.blob(NAME, generation=7).delete()
        else:
            blob.delete(if_generation_match=7)

    assert sent(ours) == sent(await theirs(recorder, act))


def _set(**fields: Any) -> Callable[[library.Blob], None]:
    def act(blob: library.Blob) -> None:
        for name, value in fields.items():
            setattr(blob, name, value)
        blob.patch(if_generation_match=7)

    return act


def _retain(blob: library.Blob) -> None:
    blob.retention.mode = "Unlocked"
    blob.retention.retain_until_time = UNTIL
    blob.patch(if_generation_match=7)


def _context(blob: library.Blob) -> None:
    payload = library.ObjectCustomContextPayload(value="v")
    blob.contexts = library.ObjectContexts(blob=blob, custom={"c": payload})
    blob.patch(if_generation_match=7)


US = int(UNTIL.timestamp()) * 1_000_000
PATCHES: dict[str, tuple[Patch, Callable[[library.Blob], None]]] = {
    "hold": (Patch(temporary_hold=True), _set(temporary_hold=True)),
    "release": (
        Patch(temporary_hold=False, event_based_hold=False),
        _set(temporary_hold=False, event_based_hold=False),
    ),
    "event hold": (Patch(event_based_hold=True), _set(event_based_hold=True)),
    "metadata": (
        Patch(custom_metadata=MapPatch(updates={"k": "v", "ü": ""})),
        _set(metadata={"k": "v", "ü": ""}),
    ),
    "metadata removed": (
        Patch(custom_metadata=MapPatch(updates={}, removals=frozenset({"k"}))),
        _set(metadata={"k": None}),
    ),
    "metadata cleared": (
        Patch(custom_metadata=MapPatch(updates={}, clear=True)),
        _set(metadata=None),
    ),
    "fixed": (
        Patch(content_type="a/b", cache_control="no-store", content_language=None),
        _set(content_type="a/b", cache_control="no-store", content_language=None),
    ),
    "retention": (
        Patch(retention=Retention(mode="Unlocked", until_us=US), override_unlocked_retention=True),
        _retain,
    ),
    "contexts": (Patch(contexts=MapPatch(updates={"c": "v"})), _context),
}


@pytest.mark.parametrize("case", PATCHES)
async def test_patch(recorder: Recorder, store: GsStore, case: str) -> None:
    patch, act = PATCHES[case]
    await store.patch_objects(BUCKET, seen(), patch)
    (ours,) = mine(recorder)
    assert _alike(ours) == _alike(await theirs(recorder, act))


def _alike(request: Request) -> Sent:
    """Times in one form of the many that RFC 3339 has."""
    method, path, parameters, body = sent(request)
    if body and body.get("retention"):
        body["retention"].pop("retentionExpirationTime", None)  # null, which says nothing
        until = datetime.datetime.fromisoformat(body["retention"]["retainUntilTime"])
        body["retention"]["retainUntilTime"] = until.replace(tzinfo=datetime.UTC)
    return Sent(method, path, parameters, body)


async def test_an_unlocked_retention_is_overridden_where_that_is_needed() -> None:
    refusal = "Object 'quay/a' is under active Unlocked retention and cannot be shortened."

    def guarded(request: Request) -> Answered:
        if request.method == "PATCH" and "overrideUnlockedRetention" not in request.parameters:
            return refused(403, "forbidden", refusal)
        return answer(request)

    def act(blob: library.Blob) -> None:
        blob.retention.mode = "Unlocked"
        blob.retention.retain_until_time = UNTIL
        blob.patch(if_generation_match=7, override_unlocked_retention=True)

    retention = Retention(mode="Unlocked", until_us=US)
    patch = Patch(retention=retention, override_unlocked_retention=True)
    with recording(guarded) as recorder:
        async with store_at(recorder.url) as store:
            assert not (await store.patch_objects(BUCKET, seen(), patch)).failures
            _, ours = mine(recorder)
            never = replace(patch, override_unlocked_retention=False)
            outcome = await store.patch_objects(BUCKET, seen(), never)
            assert [one.message for one in outcome.failures.values()] == [refusal]
            assert len(mine(recorder)) == 1
        assert _alike(ours) == _alike(await theirs(recorder, act))


async def test_a_custom_time(recorder: Recorder, store: GsStore) -> None:
    await store.patch_objects(BUCKET, seen(), Patch(custom_time_us=US + 5))
    (ours,) = mine(recorder)
    wanted = UNTIL + datetime.timedelta(microseconds=5)
    others = await theirs(recorder, _set(custom_time=wanted))
    found = [datetime.datetime.fromisoformat(one.json["customTime"]) for one in (ours, others)]
    assert found == [wanted, wanted]
    assert ours.json.keys() == others.json.keys()


async def test_what_is_counted_goes_by_the_metageneration(
    recorder: Recorder, store: GsStore
) -> None:
    patch = Patch(contexts=MapPatch(updates={"c": "v"}))
    await store.patch_objects(BUCKET, seen(), patch, match_metageneration=True)
    (ours,) = mine(recorder)
    assert (
        ours.parameters.items() >= {"ifGenerationMatch": "7", "ifMetagenerationMatch": "3"}.items()
    )


async def test_an_acl_is_replaced_by_what_is_computed_from_it(
    recorder: Recorder, store: GsStore
) -> None:
    before = seen(acl=['{"user-a@x.y":"OWNER"}'])
    patch = Patch(acl=MapPatch(updates={"allUsers": "READER"}))
    await store.patch_objects(BUCKET, before, patch)
    (ours,) = mine(recorder)

    def act(blob: library.Blob) -> None:
        blob.acl.user("a@x.y").grant_owner()
        blob.acl.all().grant_read()
        blob.acl.save(if_generation_match=7, if_metageneration_match=3)

    assert sent(ours) == sent(await theirs(recorder, act))


async def test_a_noncurrent_version_is_named(recorder: Recorder, store: GsStore) -> None:
    await store.patch_objects(BUCKET, seen(live=[False]), Patch(temporary_hold=True))
    (ours,) = mine(recorder)

    def act(blob: library.Blob) -> None:
        version = blob.bucket.blob(NAME, generation=7)
        version.temporary_hold = True
        version.patch()

    assert sent(ours) == sent(await theirs(recorder, act))


async def test_read(recorder: Recorder, store: GsStore) -> None:
    await store.read_objects(BUCKET, [NAME], [7])
    (ours,) = mine(recorder)
    act = lambda blob: blob.bucket.get_blob(NAME, generation=7)  # noqa: E731
    assert sent(ours) == sent(await theirs(recorder, act))
    await store.read_objects(BUCKET, [NAME], [0], columns=("acl",))
    (ours,) = mine(recorder)
    assert sent(ours) == sent(await theirs(recorder, lambda blob: blob.bucket.get_blob(NAME)))
    assert ours.parameters["projection"] == "full"


async def test_list(recorder: Recorder, store: GsStore) -> None:
    pages = store.list_objects(BUCKET, prefix="pä", after="päa", before="päz", versions=True)
    assert [page async for page in pages] == []
    (ours,) = mine(recorder)

    def act(blob: library.Blob) -> None:
        options = {"prefix": "pä", "start_offset": "päa", "end_offset": "päz", "versions": True}
        list(blob.client.list_blobs(BUCKET, **options))

    assert sent(ours) == sent(await theirs(recorder, act))
    assert ours.parameters["fields"] == "nextPageToken,items(name,generation,metageneration,size)"


async def test_rewrite(recorder: Recorder, store: GsStore) -> None:
    await store.rewrite_objects(BUCKET, seen(), storage_class="NEARLINE")
    ours = mine(recorder)[-1]

    def act(blob: library.Blob) -> None:
        blob.reload()
        for field in ("kind", "bucket", "generation", "metageneration", "size", "crc32c"):
            del blob._properties[field]  # what nobody can write
        for field in ("timeCreated", "updated"):
            del blob._properties[field]
        blob.update_storage_class(
            "NEARLINE",
            if_generation_match=7,
            if_source_generation_match=7,
            if_source_metageneration_match=3,
        )

    others = sent(await theirs(recorder, act))
    del others.body["name"]
    assert sent(ours) == others


async def test_a_new_key(recorder: Recorder, store: GsStore) -> None:
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    await store.rewrite_objects(BUCKET, seen(), kms_key=key)
    ours = mine(recorder)[-1]

    def act(blob: library.Blob) -> None:
        new = blob.bucket.blob(NAME, kms_key_name=key)
        new.rewrite(blob)

    others = await theirs(recorder, act)
    assert ours.parameters["destinationKmsKeyName"] == key
    assert others.parameters["destinationKmsKeyName"] == key


async def test_batch(recorder: Recorder, store: GsStore) -> None:
    names = [f"{NAME}{number}" for number in range(3)]
    batch = Batch(names=names, generations=[7, 8, 9], metagenerations=[1, 1, 1], sizes=[0, 0, 0])
    await store.patch_objects(BUCKET, batch, Patch(temporary_hold=True))
    ours = mine(recorder)[-1]

    def act(blob: library.Blob) -> None:
        with blob.client.batch():
            for name, generation in zip(names, batch.generations, strict=True):
                one = blob.bucket.blob(name)
                one.temporary_hold = True
                one.patch(if_generation_match=generation)

    others = await theirs(recorder, act)
    assert (ours.method, ours.path) == (others.method, others.path)
    assert _calls(ours) == _calls(others)
    kind = "multipart/mixed; boundary="
    assert ours.headers["content-type"].startswith(kind)
    assert others.headers["content-type"].startswith(kind)


def _calls(request: Request) -> list[Any]:
    found = []
    for _, method, target, body in parts_of(request):
        parts = urlsplit(target)
        parameters = {k: v for k, v in parse_qsl(parts.query) if k not in _OF_REPLIES}
        found.append((method, parts.path, parameters, orjson.loads(body)))
    return found


async def test_buckets(recorder: Recorder, store: GsStore) -> None:
    await store.create_bucket(Bucket(name=BUCKET, create_time_us=0, versioning=True))
    (ours,) = mine(recorder)

    def create(blob: library.Blob) -> None:
        bucket = blob.client.bucket(BUCKET)
        bucket.versioning_enabled = True
        blob.client.create_bucket(bucket, enable_object_retention=True)

    assert sent(ours) == sent(await theirs(recorder, create))
    await store.update_bucket(BUCKET, retention_period_seconds=60, default_event_based_hold=True)
    (ours,) = mine(recorder)

    def change(blob: library.Blob) -> None:
        bucket = blob.client.bucket(BUCKET)
        bucket.retention_period = 60
        bucket.default_event_based_hold = True
        bucket.patch()

    assert sent(ours) == sent(await theirs(recorder, change))
    await store.delete_bucket(BUCKET)
    (ours,) = mine(recorder)
    assert sent(ours) == sent(await theirs(recorder, lambda blob: blob.bucket.delete()))


async def test_user_project_goes_with_every_call(recorder: Recorder) -> None:
    """And ``fields`` with every one that answers with a resource, however it is sent."""
    two = Batch(names=[NAME, "b"], generations=[7, 7], metagenerations=[3, 3], sizes=[5, 5])
    contexts = Patch(contexts=MapPatch(updates={"k": "v"}))
    async with store_at(recorder.url, user_project="payer") as store:
        recorder.taken()
        await store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
        await store.update_bucket(BUCKET, versioning=True)
        await store.get_bucket(BUCKET)
        assert [one async for one in store.list_buckets()] == []
        assert [page async for page in store.list_objects(BUCKET, versions=True)] == []
        assert [piece async for piece in store.read_bytes(BUCKET, NAME, 7)]
        await store.write_object(BUCKET, NAME, pieces(b"x"))
        for batch in (seen(), two):
            await store.read_objects(BUCKET, batch.names, batch.generations)
            await store.patch_objects(BUCKET, batch, contexts, match_metageneration=True)
            await store.rewrite_objects(BUCKET, batch, storage_class="ARCHIVE")
            await store.delete_objects(BUCKET, batch, permanent=False)
        await store.delete_bucket(BUCKET)
        requests = mine(recorder)
    calls = []
    for request in requests:
        assert request.parameters["userProject"] == "payer"
        inner = [part[1:3] for part in parts_of(request)] if "/batch/" in request.path else None
        calls += inner or [(request.method, request.target)]
    verbs = Counter(method for method, _ in calls)
    assert min(verbs[method] for method in ("GET", "PATCH", "POST", "DELETE")) >= 3
    for method, target in calls:
        parameters = dict(parse_qsl(urlsplit(target).query))
        assert parameters["userProject"] == "payer", target
        assert ("fields" in parameters) == (method != "DELETE" and "alt" not in parameters), target
        assert "softDeleted" not in parameters


async def test_who_pays_is_said_as_google_s_client_says_it(recorder: Recorder) -> None:
    async with store_at(recorder.url, user_project="payer") as store:
        recorder.taken()
        await store.delete_objects(BUCKET, seen(), permanent=True)
        (ours,) = mine(recorder)

    def act(blob: library.Blob) -> None:
        bucket = blob.client.bucket(BUCKET, user_project="payer")
        bucket.blob(NAME, generation=7).delete()

    assert sent(ours) == sent(await theirs(recorder, act))

"""What becomes of objects that are not as they were named, and what a copy keeps."""

from __future__ import annotations

from typing import Any

import pytest

from longshore.errors import Code
from longshore.patch import MapPatch, Patch
from longshore.store import UNSENT, Batch
from longshore.stores.gs.rewriting import STEP_BYTES
from tests.gs.asking import BUCKET, an_object, parts_of, refused, said, store_at, together
from tests.gs.recorder import Answered, Recorder, Request, recording

NOT_MET = "At least one of the pre-conditions you specified did not hold."
KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
HOLD = Patch(temporary_hold=True)


def named(generation: int = 7, **columns: list[Any]) -> Batch:
    return Batch(
        names=["a"], generations=[generation], metagenerations=[3], sizes=[5], columns=columns
    )


class Quay:
    """A bucket with the object "a", if there is one, whose changes are refused with ``status``."""

    def __init__(self, live: dict[str, Any] | None, status: int = 412) -> None:
        self.live = live
        self.noncurrent: dict[str, Any] | None = None
        self.status = status
        self.bucket: Answered = said({"name": BUCKET, "timeCreated": "2026-11-26T10:00:00Z"})

    def __call__(self, request: Request) -> Answered:
        if request.path == f"/storage/v1/b/{BUCKET}":
            return self.bucket
        if request.path.endswith("/o"):
            return said({"items": []})
        if request.method == "GET":
            generation = request.parameters.get("generation")
            found = self.noncurrent if generation else self.live
            return said(found) if found else refused(404, "notFound", "No such object: quay/a")
        reason = {412: "conditionNotMet", 404: "notFound"}[self.status]
        return refused(self.status, reason, NOT_MET)


@pytest.mark.parametrize("act", ["delete", "permanent", "patch", "rewrite"])
@pytest.mark.parametrize("status", [404, 412])
@pytest.mark.parametrize(
    ("live", "code"), [(None, Code.NOT_FOUND), (an_object(generation=8), Code.ABORTED)]
)
async def test_what_has_gone_is_told_from_what_was_replaced(
    act: str, status: int, live: dict[str, Any] | None, code: Code
) -> None:
    with recording(Quay(live, status)) as recorder:
        async with store_at(recorder.url) as store:
            if act == "patch":
                outcome = await store.patch_objects(BUCKET, named(), HOLD)
            elif act == "rewrite":
                outcome = await store.rewrite_objects(BUCKET, named(), storage_class="ARCHIVE")
            else:
                outcome = await store.delete_objects(BUCKET, named(), permanent=act == "permanent")
    assert outcome.failures[0].code is code


async def test_a_metageneration_that_moved_is_not_taken_for_another_object() -> None:
    patch = Patch(contexts=MapPatch(updates={"k": "v"}))
    quay = Quay(an_object())
    quay.noncurrent = an_object()
    with recording(quay) as recorder:
        async with store_at(recorder.url) as store:
            for batch in (named(), named(live=[False])):
                outcome = await store.patch_objects(BUCKET, batch, patch, match_metageneration=True)
                assert outcome.failures[0].code is Code.ABORTED
                assert "metadata" in outcome.failures[0].message


def granting(*answers: Any, source: dict[str, Any], uniform: bool = False) -> Any:
    """A bucket with ``source`` in it, which answers one change after the other."""
    left = list(answers)
    access = {"uniformBucketLevelAccess": {"enabled": uniform}}
    bucket = {"name": BUCKET, "timeCreated": "2026-11-26T10:00:00Z", "iamConfiguration": access}

    def answer(request: Request) -> Answered:
        if request.method == "GET":
            return said(source if "/o/" in request.path else bucket)
        found = left.pop(0)
        return found if isinstance(found, Answered) else said(found)

    return answer


def changes(recorder: Recorder) -> list[Request]:
    return [request for request in recorder.taken() if request.method != "GET"]


async def test_a_copy_keeps_everything_but_its_class() -> None:
    kept = {
        "contentType": "a/b",
        "cacheControl": "no-store",
        "customTime": "2020-01-01T00:00:00Z",
        "metadata": {"k": "v"},
        "acl": [{"entity": "allUsers", "role": "READER"}],
    }
    source = an_object(
        **kept,
        contexts={"custom": {"c": {"value": "d", "createTime": "2026-01-01T00:00:00Z"}}},
        retention={"mode": "Locked", "retainUntilTime": "2090-01-01T00:00:00Z"},
        kmsKeyName=f"{KEY}/cryptoKeyVersions/3",
    )
    with recording(granting({"done": True}, source=source)) as recorder:
        async with store_at(recorder.url) as store:
            outcome = await store.rewrite_objects(BUCKET, named(), storage_class="ARCHIVE")
    assert outcome.failures == {}
    (copy,) = changes(recorder)
    assert copy.parameters["destinationKmsKeyName"] == KEY
    assert copy.json == {
        **kept,
        "contexts": {"custom": {"c": {"value": "d"}}},
        "retention": {"mode": "Locked", "retainUntilTime": "2090-01-01T00:00:00Z"},
        "storageClass": "ARCHIVE",
    }


async def test_a_retention_that_is_over_is_not_asked_for_again() -> None:
    over = {"mode": "Locked", "retainUntilTime": "2020-01-01T00:00:00Z"}
    with recording(granting({"done": True}, source=an_object(retention=over))) as recorder:
        async with store_at(recorder.url) as store:
            await store.rewrite_objects(BUCKET, named(), kms_key=KEY)
    (copy,) = changes(recorder)
    assert copy.json == {"storageClass": "STANDARD"}


@pytest.mark.parametrize("uniform", [False, True])
async def test_acls_are_read_where_there_are_some(uniform: bool) -> None:
    answer = granting({"done": True}, {"done": True}, source=an_object(), uniform=uniform)
    with recording(answer) as recorder:
        async with store_at(recorder.url) as store:
            for _ in range(2):
                await store.rewrite_objects(BUCKET, named(), storage_class="ARCHIVE")
    gets = [request for request in recorder.taken() if request.method == "GET"]
    of_objects = [one for one in gets if "/o/" in one.path]
    assert len(gets) - len(of_objects) == 1  # the bucket is remembered
    assert {one.parameters.get("projection") for one in of_objects} == {None if uniform else "full"}


async def test_who_may_not_see_a_bucket_has_acls_kept() -> None:
    quay = Quay(an_object())
    quay.bucket = refused(403, "forbidden", "crane does not have storage.buckets.get access.")
    with recording(quay) as recorder:
        async with store_at(recorder.url) as store:
            await store.rewrite_objects(BUCKET, named(), storage_class="ARCHIVE")
    (look,) = [one for one in recorder.taken() if one.parameters.get("projection")]
    assert "acl(entity,role)" in look.parameters["fields"]


async def test_a_large_copy_goes_on_until_it_is_done() -> None:
    steps = (
        {"done": False, "rewriteToken": "one+/="},
        {"done": False, "rewriteToken": "two"},
        {"done": True},
    )
    source = an_object(size=str(3 * STEP_BYTES))
    with recording(granting(*steps, source=source)) as recorder:
        async with store_at(recorder.url) as store:
            outcome = await store.rewrite_objects(BUCKET, named(), storage_class="ARCHIVE")
    assert outcome.failures == {}
    copies = changes(recorder)
    tokens = [copy.parameters.get("rewriteToken") for copy in copies]
    assert tokens == [None, "one+/=", "two"]
    assert len({(copy.path, copy.body) for copy in copies}) == 1
    for copy in copies:
        assert copy.parameters["maxBytesRewrittenPerCall"] == str(STEP_BYTES)
        assert copy.parameters["ifGenerationMatch"] == "7"
        assert copy.parameters["ifSourceGenerationMatch"] == "7"
        assert copy.parameters["ifSourceMetagenerationMatch"] == "3"


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (refused(412, "conditionNotMet", NOT_MET), Code.ABORTED),
        (refused(403, "forbidden", "Object 'quay/a' is under active Temporary hold"), None),
        (refused(503, "backendError", "Later."), Code.UNAVAILABLE),
        ({"done": False}, Code.INTERNAL),
    ],
)
async def test_a_large_copy_that_fails_half_way_has_failed(last: Any, code: Code | None) -> None:
    steps = ({"done": False, "rewriteToken": "one"}, last)
    source = an_object(size=str(3 * STEP_BYTES))
    with recording(granting(*steps, source=source)) as recorder:
        async with store_at(recorder.url) as store:
            outcome = await store.rewrite_objects(BUCKET, named(), storage_class="ARCHIVE")
    assert outcome.failures[0].code is (code or Code.PERMISSION_DENIED)


async def test_a_map_that_is_cleared_and_set_is_computed_from_what_is_there() -> None:
    patch = Patch(custom_metadata=MapPatch(updates={"new": "1"}, clear=True))
    source = an_object(metadata={"old": "1", "new": "0"})
    with recording(granting({}, {}, source=source)) as recorder:
        async with store_at(recorder.url) as store:
            await store.patch_objects(BUCKET, named(), patch)
            known = named(custom_metadata=['{"other":"1"}'])
            await store.patch_objects(BUCKET, known, patch)
    sent = changes(recorder)
    assert [one.json for one in sent] == [
        {"metadata": {"old": None, "new": "1"}},
        {"metadata": {"other": None, "new": "1"}},
    ]
    assert {one.parameters["ifMetagenerationMatch"] for one in sent} == {"3"}


class OneTurn:
    """A turn, and what was said at its end."""

    def __init__(self, turns: Turning, *, permitted: bool) -> None:
        self.permitted = permitted
        self._turns = turns

    async def __aenter__(self) -> OneTurn:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        pass

    def ended(self, code: Code | None) -> None:
        self._turns.ended.append(code)


class Turning:
    """Turns that are given at once, the first ``permitted`` changes only."""

    at_once = 4

    def __init__(self, permitted: int = 99, again: int = 0) -> None:
        self.given: list[tuple[str, int]] = []
        self.ended: list[Code | None] = []
        self._permitted = permitted
        self._again = again

    def read(self, verb: str) -> OneTurn:
        self.given.append((verb, 0))
        return OneTurn(self, permitted=True)

    def change(self, verb: str, objects: int = 1) -> OneTurn:
        self.given.append((verb, objects))
        self._permitted -= 1
        return OneTurn(self, permitted=self._permitted >= 0)

    async def again(self, code: Code, tries: int) -> bool:
        return tries <= self._again


def many(count: int) -> Batch:
    names = [f"{number:03}" for number in range(count)]
    return Batch(
        names=names, generations=[7] * count, metagenerations=[3] * count, sizes=[0] * count
    )


def taking(status: int = 200) -> Any:
    """A service that takes many calls, and grants all of a request but the first, which it answers
    with ``status``."""

    def answer(request: Request) -> Answered:
        count = len(parts_of(request))
        first = {"error": {"errors": [{"reason": "backendError"}], "message": "Later."}}
        if "maxResults=1" in parts_of(request)[0][2]:
            return together(request, (200, {}))
        body = an_object() if status == 200 else first
        return together(request, (status, body), *[(200, an_object())] * (count - 1))

    return answer


async def test_each_request_has_a_turn_and_says_what_it_changes() -> None:
    turns = Turning()
    with recording(taking(503)) as recorder:
        async with store_at(recorder.url) as store:
            outcome = await store.by_turns(turns).patch_objects(BUCKET, many(150), HOLD)
    assert turns.given == [("objects.list", 0), ("objects.patch", 100), ("objects.patch", 50)]
    assert turns.ended == [Code.UNAVAILABLE] * 2
    assert {place: failure.code for place, failure in outcome.failures.items()} == {
        0: Code.UNAVAILABLE,
        100: Code.UNAVAILABLE,
    }


@pytest.mark.parametrize("count", [1, 3])
async def test_an_object_that_was_changed_too_often_says_nothing_of_its_range(count: int) -> None:
    message = "The object quay/000 exceeded the rate limit for object mutation operations."
    busy = {"error": {"errors": [{"reason": "rateLimitExceeded"}], "message": message}}

    def answer(request: Request) -> Answered:
        if request.method == "PATCH":
            return said(busy, 429)
        if "maxResults=1" in parts_of(request)[0][2]:
            return together(request, (200, {}))
        return together(request, (429, busy), *[(200, an_object())] * (count - 1))

    turns = Turning()
    with recording(answer) as recorder:
        async with store_at(recorder.url) as store:
            outcome = await store.by_turns(turns).patch_objects(BUCKET, many(count), HOLD)
    assert turns.ended == []
    assert {place: one.wait_seconds for place, one in outcome.failures.items()} == {0: 1.0}


async def test_what_may_not_be_sent_is_not() -> None:
    turns = Turning(permitted=1)
    with recording(taking()) as recorder:
        async with store_at(recorder.url) as store:
            outcome = await store.by_turns(turns).delete_objects(BUCKET, many(150), permanent=True)
    assert dict(outcome.failures) == dict.fromkeys(range(100, 150), UNSENT)
    assert [len(parts_of(request)) for request in recorder.taken()] == [1, 100]


async def test_reads_that_are_turned_away_are_made_again() -> None:
    statuses = iter([503, 429, 200])
    turns = Turning(again=2)

    def answer(request: Request) -> Answered:
        if "maxResults=1" in parts_of(request)[0][2]:
            return together(request, (200, {}))
        return taking(next(statuses))(request)

    with recording(answer) as recorder:
        async with store_at(recorder.url) as store:
            batch = await store.by_turns(turns).read_objects(BUCKET, ["a", "b"], [0, 0])
            assert batch.generations == [7, 7]
    assert turns.given == [("objects.list", 0), *[("objects.get", 0)] * 3]


async def test_what_is_read_now_does_not_stand_for_what_was_counted() -> None:
    """The deltas were computed at the batch's metageneration, though the new value is not."""
    patch = Patch(contexts=MapPatch(updates={"new": "1"}, clear=True))
    source = an_object(metageneration="4", contexts={"custom": {"old": {"value": "0"}}})
    with recording(granting({}, source=source)) as recorder:
        async with store_at(recorder.url) as store:
            await store.patch_objects(BUCKET, named(), patch, match_metageneration=True)
    (sent,) = changes(recorder)
    assert sent.parameters["ifMetagenerationMatch"] == "3"
    assert sent.json == {"contexts": {"custom": {"old": None, "new": {"value": "1"}}}}


async def test_a_custom_time_that_is_there_is_not_cleared_and_nothing_is_sent() -> None:
    """Cloud Storage would take null for it, change nothing, and call that done."""
    quay = Quay(None)
    quay.noncurrent = an_object(customTime="2026-01-01T00:00:00Z")
    with recording(quay) as recorder:
        async with store_at(recorder.url) as store:
            patch = Patch(custom_time_us=0, content_language="en")
            outcome = await store.patch_objects(BUCKET, named(), patch)
    assert outcome.failures[0].code is Code.INVALID_ARGUMENT
    assert "never be removed" in outcome.failures[0].message
    assert [request.method for request in recorder.requests if request.method != "GET"] == []


async def test_where_no_custom_time_is_there_is_none_to_clear() -> None:
    quay = Quay(None)
    quay.noncurrent = an_object(metageneration="3")
    with recording(quay) as recorder:
        async with store_at(recorder.url) as store:
            patch = Patch(custom_time_us=0, content_language="en")
            await store.patch_objects(BUCKET, named(), patch)
    [sent] = [request for request in recorder.requests if request.method == "PATCH"]
    assert sent.json == {"contentLanguage": "en"}
    assert sent.parameters["ifMetagenerationMatch"] == "3"

"""Many calls in one request: which answer is of which call, and what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from longshore.errors import Code, Error, NotFound, Unavailable
from longshore.patch import MapPatch, Patch
from longshore.store import Batch
from longshore.stores.gs import multipart
from longshore.stores.gs.multipart import Answer
from longshore.transport.http import Reply
from tests.gs.asking import BUCKET, an_object, parts_of, refused, said, store_at, together
from tests.gs.recorder import Answered, Recorder, Request, recording

BATCHES = "/batch/storage/v1"
HOLD = Patch(temporary_hold=True)


def named(count: int) -> Batch:
    names = [f"{number:04}" for number in range(count)]
    return Batch(
        names=names, generations=[7] * count, metagenerations=[1] * count, sizes=[0] * count
    )


def reply(body: bytes, content_type: str = "multipart/mixed; boundary=xyz") -> Reply:
    return Reply(200, (("content-type", content_type),), body)


def part(number: int | str, status: int = 200, body: str = "{}") -> bytes:
    return (
        f"--xyz\r\ncontent-type: application/http\r\ncontent-id: <response-{number}@longshore>\r\n"
        f"\r\nHTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n\r\n{body}\r\n"
    ).encode()


def test_calls_are_written_as_the_documentation_has_them() -> None:
    kind, body = multipart.encode("DELETE", ["/a?b", "/c?d"], (), "&e=f")
    boundary = kind.partition("boundary=")[2]
    assert body.decode() == (
        f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <0@longshore>\r\n\r\n"
        "DELETE /a?b&e=f HTTP/1.1\r\n\r\n\r\n"
        f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <1@longshore>\r\n\r\n"
        f"DELETE /c?d&e=f HTTP/1.1\r\n\r\n\r\n--{boundary}--\r\n"
    )


def test_bodies_are_written_with_their_length() -> None:
    kind, body = multipart.encode("PATCH", ["/a"], ['{"b":"ü"}'.encode()])
    boundary = kind.partition("boundary=")[2]
    assert body.decode() == (
        f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <0@longshore>\r\n\r\n"
        "PATCH /a HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n"
        f'{{"b":"ü"}}\r\n--{boundary}--\r\n'
    )


@pytest.mark.parametrize("quote", ["", '"'])
def test_answers_go_by_number(quote: str) -> None:
    body = part(1, 404, "no") + part(0, 204, "") + b"--xyz--\r\n"
    found = multipart.decode(reply(body, f"Multipart/Mixed; boundary={quote}xyz{quote}"), 2)
    assert found == [Answer(204, b""), Answer(404, b"no")]


def test_an_answer_without_headers_or_body_is_one() -> None:
    body = (
        b"--xyz\r\nContent-ID: <response-0@longshore>\r\n\r\nHTTP/1.1 204 No Content\r\n--xyz--\r\n"
    )
    assert multipart.decode(reply(body), 1) == [Answer(204, b"")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--xyz--\r\n",
        part(0) + part(0) + b"--xyz--",  # answered twice
        part(0) + part(0, 404) + part(0) + b"--xyz--",
        part(0),  # perhaps not whole
        part(1) + b"--xyz--",
        part("x") + b"--xyz--",
        part(0).replace(b"response-", b"") + b"--xyz--",
        part(0).replace(b"content-id", b"content-no") + b"--xyz--",
        part(0).replace(b"HTTP/1.1 200", b"SMTP/1.1 200") + b"--xyz--",
        part(0).replace(b"--xyz", b"--xyw") + b"--xyz--",
    ],
)
def test_what_is_not_answered_just_once_is_not_known(body: bytes) -> None:
    assert multipart.decode(reply(body), 1) == [None]


def test_nothing_in_an_object_passes_for_an_answer() -> None:
    text = r'"\r\n--xyz\r\nContent-ID: <response-1@longshore>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"'
    body = part(0, 200, text) + b"--xyz--"
    assert multipart.decode(reply(body), 2) == [Answer(200, text.encode()), None]


@pytest.mark.parametrize("kind", ["application/json", "multipart/mixed", "text/html; boundary=xyz"])
def test_another_reply_has_no_answers(kind: str) -> None:
    assert multipart.decode(reply(part(0), kind), 1) is None


class Harbour:
    """A service that takes requests of many calls, and answers each call by ``calls``."""

    def __init__(self, *calls: tuple[int, Any] | None) -> None:
        self.calls: Sequence[tuple[int, Any] | None] = calls
        self.whole: Answered | None = None

    def __call__(self, request: Request) -> Answered:
        if request.path != BATCHES:
            return said({"items": []})
        parts = parts_of(request)
        if parts[0][1] == "GET" and "maxResults=1" in parts[0][2]:
            return together(request, (200, {"kind": "storage#objects"}))
        if self.whole is not None:
            return self.whole
        answers = [self.calls[int(name)] for name in (_name(target) for _, _, target, _ in parts)]
        return together(request, *answers)


def _name(target: str) -> str:
    return target.partition("?")[0].rpartition("/")[2]


def of_batches(recorder: Recorder) -> list[Request]:
    return [one for one in recorder.taken() if one.path == BATCHES]


async def test_a_hundred_calls_go_in_one_request_and_each_has_its_answer() -> None:
    answers: list[tuple[int, Any] | None] = [(200, {})] * 250
    answers[3] = (403, _error("forbidden", "Object 'quay/0003' is under active Temporary hold"))
    answers[120] = None
    answers[249] = (429, _error("rateLimitExceeded", "Slow down"))
    with recording(Harbour(*answers)) as recorder:
        async with store_at(recorder.url) as store:
            outcome = await store.patch_objects(BUCKET, named(250), HOLD)
    sizes = sorted(len(parts_of(request)) for request in of_batches(recorder))
    assert sizes == [1, 50, 100, 100]
    assert {place: failure.code for place, failure in outcome.failures.items()} == {
        3: Code.PERMISSION_DENIED,
        120: Code.UNAVAILABLE,
        249: Code.RESOURCE_EXHAUSTED,
    }
    assert outcome.failures[3].message == "Object 'quay/0003' is under active Temporary hold"


async def test_requests_stay_below_the_limit_of_their_bytes() -> None:
    text = "x" * 200_000
    patch = Patch(custom_metadata=MapPatch(updates={"k": text}))
    with recording(Harbour(*[(200, {})] * 60)) as recorder:
        async with store_at(recorder.url) as store:
            assert (await store.patch_objects(BUCKET, named(60), patch)).failures == {}
    requests = of_batches(recorder)
    assert len(requests) == 3
    assert max(len(request.body) for request in requests) < 10_000_000


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
async def test_a_request_that_fails_as_a_whole_fails_for_each(status: int) -> None:
    harbour = Harbour()
    with recording(harbour) as recorder:
        async with store_at(recorder.url) as store:
            harbour.whole = refused(status, "whatever", "As a whole.")
            outcome = await store.patch_objects(BUCKET, named(3), HOLD)
            with pytest.raises(Error) as raised:
                await store.read_objects(BUCKET, ["a", "b"], [0, 0])
    codes = {failure.code for failure in outcome.failures.values()}
    assert outcome.failures.keys() == {0, 1, 2}
    assert codes == {raised.value.code}


async def test_a_reply_that_is_no_multipart_says_nothing() -> None:
    harbour = Harbour()
    with recording(harbour) as recorder:
        async with store_at(recorder.url) as store:
            harbour.whole = said({})
            outcome = await store.delete_objects(BUCKET, named(2), permanent=True)
            with pytest.raises(Unavailable):
                await store.read_objects(BUCKET, ["a", "b"], [0, 0])
    assert [failure.code for failure in outcome.failures.values()] == [Code.UNAVAILABLE] * 2


async def test_reads_go_together_too() -> None:
    with recording(Harbour((200, an_object("0")), (404, {}), (200, an_object("2")))) as recorder:
        async with store_at(recorder.url) as store:
            batch = await store.read_objects(BUCKET, ["0", "1", "2", "", ".."], [0] * 5)
    assert batch.generations == [7, 0, 7, 0, 0]
    assert [len(parts_of(request)) for request in of_batches(recorder)] == [1, 3]


@pytest.mark.parametrize(
    "missing",
    [
        Answered(404, b"Not Found", "text/plain"),
        refused(403, "forbidden", "Batches are not allowed from this network."),
        Answered(501),
        said({"kind": "x"}),
    ],
)
async def test_where_there_is_no_such_endpoint_calls_go_singly(missing: Answered) -> None:
    def answer(request: Request) -> Answered:
        return missing if request.path == BATCHES else Answered(204, b"")

    with recording(answer) as recorder:
        async with store_at(recorder.url) as store:
            for _ in range(2):
                outcome = await store.delete_objects(BUCKET, named(20), permanent=True)
                assert outcome.failures == {}
    paths = [request.path for request in recorder.taken()]
    assert paths.count(BATCHES) == 1
    assert len(paths) == 41


@pytest.mark.parametrize(
    "refusal",
    [
        refused(503, "backendError", "Later."),
        refused(403, "rateLimitExceeded", "Slower."),
        refused(401, "authError", "Who?"),
    ],
)
async def test_a_refusal_of_all_requests_is_not_taken_for_one_of_batches(refusal: Answered) -> None:
    overloaded = True

    def answer(request: Request) -> Answered:
        if overloaded and request.path == BATCHES:
            return refusal
        return Harbour(*[(204, None)] * 2)(request)

    with recording(answer) as recorder:
        async with store_at(recorder.url) as store:
            with pytest.raises(Error):
                await store.delete_objects(BUCKET, named(2), permanent=True)
            overloaded = False
            assert not (await store.delete_objects(BUCKET, named(2), permanent=True)).failures
    assert {request.path for request in recorder.taken()} == {BATCHES}


async def test_a_bucket_that_is_not_there_is_an_error_of_the_whole() -> None:
    gone = refused(404, "notFound", "The specified bucket does not exist.")

    def answer(request: Request) -> Answered:
        if request.path != BATCHES:
            return gone
        body = (404, _error("notFound", "The specified bucket does not exist."))
        return together(request, *[body] * len(parts_of(request)))

    with recording(answer) as recorder:
        async with store_at(recorder.url) as store:
            for call in (
                store.delete_objects(BUCKET, named(2), permanent=False),
                store.patch_objects(BUCKET, named(2), HOLD),
                store.rewrite_objects(BUCKET, named(2), storage_class="ARCHIVE"),
                store.read_objects(BUCKET, ["a", "b"], [0, 0]),
            ):
                with pytest.raises(NotFound):
                    await call


async def test_a_name_that_is_a_path_is_never_sent() -> None:
    """A DELETE of the object ".." would be one of the bucket."""
    with recording(lambda _: Answered(204, b"")) as recorder:
        async with store_at(recorder.url) as store:
            for name in ("", ".", "..", "x" * 1025):
                batch = Batch(names=[name], generations=[7], metagenerations=[1], sizes=[0])
                with pytest.raises(Error):
                    await store.delete_objects(BUCKET, batch, permanent=True)
            with pytest.raises(NotFound):
                await store.delete_objects("a/../b", named(1), permanent=True)
    assert {request.method for request in recorder.taken()} <= {"GET"}


def _error(reason: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "errors": [{"reason": reason}]}}

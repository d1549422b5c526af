"""Contents, up and down: ranges, pieces, and what is not whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from longshore.errors import Aborted, Error, Internal, InvalidArgument, NotFound, Unavailable
from longshore.store import NewObject
from longshore.stores.gs import reading, writing
from tests.conformance.shelf import pieces
from tests.gs.asking import BUCKET, an_object, refused, said, store_at
from tests.gs.recorder import Answered, Request, recording

LARGE = bytes(range(256)) * (36 << 10)  # 9 MiB


def holding(content: bytes) -> Any:
    """A bucket whose object "a" has this content."""

    def answer(request: Request) -> Answered:
        if request.parameters.get("alt") != "media":
            return said({"items": []} if request.path.endswith("/o") else an_object())
        first, last = request.headers["range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        if not part:
            return refused(416, "requestedRangeNotSatisfiable", "The range is not there.")
        end = int(first) + len(part) - 1
        return Answered(206, part, headers={"content-range": f"bytes {first}-{end}/{len(content)}"})

    return answer


async def read(pieces: AsyncIterator[bytes]) -> list[bytes]:
    return [piece async for piece in pieces]


@pytest.mark.parametrize("start", [0, 1, 5 << 20, len(LARGE) - 1, len(LARGE), len(LARGE) + 7])
async def test_a_content_comes_in_ranges_of_one_version(start: int) -> None:
    with recording(holding(LARGE)) as recorder:
        async with store_at(recorder.url) as store:
            found = await read(store.read_bytes(BUCKET, "a", start=start))
    assert b"".join(found) == LARGE[start:]
    assert max(map(len, found), default=0) <= reading.PIECE_BYTES
    media = [one for one in recorder.taken() if one.parameters.get("alt") == "media"]
    assert {one.parameters["generation"] for one in media} == {"7"}
    assert {one.headers["accept-encoding"] for one in media} == {"gzip"}


async def test_a_content_that_goes_while_it_is_read() -> None:
    left = [holding(LARGE)] * 2  # for its generation, and for the first range

    def answer(request: Request) -> Answered:
        gone = refused(404, "notFound", "No such object: quay/a")
        return left.pop()(request) if left else gone

    with recording(answer) as recorder:
        async with store_at(recorder.url) as store:
            with pytest.raises(Aborted):
                await read(store.read_bytes(BUCKET, "a"))
            left[:] = []
            with pytest.raises(NotFound):
                await read(store.read_bytes(BUCKET, "a", 7))
            with pytest.raises(InvalidArgument):
                await read(store.read_bytes(BUCKET, "a", 7, start=-1))


class Uploads:
    """A service that takes resumable uploads, and keeps ``kept`` bytes of each piece, or all."""

    def __init__(self, kept: int | None = None) -> None:
        self.content = b""
        self.kept = kept

    def __call__(self, request: Request) -> Answered:
        if request.method == "POST":
            there = "http://elsewhere.example/upload/storage/v1/b/quay/o?upload_id=u+/%2B"
            return Answered(200, b"", headers={"location": there})
        self.content += request.body if self.kept is None else request.body[: self.kept]
        if request.headers["content-range"].endswith("*"):
            return Answered(308, b"", headers={"range": f"bytes=0-{len(self.content) - 1}"})
        return said({"generation": "7"})


@pytest.mark.parametrize("size", [writing.PIECE_BYTES, writing.PIECE_BYTES + 1, len(LARGE)])
async def test_a_large_content_is_sent_in_pieces(size: int) -> None:
    uploads = Uploads()
    with recording(uploads) as recorder:
        async with store_at(recorder.url) as store:
            given = pieces(LARGE[:100], LARGE[100:size])
            assert await store.write_object(BUCKET, "a", given, content_type="x/y") == 7
    assert uploads.content == LARGE[:size]
    first, *rest = recorder.taken()
    assert first.json == {"contentType": "x/y"}
    assert first.parameters.items() >= {"uploadType": "resumable", "name": "a"}.items()
    assert {one.target.partition("&")[0] for one in rest} == {
        "/upload/storage/v1/b/quay/o?upload_id=u+/%2B"
    }
    assert rest[-1].headers["content-range"].endswith(f"-{size - 1}/{size}")


async def test_a_piece_that_is_not_kept_as_a_whole_is_an_error() -> None:
    with recording(Uploads(kept=256 << 10)) as recorder:
        async with store_at(recorder.url) as store:
            with pytest.raises(Unavailable):
                await store.write_object(BUCKET, "a", pieces(LARGE))


async def test_an_upload_without_a_place_is_an_error() -> None:
    with recording(lambda _: Answered(200, b"")) as recorder:
        async with store_at(recorder.url) as store:
            with pytest.raises(Internal):
                await store.write_object(BUCKET, "a", pieces(LARGE))


async def test_a_small_content_goes_with_its_metadata() -> None:
    with recording(lambda _: said({"generation": "9"})) as recorder:
        async with store_at(recorder.url) as store:
            metadata = {"content_type": "x/y", "temporary_hold": True, "kms_key": "k"}
            assert await store.write_object(BUCKET, "ü", pieces(b"car", b"go"), **metadata) == 9
            with pytest.raises(InvalidArgument):
                await store.write_object(BUCKET, "..", pieces(b""))
    (one,) = recorder.taken()
    assert one.parameters == {
        "uploadType": "multipart",
        "name": "ü",
        "kmsKeyName": "k",
        "fields": "generation",
        "prettyPrint": "false",
    }
    boundary = one.headers["content-type"].removeprefix("multipart/related; boundary=").encode()
    assert one.body == (
        b"--%s\r\nContent-Type: application/json\r\n\r\n"
        b'{"contentType":"x/y","temporaryHold":true}'
        b"\r\n--%s\r\nContent-Type: x/y\r\n\r\ncargo\r\n--%s--\r\n" % (boundary, boundary, boundary)
    )


async def test_a_bucket_that_is_not_there_takes_nothing() -> None:
    gone = refused(404, "notFound", "The specified bucket does not exist.")
    with recording(lambda _: gone) as recorder:
        async with store_at(recorder.url) as store:
            with pytest.raises(Error) as missing:
                await store.write_objects(BUCKET, [NewObject("a", b"x"), NewObject("b", b"x")])
    assert isinstance(missing.value, NotFound)

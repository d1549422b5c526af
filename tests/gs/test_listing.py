"""What is asked of a listing, and what is made of its replies."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from longshore.errors import Internal, InvalidArgument, NotFound
from longshore.patch import dump_map
from longshore.store import COLUMNS
from tests.gs.asking import BUCKET, an_object, refused, said, store_at
from tests.gs.recorder import Answered, Request, recording


def replies(*pages: list[dict[str, Any]]) -> Any:
    """A service that lists these pages, whatever is asked for."""

    def answer(request: Request) -> Answered:
        number = int(request.parameters.get("pageToken", "0"))
        following = {"nextPageToken": str(number + 1)} if number + 1 < len(pages) else {}
        return said({"items": pages[number], **following})

    return answer


async def names_of(pages: Any) -> list[list[tuple[str, int]]]:
    return [list(zip(page.names, page.generations, strict=True)) async for page in pages]


async def test_pages_follow_each_other() -> None:
    with recording(replies([an_object("a"), an_object("b")], [], [an_object("c")])) as recorder:
        async with store_at(recorder.url) as store:
            found = await names_of(store.list_objects(BUCKET, page_size=2))
    assert found == [[("a", 7), ("b", 7)], [("c", 7)]]
    asked = [request.parameters for request in recorder.taken()]
    assert [one.get("pageToken") for one in asked] == [None, "1", "2"]
    assert {one["maxResults"] for one in asked} == {"2"}


async def test_who_counts_versions_is_told_their_generations() -> None:
    with recording(replies([an_object("a", 1), an_object("a", 2)])) as recorder:
        async with store_at(recorder.url) as store:
            found = await names_of(store.list_objects(BUCKET, versions=True, columns=None))
    assert found == [[("a", 2), ("a", 1)]]


async def test_bounds_hold_where_a_service_does_not_know_them() -> None:
    with recording(replies([an_object(name) for name in "abcde"])) as recorder:
        async with store_at(recorder.url) as store:
            found = await names_of(store.list_objects(BUCKET, after="b", before="d"))
    assert found == [[("c", 7)]]


async def test_nothing_is_asked_of_an_empty_range() -> None:
    with recording(replies([an_object("b")])) as recorder:
        async with store_at(recorder.url) as store:
            assert await names_of(store.list_objects(BUCKET, after="b", before="b")) == []
    assert recorder.taken() == []


async def test_versions_are_newest_first_even_over_replies() -> None:
    """The API lists the oldest first."""
    pages = (
        [an_object("a", 1), an_object("a", 2)],
        [an_object("a", 3), an_object("b", 1)],
        [an_object("b", 2)],
    )
    with recording(replies(*pages)) as recorder:
        async with store_at(recorder.url) as store:
            found = await names_of(store.list_objects(BUCKET, versions=True))
            older = await names_of(
                store.list_objects(BUCKET, versions=True, after="a", after_generation=3)
            )
    assert [*chain(*found)] == [("a", 3), ("a", 2), ("a", 1), ("b", 2), ("b", 1)]
    assert [*chain(*older)] == [("a", 2), ("a", 1), ("b", 2), ("b", 1)]
    assert {request.parameters["versions"] for request in recorder.taken()} == {"true"}


async def test_long_texts_make_short_pages() -> None:
    many = [an_object(f"{number:03}", metadata={"k": "v" * 8000}) for number in range(40)]
    with recording(replies(many)) as recorder:
        async with store_at(recorder.url) as store:
            pages = [
                page async for page in store.list_objects(BUCKET, columns=("custom_metadata",))
            ]
    assert sum(map(len, pages)) == 40
    assert max(map(len, pages)) < 14


@pytest.mark.parametrize("pages", [(["b", "a"],), (["b"], ["a"]), (["a"], ["a"])])
async def test_what_is_out_of_order_is_refused(pages: tuple[list[str], ...]) -> None:
    with recording(replies(*[[an_object(name) for name in page] for page in pages])) as recorder:
        async with store_at(recorder.url) as store:
            with pytest.raises(Internal):
                await names_of(store.list_objects(BUCKET))


async def test_only_what_is_looked_at_is_asked_for() -> None:
    with recording(replies([])) as recorder:
        async with store_at(recorder.url) as store:
            for columns in (None, (), ("temporary_hold", "live"), ("acl", "checksum")):
                await names_of(store.list_objects(BUCKET, columns=columns))
            with pytest.raises(InvalidArgument):
                await names_of(store.list_objects(BUCKET, columns=("colour",)))
    always = "name,generation,metageneration,size"
    asked = [request.parameters for request in recorder.taken()]
    assert [one["fields"] for one in asked] == [
        "nextPageToken,items(name,size)",
        f"nextPageToken,items({always})",
        f"nextPageToken,items({always},temporaryHold,timeDeleted)",
        f"nextPageToken,items({always},acl(entity,role),crc32c)",
    ]
    assert [one.get("projection") for one in asked] == [None, None, None, "full"]


async def test_every_column_is_read() -> None:
    one = an_object(
        contentType="a/b",
        temporaryHold=True,
        customTime="1970-01-01T00:00:01.5Z",
        retention={"mode": "Locked", "retainUntilTime": "1970-01-01T00:00:02Z"},
        metadata={"k": "v"},
        contexts={"custom": {"c": {"value": "d", "createTime": "2026-11-26T10:00:00Z"}}},
        acl=[{"entity": "allUsers", "role": "READER"}],
        kmsKeyName="projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/3",
        timeDeleted="2026-11-26T10:00:00Z",
    )
    with recording(replies([one, an_object("b")])) as recorder:
        async with store_at(recorder.url) as store:
            (page,) = [page async for page in store.list_objects(BUCKET, columns=tuple(COLUMNS))]
    columns = dict(page.columns)
    created = columns.pop("create_time_us")
    assert created == [created[0]] * 2
    assert created[0] % 1_000_000 == 123_456
    assert columns.pop("update_time_us")[0] % 1_000_000 == 123_000
    assert columns == {
        "content_type": ["a/b", ""],
        "content_encoding": ["", ""],
        "content_language": ["", ""],
        "content_disposition": ["", ""],
        "cache_control": ["", ""],
        "temporary_hold": [True, False],
        "event_based_hold": [False, False],
        "custom_time_us": [1_500_000, 0],
        "retention": ["Locked@2000000", ""],
        "custom_metadata": [dump_map({"k": "v"}), ""],
        "contexts": [dump_map({"c": "d"}), ""],
        "acl": [dump_map({"allUsers": "READER"}), ""],
        "storage_class": ["STANDARD", "STANDARD"],
        "kms_key": ["projects/p/locations/l/keyRings/r/cryptoKeys/k", ""],
        "checksum": ["mnG7TA==", "mnG7TA=="],
        "live": [False, True],
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"items": [{"name": "a"}]}'])
async def test_what_is_no_listing_is_an_error(body: bytes) -> None:
    with recording(lambda _: Answered(200, body)) as recorder:
        async with store_at(recorder.url) as store:
            with pytest.raises(Internal):
                await names_of(store.list_objects(BUCKET))


async def test_a_bucket_that_is_not_there() -> None:
    gone = refused(404, "notFound", "The specified bucket does not exist.")
    with recording(lambda _: gone) as recorder:
        async with store_at(recorder.url) as store:
            with pytest.raises(NotFound) as missing:
                await names_of(store.list_objects(BUCKET))
    assert missing.value.message == f"The specified bucket does not exist: '{BUCKET}'."


async def test_bounds_with_a_nul_are_widened_and_still_hold() -> None:
    """Front ends refuse U+0000 in parameters."""
    with recording(replies([an_object(name) for name in ("a", "a\x01", "b", "bc")])) as recorder:
        async with store_at(recorder.url) as store:
            before = await names_of(store.list_objects(BUCKET, before="b\0c"))
            after = await names_of(store.list_objects(BUCKET, after="a\0z"))
            within = await names_of(store.list_objects(BUCKET, prefix="b\0"))
    assert [name for name, _ in chain(*before)] == ["a", "a\x01", "b"]
    assert [name for name, _ in chain(*after)] == ["a\x01", "b", "bc"]
    assert within == []
    asked = [request.parameters for request in recorder.taken()]
    assert asked[0]["endOffset"] == "b\x01"
    assert asked[1]["startOffset"] == "a"
    assert asked[2]["prefix"] == "b"

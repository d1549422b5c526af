"""Listings, by google-cloud-storage: prefixes, delimiters, offsets, versions, pages."""

from __future__ import annotations

import random
from collections.abc import Iterator

import httpx
import pytest
from google.cloud import storage

NAMES = ["a", "a/", "a/b", "a/b/c", "a/c", "a0", "b/x", "b/y", "c", "d//e", "é", "\U0001f6a2"]


@pytest.fixture(scope="module")
def full(client: storage.Client) -> Iterator[storage.Bucket]:
    made = client.create_bucket("listing")
    for name in random.Random(5).sample(NAMES, len(NAMES)):
        made.blob(name).upload_from_string(b"1")
    yield made
    for blob in made.list_blobs():
        blob.delete()
    made.delete()


def plainly(prefix: str, delimiter: str, start: str, end: str) -> tuple[list[str], list[str]]:
    """Items and prefixes as the documentation of ``objects.list`` has them."""
    items, prefixes = [], []
    for name in sorted(NAMES):
        if not name.startswith(prefix) or name < start or (end and name >= end):
            continue
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if found:
            prefixes.append(prefix + head + delimiter)
        else:
            items.append(name)
    return items, list(dict.fromkeys(prefixes))


@pytest.mark.parametrize("page_size", [1, 3, 100])
@pytest.mark.parametrize("delimiter", ["", "/", "b"])
def test_every_range_in_pages_of_every_size(
    full: storage.Bucket, delimiter: str, page_size: int
) -> None:
    for prefix, start, end in (
        ("", "", ""),
        ("a", "", ""),
        ("a/", "", ""),
        ("", "a/b", "c"),
        ("a/", "a/b/", "zzz"),
        ("", "a0", ""),
        ("b/", "a", "b/y"),
        ("nothing", "", ""),
    ):
        listed = full.list_blobs(
            prefix=prefix,
            delimiter=delimiter or None,
            start_offset=start,
            end_offset=end,
            page_size=page_size,
        )
        items, prefixes = [], set()
        for page in listed.pages:
            names = [blob.name for blob in page]
            assert len(names) + len(page.prefixes) <= page_size
            items += names
            prefixes |= set(page.prefixes)
        assert (items, sorted(prefixes)) == plainly(prefix, delimiter, start, end)


def test_a_prefix_that_is_a_name_too(full: storage.Bucket) -> None:
    listed = full.list_blobs(prefix="a", delimiter="/", include_trailing_delimiter=True)
    assert [blob.name for blob in listed] == ["a", "a/", "a0"]
    assert listed.prefixes == {"a/"}


def test_versions_in_pages(client: storage.Client) -> None:
    bucket = storage.Bucket(client, "listing-versions")
    bucket.versioning_enabled = True
    bucket.create()
    made = []
    for name in ("a", "b", "c"):
        for _ in range(3):
            blob = bucket.blob(name)
            blob.upload_from_string(b"1")
            made.append((name, blob.generation))
    for size in (1, 2, 5, 100):
        listed = bucket.list_blobs(versions=True, page_size=size)
        assert [(blob.name, blob.generation) for blob in listed] == made
    tail = bucket.list_blobs(versions=True, start_offset="b", page_size=2)
    assert [(blob.name, blob.generation) for blob in tail] == made[3:]
    assert len(list(bucket.list_blobs())) == 3
    for blob in list(bucket.list_blobs(versions=True)):
        blob.delete()


@pytest.mark.parametrize("ask", [{"pageToken": "!"}, {"pageToken": "WzFd"}, {"maxResults": "x"}])
def test_what_no_page_has(http: httpx.Client, full: storage.Bucket, ask: dict[str, str]) -> None:
    assert http.get(f"/storage/v1/b/{full.name}/o", params=ask).status_code == 400


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("*", ["a", "a0", "c", "é", "\U0001f6a2"]),
        ("**", sorted(NAMES)),
        ("a/*", ["a/", "a/b", "a/c"]),
        ("a/**c", ["a/b/c", "a/c"]),
        ("?", ["a", "c", "é", "\U0001f6a2"]),
        ("[ab]*/[!b]", ["a/c", "b/x", "b/y"]),
        ("{a,b}/{c,x}", ["a/c", "b/x"]),
        ("b/[x-z]", ["b/x", "b/y"]),
    ],
)
def test_globs(full: storage.Bucket, glob: str, names: list[str]) -> None:
    assert [blob.name for blob in full.list_blobs(match_glob=glob, page_size=2)] == names


@pytest.mark.parametrize("glob", ["[", "{a", "a" * 2000])
def test_globs_that_are_none(http: httpx.Client, full: storage.Bucket, glob: str) -> None:
    answer = http.get(f"/storage/v1/b/{full.name}/o", params={"matchGlob": glob})
    assert answer.status_code == 400

"""The store on an emulator that others wrote. It has no holds, no conditions and one page, and its
replies to many calls do not say which is to which."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from gcp_storage_emulator.server import create_server

from longshore.errors import AlreadyExists, Code, NotFound
from longshore.patch import MapPatch, Patch, dump_map
from longshore.store import Bucket, NewObject
from longshore.stores.gs.store import GsStore
from tests.conformance.shelf import pieces
from tests.gs.asking import BUCKET, google_at, store_at

NAMES = ["a", "b/c", "päck/a b+?&#%.txt"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    try:
        host, port = server._api._httpd.socket.getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


async def there(store: GsStore) -> dict[str, int]:
    pages = [page async for page in store.list_objects(BUCKET)]
    return {name: size for page in pages for name, size in zip(page.names, page.sizes, strict=True)}


async def test_a_life_of_objects(url: str) -> None:
    async with store_at(url) as store:
        with pytest.raises(NotFound):
            await there(store)
        await store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
        with pytest.raises(AlreadyExists):
            await store.create_bucket(Bucket(name=BUCKET, create_time_us=0))
        large = b"x" * (9 << 20)
        outcome = await store.write_objects(BUCKET, [NewObject(name, b"cargo") for name in NAMES])
        assert outcome.failures == {}
        await store.write_object(BUCKET, "large", pieces(large), content_type="x/y")
        assert await there(store) == {"a": 5, "b/c": 5, "large": 9 << 20, NAMES[2]: 5}
        content = [piece async for piece in store.read_bytes(BUCKET, "large", start=7)]
        assert b"".join(content) == large[7:]

        batch = await store.read_objects(BUCKET, [*NAMES, "none"], [0] * 4)
        assert [generation > 0 for generation in batch.generations] == [True, True, True, False]
        patch = Patch(
            content_type="c/d",
            custom_metadata=MapPatch(updates={"k": "v"}),
            contexts=MapPatch(updates={"c": "w"}),
        )
        outcome = await store.patch_objects(BUCKET, batch, patch)
        assert {index: f.code for index, f in outcome.failures.items()} == {3: Code.NOT_FOUND}
        columns = ("content_type", "custom_metadata")
        now = await store.read_objects(BUCKET, NAMES, batch.generations[:3], columns=columns)
        assert now.columns["content_type"] == ["c/d"] * 3
        assert now.columns["custom_metadata"] == [dump_map({"k": "v"})] * 3

        def look() -> dict[str, str | None]:
            client = google_at(url)
            found = {blob.name: blob.content_type for blob in client.list_blobs(BUCKET)}
            client.close()
            return found

        assert await asyncio.to_thread(look) == dict.fromkeys(NAMES, "c/d") | {"large": "x/y"}

        outcome = await store.delete_objects(BUCKET, batch, permanent=False)
        assert {index: f.code for index, f in outcome.failures.items()} == {3: Code.NOT_FOUND}
        assert await there(store) == {"large": 9 << 20}
        last = await store.read_objects(BUCKET, ["large"], [0])
        assert (await store.delete_objects(BUCKET, last, permanent=True)).failures == {}
        await store.delete_bucket(BUCKET)
        with pytest.raises(NotFound):
            await store.read_objects(BUCKET, ["a"], [0])

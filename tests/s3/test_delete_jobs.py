"""Whole jobs that delete on Ceph, and die: one delete marker an object, each counted once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from longshore.errors import Code
from tests.house import BUCKET
from tests.s3.asking import versions_of
from tests.s3.test_copying_jobs import CRASHES, NAMES, PREFIX, Port, port

__all__ = ["port"]
pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

SIMPLE = ("delete_object", {"permanent": False})
FOR_GOOD = ("delete_object", {"permanent": True})


def entries(port: Port, *, markers: bool) -> Counter[str]:
    """How many versions, or delete markers, each name has."""
    listed = versions_of(port.s3, BUCKET)
    return Counter(one.name for one in listed if one.marker == markers)


async def done(port: Port, what: tuple[str, dict[str, Any]]) -> Any:
    counters, errors = await port.live_through(await port.house.create(what, PREFIX))
    return counters.total, counters.succeeded, {code: one.count for code, one in errors.items()}


async def test_after_twenty_deaths_each_object_has_one_delete_marker(port: Port) -> None:
    for name in NAMES:
        port.put(name)
        port.put(name)
    port.put("other")
    count = len(NAMES)
    assert await done(port, SIMPLE) == (count, count, {})
    assert port.deaths == CRASHES
    assert entries(port, markers=True) == Counter(NAMES)
    assert entries(port, markers=False) == Counter({**dict.fromkeys(NAMES, 2), "other": 1})
    assert await done(port, SIMPLE) == (0, 0, {})
    assert entries(port, markers=True) == Counter(NAMES)


async def test_after_twenty_deaths_all_versions_and_markers_are_gone(port: Port) -> None:
    for name in NAMES:
        port.put(name)
        port.put(name)
        port.s3.delete_object(Bucket=BUCKET, Key=name)
    port.put("other")
    held = NAMES[7]
    version = port.put(held)
    port.s3.put_object_legal_hold(
        Bucket=BUCKET, Key=held, VersionId=version, LegalHold={"Status": "ON"}
    )
    count = 3 * len(NAMES)
    refused = {Code.PERMISSION_DENIED: 1}
    assert await done(port, FOR_GOOD) == (count + 1, count, refused)
    assert port.deaths == CRASHES
    assert entries(port, markers=True) == Counter()
    assert entries(port, markers=False) == Counter([held, "other"])

"""What the counters of a job must be, from its log, the meddler's journal and the bucket itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tests.service import Service, counters

Key = tuple[str, int]


class Books(NamedTuple):
    """``sizes``: every (name, generation) that ever was, with its size; ``removed``: those that
    somebody else deleted or overwrote, or may have; ``touched``: names that somebody wrote to."""

    sizes: dict[Key, int]
    removed: set[Key]
    touched: set[str]


def books(initial: Any, directory: Path) -> Books:
    """Put what was there at first together with the meddler's journal."""
    rows = zip(initial.names, initial.generations, initial.sizes, strict=True)
    result = Books({(name, generation): size for name, generation, size in rows}, set(), set())
    journal = directory / "meddler.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    for line in lines:
        entry = json.loads(line)
        result.touched.add(entry["name"])
        if entry.get("did") == "write":
            result.sizes[entry["name"], entry["new"]] = entry["size"]
        if entry.get("did", entry.get("will")) in {"write", "delete"}:
            result.removed.add((entry["name"], entry["generation"]))
    return result


class Records(NamedTuple):
    """The last word of the log about each object: its generation, code and whether settled."""

    last: dict[Any, tuple[int, str]]
    settled: int
    repeats: int


def records(service: Service, *, by_generation: bool) -> Records:
    last: dict[Any, tuple[int, str]] = {}
    settled = total = 0
    for record in service.records():
        (member,) = record.keys() - {"@type", "completeTime", "status", "settled"}
        thing = record[member]["objectMetadataBefore"]["gcsObject"]
        name, generation = thing["objectKey"], int(thing["generation"])
        last[(name, generation) if by_generation else name] = (
            generation,
            record["status"]["statusCode"],
        )
        settled += record.get("settled", False)
        total += 1
    return Records(last, settled, total - len(last))


def reckon_delete(service: Service, job: dict[str, Any], initial: Any, prefix: str) -> Records:
    """Each object that was announced is counted once; what is gone was counted or removed by
    somebody else; what is left came after its range was announced."""
    found = records(service, by_generation=True)
    known = books(initial, service.directory)
    done = {key for key, (_, code) in found.last.items() if code == "OK"}
    counted = counters(job)
    assert counted["totalObjectCount"] == len(found.last)
    assert counted["succeededObjectCount"] == len(done)
    assert counted.get("failedObjectCount", 0) == len(found.last) - len(done)
    left = service.listing("b", prefix)
    live = set(zip(left.names, left.generations, strict=True)) if left else set()
    assert not done & live
    unknown = done - known.sizes.keys()
    assert {name for name, _ in unknown} <= known.touched, "deleted what nobody wrote"
    missed = known.sizes.keys() - done - known.removed - live
    assert not missed, f"neither counted nor removed nor there: {sorted(missed)[:5]}"
    untouched = {key for key in known.sizes if key[0] not in known.touched}
    assert untouched <= done
    if not unknown:  # a write whose second journal line is missing has no known size
        assert counted["totalBytesTransformed"] == sum(known.sizes[key] for key in done)
    return found


def reckon_patch(service: Service, job: dict[str, Any], initial: Any) -> Records:
    """Each name is counted once, by its last record, and only what somebody else deleted failed."""
    found = records(service, by_generation=False)
    known = books(initial, service.directory)
    done = {name for name, (_, code) in found.last.items() if code == "OK"}
    failed = found.last.keys() - done
    counted = counters(job)
    assert counted["totalObjectCount"] == len(found.last)
    assert counted["succeededObjectCount"] == len(done)
    assert counted.get("failedObjectCount", 0) == len(failed)
    assert failed <= known.touched
    assert {name for name, _ in known.sizes} - known.touched <= done
    if "objectCustomContextsCreated" in counted:
        # No object had the context but from the meddler, who never gave it the wanted value.
        updated = counted.get("objectCustomContextsUpdated", 0)
        assert counted["objectCustomContextsCreated"] + updated == len(done)
    if "totalBytesTransformed" in counted:
        keys = [(name, found.last[name][0]) for name in done]
        if all(key in known.sizes for key in keys):
            assert counted["totalBytesTransformed"] == sum(known.sizes[key] for key in keys)
    return found

"""What tables and progress say of a Job or a BucketOperation, which share most of their fields."""

from __future__ import annotations

from datetime import UTC, datetime

from longshore import extensions
from longshore.cli import output
from longshore.cli.output import Column, Row

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})


def base_name(name: str) -> str:
    """The id at the end of a resource's name."""
    return name.rpartition("/")[2]


def identifier(row: Row) -> str:
    """The id of the resource."""
    return base_name(str(row["name"]))


def transformation(row: Row) -> str:
    """The name of the transformation, and whether it is only tried."""
    return f"{_transformation(row)} (dry run)" if row.get("dryRun") else _transformation(row)


def deed(row: Row) -> str:
    """The same in short, for a table."""
    name = _transformation(row).replace("Object", "")
    return f"{name} (dry)" if row.get("dryRun") else name


def _transformation(row: Row) -> str:
    """The field of the oneof, each of which is a file; not every one has a flag."""
    for file in extensions.known("transformations"):
        first, *more = file.split("_")
        name = first + "".join(map(str.capitalize, more))
        if name in row:
            return name
    return ""


def buckets(job: Row) -> str:
    """The bucket of a job, or the first of several and how many there are; or which filter finds
    them."""
    if "projectSource" in job:
        return _filter(job, "bucketFilters") or "all buckets"
    found = job.get("bucketList", {}).get("buckets", ())
    if not found:
        return ""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0].get('bucket', '')}{more}"


def source(job: Row) -> str:
    """Which objects of its buckets: prefixes, a manifest or a filter."""
    if "projectSource" in job:
        return _filter(job, "objectFilters") or "all objects"
    first = job.get("bucketList", {}).get("buckets", [{}])[0]
    if "manifest" in first:
        return str(first["manifest"].get("manifestLocation", ""))
    prefixes = first.get("prefixList", {}).get("includedObjectPrefixes", ())
    return ", ".join(prefixes) or "all objects"


def _filter(job: Row, name: str) -> str:
    return str(job["projectSource"].get(name, {}).get("expression", ""))


def count(row: Row, name: str) -> int:
    """One of the counters (``total``, ``succeeded``, ``failed``) as a number."""
    return int(row.get("counters", {}).get(f"{name}ObjectCount", 0))


def counter_column(name: str) -> Column:
    """A column with one of the counters."""
    return Column(
        name.upper(),
        lambda row: output.number(count(row, name)),
        right=True,
        plain=lambda row: str(count(row, name)),
    )


COUNTERS = tuple(map(counter_column, ("total", "succeeded", "failed")))


def elapsed_seconds(row: Row) -> float:
    """From the creation to the end, or to now."""
    end = row.get("completeTime")
    until = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return max(0.0, (until - datetime.fromisoformat(row["createTime"])).total_seconds())


def duration(seconds: float) -> str:
    """A time span as people read it: ``3.2 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"

"""JSON ⇄ messages: the printer against Google's, the reader against the printer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.api import json_messages, messages, wire
from longshore.errors import VIOLATIONS_MAX, InvalidArgument

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.tuples(
    st.integers(-62_135_596_800, 253_402_300_799),
    st.sampled_from([0, 5, 1_000, 120_000_000, 999_999_999]),
)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([*field.enum_type.values_by_number, 77])
    return {
        FieldDescriptor.TYPE_STRING: TEXTS,
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    }[field.type]


def fill(message: Any, draw: Any) -> Any:
    """Set a random part of a message, all the way down."""
    descriptor: Descriptor = message.DESCRIPTOR
    if descriptor.full_name == "google.protobuf.Timestamp":
        message.seconds, message.nanos = draw(TIMES)
        return message
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        value = getattr(message, field.name)
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            entry = kind.fields_by_name["value"]
            for key in draw(st.lists(TEXTS, max_size=2)):
                if entry.message_type is not None:
                    fill(value[key], draw)
                else:
                    value[key] = draw(scalars(entry))
        elif field.is_repeated:
            for _ in range(draw(st.integers(1, 2))):
                if kind is not None:
                    fill(value.add(), draw)
                else:
                    value.append(draw(scalars(field)))
        elif kind is not None:
            value.SetInParent()
            fill(value, draw)
        else:
            setattr(message, field.name, draw(scalars(field)))
    return message


@st.composite
def jobs(draw: Any) -> Any:
    return fill(wire.Job(), draw)


def read(value: Any, message: Any) -> Any:
    problems = json_messages.Problems()
    json_messages.read(value, message, "", problems)
    problems.raise_any()
    return message


@settings(max_examples=150, deadline=None)
@given(jobs())
def test_the_printer_prints_as_google_s(job: Any) -> None:
    pool = wire.POOL
    assert json_messages.to_json(job) == json_format.MessageToDict(job, descriptor_pool=pool)
    numbers = json_format.MessageToDict(job, use_integers_for_enums=True, descriptor_pool=pool)
    assert json_messages.to_json(job, enum_numbers=True) == numbers


@settings(max_examples=150, deadline=None)
@given(jobs(), st.booleans())
def test_the_reader_reads_what_the_printer_prints(job: Any, numbers: bool) -> None:
    text = orjson.dumps(json_messages.to_json(job, enum_numbers=numbers))
    assert read(orjson.loads(text), wire.Job()) == job
    snake = json_format.MessageToDict(
        job, preserving_proto_field_name=True, descriptor_pool=wire.POOL
    )
    assert read(snake, wire.Job()) == job


@settings(max_examples=50, deadline=None)
@given(jobs())
def test_a_job_s_configuration_survives_the_database(job: Any) -> None:
    assert messages.load(messages.dump(job)) == job


def test_an_operation_is_printed_with_its_anys() -> None:
    metadata = wire.OperationMetadata(api_version="v1", operation="o")
    metadata.job.set_object_acls.SetInParent()
    operation = wire.Operation(name="o")
    operation.metadata.CopyFrom(wire.pack(metadata))
    printed = json_messages.to_json(operation)
    google = json_format.MessageToDict(operation, descriptor_pool=wire.POOL)
    assert printed.pop("done") is False
    assert printed["metadata"].pop("requestedCancellation") is False
    assert printed == google
    assert printed["metadata"]["job"] == {"setObjectAcls": {}}


def test_an_unknown_any_is_refused() -> None:
    operation = wire.Operation()
    operation.metadata.type_url = "type.googleapis.com/no.such.Type"
    with pytest.raises(KeyError):
        json_messages.to_json(operation)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"errorSummaries": [{"errorCount": 5}]}, {"errorSummaries": [{"errorCount": "5"}]}),
        ({"errorSummaries": [{"errorCount": "5"}]}, {"errorSummaries": [{"errorCount": "5"}]}),
        ({"errorSummaries": [{"errorCount": 5.0}]}, {"errorSummaries": [{"errorCount": "5"}]}),
        ({"state": 5}, {"state": "QUEUED"}),
        ({"state": "5"}, {"state": "QUEUED"}),
        ({"state": 99}, {"state": 99}),
        ({"dryRun": "true"}, {"dryRun": True}),
        ({"description": None, "deleteObject": None}, {}),
        ({"dryRun": True, "dry_run": False}, {}),
        (
            {"createTime": "2026-01-01t01:00:00.5+01:00"},
            {"createTime": "2026-01-01T00:00:00.500Z"},
        ),
        ({"createTime": "2026-01-01T00:00:00z"}, {"createTime": "2026-01-01T00:00:00Z"}),
        ({"deleteObject": {}, "putMetadata": None}, {"deleteObject": {}}),
        (
            {"putMetadata": {"contentType": "", "customMetadata": {"k": ""}}},
            {"putMetadata": {"contentType": "", "customMetadata": {"k": ""}}},
        ),
    ],
)
def test_spellings_that_are_read(value: Any, expected: Any) -> None:
    assert json_messages.to_json(read(value, wire.Job())) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"errorSummaries": [{"errorCount": 2**63}]},
        {"errorSummaries": [{"errorCount": str(2**63)}]},
        {"errorSummaries": [{"errorCount": 1e300}]},
        {"errorSummaries": [{"errorCount": 1.5}]},
        {"errorSummaries": [{"errorCount": True}]},
        {"errorSummaries": [{"errorCount": " 1"}]},
        {"errorSummaries": [None]},
        {"errorSummaries": {}},
        {"state": "queued"},
        {"state": 2**31},
        {"dryRun": 1},
        {"createTime": "2026-01-01T00:00:00"},
        {"createTime": "2026-01-01T00:00:00+25:00"},
        {"createTime": "2026-13-01T00:00:00Z"},
        {"createTime": "0001-01-01T00:00:00+01:00"},
        {"createTime": 5},
    ],
)
def test_values_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read(value, wire.Job())
    assert len(refused.value.violations) == 1


def test_the_last_of_repeated_keys_wins() -> None:
    body = b'{"description":"a","description":"b","dryRun":true}'
    assert read(json_messages.parse(body), wire.Job()).description == "b"


def test_problems_have_a_limit() -> None:
    with pytest.raises(InvalidArgument) as refused:
        read({f"unknown{n}": n for n in range(1000)}, wire.Job())
    assert len(refused.value.violations) == VIOLATIONS_MAX

"""The private pool against the published packages."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from google.cloud.location import locations_pb2
from google.cloud.storagebatchoperations_v1 import types
from google.cloud.storagebatchoperations_v1.services.storage_batch_operations.transports import (
    rest_base,
)
from google.longrunning import operations_proto_pb2

from longshore.api import wire


def published_rules() -> dict[str, wire.Rule]:
    """The bindings that Google's own REST client sends by."""
    transport = rest_base._BaseStorageBatchOperationsRestTransport
    rules = {}
    for name, binding in vars(transport).items():
        if name.startswith("_Base") and hasattr(binding, "_get_http_options"):
            (option,) = binding._get_http_options()
            method = name.removeprefix("_Base")
            rules[method] = wire.Rule(option["method"], option["uri"], option.get("body", ""))
    return rules


def test_the_rules_are_those_of_google_s_client() -> None:
    ours = {method.name: wire.rule_of(method) for method in wire.methods()}
    assert ours.pop("WaitOperation") is None
    assert len(ours) == 13
    assert ours == published_rules()


def test_the_methods_speak_the_published_messages() -> None:
    by_name = {method.name: method for method in wire.methods()}
    assert by_name["CreateJob"].input_type.full_name == f"{wire.PACKAGE}.CreateJobRequest"
    assert by_name["CreateJob"].output_type.full_name == "google.longrunning.Operation"
    assert by_name["GetJob"].output_type.full_name == f"{wire.PACKAGE}.Job"
    assert by_name["DeleteJob"].output_type.full_name == "google.protobuf.Empty"


ANNOUNCED = {
    "Job": {"project_source", "set_object_acls"},
    "BucketOperation": {"project_source", "set_object_acls"},
    "RewriteObject": {"storage_class"},
    "Counters": {"total_bytes_transformed"},
}
MESSAGES = sorted(set(types.__all__))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_the_published_one_with_the_announced_fields(name: str) -> None:
    published = getattr(types, name).pb().DESCRIPTOR
    ours = wire.descriptor(published.full_name)
    added = {field.name for field in ours.fields} - {field.name for field in published.fields}
    assert added == ANNOUNCED.get(name, set())
    for field in published.fields:
        mine: Any = ours.fields_by_name[field.name]
        assert (mine.number, mine.type, mine.json_name) == (
            field.number,
            field.type,
            field.json_name,
        )


def test_announced_fields_belong_to_the_published_oneofs() -> None:
    oneofs = wire.Job.DESCRIPTOR.oneofs_by_name
    assert "set_object_acls" in [field.name for field in oneofs["transformation"].fields]
    assert "project_source" in [field.name for field in oneofs["source"].fields]


def test_locations_take_the_extra_location_types() -> None:
    published = locations_pb2.ListLocationsRequest.DESCRIPTOR.fields_by_name
    ours = wire.descriptor("google.cloud.location.ListLocationsRequest").fields_by_name
    assert set(ours) - set(published) == {"extra_location_types"}


def test_messages_pass_between_the_pools_as_bytes() -> None:
    ours = wire.Operation(name="projects/p/locations/global/operations/o")
    ours.metadata.CopyFrom(wire.pack(wire.OperationMetadata(api_version="v1")))
    theirs = operations_proto_pb2.Operation.FromString(ours.SerializeToString())
    metadata = types.OperationMetadata.pb()()
    assert theirs.metadata.Unpack(metadata)
    assert metadata.api_version == "v1"


CHEAP = """
import sys
import longshore.api.server
assert not {"grpc", "google.cloud.storagebatchoperations_v1"} & set(sys.modules), "heavy imports"
from google.cloud import storagebatchoperations_v1 as client
assert client.Job is sys.modules["google.cloud.storagebatchoperations_v1.types"].Job
"""


def test_the_server_imports_neither_grpc_nor_the_client() -> None:
    """And the client can be imported afterwards, with the same classes."""
    subprocess.run([sys.executable, "-c", CHEAP], check=True, timeout=60)

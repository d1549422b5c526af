"""The messages and services on the wire: Google's published ones plus the fields announced since.

Everything lives in a descriptor pool of our own, copied from the published files, so that fields
can be added where the package lacks them. Messages of this pool and Google's do not mix: a
CopyFrom between the two raises TypeError, for Timestamp and Any as well, so take all of them here.

The announced fields have no published numbers. Ours are private and never leave the process: not
to gRPC clients, which get the messages of a second pool without them, not into the database
(``messages`` stores JSON).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from google.api import annotations_pb2, http_pb2  # type: ignore[import-untyped]
from google.cloud.location import locations_pb2  # type: ignore[import-untyped]
from google.longrunning import (  # type: ignore[import-untyped]
    operations_proto_pb2,  # not operations_pb2, which imports grpc
)
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, message_factory
from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
)
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from google.type import expr_pb2  # type: ignore[import-untyped]

PACKAGE = "google.cloud.storagebatchoperations.v1"
SERVICE = f"{PACKAGE}.StorageBatchOperations"
OPERATIONS = "google.longrunning.Operations"
LOCATIONS = "google.cloud.location.Locations"
TYPE_URL_PREFIX = "type.googleapis.com/"

_PARENT = "projects/*/locations/*"
_JOB = f"{_PARENT}/jobs/*"
_OPERATION = f"{_PARENT}/operations/*"

_Types = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Types.TYPE_STRING, "int64": _Types.TYPE_INT64}
_FIRST_PRIVATE_NUMBER = 500_000_000


class Rule(NamedTuple):
    """How a method is called over REST; ``body`` is "", "*" or the name of a field."""

    verb: str
    path: str
    body: str = ""


class _Rpc(NamedTuple):
    request: str
    reply: str
    rule: Rule


_METHODS: Mapping[str, _Rpc] = {
    "ListJobs": _Rpc(
        "ListJobsRequest", "ListJobsResponse", Rule("get", f"/v1/{{parent={_PARENT}}}/jobs")
    ),
    "GetJob": _Rpc("GetJobRequest", "Job", Rule("get", f"/v1/{{name={_JOB}}}")),
    "CreateJob": _Rpc(
        "CreateJobRequest",
        ".google.longrunning.Operation",
        Rule("post", f"/v1/{{parent={_PARENT}}}/jobs", "job"),
    ),
    "DeleteJob": _Rpc(
        "DeleteJobRequest", ".google.protobuf.Empty", Rule("delete", f"/v1/{{name={_JOB}}}")
    ),
    "CancelJob": _Rpc(
        "CancelJobRequest", "CancelJobResponse", Rule("post", f"/v1/{{name={_JOB}}}:cancel", "*")
    ),
    "ListBucketOperations": _Rpc(
        "ListBucketOperationsRequest",
        "ListBucketOperationsResponse",
        Rule("get", f"/v1/{{parent={_JOB}}}/bucketOperations"),
    ),
    "GetBucketOperation": _Rpc(
        "GetBucketOperationRequest",
        "BucketOperation",
        Rule("get", f"/v1/{{name={_JOB}/bucketOperations/*}}"),
    ),
}
"""The package has no service descriptor; a test compares this with its own REST transport."""

_MIXINS: Mapping[str, Mapping[str, Rule]] = {
    OPERATIONS: {
        "ListOperations": Rule("get", f"/v1/{{name={_PARENT}}}/operations"),
        "GetOperation": Rule("get", f"/v1/{{name={_OPERATION}}}"),
        "CancelOperation": Rule("post", f"/v1/{{name={_OPERATION}}}:cancel", "*"),
        "DeleteOperation": Rule("delete", f"/v1/{{name={_OPERATION}}}"),
    },
    LOCATIONS: {
        "ListLocations": Rule("get", "/v1/{name=projects/*}/locations"),
        "GetLocation": Rule("get", f"/v1/{{name={_PARENT}}}"),
    },
}
"""The rules of the service's yaml, which replace those annotated on the published services."""


class _Field(NamedTuple):
    message: str
    name: str
    type: str
    oneof: str = ""
    repeated: bool = False


_ANNOUNCED = (
    _Field("Job", "project_source", "ProjectSource", oneof="source"),
    _Field("Job", "set_object_acls", "SetObjectAcls", oneof="transformation"),
    _Field("BucketOperation", "project_source", "ProjectSource", oneof="object_configuration"),
    _Field("BucketOperation", "set_object_acls", "SetObjectAcls", oneof="transformation"),
    _Field("RewriteObject", "storage_class", "RewriteObject.StorageClass"),
    _Field("Counters", "total_bytes_transformed", "int64"),
    _Field("SetObjectAcls", "access_controls_updates", "AccessControlsUpdates"),
    _Field("AccessControlsUpdates", "grants", "ObjectAccessControl", repeated=True),
    _Field("AccessControlsUpdates", "remove_entities", "string", repeated=True),
    _Field("ObjectAccessControl", "entity", "string"),
    _Field("ObjectAccessControl", "role", "string"),
    _Field("ProjectSource", "project", "string"),
    _Field("ProjectSource", "insights_dataset_config", "string"),
    _Field("ProjectSource", "bucket_filters", ".google.type.Expr"),
    _Field("ProjectSource", "object_filters", ".google.type.Expr"),
    _Field("ProjectSource", "dry_run_job_id", "string"),
    _Field("ProjectSource", "target_locations", "TargetLocations"),
    _Field("ProjectSource", "snapshot_time", ".google.protobuf.Timestamp"),
    _Field("TargetLocations", "locations", "string", repeated=True),
    _Field("TargetLocations", "snapshot_time", ".google.protobuf.Timestamp"),
)
"""One line a field. A message that the package lacks exists by having fields here."""

_ANNOUNCED_ENUMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "RewriteObject": {
        "StorageClass": (
            "STORAGE_CLASS_UNSPECIFIED",
            "STANDARD",
            "NEARLINE",
            "COLDLINE",
            "ARCHIVE",
        )
    }
}


def _published_files() -> tuple[FileDescriptor, FileDescriptor]:
    """The two files of google-cloud-storagebatchoperations, for 10 MB instead of 60.

    Importing its ``types`` the plain way runs the package's ``__init__``, which imports the whole
    client and grpc. So they are imported under a stand-in for that parent; whoever imports the
    client later gets the same classes.
    """
    parent = "google.cloud.storagebatchoperations_v1"
    if parent in sys.modules:
        types = importlib.import_module(f"{parent}.types")
    else:
        spec = importlib.util.find_spec(parent)
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError(f"{parent} is not installed (google-cloud-storagebatchoperations).")
        stand_in = ModuleType(parent)
        stand_in.__path__ = list(spec.submodule_search_locations)
        sys.modules[parent] = stand_in
        try:
            types = importlib.import_module(f"{parent}.types")
        finally:
            del sys.modules[parent]
    return types.Job.pb().DESCRIPTOR.file, types.GetJobRequest.pb().DESCRIPTOR.file


def _closure(files: list[FileDescriptor]) -> Iterator[FileDescriptor]:
    """``files`` and all they depend on, each after its dependencies, once."""
    seen: set[str] = set()

    def visit(file: FileDescriptor) -> Iterator[FileDescriptor]:
        if file.name not in seen:
            seen.add(file.name)
            for dependency in file.dependencies:
                yield from visit(dependency)
            yield file

    for file in files:
        yield from visit(file)


def _build_pool(*, announced: bool) -> descriptor_pool.DescriptorPool:
    resources, service = _published_files()
    extra = [expr_pb2, operations_proto_pb2, locations_pb2, empty_pb2, error_details_pb2]
    roots = [*(module.DESCRIPTOR for module in extra), resources, service]
    pool = descriptor_pool.DescriptorPool()
    for file in _closure(roots):
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        if file.name == service.name:
            _add_service(proto)
        elif announced and file.name == resources.name:
            _add_announced(proto)
        elif announced and file.name == locations_pb2.DESCRIPTOR.name:
            _add_extra_location_types(proto)
        for published in proto.service:
            _set_rules(published, _MIXINS.get(f"{proto.package}.{published.name}"))
        pool.AddSerializedFile(proto.SerializeToString())
    return pool


def _add_announced(file: descriptor_pb2.FileDescriptorProto) -> None:
    file.dependency.append(expr_pb2.DESCRIPTOR.name)
    messages = {message.name: message for message in file.message_type}
    for owner, enums in _ANNOUNCED_ENUMS.items():
        for name, values in enums.items():
            enum = messages[owner].enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
    for index, announced in enumerate(_ANNOUNCED):
        if announced.message not in messages:
            messages[announced.message] = file.message_type.add(name=announced.message)
        _add_field(messages[announced.message], announced, _FIRST_PRIVATE_NUMBER + index)


def _add_field(message: descriptor_pb2.DescriptorProto, announced: _Field, number: int) -> None:
    label = _Types.LABEL_REPEATED if announced.repeated else _Types.LABEL_OPTIONAL
    field = message.field.add(name=announced.name, number=number, label=label)
    if announced.type in _SCALARS:
        field.type = _SCALARS[announced.type]
    else:
        relative = announced.type.rpartition(".")
        is_enum = relative[2] in _ANNOUNCED_ENUMS.get(relative[0], {})
        field.type = _Types.TYPE_ENUM if is_enum else _Types.TYPE_MESSAGE
        field.type_name = _absolute(announced.type)
    if announced.oneof:
        field.oneof_index = [oneof.name for oneof in message.oneof_decl].index(announced.oneof)


def _absolute(type_name: str) -> str:
    return type_name if type_name.startswith(".") else f".{PACKAGE}.{type_name}"


def _add_service(file: descriptor_pb2.FileDescriptorProto) -> None:
    file.dependency.extend(
        module.DESCRIPTOR.name for module in (annotations_pb2, operations_proto_pb2, empty_pb2)
    )
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for name, rpc in _METHODS.items():
        service.method.add(
            name=name, input_type=_absolute(rpc.request), output_type=_absolute(rpc.reply)
        )
    _set_rules(service, {name: rpc.rule for name, rpc in _METHODS.items()})


def _add_extra_location_types(file: descriptor_pb2.FileDescriptorProto) -> None:
    """The field that the service's discovery document has and the published message lacks."""
    request = next(m for m in file.message_type if m.name == "ListLocationsRequest")
    if all(field.name != "extra_location_types" for field in request.field):
        field = _Field("ListLocationsRequest", "extra_location_types", "string", repeated=True)
        _add_field(request, field, _FIRST_PRIVATE_NUMBER)


def _set_rules(
    service: descriptor_pb2.ServiceDescriptorProto, rules: Mapping[str, Rule] | None
) -> None:
    if rules is None:
        return
    for method in service.method:
        method.options.ClearExtension(annotations_pb2.http)
        rule = rules.get(method.name)
        if rule is not None:
            http = method.options.Extensions[annotations_pb2.http]
            setattr(http, rule.verb, rule.path)
            http.body = rule.body


POOL = _build_pool(announced=True)


@functools.cache
def published_pool() -> descriptor_pool.DescriptorPool:
    """The same messages and services without the announced fields: what gRPC is spoken in."""
    return _build_pool(announced=False)


def descriptor(full_name: str) -> Descriptor:
    """The descriptor of a message; raises KeyError for a name that the pool lacks."""
    found: Descriptor = POOL.FindMessageTypeByName(full_name)
    return found


def message_class(full_name: str) -> Any:
    """The class of a message; raises KeyError for a name that the pool lacks."""
    return message_factory.GetMessageClass(descriptor(full_name))


def published_class(full_name: str) -> Any:
    """The class of a message as Google publishes it, without the announced fields."""
    return message_factory.GetMessageClass(published_pool().FindMessageTypeByName(full_name))


def methods() -> list[MethodDescriptor]:
    """Every method that the API has, REST or not."""
    find = POOL.FindServiceByName
    services = [find(name) for name in (SERVICE, OPERATIONS, LOCATIONS)]
    return [method for service in services for method in service.methods]


def rule_of(method: MethodDescriptor) -> Rule | None:
    """The method's google.api.http rule, read from its descriptor; None: not on REST."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return None
    http: http_pb2.HttpRule = options.Extensions[annotations_pb2.http]
    verb = http.WhichOneof("pattern")
    return Rule(verb, getattr(http, verb), http.body) if verb else None


def _published(name: str) -> Any:
    return message_class(f"{PACKAGE}.{name}")


Job = _published("Job")
BucketOperation = _published("BucketOperation")
Counters = _published("Counters")
OperationMetadata = _published("OperationMetadata")
CancelJobResponse = _published("CancelJobResponse")
ListJobsResponse = _published("ListJobsResponse")
ListBucketOperationsResponse = _published("ListBucketOperationsResponse")
Operation = message_class("google.longrunning.Operation")
ListOperationsResponse = message_class("google.longrunning.ListOperationsResponse")
Location = message_class("google.cloud.location.Location")
ListLocationsResponse = message_class("google.cloud.location.ListLocationsResponse")
Empty = message_class("google.protobuf.Empty")
Status = message_class("google.rpc.Status")
ErrorInfo = message_class("google.rpc.ErrorInfo")
BadRequest = message_class("google.rpc.BadRequest")


def pack(message: Any) -> Any:
    """``message`` in an Any of this pool."""
    packed = message_class("google.protobuf.Any")()
    packed.type_url = TYPE_URL_PREFIX + message.DESCRIPTOR.full_name
    packed.value = message.SerializeToString(deterministic=True)
    return packed


def unpack(packed: Any) -> Any:
    """The message in an Any; raises KeyError for a type that the pool lacks."""
    message = message_class(packed.type_url.rpartition("/")[2])()
    message.ParseFromString(packed.value)
    return message


def map_value(field: FieldDescriptor) -> FieldDescriptor | None:
    """The value's field if ``field`` is a map, which descriptors have as a list of entries."""
    entry = field.message_type
    if entry is None or not entry.GetOptions().map_entry:
        return None
    return entry.fields_by_name["value"]


def from_published(descriptor: Descriptor, data: bytes) -> Any:
    """The message that a client has serialized, who knows no announced field: whatever has a
    private number, or one that nobody knows, is left out. Raises DecodeError."""
    published = published_class(descriptor.full_name).FromString(data)
    return message_factory.GetMessageClass(descriptor).FromString(_without_unknown(published))


def to_published(message: Any) -> bytes:
    """``message`` serialized for such a client."""
    published = published_class(message.DESCRIPTOR.full_name).FromString(
        message.SerializeToString()
    )
    for packed in _packed_in(published):
        if packed.type_url:
            inner = published_class(packed.type_url.rpartition("/")[2])
            packed.value = _without_unknown(inner.FromString(packed.value))
    return _without_unknown(published)


def _without_unknown(message: Any) -> bytes:
    message.DiscardUnknownFields()
    data: bytes = message.SerializeToString()
    return data


def _packed_in(message: Any) -> Iterator[Any]:
    """The messages packed in ``message``: only operations and errors have any."""
    match message.DESCRIPTOR.name:
        case "Operation":
            yield from (message.metadata, message.response)
        case "ListOperationsResponse":
            for operation in message.operations:
                yield from _packed_in(operation)
        case "Status":
            yield from message.details

"""Health and reflection, as grpcio's clients ask for them."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from longshore.api import wire

SERVICES = [wire.SERVICE, wire.OPERATIONS, wire.LOCATIONS]
Health = health_pb2.HealthCheckResponse


def test_health(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", *SERVICES):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        assert reply.status == Health.SERVING
    watched = stub.Watch(health_pb2.HealthCheckRequest(service="no.Service"), timeout=30)
    assert next(watched).status == Health.SERVICE_UNKNOWN
    watched.cancel()


def test_reflection_tells_the_services_as_they_are_published(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    extra = ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
    assert database.get_services() == sorted([*SERVICES, *extra])
    pool = descriptor_pool.DescriptorPool(database)
    methods = {
        method.full_name for name in SERVICES for method in pool.FindServiceByName(name).methods
    }
    assert methods == {method.full_name for method in wire.methods()}
    assert len(methods) == 7 + 5 + 2
    assert pool.FindServiceByName(extra[0]).methods_by_name["Check"]
    job = pool.FindMessageTypeByName(f"{wire.PACKAGE}.Job")
    assert "delete_object" in job.fields_by_name
    assert "set_object_acls" not in job.fields_by_name
    assert wire.Job.DESCRIPTOR.fields_by_name["set_object_acls"]


def test_a_call_with_nothing_but_what_reflection_tells(channel: grpc.Channel) -> None:
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(wire.LOCATIONS).methods_by_name["ListLocations"]
    proto = descriptor_pb2.DescriptorProto()
    method.input_type.CopyToProto(proto)
    assert [field.name for field in proto.field] == ["name", "filter", "page_size", "page_token"]


def test_what_is_no_message(channel: grpc.Channel, caplog: pytest.LogCaptureFixture) -> None:
    bad = b"\xff\xff\xff"
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
    info = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    for call in (
        lambda: check(bad, timeout=30),
        lambda: next(watch(bad, timeout=30)),
        lambda: next(info(iter([bad]), timeout=30)),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert not caplog.records


def test_what_the_package_lacks(channel: grpc.Channel, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=30)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not caplog.records

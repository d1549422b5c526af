"""HTTP → methods: paths, verbs, percent-encoding, query and system parameters."""

from __future__ import annotations

import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool

from longshore.api import parameters, wire
from longshore.api.transcoding import Call, Content, NoSuchPath, Transcoder, WrongVerb, _Template
from longshore.errors import InvalidArgument

TRANSCODER = Transcoder(wire.methods())
PARENT = "/v1/projects/p/locations/global"


def call(verb: str, path: str, query: str = "", body: bytes = b"") -> Call:
    read = parameters.read(query)
    read.check()
    return TRANSCODER.find(verb, path).call(read, Content(body), read.reply({}).fields)


@pytest.mark.parametrize(
    ("verb", "path", "method", "field", "value"),
    [
        ("GET", f"{PARENT}/jobs", "ListJobs", "parent", PARENT[4:]),
        ("GET", f"{PARENT}/jobs/j", "GetJob", "name", f"{PARENT[4:]}/jobs/j"),
        ("GET", f"{PARENT}/jobs/%C3%A9", "GetJob", "name", f"{PARENT[4:]}/jobs/é"),
        ("GET", f"{PARENT}/jobs/a%2fb", "GetJob", "name", f"{PARENT[4:]}/jobs/a%2fb"),
        ("GET", f"{PARENT}/jobs/a%3Ab", "GetJob", "name", f"{PARENT[4:]}/jobs/a:b"),
        ("GET", f"{PARENT}/jobs/a+b", "GetJob", "name", f"{PARENT[4:]}/jobs/a+b"),
        ("GET", f"{PARENT}/jobs/a:b", "GetJob", "name", f"{PARENT[4:]}/jobs/a:b"),
        ("POST", f"{PARENT}/jobs/a:b:cancel", "CancelJob", "name", f"{PARENT[4:]}/jobs/a:b"),
        ("POST", f"{PARENT}/jobs/j:cancel", "CancelJob", "name", f"{PARENT[4:]}/jobs/j"),
        (
            "POST",
            "/v1/projects/example.com:p/locations/global/operations/o:cancel",
            "CancelOperation",
            "name",
            "projects/example.com:p/locations/global/operations/o",
        ),
        ("GET", "/v1/projects/p/locations", "ListLocations", "name", "projects/p"),
    ],
)
def test_paths(verb: str, path: str, method: str, field: str, value: str) -> None:
    called = call(verb, path)
    assert called.method.name == method
    assert getattr(called.request, field) == value


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//v1/projects/p/locations",
        "/v1/projects//locations",
        "/v1/projects/p/locations/",
        f"{PARENT}/jobs/",
        f"{PARENT}/jobs:unknown",
        f"{PARENT}/jobs:cancel",
        f"{PARENT}/jobs/j/more",
        f"{PARENT}/Jobs",
        f"/v2{PARENT[3:]}/jobs",
    ],
)
def test_paths_without_a_rule(path: str) -> None:
    with pytest.raises(NoSuchPath):
        call("GET", path)


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("PUT", f"{PARENT}/jobs", ("GET", "POST")),
        ("POST", f"{PARENT}/jobs/j", ("DELETE", "GET")),
        ("GET", f"{PARENT}/jobs/j:cancel", ("POST",)),
        ("POST", f"{PARENT}/jobs/j:unknown", ("DELETE", "GET")),
        ("POST", f"{PARENT}/jobs/j%3Acancel", ("DELETE", "GET")),
        ("HEAD", "/v1/projects/p/locations", ("GET",)),
    ],
)
def test_verbs_that_a_path_does_not_have(verb: str, path: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(WrongVerb) as wrong:
        call(verb, path)
    assert wrong.value.headers == [(b"allow", ", ".join(allowed).encode())]


def test_the_query_binds_camel_case_and_snake_case_and_the_last_wins() -> None:
    request = call(
        "GET", f"{PARENT}/jobs", "pageSize=1&page_size=2&orderBy=create_time+desc&filter="
    ).request
    assert (request.page_size, request.order_by, request.filter) == (2, "create_time desc", "")


@pytest.mark.parametrize(
    ("text", "value"),
    [*((yes, True) for yes in ("true", "True", "yes", "1", "t")), ("F", False), ("no", False)],
)
def test_booleans_of_the_query(text: str, value: bool) -> None:
    assert call("DELETE", f"{PARENT}/jobs/j", f"force={text}").request.force is value


def test_repeated_parameters() -> None:
    query = "extraLocationTypes=a&extra_location_types=b"
    request = call("GET", "/v1/projects/p/locations", query).request
    assert list(request.extra_location_types) == ["a", "b"]


@pytest.mark.parametrize(
    ("verb", "path", "query"),
    [
        ("POST", f"{PARENT}/jobs/j:cancel", "requestId=x"),  # body "*": nothing from the query
        ("POST", f"{PARENT}/jobs", "job.description=x"),
        ("POST", f"{PARENT}/jobs", "job=x"),
        ("GET", f"{PARENT}/jobs/j", "force=true"),
        ("GET", f"{PARENT}/jobs", "&".join(["pageSize=1"] * 201)),
    ],
)
def test_queries_that_are_refused(verb: str, path: str, query: str) -> None:
    with pytest.raises(InvalidArgument):
        call(verb, path, query)


def test_the_path_and_the_rest_may_not_contradict_each_other() -> None:
    name = "projects/p/locations/global/jobs/j"
    for other in (name, ""):
        body = b'{"name": "%s"}' % other.encode()
        assert call("POST", f"{PARENT}/jobs/j:cancel", "", body).request.name == name
        assert call("GET", f"{PARENT}/jobs/j", f"name={other}").request.name == name
    body = b'{"name": "projects/x/locations/global/jobs/y"}'
    for verb, path, query, data in (
        ("POST", f"{PARENT}/jobs/j:cancel", "", body),
        ("GET", f"{PARENT}/jobs/j", "name=projects/x/locations/global/jobs/y", b""),
    ):
        with pytest.raises(InvalidArgument, match="the path has 'projects/p/") as refused:
            call(verb, path, query, data)
        assert [one.field for one in refused.value.violations] == ["name"]


def nested() -> Transcoder:
    """A method whose request has messages in it, which the service's own queries have not."""
    file = descriptor_pb2.FileDescriptorProto(name="nested.proto", syntax="proto3")
    file.dependency.append(annotations_pb2.DESCRIPTOR.name)
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="some_number", number=1, type=3, label=1)
    outer = file.message_type.add(name="Outer")
    outer.field.add(name="name", number=1, type=9, label=1)
    outer.field.add(name="the_inner", number=2, type=11, type_name=".Inner", label=1)
    outer.field.add(name="many", number=3, type=11, type_name=".Inner", label=3)
    method = file.service.add(name="S").method.add(name="M", input_type=".Outer")
    method.output_type = ".Outer"
    method.options.Extensions[annotations_pb2.http].get = "/v1/{name=things/*}"
    pool = descriptor_pool.DescriptorPool()
    for module in (descriptor_pb2, http_pb2, annotations_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return Transcoder([pool.FindServiceByName("S").methods_by_name["M"]])


def test_a_query_reaches_into_messages() -> None:
    found = nested().find("GET", "/v1/things/t")
    for name in ("the_inner.some_number", "theInner.someNumber", "theInner.some_number"):
        called = found.call(parameters.read(f"{name}=7"), Content(), "theInner/someNumber")
        assert (called.request.name, called.request.the_inner.some_number) == ("things/t", 7)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("theInner", "'theInner' is a message type. Parameters can only be bound to primitive"),
        ("theInner.x", "Field 'theInner.x' could not be found in request message."),
        ("x.someNumber", "Field 'x.someNumber' could not be found in request message."),
        ("many.someNumber", "Field 'many.someNumber' could not be found in request message."),
        ("name.x", "Field 'name.x' could not be found in request message."),
        ("theInner.someNumber.", "Field 'theInner.someNumber.' could not be found in request"),
    ],
)
def test_a_query_that_reaches_for_nothing(name: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        nested().find("GET", "/v1/things/t").call(parameters.read(f"{name}=7"), Content(), "")
    assert f'Unknown name "{name}": Cannot bind query parameter. {text}' in str(refused.value)
    [violation] = refused.value.violations
    assert violation.field == ""


def test_a_bad_value_in_a_message_is_told_by_its_path() -> None:
    query = parameters.read("theInner.someNumber=x")
    with pytest.raises(InvalidArgument) as refused:
        nested().find("GET", "/v1/things/t").call(query, Content(), "")
    path = "the_inner.some_number"
    assert str(refused.value) == f"Invalid value at '{path}' (TYPE_INT64), \"x\""
    assert [one.field for one in refused.value.violations] == [path]


@pytest.mark.parametrize(
    ("verb", "path"),
    [("GET", f"{PARENT}/jobs"), ("DELETE", f"{PARENT}/jobs/j"), ("GET", f"{PARENT}/jobs/j")],
)
def test_a_body_where_none_belongs(verb: str, path: str) -> None:
    for body in (b"", b" ", b"{}"):
        call(verb, path, body=body)
    with pytest.raises(InvalidArgument) as refused:
        call(verb, path, body=b'{"force": true}')
    text = 'Invalid JSON payload received. Unknown name "force": Cannot find field.'
    assert str(refused.value) == text


@pytest.mark.parametrize("segment", ["%FF", "%C3", "\xff", "%00", "a%00b"])
def test_what_is_no_text_in_a_path(segment: str) -> None:
    with pytest.raises(InvalidArgument):
        TRANSCODER.find("GET", f"{PARENT}/jobs/{segment}")


def test_utf_8_that_was_not_escaped_in_a_path() -> None:
    raw = "é".encode().decode("latin-1")
    assert call("GET", f"{PARENT}/jobs/{raw}").request.name.endswith("/jobs/é")


def test_a_serialized_body_without_private_numbers() -> None:
    job = wire.Job(description="d")
    job.set_object_acls.SetInParent()
    job.project_source.SetInParent()
    found = TRANSCODER.find("POST", f"{PARENT}/jobs")
    request = found.call(parameters.read(""), Content(job.SerializeToString(), True), "").request
    assert request.job == wire.Job(description="d")
    with pytest.raises(InvalidArgument, match="Invalid PROTO payload received"):
        found.call(parameters.read(""), Content(b"\xff", True), "")


def test_a_rule_that_could_not_be_kept_is_no_rule() -> None:
    with pytest.raises(ValueError, match="not implemented"):
        _Template.parse("/v1/{name=projects/**}")

"""System parameters (reference 8.6): how a reply is wanted, and who asks."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from google.longrunning import operations_proto_pb2
from google.rpc import error_details_pb2, status_pb2

from longshore.api import parameters, wire
from longshore.api.methods import Methods
from longshore.api.parameters import Reply, accepts_gzip
from longshore.api.rest import App
from longshore.errors import InvalidArgument
from tests.api.conftest import Project, Server, delete_job, details

PROTO = "application/x-protobuf"


@pytest.mark.parametrize(
    "name",
    [
        "access_token",
        "key",
        "oauth_token",
        "prettyPrint",
        "quotaUser",
        "uploadType",
        "upload_protocol",
        "userProject",
    ],
)
def test_system_parameters_are_never_unknown(project: Project, name: str) -> None:
    for spelling in (name, f"${name}", f"%24{name}"):
        assert project.ok("GET", f"/jobs?{spelling}=x") == {}


@pytest.mark.parametrize(
    ("query", "reply"),
    [
        ("", Reply()),
        ("alt=json", Reply()),
        ("alt=", Reply()),
        ("alt=proto&alt=json", Reply()),
        ("$alt=proto", Reply(proto=True)),
        ("%24alt=json%3Benum-encoding%3Dint", Reply(enum_numbers=True)),
        ("alt=json;enum-encoding=int&prettyPrint=false", Reply(enum_numbers=True, pretty=False)),
        ("$.xgafv=2&$prettyPrint=0", Reply(pretty=False)),
        ("$.xgafv=1&prettyPrint=anything", Reply(legacy_errors=True)),
        ("fields=a,b", Reply(fields="a,b")),
        ("$fields=a%2Cb", Reply(fields="a,b")),
    ],
)
def test_how_the_reply_is_wanted(query: str, reply: Reply) -> None:
    read = parameters.read(query)
    read.check()
    assert read.reply({}) == reply


def test_utf_8_that_was_not_escaped_in_a_query() -> None:
    raw = "filter=é&x=%C3%A9".encode().decode("latin-1")
    assert parameters.read(raw).parameters == (("filter", "é"), ("x", "é"))
    with pytest.raises(InvalidArgument, match="not valid UTF-8"):
        parameters.read("filter=\xff")


def test_headers_that_mean_the_same_as_parameters() -> None:
    headers = {"x-goog-fieldmask": "a", "accept-encoding": "gzip"}
    assert parameters.read("").reply(headers) == Reply(fields="a", gzip=True)
    assert parameters.read("fields=b").reply(headers).fields == "b"


@pytest.mark.parametrize(
    "query", ["alt=media", "alt=sse", "$alt=xml", "alt=PROTO", "alt=json;x=1", "callback=f"]
)
def test_replies_that_can_not_be_had(project: Project, query: str) -> None:
    with pytest.raises(InvalidArgument):
        parameters.read(query).check()
    error = project.error("POST", f"/jobs?jobId=j&{query}", json=delete_job())
    assert error["status"] == "INVALID_ARGUMENT"
    assert project.rows() == 0


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("", {"a": "b"}, {"a": "b"}),
        ("alt=json", {"a": "b"}, {"a": "b"}),
        ("access_token=t", {}, {"authorization": "Bearer t"}),
        ("$oauth_token=t", {}, {"authorization": "Bearer t"}),
        ("oauth_token=o&access_token=t", {}, {"authorization": "Bearer t"}),
        ("access_token=", {}, {}),
        ("access_token=t", {"authorization": "Bearer h"}, {"authorization": "Bearer h"}),
        ("key=k&$quotaUser=u", {}, {"x-goog-api-key": "k", "x-goog-quota-user": "u"}),
        ("userProject=p", {"x-goog-user-project": "q"}, {"x-goog-user-project": "q"}),
    ],
)
def test_credentials_of_the_query_reach_the_methods_as_headers(
    query: str, headers: dict[str, str], expected: dict[str, str]
) -> None:
    assert parameters.read(query).with_headers(headers) == expected


class Listening(Methods):
    """The methods, which remember what they are told of who calls."""

    heard: Mapping[str, str]

    async def authenticate(self, method: Any, headers: Mapping[str, str]) -> Any:
        self.heard = headers
        return await super().authenticate(method, headers)


def test_a_token_of_the_query_reaches_the_methods(
    server: Server, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    async def ready() -> Mapping[str, bool]:
        return {}

    async def metrics() -> bytes:
        return b""

    methods = Listening(server.database, server.clock)
    app = App(methods, server.database, ready, metrics)

    async def get(query: str) -> httpx.Response:
        url = f"http://longshore/v1/{project.parent}/jobs?{query}"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.get(url)

    with caplog.at_level("DEBUG", "longshore"):
        assert server.do(get("access_token=secret&key=k")).status_code == 200
        assert server.do(get("access_token=secret&key=k&x=1")).status_code == 400
    assert methods.heard["authorization"] == "Bearer secret"
    assert methods.heard["x-goog-api-key"] == "k"
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip, deflate", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("*, gzip;q=0", False),
        ("gzip;q=x", False),
        ("deflate, br", False),
    ],
)
def test_who_accepts_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


def test_large_replies_are_compressed_for_who_accepts_it(project: Project) -> None:
    prefixes = [f"prefix/{number:04}/" for number in range(1000)]
    body = delete_job()
    body["bucketList"]["buckets"][0]["prefixList"]["includedObjectPrefixes"] = prefixes
    project.create("j", body)
    plain = project.call("GET", "/jobs/j", headers={"accept-encoding": "identity"})
    packed = project.call("GET", "/jobs/j", headers={"accept-encoding": "gzip"})
    small = project.call("GET", "/jobs?fields=nextPageToken", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 4
    assert packed.content == plain.content
    for response in (plain, small):
        assert "content-encoding" not in response.headers
    for response in (plain, small, packed):
        assert "Accept-Encoding" in response.headers["vary"].split(", ")


def test_pretty_print_of_errors(project: Project) -> None:
    assert project.call("GET", "/jobs/none").text.startswith('{\n  "error": {\n    "code": 404')
    plain = project.call("GET", "/jobs/none?prettyPrint=false").text
    assert plain.startswith('{"error":{"code":404')
    bad = project.call("GET", "/jobs?x=1&prettyPrint=false").text
    assert bad.startswith('{"error":{"code":400')
    wrong = project.call("PUT", "/jobs?prettyPrint=false").text
    assert wrong.startswith('{"error":{"code":405')


@pytest.mark.parametrize(
    ("verb", "path", "reason"),
    [
        ("GET", "/jobs/none", "notFound"),
        ("GET", "/jobs?x=1", "badRequest"),
        ("DELETE", "/jobs/open", "failedPrecondition"),
        ("PUT", "/jobs", "notImplemented"),
    ],
)
def test_error_format_1(project: Project, verb: str, path: str, reason: str) -> None:
    project.create("open")
    sign = "&" if "?" in path else "?"
    old = project.error(verb, f"{path}{sign}$.xgafv=1")
    errors = old.pop("errors")
    assert errors == [{"message": old["message"], "domain": "global", "reason": reason}]
    assert project.error(verb, f"{path}{sign}$.xgafv=2") == old


def read(message: Any, response: httpx.Response) -> Any:
    assert response.headers["content-type"] == PROTO
    message.ParseFromString(response.content)
    return message


def test_proto_replies(project: Project) -> None:
    operation = project.create("j")
    response = project.call("GET", f"{operation['name']}?$alt=proto")
    got = read(operations_proto_pb2.Operation(), response)
    assert (got.name, got.done) == (operation["name"], False)
    metadata = wire.unpack(read(wire.Operation(), response).metadata)
    assert metadata.job.name == project.job_name("j")
    deleted = project.call("DELETE", f"{operation['name']}?alt=proto")
    assert (deleted.status_code, deleted.content) == (200, b"")


def test_proto_errors(project: Project) -> None:
    response = project.call("GET", "/jobs?alt=proto&x=1")
    assert response.status_code == 400
    status = read(status_pb2.Status(), response)
    assert status.code == 3
    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad_request)
    assert bad_request.field_violations[0].description == status.message
    status = read(status_pb2.Status(), project.call("GET", "/jobs/none?alt=proto"))
    assert (status.code, status.details[0].type_url.rpartition(".")[2]) == (5, "ErrorInfo")
    response = project.call("PUT", "/jobs?alt=proto")
    assert (response.status_code, read(status_pb2.Status(), response).code) == (405, 12)


def test_proto_bodies(project: Project) -> None:
    job = wire.Job(description="d")
    job.bucket_list.buckets.add(bucket="b").prefix_list.included_object_prefixes.append("x")
    job.delete_object.SetInParent()
    headers = {"content-type": PROTO}
    made = project.call("POST", "/jobs?jobId=j", content=job.SerializeToString(), headers=headers)
    assert made.status_code == 200
    assert project.ok("GET", "/jobs/j")["description"] == "d"
    error = project.error("POST", "/jobs?jobId=k", content=b"{}", headers=headers)
    assert error["message"].startswith("Invalid PROTO payload received.")
    request = wire.message_class(f"{wire.PACKAGE}.CancelJobRequest")(name=project.job_name("j"))
    cancel = project.call(
        "POST", "/jobs/j:cancel", content=request.SerializeToString(), headers=headers
    )
    assert cancel.json() == {}


def test_private_numbers_never_leave_the_process(project: Project) -> None:
    job = delete_job() | {"deleteObject": None}
    job["setObjectAcls"] = {"accessControlsUpdates": {"removeEntities": ["allUsers"]}}
    operation = project.create("j", job)
    assert "setObjectAcls" in project.ok("GET", "/jobs/j")
    for path in ("/jobs/j", "/jobs", operation["name"], "/operations"):
        content = project.call("GET", f"{path}?alt=proto").content
        assert content
        assert b"allUsers" not in content


def test_a_post_that_stands_for_a_get(project: Project) -> None:
    """The way round the length of a URL: the parameters are a form in the body."""
    for job_id in ("a", "b", "c"):
        project.create(job_id)
    headers = {"x-http-method-override": "GET"}
    form = {"filter": "name:*" + " OR name:*" * 40, "pageSize": "2", "fields": "jobs(name)"}
    answer = project.ok("POST", "/jobs", headers=headers, data=form)
    assert answer == {"jobs": [{"name": project.job_name(one)} for one in ("a", "b")]}
    answer = project.ok("POST", "/jobs?pageSize=1&fields=jobs/name", headers=headers)
    assert answer == {"jobs": [{"name": project.job_name("a")}]}
    error = project.error("POST", "/jobs", headers=headers, data={"x": "1"})
    assert 'Unknown name "x": Cannot bind query parameter.' in error["message"]


@pytest.mark.parametrize("verb", ["delete", "DELETE"])
def test_a_post_that_stands_for_a_delete(project: Project, verb: str) -> None:
    name = project.create("j")["name"]
    assert project.ok("POST", name, headers={"x-http-method-override": verb}) == {}
    assert project.call("GET", name).status_code == 404


def test_only_a_post_stands_for_something_else(project: Project) -> None:
    name = project.create("j")["name"]
    assert project.ok("GET", name, headers={"x-http-method-override": "DELETE"})["name"] == name
    response = project.call("POST", name, headers={"x-http-method-override": "PATCH"})
    assert (response.status_code, response.headers["allow"]) == (405, "DELETE, GET")
    assert response.json()["error"]["message"].startswith("PATCH is not a method")


def test_a_form_is_parameters_whatever_the_method(project: Project) -> None:
    """As of `curl -d '{…}'`, which sends a form: Google refuses it with the same words."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    error = project.error("POST", "/jobs", content=b'{"deleteObject": {}}', headers=headers)
    text = "Cannot bind query parameter. Field '{\"deleteObject\": {}}' could not be found"
    assert text in error["message"]
    assert details(error)["BadRequest"]["fieldViolations"][0]["description"] == error["message"]


def test_gzip_of_a_request(project: Project) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    packed = gzip.compress(b'{"deleteObject": {}, "x": 1}')
    error = project.error("POST", "/jobs", content=packed, headers=headers)
    assert "Unknown name \"x\" at 'job'" in error["message"]
    for bad in (b"{}", packed[:-9], packed + b"more", packed + packed, packed[:5]):
        error = project.error("POST", "/jobs", content=bad, headers=headers)
        assert "gzip" in error["message"]
    headers["content-encoding"] = "br"
    error = project.error("POST", "/jobs", content=b"{}", headers=headers)
    assert (error["code"], error["status"]) == (415, "INVALID_ARGUMENT")


def test_fields_that_nobody_knows_go_as_well() -> None:
    job = wire.Job()
    job.ParseFromString(unknown := b"\xf8\xff\x01\x01")
    assert job.ByteSize() > 0
    assert wire.to_published(job) == b""
    assert wire.from_published(wire.Job.DESCRIPTOR, unknown) == wire.Job()

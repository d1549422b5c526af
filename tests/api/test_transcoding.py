"""HTTP → methods: paths, verbs, percent-encoding, query and system parameters."""

from __future__ import annotations

import pytest

from longshore.api import wire
from longshore.api.transcoding import Call, NoSuchPath, Reply, Transcoder, WrongVerb
from longshore.errors import InvalidArgument

TRANSCODER = Transcoder(wire.methods())
PARENT = "/v1/projects/p/locations/global"


def call(verb: str, path: str, query: str = "", body: bytes = b"") -> Call:
    return TRANSCODER.call(verb, path, query, body)


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
    assert wrong.value.allowed == allowed


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
        ("GET", f"{PARENT}/jobs", "alt=media"),
        ("GET", f"{PARENT}/jobs", "$callback=f"),
    ],
)
def test_queries_that_are_refused(verb: str, path: str, query: str) -> None:
    with pytest.raises(InvalidArgument):
        call(verb, path, query)


def test_the_path_wins_over_the_body_and_the_query() -> None:
    body = b'{"name": "projects/x/locations/global/jobs/y"}'
    assert call("POST", f"{PARENT}/jobs/j:cancel", "", body).request.name.endswith(
        "/p/locations/global/jobs/j"
    )
    assert call("GET", f"{PARENT}/jobs/j", "name=other").request.name.endswith("/jobs/j")


@pytest.mark.parametrize(
    "name",
    [
        "access_token",
        "fields",
        "key",
        "oauth_token",
        "prettyPrint",
        "quotaUser",
        "uploadType",
        "upload_protocol",
        "userProject",
    ],
)
def test_system_parameters_are_never_unknown(name: str) -> None:
    for spelling in (name, f"${name}", f"%24{name}"):
        assert call("GET", f"{PARENT}/jobs", f"{spelling}=x").method.name == "ListJobs"


@pytest.mark.parametrize(
    ("query", "reply"),
    [
        ("", Reply()),
        ("alt=json", Reply()),
        ("%24alt=json%3Benum-encoding%3Dint", Reply(enum_numbers=True)),
        ("alt=json;enum-encoding=int&prettyPrint=false", Reply(enum_numbers=True, pretty=False)),
        ("$.xgafv=2&$prettyPrint=0", Reply(pretty=False)),
    ],
)
def test_how_the_reply_is_wanted(query: str, reply: Reply) -> None:
    assert call("GET", f"{PARENT}/jobs", query).reply == reply

"""What is too much, too deep or too many, one by one, against one real service."""

from __future__ import annotations

import json
import resource
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from longshore.api.server import HEADER_SECONDS
from tests.fuzz.attacks import PREFACE, frame, header_block
from tests.fuzz.target import HANG_SECONDS, Connection, Target, attacked
from tests.service import PROJECT, Service

JOBS = f"/v1/{PROJECT}/jobs"
CREATE = "/google.cloud.storagebatchoperations.v1.StorageBatchOperations/CreateJob"
LIST = "/google.cloud.storagebatchoperations.v1.StorageBatchOperations/ListJobs"
SOURCE = {"buckets": [{"bucket": "b0", "prefixList": {"includedObjectPrefixes": ["a/"]}}]}
JOB = {"bucketList": SOURCE, "deleteObject": {}}
TEN_GB = 10_000_000_000
GROWTH_MAX_MIB = 64.0
"""What one attack may leave behind: the allocator keeps some of what large bodies took."""


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str | None]
) -> Iterator[Target]:
    service = Service(tmp_path_factory.mktemp("hostile"), database=new_database())
    with attacked(service) as found:
        yield found


@pytest.fixture
def target(running: Target) -> Iterator[Target]:
    """The service, which is as well after the test as before it."""
    before = running.memory_mib()
    yield running
    running.check_log()
    assert running.service.http.get(JOBS).status_code == 200
    grown = running.memory_mib() - before
    assert grown < GROWTH_MAX_MIB, f"grew by {grown:.0f} MiB, from {before:.0f}"


def post(body: bytes, path: str = JOBS, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: h", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: h\r\n\r\n".encode()


def ask(target: Target, request: bytes) -> tuple[int, Any]:
    """Status and JSON of the reply, which comes soon, unless the machine has no time for us."""
    with target.connection() as connection:
        for _ in range(3):
            began = time.monotonic()
            status, body = connection.ask(request)
            if time.monotonic() - began < HANG_SECONDS:
                return status, json.loads(body) if body.startswith(b"{") else body
    raise AssertionError(f"took more than {HANG_SECONDS} s, three times: {request[:300]!r}")


def refused(target: Target, request: bytes, status: int = 400) -> str:
    """The message of the error that the request must get."""
    found, reply = ask(target, request)
    assert found == status, reply
    return str(reply["error"]["message"])


def grpc_call(target: Target, call: str, data: bytes, **options: Any) -> tuple[str, str]:
    with grpc.insecure_channel(f"127.0.0.1:{target.service.grpc_port()}") as channel:
        try:
            channel.unary_unary(call)(data, timeout=30, **options)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
    return "OK", ""


def field(number: int, value: bytes) -> bytes:
    """A field of a serialized message."""
    size, length = len(value), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def test_a_thousand_connections_that_send_nothing(target: Target) -> None:
    """To each listener; everybody else is served, and those to REST are closed in time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with ExitStack() as stack:
        for port in (target.service.port, target.service.grpc_port()):
            silent = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                for _ in range(1000)
            ]
            assert ask(target, get(JOBS))[0] == 200
            assert grpc_call(target, LIST, field(1, PROJECT.encode()))[0] == "OK"
            if port == target.service.port:
                deadline = time.monotonic() + HEADER_SECONDS + 60
                for connection in silent:
                    connection.settimeout(max(0.1, deadline - time.monotonic()))
                    with suppress(ConnectionResetError):
                        assert connection.recv(1) == b""


def pour(connection: socket.socket, piece: bytes) -> int:
    """Send ``piece`` over and over, up to TEN_GB; gives how much the server let through."""
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while sent < TEN_GB:
            connection.sendall(piece)
            sent += len(piece)
    return sent


@pytest.mark.parametrize("length", [f"content-length: {TEN_GB}", "transfer-encoding: chunked"])
def test_a_body_of_10_gb_stops_at_the_limit(target: Target, length: str) -> None:
    piece = b" " * (1 << 20)
    if "chunked" in length:
        piece = b"100000\r\n" + piece + b"\r\n"
    with socket.create_connection(("127.0.0.1", target.service.port), timeout=60) as connection:
        connection.sendall(f"POST {JOBS} HTTP/1.1\r\nhost: h\r\n{length}\r\n\r\n".encode())
        assert pour(connection, piece) < 100_000_000


@pytest.mark.parametrize("announced", [0xFFFF_FFFF, (32 << 20) + 1])
def test_a_grpc_message_of_4_gb_stops_at_the_limit(target: Target, announced: int) -> None:
    """More than that can't be announced."""
    with socket.create_connection(("127.0.0.1", target.service.grpc_port()), 60) as connection:
        connection.sendall(PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, header_block(CREATE)))
        connection.sendall(frame(0, 0, 1, struct.pack(">BI", 0, announced)))
        assert pour(connection, frame(0, 0, 1, b"\0" * 16_384)) < 100_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"bucketList":' * 100_000 + b"{}" + b"}" * 100_000,
        b'{"description":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"bucketList":{"buckets":' + b"[" * 1000 + b"]" * 1000 + b"}}",
    ],
)
def test_json_100000_deep(target: Target, body: bytes) -> None:
    assert refused(target, post(body))


@pytest.mark.parametrize(
    "body", [b"\x9b\x06" * 100_000, field(2, b"") * 100_000, b"\xff" * 100_000], ids=repr
)
def test_a_serialized_message_100000_deep(target: Target, body: bytes) -> None:
    """Groups, which nobody knows here, in groups."""
    status, _ = ask(target, post(body, JOBS, "content-type: application/x-protobuf"))
    assert status == 400
    assert grpc_call(target, CREATE, body)[0] == "INVALID_ARGUMENT"


def jobs_with(text: str) -> list[dict[str, Any]]:
    """Jobs with ``text`` in every kind of place that a text has."""
    prefixes = {"prefixList": {"includedObjectPrefixes": [text]}}
    return [
        {**JOB, "description": text},
        {**JOB, "bucketList": {"buckets": [{"bucket": "b0", **prefixes}]}},
        {"bucketList": SOURCE, "putMetadata": {"contentType": text}},
        {"bucketList": SOURCE, "putMetadata": {"customMetadata": {"k": text}}},
        {"bucketList": SOURCE, "putMetadata": {"customMetadata": {text: "v"}}},
    ]


@pytest.mark.parametrize("text", ["\0", "a\0"], ids=["alone", "behind"])
def test_nul(target: Target, text: str) -> None:
    """What may hold one keeps it, on both databases; names may not."""
    for number, job in enumerate(jobs_with(text)):
        job_id = f"nul-{len(text)}-{number}"
        # `ask` repeats what took long.
        query = f"jobId={job_id}&requestId={uuid.uuid4()}"
        status, _ = ask(target, post(json.dumps(job).encode(), f"{JOBS}?{query}"))
        if status == 200:
            _, stored = ask(target, get(f"{JOBS}/{job_id}"))
            assert {key: stored[key] for key in job} == job
            assert ask(target, get(f"{JOBS}/{job_id}/bucketOperations"))[0] == 200
        else:
            assert status == 400
    for path in (f"{JOBS}/{quote(text)}", f"{JOBS}?filter={quote(text)}", f"{JOBS}?%00=1"):
        assert refused(target, get(path))
    bucket = {"bucket": text, "prefixList": {"includedObjectPrefixes": ["a/"]}}
    assert refused(target, post(json.dumps({**JOB, "bucketList": {"buckets": [bucket]}}).encode()))
    for name in ("jobId", "requestId"):
        path = f"{JOBS}?{name}={quote(text)}"
        assert refused(target, post(json.dumps(JOB).encode(), path))


@pytest.mark.parametrize("text", ["\ud800", "\udc00\ud800", "a\udfff"], ids=["high", "two", "low"])
def test_lone_surrogates(target: Target, text: str) -> None:
    """Escaped, and as the bytes that they would have; they are no text."""
    for job in [*jobs_with(text), {**JOB, text: 1}]:
        assert refused(target, post(json.dumps(job).encode()))
        raw = json.dumps(job, ensure_ascii=False).encode(errors="surrogatepass")
        assert refused(target, post(raw))
    escaped = quote(text, errors="surrogatepass")
    for path in (f"{JOBS}/{escaped}", f"{JOBS}?filter={escaped}", f"{JOBS}?{escaped}=1"):
        assert refused(target, get(path))
    for name in ("jobId", "requestId"):
        path = f"{JOBS}?{name}={escaped}"
        assert refused(target, post(json.dumps(JOB).encode(), path))


@pytest.mark.parametrize(
    "number",
    [*("9" * 400, "-" + "9" * 400, "1e999", "-1e999", "1e-999", "9223372036854775808")],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_huge_numbers(target: Target, number: str, quoted: bool) -> None:
    value = f'"{number}"' if quoted else number
    for field_name in ("customTime", "contentType"):
        body = f'{{"putMetadata": {{"{field_name}": {value}}}, "dryRun": {value}}}'
        assert refused(target, post(body.encode()))
    assert refused(target, get(f"{JOBS}?pageSize={number}"))
    status, _ = ask(target, get(f"{JOBS}?filter={quote('counters.total_object_count=' + number)}"))
    assert status in (200, 400)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"NaN"'])
def test_not_a_number(target: Target, value: str) -> None:
    assert refused(target, post(f'{{"dryRun": {value}}}'.encode()))
    assert refused(target, get(f"{JOBS}?pageSize={value}"))
    quoted = quote(f"counters.total_object_count > {value}")
    assert refused(target, get(f"{JOBS}?filter={quoted}"))


FILTER_BOMBS = {
    "10 kB": "description:" + "x" * 10_000,
    "101 terms": " OR ".join(["a"] * 101),
    "100000 terms": " AND ".join(["a"] * 6_000),
    "parentheses": "(" * 5_000 + "a" + ")" * 4_000,
    "only parentheses": "(" * 9_000,
    "negations": "NOT " * 2_000 + "a",
    "quotes": '"' * 9_001,
    "backslashes": '"' + "\\" * 9_001,
    "digits": "counters.total_object_count > " + "9" * 9_000,
}


@pytest.mark.parametrize("name", FILTER_BOMBS)
def test_filter_bombs(target: Target, name: str) -> None:
    """A header has more room than a filter may take, but not without end."""
    text = FILTER_BOMBS[name]
    assert refused(target, get(f"{JOBS}?filter={quote(text)}"))
    data = field(1, PROJECT.encode()) + field(4, text.encode())
    assert grpc_call(target, LIST, data)[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "text",
    [
        'name = "' + "*a" * 4_900 + '"',
        " ".join(['name:"*a*"'] * 100),
        " OR ".join(["counters.failed_object_count>0"] * 100),
        "(" * 30 + "a" + ")" * 30,
        "-" * 9_000 + "a",
        "a" + ".a" * 4_000,
    ],
    ids=["wildcards", "a hundred", "a hundred counters", "nested", "minuses", "dots"],
)
def test_filters_that_are_allowed_or_not_but_cheap(target: Target, text: str) -> None:
    for index in range(20):
        ask(target, post(json.dumps(JOB).encode(), f"{JOBS}?jobId={'a' * 50}{index}"))
    status, _ = ask(target, get(f"{JOBS}?filter={quote(text)}"))
    assert status in (200, 400)


EXISTS = "customMetadata.exists(k, "
CEL_BOMBS = {
    "parentheses": "(" * 5_000 + "true" + ")" * 5_000,
    "only parentheses": "(" * 15_000,
    "nots": "!" * 15_000 + "true",
    "minuses": "size > " + "-" * 15_000 + "1",
    "ands": " && ".join(["true"] * 2_000),
    "ors": " || ".join(["name == 'a'"] * 1_000),
    "ternaries": "true ? " * 2_000 + "true" + " : true" * 2_000,
    "lists": "[" * 7_000 + "]" * 7_000 + " == []",
    "maps": "{1:" * 4_000 + "1" + "}" * 4_000,
    "exists in exists": EXISTS * 20 + "true" + ")" * 20,
    "exists side by side": " && ".join([EXISTS + "k == 'a')"] * 400),
    "selections": "a" + ".a" * 7_000,
    "indices": "a" + "[0]" * 5_000,
    "calls": "size(" * 3_000 + "name" + ")" * 3_000 + " > 0",
    "sums": "size > " + "+".join(["1"] * 7_000),
    "a bad regular expression": "name.matches('(a+)+$')",
    "a long text": "name == '" + "x" * 15_000 + "'",
    "an endless text": "name == '" + "\\\\" * 7_000,
    "a huge number": "size > " + "9" * 15_000,
    "NUL": "name == '\0'",
    "too long": "name == '" + "x" * 20_000 + "'",
}


@pytest.mark.parametrize("name", CEL_BOMBS)
def test_cel_bombs(target: Target, name: str) -> None:
    """Compiled in bounded time, or refused; what was compiled is then run by a worker."""
    for place in ("bucketFilters", "objectFilters"):
        source = {"project": "projects/local", place: {"expression": CEL_BOMBS[name]}}
        body = json.dumps({"projectSource": source, "deleteObject": {}}).encode()
        status, _ = ask(target, post(body))
        assert status in (200, 400)


@pytest.mark.parametrize("name", ["orderBy", "pageToken", "fields", "requestId"])
@pytest.mark.parametrize("text", ["a," * 9_000, "(" * 9_000, "A" * 20_000, "a/" * 5_000 + "b"])
def test_other_texts_that_are_too_long(target: Target, name: str, text: str) -> None:
    assert refused(target, get(f"{JOBS}?{name}={quote(text)}"))


def test_a_path_that_is_no_utf8_over_grpc(target: Target) -> None:
    """It ended grpc.aio's whole server, for everybody."""
    block = header_block("/a").replace(b"/a", b"/\x98")
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", target.service.grpc_port()), 30) as connection:
            connection.sendall(PREFACE + frame(4, 0, 0, b"") + frame(1, 5, 1, block))
            deadline = time.monotonic() + 30
            data = field(1, PROJECT.encode())
            while grpc_call(target, LIST, data, wait_for_ready=True)[0] != "OK":
                assert time.monotonic() < deadline
    assert "gRPC begins anew" in target.service.log()


def test_a_connection_is_kept_over_what_is_refused(target: Target) -> None:
    connection = Connection(target.service.port)
    for body in (b"[", b"\xff", b'{"a":1}', b"[" * 2000, json.dumps(JOB).encode()):
        status, _ = connection.ask(post(body))
        assert status == (200 if body.startswith(b'{"bucketList') else 400)
    connection.close()

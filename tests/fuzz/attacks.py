"""Requests that nobody should send, by seed: attack(seed, number) is the same on every machine.

Each begins as a request that the descriptors allow, for any of the methods, and is then spoilt in
one way: a value of it, a byte, a header, the path, a frame.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from longshore.api import wire

Random = random.Random
Pair = tuple[bytes, bytes]

PROJECTS = ("local", "example.com:local", "p")
JOBS = tuple(f"job-{number}" for number in range(8))
_UUIDS = ("0f7d2ab3-3a5a-4d0a-9a39-3ff5ab5a0001", "0f7d2ab3-3a5a-4d0a-9a39-3ff5ab5a0002")
FILTERS = (
    "state:failed OR NOT state = RUNNING",
    'name = "job-*"',
    'create_time > "2026-01-01T00:00:00Z" counters.failed_object_count >= 0',
    "done=true",
    "metadata.job.state:succeeded",
    "(a OR b) AND -c",
)
_NESTED_CEL = "bucket.name.startsWith('b') && (bucket.location == 'US' || bucket.name != 'x')"
_TEXTS: dict[str, Sequence[str]] = {
    "filter": FILTERS,
    "order_by": ("name", "create_time desc", "create_time, name desc"),
    "page_token": ("", "AAAA", "eyJhIjoxfQ"),
    "request_id": _UUIDS,
    "job_id": JOBS,
    "bucket": ("b0", "b1", "longer-bucket.name"),
    "manifest_location": ("gs://b0/manifest.csv", "gs://b0/m/*.csv"),
    "included_object_prefixes": ("", "a/", "tmp/"),
    "project": ("projects/local", "projects/p"),
    "expression": (_NESTED_CEL, "object.size > 3", "object.name.startsWith('a/')"),
    "kms_key": ("projects/p/locations/l/keyRings/k/cryptoKeys/c",),
    "entity": ("user-a@example.com", "allUsers"),
    "role": ("READER", "OWNER"),
}
_UGLY_TEXTS = (
    "",
    "\0",
    "a\0b",
    "\ufeff",
    "\u202e",
    "\U0010ffff",
    "%00%ff%2f",
    "../../../etc/passwd",
    "' OR 1=1 --",
    "*" * 300,
    "é" * 700,
    "x" * 5000,
    "projects//locations//jobs/",
)
_UGLY_INTS = (0, 1, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 253402300800, -62135596801)
_UGLY_JSON: tuple[Any, ...] = (
    *_UGLY_TEXTS,
    *_UGLY_INTS,
    *(2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -1e-320, 0.5),
    *(float("nan"), float("inf"), float("-inf")),
    *(None, True, False, [], {}, [[]], [None], {"": None}, {"@type": "x"}),
    *("\ud800", "\udfff\ud800", "1e3", "NaN", "0x10", "2026-02-30T00:00:00Z", "9" * 400),
)
_TOKENS = (
    *(b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\r\n", b"\n", b"\r"),
    *(b"\r\n\r\n", b" ", b":", b"%", b"%00", b"%ff", b"%2F", b"%", b"?", b"#", b"&", b"=", b";"),
    *(b'"', b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b",", b"null", b"NaN", b"1e999"),
    *(b"9" * 400, b"-", b"[" * 2000, b'{"a":' * 2000, b"(" * 2000, b"\x80" * 11, b"\xff" * 9),
)
_HEADERS: tuple[Pair, ...] = (
    *((b"content-type", one) for one in (b"application/x-protobuf", b"text/plain", b"\xff", b"")),
    (b"content-type", b"application/x-www-form-urlencoded"),
    (b"content-type", b"application/json; charset=utf-16"),
    *((b"content-encoding", one) for one in (b"gzip", b"br", b"gzip, gzip", b"\xe9", b"identity")),
    *((b"accept-encoding", one) for one in (b"gzip", b"gzip;q=nan", b"*;q=0", b";;,,q==", b"\xff")),
    *((b"x-http-method-override", one) for one in (b"GET", b"DELETE", b"PATCH", b"\xff", b"get ")),
    *((b"x-goog-fieldmask", one) for one in (b"*", b"name", b"a(b(c", b"jobs/*/x", b"`")),
    *((b"content-length", one) for one in (b"0", b"-1", b"1e3", b"9" * 30, b"+5", b"5, 5", b"")),
    *((b"transfer-encoding", one) for one in (b"chunked", b"gzip, chunked", b"identity", b"x")),
    *((b"connection", one) for one in (b"close", b"upgrade", b"keep-alive, x", b"")),
    (b"upgrade", b"h2c"),
    (b"upgrade", b"websocket"),
    (b"expect", b"100-continue"),
    (b"expect", b"x"),
    (b"host", b"\xff"),
    (b"host", b"a b"),
    (b"authorization", b"Bearer \xff"),
    (b"range", b"bytes=0-"),
    (b"cookie", b"a" * 9000),
    (b"x-goog-request-params", b"name=%ff"),
)
_PARAMETERS = (
    *("alt=proto", "alt=json;enum-encoding=int", "alt=media", "$alt=json", "prettyPrint=false"),
    *("fields=*", "fields=jobs(name,state)", "fields=a(", "fields=metadata/job/*/*", "callback=x"),
    *("$.xgafv=1", "$.xgafv=9", "key=%00", "access_token=%ff", "quotaUser=", "pageSize=-1"),
    *(
        "pageSize=99999999999",
        "pageSize=0",
        "pageToken=%00",
        "filter=%00",
        "filter=(((",
        "orderBy=",
    ),
    *("returnPartialSuccess=true", "requestId=x", "jobId=%00", "jobId=A", "force=maybe", "a.b.c=1"),
    *("job.dryRun=true", "job=1", "job.bucketList.buckets=1", "&&&=", "=", "%", "a=1&" * 300),
)
_VERBS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW")
_METHODS = tuple(wire.methods())
_REST_METHODS = tuple(one for one in _METHODS if wire.rule_of(one) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What is sent. ``call``: the gRPC method whose message it is; otherwise bytes for a socket of
    ``transport``. ``whole``: HTTP that must be answered."""

    seed: str
    kind: str
    data: bytes
    transport: str = "rest"
    whole: bool = False
    call: str = ""

    def __str__(self) -> str:
        return (
            f"{self.seed} ({self.kind} {self.call}, {len(self.data)} bytes): {self.data[:1500]!r}"
        )


def attack(seed: int, number: int) -> Attack:
    """The attack with this number."""
    name = f"{seed}/{number}"
    chosen = Random(name)
    kinds = list(_KINDS)
    kind = chosen.choices(kinds, [_KINDS[one][0] for one in kinds])[0]
    transport, whole, call, data = _KINDS[kind][1](chosen)
    return Attack(seed=name, kind=kind, transport=transport, whole=whole, call=call, data=data)


def fill(chosen: Random, message: Any, depth: int = 0) -> None:
    """Set some fields of ``message`` to values that their types allow."""
    if message.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        message.seconds = chosen.choice((0, 1_788_220_800, -62_135_596_800, 253_402_300_799))
        message.nanos = chosen.choice((0, 1, 999_999_999))
        return
    for field in message.DESCRIPTOR.fields:
        if chosen.random() > (0.6 if depth < 6 else 0.1):
            continue
        if (entry := wire.map_value(field)) is not None:
            _fill_map(chosen, getattr(message, field.name), entry, depth)
        elif field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(chosen.choice((1, 1, 2, 5))):
                if field.message_type is None:
                    values.append(_scalar(chosen, field))
                else:
                    fill(chosen, values.add(), depth + 1)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            fill(chosen, getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, _scalar(chosen, field))


def _fill_map(chosen: Random, values: Any, entry: FieldDescriptor, depth: int) -> None:
    key = chosen.choice(("key", "k-2", *_UGLY_TEXTS))
    if entry.message_type is None:
        values[key] = _scalar(chosen, entry)
    else:
        fill(chosen, values[key], depth + 1)


def _scalar(chosen: Random, field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        if field.name in ("name", "parent"):
            return resource(chosen)
        return chosen.choice([*_TEXTS.get(field.name, ()), chosen.choice(_UGLY_TEXTS)])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chosen.random() < 0.5
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chosen.randbytes(chosen.randrange(9))
    if field.type in (FieldDescriptor.TYPE_ENUM, FieldDescriptor.TYPE_INT32):
        return chosen.choice((0, 1, 2, 3, 100, *_UGLY_INTS[:5]))
    return chosen.choice(_UGLY_INTS)


def resource(chosen: Random) -> str:
    """A name that a resource could have, or almost."""
    parent = f"projects/{chosen.choice(PROJECTS)}/locations/{chosen.choice(('global', '-', 'us'))}"
    tails = ("", "/jobs", *(f"/jobs/{job}" for job in JOBS[:4]), "/operations", "/operations/o")
    tail = chosen.choice((*tails, "/jobs/job-0/bucketOperations", "/jobs/j/bucketOperations/b"))
    name = parent + tail
    return chosen.choice(_UGLY_TEXTS) if chosen.random() < 0.05 else name


def mutated(chosen: Random, data: bytes) -> bytes:
    """``data`` with one or a few bytes or pieces changed."""
    spoilt = bytearray(data)
    for _ in range(chosen.choice((1, 1, 1, 2, 4, 16))):
        start = chosen.randrange(len(spoilt) + 1)
        end = min(len(spoilt), start + chosen.choice((1, 1, 2, 4, 30)))
        match chosen.randrange(5):
            case 0:
                spoilt[start:end] = chosen.randbytes(end - start)
            case 1:
                del spoilt[start:end]
            case 2:
                spoilt[start:start] = spoilt[start:end] * chosen.choice((1, 2, 50))
            case 3:
                spoilt[start:start] = chosen.choice(_TOKENS)
            case _:
                spoilt[start:end] = chosen.choice(_TOKENS)
    return bytes(spoilt)


def _request(chosen: Random, methods: Sequence[MethodDescriptor]) -> tuple[MethodDescriptor, Any]:
    method = chosen.choice((*methods, *(one for one in methods if one.name == "CreateJob")))
    message = wire.message_class(method.input_type.full_name)()
    fill(chosen, message)
    if method.name == "CreateJob" and chosen.random() < 0.7:
        _make_plausible(chosen, message)
    return method, message


def _make_plausible(chosen: Random, request: Any) -> None:
    """A job that could be: random ones are refused for the first of many reasons."""
    request.parent = "projects/local/locations/global"
    request.job_id = chosen.choice(("", *JOBS, f"new-{chosen.randrange(10**9)}"))
    request.request_id = ""
    bucket = request.job.bucket_list.buckets.add(bucket="b0")
    bucket.prefix_list.included_object_prefixes.append(chosen.choice(("a/", "b/")))
    del request.job.bucket_list.buckets[:-1]
    request.job.delete_object.SetInParent()


def _target(chosen: Random, method: MethodDescriptor, request: dict[str, Any]) -> str:
    """The path that the method's rule has, with the query; takes out of ``request`` what is in
    there."""
    rule = wire.rule_of(method)
    assert rule is not None
    variable = re.search(r"\{(\w+)", rule.path)
    assert variable is not None
    request.pop(variable[1], None)
    name = _named(chosen, rule.path)
    path = re.sub(r"\{[^}]*\}", lambda _match: name, rule.path)
    query = []
    for key in list(request):
        if rule.body != "*" and key != rule.body and not isinstance(request[key], dict | list):
            query.append(f"{key}={quote(str(request.pop(key)), errors='surrogatepass')}")
    for _ in range(chosen.choice((0, 0, 0, 1, 2))):
        query.append(chosen.choice(_PARAMETERS))
    return quote(path, safe="/:%") + ("?" + "&".join(query) if query else "")


def _named(chosen: Random, template: str) -> str:
    pattern = template.partition("=")[2].partition("}")[0]
    parts = {"projects": PROJECTS, "locations": ("global",) * 5 + ("-", "us"), "jobs": JOBS}
    name = []
    for part in pattern.split("/"):
        before = name[-1] if name else ""
        name.append(chosen.choice(parts.get(before, ("x", "job-0"))) if part == "*" else part)
    return "/".join(name)


def _spoilt(chosen: Random, value: Any) -> Any:
    """``value`` with one node of it replaced."""
    if isinstance(value, dict) and value and chosen.random() < 0.85:
        key = chosen.choice(list(value))
        if chosen.random() < 0.05:
            return {**value, chosen.choice(("", "\0", "noSuchField", key.upper())): value[key]}
        return {**value, key: _spoilt(chosen, value[key])}
    if isinstance(value, list) and value and chosen.random() < 0.85:
        index = chosen.randrange(len(value))
        return [*value[:index], _spoilt(chosen, value[index]), *value[index + 1 :]]
    return chosen.choice(_UGLY_JSON)


def _http(verb: str, target: bytes, headers: Sequence[Pair], body: bytes) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (verb.encode(), target), b"host: h"]
    lines += [name + b": " + value for name, value in headers]
    if body or verb == "POST":
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


class _Exchange:
    """An HTTP request in parts, as the rules have it."""

    def __init__(self, chosen: Random) -> None:
        self.method, self.message = _request(chosen, _REST_METHODS)
        rule = wire.rule_of(self.method)
        assert rule is not None
        self.verb = rule.verb.upper()
        self.json = json_format.MessageToDict(self.message)
        self.target = _target(chosen, self.method, self.json)
        self._field = rule.body
        self.headers: list[Pair] = []

    def content(self) -> Any:
        """What is in the body; None: there is none."""
        if not self._field:
            return None
        return self.json if self._field == "*" else self.json.get(self._field, {})

    def proto(self) -> bytes:
        part = self.message if self._field in ("", "*") else getattr(self.message, self._field)
        return bytes(part.SerializeToString())

    def sent(self, body: bytes) -> bytes:
        return _http(self.verb, self.target.encode(), self.headers, body)


Made = tuple[str, bool, str, bytes]


def _plain(chosen: Random) -> Made:
    one = _Exchange(chosen)
    content = one.content()
    return "rest", True, "", one.sent(b"" if content is None else _dumped(chosen, content))


def _values(chosen: Random) -> Made:
    one = _Exchange(chosen)
    content = one.content()
    content = _spoilt(chosen, {} if content is None else content)
    return "rest", True, "", one.sent(_dumped(chosen, content))


def _dumped(chosen: Random, content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=chosen.random() < 0.8).encode(errors="surrogatepass")


def _body_bytes(chosen: Random) -> Made:
    one = _Exchange(chosen)
    return "rest", True, "", one.sent(mutated(chosen, _dumped(chosen, one.content() or {})))


def _proto_body(chosen: Random) -> Made:
    one = _Exchange(chosen)
    one.headers.append((b"content-type", b"application/x-protobuf"))
    return "rest", True, "", one.sent(mutated(chosen, one.proto()))


def _gzip_body(chosen: Random) -> Made:
    one = _Exchange(chosen)
    packed = gzip.compress(_dumped(chosen, one.content() or {}), 1, mtime=0)
    one.headers.append((b"content-encoding", b"gzip"))
    return "rest", True, "", one.sent(mutated(chosen, packed) if chosen.random() < 0.7 else packed)


def _path(chosen: Random) -> Made:
    one = _Exchange(chosen)
    target = mutated(chosen, one.target.encode())
    target = re.sub(rb"[\x00-\x20\x7f#]", lambda match: b"%%%02x" % match[0][0], target)
    target = b"/" + target.lstrip(b"/") if chosen.random() < 0.9 else target or b"*"
    verb = one.verb if chosen.random() < 0.8 else chosen.choice(_VERBS)
    whole = target.startswith(b"/") and target.isascii() and verb != "BREW" and len(target) < 60_000
    return "rest", whole, "", _http(verb, target, one.headers, b"")


def _headers(chosen: Random) -> Made:
    one = _Exchange(chosen)
    one.headers += chosen.choices(_HEADERS, k=chosen.choice((1, 1, 2, 4)))
    return "rest", False, "", one.sent(_dumped(chosen, one.content() or {}))


def _bytes(chosen: Random) -> Made:
    data = _plain(chosen)[3]
    return "rest", False, "", mutated(chosen, data)


def _grpc_call(chosen: Random) -> Made:
    method, message = _request(chosen, _METHODS)
    data = message.SerializeToString()
    call = f"/{method.containing_service.full_name}/{method.name}"
    return "grpc", True, call, mutated(chosen, data) if chosen.random() < 0.7 else data


def _frames(chosen: Random) -> Made:
    method, message = _request(chosen, [one for one in _METHODS if one.name != "WaitOperation"])
    data = message.SerializeToString()
    call = f"/{method.containing_service.full_name}/{method.name}"
    frames = [
        frame(4, 0, 0, b""),
        frame(1, 4, 1, header_block(call)),
        frame(0, 1, 1, struct.pack(">BI", 0, len(data)) + data),
        frame(chosen.randrange(11), chosen.randrange(256), chosen.randrange(4), b"\0" * 8),
    ]
    if chosen.random() < 0.5:
        return "grpc", False, "", PREFACE + mutated(chosen, b"".join(frames))
    position = chosen.randrange(len(frames))
    frames[position] = mutated(chosen, frames[position])
    return "grpc", False, "", PREFACE + b"".join(frames)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(type_: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", type_, flags, stream) + payload


def header_block(path: str) -> bytes:
    """The headers of a gRPC call, uncompressed."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "h",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )


_KINDS: dict[str, tuple[int, Callable[[Random], Made]]] = {
    "as the rules have it": (10, _plain),
    "a value of the body": (25, _values),
    "bytes of the body": (10, _body_bytes),
    "bytes of a serialized body": (10, _proto_body),
    "a gzip": (5, _gzip_body),
    "the path": (10, _path),
    "headers": (5, _headers),
    "bytes anywhere": (8, _bytes),
    "a gRPC message": (13, _grpc_call),
    "frames of HTTP/2": (4, _frames),
}

"""The answers that gcs_expected.yaml expects, replayed against a service over HTTP.

The head of that file says how it is written. ``replay`` says in which ways one service answers one
entry otherwise; which services there are is no matter of this module.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import yaml

HERE = Path(__file__).parent
SETTINGS: Mapping[str, Any] = {
    "versioning": {"versioning": {"enabled": True}},
    "retention": {"retentionPolicy": {"retentionPeriod": "60"}},
    "default_hold": {"defaultEventBasedHold": True},
    "soft_delete": {"softDeletePolicy": {"retentionDurationSeconds": "604800"}},
    "uniform_access": {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}},
    "object_retention": {},  # a parameter, and not of the resource
}
"""What an entry may need of its bucket, and the resource of a bucket that has it."""
ASSUMED: Mapping[str, bool] = {"retention": False, "default_hold": False}
"""What a bucket must be like where an entry does not say: these change every other answer."""
ELSEWHERE: Mapping[str, str] = {
    "clock": "time would have to pass",
    "lock": "it locks what could not be removed afterwards",
    "new_bucket": "it makes and changes buckets of its own",
    "kms": "it needs a key of Cloud KMS",
}
"""What else an entry may need, and why no bucket of a user is fit for it."""
_PLACE = re.compile(r"\{(/[^{}]*|[a-z_]+(?:\.[\w.-]+)?)(\+\d+)?\}", re.ASCII)
_MISSING: Any = object()
_BOUNDARY = "=====expected====="


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request and its reply; ``emulator``: why longshore's emulator answers otherwise."""

    name: str
    request: Mapping[str, Any]
    reply: Mapping[str, Any]
    evidence: Sequence[Mapping[str, str]]
    given: Sequence[Mapping[str, Any]] = ()
    needs: Mapping[str, bool] = field(default_factory=dict)
    emulator: str = ""

    def setting(self, name: str) -> bool | None:
        """Whether the bucket must have ``name``; None: either will do."""
        return self.needs.get(name, ASSUMED.get(name))

    def bucket(self, name: str) -> Mapping[str, Any]:
        """The resource of a bucket for this entry, which has no more than it must."""
        at_once = {"retentionDurationSeconds": "0"}  # a bucket that does not say has seven days
        resource: dict[str, Any] = {"name": name, "softDeletePolicy": at_once}
        for setting, part in SETTINGS.items():
            resource |= part if self.setting(setting) else {}
        return resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where entries are replayed: ``bucket`` is there, every object is called ``prefix…``."""

    http: httpx.AsyncClient
    bucket: str
    prefix: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    forward: Callable[[float], Awaitable[None]] | None = None


@cache
def document() -> Mapping[str, Any]:
    """The whole file."""
    return yaml.safe_load((HERE / "gcs_expected.yaml").read_bytes())


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of the file."""
    return tuple(Entry(**entry) for entry in document()["entries"])


async def replay(entry: Entry, service: Service) -> list[str]:
    """In which ways ``service`` answers otherwise; [] where it answers as expected."""
    run = _Run(service)
    try:
        for step in entry.given:
            if refused := await run.prepare(step):
                return [refused]
        response = await run.send(entry.request)
    except httpx.TransportError as error:
        return [f"no reply: {error}"]
    except _Lacking as error:
        return [f"{error} is in no reply"]
    return list(run.compare(entry.reply, response))


class _Lacking(Exception):
    """An earlier reply has not what an entry takes from it."""


class _Run:
    """An entry under way: ``saved`` are the replies of steps, by their names."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._saved: dict[str, Mapping[str, Any]] = {}

    async def prepare(self, step: Mapping[str, Any]) -> str:
        """Take a step; gives what is wrong with it."""
        if "forward" in step:
            assert self._service.forward is not None, "needs: clock"
            await self._service.forward(step["forward"])
            return ""
        response = await self.send(step)
        if "as" in step:
            self._saved[step["as"]] = {**_json(response), "header": dict(response.headers)}
        wanted = step.get("status", [200, 201, 204, 308])
        if response.status_code in (wanted if isinstance(wanted, list) else [wanted]):
            return ""
        return f"given {dict(step)}: {response.status_code} {response.text[:300]}"

    async def send(self, call: Mapping[str, Any]) -> httpx.Response:
        if "put" in call:
            call = _put(call)
        method, _, path = call["call"].partition(" ")
        body, content_type = self._body(call)
        headers = {k.lower(): str(v) for k, v in self.fill(call.get("headers", {})).items()}
        if content_type:
            headers.setdefault("content-type", content_type)
        query = {name: str(value) for name, value in self.fill(call.get("query", {})).items()}
        target = httpx.URL(self.fill(path, quoted=True))
        return await self._service.http.request(
            method, target.copy_merge_params(query), headers=headers, content=body
        )

    def _body(self, call: Mapping[str, Any]) -> tuple[bytes | None, str]:
        """The body of a call, and its type."""
        if "json" in call:
            return orjson.dumps(self.fill(call["json"])), "application/json"
        if "multipart" in call:
            parts = self.fill(call["multipart"])
            return _multipart(parts), f"multipart/related; boundary={_BOUNDARY}"
        if "batch" in call:
            parts = b"".join(self._part(part) for part in call["batch"])
            end = f"--{_BOUNDARY}--\r\n".encode()
            return parts + end, f"multipart/mixed; boundary={_BOUNDARY}"
        return (_content(call), "") if call.keys() & {"text", "base64"} else (None, "")

    def _part(self, part: Mapping[str, Any]) -> bytes:
        """One call of a batch."""
        method, _, path = part["call"].partition(" ")
        query = self.fill(part.get("query", {}))
        target = httpx.URL(self.fill(path, quoted=True)).copy_merge_params(query)
        lines = [
            f"--{_BOUNDARY}",
            "Content-Type: application/http",
            f"Content-ID: <{part['id']}>",
            "",
            f"{method} {target.raw_path.decode()} HTTP/1.1",
            *(f"{k}: {v}" for k, v in self.fill(part.get("headers", {})).items()),
        ]
        body = orjson.dumps(self.fill(part["json"])).decode() if "json" in part else ""
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", body, ""]).encode()

    def fill(self, value: Any, *, quoted: bool = False) -> Any:
        """``value`` with what stands for the places in it; ``quoted`` for a path."""
        if isinstance(value, dict):
            return {self.fill(k): self.fill(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        if not isinstance(value, str):
            return value

        def put(match: re.Match[str]) -> str:
            found = self._place(match[1], int(match[2] or 0))
            return quote(found, safe="") if quoted and match[1][0] == "/" else found

        return _PLACE.sub(put, value)

    def _place(self, place: str, more: int) -> str:
        service = self._service
        if place.startswith("/"):
            return service.prefix + place[1:]
        if place == "now":
            return f"{service.now() + timedelta(seconds=more):%Y-%m-%dT%H:%M:%SZ}"
        fixed = {
            "bucket": service.bucket,
            "b": f"/storage/v1/b/{service.bucket}",
            "o": f"/storage/v1/b/{service.bucket}/o",
            "upload": f"/upload/storage/v1/b/{service.bucket}/o",
            "new_bucket": f"{service.bucket}-new",
        }
        if place in fixed:
            return fixed[place]
        found: Any = self._saved
        for key in place.split("."):
            if not isinstance(found, dict) or key not in found:
                raise _Lacking(place)
            found = found[key]
        return str(int(found) + more) if more else str(found)

    def compare(self, reply: Mapping[str, Any], response: httpx.Response) -> Iterator[str]:
        """In which ways ``response`` is no such reply."""
        said = response.text[:400]
        for what, want in reply.items():
            match what:
                case "status":
                    found: Any = response.status_code
                case "headers":
                    found = {name: response.headers.get(name, _MISSING) for name in want}
                case "json":
                    found = _json(response)
                case "text":
                    found = response.text
                case "reasons":
                    found = [one.get("reason") for one in _errors(response)]
                case "message":
                    found = str(_json(response).get("error", {}).get("message"))
                    want = {"contains": want}
                case "parts":
                    found = dict(_parts(response))
                    want = {f"response-{name}": part for name, part in want.items()}
                case _:
                    raise AssertionError(f"a reply has no {what!r}")
            for difference in self.differences(want, found, what):
                yield f"{difference}; the reply: {response.status_code} {said}"

    def differences(self, want: Any, found: Any, at: str) -> Iterator[str]:
        """Where ``found`` differs; of objects only what is in ``want`` matters."""
        if isinstance(want, dict) and len(want) == 1 and next(iter(want)) in _MATCHERS:
            [(name, argument)] = want.items()
            if not _MATCHERS[name](self.fill(argument), found):
                yield f"{at}: {_shown(found)} is not {want}"
        elif isinstance(want, dict) and isinstance(found, dict):
            for key, value in want.items():
                key = self.fill(key)
                yield from self.differences(value, found.get(key, _MISSING), f"{at}.{key}")
        elif isinstance(want, list) and isinstance(found, list) and len(want) == len(found):
            for index, (one, other) in enumerate(zip(want, found, strict=True)):
                yield from self.differences(one, other, f"{at}[{index}]")
        elif self.fill(want) != found or isinstance(want, bool) != isinstance(found, bool):
            yield f"{at}: {_shown(found)} is not {self.fill(want)!r}"


def _is(kind: str, found: Any) -> bool:
    if kind in ("number", "flag"):
        return isinstance(found, int) and isinstance(found, bool) == (kind == "flag")
    return isinstance(found, str) and re.fullmatch(_KINDS[kind], found) is not None


_KINDS = {
    "int64": r"\d{1,19}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
    "base64": r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
    "text": r"(?s).+",
}
_MATCHERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "any": _is,
    "absent": lambda _, found: found is _MISSING,
    "absent-or": lambda want, found: found is _MISSING or found == want,
    "contains": lambda want, found: isinstance(found, str) and want in found,
    "matches": lambda want, found: isinstance(found, str) and re.search(want, found) is not None,
    "one-of": lambda want, found: found in want,
    "only": lambda want, found: found == want,
    "other-than": lambda want, found: found is not _MISSING and found != want,
    "more-than": lambda want, found: _is("int64", found) and int(found) > int(want),
}
"""See the head of gcs_expected.yaml."""


def _shown(found: Any) -> str:
    return "nothing" if found is _MISSING else repr(found)


def _put(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """The call that ``put`` is short for."""
    resource = {"name": f"{{/{call['put']}}}", **call.get("resource", {})}
    related = {
        "resource": resource,
        **{k: call[k] for k in ("text", "base64", "type") if k in call},
    }
    query = {"uploadType": "multipart", **call.get("query", {})}
    return {"call": "POST {upload}", "query": query, "multipart": related}


def _content(call: Mapping[str, Any]) -> bytes:
    """The bytes of ``text`` (or of {repeat, times}) or ``base64``."""
    if "base64" in call:
        return base64.b64decode(call["base64"])
    text = call.get("text", "hello")
    return (text["repeat"] * text["times"] if isinstance(text, dict) else text).encode()


def _multipart(parts: Mapping[str, Any]) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Type: application/json\r\n\r\n".encode()
    kind = f"Content-Type: {parts['type']}\r\n" if "type" in parts else ""
    between = f"\r\n--{_BOUNDARY}\r\n{kind}\r\n".encode()
    end = f"\r\n--{_BOUNDARY}--\r\n".encode()
    return head + orjson.dumps(parts["resource"]) + between + _content(parts) + end


def _json(response: httpx.Response) -> Any:
    return _json_of(response.content)


def _json_of(body: bytes) -> Any:
    """What JSON there is; {}: it is none."""
    try:
        return orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        return {}


def _errors(response: httpx.Response) -> Sequence[Mapping[str, Any]]:
    error = _json(response).get("error", {})
    return error.get("errors", []) if isinstance(error, dict) else []


def _parts(response: httpx.Response) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The replies in a reply of the batch endpoint: status and JSON, by Content-ID."""
    kind = response.headers.get("content-type", "")
    if not kind.startswith("multipart/mixed"):
        return
    mark = b"--" + kind.partition("boundary=")[2].strip('"').encode()
    for piece in response.content.split(mark)[1:-1]:
        outer, _, inner = piece.strip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n\n")
        name = re.search(rb"(?i)content-id:\s*<([^>]*)>", outer)
        start = re.match(rb"HTTP/1\.1 (\d{3})", inner)
        if name and start:
            body = inner.partition(b"\n\n")[2].strip()
            yield name[1].decode(), {"status": int(start[1]), "json": _json_of(body)}

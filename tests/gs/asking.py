"""Stores, and Google's own client, of a server of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from longshore.clock import SYSTEM_CLOCK, Clock
from longshore.settings import StoreSettings
from longshore.stores.gs.client import Client, Service
from longshore.stores.gs.credentials import token_source
from longshore.stores.gs.options import read_options
from longshore.stores.gs.store import GsStore
from tests.gs.recorder import Answered, Request

PROJECT = "port"
BUCKET = "quay"


@asynccontextmanager
async def store_at(url: str, clock: Clock = SYSTEM_CLOCK, **options: Any) -> AsyncIterator[GsStore]:
    """A store whose requests go to ``url``."""
    options = {"endpoint": url, "anonymous": True, "project": PROJECT, **options}
    settings = read_options(StoreSettings(name="main", kind="gs", options=options), {})
    store = GsStore(Client(Service(settings, token_source(settings), clock)))
    try:
        yield store
    finally:
        await store.close()


def google_at(url: str) -> storage.Client:
    """Google's client, unmodified, whose requests go to ``url``."""
    return storage.Client(
        project=PROJECT,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": url},
    )


def an_object(name: str = "a", generation: int = 7, **more: Any) -> dict[str, Any]:
    """An object as the JSON API describes it."""
    return {
        "kind": "storage#object",
        "bucket": BUCKET,
        "name": name,
        "generation": str(generation),
        "metageneration": "3",
        "size": "5",
        "timeCreated": "2026-11-26T10:00:00.123456Z",
        "updated": "2026-11-26T10:00:00.123Z",
        "storageClass": "STANDARD",
        "crc32c": "mnG7TA==",
        **more,
    }


def said(body: Any, status: int = 200) -> Answered:
    """A reply in JSON."""
    return Answered(status, orjson.dumps(body))


def refused(status: int, reason: str, message: str) -> Answered:
    """A refusal in Google's words."""
    error = {"code": status, "message": message, "errors": [{"reason": reason, "domain": "global"}]}
    return said({"error": error}, status)


def parts_of(request: Request) -> list[tuple[str, str, str, bytes]]:
    """The calls in a request to the batch endpoint, by number: (number, method, target, body)."""
    boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    found = []
    for piece in request.body.split(b"--" + boundary)[1:-1]:
        head, _, inner = piece.strip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n\n")
        number = head.partition(b"<")[2].partition(b">")[0].decode()
        line, _, rest = inner.partition(b"\n")
        method, target, _ = line.decode().split(" ")
        found.append((number, method, target, rest.partition(b"\n\n")[2].strip()))
    return found


def together(request: Request, *answers: tuple[int, Any] | None) -> Answered:
    """A reply of the batch endpoint: to each call a status and JSON; None: nothing, as when a
    reply is lost. The last call is answered first, since any order is allowed."""
    numbers = [number for number, *_ in parts_of(request)]
    pieces = []
    for number, answer in zip(numbers, answers, strict=True):
        if answer is not None:
            status, body = answer
            text = "" if body is None else orjson.dumps(body).decode()
            pieces.append(
                f"--batch_x\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>"
                f"\r\n\r\nHTTP/1.1 {status} So\r\nContent-Length: {len(text)}\r\n\r\n{text}\r\n"
            )
    body = "".join(reversed(pieces)) + "--batch_x--\r\n"
    return Answered(200, body.encode(), "multipart/mixed; boundary=batch_x")

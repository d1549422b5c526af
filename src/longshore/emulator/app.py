"""The ASGI app: Cloud Storage's JSON API, and the API of batch operations for every other path."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from longshore import telemetry
from longshore.api.bodies import ClientGone
from longshore.api.rest import AsgiApp, Receive, Scope, Send
from longshore.emulator import acls, batch, buckets, copies, faults, objects, refusals, uploads
from longshore.emulator.control import Control
from longshore.emulator.refusals import Refused
from longshore.emulator.requests import Request
from longshore.emulator.routes import Routes
from longshore.emulator.verbs import Backend
from longshore.errors import Error

BATCH_OPERATIONS = ("/v1/", "/healthz", "/readyz", "/metrics", "/$discovery/", "/discovery/")
"""How the paths of the API of batch operations begin. All others are Cloud Storage's, the XML API's
too: a 404 there would say that there is no such object."""
CONTROL = "/_emulator/"

ROUTES = (
    *buckets.ROUTES,
    *objects.ROUTES,
    *uploads.ROUTES,
    *copies.ROUTES,
    *acls.ROUTES,
)


class EmulatorApp:
    """Both APIs at one address."""

    def __init__(self, backend: Backend, batch_operations: AsgiApp, control: Control) -> None:
        self._backend = backend
        self._batch_operations = batch_operations
        self._faults = control.faults
        self._routes = Routes(
            (*ROUTES, *batch.routes_of(Routes(ROUTES), control.faults), *control.routes()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self._faults.waiting and not path.startswith(CONTROL):
            fault = await self._faults.meet(scope["method"], _path(path))
            if fault is not None and fault.cut:
                send = _cut(send)
            if fault is not None and fault.status:
                answer = faults.refusal(fault.status).answer()
                answer.headers.append((b"connection", b"close"))  # its body has not been read
                await answer.send(send)
                return
        if path.startswith(BATCH_OPERATIONS):
            await self._batch_operations(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        request: Request | None = None
        try:
            request = Request(
                scope["method"],
                _path(scope["raw_path"].decode("latin-1")),
                scope["query_string"].decode("latin-1"),
                headers,
                receive,
            )
            answer = await self._routes.answer(self._backend, request)
        except ClientGone:
            telemetry.event("client_gone", verb=scope["method"], path=scope["path"])
            return
        except Error as error:  # of the query string
            answer = refusals.of_error(error)
        # A bug is logged here, once, and the client learns that there is one.
        except Exception:
            telemetry.failure("request_failed", verb=scope["method"], path=scope["path"])
            answer = Refused(500, "internalError", "Internal error: see the log.").answer()
        if request is None or not request.body_read:  # its rest may be endless
            answer.headers.append((b"connection", b"close"))
        await answer.send(send)


def _path(raw: str) -> str:
    """The path of the JSON API that is meant: Node's client takes STORAGE_EMULATOR_HOST for where
    ``/storage/v1`` is, and leaves that out."""
    return f"/storage/v1{raw}" if raw == "/b" or raw.startswith("/b/") else raw


def _cut(send: Send) -> Send:
    """A way to send of which nothing but the head of a reply arrives. The server closes the
    connection of a reply that is not complete."""

    async def head_only(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message["headers"] if pair[0] != b"content-length"]
            await send({**message, "headers": [*headers, (b"content-length", b"1000000")]})

    return head_only

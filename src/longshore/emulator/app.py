"""The ASGI app: Cloud Storage's JSON API, and the API of batch operations for every other path."""

from __future__ import annotations

from longshore import telemetry
from longshore.api.bodies import ClientGone
from longshore.api.rest import AsgiApp, Receive, Scope, Send
from longshore.emulator import acls, batch, buckets, copies, objects, refusals, uploads
from longshore.emulator.refusals import Refused
from longshore.emulator.requests import Request
from longshore.emulator.routes import Routes
from longshore.emulator.verbs import Shop
from longshore.errors import Error

OURS = ("/storage/", "/upload/", "/resumable/", "/download/", "/batch")
"""How the paths of the JSON API begin; none of batch operations does."""

ROUTES = (
    *buckets.ROUTES,
    *objects.ROUTES,
    *uploads.ROUTES,
    *copies.ROUTES,
    *acls.ROUTES,
)


class EmulatorApp:
    """Both APIs at one address."""

    def __init__(self, shop: Shop, batch_operations: AsgiApp) -> None:
        self._shop = shop
        self._batch_operations = batch_operations
        self._routes = Routes((*ROUTES, *batch.routes_of(Routes(ROUTES))))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(OURS):
            await self._batch_operations(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        request: Request | None = None
        try:
            request = Request(
                scope["method"],
                scope["raw_path"].decode("latin-1"),
                scope["query_string"].decode("latin-1"),
                headers,
                receive,
            )
            answer = await self._routes.answer(self._shop, request)
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

"""The ASGI app: Cloud Storage's JSON API, and the API of batch operations for every other path."""

from __future__ import annotations

from collections.abc import Iterable

from longshore import telemetry
from longshore.api.bodies import ClientGone
from longshore.api.replies import Answer
from longshore.api.rest import AsgiApp, Receive, Scope, Send
from longshore.api.status import Refusal
from longshore.emulator import buckets, objects, refusals, uploads
from longshore.emulator.refusals import Lacking, Refused
from longshore.emulator.requests import Request
from longshore.emulator.verbs import Route, Shop
from longshore.errors import Error

OURS = ("/storage/", "/upload/", "/resumable/", "/download/", "/batch")
"""How the paths of the JSON API begin; none of batch operations does."""

ROUTES = (*buckets.ROUTES, *objects.ROUTES, *uploads.ROUTES)


class Routes:
    """All verbs, by method and path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_size: dict[tuple[str, int], list[tuple[list[tuple[int, str]], Route]]] = {}
        for route in routes:
            segments = route.path.strip("/").split("/")
            fixed = [(i, text) for i, text in enumerate(segments) if not text.startswith("{")]
            known = self._by_size.setdefault((route.method, len(segments)), [])
            known.append((fixed, route))

    def find(self, request: Request) -> Route:
        """The route of a request; raises Lacking for what there is none for, or for a parameter
        that it does not take."""
        path = request.path
        for fixed, route in self._by_size.get((request.verb, len(path)), ()):
            if all(path[index] == text for index, text in fixed):
                if unknown := request.query.keys() - route.parameters:
                    raise Lacking(f"the parameter {min(unknown)!r} of {request.verb} {route.path}.")
                return route
        raise Lacking(f"{request.verb} {request.raw_path}")


class EmulatorApp:
    """Both APIs at one address."""

    def __init__(self, shop: Shop, batch_operations: AsgiApp) -> None:
        self._shop = shop
        self._batch_operations = batch_operations
        self._routes = Routes(ROUTES)

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
            answer = await self._answer(request)
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

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._routes.find(request).verb(self._shop, request)
        except (Refused, Lacking) as refused:
            return refused.answer()
        except Refusal as refusal:  # a body that is too large, or too slow
            return Refused(refusal.http, "invalid", str(refusal)).answer()
        except Error as error:
            return refusals.of_error(error)

"""Which verb a request is, and its answer whatever happens to it."""

from __future__ import annotations

from collections.abc import Iterable

from longshore.api.replies import Answer
from longshore.api.status import Refusal
from longshore.emulator import refusals
from longshore.emulator.refusals import Lacking, Refused
from longshore.emulator.requests import Request
from longshore.emulator.verbs import Backend, Route
from longshore.errors import Error

_CUSTOMER_KEYS = ("x-goog-encryption-", "x-goog-copy-source-encryption-")


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
        if any(name.startswith(_CUSTOMER_KEYS) for name in request.headers):
            raise Lacking("keys of encryption that customers supply.")
        for fixed, route in self._by_size.get((request.verb, len(path)), ()):
            if all(path[index] == text for index, text in fixed):
                if unknown := request.query.keys() - route.parameters:
                    raise Lacking(f"the parameter {min(unknown)!r} of {route.method} {route.path}")
                return route
        raise Lacking(f"{request.verb} {request.raw_path}")

    async def answer(self, backend: Backend, request: Request) -> Answer:
        """What a request is answered; raises ClientGone."""
        try:
            return await self.find(request).verb(backend, request)
        except (Refused, Lacking) as refused:
            return refused.answer()
        except Refusal as refusal:  # a body that is too large, or too slow
            return Refused(refusal.http, "invalid", str(refusal)).answer()
        except Error as error:
            return refusals.of_error(error)

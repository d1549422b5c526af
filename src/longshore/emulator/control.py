"""``/_emulator/``: faults, the clock, a fresh start, and objects to begin with."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from longshore.api.replies import Answer
from longshore.clock import SystemClock
from longshore.emulator import bucket_resource, times
from longshore.emulator.faults import Fault, Faults
from longshore.emulator.incoming import Incoming, New
from longshore.emulator.inserting import make
from longshore.emulator.refusals import checked, invalid
from longshore.emulator.requests import Conditions, Request
from longshore.emulator.verbs import Backend, Route, no_content, of_json
from longshore.errors import AlreadyExists

FORWARD_MAX_SECONDS = 200 * 365 * 86_400


class Clock(SystemClock):
    """The machine's clock, and what it was put forward."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        """Wall-clock microseconds since 1970."""
        return super().now_us() + self.ahead_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What the control API works on; ``forget_jobs`` removes all jobs and what belongs to them."""

    clock: Clock
    faults: Faults
    forget_jobs: Callable[[], Awaitable[None]]

    async def add_fault(self, _backend: Backend, request: Request) -> Answer:
        """Have the next calls of a kind meet a fault."""
        fault = Fault.of(await request.json())
        self.faults.waiting.append(fault)
        return of_json(request, fault.show())

    async def show_faults(self, _backend: Backend, request: Request) -> Answer:
        """Those that nobody has met yet."""
        return of_json(request, {"faults": [fault.show() for fault in self.faults.waiting]})

    async def clear_faults(self, _backend: Backend, _request: Request) -> Answer:
        """Forget them."""
        self.faults.waiting.clear()
        return no_content()

    async def forward(self, backend: Backend, request: Request) -> Answer:
        """Put the clock forward: retentions end, request ids are forgotten."""
        body = await request.json()
        seconds = checked(body.get("forwardSeconds"), int | float, "forwardSeconds")
        if not 0 <= seconds <= FORWARD_MAX_SECONDS:
            raise invalid(f"The clock goes forward by 0 to {FORWARD_MAX_SECONDS} seconds.")
        self.clock.ahead_us += int(seconds * 1_000_000)
        return await self.show_clock(backend, request)

    async def show_clock(self, _backend: Backend, request: Request) -> Answer:
        """What time it is here."""
        return of_json(request, {"now": times.text(self.clock.now_us())})

    async def reset(self, backend: Backend, _request: Request) -> Answer:
        """Forget everything: buckets with what is in them, held or not, jobs, uploads, faults; the
        clock is the machine's again."""
        self.faults.waiting.clear()
        for session in backend.sessions.values():
            session.incoming.discard()
        backend.sessions.clear()
        await self.forget_jobs()
        for bucket in [bucket async for bucket in backend.store.list_buckets()]:
            await backend.store.discard_bucket(bucket.name)
        self.clock.ahead_us = 0
        return no_content()

    async def seed(self, backend: Backend, request: Request) -> Answer:
        """Make buckets and objects."""
        await sow(backend, await request.json())
        return no_content()

    def routes(self) -> tuple[Route, ...]:
        """The verbs of the control API."""
        return (
            Route("POST", "/_emulator/faults", self.add_fault),
            Route("GET", "/_emulator/faults", self.show_faults),
            Route("DELETE", "/_emulator/faults", self.clear_faults),
            Route("POST", "/_emulator/clock", self.forward),
            Route("GET", "/_emulator/clock", self.show_clock),
            Route("POST", "/_emulator/reset", self.reset),
            Route("POST", "/_emulator/seed", self.seed),
        )


async def sow(backend: Backend, seed: Any) -> None:
    """Make the buckets of ``seed``, each a resource with ``objects``: resources with their
    ``content`` as text, or ``contentBase64``. A bucket that is there is left as it is.

    Raises Refused, Lacking, or a store's error.
    """
    if unknown := checked(seed, dict, "seed").keys() - {"buckets"}:
        raise invalid(f"A seed has no {min(unknown)!r}, only 'buckets'.")
    for described in checked(seed.get("buckets", []), list, "buckets"):
        bucket = dict(checked(described, dict, "buckets"))
        objects = checked(bucket.pop("objects", []), list, "buckets.objects")
        project = checked(bucket.pop("project", ""), str, "buckets.project")
        made = bucket_resource.new(
            bucket,
            project,
            object_retention=bool(bucket.get("objectRetention")),
            now_us=backend.clock.now_us(),
        )
        try:
            await backend.store.create_bucket(made)
        except AlreadyExists:
            continue
        for one in objects:
            await _sow_object(backend, made.name, dict(checked(one, dict, "buckets.objects")))


async def _sow_object(backend: Backend, bucket: str, resource: dict[str, Any]) -> None:
    text = checked(resource.pop("content", ""), str, "content")
    packed = checked(resource.pop("contentBase64", ""), str, "contentBase64")
    name = checked(resource.get("name"), str, "name")
    incoming = Incoming(backend.folder)
    try:
        try:
            incoming.write(base64.b64decode(packed, validate=True) if packed else text.encode())
        except (binascii.Error, ValueError):
            raise invalid(f"The contentBase64 of {name[:100]!r} is no base64.") from None
        await make(
            backend, New(bucket, name, resource, Conditions(None, None, None, None)), incoming
        )
    finally:
        incoming.discard()

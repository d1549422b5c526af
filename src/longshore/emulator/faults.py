"""Faults on demand: what the next calls of a kind meet, for tests of who calls."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longshore.emulator.refusals import Refused, checked, invalid

COUNT_MAX = 1_000_000
DELAY_MAX_SECONDS = 600.0
_REASONS = {408: "requestTimeout", 429: "rateLimitExceeded", 401: "authError", 403: "forbidden"}


@dataclass(slots=True, kw_only=True)
class Fault:
    """What the next ``count`` calls of ``method`` ("": any) on paths like ``path`` meet.

    ``status``: they are not done, and answered so; 0: they are done. ``cut``: nothing but the head
    of the reply is sent. ``delay_seconds`` go by before anything happens.
    """

    method: str
    path: str
    status: int
    cut: bool
    delay_seconds: float
    count: int

    @staticmethod
    def of(body: Mapping[str, Any]) -> Fault:
        """As ``body`` says; raises Refused."""
        known = {"method", "path", "status", "cut", "delaySeconds", "count"}
        if unknown := body.keys() - known:
            raise invalid(f"A fault has no {min(unknown)!r}, only {', '.join(sorted(known))}.")
        fault = Fault(
            method=checked(body.get("method", ""), str, "method").upper(),
            path=checked(body.get("path", "*"), str, "path"),
            status=checked(body.get("status", 0), int, "status"),
            cut=checked(body.get("cut", False), bool, "cut"),
            delay_seconds=float(checked(body.get("delaySeconds", 0), int | float, "delaySeconds")),
            count=checked(body.get("count", 1), int, "count"),
        )
        if fault.status and not 400 <= fault.status <= 599:
            raise invalid("The status of a fault is 400 to 599.")
        if not 1 <= fault.count <= COUNT_MAX or not 0 <= fault.delay_seconds <= DELAY_MAX_SECONDS:
            raise invalid(
                f"A fault has a count of 1 to {COUNT_MAX} and a delay of 0 to"
                f" {DELAY_MAX_SECONDS:g} seconds."
            )
        if not (fault.status or fault.cut or fault.delay_seconds):
            raise invalid("A fault has a status, a cut or a delay.")
        return fault

    def show(self) -> dict[str, Any]:
        """The fault as it is sent."""
        return {
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "cut": self.cut,
            "delaySeconds": self.delay_seconds,
            "count": self.count,
        }


class Faults:
    """Those that are yet to be met, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []

    async def meet(self, method: str, path: str) -> Fault | None:
        """The fault that this call meets, after its delay."""
        for fault in self.waiting:
            if fault.method in ("", method) and fnmatch.fnmatchcase(path, fault.path):
                fault.count -= 1
                if not fault.count:
                    self.waiting.remove(fault)
                await asyncio.sleep(fault.delay_seconds)
                return fault
        return None


def refusal(status: int) -> Refused:
    """What is answered in place of a result."""
    reason = _REASONS.get(status, "backendError" if status >= 500 else "invalid")
    return Refused(status, reason, f"A fault that was asked for at /_emulator/faults: {status}.")

"""What a test may do to the processes of a real service, and what must come of its job."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.harbour import HOLD, counters, prefixes
from tests.service import Service

ALL = prefixes()
"""As many shards as two workers carry at a time."""


def begin(service: Service) -> str:
    """A job over the whole bucket that has made some progress; gives its operation's name."""
    service.until(lambda: service.http.get("/readyz").status_code == 200, 30, "be ready")
    operation = service.create("b", ALL, HOLD)
    service.until(lambda: service.done_by(operation) > 0, 30, "make progress")
    return operation


def end(service: Service, operation: str, objects: int) -> None:
    """The job ends, with each object counted once."""
    job = service.done(operation, 90)
    assert job["state"] == "SUCCEEDED", job
    assert counters(job) == {
        "totalObjectCount": objects,
        "succeededObjectCount": objects,
        "totalBytesFound": 5 * objects,
    } | {key: value for key, value in counters(job).items() if key.startswith("totalBytes")}
    assert service.held() == objects


def suspend(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


Serve = Callable[..., Service]

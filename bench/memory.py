"""What the service takes of memory: the peak of each process, by job and number of objects.

    python -m bench.memory [--objects 10000 100000] [--length 60 1024] [--workers 1]

Starts ``longshore serve`` on a local store, anew for every job. A job has four shards and logs
every object. The peak is VmHWM, in MB of a million bytes; what processes share (libraries, mostly)
is counted in each.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
from pathlib import Path
from typing import Any

from tests.engine.test_memory import HOLD, MANIFESTS, PREFIXES, RELEASE, fill, peaks
from tests.service import Service

DELETE: dict[str, Any] = {"deleteObject": {"permanentObjectDeletionEnabled": True}}
JOBS = {
    "hold by prefixes": (PREFIXES, HOLD),
    "release by manifests": (MANIFESTS, RELEASE),
    "delete by prefixes": (PREFIXES, DELETE),
}
SECONDS = 1800


def measure(objects: int, length: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Path(directory), workers=workers)
        asyncio.run(fill(service, objects, length))
        _print_row(objects, length, "none", _serve(service, None))
        for name, job in JOBS.items():
            _print_row(objects, length, name, _serve(service, job, objects))
        service.close()


def _serve(
    service: Service, job: tuple[dict[str, Any], dict[str, Any]] | None, objects: int = 0
) -> list[float]:
    service.start()
    service.until(lambda: service.http.get("/readyz").status_code == 200, 10, "be ready")
    if job is not None:
        done = service.done(service.create("b", *job), SECONDS)
        assert int(done["counters"]["succeededObjectCount"]) == objects, done
    used = peaks(service)
    service.stop()
    return used


def _print_row(objects: int, length: int, job: str, used: list[float]) -> None:
    workers = ", ".join(f"{one:.1f}" for one in used[1:])
    cells = (f"{objects:,}", f"{length:,}", job, f"{used[0]:.1f}", workers, f"{sum(used):.1f}")
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--length", type=int, nargs="*", default=[60, 1024])
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    print("| objects | bytes of a name | job | API | workers | together |")
    print("|---|---|---|---|---|---|")
    for length, objects in itertools.product(given.length, given.objects):
        measure(objects, length, given.workers)


if __name__ == "__main__":
    main()

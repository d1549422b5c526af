"""Clusters for tests, and what must have come of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harbour import Cluster
from tests.harbour import FOLDERS, counters
from tests.services.postgresql import Postgresql

EVERYTHING = [f"d/{folder}/" for folder in range(FOLDERS)]
OBJECTS = 8_000

Start = Callable[..., Cluster]


@pytest.fixture
def start(tmp_path: Path, postgresql: Postgresql) -> Iterator[Start]:
    made: list[Cluster] = []

    def make(objects: int = OBJECTS, folders: int = FOLDERS, **options: Any) -> Cluster:
        cluster = Cluster(tmp_path, postgresql.new_database(), **options)
        made.append(cluster)
        cluster.fill(objects, folders)
        cluster.start()
        return cluster

    yield make
    for one in made:
        one.close()


def end(cluster: Cluster, operation: str, objects: int = OBJECTS) -> None:
    """The job ends, with each object counted once."""
    job = cluster.done(operation)
    assert job["state"] == "SUCCEEDED", (job, cluster.logs())
    found = counters(job)
    assert (found["totalObjectCount"], found["succeededObjectCount"]) == (objects, objects)
    assert cluster.held() == objects

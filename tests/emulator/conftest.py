"""A running emulator of each kind, and Google's client of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from longshore.testing import Emulator, emulator

_names = itertools.count(1)


@pytest.fixture(scope="session", params=["memory", "data"])
def emulated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Emulator]:
    data: Path | None = None
    if request.param == "data":
        data = tmp_path_factory.mktemp("emulator")
    with emulator(data) as running:
        yield running


@pytest.fixture(scope="session")
def client(emulated: Emulator) -> Iterator[storage.Client]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STORAGE_EMULATOR_HOST", emulated.environment["STORAGE_EMULATOR_HOST"])
        made = storage.Client(project="local", credentials=AnonymousCredentials())
    yield made
    made.close()


@pytest.fixture(scope="session")
def http(emulated: Emulator) -> Iterator[httpx.Client]:
    """Requests as they are, for what no client sends; paths begin behind ``/storage/v1``."""
    with httpx.Client(base_url=emulated.url, timeout=20) as made:
        yield made


@pytest.fixture
def new_bucket(client: storage.Client) -> Callable[..., storage.Bucket]:
    """Makes a bucket; ``more`` are attributes of it, set before."""

    def make(*, object_retention: bool = False, **more: object) -> storage.Bucket:
        made = storage.Bucket(client, f"bucket-{next(_names)}")
        for name, value in more.items():
            setattr(made, name, value)
        made.create(enable_object_retention=object_retention)
        return made

    return make


@pytest.fixture
def bucket(new_bucket: Callable[..., storage.Bucket]) -> storage.Bucket:
    return new_bucket()


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Status, reason and message of an error."""
    error = response.json()["error"]
    assert error["code"] == response.status_code
    assert error["errors"][0]["message"] == error["message"]
    return response.status_code, error["errors"][0]["reason"], error["message"]

"""Which database the tests run on: ``--database sqlite`` (always there) or ``postgresql``.

Tests marked ``services`` need a server or a program that pip does not install; they run where they
are asked for by ``-m services``. What is not installed skips them, with a word in the summary, and
fails them where CI=true.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from tests.services.ceph import Ceph
    from tests.services.postgresql import Postgresql
    from tests.services.s3_servers import S3Server


# A shell starts what it puts into the background with SIGINT ignored, and whatever that starts
# ignores it too: tests that press Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=("sqlite", "postgresql"), default="sqlite")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two more than there are cores: the tests of real services wait a third of their time."""
    return (os.cpu_count() or 1) + 2


def missing(what: str) -> NoReturn:
    """Skips the test for the want of ``what``; fails it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def need(*programs: str) -> None:
    """Goes on where all of ``programs`` are installed; else ``missing``."""
    for program in programs:
        if shutil.which(program) is None:
            missing(f"{program} is not on PATH")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A running PostgreSQL."""
    from tests.services.postgresql import OLDEST, running

    with running() as server:
        if server is None:
            missing(f"PostgreSQL {OLDEST} or newer is not installed (Debian: postgresql)")
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """moto's S3 server."""
    from tests.services import s3_servers

    with s3_servers.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """rclone's S3 server."""
    from tests.services import s3_servers

    with s3_servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def s3rver(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[S3Server]:
    """s3rver, for tests marked ``services``: npm fetches it."""
    from tests.services import s3_servers

    need("node", "npm")
    with s3_servers.s3rver(
        tmp_path_factory.mktemp("s3rver"), pytestconfig.cache.mkdir("s3rver")
    ) as server:
        yield server


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A running Ceph, the same for all processes of a run."""
    from tests.services.ceph import PROGRAMS, running

    need(*PROGRAMS)
    own = tmp_path_factory.getbasetemp()
    with running(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) as started:
        yield started


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Makes an empty database and gives its URL; None: SQLite, in the data directory."""
    if request.config.getoption("--database") == "sqlite":
        return lambda: None
    server: Postgresql = request.getfixturevalue("postgresql")
    return server.new_database


@pytest.fixture
def database_at(new_database: Callable[[], str | None], tmp_path: Path) -> Path | str:
    """Where an empty database is, as Database takes it."""
    return new_database() or tmp_path / "longshore.sqlite"

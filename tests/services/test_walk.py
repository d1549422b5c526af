"""docs/operating.md: from nothing to a cluster that finishes a job, as a newcomer types it.

What differs from the page: the environment is the one that the tests run in, not one that pip makes
(pip is tested by whatever installs this), and ports are free ones.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import longshore
from tests import shells
from tests.conftest import missing, need
from tests.service import free_port
from tests.services.postgresql import OLDEST, binaries
from tests.shells import Shell

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
WALK = shells.section(PAGE, "A cluster, from nothing, in two shells")
ACTIVATE = ". .venv/bin/activate"
INSTALL = f"python3 -m venv .venv && {ACTIVATE} && pip install -q -c constraints.txt '.[dask]'"


@pytest.fixture
def clone() -> Iterator[Path]:
    """With an environment that is there already."""
    with shells.clone() as directory:
        bin_dir = directory / ".venv" / "bin"
        bin_dir.mkdir(parents=True)
        (bin_dir / "activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
        yield directory


@pytest.fixture
def walk() -> str:
    """The section, with ports that are free."""
    ports = {port: str(free_port()) for port in set(re.findall(r"\b(?:5439|878\d)\b", WALK))}
    assert len(ports) == 3
    return re.sub("|".join(ports), lambda port: ports[port[0]], WALK)


@pytest.fixture
def environment(clone: Path) -> dict[str, str]:
    """A newcomer's, with what the service listens on by default moved to free ports."""
    need("setsid", "setpriv")
    postgresql = binaries()
    if postgresql is None:
        missing(f"PostgreSQL {OLDEST} or newer is not installed (Debian: postgresql)")
    port = free_port()
    return {
        "PATH": f"{postgresql}:{os.defpath}",
        "HOME": str(clone),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(longshore.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LONGSHORE_REST__LISTEN": f"127.0.0.1:{port}",
        "LONGSHORE_GRPC__LISTEN": "127.0.0.1:0",
        "LONGSHORE_SERVER": f"http://127.0.0.1:{port}",
    }


def test_a_cluster_from_nothing(clone: Path, walk: str, environment: dict[str, str]) -> None:
    (starting,) = shells.blocks(walk, "sh")
    (started,) = shells.blocks(walk, "")
    (console,) = shells.blocks(walk, "console")
    ending = re.search(r"`(kill %[^`]*)`", walk)
    assert ending is not None
    assert INSTALL in starting

    first = Shell(clone, environment)
    second = Shell(clone, environment)
    try:
        first.type(starting.replace(INSTALL, ACTIVATE))
        told = first.until("(?s)(joined the cluster[^\n]*\n.*){2}")
        events = [line.rstrip() for line in told.splitlines() if " INFO " in line]
        assert shells.agrees(started, "\n".join(events)), told
        for command, shown in shells.steps(console):
            told = second.run(command)
            assert shells.agrees(shown, told), f"{command}\n{told}\ninstead of\n{shown}"
        log = (clone / "harbour" / "service.log").read_text()
        assert (log.count("scheduler reached"), log.count("not reached") <= 1) == (1, True), log
        first.interrupt()
        told = first.run(ending[1])
        assert "server stopped" in told
        assert len(shells.inhabitants(clone)) == 2, (told, shells.inhabitants(clone))
    finally:
        first.close()
        second.close()

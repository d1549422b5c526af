"""Google's client of Cloud Storage for Node, unmodified, against the emulator."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from longshore.testing import Emulator
from tests.conftest import need
from tests.services import npm

pytestmark = pytest.mark.services
HERE = Path(__file__).parent / "node"


def test_what_programs_do_with_it(
    longshore_emulator: Emulator, pytestconfig: pytest.Config
) -> None:
    need("node", "npm")
    modules = npm.installed(HERE, pytestconfig.cache.mkdir("node"))
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(HERE / "storage.test.js")],
        env={
            **os.environ,
            **longshore_emulator.environment,
            "NODE_PATH": str(modules),
            "NO_PROXY": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail 0" in done.stdout

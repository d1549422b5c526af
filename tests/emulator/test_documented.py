"""What docs/emulator.md shows, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from longshore.testing import emulator

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()


def block(language: str, holds: str) -> str:
    """The first block of this language that holds a text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return next(one for one in blocks if holds in one)


@pytest.mark.services  # which it needs none of, but it takes its time
def test_a_project_of_tests_finds_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_held.py").write_text(block("python", "longshore_emulator"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_seed_and_the_variables(tmp_path: Path) -> None:
    seed = tmp_path / "buckets.yaml"
    seed.write_text(block("yaml", "objects:"))
    (bucket,) = yaml.safe_load(seed.read_text())["buckets"]
    with emulator(seed=seed) as running, httpx.Client(base_url=running.url) as http:
        made = http.get(f"/storage/v1/b/{bucket['name']}").json()
        (one,) = http.get(f"/storage/v1/b/{bucket['name']}/o").json()["items"]
        shown = re.findall(r"^export (\w+)=", block("sh", "export"), re.MULTILINE)
        assert shown == list(running.environment)
    assert made["labels"] == bucket["labels"]
    assert (one["name"], one["temporaryHold"]) == ("a.txt", True)

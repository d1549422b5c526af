"""What a newcomer does: starts the emulator, pastes the lines that it prints, and uses gcloud."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.clients.programs import gcloud_environment
from tests.conftest import need

pytestmark = pytest.mark.services

SCRIPT = """
set -e
{lines}
refused() {{ ! "$@" 2>&1; }}
ended() {{
    for _ in $(seq 60); do
        state=$(gcloud storage batch-operations jobs describe $1 --format='value(state)')
        case $state in QUEUED|RUNNING) ;; *) break ;; esac
    done
    echo "$1 $state"
}}
job() {{
    name=$1; shift
    gcloud storage batch-operations jobs create $name --bucket=newcomer \
        --included-object-prefixes=cargo/ "$@"
    ended $name
}}
gcloud storage buckets create gs://newcomer
gcloud storage cp -r cargo gs://newcomer
{python} -c 'from google.cloud import storage
print(*(one.name for one in storage.Client().list_blobs("newcomer")))'
job hold --put-object-temporary-hold
refused gcloud storage rm gs://newcomer/cargo/a.txt
job release --no-put-object-temporary-hold
job delete --delete-object
refused gcloud storage ls gs://newcomer/cargo/**
"""


def test_the_first_quarter_of_an_hour(tmp_path: Path) -> None:
    need("gcloud")
    (tmp_path / "cargo" / "below").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "below/c.txt"):
        (tmp_path / "cargo" / name).write_text(name)
    command = [sys.executable, "-m", "longshore", "emulator", "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            told = _run(tmp_path, _lines(emulator))
        finally:
            emulator.terminate()
    assert "cargo/a.txt cargo/b.txt cargo/below/c.txt\n" in told
    assert "newcomer/cargo/a.txt' is under active Temporary hold and cannot be deleted" in told
    assert [line for line in told.split("\n") if line.endswith(" SUCCEEDED")] == [
        "hold SUCCEEDED",
        "release SUCCEEDED",
        "delete SUCCEEDED",
    ]
    assert "matched no objects" in told.split("delete SUCCEEDED")[1]
    assert emulator.returncode == 0


def _lines(emulator: subprocess.Popen[str]) -> str:
    """What it prints until it says that this is all."""
    assert emulator.stdout is not None
    lines = []
    for line in emulator.stdout:
        lines.append(line)
        if line == "# Ctrl-C ends it.\n":
            return "".join(lines)
    raise AssertionError("".join(lines))


def _run(home: Path, lines: str) -> str:
    """What a shell says into which ``lines`` are pasted; gcloud is kept from asking questions, and
    from files outside ``home``, and is told nothing else."""
    kept = (
        "PATH",
        "HOME",
        "LC_ALL",
        "no_proxy",
        "CLOUDSDK_CONFIG",
        "CLOUDSDK_CORE_DISABLE_PROMPTS",
    )
    quiet = {
        name: value
        for name, value in gcloud_environment("", home).items()
        if name in kept or "CHECK" in name or "USAGE" in name or "SURVEY" in name
    }
    done = subprocess.run(
        ["bash", "-c", SCRIPT.format(lines=lines, python=sys.executable)],
        cwd=home,
        env=quiet,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout

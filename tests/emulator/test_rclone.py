"""rclone's backend for Cloud Storage, unmodified, against the emulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longshore.testing import Emulator

BUCKET = ":gcs:rclone-bucket"


class Rclone:
    def __init__(self, emulated: Emulator) -> None:
        self._command = [
            str(Path(sys.executable).with_name("rclone")),
            "--config=",
            "--gcs-anonymous",
            f"--gcs-endpoint={emulated.url}/storage/v1/",
            "--gcs-project-number=local",
            "--retries=1",
            "--low-level-retries=1",
        ]

    def run(self, *arguments: str, given: str = "") -> str:
        """What it prints; fails the test unless it succeeds."""
        done = subprocess.run(
            [*self._command, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def rclone(longshore_emulator: Emulator) -> Rclone:
    return Rclone(longshore_emulator)


def test_a_folder_goes_up_and_comes_down(rclone: Rclone, tmp_path: Path) -> None:
    cargo = tmp_path / "cargo"
    (cargo / "sub dir").mkdir(parents=True)
    (cargo / "a.txt").write_text("hello")
    (cargo / "sub dir" / "ü.txt").write_text("below")
    (cargo / "large").write_bytes(bytes(range(256)) * 40_000)  # in several requests
    names = ["a.txt", "large", "sub dir/ü.txt"]

    def listed() -> list[str]:
        return sorted(rclone.run("lsf", "-R", "--files-only", BUCKET).split("\n"))[1:]

    rclone.run("mkdir", BUCKET)
    rclone.run("copy", str(cargo), BUCKET)
    rclone.run("check", str(cargo), BUCKET)  # sizes and MD5
    assert listed() == names
    rclone.run("moveto", f"{BUCKET}/a.txt", f"{BUCKET}/b.txt")
    rclone.run("copyto", f"{BUCKET}/b.txt", f"{BUCKET}/c.txt")
    rclone.run("rcat", f"{BUCKET}/d.txt", given="from a pipe")
    assert rclone.run("cat", f"{BUCKET}/d.txt") == "from a pipe"
    assert listed() == ["b.txt", "c.txt", "d.txt", "large", "sub dir/ü.txt"]
    rclone.run("sync", str(cargo), BUCKET)
    assert listed() == names
    rclone.run("copy", BUCKET, str(tmp_path / "down"))
    for name in names:
        assert (tmp_path / "down" / name).read_bytes() == (cargo / name).read_bytes()
    rclone.run("purge", BUCKET)
    assert "rclone-bucket" not in rclone.run("lsd", ":gcs:")

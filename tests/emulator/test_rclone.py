"""rclone's backend for Cloud Storage, unmodified, against the emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
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
        done = self._done(arguments, given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """What it says of an error."""
        done = self._done(arguments)
        assert done.returncode != 0
        return done.stderr

    def _done(
        self, arguments: tuple[str, ...], given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


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


@pytest.mark.services
def test_folders_are_kept_alike_both_ways(rclone: Rclone, tmp_path: Path) -> None:
    cargo, down = tmp_path / "cargo", tmp_path / "down"
    for number in range(30):
        one = cargo / f"d{number % 3}" / f"{number}.txt"
        one.parent.mkdir(parents=True, exist_ok=True)
        one.write_text(str(number))
    (cargo / "large").write_bytes(bytes(range(256)) * 40_000)
    there = f"{BUCKET}-alike"
    rclone.run("copy", "--metadata", "--header-upload=Cache-Control: no-store", str(cargo), there)
    rclone.run("check", "--download", str(cargo), there)
    sums = rclone.run("hashsum", "MD5", there)
    assert sorted(sums.split("\n")) == sorted(rclone.run("hashsum", "MD5", str(cargo)).split("\n"))
    (seen,) = json.loads(rclone.run("lsjson", "--hash", f"{there}/large"))
    assert (seen["Size"], len(seen["Hashes"]["md5"])) == (256 * 40_000, 32)
    assert json.loads(rclone.run("size", "--json", there))["count"] == 31

    rclone.run("copy", f"{there}/d0", f"{there}/e0")  # by the service itself
    rclone.run("check", f"{there}/d0", f"{there}/e0")
    rclone.run("move", f"{there}/e0", f"{there}/f0")
    assert rclone.run("lsf", "--dirs-only", there).split() == ["d0/", "d1/", "d2/", "f0/"]
    rclone.run("delete", "--include=1*.txt", f"{there}/d1")
    assert "d1/4.txt" in rclone.run("lsf", "-R", there)
    assert "d1/10.txt" not in rclone.run("lsf", "-R", there)

    rclone.run("sync", there, str(down))
    rclone.run("check", "--download", there, str(down))
    (down / "d2" / "2.txt").write_text("other")
    (down / "d2" / "5.txt").unlink()
    rclone.run("sync", "--checksum", str(down), there)
    assert rclone.run("cat", f"{there}/d2/2.txt") == "other"
    rclone.run("check", str(down), there)
    rclone.run("purge", there)


@pytest.mark.services
def test_what_is_held_stays(rclone: Rclone, longshore_emulator: Emulator) -> None:
    there = f"{BUCKET}-held"
    rclone.run("mkdir", there)
    rclone.run("rcat", f"{there}/a", given="1")
    hold = f"{longshore_emulator.url}/storage/v1/b/{there[5:]}/o/a"
    httpx.patch(hold, json={"temporaryHold": True}).raise_for_status()
    assert "under active Temporary hold" in rclone.refused("deletefile", f"{there}/a")
    assert rclone.run("cat", f"{there}/a") == "1"
    httpx.patch(hold, json={"temporaryHold": False}).raise_for_status()
    rclone.run("purge", there)

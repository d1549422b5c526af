"""Packages of npm that the tests start, by a lock file of their own."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path


def installed(packages: Path, cache: Path) -> Path:
    """``node_modules`` of what ``packages/package-lock.json`` pins, fetched once into ``cache``."""
    lock = (packages / "package-lock.json").read_bytes()
    directory = cache / hashlib.sha256(lock).hexdigest()[:16]
    if not directory.exists():
        _install(packages, directory)
    return directory / "node_modules"


def _install(packages: Path, directory: Path) -> None:
    """All of it or nothing, whoever else does the same."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        made = Path(scratch) / "packages"
        shutil.copytree(packages, made)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=made, check=True, timeout=100)
        with contextlib.suppress(OSError):  # somebody else was first
            made.rename(directory)

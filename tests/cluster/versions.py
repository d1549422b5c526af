"""Longshores of other versions than this: the one of the commit before, and one that is made up."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

import longshore
from longshore.model import FORMAT
from tests.database import revisions
from tests.database.revisions import Kind

SOURCES = Path(longshore.__file__).parents[1]


def before(directory: Path) -> Path:
    """The sources of the commit before the one that is checked out; skips the test where there is
    none, or where it cannot yet be side by side with any other."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", "HEAD~1", "src"],
        cwd=SOURCES.parent,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"NOT TESTED with the commit before, of which git says: {archive.stderr!r}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(directory, filter="data")
    sources = directory / "src"
    if "NEEDED" not in (sources / "longshore" / "database" / "schema.py").read_text():
        pytest.skip("NOT TESTED with the commit before, which takes no schema but its own")
    return sources


def format_of(sources: Path) -> int:
    """Of the shards that these sources make."""
    found = re.search(
        r"^FORMAT = (\d+)$", (sources / "longshore/model.py").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1])


def after(directory: Path, *steps: Kind) -> Path:
    """The sources of a version to come, whose shards have another format, and with more steps of
    the schema."""
    shutil.copytree(SOURCES, directory, ignore=shutil.ignore_patterns("__pycache__"))
    model = directory / "longshore" / "model.py"
    text = model.read_text()
    assert f"\nFORMAT = {FORMAT}\n" in text
    model.write_text(text.replace(f"\nFORMAT = {FORMAT}\n", f"\nFORMAT = {FORMAT + 1}\n"))
    for step in steps:
        revisions.add_to_sources(directory / "longshore", step)
    return directory

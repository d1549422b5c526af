"""A writer that is killed: each object is old or new, never half, and no file is left over."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from longshore.store import ABSENT
from longshore.stores.local.store import LocalStore
from tests.conformance.shelf import BUCKET, Shelf, TurnedClock
from tests.local_store.writer import NAMES, content_of

KILLS = 12
FOLDER_OF_THE_TESTS = Path(__file__).parents[2]


@dataclass
class Said:
    """What the killed writers said of each name last: the value it was written or deleted with,
    and the value that what was written has been patched with since."""

    written: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    patched: dict[str, int] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        verb, name, value = line.split()
        if verb == "patch":
            self.patched[name] = int(value)
            return
        for values in (self.written, self.deleted, self.patched):
            values.pop(name, None)
        (self.written if verb == "write" else self.deleted)[name] = int(value)


def run_writer(directory: Path, round_: int, said: Said, lines: int, step: str = "") -> None:
    """A writer until it has said ``lines`` things, then killed, or until it kills itself."""
    command = [sys.executable, "-m", "tests.local_store.writer", str(directory), str(round_)]
    with subprocess.Popen(
        command + [step] * bool(step),
        stdout=subprocess.PIPE,
        text=True,
        cwd=FOLDER_OF_THE_TESTS,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for count, line in enumerate(writer.stdout):
            if line.endswith("\n"):
                said.hear(line)
            if count == lines and not step:
                writer.kill()
    assert writer.returncode == -9


async def check(directory: Path, said: Said) -> None:
    """Open the bucket as the next process would."""
    shelf = Shelf(LocalStore(directory), TurnedClock())
    await shelf.write("sweep", b"")  # the first write of a process removes what nobody has
    names = [f"{kind}{n}" for kind in "nm" for n in range(NAMES)]
    batch = await shelf.there(*names, columns=("content_type", "cache_control"))
    vanished = set()
    for index, name in enumerate(names):
        if batch.generations[index] == ABSENT:
            vanished |= {name} & said.written.keys()
            continue
        value, patched = (int(column[index] or 0) for column in batch.columns.values())
        assert value >= said.written.get(name, 0)
        assert value > said.deleted.get(name, 0)
        if value == said.written.get(name):
            assert patched >= said.patched.get(name, 0)
        assert batch.sizes[index] == len(content_of(value))
        assert await shelf.read(name) == content_of(value)
    # One call was under way: if it was a delete, its two objects may be gone, both or none.
    assert len({name[1:] for name in vanished}) <= 1
    for name in vanished:
        said.hear(f"delete {name} {said.written[name]}")
    await shelf.store.close()
    check_files(directory)


def check_files(directory: Path) -> None:
    """Nothing in the bucket's folder is without an object."""
    (home,) = (directory / BUCKET).iterdir()
    with closing(sqlite3.connect(home / "objects.sqlite")) as database:
        both = "(SELECT {0} FROM object UNION SELECT {0} FROM soft_deleted)".format
        files = database.execute(f"SELECT file FROM {both('file')} WHERE file")
        owned = {str(file) for (file,) in files}
        generations = both("generation")
        stray = f"SELECT generation FROM inline_content WHERE generation NOT IN {generations}"
        assert database.execute(stray).fetchall() == []
        assert database.execute("SELECT file FROM gc").fetchall() == []
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert {path.name for path in (home / "content").iterdir()} == owned


@pytest.mark.parametrize(("versioning", "soft"), [(False, 0), (True, 0), (False, 1)])
async def test_a_killed_writer_leaves_every_object_old_or_new(
    tmp_path: Path, versioning: bool, soft: int
) -> None:
    rng = random.Random(versioning)
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    await shelf.make(versioning=versioning, soft_delete_seconds=soft)
    await shelf.store.close()
    said = Said()
    for round_ in range(1, KILLS // 2 + 1):
        run_writer(tmp_path, round_, said, rng.randrange(150))
        await check(tmp_path, said)


@pytest.mark.parametrize("step", ["reserve", "stage", "write", "finish", "adopt", "put", "remove"])
async def test_a_crash_after_any_step_leaves_nothing_behind(tmp_path: Path, step: str) -> None:
    shelf = Shelf(LocalStore(tmp_path), TurnedClock())
    await shelf.make()
    await shelf.store.close()
    said = Said()
    run_writer(tmp_path, 1, said, 0, step)
    await check(tmp_path, said)

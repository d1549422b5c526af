"""The command line against a real service, which all tests of this folder share."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import longshore.cli
from tests.service import Service

_numbers = itertools.count(1)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote, which must be one JSON value and nothing else."""
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The lines of a list in a pipe, by their fields."""
        assert self.code == 0, self
        return [line.split("\t") for line in self.out.splitlines()]


class Cli:
    """Runs commands in this process or as processes of their own, with the service's settings."""

    def __init__(self, capsys: pytest.CaptureFixture[str], environment: dict[str, str]) -> None:
        self._capsys = capsys
        self.environment = environment

    def __call__(self, *words: object) -> Ended:
        self._capsys.readouterr()
        code = longshore.cli.run([str(word) for word in words])
        return Ended(code, *self._capsys.readouterr())

    def start(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "longshore", *map(str, words)]
        pipe = subprocess.PIPE
        options = {"stdout": pipe, "stderr": pipe, "stdin": subprocess.DEVNULL} | options
        return subprocess.Popen(command, env=self.environment, text=True, **options)

    def process(self, *words: object, **options: Any) -> Ended:
        with self.start(*words, **options) as process:
            out, err = process.communicate(timeout=30)
        return Ended(process.returncode, out, err)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service"))
    running.start()
    yield running
    running.close()


@pytest.fixture
def cli(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    """Commands that know the service; each test has a project of its own."""
    given = {
        "LONGSHORE_CONFIG": str(service.config),
        "LONGSHORE_SERVER": f"http://127.0.0.1:{service.port}",
        "LONGSHORE_PROJECT": f"p{next(_numbers)}",
        "COLUMNS": "100",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return Cli(capsys, {**os.environ, **given})


@pytest.fixture
def bucket(cli: Cli) -> str:
    """A new empty bucket."""
    name = f"bucket-{next(_numbers)}"
    assert cli("buckets", "create", name).code == 0
    return name


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory of nine small files, three of them under ``logs/``."""
    directory = tmp_path / "cargo"
    for name in ("a.txt", "logs/1", "logs/2", "logs/3", "x/y/z.txt", "é", "b c", "-", "x.txt"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    return directory

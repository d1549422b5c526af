"""deploy/ as it is, with longshore as it is: command lines, settings, and the files that they name.

Its files are not run by any test: their own linters are named in docs/cluster.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import typer
import yaml
from distributed.cli.dask_scheduler import main as dask_scheduler

from longshore.app import require_authentication
from longshore.cli import app
from longshore.runners.dask import require_cluster
from longshore.settings import Settings, load

DEPLOY = Path(__file__).parents[2] / "deploy"
CLUSTER = DEPLOY / "cluster"
KUBERNETES = CLUSTER / "kubernetes"
_COMMAND = r"(?:exec |bin/|\$\(|`)((?:longshore|dask) [^;&)`\n]*)"


class Process(NamedTuple):
    """A container: what it runs, its variables, and where files are put into it."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    mounts: tuple[str, ...]
    file: Path

    def settings(self) -> Settings:
        """What it goes by: ``file`` is the one that LONGSHORE_CONFIG names in there."""
        assert self.environment["LONGSHORE_CONFIG"].startswith(self.mounts)
        return load(self.file, self.environment, {})


def _compose() -> Iterator[Process]:
    described = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
    assert described["configs"] == {"settings": {"file": "compose.toml"}}
    for name, service in described["services"].items():
        if service["image"] == "longshore":
            secrets = [one if isinstance(one, str) else one["target"] for one in service["secrets"]]
            mounts = [f"/run/secrets/{secret}" for secret in secrets]
            mounts += [one["target"] for one in service.get("configs", ())]
            mounts += [one.partition(":")[2] for one in service.get("volumes", ())]
            command = [*service.get("entrypoint", ["longshore"]), *service["command"]]
            command = [word.replace("$$", "$") for word in command]
            environment = service.get("environment", {})
            yield Process(name, command, environment, tuple(mounts), CLUSTER / "compose.toml")


def _kubernetes() -> Iterator[Process]:
    for path in KUBERNETES.glob("*.yaml"):
        for described in yaml.safe_load_all(path.read_text()):
            if described["kind"] == "Deployment":
                (container,) = described["spec"]["template"]["spec"]["containers"]
                command = [*container.get("command", ["longshore"]), *container["args"]]
                environment = {
                    one["name"]: one.get("value", "") for one in container.get("env", ())
                }
                mounts = tuple(one["mountPath"] for one in container["volumeMounts"])
                name, file = described["metadata"]["name"], KUBERNETES / "longshore.toml"
                yield Process(name, command, environment, mounts, file)


PROCESSES = [*_compose(), *_kubernetes()]
SCHEDULERS = {"scheduler", "longshore-scheduler"}


def _commands() -> Iterator[list[str]]:
    """Every command line of longshore's and Dask's in there, by its words."""
    for process in PROCESSES:
        if process.command[0] == "longshore":
            yield process.command
    for path in DEPLOY.rglob("*"):
        text = path.read_text().replace("\\\n", " ") if path.is_file() else ""
        yield from (line.split() for line in re.findall(_COMMAND, text))
        for words in re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE):
            (given,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
            yield ["longshore", *json.loads(words)[1:], *json.loads(given)]


COMMANDS = sorted(set(map(tuple, _commands())))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_these_options(words: tuple[str, ...]) -> None:
    command: Any = dask_scheduler if words[0] == "dask" else typer.main.get_command(app)
    at = 1
    while commands := getattr(command, "commands", None):
        command, at = commands[words[at]], at + 1
    known = {name for option in command.params for name in option.opts + option.secondary_opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_all_kinds_of_files_were_read() -> None:
    begin = {words[:2] for words in COMMANDS}
    assert begin == {("dask", "scheduler")} | {
        ("longshore", name) for name in ("serve", "worker", "emulator", "cluster", "auth")
    }
    assert {process.name for process in PROCESSES} == SCHEDULERS | {
        *("service-1", "service-2", "worker", "longshore-services", "longshore-workers")
    }


@pytest.mark.parametrize("process", PROCESSES, ids=lambda one: one.name)
def test_a_process_has_the_files_that_it_needs(process: Process) -> None:
    if process.name in SCHEDULERS:
        needed = [word for word in process.command[-1].split() if word.startswith("/")]
    else:
        settings = process.settings()
        require_cluster(settings)
        host, _, port = settings.dask.scheduler.removeprefix("tls://").partition(":")
        assert (host in SCHEDULERS, port) == (True, "8786")
        url = parse_qs(urlsplit(settings.database).query)
        needed = [settings.dask.ca, settings.dask.certificate, settings.dask.key]
        needed += url.get("sslrootcert", [])
        needed += [store.options.get("directory") for store in settings.stores.values()]
        if "serve" in process.command:
            require_authentication(settings)
            needed += [settings.tls.certificate, settings.tls.key, settings.auth.tokens_file]
    needed = [str(file) for file in needed if file is not None]
    assert len(needed) >= 3
    assert [file for file in needed if not file.startswith(process.mounts)] == []

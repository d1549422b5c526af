"""What holds for every command: help with an example, light imports, quiet ends."""

import json
import subprocess
import sys

import pytest
import typer

import longshore
from longshore.cli import app

MODULES = "import json, sys, longshore.cli; print(json.dumps(sorted(sys.modules)))"
HEAVY = {
    "httpx",
    "rich",
    "yaml",
    "asyncio",
    "sqlalchemy",
    "uvicorn",
    "google.protobuf",
    "longshore.app",
}


def _commands(group: typer.Typer, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [(*words, command.name) for command in group.registered_commands]
    for inner in group.registered_groups:
        name = (*words, inner.name)
        found += [name, *_commands(inner.typer_instance, name)]
    return found


@pytest.mark.parametrize("words", [(), *_commands(app)], ids=" ".join)
def test_every_help_has_an_example_and_fits_80_columns(words, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert longshore.cli.run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: {' '.join(('longshore', *words))}" in text
    assert "Example: longshore" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_command_line_is_light_until_a_command_runs():
    found = subprocess.run(
        [sys.executable, "-c", MODULES], capture_output=True, text=True, check=True, timeout=30
    )
    assert not HEAVY & set(json.loads(found.stdout))


def test_the_version_is_told(cli):
    assert cli("--version").out == f"longshore {longshore.__version__}\n"


def test_a_reader_that_goes_away_is_no_noise(cli, bucket, tmp_path):
    for number in range(50):
        (tmp_path / f"{number}-{'x' * 200}").write_text("")
    assert cli("objects", "import", tmp_path, bucket).code == 0
    listing = cli.start("objects", "list", bucket, "--format=json")
    listing.stdout.close()
    assert listing.stderr.read() == ""
    assert listing.wait(timeout=30) == 1
    listing.stderr.close()


def test_a_name_that_a_terminal_cannot_write_is_spelt_out(cli, bucket, files):
    assert cli("objects", "import", files, bucket).code == 0
    cli.environment["PYTHONIOENCODING"] = "ascii"
    listed = cli.process("objects", "list", bucket, "--prefix=é", "--format=value(name)")
    assert (listed.code, listed.out, listed.err) == (0, "\\xe9\n", "")


def test_a_wrong_setting_is_one_line_and_names_the_variable(cli, monkeypatch):
    monkeypatch.setenv("LONGSHORE_WORKERZ", "2")
    refused = cli("buckets", "list")
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert "LONGSHORE_WORKERZ" in refused.err
    assert "'LONGSHORE_WORKERS'" in refused.err


def test_a_data_directory_that_cannot_be_is_one_line(cli, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LONGSHORE_CONFIG", "")
    monkeypatch.chdir(tmp_path)
    refused = cli("buckets", "create", "harbour", f"--data-dir={tmp_path / 'file'}")
    assert refused.code == 1
    assert refused.err.startswith("longshore: ")
    assert refused.err.count("\n") == 1


def test_an_operation_that_waits_writes_json_alone(cli):
    source = ("--bucket=no-such-bucket", "--included-object-prefixes=", "--delete-object")
    assert cli("jobs", "create", *source).code == 0
    (operation,) = cli("operations", "list", "--format=value(name)").out.split()
    waited = cli("operations", "wait", operation, "--format=json")
    assert waited.code == 1
    assert json.loads(waited.out)["error"]["code"] == 5

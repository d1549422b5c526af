"""``longshore serve`` starts with good settings, and says in one line why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.service import Service


def _refused(cli: Cli, directory: Path, settings: str, *words: str) -> str:
    config = directory / "wrong.toml"
    config.write_text(settings)
    ended = cli.process("serve", f"--config={config}", f"--data-dir={directory / 'data'}", *words)
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('kind = "locl"', "UNIMPLEMENTED: There is no 'locl' in longshore/stores; it has: local,"),
        ('kind = "local"\ndirectry = "x"', "'directry' in [stores.wrong]: the nearest known one"),
        ('kind = "local"\ndirectory = 3', "'stores.wrong.directory' must be a path, not 3."),
    ],
)
def test_a_wrong_store_is_refused_before_it_is_needed(cli, tmp_path, settings, says):
    line = _refused(cli, tmp_path, f"[stores.wrong]\n{settings}\n", "--listen=127.0.0.1:0")
    assert line.startswith("longshore: ")
    assert says in line


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "example.org:80"])
def test_an_address_that_others_reach_is_refused(cli, tmp_path, listen):
    line = _refused(cli, tmp_path, "", f"--listen={listen}")
    assert listen in line
    assert "no authentication" in line
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_named(cli, tmp_path, service: Service):
    line = _refused(cli, tmp_path, "", f"--listen=127.0.0.1:{service.port}")
    assert f"Cannot listen on 127.0.0.1:{service.port}: Address already in use." in line

"""What people see: tables and progress on terminals of several widths."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from tests.cli.conftest import Cli
from tests.cli.terminal import Seen, on_terminal

HOLD = ("--included-object-prefixes=", "--put-object-temporary-hold", "--wait")


@pytest.fixture
def look(cli: Cli) -> Callable[..., Seen]:
    return functools.partial(on_terminal, environment=cli.environment)


@pytest.fixture
def held(cli: Cli, bucket: str, files: object) -> str:
    """A bucket whose nine objects were held by the job ``hold-everything-for-now``."""
    cli("objects", "import", files, bucket)
    assert cli("jobs", "create", "hold-everything-for-now", f"--bucket={bucket}", *HOLD).code == 0
    return bucket


def test_a_narrow_table_leaves_out_what_is_extra_and_folds_no_state(look, held):
    wide = look("jobs", "list", columns=120).lines
    assert wide[0].split() == [
        *("JOB", "STATE", "DOES", "BUCKET", "TOTAL", "SUCCEEDED", "FAILED", "CREATED")
    ]
    assert wide[2].split()[:7] == [
        *("hold-everything-for-now", "SUCCEEDED", "putHold", held, "9", "9", "0")
    ]
    narrow = look("jobs", "list", columns=90).lines
    assert narrow[0].split() == ["JOB", "STATE", "DOES", "BUCKET", "TOTAL", "SUCCEEDED", "FAILED"]
    assert narrow[2].split() == wide[2].split()[:7]
    narrower = look("jobs", "list", columns=70).lines
    assert narrower[0].split() == ["JOB", "STATE", "BUCKET", "TOTAL", "SUCCEEDED", "FAILED"]
    for lines, columns in ((wide, 120), (narrow, 90), (narrower, 70)):
        assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", [80, 120])
def test_every_table_fits_its_terminal(look, held, files, columns):
    for words in (
        ("operations", "list"),
        ("bucket-operations", "list", "hold-everything-for-now"),
        ("buckets", "list"),
        ("objects", "list", held),
        ("jobs", "describe", "hold-everything-for-now"),
        ("jobs", "watch", "hold-everything-for-now"),
    ):
        seen = look(*words, columns=columns)
        assert seen.code == 0
        assert max(map(len, seen.lines)) <= columns
        assert "…" not in seen.text


def test_an_empty_list_says_so_to_people(look, bucket):
    assert look("objects", "list", bucket, columns=80).lines == ["Nothing to list."]


def test_a_watched_job_is_a_picture_with_its_errors(look, cli, held):
    purge = ("jobs", "create", "purge", f"--bucket={held}", "--included-object-prefixes=")
    assert cli(*purge, "--delete-object", "-q").code == 0
    seen = look("jobs", "watch", "purge", columns=80)
    assert seen.code == 0
    last = seen.text[seen.text.rindex("state") :]
    assert "SUCCEEDED" in last
    assert "PERMISSION_DENIED 9" in last
    assert f"gs://{held}/" in last


def test_a_deletion_is_confirmed_by_who_sits_there(look, cli, held):
    purge = ("jobs", "create", "purge", f"--bucket={held}", "--included-object-prefixes=")
    refused = look(*purge, "--delete-object", columns=80, typed="n\n")
    assert refused.code == 1
    assert refused.text.rstrip().endswith("Nothing was created.")
    assert len(cli("jobs", "list").rows) == 1
    assert look(*purge, "--delete-object", columns=80, typed="y\n").code == 0
    assert len(cli("jobs", "list").rows) == 2

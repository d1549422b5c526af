"""Where logs of objects go: what can be said, and what cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore.errors import InvalidArgument
from longshore.settings import load

STORES = '[stores.archive]\nkind = "local"\nbuckets = ["job-logs", "archive-*"]\n'


def _file(folder: Path, to: str, stores: str = STORES) -> Path:
    path = folder / "settings.toml"
    path.write_text(f"{stores}[logs]\nto = '{to}'\n")
    return path


@pytest.mark.parametrize(
    ("to", "bucket", "prefix"),
    [
        ("files", "", ""),
        ("stdout", "", ""),
        ("gs://job-logs", "job-logs", ""),
        ("gs://job-logs/", "job-logs", ""),
        ("gs://job-logs/harbour", "job-logs", "harbour/"),
        ("gs://archive-1/of/the harbour/", "archive-1", "of/the harbour/"),
    ],
)
def test_files_standard_output_or_a_bucket(
    tmp_path: Path, to: str, bucket: str, prefix: str
) -> None:
    settings = load(_file(tmp_path, to), {}, {})
    assert (settings.logs.to, settings.logs.bucket, settings.logs.prefix) == (to, bucket, prefix)
    assert settings.may_use("p", bucket) is not bool(bucket)
    assert settings.may_use("p", "archive-2")


@pytest.mark.parametrize(
    "to",
    [
        *("", "file", "STDOUT", "s3://job-logs", "job-logs", "gs://", "gs:///x", "gs://*/x"),
        *("gs://job-logs//x", "gs://job-logs/x//", "gs://job-logs/../x", "gs://job-logs/x/."),
        *("gs://job-logs/" + 300 * "x", "gs://job-logs/\x7f"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(tmp_path: Path, to: str) -> None:
    with pytest.raises(InvalidArgument, match=r"logs\.to is .* must be 'files', 'stdout', or a b"):
        load(None, {"LONGSHORE_CONFIG": str(_file(tmp_path, "files"))}, {"logs.to": to})


def test_a_bucket_must_be_one_of_a_store_in_the_settings(tmp_path: Path) -> None:
    """Else it would lie in the embedded one: on the disk whose loss it is to survive."""
    for stores in ("", STORES):
        with pytest.raises(InvalidArgument, match=r"'elsewhere', which no store .* \[stores.NAME"):
            load(_file(tmp_path, "gs://elsewhere/x", stores), {}, {})

"""``longshore stores``: what each store can be trusted with, asked of real services."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.terminal import on_terminal
from tests.s3.asking import client_of, contents
from tests.service import Service
from tests.services.s3_servers import S3Server

_names = (f"checked-{number}" for number in itertools.count(1))


@pytest.fixture
def bucket(rclone: S3Server) -> Iterator[str]:
    """One of rclone's, with an object."""
    client, name = client_of(rclone), next(_names)
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="mine", Body=b"precious")
    before = contents(client, name)
    yield name
    assert contents(client, name) == before
    client.close()


def settings(path: Path, data_dir: Path, rclone: S3Server, **options: str) -> Path:
    given = {
        "kind": "s3",
        "endpoint": rclone.endpoint,
        "access_key": rclone.access_key,
        "secret_key": rclone.secret_key,
        **options,
    }
    lines = [f'data_dir = "{data_dir}"', "[stores.rclone]", 'buckets = ["checked-*"]']
    path.write_text("\n".join([*lines, *(f'{key} = "{value}"' for key, value in given.items())]))
    return path


def test_a_check_says_why_not_and_is_kept(
    cli: Cli, service: Service, rclone: S3Server, bucket: str, tmp_path: Path
) -> None:
    config = settings(tmp_path / "l.toml", service.data_dir, rclone)
    rows = cli("stores", "check", "rclone", "--config", config, "--bucket", bucket).rows
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["putObjectHold: temporary hold"][:2] == [
        "refused",
        "On this service PutObjectLegalHold replaces the content of the object by the request's.",
    ]
    assert by_name["deleteObject"][0] == "weaker"
    assert by_name["deleteObject"][2] == "DeleteObjects"
    assert by_name["rewriteObject: KMS key"][:2] == ["not tried", "Give --kms-key to try it."]
    local, store = cli("stores", "list", "--config", config, "--format=json").json
    assert (local["name"], local["endpoint"], local["proofs"]) == ("local", "", [])
    assert (store["name"], store["endpoint"]) == ("rclone", rclone.endpoint)
    effects = {proof["call"]: proof["effect"] for proof in store["proofs"]}
    assert effects["PutObjectLegalHold"] == "destroys"
    assert effects["DeleteObjects"] == "works"
    assert all(proof["proveTime"] >= store["since"] > "2026" for proof in store["proofs"])


def test_a_check_needs_neither_a_service_nor_a_database(
    cli: Cli, rclone: S3Server, bucket: str, tmp_path: Path
) -> None:
    config = settings(tmp_path / "l.toml", tmp_path / "data", rclone, probe_bucket=bucket)
    words = ("stores", "check", "rclone", "--config", config, "--storage-class=STANDARD_IA")
    rows = {(row["transformation"], row["of"]): row for row in cli(*words, "--format=json").json}
    assert rows["setObjectAcls", ""]["code"] == "UNIMPLEMENTED"
    assert rows["rewriteObject", "storage class"]["verdict"] == "refused"
    assert rows["deleteObject", ""]["proofs"][0]["call"] == "DeleteObjects"
    assert not (tmp_path / "data").exists()
    (_, nothing) = cli("stores", "list", "--config", config).rows
    assert nothing[4:] == ["nothing yet", ""]


def test_a_store_of_our_own_has_nothing_to_prove(cli: Cli) -> None:
    rows = cli("stores", "check", "main").rows
    assert len(rows) == 10
    assert {row[1] for row in rows} == {"works"}


def test_wrong_usage_says_what_there_is(cli: Cli, rclone: S3Server, tmp_path: Path) -> None:
    config = settings(tmp_path / "l.toml", tmp_path / "data", rclone)
    unknown = cli("stores", "check", "cehp", "--config", config)
    assert (unknown.code, "there are: local, rclone" in unknown.err) == (2, True)
    nowhere = cli("stores", "check", "rclone", "--config", config)
    assert (nowhere.code, "--bucket, or set stores.rclone.probe_bucket" in nowhere.err) == (2, True)
    missing = cli("stores", "check", "rclone", "--config", config, "--bucket", "not-there")
    assert (missing.code, missing.err) == (
        1,
        "longshore: NOT_FOUND: There is no bucket not-there.\n",
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_its_terminal(
    cli: Cli, rclone: S3Server, bucket: str, tmp_path: Path, columns: int
) -> None:
    config = settings(tmp_path / "l.toml", tmp_path / "data", rclone)
    words = ("stores", "check", "rclone", "--config", str(config), "--bucket", bucket)
    seen = on_terminal(*words, columns=columns, environment=cli.environment)
    assert seen.code == 0
    table = seen.text[seen.text.index("TRANSFORMATION") :]
    headings = ["TRANSFORMATION", "VERDICT", "WHY", *(["NEEDS", "TRIED"] if columns > 80 else [])]
    assert table.splitlines()[0].split() == headings
    assert max(map(len, seen.lines)) <= columns
    assert "…" not in table

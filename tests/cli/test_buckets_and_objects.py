"""``longshore buckets`` and ``longshore objects``, on real stores beside a running service."""

from __future__ import annotations

import pytest
import yaml


def test_a_bucket_lives_and_dies(cli):
    assert cli("buckets", "create", "gs://docks", "--retention-period=2h", "--versioning").code == 0
    described = cli("buckets", "describe", "docks", "--format=json").json
    assert described["name"] == "docks"
    assert described["store"] == "main"
    assert (described["versioning"], described["retentionPeriodSeconds"]) == (True, 7200)
    updated = cli("buckets", "update", "docks", "--retention-period=0", "--no-versioning")
    assert updated.code == 0
    rules = cli("buckets", "describe", "docks", "--format=value(versioning,retentionPeriodSeconds)")
    assert rules.out == "false\t0\n"
    assert cli("buckets", "delete", "docks").code == 0
    gone = cli("buckets", "describe", "docks")
    assert gone.code == 1
    assert gone.err.startswith("longshore: NOT_FOUND: ")
    assert "docks" in gone.err
    assert gone.err.count("\n") == 1


def test_a_bucket_is_created_once_and_deleted_empty(cli, bucket, files):
    assert "ALREADY_EXISTS" in cli("buckets", "create", bucket).err
    cli("objects", "import", files, f"{bucket}/")
    refused = cli("buckets", "delete", bucket)
    assert refused.code == 1
    assert "FAILED_PRECONDITION" in refused.err


@pytest.mark.parametrize("name", ["", "-a", "UPPER", "a/b", "a" * 223, "..", "a\x1b[2J"])
def test_a_wrong_bucket_name_is_wrong_usage(cli, name):
    refused = cli("buckets", "create", "--", name)
    assert refused.code == 2
    assert "1 to 222" in refused.err
    assert "\x1b" not in refused.err


def test_short_bucket_names_are_good(cli):
    assert cli("buckets", "create", "b").code == 0
    assert ["b", "main"] in [row[:2] for row in cli("buckets", "list").rows]
    assert cli("buckets", "delete", "b").code == 0


@pytest.mark.parametrize("period", ["1w", "-1", "soon", "1.5h"])
def test_a_wrong_duration_is_wrong_usage(cli, period):
    assert cli("buckets", "create", "never", f"--retention-period={period}").code == 2


def test_an_update_says_what_to_change(cli, bucket):
    assert cli("buckets", "update", bucket).code == 2


def test_files_become_objects_below_the_prefix(cli, bucket, files):
    imported = cli("objects", "import", files, f"gs://{bucket}/old-")
    assert (imported.code, imported.err) == (0, "")
    assert imported.out.startswith(f"Imported 9 objects (115 B) into gs://{bucket}/old- in ")
    names = [row[0] for row in cli("objects", "list", bucket).rows]
    paths = (path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())
    assert names == sorted((f"old-{path}" for path in paths), key=str.encode)
    assert cli("objects", "cat", f"{bucket}/old-é").out == "this is é"


def test_a_slash_after_the_bucket_is_no_prefix(cli, bucket, files):
    cli("objects", "import", files, f"{bucket}/")
    without = cli("objects", "list", bucket).rows
    assert [row[0] for row in without] == sorted([row[0] for row in without], key=str.encode)
    assert without[0][0] == "-"
    described = cli("objects", "describe", f"gs://{bucket}/a.txt", "--format=json").json
    assert described["size"] == str(len("this is a.txt"))
    assert described["bucket"] == bucket


def test_an_import_replaces_and_keeps_no_link_nor_its_own_data(cli, bucket, files, service):
    cli("objects", "import", files, bucket)
    (files / "a.txt").write_text("newer")
    (files / "link").symlink_to(files / "b c")
    (files / "loop").symlink_to(files)
    (files / "data").symlink_to(service.data_dir)
    again = cli("objects", "import", files, bucket)
    assert again.code == 0
    assert "9 objects" in again.out
    assert "3 links" in again.out
    assert cli("objects", "cat", f"{bucket}/a.txt").out == "newer"
    assert len(cli("objects", "list", bucket).rows) == 9


def test_the_data_directory_is_not_imported_into_itself(cli, files, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.setenv("LONGSHORE_CONFIG", "")
    assert cli("buckets", "create", "own").code == 0
    assert (files / "longshore-data").is_dir()
    assert "Imported 9 objects" in cli("objects", "import", ".", "own").out


def test_what_cannot_be_imported_is_refused_by_name_and_the_rest_is_imported(cli, bucket, files):
    (files / "logs" / "bad\udcff").write_text("no UTF-8")
    (files / "dir\udcfe").mkdir()
    (files / "dir\udcfe" / "inside").write_text("x")
    deep = files / ("d" * 250)
    for _ in range(4):
        deep = deep / ("d" * 250)
    deep.mkdir(parents=True)
    (deep / "far").write_text("a name of 1,258 bytes")
    ended = cli.process("objects", "import", files, bucket)
    assert ended.code == 1
    assert "Imported 9 objects" in ended.out
    assert "3 refused" in ended.out
    assert "Traceback" not in ended.err
    for part in ("bad", "dir", "d/far"):
        assert any(part in line for line in ended.err.splitlines()), ended.err
    assert len(cli("objects", "list", bucket).rows) == 9


def test_a_held_object_is_not_replaced(cli, files):
    cli("buckets", "create", "held", "--default-event-based-hold")
    assert cli("objects", "import", files, "held").code == 0
    refused = cli("objects", "import", files / "logs", "held/logs/")
    assert refused.code == 1
    assert "logs/1: " in refused.err
    assert "hold" in refused.err
    assert "Imported 0 objects" in refused.out


def test_an_import_needs_a_directory_and_a_bucket(cli, bucket, files):
    assert cli("objects", "import", files / "nowhere", bucket).code == 2
    assert cli("objects", "import", files / "a.txt", bucket).code == 2
    missing = cli("objects", "import", files, "no-such-bucket/p")
    assert missing.code == 1
    assert "no-such-bucket" in missing.err


def test_many_files_are_imported_in_time(cli, bucket, tmp_path):
    many = tmp_path / "many"
    for folder in range(10):
        (many / f"d{folder}").mkdir(parents=True)
        for number in range(250):
            (many / f"d{folder}" / f"f{number:04d}").write_bytes(b"x" * 1000)
    assert "Imported 2,500 objects (2.4 MiB)" in cli("objects", "import", many, bucket).out
    listed = cli("objects", "list", bucket, "--prefix=d7/", "--format=value(name,size)").rows
    assert listed == [[f"d7/f{number:04d}", "1000"] for number in range(250)]


def test_lists_in_every_format(cli, bucket, files):
    cli("objects", "import", files, bucket)
    empty = ("objects", "list", bucket, "--prefix=none")
    assert cli(*empty, "--format=json").json == []
    assert cli(*empty).out == ""
    some = ("objects", "list", bucket, "--prefix=logs/")
    in_json = cli(*some, "--format=json").json
    assert [one["name"] for one in in_json] == ["logs/1", "logs/2", "logs/3"]
    assert list(yaml.safe_load_all(cli(*some, "--format=yaml").out)) == in_json
    assert cli(*some, "--limit=2", "--format=value(name, size)").rows == [
        ["logs/1", "14"],
        ["logs/2", "14"],
    ]
    assert [row[0] for row in cli(*some).rows] == ["logs/1", "logs/2", "logs/3"]
    assert cli(*some, "--format=csv").code == 2


def test_a_name_cannot_move_the_cursor(cli, bucket, files):
    name = "clear\x1b[2Jtab\tline\n"
    (files / name).write_text("x")
    cli("objects", "import", files, f"{bucket}/")
    plain = cli("objects", "list", bucket, "--prefix=clear").out
    assert plain.startswith("clear\\x1b[2Jtab\\tline\\n\t1\t")
    assert cli("objects", "list", bucket, "--prefix=clear", "--format=json").json[0]["name"] == name
    missing = cli("objects", "describe", f"{bucket}/no\x1b[2J")
    assert missing.code == 1
    assert "\x1b" not in missing.err


def test_versions_are_listed_read_and_deleted(cli, files):
    cli("buckets", "create", "tides", "--versioning")
    for content in ("ebb", "flow"):
        (files / "a.txt").write_text(content)
        cli("objects", "import", files, "tides")
    versions = cli("objects", "list", "tides", "--prefix=a.txt", "--all-versions", "--format=json")
    newest, oldest = versions.json
    assert (newest["live"], oldest["live"]) == (True, False)
    generation = oldest["generation"]
    assert cli("objects", "cat", "tides/a.txt").out == "flow"
    assert cli("objects", "cat", "tides/a.txt", f"--generation={generation}").out == "ebb"
    assert cli("objects", "delete", "tides/a.txt", f"--generation={generation}").code == 0
    gone = cli("objects", "describe", "tides/a.txt", f"--generation={generation}")
    assert "NOT_FOUND" in gone.err
    assert generation in gone.err
    assert cli("objects", "delete", "tides/a.txt").code == 0
    assert cli("objects", "delete", "tides/a.txt").code == 1
    assert cli("objects", "delete", "tides/a.txt", "--all-versions").code == 0
    assert cli("objects", "delete", "tides/a.txt", "--all-versions").code == 1
    assert cli("objects", "list", "tides", "--prefix=a.txt", "--all-versions").out == ""


def test_a_held_object_is_not_deleted(cli, files):
    cli("buckets", "create", "kept", "--default-event-based-hold")
    cli("objects", "import", files, "kept")
    refused = cli("objects", "delete", "kept/a.txt")
    assert refused.code == 1
    assert refused.err.startswith("longshore: PERMISSION_DENIED: ")
    assert (
        cli("objects", "describe", "kept/a.txt", "--format=value(eventBasedHold)").out == "true\n"
    )


@pytest.mark.parametrize("words", [("describe", "b"), ("cat", "b/"), ("delete", "gs://b")])
def test_an_object_has_a_name(cli, words):
    refused = cli("objects", *words)
    assert refused.code == 2
    assert "BUCKET/NAME" in refused.err


def test_any_bytes_come_out_as_they_went_in(cli, bucket, files):
    content = bytes(range(256)) * 5000
    (files / "blob").write_bytes(content)
    cli("objects", "import", files, bucket)
    with cli.start("objects", "cat", f"{bucket}/blob") as process:
        assert process.stdout.buffer.read() == content
    assert process.returncode == 0

"""gcsfs, unmodified, against the emulator: files as pandas, Dask and Zarr see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.testing import Emulator

pytestmark = pytest.mark.services
BUCKET = "gcsfs-bucket"
BLOCK = 256 << 10  # the smallest that it has
LARGE = bytes(range(256)) * 3_500  # in several blocks


@pytest.fixture(scope="module")
def fs(longshore_emulator: Emulator) -> Iterator[object]:
    with pytest.MonkeyPatch.context() as environment:
        # Else it asks for the bucket's layout by gRPC, of Google itself.
        environment.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        import gcsfs
        from fsspec.asyn import sync

        made = gcsfs.GCSFileSystem(
            project="local",
            token="anon",
            endpoint_url=longshore_emulator.url,
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        made.mkdir(BUCKET)
        yield made
        made.rm(BUCKET, recursive=True)
        assert not made.exists(BUCKET)
        sync(made.loop, made.session.close)


def names(paths: list[str]) -> list[str]:
    return sorted(path.removeprefix(f"{BUCKET}/") for path in paths)


def test_a_folder_goes_up_and_comes_down(fs, tmp_path: Path) -> None:
    cargo = tmp_path / "cargo"
    (cargo / "sub dir").mkdir(parents=True)
    (cargo / "a.txt").write_text("hello")
    (cargo / "empty").touch()
    (cargo / "sub dir" / "ü.txt").write_text("below")
    (cargo / "large").write_bytes(LARGE)
    fs.put(str(cargo), f"{BUCKET}/up", recursive=True, chunksize=BLOCK)
    listed = ["up/a.txt", "up/empty", "up/large", "up/sub dir/ü.txt"]
    assert names(fs.find(f"{BUCKET}/up")) == listed
    assert names(fs.ls(f"{BUCKET}/up", detail=False)) == [*listed[:3], "up/sub dir"]
    assert names(fs.glob(f"{BUCKET}/up/**/*.txt")) == ["up/a.txt", "up/sub dir/ü.txt"]
    assert names(fs.glob(f"{BUCKET}/up/*.txt")) == ["up/a.txt"]
    assert fs.du(f"{BUCKET}/up") == 5 + 5 + len(LARGE)
    fs.get(f"{BUCKET}/up", str(tmp_path / "down"), recursive=True)
    for path in ("a.txt", "empty", "large", "sub dir/ü.txt"):
        assert (tmp_path / "down" / path).read_bytes() == (cargo / path).read_bytes()


def test_what_is_known_of_an_object(fs) -> None:
    fs.pipe(f"{BUCKET}/info", b"hello", content_type="text/plain", metadata={"k": "v"})
    info = fs.info(f"{BUCKET}/info")
    assert (info["type"], info["size"], info["contentType"]) == ("file", 5, "text/plain")
    assert fs.getxattr(f"{BUCKET}/info", "k") == "v"
    fs.setxattrs(f"{BUCKET}/info", content_type="text/csv", l="w")
    assert fs.info(f"{BUCKET}/info")["contentType"] == "text/csv"
    assert fs.getxattr(f"{BUCKET}/info", "l") == "w"
    assert fs.checksum(f"{BUCKET}/info") == fs.checksum(f"{BUCKET}/info")
    assert fs.isdir(BUCKET)
    with pytest.raises(FileNotFoundError):
        fs.info(f"{BUCKET}/none")


def test_ranges_of_a_content(fs) -> None:
    fs.pipe(f"{BUCKET}/large", LARGE)
    assert fs.cat_file(f"{BUCKET}/large", 3, 9) == LARGE[3:9]
    assert fs.cat_file(f"{BUCKET}/large", -7) == LARGE[-7:]
    ranges = fs.cat_ranges([f"{BUCKET}/large"] * 2, [0, 500_000], [10, 500_100])
    assert ranges == [LARGE[:10], LARGE[500_000:500_100]]
    with fs.open(f"{BUCKET}/large", "rb", block_size=BLOCK) as file:
        file.seek(250_000)
        assert file.read(500_000) == LARGE[250_000:750_000]
    assert fs.cat(f"{BUCKET}/large") == LARGE


def test_a_file_is_written_in_blocks(fs) -> None:
    with fs.open(f"{BUCKET}/blocks", "wb", block_size=BLOCK) as file:
        for start in range(0, len(LARGE), 70_000):
            file.write(LARGE[start : start + 70_000])
    assert fs.cat(f"{BUCKET}/blocks") == LARGE
    with fs.open(f"{BUCKET}/text", "w") as file:
        file.write("line\n" * 3)
    with fs.open(f"{BUCKET}/text") as file:
        assert file.readlines() == [b"line\n"] * 3


def test_objects_are_copied_moved_merged_and_removed(fs) -> None:
    for name in ("a", "b"):
        fs.pipe(f"{BUCKET}/of/{name}", name.encode())
    fs.cp(f"{BUCKET}/of/a", f"{BUCKET}/of/c")
    fs.mv(f"{BUCKET}/of/b", f"{BUCKET}/of/d")
    assert names(fs.ls(f"{BUCKET}/of", detail=False)) == ["of/a", "of/c", "of/d"]
    fs.merge(f"{BUCKET}/of/all", [f"{BUCKET}/of/a", f"{BUCKET}/of/d"])
    assert fs.cat(f"{BUCKET}/of/all") == b"ab"
    fs.rm(f"{BUCKET}/of/a")
    fs.rm([f"{BUCKET}/of/c", f"{BUCKET}/of/d"])
    assert names(fs.find(f"{BUCKET}/of")) == ["of/all"]
    fs.mv(f"{BUCKET}/of", f"{BUCKET}/to", recursive=True)
    assert names(fs.find(f"{BUCKET}/to")) == ["to/all"]


def test_of_several_writers_of_a_new_file_one_wins(fs) -> None:
    fs.pipe(f"{BUCKET}/new", b"1", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe(f"{BUCKET}/new", b"2", mode="create")
    assert fs.cat(f"{BUCKET}/new") == b"1"

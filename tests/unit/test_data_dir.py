"""Who a data directory says that it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from longshore.data_dir import identity


def test_a_directory_stays_who_it_is_while_the_machine_runs(tmp_path: Path) -> None:
    first = identity(tmp_path)
    assert len(first) == 32
    assert identity(tmp_path) == first


def test_a_directory_of_before_this_was_written_down_stays_who_it_is(tmp_path: Path) -> None:
    first = identity(tmp_path)
    (tmp_path / "boot").unlink()
    assert identity(tmp_path) == first


def test_a_copy_on_another_machine_is_somebody_else(tmp_path: Path) -> None:
    here, image = tmp_path / "here", tmp_path / "image"
    here.mkdir()
    first = identity(here)
    (here / "boot").write_text("5d1f\n")  # as on the machine that the image was made of
    shutil.copytree(here, image)
    copy, again = identity(image), identity(here)
    assert len({first, copy, again}) == 3
    assert (identity(image), identity(here)) == (copy, again)


def test_who_ends_between_the_two_files_is_somebody_else_all_the_same(tmp_path: Path) -> None:
    first = identity(tmp_path)
    (tmp_path / "boot").write_text("5d1f\n")
    (tmp_path / "boot.new").mkdir()  # so that the second file cannot be written
    with pytest.raises(IsADirectoryError):
        identity(tmp_path)
    (tmp_path / "boot.new").rmdir()
    assert identity(tmp_path) != first

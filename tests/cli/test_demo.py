"""The demo, on few objects: it ends well when all is right, and only then."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from longshore.cli import demo

pytestmark = pytest.mark.timeout(300)  # minutes go by where many tests share few cores
FILES = {"logs": 360, "photos": 180, "legal": 60}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(demo, "FILES", FILES)
    monkeypatch.setattr(demo, "TOTAL", 600)
    monkeypatch.setattr(demo, "RATE", 120)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_tells_every_chapter_and_every_figure_agrees(cli, tmp_path):
    told = cli("demo", f"--directory={tmp_path / 'demo'}")
    assert told.code == 0, told
    assert "Every figure is right." in told.out
    for line in (
        "✓ would be deleted: the API says 600, the bucket 600",
        "✓ held: the API says 60, the bucket 60",
        "✓ changed: the API says 180, the bucket 180",
        "✓ deleted: the API says 540, the bucket 540",
        "✓ refused: the API says 60, the bucket 60",
        "✓ deleted: the API says 600, the bucket 600",
    ):
        assert line in told.out
    assert told.out.count(" yes") == 6
    assert max(map(len, told.out.splitlines())) <= 100
    again = cli("demo", f"--directory={tmp_path / 'demo'}")
    assert again.code == 2
    assert "is not empty" in again.err


def test_a_figure_that_is_not_as_it_must_be_fails_it(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(demo.FILES, "legal", 61)
    monkeypatch.setattr(demo, "RATE", 1_000_000)
    told = cli("demo", f"--directory={tmp_path / 'demo'}")
    assert told.code == 1
    assert "Every figure" not in told.out
    # 600 objects are expected, and there are 601: whatever is done to all of them is wrong. So is a
    # job that was over before it was cancelled.
    assert "✗ expected 600: would be deleted: the API says 601, the bucket 601" in told.out
    assert told.out.count(" yes") == 2
    assert told.out.count(" NO") == 4


def test_a_demo_that_is_ended_leaves_nothing_behind(cli, tmp_path):
    small = f"from longshore.cli import demo, main; demo.FILES = {FILES}; main(['demo'])"
    with subprocess.Popen(
        [sys.executable, "-c", small],
        env={**cli.environment, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as told:
        while "serving on" not in (line := told.stdout.readline()):
            assert line
        told.terminate()
        told.stdout.read()
    assert told.returncode == 130
    assert list(tmp_path.iterdir()) == []

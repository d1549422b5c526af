"""Logs of jobs on standard output: whole lines, whoever writes, and readers that stop or go."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from longshore.engine import log_output
from longshore.engine.log_output import PIPE_BUF, Output
from longshore.errors import Unavailable


class Pipe:
    """What stands for standard output, and its reader."""

    def __init__(self) -> None:
        self.source, self.sink = os.pipe()
        self.read = b""
        self._thread = threading.Thread(target=self._read)

    def start(self) -> None:
        """Read from now on."""
        self._thread.start()

    def _read(self) -> None:
        while piece := os.read(self.source, 1 << 16):
            self.read += piece

    def lines(self) -> list[bytes]:
        """Everything that was written, once nobody writes any more."""
        os.close(self.sink)
        self._thread.join()
        return self.read.split(b"\n")


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe()
    monkeypatch.setattr(log_output, "STANDARD_OUTPUT", pipe.sink)
    yield pipe
    for end in (pipe.source, pipe.sink):
        with suppress(OSError):
            os.close(end)


def _records(writer: int, chance: random.Random) -> list[bytes]:
    """Some short lines, and some that no pipe takes at once."""
    return [
        orjson.dumps([writer, number, "x" * chance.choice((1, 300, 4_000, 20_000))]) + b"\n"
        for number in range(60)
    ]


async def test_lines_of_many_writers_stay_whole(pipe: Pipe, tmp_path: Path) -> None:
    """Those of a batch together, in their order; and what somebody else writes to the same pipe is
    in none that is short."""
    chance = random.Random(1)
    pipe.start()
    batches = {writer: _records(writer, chance) for writer in range(8)}
    outputs = [
        Output(tmp_path / "lock", stalls=10) for _ in range(4)
    ]  # each with a lock of its own
    over = threading.Event()

    def disturb() -> None:
        while not over.wait(0.0005):
            os.write(pipe.sink, b"an event\n")

    other = threading.Thread(target=disturb)
    other.start()
    writing = [outputs[writer % 4].keep(iter(batches[writer])) for writer in batches]
    await asyncio.gather(*writing)
    over.set()
    other.join()
    *lines, end = pipe.lines()
    assert end == b""
    short = [line + b"\n" for line in lines if line.startswith(b"[") and len(line) < PIPE_BUF]
    found = [orjson.loads(line)[0] for line in short if not line.endswith(b"an event\n")]
    assert found == sorted(found, key=list(dict.fromkeys(found)).index)
    for records in batches.values():
        wanted = [record for record in records if len(record) <= PIPE_BUF]
        assert [line for line in short if line in wanted] == wanted


async def test_long_lines_stay_whole_among_ours(pipe: Pipe, tmp_path: Path) -> None:
    pipe.start()
    batches = [_records(writer, random.Random(writer)) for writer in range(8)]
    outputs = [Output(tmp_path / "lock", stalls=10) for _ in range(4)]
    await asyncio.gather(*(outputs[i % 4].keep(iter(one)) for i, one in enumerate(batches)))
    lines = pipe.lines()
    assert sorted(lines) == sorted([b"", *(line[:-1] for one in batches for line in one)])


async def test_a_reader_that_is_gone_is_an_error_that_says_so(pipe: Pipe, tmp_path: Path) -> None:
    os.close(pipe.source)
    with pytest.raises(BrokenPipeError) as caught:
        await Output(tmp_path / "lock", stalls=10).keep(iter([b"{}\n"]))
    assert caught.value.filename == "standard output"


async def test_a_reader_that_takes_nothing_holds_up_nobody_else(pipe: Pipe, tmp_path: Path) -> None:
    """And when it reads again, each line that was kept is there, and none is cut by another."""
    output = Output(tmp_path / "lock", stalls=0.7)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    long = [orjson.dumps([number, "x" * 150_000]) + b"\n" for number in range(2)]
    writing = asyncio.create_task(output.keep(iter(long)))
    also = asyncio.create_task(output.keep(iter([b'"also"\n'])))
    other = asyncio.create_task(asyncio.to_thread(str, 1))
    done, _ = await asyncio.wait({writing, also, other}, return_when=asyncio.FIRST_COMPLETED)
    assert done == {other}
    for task in (writing, also):
        with pytest.raises(Unavailable, match=r"standard output has taken nothing for 0.7 s"):
            await task
    pipe.start()
    await output.keep(iter(long))
    cut, *lines, end = pipe.lines()
    assert long[0].startswith(cut)
    assert [line + b"\n" for line in lines] == long
    assert end == b""


async def test_whoever_comes_after_one_that_died_begins_a_line(pipe: Pipe, tmp_path: Path) -> None:
    """Also in another process: the lock's file says so."""
    (tmp_path / "lock").write_bytes(b"\n")
    os.write(pipe.sink, b'{"half')
    pipe.start()
    for number in range(2):
        await Output(tmp_path / "lock", stalls=10).keep(iter([b"%d\n" % number]))
    await Output(tmp_path / "lock", stalls=10).keep(iter([]))
    assert pipe.lines() == [b'{"half', b"0", b"1", b""]

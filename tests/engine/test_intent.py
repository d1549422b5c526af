"""The intent: what is unpacked is what was packed, and it stays small."""

from __future__ import annotations

import random
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.engine.intent import NEEDED, PINNED, Intent
from longshore.errors import Code, DataLoss
from longshore.store import ABSENT, Failure
from longshore.transformation import ContextDelta

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
row = st.tuples(
    names,
    st.integers(ABSENT, 2**62),
    st.integers(0, 2**50),
    st.integers(0, 255),
    st.tuples(*[st.integers(0, 60)] * 3).map(lambda counts: ContextDelta(*counts)),
    st.text("0123456789abcdef", max_size=16),
)


@given(st.lists(row, max_size=30), st.booleans(), st.booleans(), st.booleans())
def test_what_is_unpacked_is_what_was_packed(
    rows: list[tuple[str, int, int, int, ContextDelta, str]],
    contexts: bool,
    checksums: bool,
    refused: bool,
) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(6)]
    failure = Failure(Code.INVALID_ARGUMENT, "line 7: \x00 ümlaut")
    intent = Intent(
        names=columns[0],
        generations=columns[1],
        sizes=columns[2],
        flags=bytes(columns[3]),
        contexts=list(map(list, zip(*columns[4], strict=True))) if contexts and rows else (),
        checksums=columns[5] if checksums and rows else (),
        refused={0: failure} if refused and rows else {},
    )
    assert Intent.unpack(intent.pack()) == intent


def test_names_of_1024_bytes_with_any_character_survive() -> None:
    long = ["\x00\x1f" + "é" * 511, "\n" * 1024, "😀" * 256]
    flags = bytes([NEEDED, PINNED, 0])
    intent = Intent(names=long, generations=[3, 2, 1], sizes=[0, 0, 0], flags=flags)
    assert Intent.unpack(intent.pack()) == intent


def _thousand(names_: list[str]) -> Intent:
    choose = random.Random(1)
    first = 1_795_000_000_000_000
    generations = [first + choose.randrange(86_400_000_000) for _ in names_]
    sizes = [choose.randrange(1 << 20) for _ in names_]
    flags = bytes([NEEDED]) * len(names_)
    return Intent(names=names_, generations=generations, sizes=sizes, flags=flags)


def test_a_uuid_name_takes_at_most_30_bytes() -> None:
    choose = random.Random(2)
    names_ = sorted(str(uuid.UUID(int=choose.getrandbits(128))) for _ in range(1_000))
    assert len(_thousand(names_).pack()) <= 30_000


def test_a_log_file_name_takes_at_most_16_bytes() -> None:
    choose = random.Random(3)
    names_ = sorted(
        f"logs/2026/11/24/03/host-{choose.randrange(40):03d}/access-{choose.getrandbits(32):010d}.log"
        for _ in range(1_000)
    )
    assert len(_thousand(names_).pack()) <= 16_000


def test_packing_takes_at_most_0_6_microseconds_an_object() -> None:
    intent = _thousand([f"logs/2026/11/24/host-17/access-{n:08d}.log.gz" for n in range(1_000)])

    def once() -> float:
        began = time.process_time()
        for _ in range(20):
            intent.pack()
        return (time.process_time() - began) / 20

    assert min(once() for _ in range(5)) / 1_000 <= 0.6e-6 * 2, "twice the bound, for slow machines"


def test_an_unknown_format_is_data_loss() -> None:
    with pytest.raises(DataLoss, match="format 9"):
        Intent.unpack(b"\x09" + bytes(40))

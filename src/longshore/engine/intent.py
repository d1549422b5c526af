"""The intent: what a batch is about to do, as columns, and as few bytes in the database.

Packed, an object takes its name (compressed by zstd with its neighbours), its generation as the
difference to the one before or to the lowest, whichever is shorter, and next to nothing for columns
that do not vary. Names may hold any character, so they are told apart by their lengths. Integers
are stored byte plane by byte plane: the planes that are all zero then vanish in the compression.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from operator import sub

import orjson
import zstandard

from longshore.errors import Code, DataLoss
from longshore.store import Failure
from longshore.transformation import ContextDelta

MAX_TRIES = 5
"""How often an object that keeps moving is announced again before it is given up as ABORTED."""

NEEDED = 0x80
"""Flag: needs a call. Without it the object already is as it should be, or cannot be tried."""
PINNED = 0x40
"""Flag: the generation was named by the user and is never left for a newer one."""
TRIES = 0x0F
"""Mask: how often the object has been announced before."""

_FORMAT = 1
_PREFIX = struct.Struct("<BI")
_HEADER = struct.Struct("<BqIII")
_HAS_CONTEXTS = 1
_HAS_CHECKSUMS = 2
_IN_STEPS = 4
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Announced objects, as columns of equal length.

    ``generations``: ABSENT where there was nothing. ``sizes``: the bytes that the counters will
    gain, 0 where none. ``contexts`` and ``checksums`` are empty where the transformation needs
    none. ``refused``: entries that cannot be tried at all, by index.
    """

    names: Sequence[str]
    generations: Sequence[int]
    sizes: Sequence[int]
    flags: Sequence[int]
    contexts: Sequence[ContextDelta] = ()
    checksums: Sequence[str] = ()
    refused: Mapping[int, Failure] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def pack(self) -> bytes:
        """The bytes for the database."""
        text = "".join(self.names)
        joined = text.encode()
        if len(joined) == len(text):  # then characters are bytes
            lengths = map(len, self.names)
        else:
            lengths = map(len, map(str.encode, self.names))
        refused = [[index, one.code, one.message] for index, one in self.refused.items()]
        refused_json = orjson.dumps(refused) if refused else b""
        base, generations, kinds = _near(self.generations)
        sums = [text.encode() for text in self.checksums]
        kinds |= (_HAS_CONTEXTS if self.contexts else 0) | (_HAS_CHECKSUMS if sums else 0)
        sums_joined = b"".join(sums)
        parts = [
            _HEADER.pack(kinds, base, len(self.names), len(sums_joined), len(refused_json)),
            _planes(lengths, "H"),
            _planes(generations, "q"),
            _planes(self.sizes, "q"),
            bytes(self.flags),
        ]
        if self.contexts:
            parts += [_planes(column, "I") for column in zip(*self.contexts, strict=True)]
        if sums:
            parts += [_planes(map(len, sums), "H"), sums_joined]
        parts.append(refused_json)
        # Names by themselves: what is rare in one kind of data is common in the other.
        packed_names = _compress(joined)
        return _PREFIX.pack(_FORMAT, len(packed_names)) + packed_names + _compress(b"".join(parts))

    @staticmethod
    def unpack(data: bytes) -> Intent:
        """The intent behind ``data``; raises DataLoss for what no version of longshore wrote."""
        version, names_size = _PREFIX.unpack_from(data)
        if version != _FORMAT:
            raise DataLoss(f"An intent of format {version} cannot be read; this is {_FORMAT}.")
        numbers = _PREFIX.size + names_size
        joined = _decompress(data[_PREFIX.size : numbers])
        reader = _Reader(_decompress(data[numbers:]))
        kinds, base, count, sums_size, refused_size = _HEADER.unpack(reader.take(_HEADER.size))
        names = _split(joined, reader.column("H", count))
        generations = reader.column("q", count)
        if kinds & _IN_STEPS:
            generations = list(accumulate(generations, initial=base))[1:]
        else:
            generations = [base + above for above in generations]
        sizes = reader.column("q", count)
        flags = list(reader.take(count))
        contexts: Sequence[ContextDelta] = ()
        if kinds & _HAS_CONTEXTS:
            columns = [reader.column("I", count) for _ in ContextDelta._fields]
            contexts = [ContextDelta(*row) for row in zip(*columns, strict=True)]
        checksums: Sequence[str] = ()
        if kinds & _HAS_CHECKSUMS:
            lengths = reader.column("H", count)
            checksums = _split(reader.take(sums_size), lengths)
        rows = orjson.loads(reader.take(refused_size)) if refused_size else []
        return Intent(
            names=names,
            generations=generations,
            sizes=sizes,
            flags=flags,
            contexts=contexts,
            checksums=checksums,
            refused={index: Failure(Code(code), message) for index, code, message in rows},
        )


def _near(generations: Sequence[int]) -> tuple[int, list[int], int]:
    """A base and small numbers that stand for ``generations``: the steps from one to the next if
    they mostly are in order, else what each is above the lowest."""
    base = min(generations, default=0)
    steps = list(map(sub, generations, chain((base,), generations)))
    if sum(map(abs, steps)) * 8 < (max(generations, default=0) - base) * len(steps):
        return base, steps, _IN_STEPS
    return base, [generation - base for generation in generations], 0


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def column(self, kind: str, count: int) -> list[int]:
        column = array(kind)
        raw = bytearray(count * column.itemsize)
        planes = self.take(len(raw))
        for plane in range(column.itemsize):
            raw[plane :: column.itemsize] = planes[plane * count : (plane + 1) * count]
        column.frombytes(raw)
        return column.tolist()


def _planes(values: Iterable[int], kind: str) -> bytes:
    column = array(kind, values)
    raw = column.tobytes()
    return b"".join(raw[plane :: column.itemsize] for plane in range(column.itemsize))


def _split(joined: bytes, lengths: Sequence[int]) -> list[str]:
    ends = accumulate(lengths, initial=0)
    return [joined[start:end].decode() for start, end in pairwise(ends)]

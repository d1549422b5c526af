"""The intent: what a batch is about to do, as columns, and as few bytes in the database.

Packed, an object takes its name (compressed by zstd with its neighbours), what its generation has
not in common with theirs, and next to nothing for columns that do not vary. Names may hold any
character, so they are told apart by their lengths. Integers are stored byte plane by byte plane:
the planes that are all alike, as the upper ones of times are, then vanish in the compression.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

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

_FORMAT = 2
_PREFIX = struct.Struct("<BI")
_HEADER = struct.Struct("<BIII")
_HAS_CONTEXTS = 1
_HAS_CHECKSUMS = 2
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Announced objects, as columns of equal length.

    ``generations``: ABSENT where there was nothing. ``sizes``: the bytes that the counters will
    gain, 0 where none. ``contexts``: a column for each field of ContextDelta. They and
    ``checksums`` are empty where the transformation needs none. ``refused``: entries that cannot be
    tried at all, by index.
    """

    names: Sequence[str]
    generations: Sequence[int]
    sizes: Sequence[int]
    flags: bytes
    contexts: Sequence[Sequence[int]] = ()
    checksums: Sequence[str] = ()
    refused: Mapping[int, Failure] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def pack(self) -> bytes:
        """The bytes for the database."""
        names, lengths = _joined(self.names)
        refused = [[index, one.code, one.message] for index, one in self.refused.items()]
        refused_json = orjson.dumps(refused) if refused else b""
        kinds = (_HAS_CONTEXTS if self.contexts else 0) | (_HAS_CHECKSUMS if self.checksums else 0)
        checksums, checksum_lengths = _joined(self.checksums)
        parts = [
            _HEADER.pack(kinds, len(self.names), len(checksums), len(refused_json)),
            _planes(lengths, "H"),
            _planes(self.generations, "q"),
            _planes(self.sizes, "q"),
            self.flags,
            *(_planes(column, "I") for column in self.contexts),
            _planes(checksum_lengths, "H"),
            checksums,
            refused_json,
        ]
        # Names by themselves: what is rare in one kind of data is common in the other.
        packed_names = _compress(names)
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
        kinds, count, sums_size, refused_size = _HEADER.unpack(reader.take(_HEADER.size))
        names = _split(joined, reader.column("H", count))
        generations = reader.column("q", count)
        sizes = reader.column("q", count)
        flags = reader.take(count)
        contexts: Sequence[Sequence[int]] = ()
        if kinds & _HAS_CONTEXTS:
            contexts = [reader.column("I", count) for _ in ContextDelta._fields]
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


def _planes(values: Sequence[int], kind: str) -> bytes:
    if values and values[0] == values[-1] and values.count(values[0]) == len(values):
        column = array(kind, values[:1]) * len(values)
    else:
        column = array(kind, values)
    raw = column.tobytes()
    return b"".join(raw[plane :: column.itemsize] for plane in range(column.itemsize))


def _joined(texts: Sequence[str]) -> tuple[bytes, list[int]]:
    """All texts in one, and the bytes of each."""
    text = "".join(texts)
    joined = text.encode()
    if len(joined) == len(text):  # then characters are bytes
        return joined, list(map(len, texts))
    return joined, [len(one.encode()) for one in texts]


def _split(joined: bytes, lengths: Sequence[int]) -> list[str]:
    ends = accumulate(lengths, initial=0)
    text = joined.decode()
    if len(joined) == len(text):
        return [text[start:end] for start, end in pairwise(ends)]
    return [joined[start:end].decode() for start, end in pairwise(ends)]

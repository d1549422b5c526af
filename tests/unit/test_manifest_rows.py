"""The rows of a manifest: what is read, what is refused, and that reading may begin anew anywhere
between two rows."""

import asyncio
import codecs
import csv
import io
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.errors import Code, InvalidArgument
from longshore.sources import manifest
from longshore.sources.manifest import Reader, Rows
from longshore.store import Failure
from tests.unit.messages import message

BUCKET = "harbour"
FILE = "gs://lists/all/manifest.csv"


async def pieces_of(content: bytes, size: int) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(
    content: bytes,
    *,
    bucket: str = BUCKET,
    limit: int = 1000,
    piece: int = 1 << 16,
    restart: bool = False,
    offset: int = 0,
) -> Rows:
    """Everything in ``content``, in batches of ``limit``; with ``restart`` from a new reader for
    each of them, as if the worker had died in between."""
    everything = Rows(bucket=bucket, file=FILE)
    reader = Reader(pieces_of(content, piece), offset=offset, line=1)
    while rows := await reader.take(Rows(bucket=bucket, file=FILE), limit):
        assert len(rows) <= limit
        everything.names.extend(rows.names)
        everything.generations.extend(rows.generations)
        assert not everything.refused.keys() & rows.refused.keys()
        everything.problems.update(rows.problems)
        if restart:
            rest = pieces_of(content[reader.offset - offset :], piece)
            reader = Reader(rest, offset=reader.offset, line=reader.line)
    assert reader.offset == offset + len(content)
    return everything


def objects(rows: Rows) -> list[tuple[str, int]]:
    return list(zip(rows.names, rows.generations, strict=True))


def refused_lines(rows: Rows) -> list[int]:
    """The lines of the refused rows; each refusal must say where, and in which file."""
    lines = []
    for where, failure in rows.refused.items():
        line = int(where.removeprefix("manifest.csv line "))
        assert failure.code is Code.INVALID_ARGUMENT
        assert failure.message.startswith(f"Line {line} of the manifest {FILE}: ")
        lines.append(line)
    return lines


@pytest.mark.parametrize(
    "content",
    [
        b"harbour,a\nharbour,b,5\n",
        b"harbour,a\nharbour,b,5",
        b"harbour,a\r\nharbour,b,5\r\n",
        b"bucket,name,generation\nharbour,a\nharbour,b,5\n",
        b"bucket,name\nharbour,a,\nharbour,b,5\n",
        b'"Bucket","NAME","x"\r\n"harbour","a"\r\n"harbour","b","5"',
        b"\xef\xbb\xbfharbour,a\nharbour,b,5\n",
        b'\xef\xbb\xbf"harbour","a"\nharbour,b,0005\n',
        b"\xef\xbb\xbfbucket,name\nharbour,a\nharbour,b,5\n",
        b"\n\r\n \nbucket,name\n\nharbour,a\n\n\r\n\t\nharbour,b,5\n\n",
        b"other,x\nharbour,a\nother,y,bad,cells,here\nother,z,-1\nharbour,b,5\nothers,\xff\n,x\n,,\n",
    ],
)
@pytest.mark.parametrize("restart", [False, True])
async def test_the_same_two_rows(content: bytes, restart: bool) -> None:
    for limit in (1, 2, 3):
        for piece in (1, 2, 7, 100):
            rows = await read(content, limit=limit, piece=piece, restart=restart)
            assert objects(rows) == [("a", 0), ("b", 5)]
            assert not rows.refused


async def test_names_may_hold_whatever_csv_can_quote() -> None:
    names = [
        'a"b',
        "a,b",
        "a\nb",
        "a\r\nb",
        "\r",
        '"',
        "é\U0001f600",
        " b ",
        "\x00",
        "a'b",
        "x" * 1024,
    ]
    text = io.StringIO(newline="")
    csv.writer(text).writerows((BUCKET, name, 7) for name in names)
    for limit in (1, 3, 100):
        rows = await read(text.getvalue().encode(), limit=limit, piece=5, restart=True)
        assert objects(rows) == [(name, 7) for name in names]
        assert not rows.refused


@pytest.mark.parametrize("restart", [False, True])
async def test_only_the_first_row_may_be_a_header(restart: bool) -> None:
    """In a bucket that is called "bucket" a row that looks like a header may be an object."""
    content = b"bucket,NAME\nbucket,a\nbucket,name\nbucket,b\n"
    rows = await read(content, bucket="bucket", limit=1, restart=restart)
    assert rows.names == ["a", "name", "b"]


@pytest.mark.parametrize("last", [b"harbour,b", b'harbour,"b"'], ids=["plain", "quoted"])
async def test_a_row_of_another_bucket_may_be_of_any_length(last: bytes) -> None:
    content = b"harbour,a\nother," + b"x" * 200_000 + b"\n" + last + b"\n"
    rows = await read(content, restart=True)
    assert rows.names == ["a", "b"]
    assert not rows.refused


@pytest.mark.parametrize(
    "row",
    [
        b"harbour",
        b"other",
        b"harbour,a,1,x",
        b"harbour,",
        b"harbour,,5",
        b"harbour,a,0",
        b"harbour,a,-1",
        b"harbour,a,+1",
        b"harbour,a,1.0",
        b"harbour,a, 1",
        b"harbour,a,9223372036854775808",
        b"harbour,a,99999999999999999999",
        "harbour,a,٣".encode(),
        b"harbour,\xff",
        b"harbour,a,\xff",
        b"\xff,a",
        b"harbour,\xed\xa0\x80",
        b"harbour," + b"x" * 1025,
        b"harbour," + "é".encode() * 513,
        b"harbour,a\rb",
        b'harbour,"a"b',
        b'"harbour,a',
    ],
)
@pytest.mark.parametrize("restart", [False, True])
async def test_a_bad_row_is_refused_and_the_others_are_read(row: bytes, restart: bool) -> None:
    content = b"harbour,first,9223372036854775807\n\n" + row + b"\nharbour,last\n"
    for limit in (1, 2, 3):
        rows = await read(content, limit=limit, piece=3, restart=restart)
        assert objects(rows) == [("first", 9223372036854775807), ("last", 0)]
        assert refused_lines(rows) == [3]


async def test_lines_are_counted_through_quoted_newlines() -> None:
    content = b'harbour,"a\nb\r\nc"\nharbour\nharbour,"\n\n\n"\nharbour\n'
    rows = await read(content, limit=1, restart=True)
    assert rows.names == ["a\nb\r\nc", "\n\n\n"]
    assert refused_lines(rows) == [4, 9]


async def test_a_quoted_row_of_just_64_kib_is_read_and_one_byte_more_is_not() -> None:
    # It names no object, since a name is shorter; what counts is which rows come after it.
    fill = (64 << 10) - len(b'"\n",harbour,x\n')
    for more, refused in ((0, []), (1, [1, 2])):
        row = b'"' + b"y" * (fill + more) + b'\n",harbour,x\n'
        rows = await read(row + b"harbour,last\n", piece=10_000)
        assert rows.names == ["last"]
        assert refused_lines(rows) == refused


@pytest.mark.parametrize(
    ("head", "block", "count"),
    [
        (b"0", b"0" * (1 << 16), 0),
        (b'harbour,"open\n', (b"harbour," + b"x" * 1000 + b"\n") * 64, 64),
    ],
    ids=["no newline at all", "a quote that is never closed"],
)
async def test_memory_is_bounded_and_one_row_is_lost(head: bytes, block: bytes, count: int) -> None:
    blocks = 200

    async def content() -> AsyncIterator[bytes]:
        yield head
        for _ in range(blocks):
            yield block
        yield b"\nharbour,last\n"

    reader = Reader(content(), offset=0, line=1)
    found = 0
    refused: dict[str, Failure] = {}
    tracemalloc.start()
    try:
        while rows := await reader.take(Rows(bucket=BUCKET, file=FILE), 100):
            found += len(rows.names)
            refused |= rows.refused
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert found == blocks * count + 1
    assert list(refused) == ["manifest.csv line 1"]


async def test_an_open_quote_is_said_to_be_one() -> None:
    rows = await read(b'harbour,"open\n' + b"harbour,a\n" * 10_000)
    assert refused_lines(rows) == [1]
    assert "is a quote not closed?" in rows.refused["manifest.csv line 1"].message


tokens = st.sampled_from(
    [
        *(text.encode() for text in ("harbour", "other", "name", "bucket", "é", "\U0001f600")),
        *(b",", b",", b'"', b'"', b"\n", b"\n", b"\r\n", b"\r", b"0", b"1", b" ", b"\x00", b"\xff"),
        *(b"harbour,a\n", b"harbour,b,2\n", b'harbour,"c\n', b"y" * 30, codecs.BOM_UTF8),
    ]
)
contents = st.lists(tokens, max_size=40).map(b"".join)
few = st.integers(min_value=1, max_value=7)


@given(contents, few, few, st.sampled_from([40, 64 << 10]))
def test_any_content_is_the_same_for_any_batches_pieces_and_restarts(
    content: bytes, limit: int, piece: int, max_row_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest.rows, "MAX_ROW_BYTES", max_row_bytes)
        whole = asyncio.run(read(content, piece=max_row_bytes))
        parts = asyncio.run(read(content, limit=limit, piece=piece, restart=True))
    assert parts == whole


@settings(max_examples=500, deadline=None)
@given(st.lists(contents, min_size=2, max_size=8).map(b"".join), st.integers(0, 200))
def test_a_cut_is_never_within_a_row(content: bytes, begin: int) -> None:
    """Whatever stands before: both parts together are read just as the whole is."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (manifest.rows, manifest.halving):
            patch.setattr(module, "MAX_ROW_BYTES", 40)
        cut = asyncio.run(manifest.halving.boundary(pieces_of(content[begin:], 16), begin))
        if cut is None:
            return
        whole = asyncio.run(read(content, piece=40))
        first = asyncio.run(read(content[:cut], piece=40))
        second = asyncio.run(read(content[cut:], piece=40, offset=cut))
    assert objects(first) + objects(second) == objects(whole)
    lines = content[:cut].count(b"\n")
    moved = {line + lines: problem for line, problem in second.problems.items()}
    assert first.problems | moved == whole.problems


cells = st.text(st.sampled_from('ab,"\r\n é\U0001f600\x00'), min_size=1, max_size=6)
many_rows = st.lists(
    st.tuples(
        st.sampled_from([BUCKET, BUCKET, "other"]), cells, st.none() | st.integers(1, 2**63 - 1)
    ),
    max_size=20,
)


@given(
    many_rows,
    # With "\n" Python's writer would leave a "\r" without the quotes that RFC 4180 asks for.
    st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]),
    few,
)
def test_what_a_csv_writer_writes_is_read(
    rows: list[tuple[str, str, int | None]], style: tuple[str, int], limit: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=style[0], quoting=style[1])
    writer.writerows(row if row[2] else row[:2] for row in rows)
    found = asyncio.run(read(text.getvalue().encode(), limit=limit, piece=11, restart=True))
    assert objects(found) == [(row[1], row[2] or 0) for row in rows if row[0] == BUCKET]
    assert not found.refused


@given(contents.filter(lambda content: b"\n" not in content and content))
def test_the_short_cut_for_plain_lines_takes_what_the_parser_takes(line: bytes) -> None:
    text = line.decode(errors="replace")
    short, long = (Rows(bucket=BUCKET, file=FILE) for _ in range(2))
    if short.add_plain(text, 1):
        for row in csv.reader([text], strict=True):
            long.add(row, 1)
        assert short == long


@pytest.mark.parametrize(
    ("name", "is_plain"),
    [
        ("x" * 1024, True),
        ("x" * 1025, False),
        ("é" * 256, True),
        ("é" * 257, False),
        ("\U0001f600" * 256, True),
        ("\U0001f600" * 257, False),
    ],
)
def test_the_short_cut_takes_no_name_that_may_be_too_long(name: str, is_plain: bool) -> None:
    rows = Rows(bucket=BUCKET, file=FILE)
    assert rows.add_plain(f"{BUCKET},{name}\n{BUCKET},a,7\n", 2) is is_plain
    assert rows.names == ([name, "a"] if is_plain else [])


# where a manifest may be


def data_of(location: str) -> dict[str, str]:
    return manifest.from_message(message("Manifest", {"manifestLocation": location}))


@pytest.mark.parametrize(
    ("location", "bucket", "name"),
    [
        ("gs://lists/manifest.csv", "lists", "manifest.csv"),
        ("gs://lists/a/b c/m.csv", "lists", "a/b c/m.csv"),
        ("gs://lists//m.csv", "lists", "/m.csv"),
        ("gs://lists/a/*.csv", "lists", "a/*.csv"),
        ("gs://lists/a/part-*-of-9.csv", "lists", "a/part-*-of-9.csv"),
        ("gs://lists/a/m.csv/*.x.csv", "lists", "a/m.csv/*.x.csv"),
    ],
)
def test_locations(location: str, bucket: str, name: str) -> None:
    assert data_of(location) == {"bucket": bucket, "name": name}


@pytest.mark.parametrize(
    "location",
    [
        "manifest.csv",
        "s3://lists/m.csv",
        "gs://lists",
        "gs://lists/",
        "gs://lists/m.txt",
        "gs://lists/m.csv.gz",
        "gs://lists/m.csv*",
        "gs://lists/.csv",
        "gs:///m.csv",
        "gs://l*sts/m.csv",
        "gs://lists/*/m.csv",
        "gs://lists/a*/m.csv",
        "gs://lists/**.csv",
        "gs://lists/a*b*.csv",
        "gs://LISTS/m.csv",
        " gs://lists/m.csv",
        "gs://lists/m.csv\n",
    ],
)
def test_wrong_locations(location: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        data_of(location)
    assert error.value.reason == "MANIFEST_LOCATION_INVALID"
    assert error.value.metadata == {"manifest_location": location}
    assert [one.field for one in error.value.violations] == ["manifest_location"]


def test_a_location_is_required() -> None:
    with pytest.raises(InvalidArgument) as error:
        data_of("")
    assert error.value.reason == "MANIFEST_LOCATION_REQUIRED"
    assert [one.field for one in error.value.violations] == ["manifest_location"]

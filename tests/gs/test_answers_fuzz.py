"""What is made of usual answers in one pass is what is made of them one by one: of spoilt replies
of several servers, and of made-up ones."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from longshore.stores.gs import multipart
from longshore.stores.gs.multipart import Answer
from longshore.transport.http import Reply

GOOGLE = (
    "--batch_pK7\r\nContent-Type: application/http\r\nContent-ID: <response-{number}@longshore>\r\n"
    "\r\nHTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX-GUploader-UploadID: AO\r\n\r\n\r\n"
)
EMULATOR = (
    "--batch_pK7\r\ncontent-id:<response-{number}@longshore>\r\ncontent-type: application/http\r\n"
    'content-length: 9\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: a\r\n\r\n{{"a":"{number}"}}\r\n'
)
BARE = (
    "--batch_pK7\r\nContent-ID: <response-{number}@longshore>\r\n\r\nHTTP/1.0 200\r\n\r\n{{}}\r\n"
)
REFUSAL = (
    "--batch_pK7\r\nContent-Type: application/http\r\nContent-ID: <response-{number}@longshore>\r\n"
    "\r\nHTTP/1.1 412 Precondition Failed\r\nContent-Length: 2\r\n\r\n{{}}\r\n"
)
STYLES = (GOOGLE, EMULATOR, BARE, REFUSAL)
SPOILS = [
    *("\r\n", "\r", "\n", " ", "-", "--", "0", "1", "9", "<", ">", "@longshore>", "response-"),
    *("--batch_pK7", "\r\n--batch_pK7", "--batch_pK7--\r\n", "\r\n--batch_pK7--\r\n", "\r\n\r\n"),
    *("HTTP/1.1 200", "HTTP/1.1 500 ", "Content-ID: <response-1@longshore>\r\n", "\t", "{}", "x"),
    *("2", "00", "204", "99", "é"),
]
Reading = tuple[list[Answer | None] | None, list[bytes] | None, list[bytes] | None]


def read(body: str, count: int) -> Reading:
    reply = Reply(200, (("content-type", "multipart/mixed; boundary=batch_pK7"),), body.encode())
    return (
        multipart.decode(reply, count),
        multipart.granted(reply, count, bodies=True),
        multipart.granted(reply, count, bodies=False),
    )


def spoilt(chance: Random) -> tuple[str, int]:
    """A reply of which one or two pieces of text are missing, moved, doubled or put in."""
    count = chance.randint(1, 4)
    style = chance.choice(STYLES)
    text = "".join(style.format(number=n) for n in range(count)) + "--batch_pK7--\r\n"
    for _ in range(chance.randint(1, 2)):
        first, second = sorted(chance.choices(range(len(text) + 1), k=2))
        if chance.random() < 0.7:
            second = min(second, first + chance.randint(0, 6))
        match chance.choice(["insert", "remove", "double", "move"]):
            case "insert":
                text = text[:first] + chance.choice(SPOILS) + text[first:]
            case "remove":
                text = text[:first] + text[second:]
            case "double":
                text = text[:second] + text[first:second] + text[second:]
            case "move":
                rest = text[:first] + text[second:]
                at = chance.randint(0, len(rest))
                text = rest[:at] + text[first:second] + rest[at:]
    return text, count


def made_up(chance: Random) -> tuple[str, int]:
    """A reply that is whole, of answers in some order, of one style or of several."""
    count = chance.choice([1, 2, 3, 100])
    numbers = list(range(count))
    if chance.random() < 0.3:
        chance.shuffle(numbers)
    if chance.random() < 0.2:
        numbers[chance.randrange(count)] = chance.randrange(count + 1)
    style = chance.choice(STYLES)
    mixed = chance.random() < 0.2
    parts = [(chance.choice(STYLES) if mixed else style).format(number=n) for n in numbers]
    ends = ["--batch_pK7--\r\n", "--batch_pK7--", "", "--batch_pK7\r\n--batch_pK7--"]
    text = "".join(parts) + chance.choices(ends, weights=[8, 2, 1, 1])[0]
    asked = count + chance.choices([-1, 0, 1], weights=[1, 8, 1])[0]
    return text, min(max(1, asked), multipart.MAX_CALLS)


def fuzz(make: Callable[[Random], tuple[str, int]], seeds: int, least: float) -> None:
    """Compares so many replies, of which the share ``least`` must be read in one pass: else there
    would be little to compare."""
    usual = 0
    for seed in range(seeds):
        text, count = make(Random(f"{make.__name__} {seed}"))
        answers, bodies, empty = read(text, count)
        where = f"{make.__name__} {seed}: {text!r}"
        assert (bodies is None) == (empty is None), where
        if bodies is None or empty is None:
            continue
        usual += 1
        assert empty == [b""] * count, where
        assert answers is not None, where
        assert [answer and answer.body for answer in answers] == bodies, where
        statuses = {answer.status for answer in answers if answer}
        assert len(statuses) == 1, where
        assert 200 <= statuses.pop() < 300, where
    assert usual > least * seeds


@pytest.mark.parametrize(("make", "least"), [(spoilt, 0.1), (made_up, 0.25)])
def test_replies(make: Callable[[Random], tuple[str, int]], least: float) -> None:
    fuzz(make, 4_000, least)


@pytest.mark.services
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("make", "least"), [(spoilt, 0.1), (made_up, 0.25)])
def test_many_replies(make: Callable[[Random], tuple[str, int]], least: float) -> None:
    fuzz(make, 50_000, least)


@pytest.mark.parametrize("style", [GOOGLE, EMULATOR, BARE])
def test_usual_replies_are_read_in_one_pass(style: str) -> None:
    text = "".join(style.format(number=n) for n in range(100)) + "--batch_pK7--\r\n"
    assert read(text, 100)[1] is not None


def test_a_status_goes_on_to_the_end_of_its_digits() -> None:
    short = BARE.format(number=0).replace("200\r\n\r\n{}", "200")
    text = short + BARE.format(number=1).replace("200", "2001") + "--batch_pK7--\r\n"
    answers, bodies, _ = read(text, 2)
    assert answers == [Answer(200, b""), None]
    assert bodies is None

"""What the patterns read, lxml reads the same: of spoilt replies, and of made-up ones."""

import re
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from longshore.errors import Error
from longshore.stores.s3 import delete_objects, markup
from longshore.stores.s3.pages import read_page, read_versions_page
from tests.s3.vendors import LISTS, VERSIONS

DELETED = (
    '<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Deleted><Key>a&amp;</Key>'
    "<VersionId>v</VersionId></Deleted><Error><Key>b</Key><Code>AccessDenied</Code><Message>It's"
    "</Message></Error><Deleted><Key>c</Key></Deleted></DeleteResult>"
)
ACL = (
    "<AccessControlPolicy><Owner><ID>o</ID></Owner><AccessControlList><Grant><Grantee xmlns:xsi="
    '"http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><URI>http://a/b</URI></Grantee>'
    "<Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>"
)
SPOILS = [
    *("<", ">", "&", '"', "'", "/", " ", "\n", "\r\n", "\r", "\t", "é", "\x01", "]]>", "=", "x"),
    *("&amp;", "&quot;", "&#34;", "&lt;", "&#x3C;", "&#13;", "&#1;", "&nope;", "%41", "%", "+"),
    *("<!-- -->", "<!-- <Key>x</Key> -->", "<![CDATA[", "<![CDATA[<Size>1</Size>]]>", "<?a b?>"),
    *("<Contents>", "</Contents>", "<Contents/>", "<Contents a='b'>", "<Version>", "</Version>"),
    *("<Key>", "</Key>", "<Key/>", "<Size>7</Size>", "<ETag>e</ETag>", "<StorageClass/>"),
    *("<Owner><Key>z</Key></Owner>", "<x:Key>z</x:Key>", "<Deleted><Key>q</Key></Deleted>"),
    *("<Error/>", "<IsTruncated>true</IsTruncated>", "<!DOCTYPE a>", "<a b='c' b='d'/>"),
    *('<a\nb="c&lt;\'"/>', "<é/>", "<Extra>text</Extra>", "<Extra>text"),
]


def read_both(
    read: Callable[[bytes], Any], body: bytes, patch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """What patterns alone make of a body, and what lxml alone does; None where they do not."""

    class Refused(Exception):
        pass

    def refuse(body: bytes) -> None:
        raise Refused

    results = []
    for name, instead in (("read_any", refuse), ("decode", lambda body: None)):
        with patch.context() as patched:
            patched.setattr(markup, name, instead)
            try:
                results.append(read(body))
            except (Error, Refused) as error:
                results.append(error if isinstance(error, Error) else None)
    return results[0], results[1]


def check(read: Callable[[bytes], Any], body: bytes) -> bool:
    """Whether patterns did it; fails where lxml would give something else."""
    with pytest.MonkeyPatch.context() as patch:
        plain, strict = read_both(read, body, patch)
    if plain is None or isinstance(plain, Error):
        return False
    if isinstance(strict, Error):
        # What lxml refuses may stand where nobody looks, or be a reference to what XML forbids.
        assert "something else" in strict.message, (plain, strict)
        return True
    assert plain == strict
    return True


def read_tree(body: bytes) -> markup.Element:
    return markup.read(body, *set(re.findall(r"[A-Za-z]+", body.decode(errors="replace"))))


SOME = frozenset({"LastModified", "ETag", "StorageClass"})
"""What of an entry not everybody reads."""
Reply = tuple[Callable[[bytes], Any], bytes]
EDGE = re.compile(r"<|(?<=>)|&")
ELEMENT = re.compile(r"<([A-Za-z:]+)>[^<]*</\1>")
ENTRY = re.compile(r"<(Contents|Version|DeleteMarker|Deleted|Error|Owner)>.*?</\1>", re.DOTALL)
REPLIES: list[tuple[Callable[[bytes], Any], str]] = [
    *((read_page, vendor.page) for vendor in LISTS),
    *((read_versions_page, vendor.page) for vendor in VERSIONS),
    (partial(read_page, skipped=SOME), LISTS[0].page),
    (partial(read_versions_page, skipped=SOME), VERSIONS[0].page),
    (delete_objects.read_result, DELETED),
    (read_tree, ACL),
    (read_tree, LISTS[-1].page),
]


def spoilt(chance: Random) -> Reply:
    """A reply with one to three things done to it."""
    read, text = chance.choice(REPLIES)
    for _ in range(chance.randint(1, 3)):
        # Mostly whole elements: of what else is left of a reply, nothing can be read.
        edges = [0, len(text), *(match.start() for match in EDGE.finditer(text))]
        first, second = sorted((chance.choice(edges), chance.choice(edges)))
        if chance.random() < 0.85:
            elements = ELEMENT if chance.random() < 0.8 else ENTRY
            spans = [match.span() for match in elements.finditer(text)]
            first, second = chance.choice(spans or [(first, second)])
        elif chance.random() < 0.3:
            first = min(second, first + chance.randint(0, 8))
        match chance.choice(["insert", "insert", "remove", "double", "move"]):
            case "insert":
                text = text[:first] + chance.choice(SPOILS) + text[first:]
            case "remove":
                text = text[:first] + text[second:]
            case "double":
                text = text[:second] + text[first:second] + text[second:]
            case "move":
                at = chance.choice(edges)
                rest = text[:first] + text[second:]
                text = rest[:at] + text[first:second] + rest[at:]
    return read, text.encode()


def made_up(chance: Random) -> Reply:
    """A well-formed list whose entries are of any order, with more and less than they should."""
    versions = chance.random() < 0.5
    space = chance.choice(["", "", "\n  ", " "])
    inside = ["Key", "LastModified", "ETag", "Size", "StorageClass"]
    inside += ["VersionId", "IsLatest"] if versions else []
    extras = ["", "", "", "<Owner><ID>o</ID></Owner>", "<Type>Normal</Type>", "<Restore/>"]
    # A server's habits, of which there are few here: patterns take longer to make than to use.
    habits = Random(chance.randint(0, 3))
    habits.shuffle(inside)
    usual = habits.choices(extras, k=len(inside))
    quote = chance.choice(["&quot;", "&#34;", '"', ""])

    def text_of(name: str) -> str:
        match name:
            case "LastModified":
                return chance.choice(["2026-11-25T20:13:08.000Z", "2026-11-25T20:13:08Z"])
            case "ETag":
                used = quote if chance.random() < 0.9 else ""
                return f"{used}{chance.choice(['e', 'a-1', ''])}{used}"
            case "Size":
                return str(chance.randint(0, 9))
            case "IsLatest":
                return chance.choice(["true", "false"])
        return markup.escape("".join(chance.choices("ab +%2Fé&<>'\"\n0/", k=chance.randint(0, 6))))

    def entry(kind: str) -> str:
        parts = []
        for name, extra in zip(inside, usual, strict=True):
            absent = kind == "DeleteMarker" and name in ("ETag", "Size", "StorageClass")
            if not absent and (name != "StorageClass" or chance.random() < 0.8):
                parts.append(f"<{name}>{text_of(name)}</{name}>")
            parts.append(extra if chance.random() < 0.95 else chance.choice(extras))
        return f"<{kind}>{space}{space.join(parts)}{space}</{kind}>"

    kinds = ["Version", "DeleteMarker"] if versions else ["Contents"]
    parts = [entry(chance.choice(kinds)) for _ in range(chance.randint(0, 4))]
    head = "<IsTruncated>false</IsTruncated>"
    head += chance.choice(["", "<EncodingType>url</EncodingType>"])
    parts.insert(chance.choice([0, 0, len(parts), len(parts) // 2]), head)
    root = "ListVersionsResult" if versions else "ListBucketResult"
    body = f"<{root}>{space}{space.join(parts)}{space}</{root}>"
    skipped = chance.choice([frozenset(), SOME])
    return partial(read_versions_page if versions else read_page, skipped=skipped), body.encode()


def fuzz(make: Callable[[Random], Reply], count: int, least: float) -> None:
    """Compares ``count`` replies, of which patterns must read the share ``least``: else there would
    be little to compare."""
    plain = 0
    for seed in range(count):
        read, body = make(Random(f"{make.__name__} {seed}"))
        try:
            plain += check(read, body)
        except Exception as error:
            error.add_note(f"{make.__name__} {seed}: {body!r}")
            raise
    assert plain > least * count


def test_spoilt_replies() -> None:
    fuzz(spoilt, 1_000, 0.15)


def test_made_up_lists() -> None:
    fuzz(made_up, 400, 0.5)


@pytest.mark.services
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("make", "least"), [(spoilt, 0.15), (made_up, 0.5)])
def test_many_replies(make: Callable[[Random], Reply], least: float) -> None:
    fuzz(make, 20_000, least)


@pytest.mark.parametrize("read_and_text", REPLIES, ids=range(len(REPLIES)))
def test_most_replies_need_no_lxml(read_and_text: tuple[Callable[[bytes], Any], str]) -> None:
    read, text = read_and_text
    assert check(read, text.encode()) is (text != LISTS[-1].page)

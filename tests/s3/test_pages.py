"""Pages of listings: as servers write them, spoilt, and by patterns as by lxml."""

from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest

from longshore.errors import FailedPrecondition, Internal
from longshore.stores.s3 import markup, pages
from longshore.stores.s3.pages import Entries, Page, VersionsPage, read_page, read_versions_page
from tests.s3.vendors import LISTS, MD5, VERSIONS, Vendor


@pytest.fixture
def no_lxml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails what is not read by patterns, as it would where lxml is not installed."""

    def refuse(body: bytes) -> None:
        raise AssertionError(body)

    monkeypatch.setattr(markup, "read_any", refuse)


@pytest.mark.parametrize("vendor", LISTS, ids=lambda vendor: vendor.name)
def test_lists_of_all_servers(vendor: Vendor, request: pytest.FixtureRequest) -> None:
    if vendor.plain:
        request.getfixturevalue("no_lxml")
    assert read_page(vendor.page.encode()) == Page(
        objects=Entries(
            names=["a b+ü", "c"],
            etags=[f"{MD5}-2", MD5],
            sizes=[5, 0],
            modified=[1795637588, 1795637589],
            classes=["STANDARD", "GLACIER"],
        ),
        next_token="t/+==",
    )


@pytest.mark.parametrize("vendor", VERSIONS, ids=lambda vendor: vendor.name)
def test_lists_of_versions_of_all_servers(vendor: Vendor, no_lxml: None) -> None:
    page = read_versions_page(vendor.page.encode())
    assert page == VersionsPage(
        versions=Entries(
            names=["a b+ü", "c +"],
            version_ids=["v.1", "null"],
            latest=[True, False],
            etags=[MD5, f"{MD5}-2"],
            sizes=[5, 0],
            modified=[1795637588, 1795637589],
            classes=["STANDARD", "GLACIER"],
        ),
        markers=Entries(
            names=["c +", "c +"],
            version_ids=["v.2", "v.4"],
            latest=[True, False],
            modified=[1795637590, 1795637588],
        ),
        next_key="c +",
        next_version_id="v.4",
    )


@pytest.mark.parametrize("vendor", LISTS, ids=lambda vendor: vendor.name)
def test_what_is_skipped_may_be_anything(vendor: Vendor) -> None:
    body = vendor.page.replace(MD5, "x'y").replace("08.000Z", "soon").encode()
    skipped = frozenset({"LastModified", "ETag", "StorageClass"})
    assert read_page(body, skipped).objects == Entries(
        names=["a b+ü", "c"], etags=["", ""], sizes=[5, 0], modified=[0, 0], classes=["", ""]
    )


@pytest.mark.parametrize("vendor", [*LISTS, *VERSIONS], ids=lambda vendor: vendor.name)
def test_lxml_reads_the_same(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_versions_page if vendor in VERSIONS else read_page
    page = read(vendor.page.encode())
    monkeypatch.setattr(markup, "decode", lambda body: None)
    assert read(vendor.page.encode()) == page


def test_empty_lists(no_lxml: None) -> None:
    empty = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    assert read_page(empty) == Page(objects=Entries(names=[], modified=[]), next_token="")
    nothing = b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"
    none = Entries(names=[], modified=[])
    assert read_versions_page(nothing) == VersionsPage(
        versions=none, markers=none, next_key="", next_version_id=""
    )


def listed(key: str, *, encoded: bool, more: str = "") -> bytes:
    """A page with one object, and ``more`` behind its name."""
    return (
        f"<ListBucketResult>{'<EncodingType>url</EncodingType>' * encoded}"
        f"<IsTruncated>false</IsTruncated><Contents><Key>{key}</Key>{more}"
        '<LastModified>2026-11-25T20:13:08.000Z</LastModified><ETag>"e"</ETag><Size>5</Size>'
        "</Contents></ListBucketResult>"
    ).encode()


@pytest.mark.parametrize(
    "name",
    [
        "+",
        "%",
        "%41",
        "a b",
        "\n",
        "\r\n",
        "\x01",
        "ü",
        "%2F",
        "%252F",
        "<&>",
        "日本🙂",
        "~=;:@",
        "a//",
        "\x7f",
    ],
)
def test_names_of_every_kind(name: str, no_lxml: None) -> None:
    assert read_page(listed(quote_plus(name), encoded=True)).objects.names == [name]
    assert read_page(listed(quote_plus(name, safe="/"), encoded=True)).objects.names == [name]
    if "\r" not in name:
        assert read_page(listed(escape(name), encoded=False)).objects.names == [name]
    references = "".join(f"&#{ord(character)};" for character in name)
    assert read_page(listed(references, encoded=False)).objects.names == [name]


@pytest.mark.parametrize("key", ["%FF", "a%C3", "%FFa%FFb", "a%00b"])
def test_a_name_that_is_no_utf_8_is_refused(key: str) -> None:
    with pytest.raises(FailedPrecondition, match="no UTF-8"):
        read_page(listed(key, encoded=True))


def test_a_name_that_is_no_utf_8_is_shown() -> None:
    three = LISTS[0].page.replace("<Key>c<", "<Key>d%FFe<")
    with pytest.raises(FailedPrecondition, match=r"like b'd\\xffe':"):
        read_page(three.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<html><body>Please log in</body></html>",
        b"<Error><Code>SlowDown</Code></Error>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        listed("a", encoded=True)[:-30],
        listed("a", encoded=True).replace(b"<Size>5", b"<Size>5.5"),
        listed("a", encoded=True).replace(b"<Size>5</Size>", b""),
        listed("a", encoded=True).replace(b"20:13:08", b"soon"),
        listed("a", encoded=True).replace(
            b"<LastModified>2026-11-25T20:13:08.000Z", b"<LastModified>"
        ),
        listed("&nbsp;", encoded=True),
        listed("&#xD800;", encoded=True),
        b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>" + listed("&e;", encoded=False),
        b"<!DOCTYPE x [<!ENTITY e 'eee'>]>" + listed("a", encoded=False),
    ],
)
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(Internal, match="not what S3 sends"):
        read_page(body)


def test_lists_of_the_wrong_kind_are_refused() -> None:
    body = b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"
    with pytest.raises(Internal, match="<ListVersionsResult>"):
        read_page(body)
    truncated = body.replace(b"false", b"true")
    with pytest.raises(Internal, match="without a marker"):
        read_versions_page(truncated)


@pytest.mark.parametrize("kept", [True, False])
def test_times_beyond_those_that_are_kept(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kept:
        monkeypatch.setattr(pages, "_MAX_TIMES", 0)
    for _ in range(3):
        page = read_page(LISTS[0].page.encode())
        assert page.objects.modified == [1795637588, 1795637589]

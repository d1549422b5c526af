"""DeleteObjects: bodies as servers take them, and replies as servers give them."""

import pytest
from lxml import etree

from longshore.errors import Internal
from longshore.stores.s3 import delete_objects, markup
from longshore.stores.s3.delete_objects import Refusal

NAMES = ["a", "+ %/ü日", "<&>\"'", "\r\n\t", "]]>"]
S3 = f'xmlns="{markup.NAMESPACE}"'
HELD = Refusal("AccessDenied", "It's <held>")


def parsed(body: bytes) -> list[dict[str, str]]:
    """What an independent reader sees in a body, the flag first."""
    root = etree.fromstring(body)
    assert etree.QName(root) == etree.QName(markup.NAMESPACE, "Delete")
    return [
        {etree.QName(leaf).localname: leaf.text for leaf in child} or {"Quiet": child.text}
        for child in root
    ]


def test_bodies_say_what_is_to_be_deleted() -> None:
    keys = [{"Key": name} for name in NAMES]
    assert parsed(delete_objects.body(NAMES)) == keys
    assert parsed(delete_objects.body(NAMES, quiet=True)) == [{"Quiet": "true"}, *keys]
    assert parsed(delete_objects.body(NAMES, [""] * 5)) == keys
    assert parsed(delete_objects.body(NAMES, ["v&1", "", "null", "", ""])) == [
        {"Key": NAMES[0], "VersionId": "v&1"},
        keys[1],
        {"Key": NAMES[2], "VersionId": "null"},
        *keys[3:],
    ]
    assert parsed(delete_objects.body(NAMES[:2], etags=["e", ""])) == [
        {"Key": NAMES[0], "ETag": '"e"'},
        keys[1],
    ]
    assert parsed(delete_objects.body(NAMES, ["&"] * 5)) == [
        {"Key": name, "VersionId": "&"} for name in NAMES
    ]
    assert parsed(delete_objects.body(NAMES, etags=["<"] * 5)) == [
        {"Key": name, "ETag": '"<"'} for name in NAMES
    ]
    assert parsed(delete_objects.body(NAMES[:2], ["v", ""], etags=["e", "f"])) == [
        {"Key": NAMES[0], "VersionId": "v", "ETag": '"e"'},
        {"Key": NAMES[1], "ETag": '"f"'},
    ]


def test_what_xml_cannot_say() -> None:
    assert all(map(markup.is_expressible, NAMES))
    assert not any(map(markup.is_expressible, ["a\x01", "\x0b", "\ufffe", "\x00"]))


@pytest.mark.parametrize(
    ("said", "names", "version_ids", "refused"),
    [
        ("", [], [], {}),
        ("\n", [], [], {}),
        (
            "<Deleted><Key>a</Key></Deleted><Deleted><Key>b&amp;</Key></Deleted>",
            ["a", "b&"],
            ["", ""],
            {},
        ),
        (  # AWS, versions and a new marker
            "<Deleted><Key>a</Key><VersionId>v</VersionId></Deleted>"
            "<Deleted><Key>b</Key><DeleteMarker>true</DeleteMarker>"
            "<DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted>",
            ["a", "b"],
            ["v", ""],
            {},
        ),
        (  # MinIO: the name last
            "<Deleted><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>m"
            "</DeleteMarkerVersionId><Key>a</Key></Deleted>"
            "<Error><Code>AccessDenied</Code><Message>It&#39;s &lt;held&gt;</Message><Key>b</Key>"
            "<VersionId></VersionId></Error>",
            ["a"],
            [""],
            {("b", ""): HELD},
        ),
        (  # Ceph
            "<Error><Key>a</Key><VersionId>v1</VersionId><Code>AccessDenied</Code>"
            "<Message>It's &lt;held&gt;</Message></Error>"
            "<Deleted><Key>b</Key><VersionId>v2</VersionId></Deleted>"
            "<Error><Key>a</Key><VersionId>v3</VersionId><Code>AccessDenied</Code>"
            "<Message>It's &lt;held&gt;</Message></Error>",
            ["b"],
            ["v2"],
            {("a", "v1"): HELD, ("a", "v3"): HELD},
        ),
        (  # in lines, and without a message
            "\n  <Error>\n    <Key>a&#x1;</Key>\n    <Code>InternalError</Code>\n  </Error>\n",
            [],
            [],
            {("a\x01", ""): Refusal("InternalError", "")},
        ),
    ],
)
def test_replies_of_all_servers(
    said: str,
    names: list[str],
    version_ids: list[str],
    refused: dict[tuple[str, str], Refusal],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bodies = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<DeleteResult {S3}>{said}</DeleteResult>',
        f"<DeleteResult>{said}</DeleteResult>",
        *([f"<DeleteResult {S3}/>"] if not said else []),
    ]

    def check() -> None:
        for body in bodies:
            result = delete_objects.read_result(body.encode())
            assert result.names == names
            assert result.version_ids == version_ids
            assert result.refused == refused

    with monkeypatch.context() as patched:
        patched.setattr(markup, "read_any", lambda body: pytest.fail(f"lxml for {body!r}"))
        check()
    if "&#x1;" not in said:  # XML 1.0 has no such character
        monkeypatch.setattr(markup, "decode", lambda body: None)
        check()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Error><Code>MalformedXML</Code></Error>",
        b"<DeleteResult><Deleted><Key>a</Key></Deleted>",
        b"<html/>",
    ],
)
def test_what_is_no_result_is_refused(body: bytes) -> None:
    with pytest.raises(Internal, match="not what S3 sends"):
        delete_objects.read_result(body)

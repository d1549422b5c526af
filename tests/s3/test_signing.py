"""Signatures against botocore's own signer, and the spelling of targets."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from botocore import auth
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from longshore.stores.s3.credentials import Credentials
from longshore.stores.s3.signing import Signer
from longshore.stores.s3.targets import Address, query, quote_path, quote_value
from longshore.transport.http import Request
from tests.s3.instant import Instant

ODD = "+ %\n\r\tü&<>~=;:@!$'()*,?#[]{}|\\^`\"\x01\x7f日本🙂\u2028é/.-_aZ09"


def requests(seed: int, count: int) -> Iterator[tuple[str, Request]]:
    """Requests as the store sends them, and much odder ones, each with its host."""
    chance = random.Random(seed)

    def text(most: int, of: str = ODD) -> str:
        return "".join(chance.choices(of, k=chance.randint(1, most)))

    def value() -> str:
        words = ("a", "b,c", "  ", " ", '"etag"', "x=y; z", "é", "a: b", "100%", "%s")
        return "".join(chance.choices(words, k=chance.randint(0, 6)))

    subresources = ("legal-hold", "retention", "tagging", "acl", "uploads", "delete")
    names = ("content-type", "content-md5", "cache-control", "if-match", "range", "x-amz-acl")
    for _ in range(count):
        address = Address(chance.choice(["s3.example", "[::1]:9000", "127.0.0.1:8443"]))
        if chance.random() < 0.8:
            named = address.host[0] == "s"  # addresses have no names under them
            address = address.bucket("bucket", virtual=named and chance.random() < 0.5)
        parameters = {}
        for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
            parameters[chance.choice([*subresources, "versionId", "key", text(3)])] = chance.choice(
                ["", text(12)]
            )
        headers = {chance.choice([*names, f"x-amz-meta-{text(5, 'abz-19')}"]): value()}
        for _ in range(chance.randint(0, 4)):
            headers[f"x-amz-meta-{text(2, 'abz-19')}"] = value()
        yield (
            address.host,
            Request(
                chance.choice(["GET", "PUT", "POST", "DELETE", "HEAD"]),
                address.target(text(40) if chance.random() < 0.9 else "", query(parameters)),
                tuple(headers.items()) if chance.random() < 0.8 else (),
                chance.randbytes(chance.choice([0, 0, 1, 100, 5000])),
            ),
        )


def expected(request: Request, host: str, keys: Credentials, region: str) -> dict[str, str]:
    """The headers that botocore sends, by names in lower case."""
    asked = AWSRequest(
        method=request.method,
        url=f"http://{host}{request.target}",
        headers=dict(request.headers),
        data=request.body,
    )
    known = BotocoreCredentials(keys.access_key, keys.secret_key, keys.session_token or None)
    S3SigV4Auth(known, "s3", region).add_auth(asked)
    return {name.lower(): value for name, value in asked.headers.items()}


def compare(monkeypatch: pytest.MonkeyPatch, seed: int, count: int) -> None:
    clock = Instant(1_796_083_190)
    monkeypatch.setattr(
        auth, "get_current_datetime", lambda: datetime.fromtimestamp(clock.second, UTC)
    )
    chance = random.Random(seed)
    keys = [
        Credentials(access_key="AKIA1", secret_key="s/e+c=r%t"),
        Credentials(access_key="AKIA2", secret_key="x" * 200, session_token="to/ken+%=="),
    ]
    signers: dict[str, Signer] = {}
    for host, request in requests(seed, count):
        # A second, a day and a year begin in between; keys change back and forth.
        clock.second += chance.choice([0, 0, 0, 0, 0, 1, 7_000, 90_000])
        signer = signers.setdefault(host, Signer(host, "eu-north-1", clock=clock))
        credentials = keys[chance.random() < 0.3]
        signed = signer.sign(request, credentials)
        assert dict(signed.headers) == expected(request, host, credentials, "eu-north-1"), request
        assert (signed.method, signed.target, signed.body) == (
            request.method,
            request.target,
            request.body,
        )


def test_signatures_are_those_of_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    compare(monkeypatch, 6, 2_000)


@pytest.mark.services
def test_many_signatures_are_those_of_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    compare(monkeypatch, 7, 10_000)


def test_more_kinds_of_headers_in_a_second_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Instant(1_796_083_190)
    monkeypatch.setattr(
        auth, "get_current_datetime", lambda: datetime.fromtimestamp(clock.second, UTC)
    )
    keys = Credentials(access_key="a", secret_key="b")
    signer = Signer("s3.example", "us-east-1", clock=clock)
    for number in [*range(600), 0, 599]:
        request = Request("PUT", "/a/b", ((f"x-amz-meta-{number}", "v"),))
        signed = signer.sign(request, keys)
        assert dict(signed.headers) == expected(request, "s3.example", keys, "us-east-1")


@pytest.mark.parametrize("names", [("a", "a"), ("host",), ("x-amz-date",)])
def test_a_header_that_would_stand_twice_is_refused(names: tuple[str, ...]) -> None:
    signer = Signer("s3.example", "us-east-1")
    request = Request("GET", "/", tuple((name, "x") for name in names))
    with pytest.raises(ValueError, match="stands twice"):
        signer.sign(request, Credentials(access_key="a", secret_key="b"))


def test_targets_are_spelt_as_s3_signs_them() -> None:
    every = "".join(map(chr, range(1, 0x250))) + "日本🙂"
    assert quote_path("a/b.c-d_e~f") == "a/b.c-d_e~f"
    assert quote_path("+ %\nü&<>~=;\x01") == "%2B%20%25%0A%C3%BC%26%3C%3E~%3D%3B%01"
    assert quote_path("line\n") == "line%0A"
    assert quote_value("a/b") == "a%2Fb"
    assert quote_value("Aa0-._~") == "Aa0-._~"
    assert unquote(quote_path(every)) == unquote(quote_value(every)) == every
    assert set(quote_path(every)) <= set(quote_value(every)) | {"/"}
    for character in every:
        if character.isascii() and (character.isalnum() or character in "-._~"):
            assert quote_path(character) == quote_value(character) == character
        elif character != "/":
            encoded = "".join(f"%{byte:02X}" for byte in character.encode())
            assert quote_path(character) == quote_value(character) == encoded


def test_queries_are_in_the_order_of_signatures() -> None:
    assert query({}) == ""
    assert query({"legal-hold": ""}) == "legal-hold"
    assert query({"prefix": "a b/ü+", "list-type": "2", "delimiter": ""}) == (
        "delimiter&list-type=2&prefix=a%20b%2F%C3%BC%2B"
    )
    assert query({"a-b": "1", "a": "2"}) == "a=2&a-b=1"


def test_addresses_of_both_styles() -> None:
    service = Address("s3.example:8443")
    path = service.bucket("b", virtual=False)
    virtual = service.bucket("b", virtual=True)
    assert service.target() == "/"
    assert (path.host, virtual.host) == ("s3.example:8443", "b.s3.example:8443")
    assert (path.target(), virtual.target()) == ("/b", "/")
    assert (path.target("k ü"), virtual.target("k ü")) == ("/b/k%20%C3%BC", "/k%20%C3%BC")
    assert (path.target("/k/../l"), virtual.target("/k")) == ("/b//k/../l", "//k")
    assert path.target(query="uploads") == "/b?uploads"
    below = Address("s3.example", "/storage/v1")
    assert below.bucket("b", virtual=False).target("k", "acl") == "/storage/v1/b/k?acl"
    assert below.bucket("b", virtual=True).target("k") == "/storage/v1/k"

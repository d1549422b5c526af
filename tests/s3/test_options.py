"""What the settings of an S3 store may say, and what is said of what they may not."""

from pathlib import Path
from typing import Any

import pytest
import trustme

from longshore.errors import InvalidArgument
from longshore.settings import StoreSettings, load
from longshore.stores.s3.credentials import Credentials
from longshore.stores.s3.options import S3Settings, read_options
from longshore.stores.s3.targets import Address

SECRET = "qK7-never-shown"
KMS_NAME = "projects/p/locations/l/keyRings/r/cryptoKeys/k"


def read(environment: dict[str, str] | None = None, **options: Any) -> S3Settings:
    settings = StoreSettings(name="ceph", kind="s3", options=options)
    return read_options(settings, environment or {})


def test_everything_can_be_said_in_a_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    file = tmp_path / "longshore.toml"
    file.write_text(f"""
        [stores.ceph]
        kind = "s3"
        buckets = ["ceph-*"]
        max_requests_per_second = 5000
        endpoint = "https://rgw.example:8443"
        region = "eu-1"
        addressing = "virtual"
        ca_file = "{tmp_path}/ca.pem"
        probe_bucket = "ceph-scratch"
        access_key = "AK"
        secret_key = "{SECRET}"
        session_token = "{SECRET}-2"
        proxy = "http://proxy.example:3128"
        [stores.ceph.kms_keys]
        "{KMS_NAME}" = "arn:aws:kms:eu-1:1:key/2"
    """)
    store = load(file, {}, {}).stores["ceph"]
    settings = read_options(store, {"AWS_REGION": "elsewhere"})
    assert settings.endpoint.url == "https://rgw.example:8443"
    assert settings.endpoint.ca_file == tmp_path / "ca.pem"
    assert (settings.region, settings.virtual) == ("eu-1", True)
    assert (settings.transport, settings.proxy) == ("aiohttp", "http://proxy.example:3128")
    assert settings.probe_bucket == "ceph-scratch"
    assert settings.kms_keys == {KMS_NAME: "arn:aws:kms:eu-1:1:key/2"}
    assert settings.credentials == Credentials(
        access_key="AK", secret_key=SECRET, session_token=f"{SECRET}-2"
    )
    assert SECRET not in repr(settings) + repr(store) + str(settings.credentials)


def test_secrets_may_come_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "longshore.toml"
    file.write_text('[stores.ceph]\nkind = "s3"\nendpoint = "http://[::1]:7480"\n')
    environment = {
        "LONGSHORE_STORES__CEPH__ACCESS_KEY": "AK",
        "LONGSHORE_STORES__CEPH__SECRET_KEY": '"1234567"',
        "LONGSHORE_STORES__CEPH__KMS_KEYS": f'{{"{KMS_NAME}" = "key-1"}}',
    }
    settings = load(file, environment, {})
    store = read_options(settings.stores["ceph"], {})
    assert store.credentials == Credentials(access_key="AK", secret_key="1234567")
    assert store.kms_keys == {KMS_NAME: "key-1"}
    assert store.endpoint.authority == "[::1]:7480"
    assert "1234567" not in repr(settings)


def test_what_is_not_said() -> None:
    settings = read(endpoint="http://127.0.0.1:7480")
    assert (settings.region, settings.virtual, settings.transport) == ("us-east-1", False, "lean")
    assert (settings.credentials, settings.profile, settings.proxy) == (None, None, None)
    assert read(profile="work", endpoint="http://a").profile == "work"


@pytest.mark.parametrize(
    ("environment", "options", "url"),
    [
        ({}, {"region": "eu-north-1"}, "https://s3.eu-north-1.amazonaws.com"),
        ({"AWS_REGION": "a-1"}, {"region": "b-1"}, "https://s3.b-1.amazonaws.com"),
        ({"AWS_REGION": "a-1", "AWS_DEFAULT_REGION": "b"}, {}, "https://s3.a-1.amazonaws.com"),
        ({"AWS_DEFAULT_REGION": "cn-north-1"}, {}, "https://s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_without_an_endpoint_it_is_aws(
    environment: dict[str, str], options: dict[str, str], url: str
) -> None:
    settings = read(environment, **options)
    assert settings.endpoint.url == url
    assert settings.virtual


def test_where_buckets_are() -> None:
    path = read(endpoint="https://s3.example:8443")
    assert path.endpoint_of("b") == path.endpoint
    assert path.address_of("b.c") == Address("s3.example:8443", "/b.c")
    assert path.address_of("") == Address("s3.example:8443")
    virtual = read(endpoint="https://s3.example:8443", addressing="virtual")
    assert virtual.endpoint_of("b").authority == "b.s3.example:8443"
    assert virtual.address_of("b") == Address("b.s3.example:8443")
    assert virtual.address_of("") == Address("s3.example:8443")
    # No certificate covers two labels.
    assert virtual.address_of("b.c") == Address("s3.example:8443", "/b.c")
    assert virtual.endpoint_of("b.c") == virtual.endpoint
    plain = read(endpoint="http://s3.example", addressing="virtual")
    assert plain.address_of("b.c") == Address("b.c.s3.example")


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ({"endpoint": "rgw.example:443"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "/rgw"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "https://"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "ftp://rgw"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "https://rgw/bucket"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "https://rgw?x"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "https://rgw#x"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "https://rgw:70000"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "https://rgw:0"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": "https://[::1"}, "endpoint", "https://HOST[:PORT]"),
        ({"endpoint": ""}, "endpoint", "is empty"),
        ({"endpoint": 7480}, "endpoint", "must be a text"),
        ({"endpoint": f"https://AK:{SECRET}@rgw"}, "endpoint", "without user and password"),
        ({"proxy": f"http://me:{SECRET}@proxy"}, "proxy", "without user and password"),
        ({"proxy": "proxy:3128"}, "proxy", "https://HOST[:PORT]"),
        ({"proxy": "http://proxy", "transport": "lean"}, "transport", '"aiohttp"'),
        ({"transport": "curl"}, "transport", "'lean' or 'aiohttp'"),
        ({"addressing": "dns"}, "addressing", "'path' or 'virtual'"),
        (
            {"addressing": "virtual", "endpoint": "http://127.0.0.1:80"},
            "addressing",
            "no name but an IP address",
        ),
        ({"region": "eu north"}, "region", "the name of a region"),
        ({"region": "eu/north"}, "region", "the name of a region"),
        ({"endpoint": None, "region": None}, "region", "AWS_REGION"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file", "can't be loaded"),
        (
            {"ca_file": "ca.pem", "dangerously_skip_tls_verification": True},
            "ca_file",
            "left out",
        ),
        ({"ca_file": "ca.pem", "endpoint": "http://a"}, "ca_file", "no certificate"),
        (
            {"dangerously_skip_tls_verification": True, "endpoint": "http://a"},
            "dangerously_skip_tls_verification",
            "no certificate",
        ),
        (
            {"dangerously_skip_tls_verification": "yes"},
            "dangerously_skip_tls_verification",
            "true or false",
        ),
        ({"access_key": "AK"}, "secret_key", "go together"),
        ({"secret_key": SECRET}, "access_key", "go together"),
        ({"session_token": SECRET}, "access_key", "go together"),
        ({"access_key": "AK", "secret_key": f"{SECRET}\n"}, "secret_key", "printable"),
        ({"access_key": f"{SECRET} ", "secret_key": "x"}, "access_key", "printable"),
        ({"access_key": "AK", "secret_key": 70177017}, "secret_key", "must be a text"),
        ({"access_key": "AK", "secret_key": ""}, "secret_key", "is empty"),
        ({"access_key": "AK", "secret_key": SECRET, "profile": "x"}, "profile", "left out"),
        ({"probe_bucket": "No_Bucket"}, "probe_bucket", "the name of a bucket"),
        ({"kms_keys": "arn:…"}, "kms_keys", "a table"),
        ({"kms_keys": {"k": "arn"}}, "kms_keys.k", "projects/"),
        ({"kms_keys": {KMS_NAME: ""}}, f"kms_keys.{KMS_NAME}", "ARN"),
        ({"kms_keys": {KMS_NAME: "a b"}}, f"kms_keys.{KMS_NAME}", "ARN"),
        ({"secret_kee": SECRET}, "secret_kee", "the nearest known one is 'secret_key'"),
        ({"verify": True}, "verify", "Unknown setting"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], key: str, said: str) -> None:
    table = {"endpoint": "https://rgw.example", **options}
    given = {name: value for name, value in table.items() if value is not None}
    with pytest.raises(InvalidArgument) as caught:
        read(**given)
    message = caught.value.message
    assert key in message
    assert said in message
    assert SECRET not in message
    assert "70177017" not in message

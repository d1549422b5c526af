"""What ``[stores.NAME]`` of kind "s3" may say."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from longshore.names import is_bucket_name
from longshore.settings import StoreSettings, check_options
from longshore.stores.s3.credentials import Credentials
from longshore.stores.s3.targets import Address
from longshore.transport.endpoint import Endpoint, Limits
from longshore.transport.given import ENDPOINT_OPTIONS, TRANSPORT_OPTIONS, Given

OPTIONS = (
    *ENDPOINT_OPTIONS,
    *("region", "addressing"),
    *("access_key", "secret_key", "session_token", "profile"),
    *TRANSPORT_OPTIONS,
    *("probe_bucket", "kms_keys"),
)
_ADDRESSING = ("path", "virtual")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_KMS_NAME = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
_WORD = re.compile(r"[\x21-\x7e]+")
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """An S3 store as it is configured, checked.

    ``credentials`` None: as AWS's environment, files and services have them, of ``profile`` if
    there is one. ``kms_keys``: what the service calls a key, by the name that jobs call it.
    """

    name: str
    endpoint: Endpoint
    region: str
    virtual: bool = False
    credentials: Credentials | None = None
    profile: str | None = None
    transport: str = "lean"
    proxy: str | None = None
    limits: Limits = field(default_factory=Limits)
    probe_bucket: str | None = None
    kms_keys: Mapping[str, str] = field(default_factory=dict)

    def endpoint_of(self, bucket: str) -> Endpoint:
        """The server that has ``bucket``: one of its own where it stands in the host's name."""
        if self._is_virtual(bucket):
            return replace(self.endpoint, host=f"{bucket}.{self.endpoint.host}")
        return self.endpoint

    def address_of(self, bucket: str) -> Address:
        """How requests for ``bucket`` are addressed, or with "" those for the service."""
        address = Address(self.endpoint.authority)
        return address.bucket(bucket, virtual=self._is_virtual(bucket)) if bucket else address

    def _is_virtual(self, bucket: str) -> bool:
        # No certificate for *.example is good for a.b.example.
        dotted = "." in bucket and self.endpoint.scheme == "https"
        return self.virtual and bucket != "" and not dotted


def read_options(
    settings: StoreSettings, environment: Mapping[str, str] = os.environ
) -> S3Settings:
    """The settings of a store of kind "s3"; raises InvalidArgument, naming the key, for a value
    that can't be. Secrets are in no message."""
    check_options(settings, OPTIONS)
    given = Given(settings)
    region = _region(given, environment)
    endpoint = _endpoint(given, region)
    usual = "path" if given.has("endpoint") else "virtual"
    virtual = given.choice("addressing", _ADDRESSING, usual) == "virtual"
    if virtual and _is_ip_address(endpoint.host):
        raise given.wrong("addressing", '"path" where the endpoint is no name but an IP address')
    probe_bucket = given.text("probe_bucket")
    if probe_bucket is not None and not is_bucket_name(probe_bucket):
        raise given.wrong("probe_bucket", f"the name of a bucket, not {probe_bucket!r}")
    credentials = _credentials(given)
    profile = given.text("profile")
    if credentials and profile:
        raise given.wrong("profile", "left out where access_key is set")
    transport, proxy = given.transport()
    return S3Settings(
        name=settings.name,
        endpoint=endpoint,
        region=region,
        virtual=virtual,
        credentials=credentials,
        profile=profile,
        transport=transport,
        proxy=proxy,
        limits=given.limits,
        probe_bucket=probe_bucket,
        kms_keys=_kms_keys(given),
    )


def _region(given: Given, environment: Mapping[str, str]) -> str:
    region = given.text("region")
    if region is None:
        said = [environment[name] for name in _REGION_VARIABLES if environment.get(name)]
        if not said and not given.has("endpoint"):
            raise given.wrong("region", "set for AWS, here or in the variable AWS_REGION")
        region = said[0] if said else "us-east-1"
    if not _REGION.fullmatch(region):
        raise given.wrong("region", f"the name of a region, such as eu-central-1, not {region!r}")
    return region


def _endpoint(given: Given, region: str) -> Endpoint:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return given.endpoint(f"https://s3.{region}.{domain}")


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _credentials(given: Given) -> Credentials | None:
    access_key = given.text("access_key")
    secret_key = given.text("secret_key")
    session_token = given.text("session_token")
    if access_key is None and secret_key is None and session_token is None:
        return None
    if access_key is None:
        raise given.wrong("access_key", "set too: access_key and secret_key go together")
    if secret_key is None:
        raise given.wrong("secret_key", "set too: access_key and secret_key go together")
    credentials = Credentials(
        access_key=access_key, secret_key=secret_key, session_token=session_token or ""
    )
    for key in ("access_key", "secret_key", "session_token"):
        value = getattr(credentials, key)
        if value and not _WORD.fullmatch(value):
            raise given.wrong(key, "of printable ASCII without spaces")
    return credentials


def _kms_keys(given: Given) -> Mapping[str, str]:
    keys = given.get("kms_keys") or {}
    if not isinstance(keys, dict):
        raise given.wrong("kms_keys", f"a table of names and keys, not {keys!r}")
    for name, key in keys.items():
        if not _KMS_NAME.fullmatch(name):
            raise given.wrong(
                f"kms_keys.{name}",
                "called projects/…/locations/…/keyRings/…/cryptoKeys/…, as jobs call it",
            )
        if not isinstance(key, str) or not _WORD.fullmatch(key):
            raise given.wrong(
                f"kms_keys.{name}", f"the key's ARN or id at the service, not {key!r}"
            )
    return keys

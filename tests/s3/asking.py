"""How tests get at a server: by the store's own parts, and by boto3, which sees what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from longshore.proof import Effect, Proof
from longshore.settings import StoreSettings
from longshore.stores.s3.client import Service
from longshore.stores.s3.credentials import Credentials, FixedCredentials
from longshore.stores.s3.features import Feature
from longshore.stores.s3.options import read_options
from longshore.stores.s3.scratch import PREFIX
from longshore.stores.s3.signing import Signer
from longshore.stores.s3.targets import Address, query
from longshore.transport import open_transport
from longshore.transport.endpoint import Endpoint
from longshore.transport.http import Reply, Request
from tests.services.ceph import Account
from tests.services.s3_servers import S3Server

There = S3Server | Account
REGION = "us-east-1"
_CONFIG = Config(
    s3={"addressing_style": "path"}, retries={"max_attempts": 1}, max_pool_connections=32
)
_OF_THE_REPLY = {"date", "x-amz-request-id", "x-amz-id-2", "x-amzn-requestid", "connection"}


class Asking:
    """An Ask over a connection of its own, which counts and may meet another ``server``."""

    def __init__(self, there: There) -> None:
        self._endpoint = Endpoint.parse(there.endpoint)
        self._transport = open_transport(self._endpoint)
        self._signer = Signer(self._endpoint.authority, REGION)
        self._keys = Credentials(access_key=there.access_key, secret_key=there.secret_key)
        self.requests: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        """The header values and the body of each."""
        self.server: str | None = None

    async def __call__(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        body: bytes = b"",
    ) -> Reply:
        self.requests.append((method, bucket, key))
        self.said.append(" ".join((*headers.values(), body.decode())))
        address = Address(self._endpoint.authority).bucket(bucket, virtual=False)
        request = Request(method, address.target(key, _query(query)), tuple(headers.items()), body)
        reply = await self._transport.send(self._signer.sign(request, self._keys))
        if self.server is None:
            return reply
        others = [pair for pair in reply.headers if pair[0] != "server"]
        return reply._replace(headers=[*others, ("server", self.server)])

    async def close(self) -> None:
        await self._transport.close()


_query = query


def options_of(there: There) -> dict[str, str]:
    """What a store's settings say of a server."""
    return {
        "endpoint": there.endpoint,
        "access_key": there.access_key,
        "secret_key": there.secret_key,
    }


def service_of(there: There) -> Service:
    """The connections of a store that has no buckets of its own."""
    settings = read_options(StoreSettings(name="main", kind="s3", options=options_of(there)), {})
    assert settings.credentials is not None
    return Service(settings, FixedCredentials(settings.credentials))


def prove(service: Service, *features: Feature) -> None:
    """From now on, these were seen to work."""
    service.verdicts.learn(
        {feature: Proof(feature, Effect.WORKS, "", "server") for feature in features}
    )


def client_of(there: There) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=there.endpoint,
        aws_access_key_id=there.access_key,
        aws_secret_access_key=there.secret_key,
        region_name=REGION,
        config=_CONFIG,
    )


class Listed(NamedTuple):
    """A version, or a delete marker."""

    name: str
    version_id: str
    live: bool
    marker: bool


def versions_of(client: Any, bucket: str, prefix: str = "") -> Iterator[Listed]:
    """Every version and every delete marker of a bucket; of one name the newest first."""
    paginator = client.get_paginator("list_object_versions")
    for page in paginator.paginate(Bucket=bucket, Prefix=prefix):
        for kind in ("Versions", "DeleteMarkers"):
            for one in page.get(kind, ()):
                yield Listed(one["Key"], one["VersionId"], one["IsLatest"], kind == "DeleteMarkers")


def contents(client: Any, bucket: str) -> dict[tuple[str, str], Any]:
    """All that there is to be seen of each version of each object, by name and version; delete
    markers too."""
    found: dict[tuple[str, str], Any] = {}
    try:
        listed = client.list_object_versions(Bucket=bucket)
    except ClientError:  # a server without versions
        listed = {"Versions": client.list_objects_v2(Bucket=bucket).get("Contents", [])}
    for one in listed.get("DeleteMarkers", []):
        found[one["Key"], one["VersionId"]] = one["LastModified"]
    for one in listed.get("Versions", []):
        which = {"Bucket": bucket, "Key": one["Key"]}
        if one.get("VersionId", "null") != "null":
            which["VersionId"] = one["VersionId"]
        got = client.get_object(**which)
        headers = got["ResponseMetadata"]["HTTPHeaders"]
        seen: dict[str, Any] = {
            "content": got["Body"].read(),
            "headers": {key: headers[key] for key in headers.keys() - _OF_THE_REPLY},
        }
        for look in ("get_object_tagging", "get_object_acl", "get_object_legal_hold"):
            with suppress(ClientError):
                answer = getattr(client, look)(**which)
                seen[look] = {key: answer[key] for key in answer if key != "ResponseMetadata"}
        found[one["Key"], one.get("VersionId", "")] = seen
    return found


def leftovers(client: Any, bucket: str) -> list[Any]:
    """What is still there of scratch objects, uploads among it."""
    left: list[Any] = [name for name, _ in contents(client, bucket) if name.startswith(PREFIX)]
    with suppress(ClientError):
        left += client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return left

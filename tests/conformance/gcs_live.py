"""``make gcs-live BUCKET=…``: gcs_expected.yaml against a bucket of Cloud Storage.

Every object that it makes is below a prefix that nobody else has, and is removed again. Nothing
else is read but the bucket's resource, and nothing else changed. What the bucket is not fit for is
skipped, and said by name.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import google.auth
import google.auth.transport.requests
import httpx

from tests.conformance.expected_answers import ELSEWHERE, SETTINGS, Entry, Service, entries, replay

ENDPOINT = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
AS_STORED = {"accept-encoding": "identity"}
"""httpx would take any encoding, and unpack it."""
TRIES = 6


async def run(http: httpx.AsyncClient, bucket: str) -> set[str]:
    """Replay every entry that the bucket is fit for; gives the names of those that it answers
    otherwise."""
    found = await http.get(f"/storage/v1/b/{bucket}")
    found.raise_for_status()
    has = settings_of(found.json())
    service = Service(http=http, bucket=bucket, prefix=f"longshore-expected-{uuid4().hex[:12]}/")
    otherwise: set[str] = set()
    for entry in entries():
        if lack := unfit(entry, has):
            print(f"SKIPPED  {entry.name}: {lack}")
            continue
        try:
            differences = await replay(entry, service)
        finally:
            await remove(service)
        print(f"{'DIFFERS' if differences else 'ok'}  {entry.name}")
        for difference in differences:
            print(f"         {difference}")
        if differences:
            otherwise.add(entry.name)
    return otherwise


def settings_of(bucket: Mapping[str, Any]) -> Mapping[str, bool]:
    """Which of SETTINGS a bucket has."""
    access = bucket.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
    soft_delete = bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", "0")
    return {
        "versioning": bool(bucket.get("versioning", {}).get("enabled")),
        "retention": "retentionPolicy" in bucket,
        "default_hold": bool(bucket.get("defaultEventBasedHold")),
        "soft_delete": soft_delete != "0",
        "uniform_access": bool(access.get("enabled")),
        "object_retention": "objectRetention" in bucket,
    }


def unfit(entry: Entry, has: Mapping[str, bool]) -> str:
    """Why a bucket that ``has`` these settings is not fit for an entry; "": it is."""
    for name, reason in ELSEWHERE.items():
        if entry.needs.get(name):
            return f"needs {name}: {reason}"
    for setting in SETTINGS:
        wanted = entry.setting(setting)
        if wanted is not None and wanted != has[setting]:
            return f"needs {setting}" if wanted else f"needs a bucket without {setting}"
    return ""


async def remove(service: Service) -> None:
    """Remove what an entry has left below the prefix, and tell of what cannot be removed."""
    at = f"/storage/v1/b/{service.bucket}/o"
    listed = await service.http.get(at, params={"prefix": service.prefix, "versions": "true"})
    listed.raise_for_status()
    for found in listed.json().get("items", []):
        name, generation = found["name"], {"generation": found["generation"]}
        assert name.startswith(service.prefix)
        one = f"{at}/{quote(name, safe='')}"
        free = {"temporaryHold": False, "eventBasedHold": False}
        if found.get("temporaryHold") or found.get("eventBasedHold"):
            await service.http.patch(one, params=generation, json=free)
        if "retention" in found:
            override = {**generation, "overrideUnlockedRetention": "true"}
            await service.http.patch(one, params=override, json={"retention": None})
        gone = await service.http.delete(one, params=generation)
        if gone.status_code not in (200, 204, 404):
            print(f"LEFT  {name}: {gone.status_code} {gone.text[:200]}")


class Patient(httpx.AsyncHTTPTransport):
    """What is asked too often is asked again: an object takes about one change a second."""

    def __init__(self, first_seconds: float = 1) -> None:
        super().__init__()
        self._first_seconds = first_seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for tries in range(TRIES):
            response = await super().handle_async_request(request)
            if response.status_code not in (429, 503) or tries == TRIES - 1:
                break
            await response.aclose()
            await asyncio.sleep(self._first_seconds * 2**tries)
        return response


class _Google(httpx.Auth):
    """Tokens of the Application Default Credentials."""

    def __init__(self) -> None:
        self._credentials, _ = google.auth.default(scopes=[SCOPE])

    async def async_auth_flow(self, request: httpx.Request) -> Any:
        if not self._credentials.valid:
            transport = google.auth.transport.requests.Request()
            await asyncio.to_thread(self._credentials.refresh, transport)
        request.headers["authorization"] = f"Bearer {self._credentials.token}"
        yield request


async def _main(bucket: str) -> int:
    async with httpx.AsyncClient(
        transport=Patient(), base_url=ENDPOINT, headers=AS_STORED, auth=_Google(), timeout=120
    ) as http:
        otherwise = await run(http, bucket)
    print(f"\n{len(otherwise)} of {len(entries())} entries are answered otherwise.")
    return 1 if otherwise else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bucket", help="a bucket that you may change objects of")
    sys.exit(asyncio.run(_main(parser.parse_args().bucket)))

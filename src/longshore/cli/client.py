"""A small client of the REST API, for the commands that talk to a server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from longshore import names
from longshore.errors import BY_CODE, Code, InvalidArgument, Unavailable, Unknown

CONNECT_SECONDS = 5.0
REPLY_SECONDS = 60.0
PAGE_SIZE = 500
_PARSERS: Mapping[str, Callable[[str], object]] = {
    "jobs": names.parse_job,
    "operations": names.parse_operation,
    "bucketOperations": names.parse_bucket_operation,
}
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Client:
    """A connection to one server, for the resources of one project; ``close`` it, or use ``with``.

    Every call raises the errors.Error that the server answered with, or Unavailable, naming the
    server that was tried, if there was no answer.
    """

    def __init__(self, server: str, project: str, token: str | None = None) -> None:
        try:
            host = urlsplit(server).hostname if server.startswith(("http://", "https://")) else None
        except ValueError:
            host = None
        if not host:
            raise InvalidArgument(
                f"{server!r} is no server: expected a URL such as http://127.0.0.1:8080."
            )
        names.parse_project(f"projects/{project}")
        if token is not None and not _TOKEN.fullmatch(token):
            # Not shown: what is wrong with it may be a blank in the middle.
            raise InvalidArgument("The token in LONGSHORE_TOKEN or its file is no bearer token.")
        self._server = server.rstrip("/")
        self._parent = f"projects/{project}/locations/{names.LOCATION}"
        self._http = httpx.Client(
            headers={"authorization": f"Bearer {token}"} if token else None,
            timeout=httpx.Timeout(REPLY_SECONDS, connect=CONNECT_SECONDS),
            # A proxy for the world outside must not be asked for this machine.
            trust_env=host not in _LOOPBACK,
            # But SSL_CERT_FILE counts there, too.
            verify=httpx.create_ssl_context(),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def name(self, collection: str, text: str, parent: str = "") -> str:
        """The full name behind an id of ``collection`` ("jobs", …); a full name stays.

        Raises InvalidArgument for what cannot be either.
        """
        name = text
        if not text.startswith("projects/"):
            name = f"{parent or self._parent}/{collection}/{text}"
        _PARSERS[collection](name)
        return name

    def get(self, name: str) -> dict[str, Any]:
        """The resource of that name."""
        return self._call("GET", name)

    def list(self, collection: str, parent: str = "", **query: str) -> Iterator[dict[str, Any]]:
        """Every resource of ``collection`` below ``parent`` (default: the project), by pages."""
        path = f"{parent or self._parent}/{collection}"
        token = ""
        while True:
            page = self._call("GET", path, query | {"pageSize": str(PAGE_SIZE), "pageToken": token})
            yield from page.get(collection, ())
            token = page.get("nextPageToken", "")
            if not token:
                return

    def create_job(self, job_id: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """The operation of a new job; an empty ``job_id`` lets the server choose one."""
        return self._call("POST", f"{self._parent}/jobs", {"jobId": job_id}, job)

    def cancel(self, name: str) -> None:
        """Ask for the cancellation of a job or an operation, which happens in its own time."""
        self._call("POST", name, verb=":cancel", body={})

    def delete(self, name: str, **query: str) -> None:
        """Delete a resource."""
        self._call("DELETE", name, query)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        verb: str = "",
    ) -> dict[str, Any]:
        url = f"{self._server}/v1/{quote(path)}{verb}"
        parameters = {key: value for key, value in (query or {}).items() if value}
        try:
            response = self._http.request(method, url, params=parameters, json=body)
        except httpx.ConnectError as error:
            raise Unavailable(
                f"No server answers at {self._server} ({error}). Start one with `longshore serve`,"
                " or name another with --server or LONGSHORE_SERVER."
            ) from error
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"{self._server} did not answer in time ({method} {path})."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{self._server} did not answer {method} {path}: {error}.") from error
        return self._read(response)

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        try:
            reply = response.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            reply = None
        if response.is_success and isinstance(reply, dict):
            return reply
        error = reply.get("error") if isinstance(reply, dict) else None
        if not isinstance(error, dict) or error.get("status") not in Code.__members__:
            raise Unknown(
                f"{self._server} answered {response.status_code} and no message of the API:"
                " is it a longshore server?"
            )
        raise BY_CODE[Code[error["status"]]](str(error.get("message", "")))

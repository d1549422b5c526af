"""Clients that others wrote, behind one interface: a method's name and its request as JSON in, its
reply as JSON out, or Refused."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import urlencode

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import storagebatchoperations_v1 as sbo
from google.cloud.location import locations_pb2
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2
from googleapiclient import discovery, errors, http
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from longshore.api import wire

METHODS = {method.name: method for method in wire.methods()}
OVER_HTTP = frozenset(name for name, method in METHODS.items() if wire.rule_of(method))
RESOURCES = {
    "ListJobs": "jobs.list",
    "GetJob": "jobs.get",
    "CreateJob": "jobs.create",
    "DeleteJob": "jobs.delete",
    "CancelJob": "jobs.cancel",
    "ListBucketOperations": "jobs.bucketOperations.list",
    "GetBucketOperation": "jobs.bucketOperations.get",
    "ListOperations": "operations.list",
    "GetOperation": "operations.get",
    "CancelOperation": "operations.cancel",
    "DeleteOperation": "operations.delete",
    "ListLocations": "list",
    "GetLocation": "get",
}
"""Where the discovery document has a method, below projects.locations."""

_ITEMS = {
    "ListJobs": "jobs",
    "ListBucketOperations": "bucketOperations",
    "ListOperations": "operations",
    "ListLocations": "locations",
}
Request = Mapping[str, Any]


class Refused(Exception):
    """The client's error: the canonical code and the reason of ErrorInfo, if there is one."""

    def __init__(self, code: str, reason: str, message: str) -> None:
        super().__init__(code, reason, message)
        self.code = code
        self.reason = reason
        self.message = message


class Client(ABC):
    """One of them."""

    @abstractmethod
    def call(self, method: str, request: Request) -> Any:
        """The reply; of a list, one page."""

    def pages(self, method: str, request: Request) -> list[list[str]]:
        """The names on each page, by the client's own way through them, if it has one."""
        pages = []
        token = ""
        while token or not pages:
            reply = self.call(method, {**request, **({"pageToken": token} if token else {})})
            pages.append(names(method, reply))
            token = reply.get("nextPageToken", "")
        return pages


def names(method: str, reply: Any) -> list[str]:
    return [one["name"] for one in reply.get(_ITEMS[method], [])]


def over_http(method: str, request: Request) -> tuple[str, str, dict[str, Any], Any]:
    """Verb, path, query and body of a request, by its rule."""
    rule = wire.rule_of(METHODS[method])
    assert rule is not None
    left = dict(request)
    path = re.sub(r"\{(\w+)=[^}]*\}", lambda match: left.pop(match[1]), rule.path)
    body = left if rule.body == "*" else left.pop(rule.body, None)
    return rule.verb.upper(), path, {} if rule.body == "*" else left, body


def refuse(error: Any) -> NoReturn:
    """Raises Refused for Google's envelope."""
    reasons = [one["reason"] for one in error.get("details", []) if "reason" in one]
    raise Refused(error["status"], *(reasons or [""]), error["message"])


class Curl(Client):
    """A process for each call."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, request: Request) -> Any:
        verb, path, query, body = over_http(method, request)
        url = f"{self._url}{path}?{urlencode(query)}"
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--request", verb, url]
        if body is not None:
            # A form by its content type, as curl has it where nobody says otherwise, is no body.
            command += ["--header", "content-type: application/json", "--data", json.dumps(body)]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
        reply = json.loads(done.stdout)
        # An operation may have an error too, beside its name.
        return refuse(reply["error"]) if reply.keys() == {"error"} else reply


class Built(Client):
    """google-api-python-client, which builds itself from our discovery document."""

    def __init__(self, document: str) -> None:
        self._built = discovery.build_from_document(document, http=http.build_http())
        self._locations = self._built.projects().locations()

    def close(self) -> None:
        self._built.close()

    def call(self, method: str, request: Request) -> Any:
        return self._execute(self._request(method, request))

    def pages(self, method: str, request: Request) -> list[list[str]]:
        if method == "ListLocations":
            return super().pages(method, request)
        pages = []
        collection, _ = self._find(method)
        asked = self._request(method, request)
        while asked is not None:
            reply = self._execute(asked)
            pages.append(names(method, reply))
            asked = collection.list_next(asked, reply)
        return pages

    def _find(self, method: str) -> tuple[Any, str]:
        *path, name = RESOURCES[method].split(".")
        collection = self._locations
        for part in path:
            collection = getattr(collection, part)()
        return collection, name

    def _request(self, method: str, request: Request) -> Any:
        collection, name = self._find(method)
        given = dict(request)
        if method == "CreateJob":
            given["body"] = given.pop("job", None)
        if method == "CancelJob":
            given = {"name": given.pop("name"), "body": given}
        return getattr(collection, name)(**given)

    @staticmethod
    def _execute(request: Any) -> Any:
        try:
            return request.execute()
        except errors.HttpError as error:
            refuse(json.loads(error.content)["error"])


class Library(Client):
    """google-cloud-storagebatchoperations, over the transport that the client has."""

    def __init__(self, client: sbo.StorageBatchOperationsClient) -> None:
        self._client = client

    def call(self, method: str, request: Request) -> Any:
        try:
            reply = getattr(self._client, snake(method))(_message(method, request))
            return _json(next(iter(reply.pages)) if hasattr(reply, "pages") else reply)
        except GoogleAPICallError as error:
            refuse_call(error)

    def pages(self, method: str, request: Request) -> list[list[str]]:
        if METHODS[method].containing_service.full_name != wire.SERVICE:
            return super().pages(method, request)
        pager = getattr(self._client, snake(method))(_message(method, request))
        return [names(method, _json(page)) for page in pager.pages]


class AsyncLibrary(Client):
    """The same for asyncio, in the server's loop: a process may use grpc.aio in one only."""

    def __init__(self, target: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._client, self._channel = self._run(self._connect, target)

    def close(self) -> None:
        self._run(self._channel.close)

    def call(self, method: str, request: Request) -> Any:
        return self._run(self._call, method, request)

    def pages(self, method: str, request: Request) -> list[list[str]]:
        if METHODS[method].containing_service.full_name != wire.SERVICE:
            return super().pages(method, request)
        return self._run(self._pages, method, request)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(function(*arguments), self._loop).result(60)

    async def _connect(self, target: str) -> Any:
        transport = sbo.StorageBatchOperationsAsyncClient.get_transport_class("grpc_asyncio")
        channel = grpc.aio.insecure_channel(target)
        given = transport(channel=channel, credentials=AnonymousCredentials())
        return sbo.StorageBatchOperationsAsyncClient(transport=given), channel

    async def _call(self, method: str, request: Request) -> Any:
        try:
            reply = await getattr(self._client, snake(method))(_message(method, request))
            if hasattr(reply, "pages"):
                reply = await anext(reply.pages)
            return _json(reply)
        except GoogleAPICallError as error:
            refuse_call(error)

    async def _pages(self, method: str, request: Request) -> list[list[str]]:
        pager = await getattr(self._client, snake(method))(_message(method, request))
        return [names(method, _json(page)) async for page in pager.pages]


class Reflection(Client):
    """grpcio, which knows nothing of the API but what reflection tells."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = descriptor_pool.DescriptorPool(database)
        self._methods = {
            method.name: method
            for service in database.get_services()
            for method in self._pool.FindServiceByName(service).methods
        }
        # An Any is printed by the type that it has, which must be known by then.
        for name in ("Job", "OperationMetadata"):
            self._pool.FindMessageTypeByName(f"{wire.PACKAGE}.{name}")

    def call(self, method: str, request: Request) -> Any:
        found = self._methods[method]
        asked = message_factory.GetMessageClass(found.input_type)()
        json_format.ParseDict(dict(request), asked, descriptor_pool=self._pool)
        call = self._channel.unary_unary(f"/{found.containing_service.full_name}/{method}")
        try:
            data = call(asked.SerializeToString(), timeout=60)
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata())
            status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
            raise Refused(error.code().name, _reason(status.details), status.message) from error
        reply = message_factory.GetMessageClass(found.output_type).FromString(data)
        return json_format.MessageToDict(reply, descriptor_pool=self._pool)


def refuse_call(error: GoogleAPICallError) -> NoReturn:
    """Raises Refused for an error of Google's library; over REST only the body has the code."""
    if isinstance(error.response, grpc.RpcError):
        raise Refused(error.grpc_status_code.name, error.reason or "", error.message)
    refuse(error.response.json()["error"])


def _reason(details: Iterable[Any]) -> str:
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for one in details if one.Unpack(info)), "")


def snake(method: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()


def _message(method: str, request: Request) -> Any:
    name = f"{method}Request"
    if METHODS[method].containing_service.full_name == wire.SERVICE:
        message = getattr(sbo, name).pb()()
    else:
        module = operations_pb2 if hasattr(operations_pb2, name) else locations_pb2
        message = getattr(module, name)()
    return json_format.ParseDict(dict(request), message)


def _json(reply: Any) -> Any:
    if reply is None:
        return {}
    if hasattr(reply, "operation"):
        reply = reply.operation
    if hasattr(type(reply), "pb"):
        reply = type(reply).pb(reply)
    return json_format.MessageToDict(reply)

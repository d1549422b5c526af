"""One gRPC call: bytes of a published message in, bytes of a published message or a status out.

A message arrives whole or not at all, and nobody knows its size before: what bounds it is when it
is asked for (who calls has been found out), how long it may take, and how many large ones there are
at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import grpc  # type: ignore[import-untyped]
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError

from longshore import telemetry
from longshore.api import status, wire
from longshore.api.bodies import BODY_SECONDS, SMALL_MAX_BYTES, Room
from longshore.api.methods import Methods
from longshore.errors import (
    BY_CODE,
    Cancelled,
    Error,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Violation,
    invalid_field,
)

MESSAGE_MAX_BYTES = 32 << 20
"""Of a request; gRPC's own limit of 4 MiB is less than a job may have. A reply is as large as it
is: an operation that is done has its job twice."""
LARGE_BYTES = 256 << 20
"""Of all requests of more than SMALL_MAX_BYTES, from their arrival to their replies."""
SLOW_SECONDS = 5.0
"""A message that takes longer may become as large as any, and counts as such."""

ERROR_MAX_BYTES = 7 << 10
"""Of an error's text and details: clients take 8 KiB of metadata, and hide the error behind one of
their own where there is more."""
_TEXT_MAX_BYTES = 1500
_PART_MAX_BYTES = 500

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Arrival:
    """A message as it arrives, and its part of the room, which it has until ``leave``."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._part = 0
        self._refusal: Error | None = None

    async def read(self, context: Any) -> bytes:
        """The call's message. Raises InvalidArgument where there is none, Cancelled for one that
        takes longer than BODY_SECONDS, ResourceExhausted where the room is full: whoever waited for
        some would fill the memory meanwhile."""
        try:
            async with asyncio.timeout(BODY_SECONDS) as patience:
                timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._slow, patience)
                try:
                    data = await context.read()
                finally:
                    timer.cancel()
        except TimeoutError as error:
            text = f"The request did not arrive within {BODY_SECONDS:.0f} seconds."
            raise (self._refusal or Cancelled(text)) from error
        if data is grpc.aio.EOF:
            raise InvalidArgument("The call has no request message.")
        self._take(len(data) if len(data) > SMALL_MAX_BYTES else 0)
        return bytes(data)

    def _slow(self, patience: asyncio.Timeout) -> None:
        try:
            self._take(MESSAGE_MAX_BYTES)
        except ResourceExhausted as error:
            self._refusal = error
            patience.reschedule(asyncio.get_running_loop().time())

    def _take(self, size_bytes: int) -> None:
        self._room.take(size_bytes - self._part)
        self._part = size_bytes

    def leave(self) -> None:
        """Give its part back."""
        self._take(0)


class Call:
    """How one method is called.

    Messages are read and written by the published classes and cross over to those of the methods as
    bytes: so announced fields are neither read nor written, whatever their private numbers are.
    """

    def __init__(self, method: MethodDescriptor, methods: Methods, room: Room) -> None:
        self._method = method
        self._methods = methods
        self._room = room
        fields = method.input_type.fields
        self._texts = [
            one.name for one in fields if one.type == one.TYPE_STRING and not one.is_repeated
        ]
        self._has_timeout = "timeout" in method.input_type.fields_by_name

    async def answer(self, _requests: Any, context: Any) -> bytes:
        """The reply's bytes; ends the call with a status where there is an error. To grpc it is a
        stream of requests, of which there is one: that is read when it is asked for.

        It is cancelled where the client went away, or at the end of the server.
        """
        arrival = _Arrival(self._room)
        try:
            caller = await self._methods.authenticate(self._method, _headers(context))
            request = await self._request(arrival, context)
            if self._has_timeout:
                shorten(request, context.time_remaining())
            reply = await self._methods.perform(self._method, request, caller)
            return await self._methods.by_size.run(reply.ByteSize(), wire.to_published, reply)
        except asyncio.CancelledError:
            telemetry.event("client_gone", method=self._method.full_name)
            raise
        except Error as error:
            refusal = error
        # As for REST: a bug is logged here, once, and the client learns only that there is one.
        except Exception:
            telemetry.failure("request_failed", method=self._method.full_name)
            refusal = Internal("Internal error: the server's log has the details.")
        finally:
            arrival.leave()
        code, message, details = spelt(refusal)
        await context.abort(code, message, (("grpc-status-details-bin", details),))
        raise AssertionError("abort raises")

    async def _request(self, arrival: _Arrival, context: Any) -> Any:
        data = await arrival.read(context)
        return await self._methods.by_size.run(len(data), self._parse, data)

    def _parse(self, data: bytes) -> Any:
        try:
            request = wire.from_published(self._method.input_type, data)
        except DecodeError as error:
            name = self._method.input_type.full_name
            raise InvalidArgument(f"The request is no {name}: {error}.") from error
        for field in self._texts:
            if "\0" in getattr(request, field):
                raise invalid_field(field, f"Invalid {field}: it must not contain NUL.")
        return request


def shorten(request: Any, remaining_seconds: float | None) -> None:
    """Let ``timeout`` end a little before the client's patience does, so that it gets an answer."""
    if remaining_seconds is None:
        return
    seconds = remaining_seconds - min(1.0, remaining_seconds / 10)
    asked = request.timeout.seconds + request.timeout.nanos / 1e9
    if not request.HasField("timeout") or asked > seconds:
        micros = max(0, int(seconds * 1e6))
        request.timeout.seconds, request.timeout.nanos = micros // 10**6, micros % 10**6 * 1000


def _headers(context: Any) -> Mapping[str, str]:
    return {
        name: value if isinstance(value, str) else value.decode("latin-1")
        for name, value in context.invocation_metadata() or ()
    }


def spelt(error: Error) -> tuple[grpc.StatusCode, str, bytes]:
    """Code, text and google.rpc.Status of ``error``, with no more of it than clients take."""
    code = _STATUS_CODES[error.code]
    message = error.message
    full = status.to_status(error).SerializeToString()
    if _header_bytes(message, full) <= ERROR_MAX_BYTES:
        return code, message, full
    message = _cut(message, _TEXT_MAX_BYTES)
    metadata = {name: _cut(value, _PART_MAX_BYTES) for name, value in error.metadata.items()}
    violations = tuple(
        Violation(one.field, _cut(one.description, _PART_MAX_BYTES)) for one in error.violations
    )
    while True:
        cut = BY_CODE[error.code](
            message, reason=error.reason, metadata=metadata, violations=violations
        )
        full = status.to_status(cut).SerializeToString()
        if _header_bytes(message, full) <= ERROR_MAX_BYTES or not violations:
            return code, message, full
        violations = violations[:-1]


def _header_bytes(message: str, full: bytes) -> int:
    """How long the two are in headers: all but ASCII is escaped, and bytes are base64."""
    return len(quote(message)) + (len(full) + 2) // 3 * 4


def _cut(text: str, max_bytes: int) -> str:
    """``text`` so short that it is that long in a header."""
    if (length := len(quote(text))) <= max_bytes:
        return text
    return _cut(text[: len(text) * max_bytes // length - 4], max_bytes - 3) + "..."


class Registrar:
    """Stands for the server where the packages of grpc add their services.

    What is no message is refused there as it is by a Call, and what they lack is UNIMPLEMENTED;
    grpc would log a traceback for every one.
    """

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Nothing: they are the registered ones once more."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add ``handlers``, made careful."""
        careful = {name: _careful(handler) for name, handler in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, careful)
        self._server.add_generic_rpc_handlers((generic,))


def _careful(handler: Any) -> Any:
    async def parsed(data: bytes, context: Any) -> Any:
        try:
            return handler.request_deserializer(data)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{error}.")

    async def all_parsed(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        async for data in requests:
            yield await parsed(data, context)

    async def unary(data: bytes, context: Any) -> Any:
        request = await parsed(data, context)
        try:
            return await (handler.unary_unary or handler.unary_stream)(request, context)
        except NotImplementedError:  # Health.List, of which the package has but the name
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "There is no such method here.")

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        async for reply in handler.stream_stream(all_parsed(requests, context), context):
            yield reply

    serialize = handler.response_serializer
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(unary, None, serialize)
    if handler.unary_stream:  # in health, a coroutine that writes to its context
        return grpc.unary_stream_rpc_method_handler(unary, None, serialize)
    return grpc.stream_stream_rpc_method_handler(stream, None, serialize)

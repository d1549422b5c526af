"""Many calls about objects, a hundred in one request where the service takes such."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from longshore.errors import Code, Error, NotFound, Unavailable
from longshore.stores.gs import multipart, targets
from longshore.stores.gs.client import Call, Client
from longshore.stores.gs.failures import OVERLOAD, error_for, overload
from longshore.stores.gs.multipart import MAX_BYTES, MAX_CALLS, PART_BYTES, Answer, Inner
from longshore.transport.http import Reply

PATH = "/batch/storage/v1"
Result = bytes | Error
"""The body that grants a call, or why it is not granted."""


async def read_each(client: Client, calls: Sequence[Call]) -> list[bytes | None]:
    """The bodies of the replies to calls that change nothing, in their order; None: there is no
    such object. Raises an errors.Error for any other refusal."""
    found: list[bytes | None] = [None] * len(calls)

    async def many(places: range) -> None:
        def accept(reply: Reply) -> list[Result]:
            results = _results(reply, part)
            for result in results:
                if isinstance(result, Error) and not isinstance(result, NotFound):
                    raise result
            return results

        part = [calls[place] for place in places]
        results = await client.read(_together(client, part), accept)
        for place, result in zip(places, results, strict=True):
            found[place] = None if isinstance(result, Error) else result

    async def one(place: int) -> None:
        try:
            found[place] = await client.read(calls[place], lambda reply: reply.body)
        except NotFound:
            found[place] = None

    if await _takes_batches(client, calls):
        await client.in_lanes(_parts(calls), many)
    else:
        await client.in_lanes(range(len(calls)), one)
    return found


async def change_each(client: Client, calls: Sequence[Call]) -> list[Result]:
    """What comes of calls each of which changes an object, in their order. That nobody knows what
    came of one is Unavailable, that it was not sent is ``failures.Unsent``."""
    done: list[Result] = [b""] * len(calls)

    async def many(places: range) -> None:
        def judge(reply: Reply) -> Code | None:
            results[:] = _results(reply, part)
            return overload(result for result in results if isinstance(result, Error))

        part = [calls[place] for place in places]
        results: list[Result] = []
        try:
            await client.change(_together(client, part), objects=len(part), judge=judge)
        except Error as error:
            results = [error] * len(part)
        for place, result in zip(places, results, strict=True):
            done[place] = result

    async def one(place: int) -> None:
        try:
            done[place] = (await client.change(calls[place])).body
        except Error as error:
            done[place] = error

    if await _takes_batches(client, calls):
        await client.in_lanes(_parts(calls), many)
    else:
        await client.in_lanes(range(len(calls)), one)
    return done


def _parts(calls: Sequence[Call]) -> Iterator[range]:
    """The places of the calls of each request."""
    start = size = 0
    for place, call in enumerate(calls):
        added = PART_BYTES + len(call.path) + len(call.parameters) + len(call.body)
        if place > start and (place - start == MAX_CALLS or size + added > MAX_BYTES):
            yield range(start, place)
            start, size = place, 0
        size += added
    if start < len(calls):
        yield range(start, len(calls))


def _together(client: Client, calls: Sequence[Call]) -> Call:
    """The request that makes these calls, all of one verb and about one bucket. Who asks is said
    once: the calls have the outer request's headers."""
    service = client.service
    inner = [Inner(call.method, service.target(call), call.body) for call in calls]
    content_type, body = multipart.encode(inner)
    verb, bucket = calls[0].verb, calls[0].bucket
    return Call(verb, "POST", PATH, "", body, content_type, bucket)


def _results(reply: Reply, calls: Sequence[Call]) -> list[Result]:
    answers = multipart.decode(reply, len(calls))
    if answers is None:
        answers = [None] * len(calls)
    return [_result(answer, call) for answer, call in zip(answers, calls, strict=True)]


def _result(answer: Answer | None, call: Call) -> Result:
    if answer is None:
        return Unavailable(
            f"The store's reply to many calls has none to {call.verb} of '{call.bucket}/"
            f"{call.name}': nobody knows what came of it."
        )
    if answer.status >= 300:
        return error_for(answer.status, answer.body, call.verb, call.bucket, call.name)
    return answer.body


async def _takes_batches(client: Client, calls: Sequence[Call]) -> bool:
    """Whether these go together: there are several, and the service takes such requests and says
    what it answers to which call. That is found out once, by a call that changes nothing."""
    if len(calls) < 2:
        return False
    service = client.service
    if service.takes_batches is None:
        async with service.trying:
            if service.takes_batches is None:
                service.takes_batches = await _try(client, calls[0].bucket)
    return service.takes_batches


async def _try(client: Client, bucket: str) -> bool:
    parameters = targets.query({"maxResults": 1, "fields": "kind"})
    call = Call("objects.list", "GET", targets.objects_path(bucket), parameters, bucket=bucket)
    reply = await client.ask(_together(client, [call]))
    if reply.status != 200:
        error = error_for(reply.status, reply.body, "batch", "")
        if error.code in OVERLOAD or error.code is Code.UNAUTHENTICATED:
            raise error  # which says nothing of the endpoint
        return False
    answers = multipart.decode(reply, 1)
    return answers is not None and answers[0] is not None

"""Many calls about objects, a hundred in one request where the service takes such."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from longshore.errors import Code, Error, NotFound, Unavailable
from longshore.stores.gs import multipart, targets
from longshore.stores.gs.client import Call, Client
from longshore.stores.gs.failures import OVERLOAD, error_for, overload
from longshore.stores.gs.multipart import MAX_BYTES, MAX_CALLS, PART_BYTES, Answer
from longshore.transport.http import Reply

PATH = "/batch/storage/v1"


class Calls(NamedTuple):
    """Calls of one verb about objects of one bucket, as columns.

    ``names``: what messages are about. ``targets``: path and parameters of each, of which there
    are some, encoded. ``bodies``: JSON for each, or empty.
    """

    verb: str
    method: str
    bucket: str
    names: Sequence[str]
    targets: Sequence[str]
    bodies: Sequence[bytes] = ()

    @classmethod
    def about(
        cls,
        verb: str,
        method: str,
        bucket: str,
        names: Sequence[str],
        parameters: Sequence[str],
        bodies: Sequence[bytes] = (),
    ) -> Calls:
        """Those about the objects themselves, with the parameters of each, encoded."""
        path = targets.objects_path(bucket)
        ways = [
            f"{path}/{segment}?{given}"
            for segment, given in zip(targets.all_quoted(names), parameters, strict=True)
        ]
        return cls(verb, method, bucket, names, ways, bodies)

    def part(self, places: range) -> Calls:
        """Those at ``places``, which are one after another."""
        start, stop = places.start, places.stop
        if stop - start == len(self.targets):
            return self
        return self._replace(
            names=self.names[start:stop],
            targets=self.targets[start:stop],
            bodies=self.bodies[start:stop],
        )

    def one(self, place: int) -> Call:
        """One of them by itself."""
        path, _, parameters = self.targets[place].partition("?")
        return Call(
            self.verb,
            self.method,
            path,
            parameters,
            self.bodies[place] if self.bodies else b"",
            bucket=self.bucket,
            name=self.names[place],
        )


async def read_each(client: Client, calls: Calls) -> list[bytes | None]:
    """The bodies of the replies to calls that change nothing, in their order; None: there is no
    such object. Raises an errors.Error for any other refusal."""
    found: list[bytes | None] = [None] * len(calls.targets)

    async def many(places: range) -> None:
        part = calls.part(places)

        def accept(reply: Reply) -> list[bytes | None]:
            bodies, failed = _results(reply, part, bodies=True)
            for error in failed.values():
                if not isinstance(error, NotFound):
                    raise error
            return [None if place in failed else body for place, body in enumerate(bodies)]

        found[places.start : places.stop] = await client.read(_together(client, part), accept)

    async def one(place: int) -> None:
        try:
            found[place] = await client.read(calls.one(place), lambda reply: reply.body)
        except NotFound:
            found[place] = None

    if await _takes_batches(client, calls):
        await client.in_lanes(_parts(calls), many)
    else:
        await client.in_lanes(range(len(calls.targets)), one)
    return found


async def change_each(
    client: Client, calls: Calls, bodies: list[bytes] | None = None
) -> dict[int, Error]:
    """Which of calls each of which changes an object are not granted, and why, by their places.
    That nobody knows what came of one is Unavailable, that it was not sent is ``failures.Unsent``.
    Where ``bodies`` is given, it gets those of the replies.
    """
    errors: dict[int, Error] = {}
    if bodies is not None:
        bodies[:] = [b""] * len(calls.targets)

    async def many(places: range) -> None:
        part = calls.part(places)
        failed: dict[int, Error] = {}

        def judge(reply: Reply) -> Code | None:
            nonlocal failed
            found, failed = _results(reply, part, bodies=bodies is not None)
            if bodies is not None:
                bodies[places.start : places.stop] = found
            return overload(failed.values())

        try:
            await client.change(_together(client, part), objects=len(part.targets), judge=judge)
        except Error as error:
            failed = dict.fromkeys(range(len(part.targets)), error)
        errors.update((places[place], why) for place, why in failed.items())

    async def one(place: int) -> None:
        try:
            reply = await client.change(calls.one(place))
        except Error as error:
            errors[place] = error
        else:
            if bodies is not None:
                bodies[place] = reply.body

    if await _takes_batches(client, calls):
        await client.in_lanes(_parts(calls), many)
    else:
        await client.in_lanes(range(len(calls.targets)), one)
    return errors


def _parts(calls: Calls) -> Iterator[range]:
    """The places of the calls of each request."""
    targets, bodies, count = calls.targets, calls.bodies, len(calls.targets)
    largest = PART_BYTES + max(map(len, targets)) + max(map(len, bodies), default=0)
    if MAX_CALLS * largest <= MAX_BYTES:
        for start in range(0, count, MAX_CALLS):
            yield range(start, min(start + MAX_CALLS, count))
        return
    start = size = 0
    for place, target in enumerate(targets):
        added = PART_BYTES + len(target) + (len(bodies[place]) if bodies else 0)
        if place > start and (place - start == MAX_CALLS or size + added > MAX_BYTES):
            yield range(start, place)
            start, size = place, 0
        size += added
    yield range(start, count)


def _together(client: Client, calls: Calls) -> Call:
    """The request that makes these calls. Who asks is said once: the calls have the outer request's
    headers."""
    content_type, body = multipart.encode(
        calls.method, calls.targets, calls.bodies, f"&{client.service.common}"
    )
    return Call(calls.verb, "POST", PATH, "", body, content_type, calls.bucket)


def _results(reply: Reply, calls: Calls, *, bodies: bool) -> tuple[list[bytes], dict[int, Error]]:
    """The bodies of the answers to calls, "" for those that are not granted, and why these are not.
    Without ``bodies`` they need not be told."""
    count = len(calls.targets)
    granted = multipart.granted(reply, count, bodies=bodies)
    if granted is not None:
        return granted, {}
    answers = multipart.decode(reply, count)
    if answers is None:
        answers = [None] * count
    found, failed = [b""] * count, {}
    for place, answer in enumerate(answers):
        if answer is not None and answer.status < 300:
            found[place] = answer.body
        else:
            failed[place] = _error(answer, calls, calls.names[place])
    return found, failed


def _error(answer: Answer | None, calls: Calls, name: str) -> Error:
    if answer is None:
        return Unavailable(
            f"The store's reply to many calls has none to {calls.verb} of '{calls.bucket}/{name}':"
            " nobody knows what came of it."
        )
    return error_for(answer.status, answer.body, calls.verb, calls.bucket, name)


async def _takes_batches(client: Client, calls: Calls) -> bool:
    """Whether these go together: there are several, and the service takes such requests and says
    what it answers to which call. That is found out once, by a call that changes nothing."""
    if len(calls.targets) < 2:
        return False
    service = client.service
    if service.takes_batches is None:
        async with service.trying:
            if service.takes_batches is None:
                service.takes_batches = await _try(client, calls.bucket)
    return service.takes_batches


async def _try(client: Client, bucket: str) -> bool:
    parameters = targets.query({"maxResults": 1, "fields": "kind"})
    target = f"{targets.objects_path(bucket)}?{parameters}"
    reply = await client.ask(
        _together(client, Calls("objects.list", "GET", bucket, [""], [target]))
    )
    if reply.status != 200:
        error = error_for(reply.status, reply.body, "batch", "")
        if error.code in OVERLOAD or error.code is Code.UNAUTHENTICATED:
            raise error  # which says nothing of the endpoint
        return False
    answers = multipart.decode(reply, 1)
    return answers is not None and answers[0] is not None

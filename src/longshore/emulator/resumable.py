"""Uploads that come in several requests.

docs: cloud.google.com/storage/docs/performing-resumable-uploads: 308 with the ``Range`` of what is
kept (no such header: nothing is), 200 when all has arrived, as often as is asked. Sessions end with
the process.
"""

from __future__ import annotations

import re
from uuid import uuid4

from longshore.api.replies import Answer
from longshore.emulator.incoming import Incoming, Session
from longshore.emulator.inserting import described, finish
from longshore.emulator.refusals import Lacking, Refused, invalid, of_error
from longshore.emulator.requests import Request, refuse_packed
from longshore.emulator.verbs import Backend
from longshore.errors import Error, Unavailable
from longshore.store import ABSENT

CHUNK_BYTES = 256 << 10
"""Of what is not the last of a resumable upload, only multiples of this are kept."""
ENDED_MAX = 1000
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+|\*)|\*)/(\d+|\*)", re.ASCII)


async def begin(backend: Backend, request: Request) -> Answer:
    """Open a session for a content that comes in later requests.

    Preconditions are looked at now, so that nobody sends a content in vain, and when it is there.
    """
    resource = await request.json()
    if content_type := request.headers.get("x-upload-content-type"):
        resource = {"contentType": content_type} | resource
    new = described(request, resource)
    there = await backend.store.read_objects(new.bucket, [new.name], [ABSENT])
    new.conditions.check(there.generations[0], there.metagenerations[0])
    length = request.headers.get("x-upload-content-length", "")
    session = Session(
        id=uuid4().hex,
        new=new,
        incoming=Incoming(backend.folder),
        total=int(length) if length.isdecimal() else None,
    )
    backend.sessions[session.id] = session
    at = f"{request.base}{request.raw_path}?uploadType=resumable&upload_id={session.id}"
    headers = [(b"location", at.encode()), (b"x-guploader-uploadid", session.id.encode())]
    return Answer(200, b"", headers=headers)


async def resume(backend: Backend, request: Request) -> Answer:
    """A part of the content, or with ``bytes */…`` the question what has arrived."""
    refuse_packed(request)
    session = _session(backend, request)
    async with session.turn:
        if session.finished is None:
            return await _go_on(backend, request, session)
    async for _ in request.pieces():  # sent again by who has not heard that it has ended
        pass
    return session.finished


async def _go_on(backend: Backend, request: Request, session: Session) -> Answer:
    start, total, last = _content_range(request.headers.get("content-range", ""), session)
    if total is not None and session.total not in (None, total):
        raise invalid("The size of the upload differs from what was said before.")
    session.total = total
    if start is not None:
        await _receive(session, request, start, last=last)
    if session.total is None or session.incoming.size < session.total:
        return _incomplete(session)
    session.finished = await _finished(backend, request, session)
    session.incoming.discard()
    _forget_the_oldest(backend)
    return session.finished


async def _finished(backend: Backend, request: Request, session: Session) -> Answer:
    """The last reply of an upload, good or bad; raises Unavailable where the store is: that may be
    asked again."""
    try:
        return await finish(backend, request, session.new, session.incoming)
    except (Refused, Lacking) as refused:
        return refused.answer()
    except Unavailable:
        raise
    except Error as error:
        return of_error(error)


def _forget_the_oldest(backend: Backend) -> None:
    """Of the uploads that have ended so many are remembered, for who asks again."""
    if len(backend.sessions) > ENDED_MAX:
        ended = [one.id for one in backend.sessions.values() if one.finished is not None]
        for upload_id in ended[: len(ended) - ENDED_MAX // 2]:
            del backend.sessions[upload_id]


async def _receive(session: Session, request: Request, start: int, *, last: bool) -> None:
    """Take in what is new of a part that begins at ``start``: of the ``last`` one all, of any
    other, or of one that breaks off, whole chunks."""
    known = session.incoming.size - start
    if known < 0:  # there is a gap: the client is told where to go on
        async for _ in request.pieces():
            pass
        return
    pending = bytearray()
    async for piece in request.pieces():
        pending += piece[known:]
        known = max(0, known - len(piece))
        whole = len(pending) // CHUNK_BYTES * CHUNK_BYTES
        if whole:
            session.incoming.write(pending[:whole])
            del pending[:whole]
    size = session.incoming.size + len(pending)
    if last or (session.total is not None and size >= session.total):
        session.incoming.write(pending)
        session.total = size if session.total is None else session.total
    if session.total is not None and session.incoming.size > session.total:
        raise invalid("The upload has more bytes than was said before.")


def _content_range(header: str, session: Session) -> tuple[int | None, int | None, bool]:
    """Where a part begins (None: there is none, it is a question), the size of the whole content
    if it is known, and whether the end of the body is that of the content. So it is without a
    header, and where a stream says ``bytes 0-*/*`` as Node's client does."""
    if not header:
        return 0, session.total, True
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise invalid(f"Invalid value for header Content-Range: {header[:50]!r}.")
    first, end, whole = match.groups()
    total = session.total if whole == "*" else int(whole)
    return (None if first is None else int(first)), total, end == "*"


async def cancel(backend: Backend, request: Request) -> Answer:
    """Give a session up: 499, as Cloud Storage answers."""
    session = _session(backend, request)
    session.incoming.discard()
    del backend.sessions[session.id]
    return Answer(499, b"")


def _session(backend: Backend, request: Request) -> Session:
    upload_id = request.query.get("upload_id", "")
    if upload_id not in backend.sessions:
        raise Refused(404, "notFound", f"There is no upload {upload_id[:100]!r}.")
    return backend.sessions[upload_id]


def _incomplete(session: Session) -> Answer:
    """What is answered until all has arrived."""
    size = session.incoming.size
    headers = [(b"range", b"bytes=0-%d" % (size - 1))] if size else []
    return Answer(308, b"", headers=headers)

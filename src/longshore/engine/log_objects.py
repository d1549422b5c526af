"""Logs of jobs as objects of a bucket: one for what a shard counts at a time.

``<prefix>/<project>/<job>/shard-<id>/<time>-<attempt>-<random>.jsonl``: nothing is ever written
twice under one name, whichever attempts and workers write, so no record replaces another, and a
bucket will do that lets nothing be replaced. Nor is anything deleted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

from longshore import telemetry
from longshore.clock import Clock
from longshore.engine.log_files import folder_of
from longshore.engine.retry import TRANSIENT, delay
from longshore.engine.running import Running
from longshore.errors import Code, Error, Unavailable
from longshore.settings import LogSettings
from longshore.store import Failure, NewObject, Stores

TRIES = 5
"""How often an object is written that fails in a way that passes, before the shard waits as a whole
and looks at all of its open objects again."""
_METADATA = {"content_type": "application/x-ndjson"}


class Objects:
    """The objects of one shard's log."""

    def __init__(self, logs: LogSettings, stores: Stores, running: Running, clock: Clock) -> None:
        shard = running.shard
        self._bucket = logs.bucket
        self._folder = f"{logs.prefix}{folder_of(shard.project, shard.job_id)}/shard-{shard.id}"
        self._stores = stores
        self._running = running
        self._clock = clock

    async def keep(self, pieces: Iterator[bytes]) -> None:
        """Have the pieces in an object, if they come to anything.

        Raises LeaseLost past the shard's deadline: whoever has it then writes these records.
        """
        content = await asyncio.to_thread(b"".join, pieces)
        if not content:
            return
        tries = 0
        while True:
            new = NewObject(self._name(), content, _METADATA)
            self._running.deadline.check()
            failure = await self._write(new)
            if failure is None:
                return
            tries += 1
            passes = failure.code in TRANSIENT and tries < TRIES
            if not passes or await self._clock.wait(self._running.leave, delay(tries)):
                raise Unavailable(
                    f"The log of objects cannot be written to gs://{self._bucket}/{new.name}:"
                    f" {failure.code.name}: {failure.message}"
                )

    async def _write(self, new: NewObject) -> Failure | None:
        """Why it could not be written. No gate is passed: caps are shared by who has shards of a
        bucket, and here nobody has. There is one write for each batch, and one at a time."""
        store = self._stores.name_for(self._bucket)
        began = self._clock.monotonic()
        try:
            outcome = await self._stores.open(store).write_objects(self._bucket, [new])
            failure = outcome.failures.get(0)
        except Error as error:
            failure = Failure(error.code, error.message)
        code = failure.code if failure else Code.OK
        telemetry.count_call(store, "write_log", code.name, self._clock.monotonic() - began)
        return failure

    def _name(self) -> str:
        time = datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC)
        attempt, random = self._running.shard.attempt, secrets.token_hex(4)
        return f"{self._folder}/{time:%Y%m%dT%H%M%S.%fZ}-{attempt:04}-{random}.jsonl"

    def close(self) -> None:
        """Nothing is open."""

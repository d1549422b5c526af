"""Carry a leased shard to its end, through failures that pass."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from longshore import telemetry
from longshore.database import shards
from longshore.database.shards import LeaseLost
from longshore.engine.planning import Planning, Searching
from longshore.engine.retry import (
    CANCELLED_PATIENCE_SECONDS,
    PATIENCE_SECONDS,
    TRANSIENT,
    delay,
)
from longshore.engine.running import Running, Tools
from longshore.engine.shard import ShardRun
from longshore.errors import Error, Internal, Unavailable
from longshore.model import Shard

DEATHS_MAX = 10
"""How many workers in a row may die or hang with a shard before it is given up."""


async def carry(running: Running, tools: Tools) -> None:
    """Run the shard again and again, each time from its last checkpoint, until it has ended or its
    lease is to be given up.

    A store that is down, a full disk or a log that cannot be written are waited for; what lasts
    longer than PATIENCE_SECONDS, and what waiting cannot help, ends the shard FAILED; so does the
    shard's being what kills workers. Raises LeaseLost, and whatever the database raises.
    """
    failures, since, patience = 0, 0.0, PATIENCE_SECONDS
    while True:
        shard = running.shard
        try:
            run = _make(running, tools)
        # A bug as well, or an intent that is no more than bytes: neither ends the worker.
        except Exception as error:
            why = error if isinstance(error, Error) else _bug(error)
            await tools.database.write(shards.give_up, running.shard, why, tools.clock.now_us())
            return
        try:
            obstacle = _Obstacle(_deadly(shard), False) if _kills(shard) else await _run(run)
            if obstacle is None:
                if running.shard is not shard:
                    continue  # planned: it goes on as the first of its buckets, or of its ranges
                return
            now = tools.clock.monotonic()
            cancelled = running.stop.is_set() and not running.leave.is_set()
            allowed = CANCELLED_PATIENCE_SECONDS if cancelled else PATIENCE_SECONDS
            if run.progressed:
                failures = 0
            # Time in which nothing was tried, and what went before a cancel, is no outage yet.
            if failures == 0 or allowed != patience:
                since, patience = now, allowed
            if not obstacle.passes or now - since > patience:
                await run.fail(obstacle.error)
                return
        finally:
            run.close()
        telemetry.warning(
            "shard waits",
            shard=running.shard.id,
            bucket=running.shard.bucket,
            why=obstacle.error.message,
        )
        with telemetry.waiting(running.store or "", obstacle.error.code.name):
            told_to_leave = await tools.clock.wait(running.leave, delay(failures))
        if told_to_leave:
            await tools.database.write(shards.let_go, running.shard)
            return
        failures += 1
        running.shard = await tools.database.read(shards.reload, running.shard)


class _Obstacle(NamedTuple):
    """What kept a run from its end, and whether waiting may help."""

    error: Error
    passes: bool


_Run = Searching | Planning | ShardRun


def _make(running: Running, tools: Tools) -> _Run:
    if running.shard.deaths > DEATHS_MAX:
        raise _deadly(running.shard)  # not even its announced objects can be looked at
    if running.shard.range is not None:
        return ShardRun(running, tools)
    return Planning(running, tools) if running.shard.bucket else Searching(running, tools)


def _kills(shard: Shard) -> bool:
    return shard.deaths >= DEATHS_MAX


def _deadly(shard: Shard) -> Error:
    return Internal(
        f"The shard was given up: {shard.deaths} workers in a row died or hung while they carried"
        " it, and none got anything of it done. The server's log has how they ended."
    )


async def _run(run: _Run) -> _Obstacle | None:
    try:
        await run.run()
    except Error as error:
        return _Obstacle(error, error.code in TRANSIENT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _Obstacle(Unavailable(f"{where}{error.strerror or error}"), passes=True)
    except (LeaseLost, SQLAlchemyError):
        raise
    # A bug ends the shard that met it, not its worker; what was announced is still looked at.
    except Exception as bug:
        return _Obstacle(_bug(bug), passes=False)
    return None


def _bug(bug: Exception) -> Error:
    telemetry.failure("shard failed")
    return Internal(f"The shard stopped by a fault of longshore: {type(bug).__name__}: {bug}")

"""What the service does beside the API: end jobs that are too old, remove those ended long ago, and
give the end of each to the audit log."""

from __future__ import annotations

import asyncio

from sqlalchemy.exc import SQLAlchemyError

from longshore import telemetry
from longshore.clock import Clock
from longshore.database import Database, endings, jobs, retention
from longshore.errors import Code, Unavailable
from longshore.names import LOCATION, OperationName
from longshore.settings import RetentionSettings

SWEEP_SECONDS = 600.0
RECORD_SECONDS = 1.0
_CREATE_JOB = "google.cloud.storagebatchoperations.v1.StorageBatchOperations.CreateJob"
_DAY_US = 24 * 3600 * 1_000_000


async def end_what_is_old(
    settings: RetentionSettings, database: Database, clock: Clock, stop: asyncio.Event
) -> None:
    """Do both, now and every few minutes until ``stop`` is set.

    The logs of what is removed go as those of any deleted job do.
    """
    sweep = Sweep(settings, database, clock, stop)
    while True:
        try:
            await sweep.cancel_overdue()
            await sweep.remove_expired()
        except (SQLAlchemyError, Unavailable) as error:
            telemetry.warning("old jobs not swept", again_seconds=SWEEP_SECONDS, why=error)
        if await clock.wait(stop, SWEEP_SECONDS):
            return


async def record_ends(database: Database, clock: Clock, stop: asyncio.Event) -> None:
    """Give the audit log the last record of each CreateJob whose operation has ended, within a
    second, until ``stop`` is set.

    A crash between the record and the note that it was made leaves a second one; none is lost.
    """
    while True:
        try:
            while await _record_some_ends(database, clock):
                pass
        except (SQLAlchemyError, Unavailable) as error:
            telemetry.warning("ends not recorded", again_seconds=RECORD_SECONDS, why=error)
        if await clock.wait(stop, RECORD_SECONDS):
            return


async def _record_some_ends(database: Database, clock: Clock) -> bool:
    """Whether there were any."""
    rows = await database.read(endings.unrecorded)
    for row in rows:
        telemetry.event(
            "audit",
            principal=row.creator or "",
            method=_CREATE_JOB,
            resource=f"projects/{row.project}/locations/{LOCATION}",
            status=row.error_code or Code.OK.name,
            operation=OperationName(row.project, row.operation_id),
            last="true",
        )
    if rows:
        await database.write(endings.recorded, [row.id for row in rows], clock.now_us())
    return bool(rows)


class Sweep:
    """One look at all jobs, as often as it is wanted."""

    def __init__(
        self, settings: RetentionSettings, database: Database, clock: Clock, stop: asyncio.Event
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._stop = stop

    async def cancel_overdue(self) -> None:
        """Ask for the end of jobs that were created more than ``max_job_days`` ago."""
        days = self._settings.max_job_days
        for job in await self._database.read(retention.overdue, self._days_ago(days)):
            await self._database.write(jobs.cancel_job, job, self._clock.now_us())
            telemetry.event("job cancelled", row=job, why=f"older than {days:g} days")

    async def remove_expired(self) -> None:
        """Remove jobs, and their operations, that ended more than ``keep_days`` ago."""
        removed = 0
        before_us = self._days_ago(self._settings.keep_days)
        while some := await self._database.read(retention.expired, before_us):
            for job in some:
                while not await self._remove_some(job):
                    pass
                if self._stop.is_set():
                    return
            removed += len(some)
        if removed:
            telemetry.event("old jobs removed", number=removed, days=self._settings.keep_days)

    async def _remove_some(self, job: int) -> bool:
        """Leave the write lock to others for as long as it was held."""
        began = self._clock.monotonic()
        done = await self._database.write(retention.remove_some, job, self._clock.now_us())
        return await self._clock.wait(self._stop, self._clock.monotonic() - began) or done

    def _days_ago(self, days: float) -> int:
        return self._clock.now_us() - int(days * _DAY_US)

"""Where a worker's shards keep their logs, as the settings say."""

from __future__ import annotations

from longshore.clock import Clock
from longshore.engine.action_log import Sink
from longshore.engine.log_files import Files
from longshore.engine.log_objects import Objects
from longshore.engine.log_output import Output
from longshore.engine.running import Running
from longshore.errors import FailedPrecondition
from longshore.settings import STDOUT, Settings
from longshore.store import Stores


class Sinks:
    """Gives each shard that a worker carries the sink of its log."""

    def __init__(self, settings: Settings, stores: Stores, clock: Clock) -> None:
        self._settings = settings
        self._stores = stores
        self._clock = clock
        self._output = Output(settings.data_dir / "stdout.lock", stalls=settings.call_seconds)

    def of(self, running: Running) -> Sink:
        """The sink of a shard; raises FailedPrecondition if the shard's bucket is the one that logs
        go to. Each batch would make an object there: a job that deletes them would never end."""
        logs = self._settings.logs
        if logs.bucket and logs.bucket == running.shard.bucket:
            raise FailedPrecondition(
                f"The logs of jobs go to the bucket {logs.bucket!r}, so no job may have it."
            )
        if logs.bucket:
            return Objects(logs, self._stores, running, self._clock)
        if logs.to == STDOUT:
            return self._output
        return Files(self._settings.logs_dir, logs, running.shard)

"""Workers as processes of this machine, which take free shards by themselves."""

from __future__ import annotations

import asyncio
import math
import signal

from longshore import telemetry
from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database, schema
from longshore.engine.worker import Worker
from longshore.errors import Error
from longshore.settings import Settings
from longshore.store import Stores
from longshore.supervisor import Heart, Supervisor, be_a_worker


def start(settings: Settings, database: Database, lock_fd: int) -> Supervisor:
    """A runner that keeps ``settings.workers`` processes; they begin when it is run."""
    return Supervisor("longshore.runners.local", settings, database, lock_fd)


async def _work(name: str, settings: Settings, heart: Heart) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = Database.open(settings, patience_seconds=math.inf)
    stores = Stores(settings)
    telemetry.count_worker_up()
    heart.start()
    try:
        stores.prepare()
        await database.read(schema.check)
        await Worker(name, settings, database, stores, SYSTEM_CLOCK).run(stop)
    except Error as error:
        telemetry.warning("worker ends", worker=name, why=error)
        raise SystemExit(1) from error
    finally:
        heart.beat()
        await stores.close()
        await database.close()


if __name__ == "__main__":
    be_a_worker(_work)

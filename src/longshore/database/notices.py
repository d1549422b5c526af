"""What one process tells all others at once: PostgreSQL's LISTEN and NOTIFY.

A word of it is heard within a few milliseconds of the commit that tells it, or not at all where the
connection is lost: so whoever listens also looks, seldom. For what is rare: transactions that tell
something are committed one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, text

from longshore.clock import Clock
from longshore.database.engines import LostConnection, listener

CANCELLED: Final = "longshore_cancelled"
"""That a job's end was asked for, by the id of its row."""
_AGAIN_SECONDS: Final = 1.0
_TELL = text("SELECT pg_notify(:channel, :word)")

Heard = Callable[[str | None], None]
"""Is given each word; None: any number may have been missed."""


def tell(connection: Connection, channel: str, word: str) -> None:
    """Tell a word once this transaction has taken effect. On SQLite there is nobody to hear it."""
    if connection.dialect.name == "postgresql":
        connection.execute(_TELL, {"channel": channel, "word": word})


async def listen(url: str, channel: str, heard: Heard, clock: Clock) -> None:
    """Listen, by a connection of its own, until this is cancelled; ``heard`` must not wait."""
    while True:
        try:
            async with listener(url, channel) as words:
                heard(None)
                async for word in words:
                    heard(word)
        except LostConnection:
            pass  # whoever reads or writes says that the database is down
        await clock.wait(asyncio.Event(), _AGAIN_SECONDS)

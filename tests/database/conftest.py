"""An empty database of the kind that ``--database`` says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from longshore.database import Database


@pytest.fixture
async def database(database_at: Path | str) -> AsyncIterator[Database]:
    opened = Database(database_at)
    await opened.create()
    yield opened
    await opened.close()

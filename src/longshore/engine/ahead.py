"""Read ahead: the next selection is read while the one before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from longshore.source import Cursor, Range, Selection


class Ahead:
    """The selections of a shard's source, one of them ahead at most, so memory stays bounded."""

    def __init__(self, open_: Callable[[Range, Cursor], AsyncGenerator[Selection, None]]) -> None:
        """``open_`` begins to read a range behind a cursor."""
        self._open = open_
        self._selections: AsyncGenerator[Selection, None] | None = None
        self._next: asyncio.Future[Selection | None] | None = None

    async def begin(self, range_: Range, cursor: Cursor) -> None:
        """Read on from here, whatever was read ahead."""
        await self.close()
        self._selections = self._open(range_, cursor)

    async def resume(self, range_: Range, last: Selection) -> None:
        """Keep ``last``, which was read ahead, and read on behind it in another range."""
        await self.begin(range_, last.cursor)
        self._next = asyncio.get_running_loop().create_future()
        self._next.set_result(last)

    def start(self) -> bool:
        """Begin to read the next selection; False if that was under way already."""
        if self._next is not None or self._selections is None:
            return False
        self._next = asyncio.create_task(_next(self._selections))
        return True

    async def peek(self) -> Selection | None:
        """The next selection, None at the end; raises what the source raises."""
        self.start()
        return None if self._next is None else await asyncio.shield(self._next)

    async def take(self) -> Selection | None:
        """The same, and the one behind it is next."""
        selection = await self.peek()
        self._next = None
        return selection

    async def close(self) -> None:
        """Stop reading."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)  # nobody wants it any more
            self._next = None
        if self._selections is not None:
            await self._selections.aclose()
            self._selections = None


async def _next(selections: AsyncGenerator[Selection, None]) -> Selection | None:
    return await anext(selections, None)

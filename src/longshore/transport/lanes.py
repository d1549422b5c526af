"""Many requests side by side, as many as may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def in_lanes(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: Callable[[], int]
) -> None:
    """``work`` upon each item, ``at_once()`` of them at a time, which is asked again and again. The
    first exception ends them all."""
    rest = iter(items)
    running = 0

    def open_lane() -> None:
        nonlocal running
        running += 1
        group.create_task(lane())

    async def lane() -> None:
        nonlocal running
        while running <= (most := at_once()):
            try:
                item = next(rest)
            except StopIteration:
                break
            if running < most:
                open_lane()
            await work(item)
        running -= 1

    try:
        async with asyncio.TaskGroup() as group:
            open_lane()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None

"""Work that takes about as long as a message is large: in the event loop, or in a thread.

A job may be 32 MB, which takes seconds to read, check and print. In the loop it would hold up
everybody else; what is small takes less time than to hand it to a thread and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

IN_LOOP_MAX_BYTES = 32 << 10
"""Some 2 ms."""
_THREADS = 2


class BySize:
    """Threads for large messages: of their own, so that however many of these wait for them,
    nothing else does; and few, as all want the interpreter."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "large-messages")

    async def run(
        self, size_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``function(…)``, which works on a message of ``size_bytes``."""
        if size_bytes > IN_LOOP_MAX_BYTES:
            return await self.in_thread(function, *args, **kwargs)
        return function(*args, **kwargs)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``function(…)``, however small what it works on."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

"""Time that stands still."""

import asyncio


class Instant:
    """A clock that stands where it is put."""

    def __init__(self, second: int) -> None:
        self.second = second

    def now_us(self) -> int:
        return self.second * 1_000_000 + 999_999

    def monotonic(self) -> float:
        return float(self.second)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        raise NotImplementedError

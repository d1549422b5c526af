"""What a coordinator does besides: divide what stores may be asked for among the workers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from longshore.clock import SYSTEM_CLOCK
from longshore.database import Database, leases, quotas
from longshore.database.quotas import Key, Quota

DIVIDE_SECONDS: Final = 0.25
IDLE_TIMES: Final = 9
MAX_PAUSE_SECONDS: Final = 1.0
"""Dividing takes a tenth of its time, and more only where it would come later than after this."""
UNEVEN: Final = 0.1
"""By which part of it a worker's quota may be wrong before all of that bucket are divided anew."""


class Divider:
    """Divides in one term, again whenever workers come and go."""

    def __init__(self, term: int, database: Database) -> None:
        self._term = term
        self._database = database
        self._carried: dict[Key, Mapping[str, int]] = {}  # as it was divided last
        self._new: set[Key] = set()
        self._given: Mapping[str, Sequence[Quota]] | None = None
        self._next = -math.inf

    async def divide(self, *, anew: bool = False) -> None:
        """Hand out quotas by who carries what now, where that has changed; not much more often than
        every DIVIDE_SECONDS, except ``anew``, for what was just dealt.

        Raises coordinator.Deposed, and what the database raises.
        """
        began = SYSTEM_CLOCK.monotonic()
        if began < self._next and not anew:
            return
        if self._given is None:
            self._given = await self._database.read(quotas.everybodys)
            self._go_on_from(self._given)
        self._follow(quotas.counted(await self._database.read(leases.who_leases)))
        parts = quotas.divided(self._carried, self._new)
        owners = sorted(parts.keys() | self._given.keys())
        changed = {
            owner: parts.get(owner, [])
            for owner in owners
            if parts.get(owner, []) != self._given.get(owner, [])
        }
        if changed:
            await self._database.write(quotas.hand_out, self._term, changed)
            self._given = parts
        now = SYSTEM_CLOCK.monotonic()
        pause = min(MAX_PAUSE_SECONDS, IDLE_TIMES * (now - began))
        self._next = now + max(DIVIDE_SECONDS, pause)

    def _go_on_from(self, given: Mapping[str, Sequence[Quota]]) -> None:
        """What the coordinator before this one divided, from how much was carried then."""
        for owner, parts in given.items():
            for one in parts:
                key = one.store, one.bucket
                self._carried[key] = {**self._carried.get(key, {}), owner: one.mine}
                if one.new:
                    self._new.add(key)

    def _follow(self, carried: Mapping[Key, Counter[str]]) -> None:
        """Take over what has changed so much that it is divided anew."""
        for key in self._carried.keys() - carried.keys():
            del self._carried[key]
            self._new.discard(key)
        for key, owners in carried.items():
            before = self._carried.get(key)
            if before is None:
                # Nobody has a quota of it, and nobody had any since its last shard ended.
                self._new.add(key)
            elif is_uneven(before, owners):
                self._new.discard(key)
            else:
                continue
            self._carried[key] = owners


def is_uneven(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Whether a worker has come or gone, or one's part of the whole is another by UNEVEN of it."""
    if before.keys() != now.keys():
        return True
    then, all_ = sum(before.values()), sum(now.values())
    return any(
        abs(now[owner] / all_ - mine / then) > UNEVEN * mine / then
        for owner, mine in before.items()
    )

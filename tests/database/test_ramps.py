"""What buckets have taken is kept: the last word, for as long as somebody wants to believe it."""

from __future__ import annotations

from longshore.database import Database, ramps
from longshore.database.ramps import Taken


async def test_the_last_word_counts_and_is_believed_for_a_while(database: Database) -> None:
    quay, mole = Taken("google", "quay", 2_000.0), Taken("google", "mole", 8_000.0)
    await database.write(ramps.keep, [quay, mole], 10)
    await database.write(ramps.keep, [quay._replace(writes_per_second=4_000.0)], 20)
    await database.write(ramps.keep, [Taken("other", "quay", 1.0)], 20)

    async def recall(since_us: int, *buckets: str) -> list[Taken]:
        wanted = [("google", bucket) for bucket in buckets]
        return sorted(await database.read(ramps.recall, wanted, since_us))

    assert await recall(0, "quay", "mole", "none") == [mole, Taken("google", "quay", 4_000.0)]
    assert await recall(15, "quay", "mole") == [Taken("google", "quay", 4_000.0)]
    assert await recall(21, "quay") == []

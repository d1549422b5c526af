"""What is remembered of what services were seen to do."""

from __future__ import annotations

from longshore.database import Database, proofs
from longshore.proof import Effect, Proof

HOLD = Proof("PutObjectLegalHold", Effect.DESTROYS, "It replaced the content.\0", "")
COPY = Proof("CopyObject", Effect.WORKS, "", "Ceph 16 Ä")


async def test_the_last_word_about_a_call_of_a_server_counts(database: Database) -> None:
    await database.write(proofs.keep, "http://a", [HOLD, COPY], 1_000)
    await database.write(proofs.keep, "http://b", [COPY], 1_000)
    better = HOLD._replace(effect=Effect.WORKS, why="", server="Other/2")
    again = COPY._replace(effect=Effect.IGNORED, why="Nothing changed.")
    await database.write(proofs.keep, "http://a", [better, again], 5_000)
    assert set(await database.read(proofs.known, "http://a", 0)) == {
        HOLD._replace(time_us=1_000, why="It replaced the content.\ufffd"),
        better._replace(time_us=5_000),
        again._replace(time_us=5_000),
    }
    assert await database.read(proofs.known, "http://a", 5_001) == []
    assert len(await database.read(proofs.known, "http://a", 5_000)) == 2
    assert await database.read(proofs.known, "http://b", 0) == [COPY._replace(time_us=1_000)]


async def test_nothing_to_keep_is_nothing(database: Database) -> None:
    await database.write(proofs.keep, "http://a", [], 1)
    assert await database.read(proofs.known, "http://a", 0) == []

"""A store that must prove does so before a job touches an object, and tells the other workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from longshore.database import proofs
from longshore.engine.proving import GOOD_US
from longshore.errors import FailedPrecondition
from longshore.proof import Effect, Finding, Proof
from longshore.store import Turns
from longshore.stores.memory import MemoryStore
from tests.house import BUCKET, House

HOLD = ("put_object_hold", {"temporary_hold": True})
EVERYTHING = ("prefix_list", {"prefixes": [""]})
WHY = "The service replaces objects by what PutObjectLegalHold sends."


class Suspicious(MemoryStore):
    """A memory store whose service has ``effect`` on a call for each act."""

    endpoint = "http://suspicious"
    effect = Effect.WORKS
    weaker = ""
    tried = 0

    def by_turns(self, turns: Turns) -> Suspicious:
        return self

    async def prove(
        self, bucket: str, acts: Mapping[str, str], known: Sequence[Proof]
    ) -> list[Finding]:
        assert (bucket, acts) == (BUCKET, {"temporary_hold": ""})
        proof = next(iter(known), None)
        if proof is None:
            self.tried += 1
            proof = Proof("PutObjectLegalHold", self.effect, "", "S")
        refusal = None if proof.effect is Effect.WORKS else FailedPrecondition(WHY)
        return [Finding(act="temporary_hold", proofs=[proof], refusal=refusal, weaker=self.weaker)]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    house.store = Suspicious(house.clock)
    house.stores._open["main"] = house.store
    await house.open()
    await house.write("one")
    yield house
    await house.close()


async def test_what_is_not_proven_is_refused_before_an_object_is_touched(house: House) -> None:
    house.store.effect = Effect.DESTROYS
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    row, counters = await house.job(job)
    assert (row.state, row.error_code, row.error_message) == (
        "FAILED",
        "FAILED_PRECONDITION",
        WHY,
    )
    assert counters[0].total == 0
    (kept,) = await house.outside.read(proofs.known, "http://suspicious", 0)
    assert kept.effect is Effect.DESTROYS


async def test_a_proof_is_shared_and_lasts_a_week(house: House) -> None:
    for _ in range(2):
        assert await house.run(await house.create(HOLD, EVERYTHING))
    assert house.store.tried == 1
    (kept,) = await house.outside.read(proofs.known, "http://suspicious", 0)
    week_ago = kept.time_us - GOOD_US
    await house.outside.write(proofs.keep, "http://suspicious", [kept], week_ago)
    job = await house.create(HOLD, EVERYTHING)
    assert await house.run(job)
    assert (await house.job(job))[0].state == "SUCCEEDED"
    assert house.store.tried == 2


async def test_a_service_that_is_another_one_meanwhile_ends_the_shard(house: House) -> None:
    """Each run of a shard asks again: what it goes by may be older than what is kept now."""
    job = await house.create(HOLD, EVERYTHING)
    planned: list[str] = []

    async def spoil(where: str) -> None:
        planned.append(where)
        if "finish_plan" in where and where.startswith("after"):
            bad = Proof("PutObjectLegalHold", Effect.DESTROYS, "", "S")
            await house.outside.write(proofs.keep, "http://suspicious", [bad], house.clock.now_us())

    house.fate.at_boundary = spoil
    assert await house.run(job)
    row, counters = await house.job(job)
    assert (row.state, counters[0].total) == ("FAILED", 0), planned


async def test_a_dry_run_proves_nothing(house: House) -> None:
    house.store.effect = Effect.DESTROYS
    job = await house.create(HOLD, EVERYTHING, dry_run=True)
    assert await house.run(job)
    row, counters = await house.job(job)
    assert (row.state, counters[0].total, house.store.tried) == ("SUCCEEDED", 1, 0)


async def test_a_promise_that_the_store_cannot_keep_stands_in_the_job_s_log(house: House) -> None:
    house.store.weaker = "A legal hold protects one version, not the name."
    await house.run(await house.create(HOLD, EVERYTHING))
    note, done = house.records()
    assert note["message"] == f"temporary_hold in {BUCKET}: {house.store.weaker}"
    assert done["status"]["statusCode"] == "OK"

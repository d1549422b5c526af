"""Seeded runs with a crash at any boundary of a batch, users who write meanwhile, and cancels.

Each seed draws a transformation, a source, crash points, what users do and when, and whether
somebody cancels. Whatever happens, the counters must agree with the log and with the journal of
what the store really did, by the rules of docs/decisions/0002.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from longshore.database import leases
from longshore.errors import Code, Error
from longshore.model import State
from longshore.patch import MapPatch, Patch
from longshore.store import Bucket
from tests.house import BUCKET, House

OBJECTS = 23
SEEDS_ON_LOCAL = 40

CONTEXTS = {"updates": {"team": "dock", "tide": "high"}, "removals": ["old"], "clear": False}
CHOICES: list[tuple[str, dict[str, Any]]] = [
    ("delete_object", {"permanent": False}),
    ("delete_object", {"permanent": True}),
    ("put_object_hold", {"temporary_hold": True}),
    ("put_metadata", {"content_type": "text/plain", "custom_metadata": {"a": "1", "b": ""}}),
    ("rewrite_object", {"storage_class": "COLDLINE", "kms_key": ""}),
    ("update_object_custom_context", CONTEXTS),
    ("update_object_custom_context", {"updates": {}, "removals": [], "clear": True}),
    ("set_object_acls", {"grants": {"allUsers": "READER"}, "removals": ["allAuthenticatedUsers"]}),
]


class Voyage:
    """One seed: what is drawn, the run, and the reckoning at the end."""

    def __init__(self, seed: int, directory: Path, kind: str) -> None:
        self.random = random.Random(seed)
        self.house = House(directory, kind)
        self.transformation = self.random.choice(CHOICES)
        self.versioned = self.random.random() < 0.4
        self.manifest = self.random.random() < 0.4
        self.users = self.random.random() < 0.5
        self.cancel = self.random.random() < 0.3
        self.touched: set[str] = set()
        self.rows: list[str] = []
        self.tries = 2
        self.job = 0

    @property
    def permanent(self) -> bool:
        return bool(self.transformation[1].get("permanent"))

    async def sail(self) -> None:
        house = self.house
        await house.open(versioning=self.versioned)
        await self._load()
        self.before = await self._state("k/")
        self.job = await house.create(self.transformation, await self._source())
        span = self.random.choice((12, 40, 90))
        crashes = self.random.randrange(1, 4)
        house.fate.crash_at = {self.random.randrange(2, span) for _ in range(crashes)}
        house.fate.at_boundary = self._meanwhile
        self.cancel_at = self.random.randrange(2, span)
        for _ in range(crashes + self.tries):
            if await house.run(self.job):
                break
            await self._between()
        else:
            pytest.fail("the job does not come to its end")
        await self._reckon()
        await house.close()

    async def _load(self) -> None:
        for number in range(OBJECTS):
            metadata: dict[str, Any] = {}
            if self.random.random() < 0.4:
                metadata["contexts"] = self.random.choice(
                    ('{"old":"x"}', '{"old":"x","team":"crane"}', '{"team":"dock","tide":"high"}')
                )
            if self.random.random() < 0.2:
                metadata["storage_class"] = "COLDLINE"
            name = f"d/{number:03d}"
            if self.versioned and self.random.random() < 0.3:
                await self.house.write(name, b"older", **metadata)
            if self.random.random() < 0.15:
                metadata["temporary_hold"] = True
            await self.house.write(name, b"x" * self.random.randrange(1, 50), **metadata)
        for number in range(3):
            await self.house.write(f"k/{number}")

    async def _source(self) -> tuple[str, dict[str, Any]]:
        if not self.manifest:
            return "prefix_list", {"prefixes": ["d/"]}
        lines = []
        for number in range(OBJECTS):
            if self.random.random() < 0.9:
                lines.append(f"{BUCKET},d/{number:03d}")
            if self.random.random() < 0.1:
                lines.append(f"{BUCKET},d/absent-{number}")
            if self.random.random() < 0.05:
                lines.append(f"elsewhere,d/{number:03d}")
            if self.random.random() < 0.1 and lines:
                lines.append(self.random.choice(lines))
        if self.random.random() < 0.3:
            lines.append(f"{BUCKET},d/000,no-generation")
        self.rows = [line for line in lines if line.startswith(BUCKET)]
        store = self.house.store
        await store.create_bucket(Bucket(name="papers", create_time_us=0))

        async def once() -> Any:
            yield "\n".join(["bucket,name,generation", *lines]).encode()

        await store.write_object("papers", "list.csv", once())
        return "manifest", {"bucket": "papers", "name": "list.csv"}

    async def _meanwhile(self, where: str) -> None:
        if self.cancel and self.house.fate.boundaries == self.cancel_at:
            await self.house.cancel(self.job)
        if self.users and self.random.random() < 0.15:
            await self._user()

    async def _between(self) -> None:
        if self.random.random() < 0.5:  # the new service has begun before anybody does anything
            await self.house.outside.write(leases.release)
        if self.cancel and self.random.random() < 0.5:
            await self.house.cancel(self.job)
        if self.users:
            for _ in range(self.random.randrange(4)):
                await self._user()

    async def _user(self) -> None:
        store = self.house.store
        name = f"d/{self.random.randrange(OBJECTS + 5):03d}"
        self.touched.add(name)
        try:
            action = self.random.randrange(5)
            if action == 0:
                await self.house.write(name, b"y" * self.random.randrange(1, 50))
            elif action == 1:
                await self.house.write(name + "+")
                self.touched.add(name + "+")
            else:
                there = await store.read_objects(BUCKET, [name], [0])
                if action == 2 and there.generations[0]:
                    await store.delete_objects(BUCKET, there, permanent=False)
                elif there.generations[0]:
                    patch = Patch(content_language="de", temporary_hold=False)
                    if action == 4:
                        team = self.random.choice(("dock", "crane"))
                        patch = Patch(contexts=MapPatch(updates={"team": team}))
                    await store.patch_objects(BUCKET, there, patch)
        except Error:
            pass  # a hold: users are refused, too

    async def _state(self, prefix: str) -> Any:
        columns = ("contexts", "temporary_hold", "storage_class", "acl", "content_type")
        pages = self.house.store.list_objects(BUCKET, prefix=prefix, versions=True, columns=columns)
        return [page async for page in pages]

    async def _reckon(self) -> None:
        row, (counters, errors) = await self.house.job(self.job)
        journal = self.house.mortal.journal
        assert row.state in {"SUCCEEDED", "CANCELED"}, row.error_message
        assert row.state == "SUCCEEDED" or row.cancel_us is not None
        assert await self._state("k/") == self.before
        assert all(entry["name"].startswith("d/") for entry in journal)
        assert sum(one.count for one in errors.values()) == counters.failed
        assert all(len(one.samples) == min(5, one.count) for one in errors.values())
        finished = row.state == "SUCCEEDED"
        if finished:
            assert counters.total == counters.succeeded + counters.failed
        assert counters.total >= counters.succeeded + counters.failed
        if self.manifest and finished and not self.users:
            assert counters.total == len(self.rows)
        if not self.manifest:
            await self._reckon_log(counters, finished)
        if self.transformation[0] == "delete_object" and not self.manifest:
            assert errors.keys() <= {Code.PERMISSION_DENIED}
        if not self.users:
            self._reckon_journal(counters, journal)
            assert len(journal) <= counters.succeeded, "acted upon, and not counted"
        elif not self.house.fate.deaths:
            self._reckon_contexts(counters, journal)
        if finished:
            await self._reckon_untouched(journal)
        await self._reckon_rest(counters)

    async def _reckon_log(self, counters: Any, finished: bool) -> None:
        last: dict[Any, str] = {}
        done = {(entry["name"], entry["generation"]) for entry in self.house.mortal.journal}
        for record in self.house.records():
            (member,) = record.keys() - {"@type", "completeTime", "status", "settled"}
            thing = record[member]["objectMetadataBefore"]["gcsObject"]
            key = (thing["objectKey"], thing["generation"] if self.permanent else "")
            last[key] = record["status"]["statusCode"]
            if member == "DeleteObject" and last[key] == "OK" and not record.get("settled"):
                mine = (thing["objectKey"], int(thing["generation"]))
                assert mine in done, "somebody else deleted it, and no word of settling"
        outcomes = Counter(code == "OK" for code in last.values())
        # Cancelled, an object has a record and is not counted if the checkpoint was lost and the
        # cancel, settling, found it not done: it had been refused, or somebody undid it.
        if finished or not self.users:
            assert counters.succeeded == outcomes[True]
        if finished or not (self.users or self.house.fate.deaths):
            assert counters.failed == outcomes[False]
        assert counters.succeeded <= outcomes[True]
        assert counters.failed <= outcomes[False]

    def _reckon_journal(self, counters: Any, journal: list[dict[str, Any]]) -> None:
        done = Counter((entry["name"], entry["generation"]) for entry in journal)
        assert not done or max(done.values()) == 1, "an object was acted upon twice"
        self._reckon_contexts(counters, journal)
        moves = self.transformation[0] in {"delete_object", "rewrite_object"}
        assert counters.bytes_transformed == (self._sum(journal, "size") if moves else 0)

    def _reckon_contexts(self, counters: Any, journal: list[dict[str, Any]]) -> None:
        assert counters.contexts_created == self._sum(journal, "created")
        assert counters.contexts_deleted == self._sum(journal, "deleted")
        assert counters.contexts_updated == self._sum(journal, "updated")

    def _sum(self, journal: list[dict[str, Any]], key: str) -> int:
        counted = self.transformation[0] == "update_object_custom_context" or key == "size"
        return sum(entry[key] for entry in journal) if counted else 0

    async def _reckon_untouched(self, journal: list[dict[str, Any]]) -> None:
        """Nobody else wrote these: each is as the job was to make it, and was done once."""
        done = Counter((entry["name"], entry["generation"]) for entry in journal)
        chosen = {row.split(",")[1] for row in self.rows} if self.manifest else None
        for page in await self._state("d/"):
            for index, name in enumerate(page.names):
                if name in self.touched or (chosen is not None and name not in chosen):
                    continue
                assert done[name, page.generations[index]] <= 1
                self._assert_wanted(page, index)

    def _assert_wanted(self, page: Any, index: int) -> None:
        kind, data = self.transformation
        one = {name: column[index] for name, column in page.columns.items()}
        if kind == "delete_object":
            kept = one["temporary_hold"] or (self.versioned and not self.permanent)
            # By manifest a permanent delete takes the live version only.
            assert kept or (self.versioned and self.manifest), page.names[index]
        elif self.versioned:
            return  # noncurrent versions are listed here, too
        elif kind == "put_object_hold":
            assert one["temporary_hold"]
        elif kind == "put_metadata":
            assert one["content_type"] == "text/plain"
        elif kind == "rewrite_object":
            assert one["storage_class"] == "COLDLINE" or one["temporary_hold"]
        elif kind == "set_object_acls":
            assert one["acl"] == '{"allUsers":"READER"}'
        elif data["clear"]:
            assert one["contexts"] == ""
        else:
            assert one["contexts"] == '{"team":"dock","tide":"high"}'

    async def _reckon_rest(self, counters: Any) -> None:
        """After the end no object changes and no counter moves."""
        journal = len(self.house.mortal.journal)
        self.house.fate.at_boundary = None
        self.house.fate.crash_at = set()
        other = await self.house.create(
            ("put_object_hold", {"temporary_hold": True}), ("prefix_list", {"prefixes": ["none/"]})
        )
        assert await self.house.run(other)
        row, (after, _) = await self.house.job(self.job)
        assert not State(row.state).open
        assert after == counters
        assert len(self.house.mortal.journal) == journal


@pytest.mark.parametrize("seed", range(10_000, 10_000 + SEEDS_ON_LOCAL))
async def test_counters_are_exact_on_the_local_store(seed: int, tmp_path: Path) -> None:
    await Voyage(seed, tmp_path, "local").sail()

"""What must hold after every step: read from the database by a connection of its own."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import orjson

from longshore.engine.intent import Intent
from tests.simulation import cluster
from tests.simulation.loop import Process
from tests.simulation.machines import RATE_ERROR

if TYPE_CHECKING:
    from tests.simulation.world import World

OPEN = ("QUEUED", "RUNNING")
LEGAL = {
    ("QUEUED", "RUNNING"),
    ("QUEUED", "FAILED"),
    ("QUEUED", "CANCELED"),
    ("RUNNING", "SUCCEEDED"),
    ("RUNNING", "FAILED"),
    ("RUNNING", "CANCELED"),
}
COUNTERS = (
    "total",
    "succeeded",
    "failed",
    "bytes_found",
    "bytes_transformed",
    "contexts_created",
    "contexts_deleted",
    "contexts_updated",
)
TELLING = {
    "jobs": ("state", "cancel_us"),
    "bucket_operations": ("state",),
    "shards": ("state", "owner", "attempt", "range", "cursor", "intent", "succeeded", "failed"),
}
"""What has to change for something to have happened: a renewed lease is nothing."""
_SHARDS = (
    "SELECT shards.*, bucket FROM shards"
    " JOIN bucket_operations ON bucket_operations.id = bucket_operation"
)


class Violated(AssertionError):
    """Something happened that must not."""


class Watch:
    """The rows as they were after the last change, and what may follow them."""

    def __init__(self, world: World, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        self._world = world
        self._connection = connection
        self._version = self._data_version()
        self._rows: dict[str, dict[int, Any]] = {"jobs": {}, "bucket_operations": {}, "shards": {}}
        self._confirmed: dict[tuple[int, int], float] = {}
        self._intents: dict[bytes, frozenset[tuple[str, int]]] = {}
        self.ended: set[int] = set()
        self.halvings = 0

    @property
    def shards(self) -> dict[int, Any]:
        return self._rows["shards"]

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def changed(self, process: Process, asked: float) -> bool:
        """Whether the step that ``process`` has just made changed a job or a part of one, by more
        than a renewed lease; checks what it did."""
        version = self._data_version()
        if version == self._version:
            return False
        self._version = version
        moved = False
        read = self._connection.execute
        for table in self._rows:
            query = _SHARDS if table == "shards" else f"SELECT * FROM {table}"
            now = {row["id"]: row for row in read(query)}
            self._compare(table, self._rows[table], now)
            if table == "shards":
                self._note_leases(process, asked, self._rows[table], now)
                self._check_term(process, self._rows[table], now)
            moved = moved or _telling(table, now) != _telling(table, self._rows[table])
            self._rows[table] = now
        self._check_whole()
        self._check_quotas()
        return moved

    def _compare(self, table: str, before: dict[int, Any], after: dict[int, Any]) -> None:
        for key, row in after.items():
            old = before.get(key)
            if old is None or tuple(old) == tuple(row):
                continue
            if table == "shards":
                self.halvings += old["range"] not in (None, row["range"])
            where = f"{table} {key}: {dict(old)} -> {dict(row)}"
            if old["state"] != row["state"] and (old["state"], row["state"]) not in LEGAL:
                raise Violated(f"illegal transition: {where}")
            if old["state"] not in OPEN:
                raise Violated(f"changed after its end: {where}")
            if table == "shards" and any(row[name] < old[name] for name in COUNTERS):
                raise Violated(f"counted backwards: {where}")
            if row["succeeded"] + row["failed"] > row["total"]:
                raise Violated(f"more done than found: {where}")

    def _note_leases(
        self, process: Process, asked: float, before: dict[int, Any], after: dict[int, Any]
    ) -> None:
        for key, row in after.items():
            old = before.get(key)
            if row["owner"] == process.name and (
                old is None or old["checkpoint"] != row["checkpoint"]
            ):
                # A write that was asked for long ago may come after a later one.
                lease = key, row["attempt"]
                self._confirmed[lease] = max(asked, self._confirmed.get(lease, 0.0))

    def _check_term(self, process: Process, before: dict[int, Any], after: dict[int, Any]) -> None:
        """Nobody deals or ends a lease in a term that is over, nor deals to whom cannot read it."""
        if process not in self._world.candidates:
            return
        changed = [key for key in after if key in before and _differ(before, after, key, "owner")]
        for key in changed:
            if cluster.is_older(self._world.plan, after[key]["owner"]):
                raise Violated(f"shard {key} was dealt to whom cannot read it")
        (now,) = self._connection.execute("SELECT max(term) FROM coordinators").fetchone()
        if changed and self._world.terms.get(process) != now:
            raise Violated(f"{process.name} deals in term {now}, which is another's: {changed}")

    def _check_quotas(self) -> None:
        """What workers were handed never adds up to more than all of it."""
        parts: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
        for (text,) in self._connection.execute("SELECT parts FROM quotas"):
            for store, bucket, *one, _new in orjson.loads(text):
                parts.setdefault((store, bucket), []).append(tuple(one))
        for key, given in parts.items():
            ends = 0
            for before, mine, everybody in sorted(given):
                if before < ends or before + mine > everybody or everybody != given[0][2]:
                    raise Violated(f"quotas of {key} overlap: {given}")
                ends = before + mine

    def _check_whole(self) -> None:
        for key, job in self._rows["jobs"].items():
            if job["state"] in OPEN or key in self.ended:
                continue
            self.ended.add(key)
            parts = [row for row in self.shards.values() if row["job"] == key]
            if any(part["state"] in OPEN for part in parts):
                raise Violated(f"job {key} ended before its shards")
            for name in COUNTERS:
                if job[name] != sum(part[name] for part in parts):
                    raise Violated(f"job {key}: {name} is not the sum of its shards")
            if job["state"] == "CANCELED" and job["cancel_us"] is None:
                raise Violated(f"job {key} is CANCELED, and nobody asked for it")

    def check_sent(
        self, process: Process, bucket: str, names: list[str], generations: list[int]
    ) -> int:
        """The job of a call that ``process`` is about to send.

        Raises Violated unless it has the lease of a shard which has announced all of it, and its
        deadline has not passed.
        """
        wanted = set(zip(names, generations, strict=True))
        for key, row in self.shards.items():
            if row["owner"] != process.name or row["bucket"] != bucket or not row["intent"]:
                continue
            if wanted <= self._announced(row["intent"]):
                asked = self._confirmed[key, row["attempt"]]
                settings = self._world.settings
                lasts = (settings.lease_seconds - settings.call_seconds) * (1 + 2 * RATE_ERROR)
                if self._world.loop.time() > asked + lasts:
                    raise Violated(f"{process.name} sent a call past the deadline of shard {key}")
                return int(row["job"])
        raise Violated(
            f"{process.name} sent a call that no lease of its own has announced: {names}"
        )

    def _announced(self, intent: bytes) -> frozenset[tuple[str, int]]:
        if intent not in self._intents:
            unpacked = Intent.unpack(intent)
            pairs = zip(unpacked.names, unpacked.generations, strict=True)
            self._intents[intent] = frozenset(pairs)
        return self._intents[intent]

    @property
    def parts(self) -> list[str]:
        """The buckets of the job's bucket operations, as they were made."""
        return [row["bucket"] for _, row in sorted(self._rows["bucket_operations"].items())]

    @property
    def jobs(self) -> dict[int, Any]:
        return self._rows["jobs"]

    def job(self) -> Any:
        return next(iter(self.jobs.values()))

    def final(self) -> list[Any]:
        """What the rows of all shards and jobs have come to, without what is random in them."""
        columns = ("id", "state", *COUNTERS)
        rows = (*self.jobs.values(), *self.shards.values())
        return [tuple(row[name] for name in columns) for row in rows]


def _differ(before: dict[int, Any], after: dict[int, Any], key: int, column: str) -> bool:
    return bool(before[key][column] != after[key][column])


def _telling(table: str, rows: dict[int, Any]) -> list[Any]:
    return [[row[name] for name in TELLING[table]] for row in rows.values()]

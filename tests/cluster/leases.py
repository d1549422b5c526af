"""Who had which shard, from when to when, by a record that PostgreSQL keeps of its own; and what of
a store's journal came from somebody whose lease had ended."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import psycopg

from longshore.engine.intent import Intent

_RECORD = """
CREATE TABLE lease_record (
    id bigserial PRIMARY KEY, at double precision, shard bigint, attempt integer, owner text,
    checkpoint bigint, store text, intent bytea
);
CREATE FUNCTION record_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO lease_record (at, shard, attempt, owner, checkpoint, store, intent) VALUES (
        extract(epoch FROM clock_timestamp()), NEW.id, NEW.attempt, NEW.owner, NEW.checkpoint,
        NEW.store,
        CASE WHEN NEW.store <> 'main' AND NEW.intent IS DISTINCT FROM OLD.intent
            THEN NEW.intent END
    );
    RETURN NULL;
END $$;
CREATE TRIGGER record_lease AFTER UPDATE ON shards FOR EACH ROW EXECUTE FUNCTION record_lease();
"""


class Row(NamedTuple):
    """A shard as it was from ``at`` on, in seconds since 1970. ``intent``: where it is a new one,
    and of a store that keeps a journal."""

    at: float
    shard: int
    attempt: int
    owner: str | None
    checkpoint: int
    store: str
    intent: bytes | None


class Sent(NamedTuple):
    """A request that changes objects, as its store has it: when it came, in seconds since 1970,
    which machine sent it, and what it was about. ``since``: it was not sent before that."""

    came: float
    machine: int
    names: list[str]
    since: float


class Record:
    """What the database recorded since it was last asked."""

    def __init__(self, database: str) -> None:
        """Begins to record; the tables must be there."""
        self._database = database
        with psycopg.connect(database) as connection:
            connection.execute(_RECORD)

    def taken(self) -> list[Row]:
        """The rows since this was last asked; waits for a server that is down."""
        columns = "id, at, shard, attempt, owner, checkpoint, store, intent"
        taken = f"DELETE FROM lease_record RETURNING {columns}".encode()
        deadline = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(self._database) as connection:
                    return [Row(*row[1:]) for row in sorted(connection.execute(taken))]
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL does not come back"
                time.sleep(0.1)


class _Lease(NamedTuple):
    shard: int
    attempt: int
    owner: str


def late(rows: Iterable[Row], sent: Iterable[Sent], places: Sequence[str]) -> list[float]:
    """By how many seconds requests to one store came after the end of the lease under which their
    objects had been announced; inf: nobody there had announced them.

    ``rows`` and ``sent`` are of a time at whose ends nothing runs; ``places``: what the names of
    each machine's workers begin with.
    """
    announced: dict[str, list[tuple[float, _Lease]]] = {}
    ends: dict[_Lease, float] = {}
    current: dict[int, _Lease] = {}
    intents: dict[int, Sequence[str]] = {}
    for row in rows:
        lease = _Lease(row.shard, row.attempt, row.owner) if row.owner is not None else None
        before = current.get(row.shard)
        if before is not None and before != lease:
            ends[before] = row.at
            del current[row.shard]
        if row.intent:
            intents[row.shard] = Intent.unpack(row.intent).names
        if lease is not None:
            # What an earlier lease announced and left undone, the next one settles.
            if row.intent or lease != current.get(row.shard):
                for name in intents.get(row.shard, ()):
                    announced.setdefault(name, []).append((row.at, lease))
            current[row.shard] = lease
    found = []
    for came, machine, names, since in sent:
        for name in names:
            own = [
                ends.get(lease, math.inf)
                for at, lease in announced.get(name, ())
                if at <= came and lease.owner.startswith(places[machine])
            ]
            if not own or since > max(own):
                found.append(since - max(own) if own else math.inf)
    return found

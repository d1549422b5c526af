"""Which process coordinates a cluster: a lease with a term, in one row.

Its holder beats; who sees the beat stand still, by a clock of its own, may take the lease with the
next term. A holder that stood still itself and comes back has an old term, and no write of it takes
effect: each checks its term in its own transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, text, update
from sqlalchemy.dialects import postgresql

from longshore.database.tables import coordinators


class Deposed(Exception):
    """Another process coordinates; whoever gets this has changed nothing, and stops to."""


class Seat(NamedTuple):
    """The lease: of which term, whose (None: given back), and how often it has been renewed."""

    term: int
    owner: str | None
    beat: int


class Present(NamedTuple):
    """The workers that a coordinator sees: how many, for how many shards of each store they have
    places together, and the newest format that any of them reads; None: there is nobody."""

    workers: int = 0
    places: int = 0
    reads: int | None = None


_ROW = 1
_OF_TERM = coordinators.c.id == _ROW
_NOT_FOR_LONG = text("SET LOCAL idle_in_transaction_session_timeout = '3s'")


def seat(connection: Connection) -> Seat | None:
    """The lease as it is; None: there was never any."""
    columns = (coordinators.c.term, coordinators.c.owner, coordinators.c.beat)
    row = connection.execute(select(*columns).where(_OF_TERM)).first()
    return None if row is None else Seat(*row)


def take(connection: Connection, owner: str, seen: Seat | None) -> int | None:
    """The lease for ``owner``, unless it is no longer as it was ``seen``; gives the new term."""
    if seen is None:
        new = postgresql.insert(coordinators).values(id=_ROW, term=1, owner=owner, beat=0)
        first = new.on_conflict_do_nothing().returning(coordinators.c.term)
        return connection.execute(first).scalar_one_or_none()
    _be_quick(connection)
    still = (_OF_TERM, coordinators.c.term == seen.term, coordinators.c.beat == seen.beat)
    taken = update(coordinators).where(*still).values(term=seen.term + 1, owner=owner, beat=0)
    return seen.term + 1 if connection.execute(taken).rowcount else None


def note(connection: Connection, term: int, present: Present) -> None:
    """Write down which workers are there; raises Deposed."""
    _change(connection, term, present._asdict())


def present(connection: Connection) -> Present:
    """The workers that were there when a coordinator wrote it down last."""
    columns = (coordinators.c.workers, coordinators.c.places, coordinators.c.reads)
    row = connection.execute(select(*columns).where(_OF_TERM)).first()
    return Present() if row is None else Present(row.workers or 0, row.places or 0, row.reads)


def beat(connection: Connection, term: int) -> None:
    """Renew the lease; raises Deposed."""
    _change(connection, term, {"beat": coordinators.c.beat + 1})


def _change(connection: Connection, term: int, values: Mapping[str, Any]) -> None:
    """In one statement: who locked the row first, to look at it, could meet a beat in between, of
    which each would wait for the other."""
    _be_quick(connection)
    mine = update(coordinators).where(_OF_TERM, coordinators.c.term == term)
    if not connection.execute(mine.values(**values)).rowcount:
        raise Deposed(f"the term is no longer {term}")


def check(connection: Connection, term: int) -> None:
    """See to it that no other term begins before this transaction ends. Raises Deposed."""
    _be_quick(connection)
    found = select(coordinators.c.term).where(_OF_TERM).with_for_update(read=True)
    if connection.execute(found).scalar_one() != term:
        raise Deposed(f"the term is no longer {term}")


def resign(connection: Connection, term: int) -> None:
    """Give the lease back, so that the next need not wait; does nothing for an older term."""
    _be_quick(connection)
    mine = update(coordinators).where(_OF_TERM, coordinators.c.term == term)
    connection.execute(mine.values(owner=None, beat=coordinators.c.beat + 1))


def _be_quick(connection: Connection) -> None:
    """Have the server end a transaction that is about to lock the row if nothing comes of it: who
    stands still in it, or is cut off, would keep the next from its term."""
    if connection.dialect.name == "postgresql":
        connection.execute(_NOT_FOR_LONG)

"""What services were seen to do with calls on scratch objects, told from worker to worker."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from longshore.database.tables import proofs
from longshore.proof import Effect, Proof


def keep(connection: Connection, endpoint: str, found: Iterable[Proof], now_us: int) -> None:
    """Remember what was found out now; the last word about a call of a server counts."""
    sqlites = connection.dialect.name == "sqlite"
    insert = sqlite.insert(proofs) if sqlites else postgresql.insert(proofs)
    key = (proofs.c.endpoint, proofs.c.server, proofs.c.call)
    values = {name: insert.excluded[name] for name in ("effect", "why", "prove_us")}
    rows = [
        {
            "endpoint": endpoint,
            "server": proof.server,
            "call": proof.call,
            "effect": proof.effect.name,
            "why": proof.why,
            "prove_us": now_us,
        }
        # In one order: two workers that prove at once must not wait for each other's rows.
        for proof in sorted(found, key=lambda proof: (proof.server, proof.call))
    ]
    if rows:
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=values), rows)


def known(connection: Connection, endpoint: str, since_us: int) -> list[Proof]:
    """What was found out since then, of every server that answered there."""
    columns = (
        *(proofs.c.call, proofs.c.effect, proofs.c.why),
        *(proofs.c.server, proofs.c.prove_us),
    )
    told = select(*columns).where(proofs.c.endpoint == endpoint, proofs.c.prove_us >= since_us)
    return [
        Proof(call, Effect[effect], why, server, time_us)
        for call, effect, why, server, time_us in connection.execute(told.order_by(*columns))
    ]

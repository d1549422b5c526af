"""Secret keys that all servers of a database have in common, and keep when they restart."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from longshore.database.tables import keys

_BYTES = 32


def find_key(connection: Connection, name: str) -> bytes | None:
    """The key, if there is one."""
    found = connection.execute(select(keys.c.key).where(keys.c.name == name)).scalar_one_or_none()
    return None if found is None else bytes(found)


def make_key(connection: Connection, name: str) -> bytes:
    """The key, which is made unless somebody else just has: of several at once one succeeds, and
    all get that one's."""
    sqlites = connection.dialect.name == "sqlite"
    insert = sqlite.insert(keys) if sqlites else postgresql.insert(keys)
    new = {"name": name, "key": secrets.token_bytes(_BYTES)}
    connection.execute(insert.on_conflict_do_nothing(), new)
    found = find_key(connection, name)
    assert found is not None  # noqa: S101 - it was there, or was inserted just now
    return found

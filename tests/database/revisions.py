"""Revisions of the schema that are not there yet, to be added to a longshore that knows none of
them: one that brings a table, and a later one that takes a column away."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal

import pytest

from longshore.database import schema

Kind = Literal["expand", "contract"]

_STEPS = {
    "expand": ('op.create_table("cranes", sa.Column("id", sa.Integer, primary_key=True))'),
    "contract": 'op.drop_table("cranes")',
}


def write(migrations: Path, kind: Kind, head: str, oldest: str) -> str:
    """One more file for those who are at ``head``; gives its revision. A contraction leaves out
    all who know no newer one than what is before it."""
    revision = f"{int(head) + 1:04}"
    (migrations / "versions" / f"made_up_{revision}.py").write_text(f'''"""Made up."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"
oldest = "{oldest if kind == "expand" else head}"


def upgrade() -> None:
    {_STEPS[kind]}
''')
    return revision


def add(directory: Path, patch: pytest.MonkeyPatch, kind: Kind) -> str:
    """Let this process know one more; gives it."""
    migrations = directory / f"migrations-{schema.HEAD}-{kind}"
    shutil.copytree(schema.MIGRATIONS, migrations, dirs_exist_ok=True)
    before = schema.HEAD
    revision = write(migrations, kind, before, schema.OLDEST)
    patch.setattr(schema, "MIGRATIONS", migrations)
    patch.setattr(schema, "HEAD", revision)
    if kind == "expand":
        patch.setattr(schema, "NEEDED", revision)
    else:
        patch.setattr(schema, "OLDEST", before)
    return revision


def add_to_sources(package: Path, kind: Kind) -> str:
    """The same for a copy of the sources, at the folder ``longshore``."""
    module = package / "database" / "schema.py"
    text = module.read_text()
    constants = dict(re.findall(r'^(HEAD|NEEDED|OLDEST) = "(\d+)"', text, re.MULTILINE))
    head = constants["HEAD"]
    revision = write(package / "database" / "migrations", kind, head, constants["OLDEST"])
    new = {"HEAD": revision, **({"NEEDED": revision} if kind == "expand" else {"OLDEST": head})}
    for name, value in new.items():
        text = re.sub(rf'^{name} = "\d+"', f'{name} = "{value}"', text, flags=re.MULTILINE)
    module.write_text(text)
    return revision

"""The schema of the first release: jobs, bucket operations, shards, and what is remembered.

Nothing here may come from ``tables``: that is the newest schema, and this is the first for ever.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
oldest = "0001"

_Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COUNTERS = (
    "total",
    "succeeded",
    "failed",
    "bytes_found",
    "bytes_transformed",
    "contexts_created",
    "contexts_deleted",
    "contexts_updated",
)


def upgrade() -> None:
    """Make every table."""
    _jobs()
    _bucket_operations()
    _sources()
    _shards()
    op.create_table(
        "requests",
        sa.Column("project", _Name, primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("request_id", _Name, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("job", _Id),
        sa.Column("create_us", sa.BigInteger, nullable=False),
    )
    op.create_index("requests_by_time", "requests", ["create_us"])
    op.create_table(
        "keys",
        sa.Column("name", _Name, primary_key=True),
        sa.Column("key", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "estimates",
        sa.Column("store", _Name, primary_key=True),
        sa.Column("bucket", _Name, primary_key=True),
        sa.Column("concurrency", sa.Float, nullable=False),
        sa.Column("update_us", sa.BigInteger, nullable=False),
    )
    op.create_index("estimates_by_time", "estimates", ["update_us"])
    op.create_table(
        "coordinators",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ramps",
        sa.Column("store", _Name, primary_key=True),
        sa.Column("bucket", _Name, primary_key=True),
        sa.Column("writes_per_second", sa.Float, nullable=False),
        sa.Column("update_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "proofs",
        sa.Column("endpoint", _Name, primary_key=True),
        sa.Column("server", _Name, primary_key=True),
        sa.Column("call", _Name, primary_key=True),
        sa.Column("effect", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("prove_us", sa.BigInteger, nullable=False),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("project", _Name, nullable=False),
        sa.Column("job_id", _Name, nullable=False),
        sa.Column("operation_id", _Name, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("multi_bucket", sa.Boolean, nullable=False),
        sa.Column("creator", sa.Text),
        sa.Column("record_us", sa.BigInteger),
        sa.Column("transformation_name", sa.Text, nullable=False),
        sa.Column("create_us", sa.BigInteger, nullable=False),
        sa.Column("schedule_us", sa.BigInteger),
        sa.Column("complete_us", sa.BigInteger),
        sa.Column("cancel_us", sa.BigInteger),
        sa.Column("job_delete_us", sa.BigInteger),
        sa.Column("operation_delete_us", sa.BigInteger),
        *_error(),
        *_counters(),
        sa.Column("description", _Name),
        sa.Column("log_states", sa.JSON, nullable=False),
        sa.Column("errors", sa.JSON),
        sa.Column("transformation", sa.JSON, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    live = "job_delete_us IS NULL"
    known = "operation_delete_us IS NULL"
    _index("jobs_by_id", "jobs", ["project", "job_id"], live, unique=True)
    _index("jobs_by_operation", "jobs", ["project", "operation_id"], known, unique=True)
    _index("jobs_of_operations", "jobs", ["project", "job_id", "operation_id"], known)
    _index("jobs_by_create_time", "jobs", ["project", "create_us", "id"], live)
    _index("jobs_by_state_and_id", "jobs", ["project", "state", "job_id"], live)
    _index("jobs_by_state_and_time", "jobs", ["project", "state", "create_us", "id"], live)
    _index("jobs_by_age", "jobs", ["state", "create_us"])
    _index("jobs_open", "jobs", ["id"], "state IN ('QUEUED', 'RUNNING')")
    _index("jobs_cancelling", "jobs", ["id"], "cancel_us IS NOT NULL AND complete_us IS NULL")
    _index("jobs_unrecorded", "jobs", ["id"], "complete_us IS NOT NULL AND record_us IS NULL")


def _bucket_operations() -> None:
    op.create_table(
        "bucket_operations",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("job", _Id, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("bucket_operation_id", _Name, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("bucket", _Name, nullable=False),
        sa.Column("source_name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("create_us", sa.BigInteger, nullable=False),
        sa.Column("start_us", sa.BigInteger),
        sa.Column("complete_us", sa.BigInteger),
        *_error(),
        *_counters(),
        sa.Column("errors", sa.JSON),
        sa.Column("source", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    table = "bucket_operations"
    _index("bucket_operations_by_id", table, ["job", "bucket_operation_id"], unique=True)
    _index("bucket_operations_by_state", table, ["job", "state"])


def _sources() -> None:
    job = sa.ForeignKey("jobs.id", ondelete="CASCADE")
    op.create_table(
        "sources",
        sa.Column("job", _Id, job, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("data", sa.JSON, nullable=False),
    )


def _shards() -> None:
    part = sa.ForeignKey("bucket_operations.id", ondelete="CASCADE")
    op.create_table(
        "shards",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("job", _Id, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("bucket_operation", _Id, part, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("store", _Name),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("owner", sa.Text),
        sa.Column("deaths", sa.Integer, nullable=False, server_default="0"),
        sa.Column("halving", sa.Text),
        sa.Column("checkpoint", sa.BigInteger, nullable=False, server_default="0"),
        *_error(),
        *_counters(),
        sa.Column("errors", sa.JSON),
        sa.Column("range", sa.JSON),
        sa.Column("cursor", sa.JSON, nullable=False),
        sa.Column("intent", sa.LargeBinary),
        sqlite_autoincrement=True,
    )
    _index("shards_by_bucket_operation", "shards", ["bucket_operation", "state"])
    _index("shards_by_job", "shards", ["job", "state"])
    free = "owner IS NULL AND state IN ('QUEUED', 'RUNNING')"
    _index("shards_free", "shards", ["job", "attempt", "id"], free)
    _index("shards_leased", "shards", ["job", "owner"], "owner IS NOT NULL")


def _error() -> list[sa.Column[str]]:
    return [
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
    ]


def _counters() -> list[sa.Column[int]]:
    return [
        sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in _COUNTERS
    ]


def _index(
    name: str, table: str, columns: list[str], where: str | None = None, *, unique: bool = False
) -> None:
    condition = sa.text(where) if where else None
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )

"""The tables. Times are microseconds since 1970, states are the names of model.State.

A job is the root; its bucket operations and shards go with it. Counters live on the shards while
these run, on their bucket operation's row from their end on, and on the job's from its end on: so
nobody queues for one row while shards run, and nobody sums what has ended. Sources stand apart from
the bucket operations, of which a thousand may have the same list of a thousand prefixes. Ids are
never used twice (``sqlite_autoincrement``): files of the log are named after shards.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    text,
)

from longshore.model import COUNTER_NAMES


class Message(TypeDecorator[str]):
    """Text for people that may quote names of objects: PostgreSQL has no text with a NUL in it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """``value`` as both databases can keep it."""
        return value and value.replace("\0", "\N{REPLACEMENT CHARACTER}")


# Order of names is the order of their bytes on both databases: SQLite's default is just that,
# PostgreSQL's is the locale's.
Name = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite makes an alias of its row id only of the exact type INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()


def _counters() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False, server_default="0") for name in COUNTER_NAMES]


def _index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


_LIVE = "job_delete_us IS NULL"

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project", Name, nullable=False),
    Column("job_id", Name, nullable=False),
    Column("operation_id", Name, nullable=False),
    Column("state", Text, nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("multi_bucket", Boolean, nullable=False),
    Column("creator", Text),  # the principal, for the audit log
    Column("record_us", BigInteger),  # when that log got the job's end
    Column("transformation_name", Text, nullable=False),
    Column("create_us", BigInteger, nullable=False),
    Column("schedule_us", BigInteger),
    Column("complete_us", BigInteger),
    Column("cancel_us", BigInteger),  # when somebody asked for it
    Column("job_delete_us", BigInteger),  # jobs.delete: the row stays for the operation's sake
    Column("operation_delete_us", BigInteger),  # operations.delete: nobody is interested any more
    Column("error_code", Text),  # of a FAILED or CANCELED job, for its operation
    Column("error_message", Message),
    *_counters(),
    Column("description", Name),  # NULL: none, or an empty one
    # What may be long comes last: SQLite reads a row from its beginning.
    Column("log_states", JSON, nullable=False),  # ["SUCCEEDED", "FAILED"], for workers
    Column("errors", JSON),
    Column("transformation", JSON, nullable=False),  # plain data, for workers
    Column("message", LargeBinary, nullable=False),  # the Job as its creator set it, serialised
    # Those of the lists have no deleted ones, of which there may be any number.
    _index("jobs_by_id", "project", "job_id", where=_LIVE, unique=True),
    _index(
        "jobs_by_operation",
        *("project", "operation_id"),
        where="operation_delete_us IS NULL",
        unique=True,
    ),
    _index(
        "jobs_of_operations",
        *("project", "job_id", "operation_id"),
        where="operation_delete_us IS NULL",
    ),
    _index("jobs_by_create_time", "project", "create_us", "id", where=_LIVE),
    _index("jobs_by_state_and_id", "project", "state", "job_id", where=_LIVE),
    _index("jobs_by_state_and_time", "project", "state", "create_us", "id", where=_LIVE),
    Index("jobs_by_age", "state", "create_us"),
    _index("jobs_open", "id", where="state IN ('QUEUED', 'RUNNING')"),
    _index("jobs_cancelling", "id", where="cancel_us IS NOT NULL AND complete_us IS NULL"),
    _index("jobs_unrecorded", "id", where="complete_us IS NOT NULL AND record_us IS NULL"),
    sqlite_autoincrement=True,
)

bucket_operations = Table(
    "bucket_operations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("bucket_operation_id", Name, nullable=False),
    Column("position", Integer, nullable=False),  # of its Bucket in the job's bucket list
    Column("bucket", Name, nullable=False),
    Column("source_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("create_us", BigInteger, nullable=False),
    Column("start_us", BigInteger),
    Column("complete_us", BigInteger),
    Column("error_code", Text),
    Column("error_message", Message),
    *_counters(),
    Column("errors", JSON),
    Column("source", Integer, nullable=False),  # the number of its row in ``sources``
    Index("bucket_operations_by_id", "job", "bucket_operation_id", unique=True),
    Index("bucket_operations_by_state", "job", "state"),
    sqlite_autoincrement=True,
)

sources = Table(
    "sources",
    metadata,
    Column("job", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", JSON, nullable=False),  # plain data, for workers
)

shards = Table(
    "shards",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column(
        "bucket_operation",
        Id,
        ForeignKey("bucket_operations.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("state", Text, nullable=False),
    Column("store", Name),  # that its bucket is mapped to; NULL while planning
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("owner", Text),  # the worker that has the lease; NULL: nobody
    # How many workers have died in a row while they carried it, since it last got on.
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("halving", Text),  # "ASKED" by an idle worker; "NO": not now, says its own worker
    Column("checkpoint", BigInteger, nullable=False, server_default="0"),
    Column("error_code", Text),
    Column("error_message", Message),
    *_counters(),
    Column("errors", JSON),
    Column("range", JSON(none_as_null=True)),  # NULL: plan the bucket operation
    Column("cursor", JSON, nullable=False),
    Column("intent", LargeBinary),
    # Added to what was there, so at its end.
    Column("format", SmallInteger, nullable=False, server_default="1"),  # model.FORMAT, or older
    Column("lease_seconds", Float),  # of the worker that has it; NULL: what the settings say
    Column("checkpoint_us", BigInteger),  # of the last checkpoint, by its worker's clock
    Index("shards_by_bucket_operation", "bucket_operation", "state"),
    Index("shards_by_job", "job", "state"),
    _index(
        "shards_free",
        *("store", "job", "attempt", "id", "format"),
        where="owner IS NULL AND state IN ('QUEUED', 'RUNNING')",
    ),
    _index("shards_leased", "job", "owner", where="owner IS NOT NULL"),
    _index("shards_of_worker", "owner", "store", where="owner IS NOT NULL"),
    sqlite_autoincrement=True,
)

requests = Table(
    "requests",
    metadata,
    Column("project", Name, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("request_id", Name, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),  # of the request's content
    Column("job", Id),  # what the first request was about; no key: it may be gone
    Column("create_us", BigInteger, nullable=False),
    Index("requests_by_time", "create_us"),
)

keys = Table(
    "keys",
    metadata,
    Column("name", Name, primary_key=True),
    Column("key", LargeBinary, nullable=False),
)

estimates = Table(
    "estimates",
    metadata,
    Column("store", Name, primary_key=True),
    Column("bucket", Name, primary_key=True),
    Column("concurrency", Float, nullable=False),  # calls at once, of all workers together
    Column("update_us", BigInteger, nullable=False),
    Index("estimates_by_time", "update_us"),
)

ramps = Table(
    "ramps",
    metadata,
    Column("store", Name, primary_key=True),
    Column("bucket", Name, primary_key=True),
    Column("writes_per_second", Float, nullable=False),  # of all workers together
    Column("update_us", BigInteger, nullable=False),
)

quotas = Table(
    "quotas",
    metadata,
    Column("owner", Name, primary_key=True),  # a worker
    Column("parts", JSON, nullable=False),  # of every store and bucket of which it has shards
)

proofs = Table(
    "proofs",
    metadata,
    Column("endpoint", Name, primary_key=True),
    Column("server", Name, primary_key=True),  # the software that answered there
    Column("call", Name, primary_key=True),
    Column("effect", Text, nullable=False),
    Column("why", Message, nullable=False),
    Column("prove_us", BigInteger, nullable=False),
)

coordinators = Table(
    "coordinators",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1: there is one at a time
    Column("term", BigInteger, nullable=False),
    Column("owner", Text),  # NULL: given back
    Column("beat", BigInteger, nullable=False),
    Column("reads", SmallInteger),  # the newest format that a worker present reads; NULL: nobody is
    Column("workers", Integer),  # that are present
    Column("places", Integer),  # of them together, for shards of each store
)

compatibility = Table(
    "compatibility",
    metadata,
    Column("oldest", Text, primary_key=True),  # whose longshore can use this database; one row
)

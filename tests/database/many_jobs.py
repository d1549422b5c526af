"""Any number of jobs, as they come to be in years: by SQL, in seconds."""

from __future__ import annotations

from sqlalchemy import Connection

from longshore.api import messages, wire

PROJECT = "p"
MINUTE_US = 60_000_000
START_US = 1_788_220_800_000_000
NUMBERS = (
    "WITH RECURSIVE numbers(n) AS"
    " (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
)
STATE = """CASE WHEN n % 200 = 199 THEN 'RUNNING' WHEN n % 100 = 1 THEN 'CANCELED'
    WHEN n % 33 = 2 THEN 'FAILED' ELSE 'SUCCEEDED' END"""


def fill(connection: Connection, count: int) -> None:
    """``count`` jobs, four seconds apart and named in another order; half a percent run, each with
    two shards."""
    sqlite = connection.dialect.name == "sqlite"
    config = wire.Job()
    bucket = config.bucket_list.buckets.add(bucket="harbour")
    bucket.prefix_list.included_object_prefixes.append("tmp/")
    config.delete_object.SetInParent()
    message = messages.dump(config).hex()
    blob = f"x'{message}'" if sqlite else f"'\\x{message}'::bytea"
    no = "0" if sqlite else "false"
    # Names in another order than times; 1,000,003 is a prime.
    name = "substr('000000' || (n * 7919 % 1000003), -7)"
    if not sqlite:
        name = "right('000000' || (n * 7919 % 1000003), 7)"
    made = f"{START_US} + n * {4 * 1_000_000}"
    ended = f"CASE WHEN n % 200 <> 199 THEN {made} + {MINUTE_US} END"
    columns = "id, project, job_id, operation_id, message, state, dry_run, multi_bucket"
    columns += ", transformation_name, transformation, log_states, create_us, complete_us"
    columns += ", description, total, succeeded, failed, errors"
    values = f"n, '{PROJECT}', 'job-' || {name}, 'operation-' || ({made}) || '-' || {name}, {blob}"
    values += f", {STATE}, {no}, {no}, 'delete_object', '{{}}', '[]', {made}, {ended}"
    values += ", 'nightly number-' || n, n % 1000, n % 1000, n % 97, '{}'"
    insert(connection, "jobs", columns, values, count)
    busy = count // 200
    columns = "id, job, bucket_operation_id, position, bucket, source_name, source, state"
    columns += ", create_us"
    values = f"n, n * 200 - 1, 'bo', 0, 'b', 'prefix_list', 0, 'RUNNING', {START_US}"
    insert(connection, "bucket_operations", columns, values, busy)
    columns = "job, bucket_operation, state, range, cursor, store, attempt, total"
    values = "n * 200 - 1, n, 'RUNNING', '{}', '{}', 'main', 1, n % 500"
    for _ in range(2):
        insert(connection, "shards", columns, values, busy)


def insert(connection: Connection, name: str, columns: str, values: str, count: int) -> None:
    rows = f"{NUMBERS.format(count=count)} SELECT {values} FROM numbers"
    statement = f"INSERT INTO {name} ({columns}) {rows}"
    postgresql = connection.dialect.name == "postgresql"
    connection.exec_driver_sql(statement.replace("%", "%%") if postgresql else statement)

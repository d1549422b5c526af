"""``longshore stores``: what the configured stores are, and what they can be trusted with."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from longshore.cli import output
from longshore.cli.options import ConfigOption, DataDirOption, bucket_name, read_settings
from longshore.cli.output import Column, FormatOption, Row, field

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from longshore.database import Database
    from longshore.proof import Finding, Proof
    from longshore.settings import Settings
    from longshore.store import Capabilities

LIST_EXAMPLE = "Example: [bold]longshore stores list[/]"
CHECK_EXAMPLE = "Example: [bold]longshore stores check ceph --bucket=archive-2026[/]"

app = typer.Typer(
    no_args_is_help=True,
    help="Stores: which there are, and what each can be trusted with.",
    epilog=CHECK_EXAMPLE,
)


class Change(NamedTuple):
    """A line of the table: a transformation, of what if it has several, and which act that is."""

    transformation: str
    of: str
    act: str


CHANGES = (
    Change("deleteObject", "", "delete"),
    Change("deleteObject", "all versions", "delete_permanently"),
    Change("putObjectHold", "temporary hold", "temporary_hold"),
    Change("putObjectHold", "event-based hold", "event_based_hold"),
    Change("putMetadata", "", "custom_metadata"),
    Change("putMetadata", "retention", "retention"),
    Change("rewriteObject", "storage class", "storage_class"),
    Change("rewriteObject", "KMS key", "kms_key"),
    Change("updateObjectCustomContext", "", "contexts"),
    Change("setObjectAcls", "", "acl"),
)
PATIENCE_SECONDS = 5.0
_REWRITES = {"storage_class": "--storage-class", "kms_key": "--kms-key"}
"""Acts that are tried only with a value, and the options that have it."""


CHECK_COLUMNS = (
    Column("TRANSFORMATION", lambda row: _named(row["transformation"], row["of"])),
    Column("VERDICT", field("verdict")),
    Column("WHY", lambda row: row["reason"] or row["weaker"], folds=True),
    Column("NEEDS", lambda row: ", ".join(row["needs"]), style="dim", folds=True, extra=True),
    output.time_column("TRIED", "tried"),
)
LIST_COLUMNS = (
    Column("STORE", field("name")),
    Column("KIND", field("kind"), style="dim"),
    Column("SERVICE", field("endpoint"), folds=True),
    Column("BUCKETS", lambda row: ", ".join(row["buckets"]), folds=True),
    Column("PROVEN", lambda row: _summary(row["proofs"]) if row["endpoint"] else ""),
    output.time_column("SINCE", "since"),
)


def _named(transformation: str, of: str) -> str:
    return f"{transformation}: {of}" if of else transformation


def _summary(proofs: Sequence[Row]) -> str:
    works = sum(proof["effect"] == "works" for proof in proofs)
    return f"{works} of {len(proofs)} calls" if proofs else "nothing yet"


@app.command("list", epilog=LIST_EXAMPLE)
def list_(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = "table",
) -> None:
    """List the configured stores, the embedded one included, and what is proven of each.

    Nothing is asked of their services: PROVEN is what jobs and `longshore stores check` found out
    within the last week.
    """
    import asyncio

    rows = asyncio.run(_listed(read_settings(config, data_dir)))
    with output.Writer(format_, LIST_COLUMNS) as writer:
        writer.write_all(rows)


@app.command("check", epilog=CHECK_EXAMPLE)
def check(
    name: Annotated[str, typer.Argument(metavar="STORE", help="Its name in the settings.")],
    bucket: Annotated[
        str | None,
        typer.Option(
            "--bucket",
            metavar="BUCKET",
            callback=lambda text: text and bucket_name(text),
            help="What can be done in this bucket. Default: the store's `probe_bucket`.",
        ),
    ] = None,
    storage_class: Annotated[
        str | None,
        typer.Option("--storage-class", metavar="CLASS", help="Try rewrites to this one, too."),
    ] = None,
    kms_key: Annotated[
        str | None,
        typer.Option("--kms-key", metavar="KEY", help="Try rewrites under this one, too."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = "table",
) -> None:
    """Find out what a store can be trusted with, and show why not where it can't.

    Services that speak S3 differ: some answer a call that they do not know with success, and
    destroy the object. So each call is tried first, on scratch objects below `.longshore-probe/`
    in the store's `probe_bucket`, or else in the bucket itself, unless that has a default
    retention. Your objects are neither read nor changed, and nothing stays behind.

    What is found out is kept for jobs, for a week; a job that needs what has not been found out
    does the same before it begins. Each check tries everything anew.
    """
    import asyncio

    values = {"storage_class": storage_class or "", "kms_key": kms_key or ""}
    rows = asyncio.run(_checked(read_settings(config, data_dir), name, bucket, values))
    with output.Writer(format_, CHECK_COLUMNS) as writer:
        writer.write_all(rows)


async def _listed(settings: Settings) -> list[Row]:
    from longshore.clock import SYSTEM_CLOCK
    from longshore.database import proofs
    from longshore.engine.proving import GOOD_US
    from longshore.proof import MustProve
    from longshore.store import Stores

    rows: list[Row] = []
    stores, since_us = Stores(settings), SYSTEM_CLOCK.now_us() - GOOD_US
    async with _book(settings) as book:
        for name in stores.names():
            store, of = stores.open(name), stores.settings_of(name)
            endpoint, known = "", []
            if isinstance(store, MustProve):
                endpoint = store.endpoint
                known = await book.read(proofs.known, endpoint, since_us) if book else []
            found = [_proof(proof) for proof in known]
            rows.append(
                {
                    "name": name,
                    "kind": of.kind,
                    "endpoint": endpoint,
                    "buckets": list(of.buckets),
                    "proofs": found,
                    "since": min((proof["proveTime"] for proof in found), default=""),
                }
            )
    await stores.close()
    return rows


async def _checked(
    settings: Settings, name: str, bucket: str | None, values: Mapping[str, str]
) -> list[Row]:
    from longshore.proof import MustProve
    from longshore.store import Stores

    stores = Stores(settings)
    if name not in stores.names():
        known = ", ".join(stores.names())
        raise typer.BadParameter(f"There is no store {name!r}; there are: {known}.")
    store = stores.open(name)
    try:
        if not isinstance(store, MustProve):
            return [_able(change, store.capabilities) for change in CHANGES]
        where = bucket or settings.stores[name].options.get("probe_bucket")
        if where is None:
            raise typer.BadParameter(
                f"Name a bucket to look into with --bucket, or set stores.{name}.probe_bucket."
            )
        async with _book(settings) as book:
            return await _tried(store, where, values, book)
    finally:
        await stores.close()


async def _tried(
    store: Any, bucket: str, values: Mapping[str, str], book: Database | None
) -> list[Row]:
    """The rows of a store that must prove, each when its calls have been tried."""
    from longshore.clock import SYSTEM_CLOCK
    from longshore.database import proofs

    rows: list[Row] = []
    known: dict[str, Proof] = {}
    with _progress(bucket) as show:
        for number, change in enumerate(CHANGES):
            value = values.get(change.act, "")
            if change.act in _REWRITES and not value:
                rows.append(_untried(change))
                continue
            show(number, change)
            acts = {change.act: value}
            (finding,) = await store.prove(bucket, acts, list(known.values()))
            new = [proof for proof in finding.proofs if not proof.time_us]
            now_us = SYSTEM_CLOCK.now_us()
            if book is not None:
                await book.write(proofs.keep, store.endpoint, new, now_us)
            known |= {proof.call: proof._replace(time_us=now_us) for proof in new}
            rows.append(_row(change, finding, [known[proof.call] for proof in finding.proofs]))
    return rows


def _row(change: Change, finding: Finding, proofs: Sequence[Proof]) -> Row:
    refusal = finding.refusal
    verdict = "refused" if refusal else "weaker" if finding.weaker else "works"
    return {
        "transformation": change.transformation,
        "of": change.of,
        "verdict": verdict,
        "code": refusal.code.name if refusal else "OK",
        "reason": refusal.message if refusal else "",
        "weaker": "" if refusal else finding.weaker,
        "needs": list(finding.needs),
        "tried": min((output.rfc3339(proof.time_us) for proof in proofs), default=""),
        "proofs": [_proof(proof) for proof in proofs],
    }


def _proof(proof: Proof) -> Row:
    return {
        "call": proof.call,
        "effect": proof.effect.value,
        "why": proof.why,
        "server": proof.server,
        "proveTime": output.rfc3339(proof.time_us),
    }


def _able(change: Change, capabilities: Capabilities) -> Row:
    """The row of a store whose service is its own, so that nothing must be proven."""
    able = change.act.startswith("delete") or change.act in capabilities.patch_columns
    if change.act in _REWRITES:
        able = capabilities.rewrite
    return _bare(change, "works" if able else "refused", "" if able else "The store cannot do it.")


def _untried(change: Change) -> Row:
    option = _REWRITES[change.act]
    return _bare(change, "not tried", f"Give {option} to try it.")


def _bare(change: Change, verdict: str, reason: str) -> Row:
    return {
        "transformation": change.transformation,
        "of": change.of,
        "verdict": verdict,
        "code": "UNIMPLEMENTED" if verdict == "refused" else "OK",
        "reason": reason,
        "weaker": "",
        "needs": [],
        "tried": "",
        "proofs": [],
    }


@asynccontextmanager
async def _book(settings: Settings) -> AsyncIterator[Database | None]:
    """The database, for proofs; None where no service has made one yet. Raises FailedPrecondition
    if its schema is another one's."""
    from longshore.database import Database, schema

    if settings.database is None and not settings.database_path.exists():
        yield None
        return
    database = Database.open(settings, patience_seconds=PATIENCE_SECONDS)
    try:
        await database.read(schema.check)
        yield database
    finally:
        await database.close()


@contextmanager
def _progress(bucket: str) -> Iterator[Callable[[int, Change], None]]:
    """Shows on a terminal what is being tried."""
    if not sys.stderr.isatty():
        yield lambda number, change: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Progress(*columns, console=output.console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(CHANGES), what="")

        def show(number: int, change: Change) -> None:
            what = f"trying {_named(change.transformation, change.of)} in {bucket}"
            progress.update(task, completed=number, what=what)

        yield show

"""The flags of ``jobs create``: those of ``gcloud storage batch-operations jobs create``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer


def _flag(name: str, panel: str, text: str, *, metavar: str = "") -> Any:
    return typer.Option(name, metavar=metavar, rich_help_panel=panel, help=text)


_OBJECTS = "Which objects"
_FILTERS = "Which objects, by filters"
_DELETE = "Transformation: delete"
_HOLD = "Transformation: holds"
_CHANGE = "Transformation: metadata, storage class, key or ACLs"
_CONTEXTS = "Transformation: custom contexts"
_MORE = "More about the job"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlags:
    """The flags of one ``jobs create``, as they were given; None: not given."""

    bucket: Annotated[str | None, _flag("--bucket", _OBJECTS, "B or gs://B.", metavar="BUCKET")] = (
        None
    )
    bucket_list: Annotated[
        str | None, _flag("--bucket-list", _OBJECTS, "Several at once.", metavar="BUCKET,…")
    ] = None
    included_object_prefixes: Annotated[
        str | None,
        _flag(
            "--included-object-prefixes",
            _OBJECTS,
            "Those whose names begin so; an empty value means all.",
            metavar="PREFIX,…",
        ),
    ] = None
    manifest_location: Annotated[
        str | None,
        _flag(
            "--manifest-location",
            _OBJECTS,
            "Those of a CSV file: bucket, name and, if you like, generation. One * may stand"
            " in the file's name.",
            metavar="gs://B/FILE",
        ),
    ] = None
    target_project: Annotated[
        str | None,
        _flag("--target-project", _FILTERS, "In all its buckets.", metavar="PROJECT"),
    ] = None
    bucket_filters: Annotated[
        str | None,
        _flag("--bucket-filters", _FILTERS, "Only in these buckets.", metavar="CEL"),
    ] = None
    object_filters: Annotated[
        str | None,
        _flag("--object-filters", _FILTERS, "Only these objects.", metavar="CEL"),
    ] = None
    target_locations: Annotated[
        str | None,
        _flag("--target-locations", _FILTERS, "Only in buckets there.", metavar="LOCATION,…"),
    ] = None
    target_snapshot_time: Annotated[
        str | None,
        _flag(
            "--target-snapshot-time",
            _FILTERS,
            "Objects of then; longshore has those of now only.",
            metavar="TIME",
        ),
    ] = None
    insights_dataset_config: Annotated[
        str | None,
        _flag("--insights-dataset-config", _FILTERS, "Taken, and not needed here.", metavar="NAME"),
    ] = None
    dry_run_job_id: Annotated[
        str | None,
        _flag(
            "--dry-run-job-id",
            _FILTERS,
            "What a dry run has found; longshore does not keep that yet.",
            metavar="JOB",
        ),
    ] = None
    delete_object: Annotated[bool, _flag("--delete-object", _DELETE, "Delete them.")] = False
    enable_permanent_object_deletion: Annotated[
        bool,
        _flag("--enable-permanent-object-deletion", _DELETE, "Noncurrent versions too."),
    ] = False
    put_object_temporary_hold: Annotated[
        bool, _flag("--put-object-temporary-hold", _HOLD, "Set the temporary hold.")
    ] = False
    no_put_object_temporary_hold: Annotated[
        bool, _flag("--no-put-object-temporary-hold", _HOLD, "Lift it.")
    ] = False
    put_object_event_based_hold: Annotated[
        bool, _flag("--put-object-event-based-hold", _HOLD, "Set the event-based hold.")
    ] = False
    no_put_object_event_based_hold: Annotated[
        bool, _flag("--no-put-object-event-based-hold", _HOLD, "Lift it.")
    ] = False
    put_metadata: Annotated[
        str | None,
        _flag(
            "--put-metadata",
            _CHANGE,
            "Cache-Control, Content-Disposition, Content-Encoding, Content-Language,"
            " Content-Type, Custom-Time, Retain-Until, Retention-Mode; any other key is custom"
            " metadata. KEY= clears.",
            metavar="KEY=VALUE,…",
        ),
    ] = None
    rewrite_object: Annotated[
        str | None,
        _flag(
            "--rewrite-object",
            _CHANGE,
            "Write them anew with another kms-key or storage-class.",
            metavar="KEY=VALUE,…",
        ),
    ] = None
    set_object_acls_from_file: Annotated[
        Path | None,
        _flag(
            "--set-object-acls-from-file",
            _CHANGE,
            "JSON or YAML: grants, a list of {entity, role}, and remove_entities, a list.",
            metavar="FILE",
        ),
    ] = None
    update_object_custom_contexts: Annotated[
        str | None,
        _flag(
            "--update-object-custom-contexts", _CONTEXTS, "Add or change.", metavar="KEY=VALUE,…"
        ),
    ] = None
    update_object_custom_contexts_file: Annotated[
        Path | None,
        _flag(
            "--update-object-custom-contexts-file", _CONTEXTS, "From JSON or YAML.", metavar="FILE"
        ),
    ] = None
    clear_object_custom_contexts: Annotated[
        str | None,
        _flag("--clear-object-custom-contexts", _CONTEXTS, "Remove these.", metavar="KEY,…"),
    ] = None
    clear_all_object_custom_contexts: Annotated[
        bool, _flag("--clear-all-object-custom-contexts", _CONTEXTS, "Remove all.")
    ] = False
    description: Annotated[
        str | None, _flag("--description", _MORE, "For people.", metavar="TEXT")
    ] = None
    dry_run: Annotated[bool, _flag("--dry-run", _MORE, "Count the objects, change nothing.")] = (
        False
    )
    log_actions: Annotated[
        str | None,
        _flag("--log-actions", _MORE, "Log what happens to each object.", metavar="transform"),
    ] = None
    log_action_states: Annotated[
        str | None,
        _flag(
            "--log-action-states",
            _MORE,
            "Which outcomes are logged; goes with --log-actions.",
            metavar="succeeded,failed",
        ),
    ] = None

    def words(self) -> list[str]:
        """What to type on a command line for the same."""
        given = {f"--{f.name.replace('_', '-')}": getattr(self, f.name) for f in fields(self)}
        return [
            flag if value is True else f"{flag}={value and shlex.quote(str(value))}"
            for flag, value in given.items()
            if value is not None and value is not False
        ]


def takes_job_flags(command: Callable[..., int]) -> Callable[..., int]:
    """The command with an option for each field of JobFlags in the place of its ``flags``."""
    parameters = dict(signature(command, eval_str=True).parameters)
    del parameters["flags"]
    hints = get_type_hints(JobFlags, include_extras=True)
    options = [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(JobFlags)
    ]

    @wraps(command)
    def taking(**given: Any) -> int:
        flags = JobFlags(**{option.name: given.pop(option.name) for option in options})
        return command(flags, **given)

    taking.__signature__ = Signature([*parameters.values(), *options])  # type: ignore[attr-defined]
    return taking

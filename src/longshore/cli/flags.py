"""gcloud's flags for a batch job, made into the Job of the API.

The flags and the JSON are those of ``gcloud storage batch-operations jobs create``: a script for
one works with the other. Lists and KEY=VALUE flags take gcloud's ``^DELIMITER^`` in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

METADATA_FIELDS: Mapping[str, str] = {
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-type": "contentType",
    "custom-time": "customTime",
}
REWRITE_FIELDS: Mapping[str, str] = {"kms-key": "kmsKey", "storage-class": "storageClass"}
LOG_ACTIONS = ("transform",)
LOG_ACTION_STATES = ("succeeded", "failed")


def _flag(*names: str, metavar: str | None = None, panel: str, help: str) -> Any:  # noqa: A002
    return typer.Option(*names, metavar=metavar, rich_help_panel=panel, help=help)


_OBJECTS = "Which objects"
_WHAT = "What to do: exactly one kind"
_MORE = "The job itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlags:
    """The flags of one ``jobs create``, as they were given; None: not given."""

    bucket: Annotated[
        str | None, _flag("--bucket", metavar="BUCKET", panel=_OBJECTS, help="B or gs://B.")
    ] = None
    bucket_list: Annotated[
        str | None,
        _flag("--bucket-list", metavar="BUCKET,…", panel=_OBJECTS, help="Several at once."),
    ] = None
    included_object_prefixes: Annotated[
        str | None,
        _flag(
            "--included-object-prefixes",
            metavar="PREFIX,…",
            panel=_OBJECTS,
            help="Names that begin so; an empty value means every object.",
        ),
    ] = None
    manifest_location: Annotated[
        str | None,
        _flag(
            "--manifest-location",
            metavar="gs://B/FILE.csv",
            panel=_OBJECTS,
            help="Those of a CSV file: bucket,name[,generation]; one * may stand in FILE.",
        ),
    ] = None
    delete_object: Annotated[bool, _flag("--delete-object", panel=_WHAT, help="Delete them.")] = (
        False
    )
    enable_permanent_object_deletion: Annotated[
        bool,
        _flag(
            "--enable-permanent-object-deletion",
            panel=_WHAT,
            help="With --delete-object: every version, live or noncurrent.",
        ),
    ] = False
    put_object_temporary_hold: Annotated[
        bool | None,
        _flag(
            "--put-object-temporary-hold/--no-put-object-temporary-hold",
            panel=_WHAT,
            help="Set or lift the temporary hold.",
        ),
    ] = None
    put_object_event_based_hold: Annotated[
        bool | None,
        _flag(
            "--put-object-event-based-hold/--no-put-object-event-based-hold",
            panel=_WHAT,
            help="Set or lift the event-based hold.",
        ),
    ] = None
    put_metadata: Annotated[
        str | None,
        _flag(
            "--put-metadata",
            metavar="KEY=VALUE,…",
            panel=_WHAT,
            help="Cache-Control, Content-Disposition, -Encoding, -Language, -Type, Custom-Time,"
            " Retain-Until, Retention-Mode; other keys are custom metadata. KEY= clears.",
        ),
    ] = None
    rewrite_object: Annotated[
        str | None,
        _flag(
            "--rewrite-object",
            metavar="kms-key=KEY,storage-class=CLASS",
            panel=_WHAT,
            help="Write them anew with another key or class.",
        ),
    ] = None
    update_object_custom_contexts: Annotated[
        str | None,
        _flag(
            "--update-object-custom-contexts",
            metavar="KEY=VALUE,…",
            panel=_WHAT,
            help="Add or change contexts.",
        ),
    ] = None
    update_object_custom_contexts_file: Annotated[
        Path | None,
        _flag(
            "--update-object-custom-contexts-file",
            metavar="FILE",
            panel=_WHAT,
            help="The same from JSON or YAML: KEY: {value: VALUE}.",
        ),
    ] = None
    clear_object_custom_contexts: Annotated[
        str | None,
        _flag(
            "--clear-object-custom-contexts",
            metavar="KEY,…",
            panel=_WHAT,
            help="Remove these contexts.",
        ),
    ] = None
    clear_all_object_custom_contexts: Annotated[
        bool,
        _flag("--clear-all-object-custom-contexts", panel=_WHAT, help="Remove all contexts."),
    ] = False
    set_object_acls_from_file: Annotated[
        Path | None,
        _flag(
            "--set-object-acls-from-file",
            metavar="FILE",
            panel=_WHAT,
            help="JSON or YAML with grants: [{entity, role}] and remove_entities: [entity].",
        ),
    ] = None
    description: Annotated[
        str | None, _flag("--description", metavar="TEXT", panel=_MORE, help="For people.")
    ] = None
    dry_run: Annotated[
        bool, _flag("--dry-run", panel=_MORE, help="Count the objects and change nothing.")
    ] = False
    log_actions: Annotated[
        str | None,
        _flag("--log-actions", metavar="transform", panel=_MORE, help="Log each object."),
    ] = None
    log_action_states: Annotated[
        str | None,
        _flag(
            "--log-action-states",
            metavar="succeeded,failed",
            panel=_MORE,
            help="Which outcomes are logged; needs --log-actions.",
        ),
    ] = None


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


def to_job(flags: JobFlags) -> dict[str, Any]:
    """The Job to create; raises typer.BadParameter, a usage error, for what does not fit."""
    job = {"bucketList": {"buckets": _buckets(flags)}, **_transformation(flags)}
    if flags.description is not None:
        job["description"] = flags.description
    if flags.dry_run:
        job["dryRun"] = True
    logging = _logging(flags)
    if logging:
        job["loggingConfig"] = logging
    return job


def parse_list(text: str) -> list[str]:
    """The items of ``a,b`` or ``^;^a;b``; no item in an empty text."""
    separator = ","
    if text.startswith("^") and text.count("^") > 1:
        separator, text = text[1:].split("^", 1)
        if not separator:
            raise typer.BadParameter("The delimiter between ^ and ^ is empty.")
    return text.split(separator) if text else []


def parse_map(flag: str, text: str) -> dict[str, str]:
    """The pairs of ``k=v,k2=v2``; of a repeated key the last counts."""
    pairs = {}
    for item in parse_list(text):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{flag}: {item!r} is not KEY=VALUE.")
        pairs[key] = value
    return pairs


def _buckets(flags: JobFlags) -> list[dict[str, Any]]:
    if (flags.bucket is None) == (flags.bucket_list is None):
        raise typer.BadParameter("Give --bucket or --bucket-list.")
    if (flags.included_object_prefixes is None) == (flags.manifest_location is None):
        raise typer.BadParameter("Give --included-object-prefixes or --manifest-location.")
    names = [flags.bucket] if flags.bucket is not None else parse_list(flags.bucket_list or "")
    if flags.manifest_location is not None:
        source: dict[str, Any] = {"manifest": {"manifestLocation": flags.manifest_location}}
    else:
        prefixes = [item.strip() for item in parse_list(flags.included_object_prefixes or "")]
        source = {"prefixList": {"includedObjectPrefixes": prefixes} if prefixes else {}}
    return [{"bucket": str(name).removeprefix("gs://").rstrip("/")} | source for name in names]


def _transformation(flags: JobFlags) -> dict[str, Any]:
    found = {
        name: message
        for name, make in TRANSFORMATIONS.items()
        if (message := make(flags)) is not None
    }
    if flags.enable_permanent_object_deletion and not flags.delete_object:
        raise typer.BadParameter("--enable-permanent-object-deletion needs --delete-object.")
    if len(found) != 1:
        raise typer.BadParameter(
            "Give exactly one transformation: --delete-object, --[no-]put-object-temporary-hold"
            " and --[no-]put-object-event-based-hold, --put-metadata, --rewrite-object,"
            " --update-object-custom-contexts[-file] and --clear-object-custom-contexts,"
            " --clear-all-object-custom-contexts, or --set-object-acls-from-file."
        )
    return found


def _delete_object(flags: JobFlags) -> dict[str, Any] | None:
    if not flags.delete_object:
        return None
    return {"permanentObjectDeletionEnabled": flags.enable_permanent_object_deletion}


def _put_object_hold(flags: JobFlags) -> dict[str, Any] | None:
    holds = {
        "temporaryHold": flags.put_object_temporary_hold,
        "eventBasedHold": flags.put_object_event_based_hold,
    }
    given = {
        name: "SET" if wanted else "UNSET" for name, wanted in holds.items() if wanted is not None
    }
    return given or None


def _put_metadata(flags: JobFlags) -> dict[str, Any] | None:
    if flags.put_metadata is None:
        return None
    message: dict[str, Any] = {}
    for key, value in parse_map("--put-metadata", flags.put_metadata).items():
        known = key.lower()
        if known in METADATA_FIELDS:
            message[METADATA_FIELDS[known]] = value
        elif known in ("retain-until", "retention-mode"):
            # Both empty leave an empty message, which clears the retention.
            retention = message.setdefault("objectRetention", {})
            if value and known == "retain-until":
                retention["retainUntilTime"] = value
            elif value:
                retention["retentionMode"] = value.upper()
        else:
            message.setdefault("customMetadata", {})[key] = value
    return message


def _rewrite_object(flags: JobFlags) -> dict[str, Any] | None:
    if flags.rewrite_object is None:
        return None
    message = {}
    for key, value in parse_map("--rewrite-object", flags.rewrite_object).items():
        if key not in REWRITE_FIELDS:
            known = ", ".join(REWRITE_FIELDS)
            raise typer.BadParameter(f"--rewrite-object: {key!r} is none of {known}.")
        message[REWRITE_FIELDS[key]] = value.upper() if key == "storage-class" else value
    return message


def _update_object_custom_context(flags: JobFlags) -> dict[str, Any] | None:
    pairs, file = flags.update_object_custom_contexts, flags.update_object_custom_contexts_file
    cleared = flags.clear_object_custom_contexts
    if pairs is not None and file is not None:
        raise typer.BadParameter("Give contexts in the flag or in a file, not in both.")
    updates: dict[str, Any] = {}
    if file is not None:
        updates = _read_mapping("--update-object-custom-contexts-file", file)
        if not all(isinstance(payload, dict) for payload in updates.values()):
            raise typer.BadParameter(f"{file}: expected KEY: {{value: VALUE}} for each context.")
    elif pairs is not None:
        parsed = parse_map("--update-object-custom-contexts", pairs)
        updates = {key: {"value": value} for key, value in parsed.items()}
    some = pairs is not None or file is not None or cleared is not None
    if flags.clear_all_object_custom_contexts:
        if some:
            raise typer.BadParameter(
                "--clear-all-object-custom-contexts goes with no other flag of contexts."
            )
        return {"clearAll": True}
    if not some:
        return None
    message: dict[str, Any] = {"updates": updates} if updates else {}
    if cleared is not None:
        message["keysToClear"] = parse_list(cleared)
    return {"customContextUpdates": message}


def _set_object_acls(flags: JobFlags) -> dict[str, Any] | None:
    file = flags.set_object_acls_from_file
    if file is None:
        return None
    updates = _read_mapping("--set-object-acls-from-file", file)
    # gcloud writes remove_entities; the API takes both spellings.
    unknown = sorted(updates.keys() - {"grants", "remove_entities", "removeEntities"})
    if unknown:
        raise typer.BadParameter(f"{file}: {unknown[0]!r} is none of grants, remove_entities.")
    return {"accessControlsUpdates": updates}


def _logging(flags: JobFlags) -> dict[str, Any]:
    actions, states = flags.log_actions, flags.log_action_states
    if (actions is None) != (states is None):
        raise typer.BadParameter("Give --log-actions and --log-action-states together.")
    if actions is None or states is None:
        return {}
    return {
        "logActions": _choices("--log-actions", actions, LOG_ACTIONS),
        "logActionStates": _choices("--log-action-states", states, LOG_ACTION_STATES),
    }


def _choices(flag: str, text: str, known: tuple[str, ...]) -> list[str]:
    items = parse_list(text)
    for item in items:
        if item.lower() not in known:
            raise typer.BadParameter(f"{flag}: {item!r} is none of {', '.join(known)}.")
    return [item.upper() for item in items]


def _read_mapping(flag: str, file: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{flag}: {file}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{flag}: {file} is neither JSON nor YAML.") from error
    if not isinstance(content, dict):
        raise typer.BadParameter(f"{flag}: {file} holds no mapping.")
    return content


TRANSFORMATIONS: Mapping[str, Callable[[JobFlags], dict[str, Any] | None]] = {
    "deleteObject": _delete_object,
    "putObjectHold": _put_object_hold,
    "putMetadata": _put_metadata,
    "rewriteObject": _rewrite_object,
    "updateObjectCustomContext": _update_object_custom_context,
    "setObjectAcls": _set_object_acls,
}

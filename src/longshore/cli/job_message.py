"""The flags of ``jobs create``, made into the Job of the API.

The JSON is that of ``gcloud storage batch-operations jobs create``: a script for one works with the
other. Lists and KEY=VALUE flags take gcloud's ``^DELIMITER^`` in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from longshore.cli.flags import JobFlags

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


def to_job(flags: JobFlags) -> dict[str, Any]:
    """The Job to create; raises typer.BadParameter, a usage error, for what does not fit."""
    job = {**_source(flags), **_transformation(flags)}
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


def _source(flags: JobFlags) -> dict[str, Any]:
    project_source = _project_source(flags)
    if not project_source:
        return {"bucketList": {"buckets": _buckets(flags)}}
    listed = ("bucket", "bucket_list", "included_object_prefixes", "manifest_location")
    if any(getattr(flags, name) is not None for name in listed):
        raise typer.BadParameter(
            "--target-project and its filters take the place of --bucket, --bucket-list,"
            " --included-object-prefixes and --manifest-location: give the ones or the others."
        )
    if not {"project", "dryRunJobId"} & project_source.keys():
        raise typer.BadParameter("Filters need --target-project: in whose buckets?")
    return {"projectSource": project_source}


def _project_source(flags: JobFlags) -> dict[str, Any]:
    """What is given of a ProjectSource."""
    source: dict[str, Any] = {}
    if flags.target_project is not None:
        source["project"] = f"projects/{flags.target_project}"
    if flags.insights_dataset_config is not None:
        source["insightsDatasetConfig"] = flags.insights_dataset_config
    if flags.bucket_filters is not None:
        source["bucketFilters"] = {"expression": flags.bucket_filters}
    if flags.object_filters is not None:
        source["objectFilters"] = {"expression": flags.object_filters}
    if flags.target_locations is not None:
        source["targetLocations"] = {"locations": parse_list(flags.target_locations)}
    if flags.target_snapshot_time is not None:
        time = _utc("--target-snapshot-time", flags.target_snapshot_time)
        source.setdefault("targetLocations", {})["snapshotTime"] = time
    if flags.dry_run_job_id is not None:
        source["dryRunJobId"] = flags.dry_run_job_id
    return source


def _utc(flag: str, text: str) -> str:
    """A time, of this machine's zone unless it says its own, as gcloud sends it."""
    try:
        time = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{flag}: {text!r} is no time like 2026-01-31T12:00Z.") from error
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _buckets(flags: JobFlags) -> list[dict[str, Any]]:
    if (flags.bucket is None) == (flags.bucket_list is None):
        raise typer.BadParameter("Give --bucket or --bucket-list, or --target-project.")
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
    wanted = {
        "temporaryHold": (flags.put_object_temporary_hold, flags.no_put_object_temporary_hold),
        "eventBasedHold": (
            flags.put_object_event_based_hold,
            flags.no_put_object_event_based_hold,
        ),
    }
    if any(all(pair) for pair in wanted.values()):
        raise typer.BadParameter("A hold cannot be set and lifted at once.")
    given = {name: "SET" if pair[0] else "UNSET" for name, pair in wanted.items() if any(pair)}
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

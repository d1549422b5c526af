"""What each transformation accepts, refuses (all bad fields at once) and keeps."""

import json
from typing import Any

import orjson
import pytest
from google.cloud.storagebatchoperations_v1.types import storage_batch_operations_types as published

from longshore import extensions
from longshore.errors import InvalidArgument
from longshore.patch import UNCHANGED, Retention
from longshore.transformation import ContextDelta, Delete, PatchObjects, Rewrite
from tests.unit.messages import message

KINDS = {
    "delete_object": "DeleteObject",
    "put_object_hold": "PutObjectHold",
    "put_metadata": "PutMetadata",
    "rewrite_object": "RewriteObject",
    "update_object_custom_context": "UpdateObjectCustomContext",
    "set_object_acls": "SetObjectAcls",
}
KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"


def data_of(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    data = extensions.load("transformations", name).from_message(message(KINDS[name], fields))
    assert orjson.loads(orjson.dumps(data)) == data, "the database keeps it as JSON"
    return data


def opened(name: str, fields: dict[str, Any]) -> Any:
    kept = json.loads(json.dumps(data_of(name, fields)))
    return extensions.load("transformations", name).open_transformation(kept)


def refused(name: str, fields: dict[str, Any]) -> list[str]:
    """The paths of the fields that are refused."""
    with pytest.raises(InvalidArgument) as error:
        data_of(name, fields)
    violations = error.value.violations
    assert violations
    assert error.value.message == "\n".join(one.description for one in violations)
    return [one.field for one in violations]


def changes(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    transformation = opened(name, fields)
    assert isinstance(transformation, PatchObjects)
    return transformation.patch.changes()


def test_every_file_of_the_folder_is_tried_here() -> None:
    assert extensions.known("transformations") == sorted(KINDS)


# delete_object


@pytest.mark.parametrize("permanent", [False, True])
def test_delete(permanent: bool) -> None:
    wanted = Delete(permanent=permanent)
    assert opened("delete_object", {"permanentObjectDeletionEnabled": permanent}) == wanted


def test_delete_without_the_flag_is_what_clients_send_for_false() -> None:
    assert opened("delete_object", {}) == Delete(permanent=False)


# put_object_hold


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"temporaryHold": "SET"}, {"temporary_hold": True}),
        ({"temporaryHold": "UNSET"}, {"temporary_hold": False}),
        ({"eventBasedHold": "SET"}, {"event_based_hold": True}),
        (
            {"temporaryHold": "UNSET", "eventBasedHold": 1},
            {"temporary_hold": False, "event_based_hold": True},
        ),
        (
            {"temporaryHold": "HOLD_STATUS_UNSPECIFIED", "eventBasedHold": "UNSET"},
            {"event_based_hold": False},
        ),
    ],
)
def test_holds(fields: dict[str, Any], wanted: dict[str, bool]) -> None:
    assert changes("put_object_hold", fields) == wanted


def test_a_hold_that_changes_nothing_is_refused() -> None:
    assert refused("put_object_hold", {}) == [""]
    assert refused("put_object_hold", {"temporaryHold": 0, "eventBasedHold": 0}) == [""]


def test_unknown_statuses_are_refused_both_at_once() -> None:
    fields = {"temporaryHold": 3, "eventBasedHold": 7}
    assert refused("put_object_hold", fields) == ["temporary_hold", "event_based_hold"]


# put_metadata


def test_absent_metadata_stays_empty_is_cleared_and_the_rest_is_set() -> None:
    patch = opened("put_metadata", {"contentType": "text/plain", "cacheControl": ""}).patch
    assert patch.content_type == "text/plain"
    assert patch.cache_control is None
    assert patch.content_encoding is UNCHANGED
    assert patch.changes() == {"content_type": "text/plain", "cache_control": ""}


def test_every_fixed_key_goes_to_its_column() -> None:
    fields = {
        "contentDisposition": "inline",
        "contentEncoding": "gzip",
        "contentLanguage": "de",
        "contentType": "a/b",
        "cacheControl": "no-store",
        "customTime": "1970-01-01T00:00:01Z",
    }
    assert changes("put_metadata", fields) == {
        "content_disposition": "inline",
        "content_encoding": "gzip",
        "content_language": "de",
        "content_type": "a/b",
        "cache_control": "no-store",
        "custom_time_us": 1_000_000,
    }


def test_custom_metadata_is_merged_and_an_empty_value_removes_its_key() -> None:
    change = changes("put_metadata", {"customMetadata": {"Owner": "me", "old": "", "none": ""}})
    before = '{"Owner":"you","keep":"1","old":"2"}'
    assert change["custom_metadata"].apply(before) == '{"Owner":"me","keep":"1"}'


def test_clearing_the_custom_time_is_left_to_the_store_to_refuse() -> None:
    assert changes("put_metadata", {"customTime": ""}) == {"custom_time_us": 0}


@pytest.mark.parametrize(
    ("retention", "wanted"),
    [
        (
            {"retentionMode": "LOCKED", "retainUntilTime": "2050-01-01T00:00:00Z"},
            {"retention": "Locked@2524608000000000"},
        ),
        (
            {"retentionMode": "UNLOCKED", "retainUntilTime": "2050-01-01T01:00:00+01:00"},
            {"retention": "Unlocked@2524608000000000"},
        ),
        ({}, {"retention": ""}),
        ({"retentionMode": "RETENTION_MODE_UNSPECIFIED"}, {}),
    ],
)
def test_retention(retention: dict[str, Any], wanted: dict[str, str]) -> None:
    assert changes("put_metadata", {"objectRetention": retention}) == wanted


def test_a_job_may_override_an_unlocked_retention() -> None:
    patch = opened("put_metadata", {"objectRetention": {}}).patch
    assert patch.override_unlocked_retention
    assert patch.retention is None


def test_a_retention_is_opened_as_it_was_given() -> None:
    fields = {"retentionMode": "LOCKED", "retainUntilTime": "1970-01-01T00:00:05Z"}
    patch = opened("put_metadata", {"objectRetention": fields}).patch
    assert patch.retention == Retention(mode="Locked", until_us=5_000_000)


@pytest.mark.parametrize(
    ("retention", "paths"),
    [
        ({"retentionMode": "LOCKED"}, ["retain_until_time"]),
        ({"retentionMode": 9}, ["retention_mode", "retain_until_time"]),
        ({"retainUntilTime": "2050-01-01T00:00:00Z"}, ["retention_mode"]),
        ({"retainUntilTime": ""}, ["retention_mode", "retain_until_time"]),
        (
            {
                "retentionMode": "RETENTION_MODE_UNSPECIFIED",
                "retainUntilTime": "2050-01-01T00:00:00Z",
            },
            ["retention_mode"],
        ),
        ({"retentionMode": "LOCKED", "retainUntilTime": "soon"}, ["retain_until_time"]),
    ],
)
def test_half_a_retention_is_refused(retention: dict[str, Any], paths: list[str]) -> None:
    wanted = [f"object_retention.{path}" for path in paths]
    assert refused("put_metadata", {"objectRetention": retention}) == wanted


def test_all_that_is_wrong_with_metadata_is_said_at_once() -> None:
    fields = {
        "contentLanguage": "x" * 101,
        "customTime": "yesterday",
        "customMetadata": {"": "1"},
        "objectRetention": {"retentionMode": "LOCKED"},
    }
    assert refused("put_metadata", fields) == [
        "content_language",
        "custom_time",
        "custom_metadata",
        "object_retention.retain_until_time",
    ]


def test_limits_of_metadata() -> None:
    assert changes("put_metadata", {"contentLanguage": "x" * 100})
    assert refused("put_metadata", {}) == [""]
    # 0 microseconds stand for "no time" in every store's column.
    assert refused("put_metadata", {"customTime": "1970-01-01T00:00:00Z"}) == ["custom_time"]


# rewrite_object


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"kmsKey": KEY}, Rewrite(kms_key=KEY)),
        ({"storageClass": "COLDLINE"}, Rewrite(storage_class="COLDLINE")),
        ({"storageClass": 4, "kmsKey": KEY}, Rewrite(storage_class="ARCHIVE", kms_key=KEY)),
    ],
)
def test_rewrite(fields: dict[str, Any], wanted: Rewrite) -> None:
    assert opened("rewrite_object", fields) == wanted


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({}, [""]),
        ({"storageClass": "STORAGE_CLASS_UNSPECIFIED"}, [""]),
        ({"kmsKey": ""}, ["kms_key"]),
        ({"kmsKey": "my-key"}, ["kms_key"]),
        ({"kmsKey": f"{KEY}/cryptoKeyVersions/1"}, ["kms_key"]),
        ({"kmsKey": "k", "storageClass": 17}, ["kms_key", "storage_class"]),
    ],
)
def test_wrong_rewrites(fields: dict[str, Any], paths: list[str]) -> None:
    assert refused("rewrite_object", fields) == paths


def test_a_rewrite_in_googles_published_message_has_no_storage_class() -> None:
    module = extensions.load("transformations", "rewrite_object")
    data = module.from_message(published.RewriteObject.pb(published.RewriteObject(kms_key=KEY)))
    assert module.open_transformation(data) == Rewrite(kms_key=KEY)
    with pytest.raises(InvalidArgument):
        module.from_message(published.RewriteObject.pb()())


# update_object_custom_context

CONTEXTS = "update_object_custom_context"


def context_updates(updates: dict[str, Any], keys_to_clear: list[str]) -> dict[str, Any]:
    return {"customContextUpdates": {"updates": updates, "keysToClear": keys_to_clear}}


def test_contexts_are_merged_and_counted() -> None:
    fields = context_updates(
        {"new": {"value": "1"}, "old": {"value": "2"}, "same": {"value": "3"}, "left": {}},
        ["gone", "never-there"],
    )
    transformation = opened(CONTEXTS, fields)
    before = '{"gone":"x","keep":"x","left":"x","old":"x","same":"3"}'
    after = '{"keep":"x","left":"x","new":"1","old":"2","same":"3"}'
    assert transformation.patch.contexts.apply(before) == after
    assert transformation.count_contexts(before) == ContextDelta(created=1, deleted=1, updated=1)
    assert transformation.count_contexts(after) == ContextDelta()
    assert transformation.count_contexts("") == ContextDelta(created=3)


def test_all_contexts_can_be_cleared() -> None:
    transformation = opened(CONTEXTS, {"clearAll": True})
    assert transformation.patch.contexts.apply('{"a":"1","b":"2"}') == ""
    assert transformation.count_contexts('{"a":"1","b":"2"}') == ContextDelta(deleted=2)
    assert transformation.count_contexts("") == ContextDelta()


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({}, [""]),
        ({"clearAll": False}, ["clear_all"]),
        ({"customContextUpdates": {}}, ["custom_context_updates"]),
        (
            context_updates({"k": {"value": "v"}}, ["k"]),
            ["custom_context_updates.updates[k]"],
        ),
        (context_updates({"k": {}}, ["k"]), ["custom_context_updates.updates[k]"]),
        (
            context_updates({"k": {"value": ""}}, []),
            ["custom_context_updates.updates[k].value"],
        ),
        (
            context_updates({"": {"value": "v"}, "-k": {"value": "é" * 257}}, ["a" * 257]),
            [
                "custom_context_updates.updates[]",
                "custom_context_updates.updates[-k]",
                "custom_context_updates.updates[-k].value",
                "custom_context_updates.keys_to_clear[0]",
            ],
        ),
    ],
)
def test_wrong_contexts(fields: dict[str, Any], paths: list[str]) -> None:
    assert refused(CONTEXTS, fields) == paths


def test_limits_of_contexts() -> None:
    longest = "é" * 256
    assert opened(CONTEXTS, context_updates({longest: {"value": longest}}, ["0"]))


# set_object_acls

ACLS = "set_object_acls"


def access(grants: list[dict[str, str]], remove: list[str]) -> dict[str, Any]:
    return {"accessControlsUpdates": {"grants": grants, "removeEntities": remove}}


def test_grants_replace_a_role_and_removals_leave_the_others() -> None:
    fields = access([{"entity": "allUsers", "role": "READER"}], ["allAuthenticatedUsers"])
    change = changes(ACLS, fields)["acl"]
    before = '{"allAuthenticatedUsers":"READER","allUsers":"OWNER","user-me":"OWNER"}'
    assert change.apply(before) == '{"allUsers":"READER","user-me":"OWNER"}'


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({}, [""]),
        (access([], []), [""]),
        (access([{"entity": "user-me", "role": "READER"}], []), [".grants[0].entity"]),
        (access([{"entity": "allUsers", "role": "reader"}], []), [".grants[0].role"]),
        (access([{}], ["x"]), [".grants[0].entity", ".grants[0].role", ".remove_entities[0]"]),
        (access([{"entity": "allUsers", "role": "READER"}], ["allUsers"]), [".grants[0].entity"]),
        (
            access([{"entity": "allUsers", "role": role} for role in ("READER", "OWNER")], []),
            [".grants[1].entity"],
        ),
    ],
)
def test_wrong_acls(fields: dict[str, Any], paths: list[str]) -> None:
    assert refused(ACLS, fields) == [f"access_controls_updates{path}" for path in paths]

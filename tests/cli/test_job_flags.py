"""gcloud's flags become the JSON that gcloud sends; what does not fit is wrong usage."""

import json
import shlex

import pytest
import typer

from longshore.cli.flags import JobFlags
from longshore.cli.job_message import parse_list, parse_map, to_job

DELETE = {"delete_object": True}
ALL = {"bucket": "b", "included_object_prefixes": ""}
KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("a", ["a"]),
        ("a/,b/", ["a/", "b/"]),
        ("^;^a,b;c", ["a,b", "c"]),
        ("^::^a:b::c", ["a:b", "c"]),
        ("^a", ["^a"]),
    ],
)
def test_a_list_may_name_its_delimiter(text, items):
    assert parse_list(text) == items


def test_of_a_repeated_key_the_last_counts_and_a_value_may_hold_equals_signs():
    assert parse_map("--flag", "k=1,j=a=b,k=2,e=") == {"k": "2", "j": "a=b", "e": ""}


@pytest.mark.parametrize("text", ["k", "=v", "k=v,", "^^k=v"])
def test_what_is_no_pair_is_wrong_usage(text):
    with pytest.raises(typer.BadParameter):
        parse_map("--flag", text)


@pytest.mark.parametrize(
    ("flags", "buckets"),
    [
        (ALL, [{"bucket": "b", "prefixList": {}}]),
        (
            {"bucket": "gs://b/", "included_object_prefixes": "a/, b/"},
            [{"bucket": "b", "prefixList": {"includedObjectPrefixes": ["a/", "b/"]}}],
        ),
        (
            {"bucket_list": "b,gs://c", "manifest_location": "gs://m/x*.csv"},
            [
                {"bucket": "b", "manifest": {"manifestLocation": "gs://m/x*.csv"}},
                {"bucket": "c", "manifest": {"manifestLocation": "gs://m/x*.csv"}},
            ],
        ),
    ],
)
def test_every_bucket_has_the_same_objects(flags, buckets):
    assert to_job(JobFlags(**flags, **DELETE))["bucketList"] == {"buckets": buckets}


@pytest.mark.parametrize(
    ("flags", "source"),
    [
        ({"target_project": "p"}, {"project": "projects/p"}),
        (
            {
                "target_project": "p",
                "insights_dataset_config": "projects/p/locations/l/datasetConfigs/d",
                "bucket_filters": "name.startsWith('a')",
                "object_filters": "size > 5",
                "target_locations": "us-central1,eu",
                "target_snapshot_time": "2026-01-31T13:00:00.5+01:00",
            },
            {
                "project": "projects/p",
                "insightsDatasetConfig": "projects/p/locations/l/datasetConfigs/d",
                "bucketFilters": {"expression": "name.startsWith('a')"},
                "objectFilters": {"expression": "size > 5"},
                "targetLocations": {
                    "locations": ["us-central1", "eu"],
                    "snapshotTime": "2026-01-31T12:00:00.500000Z",
                },
            },
        ),
        ({"dry_run_job_id": "dry"}, {"dryRunJobId": "dry"}),
    ],
)
def test_a_project_source_is_what_gcloud_sends(flags, source):
    job = to_job(JobFlags(**flags, **DELETE))
    assert job["projectSource"] == source
    assert "bucketList" not in job


@pytest.mark.parametrize(
    ("flags", "transformation"),
    [
        (DELETE, {"deleteObject": {"permanentObjectDeletionEnabled": False}}),
        (
            DELETE | {"enable_permanent_object_deletion": True},
            {"deleteObject": {"permanentObjectDeletionEnabled": True}},
        ),
        ({"put_object_temporary_hold": True}, {"putObjectHold": {"temporaryHold": "SET"}}),
        (
            {"no_put_object_temporary_hold": True, "put_object_event_based_hold": True},
            {"putObjectHold": {"temporaryHold": "UNSET", "eventBasedHold": "SET"}},
        ),
        (
            {"put_metadata": "content-TYPE=,Custom-Time=2030-01-01T00:00:00Z,MyKey=v,gone="},
            {
                "putMetadata": {
                    "contentType": "",
                    "customTime": "2030-01-01T00:00:00Z",
                    "customMetadata": {"MyKey": "v", "gone": ""},
                }
            },
        ),
        (
            {"put_metadata": "Retain-Until=2030-01-01T00:00:00Z,Retention-Mode=locked"},
            {
                "putMetadata": {
                    "objectRetention": {
                        "retainUntilTime": "2030-01-01T00:00:00Z",
                        "retentionMode": "LOCKED",
                    }
                }
            },
        ),
        (
            {"put_metadata": "Retain-Until=,Retention-Mode="},
            {"putMetadata": {"objectRetention": {}}},
        ),
        (
            {"rewrite_object": f"kms-key={KEY},storage-class=nearline"},
            {"rewriteObject": {"kmsKey": KEY, "storageClass": "NEARLINE"}},
        ),
        (
            {"update_object_custom_contexts": "k=v", "clear_object_custom_contexts": "a,b"},
            {
                "updateObjectCustomContext": {
                    "customContextUpdates": {
                        "updates": {"k": {"value": "v"}},
                        "keysToClear": ["a", "b"],
                    }
                }
            },
        ),
        (
            {"clear_all_object_custom_contexts": True},
            {"updateObjectCustomContext": {"clearAll": True}},
        ),
    ],
)
def test_each_transformation_is_what_gcloud_sends(flags, transformation):
    job = to_job(JobFlags(**ALL, **flags))
    del job["bucketList"]
    assert job == transformation


def test_contexts_and_acls_come_from_json_and_yaml(tmp_path):
    contexts = tmp_path / "contexts.json"
    contexts.write_text('{"k": {"value": "v"}}')
    found = to_job(JobFlags(**ALL, update_object_custom_contexts_file=contexts))
    assert found["updateObjectCustomContext"] == {
        "customContextUpdates": {"updates": {"k": {"value": "v"}}}
    }
    acls = tmp_path / "acls.yaml"
    acls.write_text(
        "grants:\n- entity: allUsers\n  role: READER\nremove_entities:\n- allAuthenticatedUsers\n"
    )
    found = to_job(JobFlags(**ALL, set_object_acls_from_file=acls))
    assert found["setObjectAcls"]["accessControlsUpdates"] == {
        "grants": [{"entity": "allUsers", "role": "READER"}],
        "remove_entities": ["allAuthenticatedUsers"],
    }


@pytest.mark.parametrize("content", ["[1]", "{", "k: v", b"\xff"])
def test_a_file_of_another_form_is_named(tmp_path, content):
    file = tmp_path / "contexts.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(typer.BadParameter, match=r"contexts\.yaml"):
        to_job(JobFlags(**ALL, update_object_custom_contexts_file=file))


def test_the_rest_of_a_job():
    job = to_job(
        JobFlags(
            **(ALL | DELETE),
            description="spring cleaning",
            dry_run=True,
            log_actions="transform",
            log_action_states="succeeded,FAILED",
        )
    )
    assert job["description"] == "spring cleaning"
    assert job["dryRun"] is True
    assert job["loggingConfig"] == {
        "logActions": ["TRANSFORM"],
        "logActionStates": ["SUCCEEDED", "FAILED"],
    }


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"included_object_prefixes": ""} | DELETE, "--bucket"),
        (ALL | {"bucket_list": "c"} | DELETE, "--bucket"),
        ({"bucket": "b"} | DELETE, "--included-object-prefixes"),
        (ALL | {"manifest_location": "gs://m/x.csv"} | DELETE, "--manifest-location"),
        (ALL, "exactly one transformation"),
        (ALL | DELETE | {"put_metadata": "a=b"}, "exactly one transformation"),
        (ALL | {"enable_permanent_object_deletion": True}, "needs --delete-object"),
        (
            ALL | {"put_object_temporary_hold": True, "no_put_object_temporary_hold": True},
            "at once",
        ),
        (ALL | DELETE | {"target_project": "p"}, "the ones or the others"),
        ({"object_filters": "size > 1"} | DELETE, "Filters need --target-project"),
        (
            {"target_project": "p", "target_snapshot_time": "soon"} | DELETE,
            "'soon' is no time like",
        ),
        (ALL | {"rewrite_object": "colour=blue"}, "'colour' is none of kms-key, storage-class"),
        (ALL | DELETE | {"log_actions": "transform"}, "together"),
        (ALL | DELETE | {"log_actions": "read", "log_action_states": "failed"}, "'read'"),
        (ALL | DELETE | {"log_actions": "transform", "log_action_states": "lost"}, "'lost'"),
        (
            ALL | {"clear_all_object_custom_contexts": True, "clear_object_custom_contexts": "a"},
            "no other flag",
        ),
    ],
)
def test_what_does_not_fit_together_is_wrong_usage(flags, says):
    with pytest.raises(typer.BadParameter) as refused:
        to_job(JobFlags(**flags))
    assert says in refused.value.message


def test_the_server_takes_every_transformation_as_the_flags_write_it(cli, tmp_path):
    acls = tmp_path / "acls.json"
    acls.write_text(json.dumps({"grants": [{"entity": "allUsers", "role": "READER"}]}))
    flags = {
        "deleteObject": ["--delete-object", "--enable-permanent-object-deletion"],
        "putObjectHold": ["--no-put-object-event-based-hold"],
        "putMetadata": ["--put-metadata=^;^Cache-Control=no-store,max-age=0;k="],
        "rewriteObject": ["--rewrite-object=storage-class=coldline"],
        "updateObjectCustomContext": ["--clear-all-object-custom-contexts"],
        "setObjectAcls": [f"--set-object-acls-from-file={acls}"],
    }
    for name, words in flags.items():
        source = ("--bucket=b", "--included-object-prefixes=", "--dry-run")
        created = cli("jobs", "create", *source, *words, "--format=json")
        assert created.json[name], name


def test_flags_are_spelt_as_the_command_takes_them(cli, bucket):
    flags = JobFlags(
        bucket=bucket,
        included_object_prefixes="",
        put_metadata="Cache-Control=no-cache,by=two words",
        description="what to do",
        dry_run=True,
    )
    words = shlex.split(" ".join(flags.words()))
    created = cli("jobs", "create", *words, "--format=json").json
    assert to_job(flags).items() <= {**created, "bucketList": to_job(flags)["bucketList"]}.items()
    assert created["bucketList"]["buckets"][0]["bucket"] == bucket
    assert "--dry-run" in words
    assert "--included-object-prefixes=" in words

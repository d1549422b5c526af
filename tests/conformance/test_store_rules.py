"""Every store: Cloud Storage's holds, retentions, times and limits, one behaviour a test."""

from __future__ import annotations

from typing import Any

import pytest

from longshore.errors import Code, InvalidArgument, PermissionDenied
from longshore.patch import MapPatch, Patch, Retention, dump_map
from longshore.store import Failure
from tests.conformance.shelf import BUCKET, Promise, Shelf, named, promised

HOUR = 3600
RETAINED = (
    "Object 'shelf/a' is subject to bucket's retention policy or object retention"
    " and cannot be deleted or overwritten until 2"
)


def until(shelf: Shelf, seconds: float, mode: str = "Unlocked") -> Retention:
    return Retention(mode=mode, until_us=shelf.clock.now_us() + int(seconds * 1_000_000))


def denied(failure: Failure | None, message: str) -> bool:
    return (
        failure is not None
        and failure.code is Code.PERMISSION_DENIED
        and failure.message.startswith(message)
    )


def invalid(failure: Failure | None) -> bool:
    return failure is not None and failure.code is Code.INVALID_ARGUMENT


# Holds


@promised(Promise.HOLDS_NAMES)
@pytest.mark.parametrize(
    ("hold", "kind"), [("temporary_hold", "Temporary"), ("event_based_hold", "Event-Based")]
)
@pytest.mark.parametrize("versioning", [False, True])
async def test_a_held_object_is_neither_deleted_nor_replaced(
    bare: Shelf, hold: str, kind: str, versioning: bool
) -> None:
    await bare.make(versioning=versioning)
    generation = await bare.write("a")
    assert await bare.patch("a", **{hold: True}) is None
    message = (
        f"Object 'shelf/a' is under active {kind} hold and cannot be deleted, overwritten"
        " or archived until hold is removed."
    )
    assert denied(await bare.delete("a"), message)
    assert denied(await bare.delete("a", permanent=True), message)
    assert denied(await bare.rewrite("a"), message)
    for content in (b"new", b"new" * 10_000):
        with pytest.raises(PermissionDenied) as refused:
            await bare.write("a", content)
        assert refused.value.message == message
    assert await bare.versions(versions=True) == [("a", generation)]
    assert await bare.read("a") == b"cargo"
    assert await bare.patch("a", **{hold: False}) is None
    assert await bare.delete("a") is None


@promised(Promise.HOLDS_NAMES)
async def test_held_objects_of_a_batch_stay_and_the_rest_goes(shelf: Shelf) -> None:
    for name in "abcd":
        await shelf.write(name, temporary_hold=name in "bd")
    batch = await shelf.there(*"abcd")
    outcome = await shelf.store.delete_objects(BUCKET, batch, permanent=False)
    assert {i: failure.code for i, failure in outcome.failures.items()} == {
        1: Code.PERMISSION_DENIED,
        3: Code.PERMISSION_DENIED,
    }
    assert await shelf.names() == ["b", "d"]


@promised(Promise.HOLDS_ANYWHERE)
async def test_a_held_noncurrent_version_stays(versioned: Shelf) -> None:
    first = await versioned.write("a")
    await versioned.write("a")
    await versioned.patch("a", first, temporary_hold=True)
    failure = await versioned.delete("a", first, permanent=True)
    assert denied(failure, "Object 'shelf/a' is under active Temporary hold")


@promised(Promise.HOLDS_NAMES)
async def test_a_held_object_can_be_patched(shelf: Shelf) -> None:
    await shelf.write("a", temporary_hold=True)
    assert await shelf.patch("a", content_type="x/y") is None


@promised(Promise.HOLDS_NAMES)
async def test_what_is_not_there_is_said_before_what_is_held(shelf: Shelf) -> None:
    generation = await shelf.write("a", temporary_hold=True)
    batch = named(("a", generation - 1))
    outcome = await shelf.store.delete_objects(BUCKET, batch, permanent=True)
    assert outcome.failures[0].code is Code.ABORTED


@promised(Promise.BUCKET_RULES)
async def test_a_bucket_can_hold_every_new_object(bare: Shelf) -> None:
    await bare.make(default_event_based_hold=True)
    await bare.write("a")
    assert await bare.column("a", "event_based_hold")
    assert denied(await bare.delete("a"), "Object 'shelf/a' is under active Event-Based hold")
    await bare.write("b", event_based_hold=False)
    assert not await bare.column("b", "event_based_hold")


@promised(Promise.BUCKET_RULES)
async def test_a_bucket_that_holds_new_objects_holds_rewritten_ones(bare: Shelf) -> None:
    await bare.make(versioning=True)
    await bare.write("a")
    await bare.write("b", retention=until(bare, HOUR).dump())
    await bare.store.update_bucket(BUCKET, default_event_based_hold=True)
    batch = await bare.there("a", "b")
    await bare.rewrite_objects(batch, storage_class="ARCHIVE")
    after = await bare.there("a", "b", columns=("event_based_hold",))
    assert after.columns["event_based_hold"] == [True, False]


# The retention of an object


@promised(Promise.HOLDS_NAMES)
async def test_a_retained_object_is_neither_deleted_nor_replaced(shelf: Shelf) -> None:
    await shelf.write("a")
    assert await shelf.patch("a", retention=until(shelf, HOUR)) is None
    assert denied(await shelf.delete("a"), RETAINED)
    assert denied(await shelf.delete("a", permanent=True), RETAINED)
    assert denied(await shelf.rewrite("a"), RETAINED)
    with pytest.raises(PermissionDenied):
        await shelf.write("a")
    assert await shelf.patch("a", content_type="x/y") is None
    shelf.clock.turn(HOUR + 1)
    assert await shelf.delete("a") is None


@promised(Promise.TURNED_CLOCK)
async def test_a_retained_object_may_become_noncurrent(versioned: Shelf) -> None:
    first = await versioned.write("a", retention=until(versioned, HOUR).dump())
    assert await versioned.rewrite("a") is None
    assert await versioned.column("a", "retention") != ""
    assert await versioned.write("a") > first
    assert await versioned.delete("a") is None
    assert denied(await versioned.delete("a", first, permanent=True), RETAINED)
    versioned.clock.turn(HOUR + 1)
    assert await versioned.delete("a", first, permanent=True) is None


@promised(Promise.HOLDS_NAMES)
async def test_an_expired_retention_forbids_nothing(shelf: Shelf) -> None:
    await shelf.write("a", retention=until(shelf, HOUR, "Locked").dump())
    shelf.clock.turn(HOUR + 1)
    assert await shelf.rewrite("a") is None
    await shelf.write("a")


@promised(Promise.HOLDS_ANYWHERE)
async def test_an_unlocked_retention_can_be_lengthened(shelf: Shelf) -> None:
    await shelf.write("a", retention=until(shelf, HOUR).dump())
    longer = until(shelf, 2 * HOUR)
    assert await shelf.patch("a", retention=longer) is None
    assert await shelf.column("a", "retention") == longer.dump()


@promised(Promise.HOLDS_ANYWHERE)
@pytest.mark.parametrize("change", ["shorten", "clear", "lock"])
async def test_an_unlocked_retention_is_weakened_or_locked_by_override_only(
    shelf: Shelf, change: str
) -> None:
    before = until(shelf, HOUR)
    await shelf.write("a", retention=before.dump())
    wanted = {
        "shorten": until(shelf, HOUR / 2),
        "clear": None,
        "lock": Retention(mode="Locked", until_us=before.until_us),
    }[change]
    failure = await shelf.patch("a", retention=wanted)
    assert denied(failure, "Object 'shelf/a' has an Unlocked retention")
    assert await shelf.column("a", "retention") == before.dump()
    assert await shelf.patch("a", retention=wanted, override_unlocked_retention=True) is None
    assert await shelf.column("a", "retention") == (wanted.dump() if wanted else "")


@promised(Promise.HOLDS_ANYWHERE)
@pytest.mark.parametrize("override", [False, True])
async def test_a_locked_retention_is_only_lengthened(shelf: Shelf, override: bool) -> None:
    before = until(shelf, HOUR, "Locked")
    await shelf.write("a", retention=before.dump())
    for wanted in (until(shelf, HOUR / 2, "Locked"), until(shelf, 2 * HOUR), None):
        failure = await shelf.patch("a", retention=wanted, override_unlocked_retention=override)
        assert denied(failure, "Object 'shelf/a' has a Locked retention")
    longer = until(shelf, 2 * HOUR, "Locked")
    assert await shelf.patch("a", retention=longer, override_unlocked_retention=override) is None
    assert await shelf.column("a", "retention") == longer.dump()


@promised(Promise.HOLDS_ANYWHERE)
async def test_clearing_no_retention_is_no_failure(shelf: Shelf) -> None:
    await shelf.write("a")
    assert await shelf.patch("a", retention=None) is None


@promised(Promise.HOLDS_ANYWHERE)
async def test_impossible_retentions_are_refused(shelf: Shelf) -> None:
    await shelf.write("a")
    for wanted in (
        until(shelf, -1),
        until(shelf, 101 * 366 * 24 * HOUR),
        until(shelf, HOUR, "locked"),
        until(shelf, HOUR, ""),
    ):
        assert invalid(await shelf.patch("a", retention=wanted))
        with pytest.raises(InvalidArgument):
            await shelf.write("b", retention=wanted.dump())
    assert await shelf.column("a", "retention") == ""


@promised(Promise.HOLDS_ANYWHERE)
async def test_an_event_based_hold_excludes_a_retention(shelf: Shelf) -> None:
    await shelf.write("held", event_based_hold=True)
    await shelf.write("kept", retention=until(shelf, HOUR).dump())
    await shelf.write("none")
    assert invalid(await shelf.patch("held", retention=until(shelf, HOUR)))
    assert invalid(await shelf.patch("kept", event_based_hold=True))
    both = {"retention": until(shelf, HOUR), "event_based_hold": True}
    assert invalid(await shelf.patch("none", **both))
    swap = {"retention": until(shelf, HOUR), "event_based_hold": False}
    assert await shelf.patch("held", **swap) is None
    assert await shelf.patch("kept", temporary_hold=True) is None


@promised(Promise.HOLDS_ANYWHERE)
async def test_one_object_that_may_not_change_does_not_stop_the_others(shelf: Shelf) -> None:
    rows = [("a", await shelf.write("a"))]
    rows.append(("b", await shelf.write("b", event_based_hold=True)))
    rows.append(("c", await shelf.write("c")))
    wanted = until(shelf, HOUR)
    outcome = await shelf.patch_objects(named(*rows), Patch(retention=wanted))
    assert outcome.failures.keys() == {1}
    batch = await shelf.there(*"abc", columns=("retention",))
    assert batch.columns["retention"] == [wanted.dump(), "", wanted.dump()]
    assert batch.metagenerations == [2, 1, 2]


# The retention of a bucket


@promised(Promise.BUCKET_RULES)
async def test_a_bucket_retains_its_objects(bare: Shelf) -> None:
    await bare.make(retention_period_seconds=HOUR)
    await bare.write("a")
    assert denied(await bare.delete("a"), RETAINED)
    assert denied(await bare.rewrite("a"), RETAINED)
    with pytest.raises(PermissionDenied):
        await bare.write("a")
    bare.clock.turn(HOUR + 1)
    assert await bare.delete("a") is None


@promised(Promise.BUCKET_RULES)
async def test_a_bucket_s_retention_holds_for_what_is_already_there(shelf: Shelf) -> None:
    await shelf.write("a")
    await shelf.store.update_bucket(BUCKET, retention_period_seconds=HOUR)
    assert denied(await shelf.delete("a"), RETAINED)
    await shelf.store.update_bucket(BUCKET, retention_period_seconds=0)
    assert await shelf.delete("a") is None


@promised(Promise.BUCKET_RULES)
async def test_in_a_bucket_that_retains_versions_may_become_noncurrent(bare: Shelf) -> None:
    await bare.make(retention_period_seconds=HOUR, versioning=True)
    first = await bare.write("a")
    assert await bare.delete("a") is None
    assert denied(await bare.delete("a", first, permanent=True), RETAINED)


@promised(Promise.BUCKET_RULES)
async def test_the_later_of_both_retentions_counts(bare: Shelf) -> None:
    await bare.make(retention_period_seconds=HOUR)
    await bare.write("a", retention=until(bare, 2 * HOUR).dump())
    bare.clock.turn(HOUR + 1)
    assert denied(await bare.delete("a"), RETAINED)
    bare.clock.turn(HOUR)
    assert await bare.delete("a") is None


@promised(Promise.BUCKET_RULES)
async def test_releasing_the_event_based_hold_restarts_the_clock(bare: Shelf) -> None:
    await bare.make(retention_period_seconds=HOUR)
    for name in ("event", "temporary", "never"):
        holds = {f"{name}_based_hold" if name == "event" else f"{name}_hold": True}
        await bare.write(name, **(holds if name != "never" else {}))
    bare.clock.turn(HOUR + 1)
    for name in ("event", "temporary", "never"):
        await bare.patch(name, event_based_hold=False, temporary_hold=False)
    assert denied(await bare.delete("event"), "Object 'shelf/event' is subject to")
    assert await bare.delete("temporary") is None
    assert await bare.delete("never") is None
    bare.clock.turn(HOUR + 1)
    assert await bare.delete("event") is None


@promised(Promise.HOLDS_NAMES)
async def test_a_rewritten_object_is_retained_anew(bare: Shelf) -> None:
    await bare.make(retention_period_seconds=HOUR)
    await bare.write("a")
    bare.clock.turn(HOUR + 1)
    assert await bare.rewrite("a") is None
    assert denied(await bare.delete("a"), RETAINED)


# The custom time


async def test_the_custom_time_goes_forward_only(shelf: Shelf) -> None:
    await shelf.write("a", custom_time_us=1000)
    assert await shelf.patch("a", custom_time_us=2000) is None
    assert await shelf.patch("a", custom_time_us=2000) is None
    for wanted in (1999, None):
        assert invalid(await shelf.patch("a", custom_time_us=wanted))
    assert await shelf.column("a", "custom_time_us") == 2000


async def test_a_custom_time_may_lie_before_1970_and_still_goes_forward_only(shelf: Shelf) -> None:
    await shelf.write("a")
    assert await shelf.patch("a", custom_time_us=-2000) is None
    for wanted in (-2001, None):
        assert invalid(await shelf.patch("a", custom_time_us=wanted))
    assert await shelf.patch("a", custom_time_us=-1000) is None
    assert await shelf.patch("a", custom_time_us=1000) is None
    await shelf.write("b", custom_time_us=-5)
    assert await shelf.column("b", "custom_time_us") == -5


async def test_a_new_object_has_a_custom_time_of_its_own(shelf: Shelf) -> None:
    await shelf.write("a", custom_time_us=1000)
    await shelf.write("a", custom_time_us=500)
    assert await shelf.column("a", "custom_time_us") == 500


async def test_clearing_no_custom_time_is_no_failure(shelf: Shelf) -> None:
    await shelf.write("a")
    assert await shelf.patch("a", custom_time_us=None) is None


# ACLs and limits


@promised(Promise.BUCKET_RULES)
async def test_uniform_access_refuses_acls(bare: Shelf) -> None:
    await bare.make(uniform_access=True)
    await bare.write("a")
    change = MapPatch(updates={"allUsers": "READER"})
    failure = await bare.patch("a", acl=change)
    assert invalid(failure)
    assert "uniform bucket-level access" in failure.message  # type: ignore[union-attr]
    with pytest.raises(InvalidArgument):
        await bare.write("b", acl=dump_map({"allUsers": "READER"}))
    await bare.store.update_bucket(BUCKET, uniform_access=False)
    assert await bare.patch("a", acl=change) is None


@promised(Promise.BUCKET_RULES)
async def test_what_no_object_may_have_comes_after_what_is_not_there(bare: Shelf) -> None:
    await bare.make(uniform_access=True)
    rows = (("z", 5), ("a", await bare.write("a")))
    outcome = await bare.patch_objects(named(*rows), Patch(acl=MapPatch(updates={}, clear=True)))
    assert [outcome.failures[i].code for i in (0, 1)] == [Code.NOT_FOUND, Code.INVALID_ARGUMENT]


async def test_the_content_language_has_a_limit(shelf: Shelf) -> None:
    await shelf.write("a")
    assert await shelf.patch("a", content_language="x" * 100) is None
    assert invalid(await shelf.patch("a", content_language="x" * 101))
    with pytest.raises(InvalidArgument):
        await shelf.write("a", content_language="x" * 101)


@pytest.mark.parametrize(
    "pair",
    [
        ("", "v"),
        ("k", ""),
        ("-k", "v"),
        ("k", "/v"),
        ("k" * 257, "v"),
        ("k", "v" * 257),
        ("k", "it's"),
        ('k"', "v"),
        ("a/b", "v"),
        ("k", "a\\b"),
    ],
)
async def test_impossible_contexts_are_refused(shelf: Shelf, pair: tuple[str, str]) -> None:
    await shelf.write("a")
    assert invalid(await shelf.patch("a", contexts=MapPatch(updates=dict([pair]))))
    with pytest.raises(InvalidArgument):
        await shelf.write("a", contexts=dump_map(dict([pair])))
    assert await shelf.column("a", "contexts") == ""


@promised(Promise.LONG_CONTEXTS)
async def test_contexts_may_be_as_long_as_the_limit(shelf: Shelf) -> None:
    await shelf.write("a")
    change: dict[str, Any] = {"k" * 256: "ü" * 256}
    assert await shelf.patch("a", contexts=MapPatch(updates=change)) is None


async def test_custom_metadata_has_a_limit_for_each_object(shelf: Shelf) -> None:
    await shelf.write("a", custom_metadata=dump_map({"k": "v" * 8000}))
    await shelf.write("b")
    batch = await shelf.there("a", "b")
    change = MapPatch(updates={"new": "v" * 300})
    outcome = await shelf.patch_objects(batch, Patch(custom_metadata=change))
    assert outcome.failures.keys() == {0}
    assert invalid(outcome.failures[0])
    assert await shelf.column("b", "custom_metadata") == dump_map({"new": "v" * 300})
    with pytest.raises(InvalidArgument):
        await shelf.write("c", custom_metadata=dump_map({"k": "v" * 8192}))


async def test_every_store_says_what_it_can(bare: Shelf) -> None:
    capabilities = bare.store.capabilities
    assert capabilities.patch_columns >= {"temporary_hold", "custom_metadata", "contexts", "acl"}

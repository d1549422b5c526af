"""What is measured, and how the numbers of several processes become one."""

from __future__ import annotations

import orjson
import pytest

from longshore import telemetry
from longshore.telemetry import BUCKETS, Totals

CALL = ("store_call_seconds", "main", "patch_objects", "OK")
DONE = ("objects", "delete_object", "succeeded")
LIMIT = ("limit", "main", "b", "concurrency")


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process begins anew."""
    monkeypatch.setattr(telemetry, "_own", {})
    monkeypatch.setattr(telemetry, "_changed", set())


def sent() -> telemetry.Changes:
    """What a worker sends, as its supervisor gets it; it counts in the worker only."""
    changes = orjson.loads(orjson.dumps(telemetry.changes()))
    telemetry._own.clear()
    return changes


def test_changes_are_told_once_and_as_they_are_now() -> None:
    telemetry.count_objects("delete_object", "succeeded", 3)
    telemetry.count_objects("delete_object", "succeeded", 4)
    assert telemetry.changes() == [(DONE, [7.0])]
    assert telemetry.changes() == []
    telemetry.count_objects("delete_object", "succeeded", 1)
    assert telemetry.changes() == [(DONE, [8.0])]


def test_a_histogram_has_its_sum_and_a_number_for_each_bucket() -> None:
    for seconds in (BUCKETS[0], BUCKETS[0] + 1e-9, BUCKETS[-1], 60.0):
        telemetry.count_call("main", "patch_objects", "OK", seconds)
    ((series, numbers),) = telemetry.changes()
    assert series == CALL
    assert numbers[0] == pytest.approx(sum((BUCKETS[0] * 2, BUCKETS[-1], 60.0)))
    assert numbers[1:] == [1, 1, *[0] * (len(BUCKETS) - 3), 1, 1]


def test_the_dead_keep_what_they_counted_and_not_how_they_were() -> None:
    totals = Totals()
    for process, number in (("a", 3), ("b", 5)):
        telemetry.count_objects("delete_object", "succeeded", number)
        telemetry.observe_checkpoint(0.5)
        telemetry.set_limit("main", "b", "concurrency", number)
        totals.update(process, sent())
    assert totals.now()[DONE] == [8]
    assert totals.now()[LIMIT] == [8]
    totals.bury("a")
    totals.bury("a")
    assert totals.now()[DONE] == [8]
    assert totals.now()[LIMIT] == [5]
    assert totals.now()[("checkpoint_seconds",)][0] == 1.0
    totals.bury("b")
    assert totals.now()[DONE] == [8]
    assert LIMIT not in totals.now()


def test_this_process_counts_too() -> None:
    totals = Totals()
    telemetry.count_objects("delete_object", "succeeded", 3)
    totals.update("a", sent())
    telemetry.count_objects("delete_object", "succeeded", 4)
    assert totals.now()[DONE] == [7]


def test_a_limiter_that_is_gone_leaves_nothing() -> None:
    totals = Totals()
    telemetry.set_limit("main", "b", "concurrency", 12)
    totals.update("a", orjson.loads(orjson.dumps(telemetry.changes())))
    telemetry.set_limit("main", "b", "concurrency", None)
    changes = telemetry.changes()
    assert changes == [(LIMIT, [])]
    assert LIMIT not in telemetry._own
    totals.update("a", orjson.loads(orjson.dumps(changes)))
    assert LIMIT not in totals.now()
    telemetry.set_limit("main", "b", "concurrency", None)  # gone before anybody heard of it
    totals.update("a", orjson.loads(orjson.dumps(telemetry.changes())))
    assert LIMIT not in totals.now()


def test_waiting_lasts_as_long_as_it_lasts() -> None:
    series = ("shards_waiting", "main", "UNAVAILABLE")
    with telemetry.waiting("main", "UNAVAILABLE"), telemetry.waiting("main", "UNAVAILABLE"):
        assert telemetry._own[series] == [2]
    assert telemetry._own[series] == [0]

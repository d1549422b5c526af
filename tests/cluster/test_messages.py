"""What services and workers of two versions say to each other. Whoever changes it has both sides of
an upgrade to think of: docs/cluster.md."""

from __future__ import annotations

import inspect
import pickle

from distributed.protocol.pickle import dumps

from longshore import extensions
from longshore.database import notices
from longshore.database.quotas import Quota
from longshore.model import FORMAT

dask = extensions.load("runners", "dask")


def test_functions_travel_by_names_that_stay() -> None:
    """A service sends these names; a worker of the version before or after looks them up."""
    for function, name in ((dask.place.carry, b"carry"), (dask.place.hand_back, b"hand_back")):
        sent = dumps(function)
        assert b"longshore.runners.dask.place" in sent
        assert name in sent
        assert len(sent) < 100  # no more than a reference
        assert pickle.loads(sent) is function


def test_what_they_are_called_with_stays() -> None:
    carry = inspect.signature(dask.place.carry)
    carry.bind(7, 1)  # a shard, an attempt
    back = inspect.signature(dask.place.hand_back)
    back.bind({(7, 1)}, dask_worker=None)


def test_a_worker_tells_what_it_can_be_dealt_and_may_tell_more() -> None:
    Terms = dask.place.Terms
    assert dask.place.KIND == "longshore"
    assert Terms(FORMAT, 4)._asdict() == {"reads": FORMAT, "at_once": 4}
    newer = {"longshore": {"at_once": 8, "reads": 2, "tells": "something that is new"}}
    assert Terms.told(newer) == Terms(2, 8)
    for stranger in ({}, {"longshore": None}, {"longshore": {"schema": "0001"}}):
        assert Terms.told(stranger) is None


def test_what_goes_by_way_of_the_database_stays() -> None:
    assert notices.CANCELLED == "longshore_cancelled"
    assert Quota._fields == ("store", "bucket", "before", "mine", "everybody", "new")
    assert Quota._field_defaults == {"new": False}  # one that the version before does not know

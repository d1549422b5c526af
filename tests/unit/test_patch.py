"""Changes of metadata as values: which columns they touch and which objects need them."""

from hypothesis import given
from hypothesis import strategies as st

from longshore.patch import MapPatch, Patch, Retention, dump_map, load_map, memoised
from longshore.store import COLUMNS

maps = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"))


def test_only_what_is_set_or_cleared_changes() -> None:
    patch = Patch(
        temporary_hold=False, content_type=None, custom_time_us=None, retention=None, acl=change({})
    )
    assert patch.changes() == {
        "temporary_hold": False,
        "content_type": "",
        "custom_time_us": 0,
        "retention": "",
        "acl": change({}),
    }
    assert Patch(override_unlocked_retention=True).changes() == {}


def test_every_field_is_a_column_but_the_right_to_override() -> None:
    assert Patch.__slots__[-1] == "override_unlocked_retention"
    assert set(Patch.__slots__[:-1]) <= COLUMNS.keys()


def test_an_object_is_satisfied_if_all_its_columns_are() -> None:
    patch = Patch(
        event_based_hold=True,
        retention=Retention(mode="Locked", until_us=5),
        contexts=change({"a": "1"}, removals="b"),
    )
    rows = [
        (True, "Locked@5", '{"a":"1"}', True),
        (True, "Locked@5", '{"a":"1","c":"3"}', True),
        (True, "Locked@5", '{"a":"1","b":"2"}', False),
        (True, "Unlocked@5", '{"a":"1"}', False),
        (False, "Locked@5", '{"a":"1"}', False),
        (True, "Locked@5", "", False),
    ]
    holds, retentions, contexts, wanted = map(list, zip(*rows, strict=True))
    columns = {"event_based_hold": holds, "retention": retentions, "contexts": contexts}
    assert patch.satisfied(columns, len(rows)) == wanted


def test_a_patch_without_a_change_satisfies_everything() -> None:
    assert Patch().satisfied({}, 3) == [True, True, True]


def test_retention_is_kept_as_text() -> None:
    retention = Retention(mode="Unlocked", until_us=123)
    assert Retention.load(retention.dump()) == retention
    assert Retention.load("") is None


def test_memoised_asks_once_per_text() -> None:
    asked: list[str] = []
    assert memoised(lambda text: asked.append(text) or len(text), ["a", "bb", "a"]) == [1, 2, 1]
    assert asked == ["a", "bb"]


def change(updates: dict[str, str], *, removals: str = "", clear: bool = False) -> MapPatch:
    return MapPatch(updates=updates, removals=frozenset(removals), clear=clear)


@given(maps, maps, st.text("abcd"), st.booleans())
def test_a_change_of_a_map_done_twice_is_the_change_done_once(
    before: dict[str, str], updates: dict[str, str], removals: str, clear: bool
) -> None:
    patch = change(updates, removals=removals, clear=clear)
    after = load_map(patch.apply(dump_map(before)))
    kept = {k: v for k, v in before.items() if not clear and k not in removals}
    assert after == kept | updates
    assert patch.leaves(dump_map(after))
    assert patch.leaves(dump_map(before)) == (after == before)

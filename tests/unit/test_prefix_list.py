"""Prefix lists: overlaps are dropped, so that each object is chosen once."""

from hypothesis import given
from hypothesis import strategies as st

from longshore.sources.prefix_list import from_message
from tests.unit.messages import message


def prefixes_of(*prefixes: str) -> list[str]:
    data = from_message(message("PrefixList", {"includedObjectPrefixes": prefixes}))
    assert list(data) == ["prefixes"]
    return list(data["prefixes"])


def test_nothing_and_the_empty_prefix_mean_everything() -> None:
    assert prefixes_of() == [""]
    assert prefixes_of("") == [""]
    assert prefixes_of("a/", "", "b/") == [""]


def test_a_prefix_that_another_one_covers_is_dropped() -> None:
    assert prefixes_of("logs/2026/", "a", "logs/", "logs/", "log", "m") == ["a", "log", "m"]


def test_prefixes_are_taken_as_they_are() -> None:
    assert prefixes_of(" a", "é*", "../x") == [" a", "../x", "é*"]


@given(st.lists(st.text("ab\U0001f600￿", max_size=4), max_size=8), st.text("ab\U0001f600￿"))
def test_each_name_is_chosen_once_or_not_at_all(prefixes: list[str], name: str) -> None:
    chosen = not prefixes or any(name.startswith(prefix) for prefix in prefixes)
    assert sum(name.startswith(prefix) for prefix in prefixes_of(*prefixes)) == chosen

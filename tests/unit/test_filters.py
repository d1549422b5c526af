"""Filters in CEL: what is refused and where, and that they choose as Google's evaluator does."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.errors import InvalidArgument, Unimplemented
from longshore.patch import dump_map
from longshore.sources.project_source import checker
from longshore.sources.project_source.fields import BUCKET_FIELDS, OBJECT_FIELDS, Kind
from longshore.sources.project_source.predicate import Predicate, prefixes

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROW = {
    "name": "logs/2026/a.log",
    "size": 42,
    "storage_class": "STANDARD",
    "content_type": "text/plain",
    "create_time_us": 1_767_225_600_000_000,  # 2026-01-01T00:00:00Z
    "update_time_us": 1_767_225_600_000_001,
    "temporary_hold": True,
    "contexts": dump_map({"env": "prod", "team": "dock"}),
}
ABSENT: dict[str, Any] = {
    field.column: {Kind.INT: 0, Kind.TIME: 0, Kind.BOOL: False}.get(field.kind, "")
    for field in OBJECT_FIELDS.values()
}


def chosen(expression: str, **row: Any) -> bool:
    """Whether the filter chooses ROW, changed by ``row``."""
    tree = json.loads(json.dumps(checker.check(expression, OBJECT_FIELDS)))
    values = ABSENT | ROW | row
    found = Predicate(tree, OBJECT_FIELDS)({key: [value] for key, value in values.items()}, 1)
    assert found in ([], [0])
    return bool(found)


@pytest.mark.parametrize(
    "expression",
    [
        "true",
        "temporaryHold",
        "!eventBasedHold",
        "temporaryHold == true && eventBasedHold != true",
        "name.startsWith('logs/') && name.endsWith('.log') && name.contains('2026')",
        "name == 'logs/2026/a.log' || size == 1",
        "(size == 1 || size == 42) && (name < 'm' || size == 1)",
        "size != 41 && size > 41 && size >= 42 && size < 43 && size <= 42 && size > -1",
        "size in [1, 42]",
        "storageClass in ['STANDARD', 'NEARLINE']",
        "!(storageClass in ['NEARLINE'])",
        "!(name in [])",
        "timeCreated == timestamp('2026-01-01T00:00:00Z')",
        "timeCreated < timestamp('2026-01-01T00:00:00.000001Z')",
        "timeCreated >= timestamp('2026-01-01T01:00:00+01:00') && timeCreated < updated",
        "contexts.exists(c, c.key == 'env' && c.value == 'prod')",
        "contexts.exists(name, name.value.startsWith('do') && name.key in ['team'])",
        "!contexts.exists(c, c.key == 'env' && c.value == 'dock')",
        "!metadata.exists(m, true)",
        "contexts.exists(c, c.value != storageClass && size == 42)",
        "'STANDARD' == storageClass && 1 < 2",
        "!!(size == 42) && !(!(size == 42) || !temporaryHold)",
        "name\n == 'logs/2026/a.log' // comments may stand here\n && size == 0x2A",
    ],
)
def test_what_is_true_of_an_object_chooses_it(expression: str) -> None:
    assert chosen(expression)
    assert not chosen(f"!({expression})")


@pytest.mark.parametrize(
    "comparison",
    [
        "contentType == 'a'",
        "contentType != 'a'",
        "contentType < 'a'",
        "contentType == ''",
        "contentType in ['a', '']",
        "contentType.startsWith('')",
        "contentType.contains('')",
        "customTime < timestamp('2026-01-01T00:00:00Z')",
        "customTime > timestamp('1900-01-01T00:00:00Z')",
        "customTime != updated",
        "'a' != cacheControl",
    ],
)
def test_a_comparison_with_what_is_absent_is_not_true_and_not_false(comparison: str) -> None:
    for one in (comparison, f"!({comparison})", f"!(!({comparison}))"):
        assert not chosen(one, content_type="")
        assert not chosen(f"({one}) && size == 42", content_type="")
        assert chosen(f"({one}) || size == 42", content_type="")
        assert not chosen(f"!(({one}) || size == 42)", content_type="")
        assert chosen(f"!(({one}) && size == 41)", content_type="")
        assert not chosen(f"!(({one}) && size == 42)", content_type="")
        assert not chosen(f"contexts.exists(c, {one})", content_type="")
        assert chosen(f"!contexts.exists(c, {one})", content_type="")


@pytest.mark.parametrize(
    ("expression", "places"),
    [
        ("nam == 'x'", ["Line 1, column 1: undeclared reference to 'nam'. The fields are name, "]),
        ("size == 1 &&\n  foo == 1 && name == 3", ["Line 2, column 3: ", "Line 2, column 20: "]),
        ("name == 'é😀' && size == 'x'", ["Line 1, column 22: found no matching overload"]),
        ("name ==", ["Line 1, column 8: Syntax error: mismatched input"]),
        ("name == 'x", ["Line 1, column 9: Syntax error", "Line 1, column 11: Syntax error"]),
        ("size > 3.5", ["Line 1, column 6: found no matching overload"]),
        ("size < 5u", ["Line 1, column 6: found no matching overload"]),
        ("name == null", ["Line 1, column 6: found no matching overload"]),
        ("size < 9223372036854775808", ["Line 1, column 8: invalid int literal"]),
        ("name == '\\ud800'", ["Line 1, column 9: Invalid string literal"]),
        ("\0", ["Line 1, column 1: Syntax error"]),
        ("size", ["The filter gives a value of type INT, where it must be true or false."]),
        (
            "name.matches('a+')",
            ["Line 1, column 13: here must stand a field or a constant, not the"],
        ),
        ("size + 1 == 2", ["Line 1, column 6: here must stand a field or a constant, not the"]),
        ("-size == 2", ["Line 1, column 1: here must stand a field or a constant, not the"]),
        ("size == 1 ? true : false", ["Line 1, column 11: "]),
        ("dyn(name) == 1", ["Line 1, column 4: here must stand a field or a constant, not the"]),
        ("size in [1, dyn('a')]", ["Line 1, column 16: "]),
        ("name in ['a', 1]", ["Line 1, column 15: this must be a constant, a text"]),
        ("name in [name]", ["Line 1, column 10: this must be a constant, a text"]),
        ("(size == 1) == true", ["Line 1, column 7: here must stand a field or a constant"]),
        ("temporaryHold < true", ["Line 1, column 15: a bool cannot be compared so"]),
        ("contexts == contexts", ["Line 1, column 10: a list of entries cannot be compared so"]),
        ("contexts == []", ["Line 1, column 13: here must stand a field or a constant"]),
        ("contexts[0].key == 'a'", ["Line 1, column 12: an entry has a key and a value"]),
        ("contexts.exists(c, c.kee == 'a')", ["Line 1, column 21: an entry has a key and a value"]),
        ("contexts.exists(c, has(c.key))", ["Line 1, column 23: an entry has a key and a value"]),
        ("contexts.exists(c, c == {'a': 'b'})", ["Line 1, column 20: here must stand a field"]),
        (
            "contexts.all(c, c.key == 'a')",
            ["Line 1, column 13: of the macros there is only exists"],
        ),
        (
            "contexts.exists_one(c, c.key == 'a')",
            ["Line 1, column 20: of the macros there is only"],
        ),
        ("contexts.map(c, c.key) == ['a']", ["Line 1, column 13: here must stand a field"]),
        ("['a'].exists(c, c == name)", ["Line 1, column 1: here must stand a field"]),
        (
            "contexts.exists(c, metadata.exists(m, m.key == c.key))",
            ["Line 1, column 35: exists cannot stand inside exists"],
        ),
        ("timeCreated < timestamp('2026')", ["Line 1, column 25: '2026' is no RFC 3339 time"]),
        ("timeCreated < timestamp('2026-02-30T00:00:00Z')", ["Line 1, column 25: "]),
        ("timeCreated < timestamp(size)", ["Line 1, column 25: timestamp takes a text in quotes"]),
        ("securityInsights.publicAccessInsight.x == 'a'", ["Line 1, column 37: undeclared"]),
        (f"{'(' * 40}true{')' * 40}", ["The filter is nested too deeply: at most 32 levels"]),
        ("!(" * 5_000 + "true" + ")" * 5_000, ["The filter is nested too deeply"]),
        ("[" * 5_000, ["The filter is nested too deeply"]),
        (f"name == '{'a' * 17_000}'", ["The filter has more than 16384 bytes."]),
        (f"name == '{'é' * 8_200}'", ["The filter has more than 16384 bytes."]),
        (
            " || ".join(["contexts.exists(c, c.key == 'a')"] * 33),
            ["Line 1, column 1168: exists may stand in a filter 32 times at most"],
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_with_its_place(expression: str, places: list[str]) -> None:
    with pytest.raises(InvalidArgument) as error:
        checker.check(expression, OBJECT_FIELDS)
    found = [violation.description for violation in error.value.violations]
    assert len(found) == len(places)
    for problem, place in zip(found, places, strict=True):
        assert problem.startswith(place)
        assert len(problem) < 500


@pytest.mark.parametrize(
    "expression",
    [
        " || ".join(f"size == {number}" for number in range(1_000)),
        f"name in [{', '.join(repr(str(number)) for number in range(1_700))}]",
        "!" * 10_000 + "temporaryHold",
        "size == " + "-" * 10_000 + "42",
        f"name != '{'a' * 10_000}'",
        " " * 10_000 + "true",
        " && ".join(["!contexts.exists(c, c.key == 'a')"] * 32),
    ],
    ids=range(7),
)
def test_ten_thousand_characters_are_no_bomb(expression: str) -> None:
    assert len(expression) > 1_000
    assert isinstance(chosen(expression), bool)


def test_fields_of_buckets_are_others() -> None:
    tree = checker.check(
        "softDeletePolicy.retentionDurationSeconds > 5 && !autoclass.enabled"
        " && labels.exists(l, l.key == 'a')",
        BUCKET_FIELDS,
    )
    predicate = Predicate(tree, BUCKET_FIELDS)
    columns = {
        "soft_delete_seconds": [6, 5, 6, 0],
        "autoclass": [False, False, True, False],
        "labels": [dump_map({"a": "b"})] * 4,
    }
    assert predicate(columns, 4) == [0]
    with pytest.raises(InvalidArgument, match="undeclared reference to 'size'"):
        checker.check("size == 1", BUCKET_FIELDS)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("size == 1", [""]),
        ("name.startsWith('a/')", ["a/"]),
        ("name.startsWith('a/') && size == 1", ["a/"]),
        ("name.startsWith('a/') || size == 1", ["a/", ""]),
        ("name.startsWith('a/') || name == 'b' && size == 1", ["a/", "b"]),
        ("name.startsWith('a') && name.startsWith('a/b')", ["a/b"]),
        ("name.startsWith('a') && (name.startsWith('b') || name in ['c', 'd'])", ["a"]),
        ("!name.startsWith('a/')", [""]),
        ("'abc'.startsWith(name)", [""]),
        ("name.startsWith(storageClass)", [""]),
        ("name.startsWith('a') && name in []", []),
        ("contexts.exists(c, c.key.startsWith('a'))", [""]),
        ("contexts.exists(name, name.key == 'a') && temporaryHold && true", [""]),
        (f"name in [{', '.join(repr(f'a/{number}') for number in range(1_001))}]", ["a/"]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_prefixes_cover_what_a_filter_can_choose(expression: str, expected: list[str]) -> None:
    assert prefixes(checker.check(expression, OBJECT_FIELDS)) == expected


def test_without_the_library_a_filter_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(Unimplemented, match=r"install longshore\[cel\]"):
        checker.check("true", OBJECT_FIELDS)


# Against Google's own evaluator, on rows in which nothing is absent.

TEXTS = ("a", "ab", "b/a", "é", "", "a'\\")
TEXT_FIELDS = ("name", "storageClass", "contentType")
TIMES = ("2026-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "2026-01-01T00:00:00.000001Z")
SIZES = (0, 1, 42, 2**62, -1)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


texts = st.sampled_from(TEXTS).map(_quoted)
ordered = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
times = st.sampled_from(TIMES).map(lambda time: f"timestamp('{time}')")


def _comparisons(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("{} {} {}".format, values, ordered, values)


def _on_texts(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    methods = st.sampled_from(("startsWith", "endsWith", "contains"))
    lists = st.lists(texts, max_size=4).map(", ".join)
    return st.one_of(
        _comparisons(values),
        st.builds("{}.{}({})".format, values, methods, values),
        st.builds("{} in [{}]".format, values, lists),
    )


def _joined(conditions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} && {})".format, conditions, conditions),
        st.builds("({} || {})".format, conditions, conditions),
        st.builds("!({})".format, conditions),
    )


text_values = st.one_of(texts, st.sampled_from(TEXT_FIELDS))
leaves = st.one_of(
    _on_texts(text_values),
    _comparisons(st.one_of(st.sampled_from(SIZES).map(str), st.just("size"))),
    st.builds("size in {}".format, st.lists(st.sampled_from(SIZES), max_size=3)),
    _comparisons(st.one_of(times, st.sampled_from(("timeCreated", "updated")))),
    st.sampled_from(("temporaryHold", "temporaryHold == false", "true", "false")),
)
entry_values = st.one_of(text_values, st.sampled_from(("c.key", "c.value")))
entries = st.recursive(st.one_of(_on_texts(entry_values), leaves), _joined, max_leaves=3)
records = st.builds("{}.exists(c, {})".format, st.sampled_from(("contexts", "metadata")), entries)
filters = st.recursive(st.one_of(leaves, records), _joined, max_leaves=8)
maps = st.dictionaries(st.sampled_from(("a", "ab", "é")), st.sampled_from(TEXTS), max_size=3)
some_text = st.sampled_from([text for text in TEXTS if text])
rows = st.fixed_dictionaries(
    {
        "name": some_text,
        "size": st.sampled_from(SIZES),
        "storageClass": some_text,
        "contentType": some_text,
        "timeCreated": st.sampled_from((-1, 1_767_225_600_000_000, 1_767_225_600_000_001)),
        "updated": st.sampled_from((-1, 1_767_225_600_000_000, 1_767_225_600_000_001)),
        "temporaryHold": st.booleans(),
        "contexts": maps,
        "metadata": maps,
    }
)
TYPES = {
    Kind.TEXT: cel.Type.STRING,
    Kind.INT: cel.Type.INT,
    Kind.BOOL: cel.Type.BOOL,
    Kind.TIME: cel.Type.TIMESTAMP,
    Kind.RECORDS: cel.Type.List(cel.Type.Map(cel.Type.STRING, cel.Type.STRING)),
}
LIBRARY = cel.NewEnv(variables={name: TYPES[one.kind] for name, one in OBJECT_FIELDS.items()})


def _for_the_library(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [{"key": key, "value": one} for key, one in value.items()]
        if isinstance(value, dict)
        else EPOCH + timedelta(microseconds=value)
        if OBJECT_FIELDS[name].kind is Kind.TIME
        else value
        for name, value in row.items()
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(expression=filters, table=st.lists(rows, min_size=1, max_size=8))
def test_a_filter_chooses_as_the_library_does(expression: str, table: list[dict[str, Any]]) -> None:
    compiled = LIBRARY.compile(expression)
    expected = [
        index
        for index, row in enumerate(table)
        if compiled.eval(data=_for_the_library(row)).value()
    ]
    columns = {
        OBJECT_FIELDS[name].column: [
            dump_map(row[name]) if isinstance(row[name], dict) else row[name] for row in table
        ]
        for name in table[0]
    }
    tree = json.loads(json.dumps(checker.check(expression, OBJECT_FIELDS)))
    found = Predicate(tree, OBJECT_FIELDS)(columns, len(table))
    assert found == expected
    for index in found:  # nothing that is chosen lies outside of the listing
        assert table[index]["name"].startswith(tuple(prefixes(tree)))

"""The example in docs/adding-a-transformation.md is true."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import longshore
from longshore.errors import InvalidArgument
from longshore.transformation import PatchObjects

DOCUMENT = Path(longshore.__file__).parents[2] / "docs" / "adding-a-transformation.md"


@pytest.fixture(scope="module")
def example() -> SimpleNamespace:
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    scope: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(DOCUMENT), "exec"), scope)
    return SimpleNamespace(**scope)


def test_it_does_what_it_says(example: SimpleNamespace) -> None:
    data = example.from_message(SimpleNamespace(keys=["owner", "draft", "owner"]))
    assert data == {"keys": ["draft", "owner"]}
    transformation = example.open_transformation(data)
    assert isinstance(transformation, PatchObjects)
    assert transformation.columns == ("custom_metadata",)
    change = transformation.patch.custom_metadata
    assert change.apply('{"keep":"1","owner":"me"}') == '{"keep":"1"}'


@pytest.mark.parametrize(
    ("keys", "fields"), [([], ["keys"]), (["a", "", ""], ["keys[1]", "keys[2]"])]
)
def test_it_refuses_what_it_says(
    example: SimpleNamespace, keys: list[str], fields: list[str]
) -> None:
    with pytest.raises(InvalidArgument) as error:
        example.from_message(SimpleNamespace(keys=keys))
    assert [violation.field for violation in error.value.violations] == fields


def test_it_names_files_and_words_that_exist() -> None:
    root = DOCUMENT.parents[1]
    text = DOCUMENT.read_text()
    for path, word in (
        ("src/longshore/api/wire.py", "_ANNOUNCED"),
        ("tests/conformance/test_transformation.py", "CASES"),
        ("tests/unit/test_transformation_messages.py", "KINDS"),
        ("src/longshore/cli/flags.py", "def "),
    ):
        assert path.removeprefix("src/longshore/") in text
        assert word in (root / path).read_text()

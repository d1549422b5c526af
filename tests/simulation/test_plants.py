"""The mistakes of ``plant`` can still be made: whoever moves their lines keeps them up to date."""

from __future__ import annotations

import pytest

from tests.simulation.plant import BUGS, ROOT, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_its_lines_are_there(bug: Bug) -> None:
    for edit in bug.edits:
        text = (ROOT / "src" / "longshore" / edit.file).read_text(encoding="utf-8")
        assert text.count(edit.old) == edit.times, edit.file

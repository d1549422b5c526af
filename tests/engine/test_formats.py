"""What a shard's format stands for: rows of every format so far are read by this longshore."""

from __future__ import annotations

from typing import Any

import pytest

from longshore import extensions
from longshore.engine import intent
from longshore.engine.intent import NEEDED, PINNED, Intent
from longshore.errors import Code
from longshore.model import FORMAT
from longshore.store import Failure

FORMATS: dict[int, dict[str, Any]] = {
    1: {
        "intent": 2,
        "sources": {"manifest", "prefix_list", "project_source"},
        "transformations": {
            "delete_object",
            "put_metadata",
            "put_object_hold",
            "rewrite_object",
            "set_object_acls",
            "update_object_custom_context",
        },
    }
}
INTENTS = {
    1: (
        "021400000028b52ffd200b590000642f612e6a7067642fc3bc28b52ffd205f4d0200a40303020000"
        "00040000000c0000000704000001072800d900890070004400068042010002000300020200003166"
        "61305b5b312c352c226e6f225d5d05006030b81864043870b3e904"
    )
}
"""Of each format, as it was written then."""
ANNOUNCED = Intent(
    names=["d/a.jpg", "d/ü"],
    generations=[1764100000000001, 7],
    sizes=[12, 0],
    flags=bytes([NEEDED, PINNED | 2]),
    contexts=[[1, 0], [0, 2], [3, 0]],
    checksums=["1f", "a0"],
    refused={1: Failure(Code.NOT_FOUND, "no")},
)


def test_what_is_new_has_a_format_of_its_own() -> None:
    """Whoever adds to these raises model.FORMAT: workers of the version before, side by side with
    this one, would fail such a shard."""
    assert max(FORMATS) == FORMAT
    assert FORMATS[FORMAT] == {
        "intent": intent._FORMAT,
        "sources": set(extensions.known("sources")),
        "transformations": set(extensions.known("transformations")),
    }


@pytest.mark.parametrize("format_", FORMATS)
def test_intents_of_every_format_are_read(format_: int) -> None:
    assert Intent.unpack(bytes.fromhex(INTENTS[format_])) == ANNOUNCED

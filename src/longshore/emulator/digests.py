"""Digests of contents, and how the store keeps them: in one text, the column ``digests``."""

from __future__ import annotations

from typing import NamedTuple

from longshore.emulator.refusals import Refused


class Digests(NamedTuple):
    """CRC32C and MD5 in base64, as in resources and in ``x-goog-hash``; "" where not known.

    ``components``: of how many objects this one was composed; 0: of none.
    """

    crc32c: str = ""
    md5: str = ""
    components: int = 0

    def dump(self) -> str:
        """The text of the column."""
        return f"{self.crc32c} {self.md5} {self.components or ''}"

    @staticmethod
    def load(text: str) -> Digests:
        """What the column says; of an object that was not made by the emulator it is empty."""
        crc32c, _, rest = text.partition(" ")
        md5, _, components = rest.partition(" ")
        return Digests(crc32c, md5, int(components or 0))

    def check(self, wanted: Digests) -> None:
        """Raises Refused if a writer knows it better."""
        for name, mine, theirs in (
            ("CRC32C", self.crc32c, wanted.crc32c),
            ("MD5", self.md5, wanted.md5),
        ):
            if theirs and theirs != mine:
                raise Refused(
                    400,
                    "invalid",
                    f"Provided {name} hash {theirs!r} doesn't match calculated {name} hash"
                    f" {mine!r}.",
                )

    def header(self) -> str:
        """The value of ``x-goog-hash``."""
        known = (("crc32c", self.crc32c), ("md5", self.md5))
        return ",".join(f"{name}={value}" for name, value in known if value)


def from_header(header: str) -> Digests:
    """What a request says in ``x-goog-hash`` about its content."""
    values = dict.fromkeys(("crc32c", "md5"), "")
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name in values:
            values[name] = value
    return Digests(values["crc32c"], values["md5"])

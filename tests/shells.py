"""What a page of docs shows, typed into real shells: its blocks, and what must come of them."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pwd
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

BASH = ("bash", "--norc", "--noprofile", "--noediting", "-i")
SECONDS = 120.0
_PROMPT = "\x1e"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+")
_ID = re.compile(r"\b[0-9a-f]{8,32}\b")
_PARTS = re.compile(
    rf"(?P<anything>…)|(?P<rule>─+)|(?P<space> +)|(?P<id>{_ID.pattern})"
    r"|(?P<measure>[\d.,]+(?= ?s\b|/s\b| objects/s))|(?P<number>\d+)"
)
_WHAT_VARIES = {
    "anything": "(?s:.*)",
    "rule": "─+",
    "space": " +",
    "id": "[0-9a-f]+",
    "measure": r"[\d.,]+",
}


def section(page: str, heading: str) -> str:
    """What stands below a heading of the second level."""
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def blocks(page: str, language: str) -> list[str]:
    """Those of a language ("" is one), in their order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [block for one, block in found if one == language]


class Step(NamedTuple):
    """A command of a console block, and what is shown below it."""

    command: str
    shown: str


def steps(console: str) -> Iterator[Step]:
    r"""Each begins with ``$``; its command goes on while a quote is open, and behind a ``\``."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        length = 1
        while lines[length - 1].endswith("\\") or "\n".join(lines[:length]).count("'") % 2:
            length += 1
        yield Step("\n".join(lines[:length]), "\n".join(lines[length:]))


def agrees(shown: str, told: str) -> bool:
    """Whether ``told`` is what a page shows, where … stands for anything. Ids, widths and measures
    with seconds in them may differ, and any number in a line with an id."""
    return re.fullmatch("\n".join(map(_pattern, shown.splitlines())), told) is not None


def _pattern(line: str) -> str:
    varies = _WHAT_VARIES | ({"number": r"\d+"} if _ID.search(line) else {})
    pattern, end = "", 0
    for part in _PARTS.finditer(line):
        pattern += re.escape(line[end : part.start()])
        pattern += varies.get(part.lastgroup or "", re.escape(part[0]))
        end = part.end()
    return pattern + re.escape(line[end:])


def _screen(written: str) -> str:
    """What stands on a terminal in the end, as far as longshore's commands move on it."""
    lines, row, column = [""], 0, 0
    for piece in _CONTROL.findall(written):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece.startswith("\x1b"):
            if piece.endswith("A"):
                row = max(0, row - int(piece[2:-1] or 1))
            elif piece == "\x1b[2K":
                lines[row] = ""
        else:
            lines[row] = (
                lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            )
            column += len(piece)
    return "\n".join(line.rstrip() for line in lines).strip("\n")


class Shell:
    """An interactive bash on a terminal of its own, which nobody but ``harbour`` has to end."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        attributes = termios.tcgetattr(theirs)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        self._process = subprocess.Popen(
            [*_unprivileged(), "setsid", "--ctty", *BASH],
            cwd=directory,
            env={**environment, "PS1": _PROMPT, "PS2": "", "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._written = ""
        self.until(_PROMPT)

    def type(self, text: str) -> None:
        """As if on its keyboard."""
        while text:
            text = text[os.write(self._ours, text[:1024].encode()) :]

    def until(self, pattern: str) -> str:
        """Reads on until a pattern was written; gives all that was, up to its end."""
        end = time.monotonic() + SECONDS
        while (found := re.search(pattern, self._written)) is None:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"no {pattern!r} in {SECONDS:.0f} s: {self._written}")
            self._written += self._decode(os.read(self._ours, 65536))
        self._written = self._written[found.end() :]
        return found.string[: found.end()]

    def run(self, command: str) -> str:
        """What stands below a command once it has ended."""
        self.type(f"{command}\n")
        return _screen(self.until(_PROMPT).removesuffix(_PROMPT))

    def interrupt(self) -> None:
        """Ctrl-C, and what was in the foreground ends."""
        self.type("\x03")
        self.until(_PROMPT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


def _unprivileged() -> list[str]:
    """What makes another user of root, as PostgreSQL refuses root; who still reads everything,
    for the tests' environment may be root's alone."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    ids = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


@contextlib.contextmanager
def clone() -> Iterator[Path]:
    """A directory for a newcomer; whatever still runs in there is killed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="longshore-walk-")).resolve()
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody")
        yield directory
    finally:
        while living := inhabitants(directory):
            for pid in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(directory)


def inhabitants(directory: Path) -> dict[int, str]:
    """The processes that work below a directory, by their commands."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            where = (process / "cwd").readlink()
            if where.is_relative_to(directory):
                command = (process / "cmdline").read_text().replace("\0", " ")
                found[int(process.name)] = command
    return found

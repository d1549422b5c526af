"""The directory that everything lives in, and the proof that one service alone has it."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from pathlib import Path

from longshore.errors import FailedPrecondition

_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Linux's name for the time since it was started. Elsewhere copies are not noticed."""
_GRACE_SECONDS = 2.0
"""A service that was killed takes a moment to vanish, its workers with it."""


def identity(data_dir: Path) -> str:
    """What tells this data directory from any other, for as long as this machine runs.

    After a restart, and on a copy of the directory on another machine, it is another one: whoever
    gets the lock here knows that those with this identity before are dead, and nothing of those
    whom another kernel may still run. Call it with the lock held.
    """
    path, since = data_dir / "id", data_dir / "boot"
    boot = _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else "unknown"
    if not path.exists() or (since.exists() and since.read_text(encoding="ascii").strip() != boot):
        _write(path, uuid.uuid4().hex)
    _write(since, boot)
    return path.read_text(encoding="ascii").strip()


def _write(path: Path, line: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(f"{line}\n", encoding="ascii")
    new.rename(path)


class DataDirLock:
    """An exclusive lock on a data directory, held while this and every inheritor of ``fd`` lives.

    The kernel lets go of it when the last of them is dead, so whoever gets it knows that no earlier
    service or worker can touch the database or a store any more, whatever the leases say.
    """

    def __init__(self, data_dir: Path) -> None:
        """Raises FailedPrecondition, naming the process that has the lock, if it is not free."""
        data_dir.mkdir(parents=True, exist_ok=True)
        self._path = data_dir / "lock"
        self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _GRACE_SECONDS
        while not self._take():
            if time.monotonic() > deadline:
                holder = os.pread(self.fd, 32, 0).decode().strip() or "unknown"
                os.close(self.fd)
                raise FailedPrecondition(
                    f"The data directory {data_dir} is in use by process {holder}. Stop that"
                    " service, or choose another directory with --data-dir."
                )
            time.sleep(0.02)
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def _take(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go, as far as this process is concerned."""
        os.close(self.fd)

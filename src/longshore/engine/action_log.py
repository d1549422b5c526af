"""The log of a job: one JSON line per attempted object, for jobs that ask for it, and one for what
the store of a bucket cannot promise.

Lines lie in ``logs/<project>/<job>/shard-<id>.jsonl``, in the shape of Cloud Logging's entries of
the Storage Batch Operations service. They are on the disk before the checkpoint that counts their
objects, so a counted object always has its record; after a crash an object may have two, which
agree in bucket, object key, generation and job. Where a shard's files would outgrow their limit,
the oldest go.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import orjson

from longshore.engine.intent import Intent
from longshore.errors import Code
from longshore.model import Shard
from longshore.settings import LogSettings
from longshore.store import Failure

_TYPE = "type.googleapis.com/google.cloud.storagebatchoperations.logging.TransformActivityLog"
_RECORDS_AT_ONCE = 100
_json = orjson.dumps
_DONE, _SETTLED = b'"}}}}}\n', b'"}}},"settled":true}}\n'
_NAME_MAX_BYTES = 255  # of a file, on every usual file system
_FILE = re.compile(r"shard-(\d+)(\.\d+)?\.jsonl")


class ActionLog:
    """The log of one shard. Made for shards that log nothing, too: then it does nothing."""

    def __init__(self, logs_dir: Path, limits: LogSettings, shard: Shard) -> None:
        self._path = job_logs_dir(logs_dir, shard.project, shard.job_id) / f"shard-{shard.id}.jsonl"
        self._limits = limits
        self._states = shard.log_states
        self._file: BinaryIO | None = None
        self._labels = _labels(shard)
        self._member = _member(shard.transformation[0])
        self._bucket = shard.bucket

    @property
    def wanted(self) -> bool:
        """Whether the job asked for any record."""
        return bool(self._states)

    def write(
        self,
        intent: Intent,
        failures: Mapping[int, Failure],
        again: Collection[int],
        *,
        now_us: int,
        settled: Collection[int],
    ) -> None:
        """Make the records of an intent's objects durable; those looked at ``again`` wait.

        ``settled``: objects, by index, that were judged by what was found there.
        """
        time = _nanoseconds(now_us)
        prefix = self._prefix(time, None)
        special = {*failures, *again, *settled}
        file = None
        # Some at a time: those of a whole batch take about a megabyte.
        for start in range(0, len(intent), _RECORDS_AT_ONCE):
            indexes = range(start, min(start + _RECORDS_AT_ONCE, len(intent)))
            if special.isdisjoint(indexes):
                piece = self._alike(intent, indexes, prefix)
            else:
                records = self._records(intent, indexes, failures, again, time, settled=settled)
                piece = b"".join(records)
            if piece:
                file = self._open()
                file.write(piece)
        if file is None:
            return
        file.flush()
        os.fsync(file.fileno())
        if file.tell() >= self._limits.max_file_bytes:
            self._rotate()

    def note(self, message: str, now_us: int) -> None:
        """Make a remark durable that concerns all objects, if the job wants any record."""
        if self.wanted:
            time = _nanoseconds(now_us)
            entry = {"severity": "NOTICE", "timestamp": time} | self._labels
            payload = {"@type": _TYPE, "completeTime": time, "message": message}
            file = self._open()
            file.write(_json(entry | {"jsonPayload": payload}) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _alike(self, intent: Intent, indexes: range, prefix: bytes) -> bytes:
        """The records of objects that simply succeeded: three times as fast as one by one."""
        if "SUCCEEDED" not in self._states:
            return b""
        part = slice(indexes.start, indexes.stop)
        # Line breaks within a name are escaped, so one that is not stands between two names.
        names = _json(intent.names[part], option=orjson.OPT_INDENT_2)[4:-2].split(b",\n  ")
        generations = _json(intent.generations[part])[1:-1].split(b",")
        pieces = [prefix, b"", b',"generation":"', b"", _DONE] * len(indexes)
        pieces[1::5], pieces[3::5] = names, generations
        return b"".join(pieces)

    def _records(
        self,
        intent: Intent,
        indexes: range,
        failures: Mapping[int, Failure],
        again: Collection[int],
        time: str,
        *,
        settled: Collection[int],
    ) -> Iterator[bytes]:
        succeeded = self._prefix(time, None)
        for index in indexes:
            failure = failures.get(index)
            if index in again or ("FAILED" if failure else "SUCCEEDED") not in self._states:
                continue
            prefix = self._prefix(time, failure) if failure else succeeded
            suffix = _SETTLED if index in settled else _DONE
            name, generation = intent.names[index], intent.generations[index]
            yield b'%b%b,"generation":"%d%b' % (prefix, _json(name), generation, suffix)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            # All that counts is on the disk; what could not be written fails here once more.
            with suppress(OSError):
                file.close()

    def _prefix(self, time: str, failure: Failure | None) -> bytes:
        """A record up to the object's key; the same for all objects of a batch that succeeded."""
        status = {"statusCode": Code.OK.name}
        if failure:
            code = failure.code.name
            status = {"errorMessage": failure.message, "errorType": code, "statusCode": code}
        payload = {"@type": _TYPE, "completeTime": time, "status": status}
        entry = {"severity": "ERROR" if failure else "INFO", "timestamp": time} | self._labels
        target = {self._member: {"objectMetadataBefore": {"gcsObject": {"bucket": self._bucket}}}}
        head = _json(entry | {"jsonPayload": payload | target})
        return head.removesuffix(b"}}}}}") + b',"objectKey":'

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open_whole(self._path)
            _sync_directories(self._path)
        return self._file

    def _rotate(self) -> None:
        self.close()
        olds = sorted(self._path.parent.glob(f"{self._path.stem}.*.jsonl"))
        number = int(olds[-1].suffixes[-2][1:]) + 1 if olds else 1
        self._path.rename(self._path.with_suffix(f".{number:06d}.jsonl"))
        _sync_directories(self._path)
        keep = max(0, self._limits.max_shard_bytes // self._limits.max_file_bytes - 2)
        for old in olds[: max(0, len(olds) - keep)]:
            old.unlink(missing_ok=True)


def job_logs_dir(logs_dir: Path, project: str, job_id: str) -> Path:
    """Where a job's log lies. Project ids are any text, so they are quoted, dots at the front too:
    nothing that a user names can lead out of ``logs_dir``. What is too long for the name of a
    directory then ends in a digest."""
    quoted = quote(project, safe="")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _NAME_MAX_BYTES:
        digest = hashlib.blake2b(project.encode(), digest_size=16).hexdigest()
        quoted = f"{quoted[: _NAME_MAX_BYTES - len(digest) - 1]}~{digest}"
    return logs_dir / quoted / job_id


def shards_with_logs(logs_dir: Path) -> dict[int, list[Path]]:
    """The log files there are, by the id of their shard."""
    found: dict[int, list[Path]] = {}
    for path in logs_dir.glob("*/*/shard-*.jsonl"):
        match = _FILE.fullmatch(path.name)
        if match:
            found.setdefault(int(match[1]), []).append(path)
    return found


def remove(paths: Iterable[Path]) -> None:
    """Remove log files, and the directories that this leaves empty."""
    for path in paths:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: another job of that id has begun
            path.parent.rmdir()


def _open_whole(path: Path) -> BinaryIO:
    """``path`` for appending, without the half line that a crash may have left at its end."""
    file = path.open("ab+")
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - (1 << 16))
    file.seek(start)
    tail = file.read()
    if tail and not tail.endswith(b"\n"):
        file.truncate(start + tail.rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
    return file


def _sync_directories(path: Path) -> None:
    """Make a file's name durable, and those of its two directories."""
    for directory in list(path.parents)[:3]:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _labels(shard: Shard) -> dict[str, Any]:
    service = "storagebatchoperations.googleapis.com"
    labels = {
        "job_id": shard.job_id,
        "location": "global",
        "resource_container": f"projects/{shard.project}",
    }
    return {
        "logName": f"projects/{shard.project}/logs/{service}%2Ftransform_activity",
        "resource": {"type": f"{service}/Job", "labels": labels},
    }


def _member(transformation: str) -> str:
    return "".join(word.capitalize() for word in transformation.split("_"))


def _nanoseconds(now_us: int) -> str:
    seconds, microseconds = divmod(now_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{microseconds:06d}000Z"

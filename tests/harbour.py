"""What a service on one machine and a cluster have in common for whoever asks them for jobs."""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson

from longshore.database import Database, deals
from longshore.store import Bucket, NewObject, Store

PROJECT = "projects/local/locations/global"
HOLD = {"putObjectHold": {"temporaryHold": "SET"}}
LOGGED = {
    "loggingConfig": {"logActions": ["TRANSFORM"], "logActionStates": ["SUCCEEDED", "FAILED"]}
}
FOLDERS = 8
CONTENT = b"cargo"

T = TypeVar("T")


class Harbour(ABC):
    """Buckets full of objects, and processes that are asked for jobs over HTTP."""

    directory: Path
    """In which each process has its own."""
    store: Store
    """In this process, of what theirs have."""
    look_seconds = 0.01
    """How long ``until`` waits between its looks."""
    done_seconds = 60.0
    """How long a job may take."""

    @abstractmethod
    def reply(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The reply to a request, of whoever answers; ``options`` are httpx's."""

    @property
    @abstractmethod
    def database_at(self) -> Path | str:
        """Where their database is, as Database takes it."""

    @abstractmethod
    def logs(self) -> str:
        """What to look at when something went wrong: what the processes said."""

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """What is in the reply to a request, which must be a 200; ``options`` are httpx's."""
        reply = self.reply(method, path, **options)
        assert reply.status_code == httpx.codes.OK, reply.text
        return dict(reply.json())

    def fill(self, objects: int, folders: int = FOLDERS, bucket: str = "b") -> None:
        """A new bucket with so many objects in so many folders."""

        async def fill() -> None:
            await self.store.create_bucket(Bucket(name=bucket, create_time_us=0))
            new = (
                NewObject(name=f"d/{number % folders}/{number:07d}", content=CONTENT)
                for number in range(objects)
            )
            await self.store.write_objects(bucket, new)

        asyncio.run(fill())

    def create_job(self, buckets: Mapping[str, Mapping[str, Any]], what: Mapping[str, Any]) -> str:
        """A job over what a source gives of each bucket; gives its operation's name."""
        listed = [{"bucket": bucket, **source} for bucket, source in buckets.items()]
        body = {"bucketList": {"buckets": listed}, **what}
        # Asked again where the reply is lost, and made once.
        once = {"requestId": str(uuid.uuid4())}
        reply = self.ask("POST", f"/v1/{PROJECT}/jobs", params=once, json=body)
        return str(reply["name"])

    def get(self, name: str) -> dict[str, Any]:
        return self.ask("GET", f"/v1/{name}")

    def cancel(self, operation: str) -> None:
        assert self.ask("POST", f"/v1/{operation}:cancel", json={}) == {}

    def job_of(self, operation: str) -> dict[str, Any]:
        return self.get(self.get(operation)["metadata"]["job"]["name"])

    def done(self, operation: str, seconds: float | None = None) -> dict[str, Any]:
        """The job, once its operation is done."""
        seconds = self.done_seconds if seconds is None else seconds
        self.until(lambda: self.get(operation).get("done", False), seconds, "finish the job")
        return self.job_of(operation)

    def done_by(self, operation: str) -> int:
        """How many objects it has counted as succeeded so far."""
        return counters(self.job_of(operation)).get("succeededObjectCount", 0)

    def until(self, true: Callable[[], T], seconds: float, what: str) -> T:
        """What ``true`` gives, once that is true."""
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, f"did not {what} in {seconds} s:\n{self.logs()}"
            time.sleep(self.look_seconds)
        return found

    def listing(self, bucket: str, prefix: str = "", columns: Iterable[str] = ()) -> Any:
        """All live objects as one batch; None: there are none."""

        async def read() -> Any:
            whole = None
            pages = self.store.list_objects(bucket, prefix=prefix, columns=tuple(columns))
            async for page in pages:
                whole = page if whole is None else whole + page
            return whole

        return asyncio.run(read())

    def held(self, bucket: str = "b") -> int:
        """How many objects are held."""

        async def count() -> int:
            pages = self.store.list_objects(bucket, columns=("temporary_hold",))
            return sum([page.columns["temporary_hold"].count(True) async for page in pages])

        return asyncio.run(count())

    def records(self, job: str = "*") -> list[dict[str, Any]]:
        """Every record in the log of the job with that id, or of every job, where it goes to files;
        in the order of writing within a shard."""
        files = sorted(self.directory.glob(f"*/logs/*/{job}/shard-*.jsonl"))
        lines = [line for file in files for line in file.read_bytes().splitlines()]
        return [orjson.loads(line)["jsonPayload"] for line in lines]

    def carried(self) -> dict[str, int]:
        """How many shards each worker has, by its name."""

        async def read() -> dict[str, int]:
            database = Database(self.database_at)
            found = await database.read(deals.carried_by)
            await database.close()
            return {owner: counts.total() for owner, counts in found.items()}

        return asyncio.run(read())


def prefixes(folders: Iterable[int] = range(FOLDERS)) -> dict[str, Any]:
    """The source of all objects in these folders; of each a shard begins with."""
    return {"prefixList": {"includedObjectPrefixes": [f"d/{folder}/" for folder in folders]}}


def counters(job: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in job.get("counters", {}).items()}


def alive(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    return state(pid) not in {"", "Z"}


def state(pid: int) -> str:
    """The kernel's letter for what a process does; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""

"""``longshore cluster status``: what two looks at the database say together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest

from longshore.cli.cluster import compared
from longshore.database import Database, coordinator
from longshore.database.census import Carried, Standing
from longshore.database.coordinator import Present, Seat
from longshore.model import State
from tests.cli.conftest import Cli
from tests.cli.terminal import on_terminal
from tests.database.rows import claim, create, new_job, plan

MACHINES = ("1a" * 16, "2b" * 16)
WORKERS = [f"{machine}/worker-0-0123456789ab" for machine in MACHINES]
COORDINATOR = f"{MACHINES[0]}/ba9876543210"

NOTHING = Standing(None, Present(), {}, 0, 0, [], {}, 0)
SHARD = Carried("m/w", "main", 1, 1, checkpoint=7, done=100, checkpoint_us=None)
NOW_US = 1_700_000_000_000_000


class Harbour(NamedTuple):
    """A database in which two workers carry shards, some of which they plan, and others wait."""

    config: Path
    url: str | None


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def harbour(request: pytest.FixtureRequest, tmp_path: Path) -> Harbour:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
    config = tmp_path / "l.toml"
    where = f'database = "{url}"\n' if url else ""
    config.write_text(f'data_dir = "{tmp_path}"\n{where}')
    asyncio.run(_fill(url or tmp_path / "longshore.sqlite"))
    return Harbour(config, url)


async def _fill(where: Path | str) -> None:
    database = Database(where)
    await database.create()
    await create(database, new_job(buckets=tuple(f"b-{number}" for number in range(12))))
    await database.write(coordinator.take, COORDINATOR, None)
    await database.write(coordinator.note, 1, Present(3, 12, 1))
    for worker in WORKERS:
        first, _second = await claim(database, worker, 2)
        await plan(database, first)
    await claim(database, WORKERS[0], 4)
    await database.close()


def test_a_status_is_data_whatever_else_is_down(cli: Cli, harbour: Harbour) -> None:
    words = ("cluster", "status", "--config", harbour.config, "--seconds=0.2")
    found = cli(*words, "--format=json").json
    assert found["coordinator"] == {"owner": COORDINATOR, "term": 1, "beats": False}
    assert found["present"] == {"workers": 3, "placesOfEachStore": 12}
    assert found["jobs"] == {"running": 1, "queued": 0}
    shards = found["shards"]
    assert shards["still"] == shards["carried"] == sum(one["shards"] for one in found["workers"])
    assert shards["carried"] + shards["waiting"] == 12
    assert [one["machine"] for one in found["workers"]] == list(MACHINES)
    assert sum(one["stores"].get("main", 0) for one in found["workers"]) == 2
    assert sum(one["planning"] for one in found["workers"]) == shards["carried"] - 2
    lines = dict(cli(*words).rows)
    assert lines["coordinator.owner"] == COORDINATOR
    assert lines["workers[1].machine"] == MACHINES[1]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_picture_fits_its_terminal(cli: Cli, harbour: Harbour, columns: int) -> None:
    words = ("cluster", "status", "--config", str(harbour.config), "--seconds=0.2")
    seen = on_terminal(*words, columns=columns, environment=cli.environment)
    assert seen.code == 0
    assert "looking for 0.2 s" in seen.text
    assert "coordinator  ba9876543210 on 1a1a1a1a, term 1, its beat stood still" in seen.text
    (heading,) = [number for number, line in enumerate(seen.lines) if line.startswith("MACHINE")]
    assert seen.lines[heading].split() == [
        *("MACHINE", "WORKER", "SHARDS", "STILL", "OLDEST", "OBJECTS/S", "OF", "STORES")
    ]
    assert "2b2b2b2b  worker-0-0123456789ab" in seen.text
    assert max(map(len, seen.lines)) <= columns
    assert "…" not in seen.text


def test_one_machine_alone_has_a_status_too(cli: Cli) -> None:
    found = cli("cluster", "status", "--seconds=0.1", "--format=json").json
    assert (found["coordinator"], found["present"], found["workers"]) == (None, None, [])
    nothing = {"carried": 0, "waiting": 0, "unread": 0, "still": 0}
    assert found["shards"] == {**nothing, "oldestCheckpointSeconds": None}
    words = ("cluster", "status", "--seconds=0.1")
    seen = on_terminal(*words, columns=80, environment=cli.environment)
    assert seen.lines[-1] == "No worker carries a shard."


def test_no_database_is_made_by_looking(cli: Cli, tmp_path: Path) -> None:
    ended = cli("cluster", "status", "--data-dir", tmp_path / "none")
    assert (ended.code, "There is no database" in ended.err) == (1, True)
    assert not (tmp_path / "none").exists()


def test_what_did_not_move_between_two_looks_stands_still() -> None:
    other = SHARD._replace(shard=2, store=None, done=0)
    new = SHARD._replace(owner="n/w", shard=3)
    before = NOTHING._replace(carried=[SHARD, other])
    moved = SHARD._replace(checkpoint=8, done=150)
    found = compared(before, NOTHING._replace(carried=[moved, other, new]), 2.0, NOW_US)
    shards = {"carried": 3, "waiting": 0, "unread": 0, "still": 1}
    assert found["shards"] == {**shards, "oldestCheckpointSeconds": None}
    assert found["workers"] == [
        {
            "machine": "m",
            "worker": "w",
            "shards": 2,
            "planning": 1,
            "stores": {"main": 1},
            "still": 1,
            "oldestCheckpointSeconds": None,
            "objectsPerSecond": 25.0,
        },
        {
            "machine": "n",
            "worker": "w",
            "shards": 1,
            "planning": 0,
            "stores": {"main": 1},
            "still": 0,
            "oldestCheckpointSeconds": None,
            "objectsPerSecond": 0.0,
        },
    ]


def test_the_oldest_checkpoint_is_of_those_that_have_one() -> None:
    carried = [
        SHARD._replace(shard=1, checkpoint_us=NOW_US - 250_000),
        SHARD._replace(shard=2, checkpoint_us=NOW_US - 4_000_000),
        SHARD._replace(shard=3),
        SHARD._replace(owner="n/w", shard=4, checkpoint_us=NOW_US + 1),  # its clock is ahead
    ]
    found = compared(NOTHING, NOTHING._replace(carried=carried), 1.0, NOW_US)
    assert found["shards"]["oldestCheckpointSeconds"] == 4.0
    assert [one["oldestCheckpointSeconds"] for one in found["workers"]] == [4.0, 0.0]


def test_another_attempt_is_another_lease() -> None:
    again = SHARD._replace(attempt=2, done=500)
    before, now = NOTHING._replace(carried=[SHARD]), NOTHING._replace(carried=[again])
    found = compared(before, now, 1.0, NOW_US)
    (worker,) = found["workers"]
    assert (worker["still"], worker["objectsPerSecond"]) == (0, 0.0)


def test_the_rate_is_of_all_jobs_of_either_look() -> None:
    before = NOTHING._replace(done={1: 100, 2: 10, 3: 50})
    after = NOTHING._replace(done={1: 160, 2: 10, 3: 0, 4: 40}, jobs={State.RUNNING: 2})
    found = compared(before, after, 4.0, NOW_US)
    assert found["objectsPerSecond"] == 25.0  # job 3 was removed meanwhile
    assert found["jobs"] == {"running": 2, "queued": 0}


@pytest.mark.parametrize(
    ("before", "after", "beats"),
    [
        (Seat(3, "a", 7), Seat(3, "a", 8), True),
        (Seat(3, "a", 7), Seat(4, "b", 0), True),
        (None, Seat(1, "a", 0), True),
        (Seat(3, "a", 7), Seat(3, "a", 7), False),
        (Seat(3, "a", 7), Seat(3, None, 8), False),
    ],
)
def test_a_coordinator_beats_where_its_beat_moved(
    before: Seat | None, after: Seat, beats: bool
) -> None:
    found = compared(NOTHING._replace(seat=before), NOTHING._replace(seat=after), 2.0, NOW_US)
    assert found["coordinator"] == {"owner": after.owner, "term": after.term, "beats": beats}


def test_metrics_are_for_this_machine_where_nobody_must_say_who_they_are(
    cli: Cli, tmp_path: Path
) -> None:
    words = ("worker", "--metrics-listen=0.0.0.0:0", f"--data-dir={tmp_path / 'none'}")
    ended = cli.process(*words)
    assert (ended.code, ended.out) == (1, "")
    assert "metrics.listen is '0.0.0.0:0', which others can reach" in ended.err
    assert not (tmp_path / "none").exists()
    nonsense = cli("worker", "--metrics-listen=everywhere")
    assert (nonsense.code, "'everywhere' is no address to listen on" in nonsense.err) == (1, True)


def test_a_worker_is_of_a_cluster(cli: Cli, tmp_path: Path) -> None:
    ended = cli.process("worker", "--data-dir", tmp_path)
    assert ended.code == 1
    assert "runner is 'local', which knows no workers of other machines: set" in ended.err
    assert "Traceback" not in ended.err

"""What a seed draws: the objects, the job, and what will go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

from longshore.patch import MapPatch, Patch
from tests.copying_store import IN_PLACE

BUCKETS = ("harbour", "shipyard")
PAPERS = "papers"
"""The bucket of manifests."""
LOGS = "logs"
"""The bucket of logs of objects."""
LEAST_BYTES = 8
OUTSIDE = "k/"
"""Names that no job ever chooses."""

CONTEXTS: Mapping[str, Any] = {
    "customContextUpdates": {
        "updates": {"team": {"value": "dock"}, "tide": {"value": "high"}},
        "keysToClear": ["old"],
    }
}
METADATA = {"contentType": "text/plain", "customMetadata": {"a": "1", "b": ""}}
GRANTS = {
    "accessControlsUpdates": {
        "grants": [{"entity": "allUsers", "role": "READER"}],
        "removeEntities": ["allAuthenticatedUsers"],
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A transformation as a user asks for it, and how to tell that an object has had it."""

    message: Mapping[str, Any]
    permanent: bool = False
    patch: Patch | None = None

    @property
    def kind(self) -> str:
        return next(iter(self.message))

    @property
    def copied(self) -> bool:
        """Whether a store that copies makes a new version for it."""
        return self.patch is not None and not IN_PLACE.issuperset(self.patch.changes())


CHANGES = (
    Change(message={"deleteObject": {"permanentObjectDeletionEnabled": False}}),
    Change(message={"deleteObject": {"permanentObjectDeletionEnabled": True}}, permanent=True),
    Change(message={"putObjectHold": {"temporaryHold": "SET"}}, patch=Patch(temporary_hold=True)),
    Change(
        message={"putMetadata": METADATA},
        patch=Patch(
            content_type="text/plain",
            custom_metadata=MapPatch(updates={"a": "1"}, removals=frozenset({"b"})),
        ),
    ),
    Change(message={"rewriteObject": {"storageClass": "COLDLINE"}}),
    Change(
        message={"updateObjectCustomContext": CONTEXTS},
        patch=Patch(
            contexts=MapPatch(updates={"team": "dock", "tide": "high"}, removals=frozenset({"old"}))
        ),
    ),
    Change(
        message={"updateObjectCustomContext": {"clearAll": True}},
        patch=Patch(contexts=MapPatch(updates={}, clear=True)),
    ),
    Change(
        message={"setObjectAcls": GRANTS},
        patch=Patch(
            acl=MapPatch(
                updates={"allUsers": "READER"}, removals=frozenset({"allAuthenticatedUsers"})
            )
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One seed's world. ``agenda``: what happens when so many things have happened."""

    seed: int
    change: Change
    buckets: tuple[str, ...]
    prefixes: tuple[str, ...]
    objects: int
    versioned: bool
    manifest: bool
    project: bool
    """Whether the job finds its buckets, and objects of at least LEAST_BYTES, by filters."""
    dry_run: bool
    workers: int
    batch: int
    lease_seconds: float
    reaps: bool
    """Workers are ended and reaped before their leases are; else leases run out, and their workers
    may live on."""
    sluggish: float
    database_trouble: float
    network_trouble: float
    late_calls: bool
    users: bool
    capped: bool
    """Whether the store has a cap of objects per second; its workers look around more often."""
    copies: bool
    """Whether the store makes a new version for most changes of metadata."""
    log_bucket: bool
    """Whether logs of objects go to a bucket of the store; else to files, which are never lost."""
    cluster: bool
    """Whether workers are dealt shards by one of two candidates who coordinates."""
    older: bool
    """Whether the first worker, of at least two in a cluster, is of the version before."""
    spread: bool
    """Whether names are spread evenly, so that a middle is easily found, or are all alike."""
    agenda: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def name(self, prefix: str, number: int) -> str:
        """The name of an object."""
        return f"{prefix}{number * 331 % 4093:03x}" if self.spread else f"{prefix}{number:03d}"


def calm(message: str, **others: Any) -> Plan:
    """A plan in which nothing goes wrong but what ``others`` say; ``message``: the first change of
    that kind."""
    values: dict[str, Any] = {
        "seed": 0,
        "change": next(change for change in CHANGES if change.kind == message),
        "buckets": BUCKETS[:1],
        "prefixes": ("a/",),
        "objects": 12,
        "versioned": False,
        "manifest": False,
        "project": False,
        "dry_run": False,
        "workers": 1,
        "batch": 4,
        "lease_seconds": 30.0,
        "reaps": True,
        "sluggish": 2.0,
        "database_trouble": 0.0,
        "network_trouble": 0.0,
        "late_calls": False,
        "users": False,
        "capped": False,
        "copies": False,
        "log_bucket": False,
        "cluster": False,
        "older": False,
        "spread": True,
    }
    return Plan(**values | others)


class Row(NamedTuple):
    """A row of a manifest. ``generation``: 0 where it names none, REFUSED where it is no number."""

    name: str
    generation: int

    def __str__(self) -> str:
        if self.generation == REFUSED:
            return f"{self.name},none"
        return f"{self.name},{self.generation}" if self.generation else self.name


REFUSED = -1
NEVER = 12345
"""A generation that no object ever has."""

ACTIONS = (
    *("crash", "crash", "crash", "crash all", "drain"),
    *("pause", "pause", "clock", "storm"),
    *("clock ahead and pause", "clock ahead and pause", "clock back and pause"),
)


def _lease_seconds(seed: int, usual: float) -> float:
    """Seldom a short one; drawn apart, so that other seeds keep their stories."""
    return 2.0 if Random(f"lease of {seed}").random() < 0.1 else usual


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    random = Random(seed)
    choose = random.choice
    users = random.random() < 0.4
    agenda: dict[int, tuple[str, ...]] = {}

    def add(action: str) -> None:
        when = random.randrange(2, span)
        agenda[when] = (*agenda.get(when, ()), action)

    span = choose((25, 60, 120))
    for _ in range(choose((0, 1, 2, 3, 4))):
        add(choose(ACTIONS))
    if random.random() < 0.3:
        add("cancel")
    if users:
        for _ in range(random.randrange(1, 12)):
            add("user")
    plan = Plan(
        seed=seed,
        change=choose(CHANGES),
        buckets=BUCKETS[: choose((1, 1, 1, 2))],
        prefixes=("a/", "b/", "c/")[: choose((1, 1, 2, 3))],
        objects=choose((6, 12, 20, 30)),
        versioned=random.random() < 0.4,
        manifest=random.random() < 0.35,
        project=False,
        dry_run=random.random() < 0.03,
        workers=choose((1, 2, 2, 3)),
        batch=choose((2, 3, 5)),
        lease_seconds=_lease_seconds(seed, choose((21.0, 30.0))),
        reaps=random.random() < 0.5,
        sluggish=choose((4.0, 12.0, 40.0)),
        database_trouble=choose((0.0, 0.0, 0.02, 0.1)),
        network_trouble=choose((0.0, 0.1, 0.3, 0.5)),
        late_calls=random.random() < 0.15,
        users=users,
        capped=random.random() < 0.1,
        copies=Random(f"copies of {seed}").random() < 0.3,  # so that seeds keep their stories
        log_bucket=Random(f"logs of {seed}").random() < 0.2,
        cluster=Random(f"cluster of {seed}").random() < 0.15,
        older=False,
        spread=random.random() < 0.7,
        agenda=agenda,
    )
    if plan.cluster and plan.workers > 1:
        plan = replace(plan, older=Random(f"versions of {seed}").random() < 0.5)
    return plan if plan.manifest or random.random() < 0.6 else _of_a_project(plan, random)


def _of_a_project(plan: Plan, random: Random) -> Plan:
    """The same for a job that finds its buckets; half of the time something goes wrong with that,
    which is among the first things that happen."""
    agenda = dict(plan.agenda)
    if random.random() < 0.5:
        when = random.choice((2, 3, 4, 4, 5, 6))
        what = random.choice((*ACTIONS, "cancel", *("outlive lease",) * 6))
        agenda[when] = (*agenda.get(when, ()), what)
    buckets = BUCKETS[: random.choice((1, 2, 2))]
    return replace(plan, project=True, buckets=buckets, agenda=agenda)

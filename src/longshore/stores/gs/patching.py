"""Changes of metadata: merge patches, of what is live or of one version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from longshore import object_rules as rules
from longshore.errors import Code
from longshore.patch import MapPatch, Patch, Retention, load_map
from longshore.store import ABSENT, Batch, Outcome
from longshore.stores.gs import reading, targets
from longshore.stores.gs.batching import Calls, change_each
from longshore.stores.gs.client import Client
from longshore.stores.gs.failures import failure_of
from longshore.stores.gs.resources import HOLDS, TEXTS, time_text

PATCHED = frozenset(
    {
        *HOLDS,
        *(TEXTS.keys() - {"storage_class"}),
        *("custom_time_us", "retention", "custom_metadata", "contexts", "acl"),
    }
)


async def patch_objects(
    client: Client, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool
) -> Outcome:
    """Make the change, as of ``Store.patch_objects``.

    To override an Unlocked retention takes a permission more than to set one, even where there is
    none to override (docs.cloud.google.com/storage/docs/json_api/v1/objects/patch). So that is
    asked for only where the change is refused without.
    """
    match = match_metageneration
    if "retention" not in patch.changes() or not patch.override_unlocked_retention:
        return await _patch(client, bucket, batch, patch, match_metageneration=match)
    plain = replace(patch, override_unlocked_retention=False)
    outcome = await _patch(client, bucket, batch, plain, match_metageneration=match)
    refused = [i for i, one in outcome.failures.items() if one.code is Code.PERMISSION_DENIED]
    if not refused:
        return outcome
    again = await _patch(client, bucket, batch.pick(refused), patch, match_metageneration=match)
    failures = {i: one for i, one in outcome.failures.items() if i not in refused}
    return Outcome(failures=failures | {refused[i]: one for i, one in again.failures.items()})


async def _patch(
    client: Client, bucket: str, batch: Batch, patch: Patch, *, match_metageneration: bool
) -> Outcome:
    """Make the change in one way.

    What the API merges is sent as it is. What it only replaces, as it does ACLs, is computed from
    what the batch has seen, or else from what is seen now, and sent on the condition that the
    metageneration is still that. So is it known that there is no custom time to be cleared: the API
    takes null for one, and lets it be.
    """
    changes = patch.changes()
    replaced = [name for name, wanted in changes.items() if _is_replaced(name, wanted)]
    asked, failures = reading.askable(bucket, batch)
    if replaced:
        metagenerations = batch.metagenerations
        batch, moved = await _seen(client, bucket, batch, asked, replaced)
        if match_metageneration:
            batch = replace(batch, metagenerations=metagenerations)
        failures |= {
            index: rules.missing(f"{bucket}/{batch.names[index]}", live=True) for index in moved
        }
        asked = [index for index in asked if index not in moved]
    if "custom_time_us" in replaced:
        there = {i: us for i, us in enumerate(batch.columns["custom_time_us"]) if us}
        failures |= {
            index: rules.custom_time_stays(f"{bucket}/{batch.names[index]}", there[index])
            for index in asked
            if index in there
        }
        asked = [index for index in asked if index not in there]
    match = match_metageneration or bool(replaced)
    bodies = _bodies(batch, changes, asked, replaced)
    common: dict[str, str] = {"fields": "metageneration"}
    if "retention" in changes and patch.override_unlocked_retention:
        common["overrideUnlockedRetention"] = "true"
    names = [batch.names[index] for index in asked]
    parameters = targets.query(common)
    named = [f"{which}&{parameters}" for which in _named(batch, asked, match=match)]
    calls = Calls.about("objects.patch", "PATCH", bucket, names, named, bodies)
    for place, error in (await change_each(client, calls)).items():
        failures[asked[place]] = failure_of(error)
    return Outcome(failures=await reading.explain(client, bucket, batch, failures))


def _named(batch: Batch, asked: Sequence[int], *, match: bool) -> list[str]:
    """The parameters that say which version is meant: the one that was live, as long as it is, or
    the noncurrent one that the batch names as such; with ``match``, at which metageneration."""
    live, generations = batch.columns.get("live"), batch.generations
    if live is None or all(live):
        named = [f"ifGenerationMatch={generations[index]}" for index in asked]
    else:
        which = ("generation", "ifGenerationMatch")
        named = [f"{which[live[index]]}={generations[index]}" for index in asked]
    if not match:
        return named
    metagenerations = [batch.metagenerations[index] for index in asked]
    return [
        f"{one}&ifMetagenerationMatch={metageneration}"
        for one, metageneration in zip(named, metagenerations, strict=True)
    ]


def _is_replaced(name: str, wanted: Any) -> bool:
    """Whether the API cannot merge this change: it has lists for ACLs, cannot clear a map and set
    keys of it at once, and never clears a custom time."""
    if name == "custom_time_us":
        return not wanted
    if not isinstance(wanted, MapPatch):
        return False
    return name == "acl" or bool(wanted.clear and wanted.updates)


async def _seen(
    client: Client, bucket: str, batch: Batch, asked: Sequence[int], replaced: Sequence[str]
) -> tuple[Batch, set[int]]:
    """The batch with the columns that new values are computed from, and what is there no more."""
    if all(name in batch.columns for name in replaced):
        return batch, set()
    names = [batch.names[i] for i in asked]
    generations = [batch.generations[i] for i in asked]
    now = await reading.there(client, bucket, names, generations, replaced)
    columns = {name: [rules.ZERO[name]] * len(batch) for name in replaced}
    metagenerations = list(batch.metagenerations)
    gone = set()
    for place, index in enumerate(asked):
        metagenerations[index] = now.metagenerations[place]
        for name in replaced:
            columns[name][index] = now.columns[name][place]
        if now.generations[place] == ABSENT:
            gone.add(index)
    columns = {**batch.columns, **columns}
    return replace(batch, metagenerations=metagenerations, columns=columns), gone


def _bodies(
    batch: Batch, changes: Mapping[str, Any], asked: Sequence[int], replaced: Sequence[str]
) -> list[bytes]:
    merged = body_of({name: want for name, want in changes.items() if name not in replaced})
    if not replaced:
        return [orjson.dumps(merged)] * len(asked)
    known: dict[tuple[Any, ...], bytes] = {}
    bodies = []
    for index in asked:
        before = tuple(batch.columns[name][index] for name in replaced)
        if before not in known:
            rows = zip(replaced, before, strict=True)
            known[before] = orjson.dumps(
                merged | {k: v for name, text in rows for k, v in _new(name, text, changes[name])}
            )
        bodies.append(known[before])
    return bodies


def _new(name: str, before: Any, wanted: Any) -> list[tuple[str, Any]]:
    """The field that is computed from what was there; none where nothing is to be done."""
    if name == "custom_time_us":
        return []
    after = load_map(wanted.apply(before))
    if name == "acl":
        return [("acl", [{"entity": entity, "role": role} for entity, role in after.items()])]
    gone = load_map(before).keys() - after.keys()
    change = MapPatch(updates=after, removals=frozenset(gone))
    return list(body_of({name: change}).items())


def body_of(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch: what is null in it is removed, what is not in it stays."""
    body: dict[str, Any] = {}
    for name, wanted in changes.items():
        if name == "custom_metadata":
            body["metadata"] = _merged(wanted, wanted.updates)
        elif name == "contexts":
            updates = {key: {"value": value} for key, value in wanted.updates.items()}
            body["contexts"] = {"custom": _merged(wanted, updates)}
        elif name == "retention":
            body["retention"] = retention_body(wanted)
        elif name == "custom_time_us":
            body["customTime"] = time_text(wanted)
        elif name in HOLDS:
            body[HOLDS[name]] = wanted
        else:
            body[TEXTS[name]] = wanted or None
    return body


def _merged(change: MapPatch, updates: Mapping[str, Any]) -> dict[str, Any] | None:
    if change.clear and not updates:
        return None
    return {**dict.fromkeys(change.removals), **updates}


def retention_body(text: str) -> dict[str, str] | None:
    """A retention as the API has it, of a column's text; None clears it."""
    retention = Retention.load(text)
    if retention is None:
        return None
    return {"mode": retention.mode, "retainUntilTime": time_text(retention.until_us)}

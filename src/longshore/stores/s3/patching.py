"""Changes of metadata: by a copy where S3 has no other way, else in place and of just the version
that was named."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from longshore import object_rules as rules
from longshore.errors import Aborted, Error, FailedPrecondition, Unimplemented
from longshore.patch import MapPatch, Patch, load_map
from longshore.store import Batch, Bucket, Failure, Outcome
from longshore.stores.s3 import buckets, documents, heads
from longshore.stores.s3.attached import NO_IDS, Attached, Named
from longshore.stores.s3.carrying import COPIED, Change, lowered
from longshore.stores.s3.client import Client, Traits
from longshore.stores.s3.copying import Copier
from longshore.stores.s3.failures import error_of, failure_of
from longshore.stores.s3.versions import VERSION

LOCKED: Final = frozenset({"temporary_hold", "retention"})
IN_PLACE: Final = LOCKED | {"contexts", "acl"}
MOVING: Final = COPIED | {"contexts", "acl"}
"""Columns whose change may make another generation: Ceph sets an object's time with its tags and
its ACL, and by its time it is told from others where a bucket keeps no versions."""
PATCHED: Final = COPIED | IN_PLACE | {"event_based_hold"}
READS: Final = COPIED | {"temporary_hold"}
"""Columns that only HEAD tells. A copy looks at its object anyway, and a hold that is there already
is none the worse for being placed again."""


async def patch_objects(
    client: Client,
    bucket: str,
    batch: Batch,
    patch: Patch,
    *,
    match_metageneration: bool = False,
) -> Outcome:
    """Make the change in each object of ``batch``, which has the column "version", and "contexts"
    with ``match_metageneration``. For what it promises see the contract, store.Store."""
    patching = Patching(client, bucket, await buckets.traits_of(client, bucket), patch)
    failures: dict[int, Failure] = {}
    if reason := patching.refused():
        return Outcome(failures=dict.fromkeys(range(len(batch)), reason))

    async def one(index: int) -> None:
        try:
            await patching.patch(batch, index, seen=match_metageneration)
        except Error as error:
            failures[index] = failure_of(error)

    await client.in_lanes(range(len(batch)), one)
    return Outcome(failures=failures)


async def rewrite_objects(
    client: Client,
    bucket: str,
    batch: Batch,
    *,
    storage_class: str,
    kms_key: str,
) -> Outcome:
    """Copy each live object of ``batch`` onto itself with another class or key, as the service
    calls it ("": keeps its own)."""
    failures: dict[int, Failure] = {}
    copier = Copier(client, bucket, await buckets.traits_of(client, bucket))
    change = Change({}, storage_class=storage_class, kms_key=kms_key)

    async def one(index: int) -> None:
        name = batch.names[index]
        try:
            _demand_live(bucket, batch, index)
            await copier.copy(name, _named(batch, index), change)
        except Error as error:
            failures[index] = failure_of(error)

    await client.in_lanes(range(len(batch)), one)
    return Outcome(failures=failures)


class Patching:
    """One change of metadata, of objects of one bucket."""

    def __init__(self, client: Client, bucket: str, traits: Traits, patch: Patch) -> None:
        self._bucket = bucket
        self._traits = traits
        self._patch = _as_s3_takes_it(patch)
        self._changes = self._patch.changes()
        self._attached = Attached(client, bucket)
        self._copier = Copier(client, bucket, traits)
        self._now_us = client.service.clock.now_us()
        self._copies = not COPIED.isdisjoint(self._changes)
        self._change = Change(
            {name: wanted for name, wanted in self._changes.items() if name in COPIED | LOCKED},
            override=patch.override_unlocked_retention,
        )

    def refused(self) -> Failure | None:
        """What forbids the change whatever an object is like."""
        rules_of_gcs = rules.refuse_patch(
            Bucket(name=self._bucket, create_time_us=0), self._patch, self._now_us
        )
        if rules_of_gcs is not None:
            return rules_of_gcs
        if self._changes.get("event_based_hold"):
            return _failure(
                "Event-based holds are not placed on S3, and a legal hold, which is what a"
                " temporary one is there, would be released by whoever releases either: set"
                " temporary_hold instead."
            )
        locks = [name for name in LOCKED if self._changes.get(name)]
        if locks and not self._traits.locks:
            return _failure(
                f"Bucket '{self._bucket}' has no Object Lock, without which S3 knows neither holds"
                " nor retentions; a bucket gets it when it is made (on AWS also later)."
            )
        return None

    async def patch(self, batch: Batch, index: int, *, seen: bool) -> None:
        """Change one object; ``seen``: only if its contexts still are the batch's. Raises an
        errors.Error for what kept it from being done."""
        name = batch.names[index]
        version_id = ""
        if self._copies:
            _demand_live(self._bucket, batch, index)
            await self._copier.copy(name, _named(batch, index), self._change)
        else:
            version_id = await self._version(batch, index)
            await self._lock(batch, index, version_id)
        if "contexts" in self._changes:
            before = batch.columns["contexts"][index] if seen else None
            await self._tag(name, version_id, before)
        if "acl" in self._changes:
            await self._grant(name, version_id)

    async def _version(self, batch: Batch, index: int) -> str:
        """The version that is to be changed. Where there are no versions it is what is live, if
        that was named; that it stays so until it is changed, S3 does not promise."""
        named = _named(batch, index)
        if named.version_id in NO_IDS:
            return (await self._attached.look(batch.names[index], named)).version.version_id
        return named.version_id

    async def _lock(self, batch: Batch, index: int, version_id: str) -> None:
        name = batch.names[index]
        if "retention" in self._changes:
            known, wanted = batch.columns.get("retention"), self._changes["retention"]
            was = known[index] if known else await self._retention(name, version_id)
            nothing = {column: rules.ZERO[column] for column in rules.CHANGE_COLUMNS}
            failure = rules.refuse_change(
                f"{self._bucket}/{name}",
                nothing | {"retention": was},
                nothing | {"retention": wanted},
                override=self._patch.override_unlocked_retention,
            )
            if failure:
                raise error_of(failure)
            if was != wanted:
                await self._attached.retain(name, version_id, was, wanted)
        if self._traits.locks and "temporary_hold" in self._changes:
            held = self._changes["temporary_hold"]
            await self._attached.hold(name, version_id, held=held)

    async def _retention(self, name: str, version_id: str) -> str:
        head = await self._attached.head(name, version_id)
        return str(head.columns({})["retention"])

    async def _tag(self, name: str, version_id: str, seen: str | None) -> None:
        """S3 has no condition for tags, so they are read again where they matter."""
        path = f"{self._bucket}/{name}"
        before = await self._attached.tags(name, version_id)
        if seen is not None and before != seen:
            raise Aborted(rules.moved(path).message)
        after = self._changes["contexts"].apply(before)
        if after != before:
            tags = documents.context_tags(after, path)
            if not tags and not self._traits.clears_tags:
                raise Unimplemented(
                    f"All tags of object '{path}' would go, and this store does not take them all"
                    " away."
                )
            await self._attached.set_tags(name, version_id, tags)

    async def _grant(self, name: str, version_id: str) -> None:
        try:
            body = await self._attached.acl(name, version_id)
            before = heads.acl(body)
            after = self._changes["acl"].apply(before)
            if after != before:
                acl = documents.read_acl(body)
                changed = documents.with_roles(acl, load_map(before), load_map(after))
                await self._attached.set_acl(name, version_id, changed)
        except Error as error:
            if not documents.has_no_acls(error):
                raise
            raise FailedPrecondition(
                f"Objects of bucket '{self._bucket}' have no ACLs of their own: {error.message}"
            ) from error


def _as_s3_takes_it(patch: Patch) -> Patch:
    """The patch with keys of metadata in lower case."""
    if isinstance(patch.custom_metadata, MapPatch):
        patch = replace(patch, custom_metadata=lowered(patch.custom_metadata))
    return patch


def _demand_live(bucket: str, batch: Batch, index: int) -> None:
    """Raises FailedPrecondition for a noncurrent version: its copy would bring it back."""
    live = batch.columns.get("live")
    if live is not None and not live[index]:
        raise error_of(rules.noncurrent(f"{bucket}/{batch.names[index]}"))


def _named(batch: Batch, index: int) -> Named:
    known = batch.columns.get(VERSION)
    version_id = known[index][0] if known and known[index] else ""
    return Named(version_id, batch.generations[index])


def service_key(client: Client, kms_key: str) -> str:
    """The service's name of a key; raises FailedPrecondition if the settings have none."""
    if not kms_key.startswith("projects/"):
        return kms_key
    known = client.service.settings.kms_keys
    if kms_key not in known:
        raise FailedPrecondition(
            f"The settings do not say what the store calls the key {kms_key!r}: add it to"
            f" [stores.{client.service.settings.name}.kms_keys]."
        )
    return known[kms_key]


def _failure(message: str) -> Failure:
    return Failure(FailedPrecondition.code, message)

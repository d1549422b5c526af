"""Rewriting: copies of objects onto themselves with another class or key, large ones in steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from longshore import object_rules as rules
from longshore.errors import Error, Internal
from longshore.patch import Retention
from longshore.store import ABSENT, Batch, Failure, Outcome
from longshore.stores.gs import buckets, reading, resources, targets
from longshore.stores.gs.batching import Calls, change_each
from longshore.stores.gs.client import Call, Client
from longshore.stores.gs.failures import failure_of
from longshore.stores.gs.patching import retention_body
from longshore.stores.gs.resources import TEXTS, Resource

TOGETHER_BYTES = 1 << 20
"""What is larger has a request of its own, so that a hundred end in the time of one."""
STEP_BYTES = 64 << 20
"""How much of a large object is copied by one request, which must end in its time. The API takes
whole mebibytes."""
_KEPT = (*TEXTS.values(), "customTime", "metadata", "contexts(custom)", "retention", "kmsKeyName")


async def rewrite_objects(
    client: Client, bucket: str, batch: Batch, *, storage_class: str, kms_key: str
) -> Outcome:
    """Copy each live object of ``batch`` onto itself, as of ``Store.rewrite_objects``."""
    rewriting = _Rewriting(client, bucket, batch, storage_class, kms_key)
    await rewriting.run()
    failures = await reading.explain(client, bucket, batch, rewriting.failures)
    return Outcome(failures=failures)


class _Rewriting:
    def __init__(
        self, client: Client, bucket: str, batch: Batch, storage_class: str, kms_key: str
    ) -> None:
        self.failures: dict[int, Failure] = {}
        self._client = client
        self._bucket = bucket
        self._batch = batch
        self._storage_class = storage_class
        self._kms_key = kms_key
        self._now_us = client.service.clock.now_us()

    async def run(self) -> None:
        """Rewrite what is live, and say of the others why they were not."""
        together: dict[int, Call] = {}
        alone: dict[int, Call] = {}
        for index, source in (await self._sources()).items():
            small = int(source["size"]) <= TOGETHER_BYTES
            (together if small else alone)[index] = self._call(index, source)
        bodies: list[bytes] = []
        errors = await change_each(self._client, self._as_columns(together.values()), bodies)
        for place, (index, call) in enumerate(together.items()):
            if place in errors:
                self.failures[index] = failure_of(errors[place])
            elif token := _token(bodies[place]):
                alone[index] = _next(call, token)
        await self._client.in_lanes(list(alone.items()), self._in_steps)

    async def _sources(self) -> dict[int, Resource]:
        """What is to be copied, by index, with all that a copy must be told to keep."""
        batch, bucket = self._batch, self._bucket
        live = batch.columns.get("live")
        asked, self.failures = reading.askable(bucket, batch)
        for index in asked:
            if live is not None and not live[index]:
                self.failures[index] = rules.noncurrent(f"{bucket}/{batch.names[index]}")
        asked = [index for index in asked if index not in self.failures]
        fields = ("generation", "metageneration", "size", *_KEPT)
        parameters = {"fields": ",".join(fields)}
        if asked and not await buckets.has_uniform_access(self._client, bucket):
            parameters = {"fields": ",".join((*fields, "acl(entity,role)")), "projection": "full"}
        found = await reading.resources_of(
            self._client,
            bucket,
            [batch.names[index] for index in asked],
            [ABSENT] * len(asked),
            parameters,
        )
        sources: dict[int, Resource] = {}
        for index, source in zip(asked, found, strict=True):
            if source is not None and int(source["generation"]) == batch.generations[index]:
                sources[index] = source
            else:
                path = f"{bucket}/{batch.names[index]}"
                self.failures[index] = rules.missing(path, live=source is not None)
        return sources

    def _call(self, index: int, source: Resource) -> Call:
        name, generation = self._batch.names[index], str(self._batch.generations[index])
        path = f"{targets.objects_path(self._bucket)}/{targets.quoted(name)}"
        parameters: dict[str, str | int | bool] = {
            "ifSourceGenerationMatch": generation,
            "ifSourceMetagenerationMatch": str(source["metageneration"]),
            "ifGenerationMatch": generation,
            "fields": "done,rewriteToken",
        }
        # Without one, a copy gets the bucket's key, or none.
        if key := self._kms_key or resources.key_of(source):
            parameters["destinationKmsKeyName"] = key
        if int(source["size"]) > STEP_BYTES:
            parameters["maxBytesRewrittenPerCall"] = STEP_BYTES
        return Call(
            "objects.rewrite",
            "POST",
            f"{path}/rewriteTo{path.removeprefix(targets.API)}",
            targets.query(parameters),
            orjson.dumps(self._kept(source)),
            bucket=self._bucket,
            name=name,
        )

    def _as_columns(self, calls: Collection[Call]) -> Calls:
        return Calls(
            "objects.rewrite",
            "POST",
            self._bucket,
            [call.name for call in calls],
            [f"{call.path}?{call.parameters}" for call in calls],
            [call.body for call in calls],
        )

    def _kept(self, source: Resource) -> Mapping[str, Any]:
        """All of an object's metadata that can be written: of a source, the API copies none to a
        copy that is given any ("if the request body is empty, editable metadata from the source
        object is applied": docs.cloud.google.com/storage/docs/json_api/v1/objects/rewrite), and the
        class is some. ACLs it never copies. Contexts, it says, persist in copies
        (docs/use-object-contexts), which does no harm to say again."""
        fields = (*TEXTS.values(), "customTime", "metadata")
        kept = {field: source[field] for field in fields if source.get(field)}
        if custom := (source.get("contexts") or {}).get("custom"):
            kept["contexts"] = {
                "custom": {key: {"value": context["value"]} for key, context in custom.items()}
            }
        retention = resources.retention_of(source)
        until = Retention.load(retention)
        if until is not None and until.until_us > self._now_us:
            kept["retention"] = retention_body(retention)
        if acl := source.get("acl"):
            kept["acl"] = acl
        if self._storage_class:
            kept["storageClass"] = self._storage_class
        return kept

    async def _in_steps(self, item: tuple[int, Call]) -> None:
        """Copy one object, step by step; the condition holds for the last as for the first."""
        index, call = item
        try:
            token = _token((await self._client.change(call)).body)
            while token:
                reply = await self._client.change(_next(call, token), objects=0)
                token = _token(reply.body)
        except Error as error:
            self.failures[index] = failure_of(error)


def _next(call: Call, token: str) -> Call:
    parameters = f"{call.parameters}&{targets.query({'rewriteToken': token})}"
    return call._replace(parameters=parameters)


def _token(body: bytes) -> str:
    """Where a copy that is not done goes on; "": it is done."""
    found = resources.read(body)
    if found.get("done"):
        return ""
    if not found.get("rewriteToken"):
        raise Internal("The store says that a copy is not done, but not where it goes on.")
    return str(found["rewriteToken"])

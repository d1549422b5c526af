"""Deleting: what is live under a name, or just one version of it for good."""

from __future__ import annotations

from longshore.errors import Error
from longshore.store import Batch, Outcome
from longshore.stores.gs import reading, targets
from longshore.stores.gs.batching import change_each
from longshore.stores.gs.client import Call, Client
from longshore.stores.gs.failures import failure_of


async def delete(client: Client, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
    """Delete, as of ``Store.delete_objects``.

    A version that is named by ``generation`` goes for good. What is live is named by its name, and
    goes only if ``ifGenerationMatch`` finds it to be what was seen; a versioned bucket keeps it.
    """
    name_it = "generation" if permanent else "ifGenerationMatch"
    asked, failures = reading.askable(bucket, batch)
    path = targets.objects_path(bucket)
    calls = [
        Call(
            "objects.delete",
            "DELETE",
            f"{path}/{targets.quoted(batch.names[index])}",
            f"{name_it}={batch.generations[index]}",
            bucket=bucket,
            name=batch.names[index],
        )
        for index in asked
    ]
    results = await change_each(client, calls)
    for index, result in zip(asked, results, strict=True):
        if isinstance(result, Error):
            failures[index] = failure_of(result)
    return Outcome(failures=await reading.explain(client, bucket, batch, failures))

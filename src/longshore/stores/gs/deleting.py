"""Deleting: what is live under a name, or just one version of it for good."""

from __future__ import annotations

from longshore.store import Batch, Outcome
from longshore.stores.gs import reading, targets
from longshore.stores.gs.batching import Calls, change_each
from longshore.stores.gs.client import Client
from longshore.stores.gs.failures import failure_of


async def delete(client: Client, bucket: str, batch: Batch, *, permanent: bool) -> Outcome:
    """Delete, as of ``Store.delete_objects``.

    A version that is named by ``generation`` goes for good. What is live is named by its name, and
    goes only if ``ifGenerationMatch`` finds it to be what was seen; a versioned bucket keeps it.
    """
    which = "generation" if permanent else "ifGenerationMatch"
    asked, failures = reading.askable(bucket, batch)
    path = targets.objects_path(bucket)
    names = [batch.names[index] for index in asked]
    generations = [batch.generations[index] for index in asked]
    calls = Calls(
        "objects.delete",
        "DELETE",
        bucket,
        names,
        [
            f"{path}/{segment}?{which}={generation}"
            for segment, generation in zip(targets.all_quoted(names), generations, strict=True)
        ],
    )
    for place, error in (await change_each(client, calls)).items():
        failures[asked[place]] = failure_of(error)
    return Outcome(failures=await reading.explain(client, bucket, batch, failures))

"""Deleting: what is live under a name, or just one version of it for good."""

from __future__ import annotations

from longshore.store import Batch, Outcome
from longshore.stores.gs import reading
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
    names = [batch.names[index] for index in asked]
    named = [f"{which}={batch.generations[index]}" for index in asked]
    calls = Calls.about("objects.delete", "DELETE", bucket, names, named)
    for place, error in (await change_each(client, calls)).items():
        failures[asked[place]] = failure_of(error)
    return Outcome(failures=await reading.explain(client, bucket, batch, failures))

"""No call is made on users' objects whose effect the service has not shown on a scratch object."""

from __future__ import annotations

from typing import Final

from longshore.database import proofs
from longshore.engine.running import Tools
from longshore.engine.work import Work
from longshore.proof import Finding, MustProve

GOOD_US: Final = 7 * 24 * 3600 * 1_000_000
"""How old a proof may be."""


async def prove(work: Work, tools: Tools) -> list[Finding]:
    """See to it that the store may do what the transformation comes to; gives what was found. A
    dry run, which does nothing, proves nothing.

    What others found out is not tried again. Raises the reason why the transformation must not be
    begun, or gone on with: the service may be another one since.
    """
    store = work.store
    if work.dry_run or not isinstance(store, MustProve):
        return []
    now_us, endpoint = tools.clock.now_us(), store.endpoint
    known = await tools.database.read(proofs.known, endpoint, now_us - GOOD_US)
    findings = await store.prove(work.bucket, work.transformation.acts, known)
    if new := [proof for one in findings for proof in one.proofs if not proof.time_us]:
        await tools.database.write(proofs.keep, endpoint, new, now_us)
    for finding in findings:
        if finding.refusal is not None:
            raise finding.refusal
    return findings

"""What may be done in a bucket: which calls it takes, and whether the service has shown them.

A service is the same for all of its buckets, so a call is tried once for all of them; whether a
bucket keeps versions and locks objects is asked each time. Trials take place in the store's
``probe_bucket``, or in the bucket itself below scratch.PREFIX; nowhere where scratch objects could
not be removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

from longshore.errors import Error, FailedPrecondition, PermissionDenied, Unimplemented
from longshore.proof import Effect, Finding, Proof
from longshore.stores.s3.features import Feature, Verdicts, works
from longshore.stores.s3.scratch import Ask, Facts, Scratch, open_scratch, read_facts
from longshore.stores.s3.trials import TRIALS


class Act(NamedTuple):
    """The calls that an act needs, those that make it safer or cheaper, and what is weaker than in
    Cloud Storage, whatever the service."""

    needs: tuple[Feature, ...]
    helped_by: tuple[Feature, ...] = ()
    weaker: str = ""


_COPY = Act(
    (Feature.COPY,),
    (
        Feature.COPY_IF_MATCH,
        Feature.COPY_TAGS,
        Feature.TAGGING,
        Feature.ACL_READ,
        Feature.COPY_LOCKS,
        Feature.PART_COPY,
        Feature.PART_COPY_NAMES,
    ),
    weaker="It takes a copy of the object: where the bucket keeps versions, the one before stays"
    " behind, with its retention if it has one; a hold moves to the copy.",
)
_DELETE = (Feature.DELETE_QUIET, Feature.DELETE_ETAG, Feature.DELETE_IF_MATCH)

ACTS: Final[Mapping[str, Act]] = {
    "delete": Act((Feature.DELETE,), _DELETE),
    "delete_permanently": Act((Feature.DELETE,), _DELETE),
    "temporary_hold": Act(
        (Feature.LEGAL_HOLD,),
        weaker="A legal hold protects a version, not its name: newer versions and delete markers"
        " can still be laid over it.",
    ),
    "retention": Act((Feature.RETENTION,), (Feature.RETENTION_GUARD,)),
    "content_type": _COPY,
    "content_encoding": _COPY,
    "content_language": _COPY,
    "content_disposition": _COPY,
    "cache_control": _COPY,
    "custom_metadata": _COPY,
    "custom_time_us": _COPY,
    "contexts": Act((Feature.TAGGING,), (Feature.UNTAGGING,)),
    "acl": Act((Feature.ACL,)),
    "storage_class": Act((Feature.COPY, Feature.COPY_CLASS), _COPY.helped_by, _COPY.weaker),
    "kms_key": Act((Feature.COPY, Feature.COPY_KMS), _COPY.helped_by, _COPY.weaker),
}
_LOCKS = frozenset(
    {
        *(Feature.LEGAL_HOLD, Feature.RETENTION, Feature.RETENTION_GUARD),
        *(Feature.COPY_LOCKS, Feature.DELETE_LOCKED),
    }
)
_WITHOUT: Final[Mapping[Feature, str]] = {
    Feature.COPY_IF_MATCH: "An object that somebody replaces just before it is copied gets"
    " metadata that was made for the one before: conditions of copies have no effect here.",
    Feature.COPY_TAGS: "A copy loses the object's tags here; they are put back at once, unless the"
    " worker is killed at just that moment.",
    Feature.COPY_LOCKS: "A copy is held and retained here by requests of their own, at once, unless"
    " the worker is killed at just that moment; until then the version before stays held.",
    Feature.DELETE_ETAG: "An object that somebody replaces just before it is deleted is gone with"
    " its new content: conditions of deletes have no effect here.",
    Feature.RETENTION_GUARD: "Whoever may set a retention may shorten it here.",
    Feature.UNTAGGING: "The last of an object's contexts cannot be cleared here.",
}
"""What it means that such a call does not work."""


class Proving:
    """Asks a service, by ``ask``, what it is able to do; what it shows goes into ``verdicts``.

    ``store`` is its store's name in the settings.
    """

    def __init__(self, ask: Ask, verdicts: Verdicts, store: str, probe_bucket: str = "") -> None:
        self._ask = ask
        self._verdicts = verdicts
        self._store = store
        self._probe_bucket = probe_bucket

    async def refusal(self, bucket: str, acts: Mapping[str, str]) -> Error | None:
        """Why one of ``acts`` may not be done; costs nothing where ``prove`` has found that all
        may."""
        if all((bucket, act, value) in self._verdicts.cleared for act, value in acts.items()):
            return None
        findings = await self.prove(bucket, acts, list(self._verdicts.proofs.values()))
        return next((one.refusal for one in findings if one.refusal is not None), None)

    async def prove(
        self, bucket: str, acts: Mapping[str, str], known: Sequence[Proof]
    ) -> list[Finding]:
        """As proof.MustProve has it."""
        facts = await read_facts(self._ask, bucket)
        proofs = {proof.call: proof for proof in known if proof.server == facts.server}
        async with AsyncExitStack() as stack:
            places = _Places(self._ask, stack, {bucket: facts}, self._probe_bucket, self._store)
            findings = [
                await _Inquiry(bucket, facts, places, proofs).find(act, value)
                for act, value in acts.items()
            ]
        self._verdicts.learn(proofs)
        for finding in findings:
            cleared = bucket, finding.act, acts[finding.act]
            if finding.refusal is None:
                self._verdicts.cleared.add(cleared)
            else:
                self._verdicts.cleared.discard(cleared)
        return findings


class _Places:
    """Where trials take place, each opened when it is first needed."""

    def __init__(
        self,
        ask: Ask,
        stack: AsyncExitStack,
        facts: dict[str, Facts],
        probe_bucket: str,
        store: str,
    ) -> None:
        self._ask = ask
        self._stack = stack
        self._facts = facts
        self._store = store
        self._buckets = [name for name in (probe_bucket, *facts) if name]
        self._open: dict[str, Scratch] = {}

    async def for_call(self, call: Feature) -> Scratch:
        """The first bucket that is made for it, else the first at all; raises FailedPrecondition
        where there is none that scratch objects could be removed from."""
        safe: list[str] = []
        for bucket in self._buckets:
            if bucket not in self._facts:
                self._facts[bucket] = await read_facts(self._ask, bucket)
            if not self._facts[bucket].retains:
                safe.append(bucket)
        if not safe:
            raise FailedPrecondition(
                f"Nothing can be tried in the bucket {self._buckets[-1]}, which keeps whatever is"
                f" written there for a while: set stores.{self._store}.probe_bucket to a bucket"
                " with object lock that has no default retention."
            )
        place = next((bucket for bucket in safe if self._suits(call, bucket)), safe[0])
        if place not in self._open:
            scratch = open_scratch(self._ask, place, self._facts[place])
            self._open[place] = await self._stack.enter_async_context(scratch)
        return self._open[place]

    def _suits(self, call: Feature, bucket: str) -> bool:
        facts = self._facts[bucket]
        return (facts.locks or call not in _LOCKS) and (
            facts.versioned or call is not Feature.DELETE_VERSION
        )


class _Inquiry:
    """Finds out about acts in one bucket; adds to ``proofs`` what is tried."""

    def __init__(
        self, bucket: str, facts: Facts, places: _Places, proofs: dict[str, Proof]
    ) -> None:
        self._bucket = bucket
        self._facts = facts
        self._places = places
        self._proofs = proofs

    async def find(self, name: str, value: str) -> Finding:
        """Whether the act may be done."""
        act = ACTS.get(name)
        if act is None:
            return Finding(act=name, refusal=_no_such(name))
        needs = [*act.needs]
        if name == "delete_permanently" and self._facts.versioned:
            needs.append(Feature.DELETE_VERSION)
            if self._facts.locks:
                needs.append(Feature.DELETE_LOCKED)
        if Feature.COPY in needs and self._facts.locks:
            # Copies may forget holds and retentions, which are then placed anew.
            needs += [Feature.LEGAL_HOLD, Feature.RETENTION]
        found: list[Proof] = []
        refusal: Error | None = None
        for call in needs:
            try:
                proof = await self._proof(call, value)
            except (FailedPrecondition, PermissionDenied) as error:
                refusal = refusal or error
                continue
            found.append(proof)
            if proof.effect is not Effect.WORKS:
                refusal = refusal or Unimplemented(f"On this service {proof.call} {proof.why}.")
        locks = _LOCKS.intersection(act.needs)
        if locks and not self._facts.locks and not isinstance(refusal, Unimplemented):
            refusal = FailedPrecondition(
                f"The bucket {self._bucket} has no object lock, without which its objects can't be"
                " held or retained: only a bucket that was made with it has it."
            )
        if refusal is None:
            found += await self._helpful(act.helped_by)
        return Finding(
            act=name,
            needs=[_name(call, value) for call in needs],
            proofs=found,
            refusal=refusal,
            weaker=self._weaker(act),
        )

    async def _helpful(self, calls: Sequence[Feature]) -> list[Proof]:
        """Proofs of what is not needed, as far as it can be tried."""
        found = []
        for call in calls:
            try:
                found.append(await self._proof(call, ""))
            except (FailedPrecondition, PermissionDenied):
                continue
        return found

    async def _proof(self, call: Feature, value: str) -> Proof:
        name = _name(call, value)
        if name not in self._proofs:
            scratch = await self._places.for_call(call)
            effect, why = await TRIALS[call](scratch, value)
            self._proofs[name] = Proof(name, effect, why, self._facts.server)
        return self._proofs[name]

    def _works(self, call: Feature) -> bool:
        return works(call, self._proofs.values())

    def _weaker(self, act: Act) -> str:
        told = [act.weaker] if act.weaker else []
        for call in act.helped_by:
            kept = call is Feature.DELETE_ETAG and self._facts.versioned  # as a noncurrent version
            kept = kept or (call is Feature.COPY_LOCKS and not self._facts.locks)
            # Without them there is nothing to lose, or the objects that have it fail.
            kept = kept or (call is Feature.COPY_TAGS and not self._works(Feature.TAGGING))
            if call in _WITHOUT and not kept and not self._works(call):
                told.append(_WITHOUT[call])
        return " ".join(told)


def _name(call: Feature, value: str) -> str:
    return f"{call} {value}" if call is Feature.COPY_CLASS else str(call)


def _no_such(act: str) -> Error:
    if act == "event_based_hold":
        return FailedPrecondition(
            "Event-based holds are not placed on S3: its legal hold is the temporary hold, and to"
            " use one for both would release both at once."
        )
    return Unimplemented(f"S3 objects have no {act}.")

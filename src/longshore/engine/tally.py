"""What a shard has counted since it began; the one place where an object becomes a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from longshore.engine.intent import Intent
from longshore.errors import Code
from longshore.model import SAMPLES_PER_CODE, Counters, Errors, ErrorSummary
from longshore.store import Failure


class Tally:
    """Counters and error summaries of one shard, in memory until a checkpoint makes them durable.

    ``counters.total`` holds what has been announced, the others what has been done.
    """

    def __init__(self, bucket: str, counters: Counters, errors: Errors) -> None:
        self._bucket = bucket
        self.counters = counters
        self.errors: dict[Code, ErrorSummary] = dict(errors)

    def announced(self, found: int, bytes_found: int) -> None:
        """Count what a checkpoint has just made durable."""
        self.counters = replace(
            self.counters,
            total=self.counters.total + found,
            bytes_found=self.counters.bytes_found + bytes_found,
        )

    def done(self, intent: Intent, failures: Mapping[int, Failure], again: set[int]) -> None:
        """Count each object of an intent: failed, or (unless it is looked at ``again``) succeeded.

        Whatever succeeded adds just what was announced for it.
        """
        left_out = failures.keys() | again
        before = self.counters
        self.counters = replace(
            before,
            succeeded=before.succeeded + len(intent) - len(left_out),
            failed=before.failed + len(failures),
            bytes_transformed=before.bytes_transformed
            + sum(intent.sizes)
            - sum(intent.sizes[i] for i in left_out),
        )
        if intent.contexts:
            self._count_contexts(intent, left_out)
        for index, failure in failures.items():
            self._sample(intent.names[index], failure)

    def _count_contexts(self, intent: Intent, left_out: set[int]) -> None:
        created, deleted, updated = (
            sum(column) - sum(column[i] for i in left_out) for column in intent.contexts
        )
        self.counters = replace(
            self.counters,
            contexts_created=self.counters.contexts_created + created,
            contexts_deleted=self.counters.contexts_deleted + deleted,
            contexts_updated=self.counters.contexts_updated + updated,
        )

    def _sample(self, name: str, failure: Failure) -> None:
        before = self.errors.get(failure.code) or ErrorSummary(code=failure.code, count=0)
        samples = before.samples
        if len(samples) < SAMPLES_PER_CODE:
            samples = (*samples, (f"gs://{self._bucket}/{name}", failure.message))
        self.errors[failure.code] = ErrorSummary(
            code=failure.code, count=before.count + 1, samples=samples
        )

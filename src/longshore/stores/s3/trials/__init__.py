"""What is tried on scratch objects, a function for each feature.

A trial makes a call just as it would be made on a user's object, and then believes nothing but what
it reads back. It gives what came of it, or raises an errors.Error where that says nothing of the
service: no right to do it, a bucket that is not made for it, an overload.
"""

from __future__ import annotations

from collections.abc import Mapping

from longshore.stores.s3.features import Feature
from longshore.stores.s3.trials import attached, copies, deletes
from longshore.stores.s3.trials.seen import Trial

TRIALS: Mapping[Feature, Trial] = {
    Feature.LEGAL_HOLD: attached.legal_hold,
    Feature.RETENTION: attached.retention,
    Feature.RETENTION_GUARD: attached.retention_guard,
    Feature.TAGGING: attached.tagging,
    Feature.UNTAGGING: attached.untagging,
    Feature.ACL: attached.acl,
    Feature.ACL_READ: attached.acl_read,
    Feature.COPY: copies.copy,
    Feature.COPY_IF_MATCH: copies.copy_if_match,
    Feature.COPY_TAGS: copies.copy_tags,
    Feature.COPY_LOCKS: copies.copy_locks,
    Feature.COPY_CLASS: copies.copy_class,
    Feature.COPY_KMS: copies.copy_kms,
    Feature.PART_COPY: copies.part_copy,
    Feature.PART_COPY_NAMES: copies.part_copy_names,
    Feature.DELETE: deletes.delete,
    Feature.DELETE_QUIET: deletes.delete_quiet,
    Feature.DELETE_ETAG: deletes.delete_etag,
    Feature.DELETE_VERSION: deletes.delete_version,
    Feature.DELETE_LOCKED: deletes.delete_locked,
    Feature.DELETE_IF_MATCH: deletes.delete_if_match,
}

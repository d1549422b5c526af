"""What a service may be able to do, and what of it was seen to work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from longshore.proof import Effect, Proof


class Feature(StrEnum):
    """A call, or what a service makes of a header of it; what proofs are named after."""

    LEGAL_HOLD = "PutObjectLegalHold"
    RETENTION = "PutObjectRetention"
    RETENTION_GUARD = "PutObjectRetention without bypass"
    TAGGING = "PutObjectTagging"
    UNTAGGING = "PutObjectTagging without tags"
    ACL = "PutObjectAcl"
    ACL_READ = "GetObjectAcl"
    COPY = "CopyObject onto itself"
    COPY_IF_MATCH = "CopyObject with a condition"
    COPY_TAGS = "CopyObject of tags"
    COPY_LOCKS = "CopyObject with a hold"
    COPY_KMS = "CopyObject with a KMS key"
    COPY_CLASS = "CopyObject to storage class"  # with the name of the class behind it
    PART_COPY = "UploadPartCopy"
    PART_COPY_NAMES = "UploadPartCopy of any name"
    DELETE = "DeleteObjects"
    DELETE_QUIET = "quiet DeleteObjects"
    DELETE_ETAG = "DeleteObjects with conditions"
    DELETE_VERSION = "DeleteObjects of versions"
    DELETE_LOCKED = "DeleteObjects among held versions"
    DELETE_IF_MATCH = "DeleteObject with a condition"


class Verdicts:
    """What one service has shown, for all who use it in this process."""

    def __init__(self) -> None:
        self.proofs: dict[str, Proof] = {}
        self.cleared: set[tuple[str, str, str]] = set()
        """Buckets, and acts with their values that may be done there."""

    def learn(self, proofs: Mapping[str, Proof]) -> None:
        """Go by ``proofs`` from now on, all of one server; what was shown by another is nothing."""
        servers = {proof.server for proof in proofs.values()}
        before = {name: one for name, one in self.proofs.items() if one.server in servers}
        changed = any(
            before[name].effect is not proofs[name].effect for name in before & proofs.keys()
        )
        if changed or (proofs and len(before) < len(self.proofs)):
            self.cleared.clear()
        self.proofs = {**(before if proofs else self.proofs), **proofs}

    def works(self, feature: Feature) -> bool:
        """Whether it was seen to work; where nobody knows, it does not."""
        return works(feature, self.proofs.values())

    def lacks(self, feature: Feature) -> bool:
        """Whether it was seen not to work; where nobody knows, it may."""
        return feature in self.proofs and not self.works(feature)


def works(feature: str, proofs: Iterable[Proof]) -> bool:
    """Whether there is a proof that it works."""
    return any(proof.call == feature and proof.effect is Effect.WORKS for proof in proofs)

"""The documents of what hangs on an object: its tags, its grants, its hold and its retention.

A tag is a context, a grant of one of the two public groups an entry of the column ``acl``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from longshore.errors import Code, Error, InvalidArgument, Unimplemented
from longshore.patch import Retention, load_map
from longshore.stores.s3 import markup
from longshore.stores.s3.headers import LOCK_MODES, rfc3339
from longshore.stores.s3.heads import GROUPS, ROLES
from longshore.stores.s3.markup import NAMESPACE, escape

MAX_TAGS: Final = 10
MAX_TAG_KEY: Final = 128
MAX_TAG_VALUE: Final = 256
_TAG_ALLOWS = re.compile(r"[\w \t\u00a0.:/=+\-@]*")
_RESERVED = "aws:"

_GROUPS = {entity: uri for uri, entity in GROUPS.items()}
_PERMISSIONS = {role: permission for permission, role in ROLES.items()}

_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"


def wrong_tags(tags: Mapping[str, str]) -> str:
    """Why an object cannot have ``tags``, all of them; "" if it can."""
    if len(tags) > MAX_TAGS:
        return (
            f"it would have {len(tags)} contexts; in S3 they are tags, of which it has {MAX_TAGS}"
        )
    for key, value in tags.items():
        if not 1 <= len(key) <= MAX_TAG_KEY or len(value) > MAX_TAG_VALUE:
            return (
                f"the context {key[:50]!r} is too long for a tag, which has {MAX_TAG_KEY}"
                f" characters and {MAX_TAG_VALUE} in its value"
            )
        if not (_TAG_ALLOWS.fullmatch(key) and _TAG_ALLOWS.fullmatch(value)):
            return (
                f"the context {key[:50]!r} has a character that no tag may have: there are letters,"
                " digits, spaces and . : / = + - _ @"
            )
        if key.lower().startswith(_RESERVED):
            return f"the context {key[:50]!r} begins with {_RESERVED!r}, which is AWS's own"
    return ""


def tagging(tags: Mapping[str, str]) -> bytes:
    """The document that sets ``tags``, and no others."""
    pairs = "".join(
        f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>"
        for key, value in tags.items()
    )
    return f'<Tagging xmlns="{NAMESPACE}"><TagSet>{pairs}</TagSet></Tagging>'.encode()


class Grant(NamedTuple):
    """A permission. ``kind`` is "id", of an account, or "uri", of a group."""

    kind: str
    grantee: str
    permission: str


class Acl(NamedTuple):
    """Who owns an object, and who may do what with it."""

    owner: str
    grants: Sequence[Grant]

    @property
    def is_private(self) -> bool:
        """Whether it is what a new object has."""
        return list(self.grants) == [Grant("id", self.owner, "FULL_CONTROL")]


def has_no_acls(error: Error) -> bool:
    """Whether a refusal says that objects have no ACLs of their own, there or at all."""
    return error.code is Code.UNIMPLEMENTED or "AccessControlListNotSupported" in error.message


def read_acl(body: bytes) -> Acl:
    """The ACL that a document has; raises Unimplemented for a grantee that it cannot give again."""
    root = markup.read(body, "AccessControlPolicy")
    grants = []
    for one in root.first("AccessControlList").all("Grant"):
        grantee = one.first("Grantee")
        uri, identity = grantee.get("URI"), grantee.get("ID")
        if not uri and not identity:
            raise Unimplemented("The object's ACL has a grantee that is neither account nor group.")
        kind = "uri" if uri else "id"
        grants.append(Grant(kind, uri or identity, one.get("Permission")))
    return Acl(root.first("Owner").get("ID"), grants)


def with_roles(acl: Acl, before: Mapping[str, str], after: Mapping[str, str]) -> Acl:
    """The ACL with the groups' roles turned from ``before`` into ``after``, and all else kept."""
    changed = {entity for entity in _GROUPS if before.get(entity) != after.get(entity)}
    uris = {_GROUPS[entity] for entity in changed}
    grants = [grant for grant in acl.grants if grant.grantee not in uris]
    for entity in sorted(changed & after.keys()):
        grants.append(Grant("uri", _GROUPS[entity], _PERMISSIONS[after[entity]]))
    return Acl(acl.owner, grants)


def access_control_policy(acl: Acl) -> bytes:
    """The document that sets an ACL."""
    parts = [
        f'<Grant><Grantee xmlns:xsi="{_INSTANCE}" xsi:type='
        + (
            f'"Group"><URI>{escape(grant.grantee)}</URI>'
            if grant.kind == "uri"
            else f'"CanonicalUser"><ID>{escape(grant.grantee)}</ID>'
        )
        + f"</Grantee><Permission>{escape(grant.permission)}</Permission></Grant>"
        for grant in acl.grants
    ]
    return (
        f'<AccessControlPolicy xmlns="{NAMESPACE}"><Owner><ID>{escape(acl.owner)}</ID></Owner>'
        f"<AccessControlList>{''.join(parts)}</AccessControlList></AccessControlPolicy>"
    ).encode()


def grant_headers(acl: Acl) -> dict[str, str]:
    """The headers by which a new object gets this ACL; none where it has it anyway."""
    if acl.is_private:
        return {}
    grantees: dict[str, list[str]] = {}
    for grant in acl.grants:
        name = f"x-amz-grant-{grant.permission.lower().replace('_', '-')}"
        grantees.setdefault(name, []).append(f'{grant.kind}="{grant.grantee}"')
    return {name: ", ".join(ones) for name, ones in grantees.items()}


def legal_hold(*, held: bool) -> bytes:
    """The document that places or releases a hold."""
    status = "ON" if held else "OFF"
    return f'<LegalHold xmlns="{NAMESPACE}"><Status>{status}</Status></LegalHold>'.encode()


def retention(text: str) -> bytes:
    """The document that sets a retention as its column has it, or with "" removes it."""
    wanted = Retention.load(text)
    inside = ""
    if wanted is not None:
        inside = (
            f"<Mode>{LOCK_MODES[wanted.mode]}</Mode>"
            f"<RetainUntilDate>{rfc3339(wanted.until_us)}</RetainUntilDate>"
        )
    return f'<Retention xmlns="{NAMESPACE}">{inside}</Retention>'.encode()


def context_tags(text: str, path: str) -> dict[str, str]:
    """The tags for the column ``contexts`` of an object; raises InvalidArgument if it cannot have
    them all."""
    tags = load_map(text)
    if reason := wrong_tags(tags):
        raise InvalidArgument(f"The contexts of object '{path}' cannot be set: {reason}.")
    return tags

"""What HEAD, ?tagging and ?acl say of an object, as columns."""

from __future__ import annotations

import base64
import quopri
import re
from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from longshore import object_rules as rules
from longshore.errors import Error, NotFound
from longshore.patch import Retention, dump_map, parse_time
from longshore.stores.s3 import markup, targets
from longshore.stores.s3.client import Call, Client
from longshore.stores.s3.versions import Rows, Version, checksum, fingerprint, is_same
from longshore.transport.http import Reply

CUSTOM_TIME = "goog-custom-time"
"""The custom metadata that keeps the custom time; it is no part of ``custom_metadata``."""
META = "x-amz-meta-"
TEXTS: Mapping[str, str] = {
    "content_type": "content-type",
    "content_encoding": "content-encoding",
    "content_language": "content-language",
    "content_disposition": "content-disposition",
    "cache_control": "cache-control",
}
"""Headers that are columns as they are."""
NO_TYPE = "binary/octet-stream"
"""What S3 calls the content of an object whose writer said nothing of it."""
MODES: Mapping[str, str] = {"GOVERNANCE": "Unlocked", "COMPLIANCE": "Locked"}
GROUPS: Mapping[str, str] = {
    "http://acs.amazonaws.com/groups/global/AllUsers": "allUsers",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers": "allAuthenticatedUsers",
}
ROLES: Mapping[str, str] = {"READ": "READER", "FULL_CONTROL": "OWNER"}
_ENCODED_WORD = re.compile(r"=\?([^?]+)\?([BbQq])\?([^?]*)\?=(?:\s+(?==\?))?")
_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [0-2]\d:[0-5]\d:[0-5]\d GMT", re.ASCII)
_SEALED = (
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
)
LISTED = frozenset({"storage_class", "live", "create_time_us", "update_time_us"})
"""What a listing tells of an object. Its ``checksum`` a listing tells only so far that it may be
compared with that of a HEAD, not with that of another listing."""
_NOWHERE = frozenset({"event_based_hold"})
_ASKED = {"contexts": "tagging", "acl": "acl"}


class Head:
    """An object as HEAD describes it."""

    def __init__(self, reply: Reply) -> None:
        self.headers = dict(reply.headers)
        if len(self.headers) < len(reply.headers):  # the first of several counts
            self.headers = dict(reversed([*reply.headers]))
        get = self.headers.get
        self.size = int(get("content-length") or 0)
        self.version = Version(
            get("x-amz-version-id", ""),
            get("etag", "").strip('"'),
            _seconds(get("last-modified", "")),
        )
        self.generation = fingerprint(*self.version, self.size)
        self._read: dict[str, Any] | None = None

    def columns(self, key_names: Mapping[str, str]) -> dict[str, Any]:
        """The columns that HEAD tells, by the names that jobs have for keys of encryption."""
        if self._read is None:  # who copies an object asks three times
            self._read = self._columns()
        key = self._read["kms_key"]
        return {**self._read, "kms_key": key_names.get(key, key)}

    def _columns(self) -> dict[str, Any]:
        get = self.headers.get
        columns: dict[str, Any] = {
            column: text(get(header, "")) for column, header in TEXTS.items()
        }
        if columns["content_type"] == NO_TYPE:
            columns["content_type"] = ""
        custom = custom_metadata(self.headers)
        columns["custom_time_us"] = time_us(custom.pop(CUSTOM_TIME, ""))
        columns["custom_metadata"] = dump_map(custom)
        columns["temporary_hold"] = get("x-amz-object-lock-legal-hold") == "ON"
        columns["retention"] = retention(
            get("x-amz-object-lock-mode", ""), get("x-amz-object-lock-retain-until-date", "")
        )
        columns["storage_class"] = get("x-amz-storage-class", "STANDARD")
        columns["kms_key"] = get("x-amz-server-side-encryption-aws-kms-key-id", "")
        columns["checksum"] = self._checksum()
        columns["create_time_us"] = columns["update_time_us"] = self.version.modified * 1_000_000
        return columns

    def _checksum(self) -> str:
        """A listing tells the same, but not that an ETag is that of encrypted content."""
        sealed = any(name in self.headers for name in _SEALED)
        return checksum(self.size, "" if sealed else self.version.etag)


def needs_head(columns: Iterable[str]) -> bool:
    """Whether a listing does not tell all of ``columns``."""
    return not LISTED.union(_NOWHERE, _ASKED).issuperset(columns)


def is_possible(name: str) -> bool:
    """Whether an object of S3 may be called so."""
    try:
        return 1 <= len(name.encode()) <= rules.NAME_MAX_BYTES and "\0" not in name
    except UnicodeEncodeError:
        return False


def put(client: Client, rows: Rows, index: int, head: Head, *, live: bool) -> None:
    """Set a row to what HEAD says."""
    columns = head.columns(client.service.key_names)
    rows.put(index, head.generation, head.size, head.version.dump(), live=live, **columns)


async def find(client: Client, bucket: str, name: str, version_id: str = "") -> Head | None:
    """The live object, or a version, as HEAD describes it; None if it is not there."""
    if not is_possible(name):
        return None
    query = targets.query({"versionId": version_id}) if version_id else ""
    try:
        return Head(await client.read(Call("HeadObject", "HEAD", bucket, name, query)))
    except NotFound:
        return None


async def fill(client: Client, bucket: str, rows: Rows, headed: Container[int] = ()) -> None:
    """Ask for the columns that no listing tells, of each row that is there; those that have gone by
    now become absent. Of ``headed`` it is known what HEAD tells."""
    head = needs_head(rows.columns)
    queries = {name: _ASKED[name] for name in rows.columns if name in _ASKED}
    if not head and not queries:
        return

    async def ask(index: int) -> None:
        name, version = rows.names[index], Version.load(rows.versions[index])
        if head and index not in headed:
            found = await find(client, bucket, name, version.version_id)
            if found is None:
                rows.remove(index)
                return
            live = rows.columns["live"][index] if "live" in rows.columns else True
            listed = rows.generations[index]
            put(client, rows, index, found, live=live)
            if is_same(listed, version.version_id, found.generation):
                rows.generations[index] = listed
        for column, what in queries.items():
            text = await _ask(client, bucket, name, what, version)
            if text is None:
                rows.remove(index)
                return
            rows.columns[column][index] = text

    present = [i for i, one in enumerate(rows.generations) if one and not rows.is_marker(i)]
    await client.in_lanes(present, ask)


async def _ask(client: Client, bucket: str, name: str, what: str, version: Version) -> str | None:
    """The column that ``what`` tells; None if the version is not there."""
    verb = {"tagging": "GetObjectTagging", "acl": "GetObjectAcl"}[what]
    query = targets.query({what: "", **version.query})
    try:
        reply = await client.read(Call(verb, "GET", bucket, name, query))
    except NotFound as error:
        # Of an object without tags, some say that its tags are not there.
        if what == "tagging" and await find(client, bucket, name, version.version_id):
            return ""
        del error
        return None
    return tags(reply.body) if what == "tagging" else acl(reply.body)


def custom_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """The custom metadata in the headers of a reply, the custom time among it."""
    start = len(META)
    return {name[start:]: text(value) for name, value in headers.items() if name.startswith(META)}


def text(value: str) -> str:
    """The text of a header's value, which is UTF-8 for most servers and for AWS, beyond ASCII, an
    encoded word of MIME."""
    if value.isascii():
        return _ENCODED_WORD.sub(_word, value) if "=?" in value else value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _word(match: re.Match[str]) -> str:
    charset, encoding, data = match.groups()
    try:
        if encoding in "Bb":
            return base64.b64decode(data).decode(charset)
        return quopri.decodestring(data.replace("_", " ").encode()).decode(charset)
    except (LookupError, ValueError):
        return match[0]


def retention(mode: str, until: str) -> str:
    """The ``retention`` column for what S3 says of a version."""
    if mode not in MODES or not until:
        return ""
    return Retention(mode=MODES[mode], until_us=parse_time(until)).dump()


def tags(body: bytes) -> str:
    """The ``contexts`` column for a reply to ?tagging."""
    found = markup.read(body, "Tagging").first("TagSet")
    return dump_map({tag.first("Key").text: tag.first("Value").text for tag in found.all("Tag")})


def acl(body: bytes) -> str:
    """The ``acl`` column for a reply to ?acl: what the two public groups may do."""
    grants: dict[str, str] = {}
    for grant in markup.read(body, "AccessControlPolicy").first("AccessControlList").all("Grant"):
        group = GROUPS.get(grant.first("Grantee").get("URI"))
        role = ROLES.get(grant.get("Permission"))
        if group and role and grants.get(group) != "OWNER":
            grants[group] = role
    return dump_map(grants)


def time_us(value: str) -> int:
    """The custom time that a header says; 0 where there is none, or what is there is no time."""
    try:
        return parse_time(value) if value else 0
    except Error:
        return 0


def _seconds(value: str) -> int:
    """The seconds since 1970 of a date; 0 for none."""
    if not value:
        return 0
    if _DATE.fullmatch(value):
        hours, minutes, seconds = map(int, value[17:25].split(":"))
        return _midnight(value[:16]) + hours * 3600 + minutes * 60 + seconds
    moment: datetime = parsedate_to_datetime(value)
    return int(moment.timestamp())


@lru_cache(maxsize=1024)
def _midnight(day: str) -> int:
    """Many objects were written on the same day, and a date costs ten microseconds."""
    return int(parsedate_to_datetime(f"{day} 00:00:00 GMT").timestamp())

"""Lists of servers that run: names of every kind, found as boto3 finds them, and without lxml."""

import pytest

from longshore.stores.s3 import delete_objects, markup
from longshore.stores.s3.pages import read_page, read_versions_page
from tests.s3.asking import Asking, client_of
from tests.services.ceph import Ceph
from tests.services.s3_servers import S3Server

NAMES = ["+", "%41 %2F", "a b/ü", "q=1&x<y>z", "~ö", "z;:@,$!'()*"]


async def check(
    there: S3Server, monkeypatch: pytest.MonkeyPatch, *, versions: bool, more: tuple[str, ...] = ()
) -> None:
    client, asking = client_of(there), Asking(there)
    names = sorted([*NAMES, *more], key=str.encode)
    monkeypatch.setattr(markup, "read_any", lambda body: pytest.fail(f"lxml for {body!r}"))
    client.create_bucket(Bucket="pages")
    if versions:
        status = {"Status": "Enabled"}
        client.put_bucket_versioning(Bucket="pages", VersioningConfiguration=status)
    for size, name in enumerate(names):
        client.put_object(Bucket="pages", Key=name, Body=b"x" * size)
    found = {one["Key"]: one for one in client.list_objects_v2(Bucket="pages")["Contents"]}
    assert sorted(found) == sorted(names)

    asked = {"list-type": "2", "encoding-type": "url"}
    page = read_page((await asking("GET", "pages", query=asked)).body)
    assert page.objects.names == names
    assert page.objects.sizes == list(range(len(names)))
    assert page.objects.etags == [found[name]["ETag"].strip('"') for name in names]
    times = [int(found[name]["LastModified"].timestamp()) for name in names]
    assert page.objects.modified == times
    assert page.next_token == ""

    if versions:
        client.delete_object(Bucket="pages", Key="+")
        first = {"versions": "", "encoding-type": "url", "max-keys": "3"}
        listed, marked, after = [], [], {}
        for _ in range(4):
            part = read_versions_page((await asking("GET", "pages", query=first | after)).body)
            listed += zip(part.versions.names, part.versions.version_ids, strict=True)
            marked += zip(part.markers.names, part.markers.latest, strict=True)
            after = {"key-marker": part.next_key, "version-id-marker": part.next_version_id}
            if not part.next_key:
                break
        assert [name for name, _ in listed] == names
        assert len({version_id for _, version_id in listed}) == len(names)
        assert marked == [("+", True)]
        told = await asking(
            "POST",
            "pages",
            query={"delete": ""},
            headers={"content-type": "application/xml"},
            body=delete_objects.body(*map(list, zip(*listed[1:3], strict=True))),
        )
        result = delete_objects.read_result(told.body)
        assert sorted(zip(result.names, result.version_ids, strict=True)) == sorted(listed[1:3])
    await asking.close()


async def test_moto(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(moto, monkeypatch, versions=True)


async def test_rclone(rclone: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(rclone, monkeypatch, versions=False)


@pytest.mark.services
async def test_s3rver(s3rver: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(s3rver, monkeypatch, versions=False)


@pytest.mark.services
async def test_ceph(ceph: Ceph, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(S3Server(*ceph.new_account()), monkeypatch, versions=True, more=("\x01\n",))
